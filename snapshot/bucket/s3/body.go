package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/durun/durun/snapshot/bucket"
)

// hashBody returns the SHA-256 of the first size bytes of a body, as a signature has it.
func hashBody(ctx context.Context, body io.ReaderAt, size int64) (string, error) {
	if b, ok := body.(bucket.Bytes); ok && int64(len(b)) == size {
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:]), nil
	}
	h := sha256.New()
	buf := make([]byte, min(size, 1<<20))
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		p := buf[:min(int64(len(buf)), size-at)]
		n, err := body.ReadAt(p, at)
		h.Write(p[:n])
		at += int64(n)
		if n == len(p) {
			continue
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("it ends after %d bytes of %d: %w", at, size, io.ErrUnexpectedEOF)
		}
		return "", fmt.Errorf("read the body: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// upload reads a body for one request. An HTTP transport may go on reading after it has returned an answer;
// close keeps it from the caller's body from then on.
type upload struct {
	mu     sync.Mutex
	r      io.Reader
	err    error // of the body
	closed bool
}

func newUpload(body io.ReaderAt, size int64) *upload {
	return &upload{r: io.NewSectionReader(body, 0, size)}
}

func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return 0, errors.New("the request is over")
	}
	n, err := u.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = err
	}
	return n, err
}

// close ends the body's use and returns the error that reading it gave, if any.
func (u *upload) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	return u.err
}

// maxResumes is how many times in a row a download may break off without a byte before it is given up.
const maxResumes = 5

// download is the body of a Get: it reads on where a connection broke off.
type download struct {
	b      *Bucket
	ctx    context.Context //nolint:containedctx // a body is read under its Get's context
	key    string
	etag   string // of the object, so that its rest is of the same
	at     int64  // the next byte's offset
	end    int64  // offset after the last
	body   io.ReadCloser
	broken int // times in a row
	err    error
}

func (d *download) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:min(int64(len(p)), d.end-d.at)]
	for d.at < d.end {
		n, err := d.body.Read(p)
		d.at += int64(n)
		if n > 0 {
			d.broken = 0
			return n, nil // an error comes again with the next read
		}
		if err == nil {
			continue
		}
		if err := d.resume(err); err != nil {
			d.err = err
			return 0, err
		}
	}
	return 0, io.EOF
}

// resume opens the rest of the object.
func (d *download) resume(cause error) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if d.broken++; d.broken > maxResumes || d.etag == "" {
		return &bucket.Error{Op: "get", Key: d.key, Kind: bucket.ErrUnavailable, Err: fmt.Errorf("its body broke off at byte %d: %w", d.at, cause)}
	}
	if err := sleep(d.ctx, backoff(d.broken)); err != nil {
		return err
	}
	_ = d.body.Close()
	d.body = io.NopCloser(eof{})
	o, err := d.b.get(d.ctx, d.key, d.at, d.end-d.at, d.etag)
	if err != nil {
		return err
	}
	d.body = o.body
	return nil
}

func (d *download) Close() error {
	d.err = errors.New("read from a closed object")
	return d.body.Close()
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
