package snapshot

import (
	"bytes"
	"context"
)

// Decode decodes and verifies an encoded snapshot of any known version. It takes bytes from anybody: what it returns
// keeps the rules of [Snapshot.Validate], and it allocates in proportion to what the bytes really hold, whatever lengths
// they claim. (Compressed bytes may hold much: up to [MaxMemory] of pages.) The snapshot does not alias data. Empty
// slices come back as nil; times are in UTC.
//
// Errors: a [*FormatError] with [ErrCorrupt] or [ErrVersion]; a [*KeyError] for an encrypted one.
func Decode(data []byte) (*Snapshot, error) { return (*Keyring)(nil).Decode(data) }

// Decode decodes and verifies an encoded snapshot as the package's function does, and decrypts it.
//
// Errors: also a [*KeyError].
func (r *Keyring) Decode(data []byte) (*Snapshot, error) {
	st, err := readBytes(data, r)
	if err != nil {
		return nil, err
	}
	s, err := st.full()
	if err != nil {
		return nil, err
	}
	s.Memory.Pages, err = st.pages.all(context.Background())
	return s, err
}

// ownContent returns a section's whole content, which does not alias stored.
func ownContent(s section, stored []byte) ([]byte, error) {
	content, err := sectionContent(s, stored)
	if s.Codec == codecRaw && s.key == nil {
		content = bytes.Clone(content)
	}
	return content, err
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
