package snapshot

import (
	"io"
)

// Encode encodes a snapshot in the newest version of the format. It is deterministic: equal snapshots give equal bytes
// (with one version of durun; another one's compressor may choose other bytes of the same meaning). The result does not
// alias the snapshot, and ends in its [Digest].
//
// Cost: about that of compressing the pages and the output, and one SHA-256. It holds the encoded bytes and a window of
// 1 MiB beside the snapshot. Any number of goroutines may encode at once.
//
// Errors: a [*FormatError] with [ErrInvalid] for a snapshot that [Snapshot.Validate] refuses, or that is too large.
func Encode(s *Snapshot) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	state := getBuffer()
	defer putBuffer(state)
	if err := encMode.MarshalToBuffer(s.wireState(), state); err != nil {
		return nil, &FormatError{Section: "state", Offset: -1, Msg: err.Error(), Err: ErrInvalid}
	}
	if state.Len() > MaxState {
		return nil, &FormatError{Section: "state", Offset: -1, Msg: "too large", Err: ErrInvalid}
	}

	var parts []part
	if len(s.Output) > 0 {
		parts = append(parts, part{sectionOutput, outputSize(s.Output), func(w io.Writer) error { return writeOutput(w, s.Output) }})
	}
	parts = append(parts, bytesPart(sectionState, state.Bytes()))
	if n := uint64(len(s.Memory.Pages)); n > 0 {
		parts = append(parts, part{sectionMemory, n * PageSize, func(w io.Writer) error {
			for i := range s.Memory.Pages {
				if _, err := w.Write(s.Memory.Pages[i].Data); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	return encodeContainer(Full, func(sections []section) any { return s.wireManifest(sections) }, parts)
}

// part is the content of a section to be.
type part struct {
	id    uint8
	raw   uint64
	write func(io.Writer) error // may be called twice
}

func bytesPart(id uint8, content []byte) part {
	return part{id, uint64(len(content)), func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}}
}

// encodeContainer builds a container. The sections are compressed into place, behind room for what precedes them: the
// manifest, which comes last because it has their lengths and checksums, is then written just before them.
func encodeContainer(kind Kind, manifest func([]section) any, parts []part) ([]byte, error) {
	// The largest table of sections that these parts can have tells how much room the manifest may need.
	sections := make([]section, len(parts))
	guess := 0
	for i, p := range parts {
		sections[i] = section{ID: p.id, Codec: codecZstd, Stored: p.raw, Raw: p.raw, CRC: 1<<32 - 1}
		guess += int(min(p.raw/3+256, 64<<20))
	}
	buf := getBuffer()
	defer putBuffer(buf)
	if err := marshal(kind, manifest(sections), buf); err != nil {
		return nil, err
	}
	room := headerSize + buf.Len()
	data := make([]byte, room, room+guess+digestSize)
	var err error
	for i, p := range parts {
		if data, sections[i], err = appendSection(data, p.id, p.raw, p.write); err != nil {
			return nil, err
		}
	}
	buf.Reset()
	if err := marshal(kind, manifest(sections), buf); err != nil {
		return nil, err
	}
	data = append(data, make([]byte, digestSize)...)
	data = data[room-headerSize-buf.Len():]
	copy(data[headerSize:], buf.Bytes())
	putHeader(data, kind, buf.Len(), int64(len(data)))
	seal(data)
	return data, nil
}
