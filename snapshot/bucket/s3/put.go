package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/minio/minio-go/v7"

	"github.com/durun/durun/snapshot/bucket"
)

// Put implements [bucket.Bucket]: in one request, after the first.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := b.check(ctx, "put", key); err != nil {
		return err
	}
	if size > maxSize {
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrTooLarge, Err: fmt.Errorf("%d bytes; a single write takes up to %d", size, int64(maxSize))}
	}
	if err := b.probe(ctx); err != nil {
		return err
	}
	return b.put(ctx, key, body, size)
}

// probe makes sure that the service holds the condition of a Put, once for each bucket that is opened. The object that
// it puts stays, so that this takes one request from the second time on.
func (b *Bucket) probe(ctx context.Context) error {
	if b.probed.Load() {
		return nil
	}
	select { // one at a time, and the others can give up waiting for it
	case b.probing <- struct{}{}:
		defer func() { <-b.probing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if b.probed.Load() {
		return nil
	}
	body := bucket.Bytes("That this object can't be put again is what durun's commits rest on.\n")
	for range 2 {
		err := b.put(ctx, probeKey, body, int64(len(body)))
		if errors.Is(err, bucket.ErrExist) {
			b.probed.Store(true)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return &bucket.Error{
		Op: "put", Key: probeKey, Kind: bucket.ErrUnavailable,
		Err: fmt.Errorf("%s overwrites an object in spite of If-None-Match: *, so that no commit would be safe there: use a service with conditional writes: %w",
			b.endpoint.Host, errors.ErrUnsupported),
	}
}

func (b *Bucket) put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	hash, err := hashBody(ctx, body, size)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &bucket.Error{Op: "put", Key: key, Err: err}
	}
	mark := strconv.FormatUint(rand.Uint64(), 36) + strconv.FormatUint(rand.Uint64(), 36)
	o := minio.PutObjectOptions{UserMetadata: map[string]string{markName: mark}, DisableContentSha256: true}
	o.SetMatchETagExcept("*")
	tried := false
	return b.retry(ctx, func(ctx context.Context, x *exchange) *failure {
		u := newUpload(body, size)
		_, err := b.client.PutObject(ctx, b.config.Bucket, b.name(key), u, size, "", hash, o)
		if err := u.close(); err != nil {
			return &failure{err: &bucket.Error{Op: "put", Key: key, Err: fmt.Errorf("read the body: %w", err)}}
		}
		f := b.fail("put", key, err, x)
		if f == nil {
			return nil
		}
		if f.exists && tried {
			return b.isOurs(ctx, key, mark, f)
		}
		if f.absent { // of a Put, so it is the bucket, or a proxy that knows no such path
			f.err = &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrUnavailable, Err: err}
		}
		tried = tried || x.sent
		return f
	})
}

// isOurs is for a Put that finds an object there, and has asked for it to be put before without hearing of the outcome:
// it returns nil if that object is this Put's, else f.
func (b *Bucket) isOurs(ctx context.Context, key, mark string, f *failure) *failure {
	ctx, x := watched(ctx)
	info, err := b.client.StatObject(ctx, b.config.Bucket, b.name(key), minio.StatObjectOptions{})
	if failed := b.fail("put", key, err, x); failed != nil {
		// If it is gone meanwhile, whose it was can't be known: the next try may put it.
		failed.retry = failed.retry || failed.absent
		return failed
	}
	if info.UserMetadata[markName] == mark {
		return nil
	}
	return f
}

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
