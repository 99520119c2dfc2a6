package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mrand "math/rand/v2"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

const (
	// A put whose folder goes away meanwhile is done anew: eagerTries times at once, then after pauses of up to maxPause.
	eagerTries = 10
	maxTries   = 200
	maxPause   = 10 * time.Millisecond

	// chunk is how much is written at a time.
	chunk = 256 << 10
)

// Put implements [bucket.Bucket].
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := check(ctx, "put", key); err != nil {
		return err
	}
	final := b.path(key)
	switch info, err := b.fs.Stat(final); {
	case err == nil && info.IsDir():
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrKey, Err: errors.New("there is a folder of that name")}
	case err == nil:
		return b.exists(key)
	}
	b.clean()
	err := b.putAgain(ctx, key, final, body, size)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return b.exists(key)
	}
	b.prune(path.Dir(key)) // which may have been made for this
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrUnavailable, Err: err}
	}
	return wrap("put", key, err)
}

// putAgain puts until no folder goes away meanwhile. Whoever empties a folder may remove it, and a cleaner may take a writer
// that was stopped for long for dead: then link finds nothing, and all is done anew. Nothing is, once the object was there.
// Each such failure is due to a deletion elsewhere, and a put leaves what it has made to its next try: puts don't fail each
// other, and somebody always gets on.
func (b *Bucket) putAgain(ctx context.Context, key, final string, body io.ReaderAt, size int64) error {
	for try := 0; ; try++ {
		err := b.put(ctx, key, final, body, size)
		if !errors.Is(err, fs.ErrNotExist) || try == maxTries {
			return err
		}
		if _, gone := b.fs.Stat(b.root); gone != nil {
			return err // unmounted, or removed
		}
		b.forget()
		if try < eagerTries {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(mrand.N(maxPause)): // out of step with whoever deletes
		}
	}
}

// exists is what Put returns for an object that is there: ErrExist, once the object is durable, or was deleted meanwhile.
func (b *Bucket) exists(key string) error {
	if err := b.sync(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrap("put", key, err)
	}
	return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrExist}
}

func (b *Bucket) put(ctx context.Context, key, final string, body io.ReaderAt, size int64) error {
	way, err := b.mkdirs(path.Dir(key))
	if err != nil {
		return err
	}
	err = errNoUnnamed
	if !b.named.Load() {
		err = b.putUnnamed(ctx, final, body, size)
	}
	if errors.Is(err, errNoUnnamed) {
		b.named.Store(true)
		err = b.putNamed(ctx, final, body, size)
	}
	if err != nil {
		return err
	}
	if err := b.settle(way); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := b.fs.Stat(b.root); err != nil {
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrUnavailable, Err: err} // unmounted, or removed
	}
	// The folder has gone, so the object has: somebody who waited for it has deleted it. To put it again would be once too often.
	b.forget()
	return nil
}

// putUnnamed writes and publishes an object, of which nothing is left if the process dies between.
func (b *Bucket) putUnnamed(ctx context.Context, final string, body io.ReaderAt, size int64) (err error) {
	f, err := b.fs.CreateUnnamed(filepath.Dir(final))
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if err := write(ctx, f, body, size); err != nil {
		return err
	}
	return f.Link(final)
}

// putNamed does it where a file has to have a name at all times.
func (b *Bucket) putNamed(ctx context.Context, final string, body io.ReaderAt, size int64) error {
	tmp, err := b.temporary(ctx, body, size)
	if err != nil {
		return err
	}
	err = b.fs.Link(tmp, final)
	_ = b.fs.Remove(tmp) // if that fails, a later writer cleans up
	if err != nil && (errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission)) {
		// vfat and exFAT answer EPERM.
		return fmt.Errorf("%w (a store needs a file system with hard links)", err)
	}
	return err
}

// temporary makes a durable temporary file and returns its name.
func (b *Bucket) temporary(ctx context.Context, body io.ReaderAt, size int64) (name string, err error) {
	if _, err := b.mkdirs(tmpDir); err != nil {
		return "", err
	}
	tmp := b.path(tmpDir + "/" + strings.ToLower(rand.Text()))
	f, err := b.fs.Create(tmp)
	if err != nil {
		return "", err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			_ = b.fs.Remove(tmp)
		}
	}()
	if _, err := f.TryLock(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return "", err
	}
	return tmp, write(ctx, f, body, size)
}

// TempDir implements [bucket.Spooler].
func (b *Bucket) TempDir() (string, error) {
	if _, err := b.mkdirs(tmpDir); err != nil {
		return "", wrap("put", tmpDir, err)
	}
	return b.path(tmpDir), nil
}

// write fills a file and makes its content durable.
func write(ctx context.Context, f handle, body io.ReaderAt, size int64) error {
	if data, ok := body.(bucket.Bytes); ok && int64(len(data)) == size {
		for len(data) > 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := f.Write(data[:min(len(data), 16*chunk)])
			if err != nil {
				return err
			}
			data = data[n:]
		}
	} else if err := copyBody(ctx, f, body, size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return ctx.Err()
}

func copyBody(ctx context.Context, f handle, body io.ReaderAt, size int64) error {
	buf := make([]byte, min(chunk, size))
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), size-at)]
		if n, err := body.ReadAt(part, at); n < len(part) {
			return fmt.Errorf("read the body at %d: %w", at+int64(n), err)
		}
		if _, err := f.Write(part); err != nil {
			return err
		}
		at += int64(len(part))
	}
	return nil
}
