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

func decode(data []byte) (*Snapshot, *wireManifest, error) {
	h, err := verify(data)
	if err != nil {
		return nil, nil, err
	}
	w, s, err := parseManifest(h, data)
	if err != nil {
		return nil, nil, err
	}
	rest := data[headerSize+h.manifest : len(data)-digestSize]
	state := &wireState{}
	var pages [][]byte
	for _, sec := range w.Sections {
		stored := rest[:sec.Stored]
		rest = rest[sec.Stored:]
		switch sec.ID {
		case sectionOutput:
			if s.Output, err = decodeOutput(sec, stored, w.Output); err != nil {
				return nil, nil, err
			}
		case sectionState:
			content, err := sectionContent(sec, stored)
			if err != nil {
				return nil, nil, err
			}
			if err := unmarshal("state", 0, content, state); err != nil {
				return nil, nil, err
			}
			if err := state.fill(s); err != nil {
				return nil, nil, err
			}
		case sectionMemory:
			err := readSection(sec, stored, func(chunk []byte) error {
				pages = append(pages, chunk)
				return nil
			})
			if err != nil {
				return nil, nil, err
			}
		}
	}
	if w.section(sectionState).Raw == 0 {
		return nil, nil, corrupt("manifest", headerSize, "no state section")
	}
	if len(s.Frames) != int(w.Frames) {
		return nil, nil, corrupt("frames", -1, "%d frames, but the manifest says %d", len(s.Frames), w.Frames)
	}
	if err := s.setPages(state.Runs, int(w.Pages), pages); err != nil {
		return nil, nil, err
	}
	if err := s.validateState(ErrCorrupt); err != nil {
		return nil, nil, err
	}
	return s, w, nil
}

// setPages gives the pages their numbers. Each of the chunks but the last is a whole number of pages.
func (s *Snapshot) setPages(runs []byte, count int, chunks [][]byte) error {
	u := &unpacker{name: "memory", b: runs}
	total := uint64(0)
	u.runs(func(_, n uint32) { total += uint64(n) })
	if u.err != nil {
		return u.err
	}
	if total != uint64(count) {
		return corrupt("memory", -1, "%d page numbers for %d pages", total, count)
	}
	if count == 0 {
		return nil
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
	s.Memory.Pages = list
	return u.err
}

func decodeOutput(sec section, stored []byte, size uint64) ([]Output, error) {
	content, err := sectionContent(sec, stored)
	if err != nil {
		return nil, err
	}
	if sec.Codec == codecRaw {
		content = bytes.Clone(content)
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
