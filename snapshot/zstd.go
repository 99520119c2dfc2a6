package snapshot

import (
	"bytes"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	zstdWindow    = 1 << 20 // what Encode uses
	maxZstdWindow = 8 << 20 // what Decode takes
	minZstd       = 1024    // shorter contents are stored as they are
	chunkSize     = 1 << 20 // memory is allocated in such chunks as decompressed bytes arrive
)

// encoders and decoders work in the caller's goroutine: their output must not depend on scheduling.
var encoders = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(zstdWindow), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err)
	}
	return e
}}

var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecodeBuffersBelow(0))
	if err != nil {
		panic(err)
	}
	return d
}}

// scratches are buffers for what is in the making.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

func getScratch() *[]byte {
	b := scratches.Get().(*[]byte)
	*b = (*b)[:0]
	return b
}

func putScratch(b *[]byte) {
	if cap(*b) <= 8<<20 {
		scratches.Put(b)
	}
}

// appender is the end of a byte slice as a writer.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// appendSection appends a part to dst as a section with the codec that the format prescribes: compressed where it is
// long enough and becomes shorter; and sealed with a key, unless that is nil.
func appendSection(dst []byte, p part, key *objectKey) ([]byte, section, error) {
	s := section{ID: p.id, Codec: codecRaw, Raw: p.raw}
	start := len(dst)
	write := p.write
	if write == nil {
		write = func(w io.Writer) error {
			_, err := w.Write(p.content)
			return err
		}
	}
	out := &appender{dst}
	if p.raw >= minZstd && !isContainer(p.id) {
		e := encoders.Get().(*zstd.Encoder)
		defer encoders.Put(e)
		if p.write == nil && len(p.content) <= zstdWindow {
			out.b = e.EncodeAll(p.content, out.b)
		} else {
			e.Reset(out)
			err := write(e)
			if e := e.Close(); err == nil {
				err = e
			}
			e.Reset(nil) // lets go of the output
			if err != nil {
				return dst, section{}, err
			}
		}
		s.Codec = codecZstd
	}
	if s.Codec == codecRaw || uint64(len(out.b)-start) >= p.raw {
		s.Codec = codecRaw
		out.b = out.b[:start]
		if err := write(out); err != nil {
			return dst, section{}, err
		}
	}
	if key != nil {
		out.b = key.sealSection(out.b, start, s.ID, s.Codec)
	}
	s.Stored = uint64(len(out.b) - start)
	s.CRC = crc32.Checksum(out.b[start:], castagnoli)
	return out.b, s, nil
}

// decompress calls f with the section's content in successive chunks of chunkSize bytes and a shorter last one, each
// newly allocated when its bytes have arrived. packed is what was compressed.
func (s section) decompress(packed []byte, f func(chunk []byte) error) error {
	d := decoders.Get().(*zstd.Decoder)
	defer func() {
		_ = d.Reset(nil) // lets go of the input
		decoders.Put(d)
	}()
	// The decoder sees no more than a reader, so that it can't choose to decode all at once.
	if err := d.Reset(struct{ io.Reader }{bytes.NewReader(packed)}); err != nil {
		return corrupt(s.name(), 0, "decompress: %v", err)
	}
	var at uint64
	for at < s.Raw {
		// A content shorter than it claims to be costs one chunk at most.
		chunk := make([]byte, min(chunkSize, s.Raw-at))
		n, err := io.ReadFull(d, chunk)
		at += uint64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return corrupt(s.name(), int(at), "it ends after %d of %d bytes", at, s.Raw)
		}
		if err != nil {
			return corrupt(s.name(), int(at), "decompress: %v", err)
		}
		if err := f(chunk); err != nil {
			return err
		}
	}
	var one [1]byte
	if n, err := io.ReadFull(d, one[:]); n > 0 {
		return corrupt(s.name(), int(at), "it goes on after its %d bytes", s.Raw)
	} else if err != io.EOF {
		return corrupt(s.name(), int(at), "decompress: %v", err)
	}
	return nil
}

// sectionContent returns a section's whole content. It aliases stored where the section is neither compressed nor sealed.
func sectionContent(s section, stored []byte) ([]byte, error) {
	packed, err := s.opened(stored)
	if err != nil || s.Codec == codecRaw {
		return packed, err
	}
	var content []byte
	err = s.decompress(packed, func(chunk []byte) error {
		if content == nil {
			content = chunk
		} else {
			content = append(content, chunk...)
		}
		return nil
	})
	return content, err
}
