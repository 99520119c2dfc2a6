package snapshot

import (
	"bytes"
	"io"
)

// Encode encodes a snapshot in the newest version of the format: as a full one or, if it has a Base, as a delta. It is
// deterministic: equal snapshots, with equal bases, give equal bytes (with one version of durun; another one's compressor
// may choose other bytes of the same meaning). The result does not alias the snapshot, and ends in its [Digest].
//
// Cost: about that of compressing the pages and the output, and one SHA-256. It holds the encoded bytes and a window of
// 1 MiB beside the snapshot. Any number of goroutines may encode at once.
//
// Errors: a [*FormatError] with [ErrInvalid] for a snapshot that [Snapshot.Validate] refuses, or that is too large.
func Encode(s *Snapshot) ([]byte, error) { return s.encode(nil) }

// Encode encodes a snapshot as the package's function does, and encrypts it under the ring's first key, if there is one.
// Then it is not deterministic: each time the bytes are others.
func (r *Keyring) Encode(s *Snapshot) ([]byte, error) { return s.encode(r.newObject()) }

// encode encodes the snapshot, under a key unless that is nil.
func (s *Snapshot) encode(key *objectKey) ([]byte, error) {
	e, err := s.encoding(key)
	if err != nil {
		return nil, err
	}
	defer e.release()
	scratch := getScratch()
	defer putScratch(scratch)
	data, err := encodeContainer(scratch, e.kind, e.maxManifest, e.parts, e.encryption, e.manifest)
	return bytes.Clone(data), err
}

// encoding is a snapshot about to be encoded: the contents of its sections.
type encoding struct {
	kind        Kind
	parts       []part
	maxManifest int // bytes
	manifest    func([]byte, sectionTable) []byte
	scratches   [2]*[]byte // which the parts alias
	encryption  *encryption
}

func (e *encoding) release() {
	for _, b := range e.scratches {
		putScratch(b)
	}
}

const (
	// maxSmall is how many pages a full snapshot may have that stores some as patches.
	maxSmall = 16
	// gather is how many bytes of pages are copied together, for the compressor to have them at once: it has less to do then.
	gather = 64 << 10
)

// encoding makes ready to encode the snapshot, under a key unless that is nil.
func (s *Snapshot) encoding(key *objectKey) (*encoding, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	e := &encoding{kind: KindFull, parts: make([]part, 0, 4), scratches: [2]*[]byte{getScratch(), getScratch()}}
	scratch, packed := e.scratches[0], e.scratches[1]
	pages, patched := s.Memory.Pages, 0
	var patches []byte
	switch {
	case s.Base != nil:
		e.kind = KindDelta
		pages, patched, patches = splitPages(pages, maxPatch, scratch)
	case len(pages) <= maxSmall:
		pages, patched, patches = splitPages(pages, maxZeroPatch, scratch)
	}
	start := len(*scratch)
	*scratch = s.wireState(pages, packed).append(*scratch)
	state := (*scratch)[start:]
	if len(state) > MaxState {
		e.release()
		return nil, &FormatError{Section: "state", Offset: -1, Msg: "too large", Err: ErrInvalid}
	}

	if len(s.Output) > 0 {
		e.parts = append(e.parts, part{id: sectionOutput, raw: outputSize(s.Output), write: func(w io.Writer) error { return writeOutput(w, s.Output) }})
	}
	if len(state) > 1 || s.Base == nil {
		e.parts = append(e.parts, bytesPart(sectionState, state))
	}
	if len(pages) > 0 {
		p := part{id: sectionMemory, raw: uint64(len(pages)) * PageSize}
		if p.raw <= gather {
			start := len(*scratch)
			for i := range pages {
				*scratch = append(*scratch, pages[i].Data...)
			}
			p.content = (*scratch)[start:]
		} else {
			p.write = func(w io.Writer) error {
				for i := range pages {
					if _, err := w.Write(pages[i].Data); err != nil {
						return err
					}
				}
				return nil
			}
		}
		e.parts = append(e.parts, p)
	}
	if len(patches) > 0 {
		e.parts = append(e.parts, bytesPart(sectionPatches, patches))
	}
	m := s.wireManifest(nil)
	e.encryption = m.encrypt(key)
	m.Pages, m.Patches = uint32(len(pages)), uint32(patched)
	e.maxManifest = m.size(len(e.parts))
	e.manifest = func(b []byte, t sectionTable) []byte {
		m.Sections = t
		return m.append(b)
	}
	return e, nil
}

// part is the content of a section to be.
type part struct {
	id      uint8
	raw     uint64
	content []byte
	write   func(io.Writer) error // writes the content, if it isn't nil; may be called twice
}

func bytesPart(id uint8, content []byte) part {
	return part{id: id, raw: uint64(len(content)), content: content}
}

// encodeContainer builds a container in a buffer, which the result aliases. The sections are compressed into place,
// behind room for what precedes them: the manifest, which comes last because it has their lengths and checksums, is then
// written just before them. It has at most maxManifest bytes, beside those of an encryption, which is nil for none.
func encodeContainer(
	to *[]byte, kind Kind, maxManifest int, parts []part, e *encryption, manifest func([]byte, sectionTable) []byte,
) ([]byte, error) {
	maxManifest += e.room()
	room := headerSize + maxManifest
	data := append((*to)[:0], make([]byte, room)...)
	sections := make(sectionTable, len(parts))
	var err error
	for i, p := range parts {
		if data, sections[i], err = appendSection(data, p, e.object()); err != nil {
			return nil, err
		}
	}
	data = append(data, make([]byte, digestSize)...)
	*to = data
	front := manifest(make([]byte, 0, maxManifest), sections)
	data = data[room-headerSize-len(front):]
	copy(data[headerSize:], front)
	putHeader(data, kind, len(front), int64(len(data)), e)
	putDigest(data)
	return data, nil
}
