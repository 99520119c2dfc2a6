package snapshot

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/klauspost/compress/zstd"

	"github.com/durun/durun/snapshot/bucket"
)

// large is how many bytes of pages a snapshot must have for its encoding to be made in a temporary file rather than in
// memory.
const large = 64 << 20

// encoded is an encoded snapshot, to be put: in memory or, if it is large, in a temporary file.
type encoded struct {
	io.ReaderAt
	size  int64
	hash  Hash
	close func()
}

// encode encodes a snapshot to be put into the store's bucket, under a key unless that is nil. The caller closes the
// result.
func (s *Store) encode(ctx context.Context, snap *Snapshot, key *objectKey) (*encoded, error) {
	if int64(len(snap.Memory.Pages))*PageSize <= s.large {
		data, err := snap.encode(key)
		if err != nil {
			return nil, err
		}
		return &encoded{ReaderAt: bucket.Bytes(data), size: int64(len(data)), hash: Digest(data), close: func() {}}, nil
	}
	e, err := snap.encoding(key)
	if err != nil {
		return nil, err
	}
	defer e.release()
	f, err := s.tempFile()
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", spoolFailure(err))
	}
	out, err := e.spool(ctx, f)
	if err != nil {
		f.close()
		return nil, spoolFailure(err)
	}
	return out, nil
}

// spoolFailure makes an error of the temporary file one of the bucket, to which nothing can be put without that: it may
// go well another time, when there is room for example.
func spoolFailure(err error) error {
	if errors.As(err, new(*bucket.Error)) || !errors.As(err, new(*fs.PathError)) {
		return err
	}
	kind := bucket.ErrUnavailable
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		kind = bucket.ErrFull
	case errors.Is(err, fs.ErrPermission):
		kind = bucket.ErrPermission
	}
	return &bucket.Error{Op: "put", Kind: kind, Err: err}
}

// tempFile is a file that is gone once it is closed, or its process dead.
type tempFile struct {
	*os.File
	named bool // it can't be removed while it is open
}

func (s *Store) tempFile() (tempFile, error) {
	dir := ""
	if b, ok := s.b.(bucket.Spooler); ok {
		var err error
		if dir, err = b.TempDir(); err != nil {
			return tempFile{}, err
		}
	}
	f, err := os.CreateTemp(dir, "snapshot-")
	if err != nil {
		return tempFile{}, err
	}
	return tempFile{f, os.Remove(f.Name()) != nil}, nil
}

func (f tempFile) close() {
	_ = f.Close() // nobody needs it any more
	if f.named {
		_ = os.Remove(f.Name())
	}
}

// spool writes the sections into a file and returns the container that is made of it. The file holds the sections alone: what
// precedes them is known only when they are there.
func (e *encoding) spool(ctx context.Context, f tempFile) (*encoded, error) {
	total := int64(0)
	for _, p := range e.parts {
		total += int64(p.raw)
	}
	done, report := int64(0), progress(ctx, "compress", total)
	table := make(sectionTable, len(e.parts))
	end := int64(0)
	for i, p := range e.parts {
		section, err := f.append(end, p, e.encryption.object(), func(n int) error {
			done += int64(n)
			report(min(done, total))
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
		table[i] = section
		end += int64(section.Stored)
	}
	manifest := e.manifest(make([]byte, 0, e.maxManifest+e.encryption.room()), table)
	front := append(make([]byte, headerSize), manifest...)
	size := int64(len(front)) + end + digestSize
	putHeader(front, e.kind, len(manifest), size, e.encryption)
	sum := sha256.New()
	sum.Write(front)
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, end)); err != nil {
		return nil, err
	}
	c := &spooled{front: front, body: f, end: int64(len(front)) + end, report: progress(ctx, "write", size)}
	c.digest = Hash(sum.Sum(nil))
	return &encoded{ReaderAt: c, size: size, hash: c.digest, close: f.close}, nil
}

// append appends a part to the file, which has so many bytes, as a section. It calls tick with the number of bytes of
// content that it has taken. The section is sealed with a key, unless that is nil: nothing else comes into the file.
func (f tempFile) append(at int64, p part, key *objectKey, tick func(n int) error) (section, error) {
	if p.write == nil { // it is in memory anyway
		b, s, err := appendSection(nil, p, key)
		if err == nil {
			_, err = f.WriteAt(b, at)
		}
		if err == nil {
			err = tick(len(p.content))
		}
		return s, err
	}
	s := section{ID: p.id, Codec: codecRaw, Raw: p.raw}
	if p.raw >= minZstd {
		s.Codec = codecZstd
	}
	for {
		out := &storedWriter{w: io.NewOffsetWriter(f, at)}
		buf := bufio.NewWriterSize(out, chunkSize)
		var err error
		to, end := io.Writer(buf), func() error { return nil }
		if key != nil {
			w := key.writer(buf, s.ID, s.Codec)
			to, end = w, w.Close
		}
		if s.Codec == codecZstd {
			e := encoders.Get().(*zstd.Encoder)
			e.Reset(to)
			err = p.write(ticking{e, tick})
			if e := e.Close(); err == nil {
				err = e
			}
			e.Reset(nil) // lets go of the output
			encoders.Put(e)
		} else {
			err = p.write(ticking{to, tick})
		}
		if e := end(); err == nil {
			err = e
		}
		if e := buf.Flush(); err == nil {
			err = e
		}
		if err != nil {
			return section{}, err
		}
		packed := out.n
		if key != nil {
			packed, _ = openedSize(out.n)
		}
		if s.Codec == codecZstd && packed >= p.raw {
			s.Codec = codecRaw // once more, as it is: it doesn't become shorter
			continue
		}
		s.Stored, s.CRC = out.n, out.crc
		return s, nil
	}
}

// ticking is a writer that says what is written to it.
type ticking struct {
	w    io.Writer
	tick func(n int) error
}

func (t ticking) Write(p []byte) (int, error) {
	if err := t.tick(len(p)); err != nil {
		return 0, err
	}
	return t.w.Write(p)
}

// storedWriter counts what is written, and computes its checksum.
type storedWriter struct {
	w   io.Writer
	n   uint64
	crc uint32
}

func (s *storedWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += uint64(n)
	s.crc = crc32.Update(s.crc, castagnoli, p[:n])
	return n, err
}

// spooled is a container whose sections are in a file.
type spooled struct {
	front  []byte
	body   io.ReaderAt
	end    int64 // of front and body
	digest Hash
	most   atomic.Int64 // up to where it has been read
	report func(done int64)
}

// ReadAt implements io.ReaderAt.
func (s *spooled) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		var k int
		switch front := int64(len(s.front)); {
		case at < front:
			k = copy(p[n:], s.front[at:])
		case at < s.end:
			var err error
			k, err = s.body.ReadAt(p[n:n+int(min(int64(len(p)-n), s.end-at))], at-front)
			if err != nil && (k == 0 || !errors.Is(err, io.EOF)) {
				return n + k, err
			}
		case at < s.end+digestSize:
			k = copy(p[n:], s.digest[at-s.end:])
		default:
			return n, io.EOF
		}
		n += k
	}
	if read := off + int64(n); read > s.most.Load() {
		s.most.Store(read)
		s.report(read)
	}
	return n, nil
}
