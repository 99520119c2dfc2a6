package snapshot

import (
	"bytes"
)

// Decode decodes and verifies an encoded snapshot of any known version. It takes bytes from anybody: what it returns
// keeps the rules of [Snapshot.Validate], and it allocates in proportion to what the bytes really hold, whatever lengths
// they claim. (Compressed bytes may hold much: up to [MaxMemory] of pages.) The snapshot does not alias data. Empty
// slices come back as nil; times are in UTC.
//
// Errors: a [*FormatError] with [ErrCorrupt] or [ErrVersion].
func Decode(data []byte) (*Snapshot, error) {
	s, _, err := decode(data)
	return s, err
}

func decode(data []byte) (*Snapshot, *Manifest, error) {
	h, err := verify(data)
	if err != nil {
		return nil, nil, err
	}
	if h.kind == KindDelta {
		return nil, nil, corrupt("header", 10, "a delta, which is nothing without its base")
	}
	w, s, err := parseManifest(h, data)
	if err != nil {
		return nil, nil, err
	}
	state := &wireState{}
	c, err := readSections(h, w, data, state)
	if err != nil {
		return nil, nil, err
	}
	s.Output = c.output
	if err := state.fill(s); err != nil {
		return nil, nil, err
	}
	if len(s.Frames) != int(w.Frames) {
		return nil, nil, corrupt("frames", -1, "%d frames, but the manifest says %d", len(s.Frames), w.Frames)
	}
	if s.Memory.Pages, err = fullPages(state.Runs, w, c); err != nil {
		return nil, nil, err
	}
	if err := s.validateState(ErrCorrupt); err != nil {
		return nil, nil, err
	}
	return s, w.manifest(s), nil
}

// contents is what the sections of a snapshot hold beside the state. It aliases nothing.
type contents struct {
	output  []Output
	pages   [][]byte // the memory section in chunks: whole pages each
	patches []byte
}

// readSections decodes the sections of a container, which the manifest has, and the state into one that has its kind.
func readSections(h header, w *wireManifest, data []byte, state *wireState) (contents, error) {
	var c contents
	rest := data[headerSize+h.manifest : len(data)-digestSize]
	if w.section(sectionState).Raw == 0 && h.kind == KindFull {
		return c, corrupt("manifest", headerSize, "no state section")
	}
	for _, sec := range w.Sections {
		stored := rest[:sec.Stored]
		rest = rest[sec.Stored:]
		var err error
		switch sec.ID {
		case sectionOutput:
			c.output, err = decodeOutput(sec, stored, w.Output)
		case sectionState:
			var content []byte
			if content, err = ownContent(sec, stored); err == nil {
				err = unmarshal("state", 0, content, state)
			}
		case sectionMemory:
			err = readSection(sec, stored, func(chunk []byte) error {
				c.pages = append(c.pages, chunk)
				return nil
			})
		case sectionPatches:
			c.patches, err = ownContent(sec, stored)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// ownContent returns a section's whole content, which does not alias stored.
func ownContent(s section, stored []byte) ([]byte, error) {
	content, err := sectionContent(s, stored)
	if s.Codec == codecRaw {
		content = bytes.Clone(content)
	}
	return content, err
}

// fullPages returns the pages of a full snapshot, those among them that are stored as patches over zeros included.
func fullPages(runs []byte, w *wireManifest, c contents) ([]Page, error) {
	whole, err := numberPages(runs, int(w.Pages), c.pages)
	if err != nil || w.Patches == 0 {
		return whole, err
	}
	u := &unpacker{name: "patches", b: c.patches}
	patches := u.patches(int(w.Patches))
	if u.err != nil {
		return nil, u.err
	}
	pages := make([]Page, 0, len(whole)+len(patches))
	for _, p := range patches {
		if !p.Zero {
			return nil, corrupt("patches", -1, "page %d is patched, and there is no base", p.Number)
		}
		for len(whole) > 0 && whole[0].Number < p.Number {
			pages, whole = append(pages, whole[0]), whole[1:]
		}
		data := make([]byte, PageSize)
		p.Apply((*[PageSize]byte)(data))
		pages = append(pages, Page{Number: p.Number, Data: data})
	}
	return append(pages, whole...), nil // in order, or validateState finds it
}

// numberPages gives the pages in the chunks, each of which but the last is a whole number of pages, their numbers.
func numberPages(runs []byte, count int, chunks [][]byte) ([]Page, error) {
	u := &unpacker{name: "memory", b: runs}
	total := uint64(0)
	u.runs(func(_, n uint32) { total += uint64(n) })
	if u.err != nil {
		return nil, u.err
	}
	if total != uint64(count) {
		return nil, corrupt("memory", -1, "%d page numbers for %d pages", total, count)
	}
	if count == 0 {
		return nil, nil
	}
	list := make([]Page, 0, count) // as many as there are bytes for
	u = &unpacker{name: "memory", b: runs}
	u.runs(func(first, n uint32) {
		for i := range n {
			page := chunks[0][:PageSize:PageSize]
			if chunks[0] = chunks[0][PageSize:]; len(chunks[0]) == 0 {
				chunks = chunks[1:]
			}
			list = append(list, Page{Number: first + i, Data: page})
		}
	})
	return list, u.err
}

func decodeOutput(sec section, stored []byte, size uint64) ([]Output, error) {
	content, err := ownContent(sec, stored)
	if err != nil {
		return nil, err
	}
	u := &unpacker{name: "output", b: content}
	output := u.output()
	if u.err != nil {
		return nil, u.err
	}
	n := uint64(0)
	for _, o := range output {
		n += uint64(len(o.Data))
	}
	if n != size {
		return nil, corrupt("output", -1, "%d bytes, but the manifest says %d", n, size)
	}
	return output, nil
}
