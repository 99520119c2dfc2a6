package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mem is a bucket in memory, for tests and for coroutines that need not outlive the process. It implements [Locker]
// and [Clock].
type Mem struct {
	mu      sync.RWMutex
	objects map[string]memObject
	keys    []string // sorted
	locks   map[string]bool
}

type memObject struct {
	data []byte // never changed once stored
	time time.Time
}

// NewMem returns an empty bucket in memory.
func NewMem() *Mem {
	return &Mem{objects: map[string]memObject{}, locks: map[string]bool{}}
}

// OpenMem is the [Opener] of mem://: a new, empty bucket each time.
func OpenMem(_ context.Context, u *url.URL) (Bucket, error) {
	if u.Host != "" || u.Path != "" {
		return nil, &Error{Op: "open", Key: u.String(), Kind: ErrURL, Err: errors.New("a bucket in memory has no name: use mem://")}
	}
	return NewMem(), nil
}

// URL implements [Bucket].
func (m *Mem) URL() string { return "mem://" }

// Close implements [Bucket]; the objects stay.
func (m *Mem) Close() error { return nil }

// Now implements [Clock] with the machine's clock.
func (m *Mem) Now(ctx context.Context) (time.Time, error) { return time.Now(), ctx.Err() }

// Put implements [Bucket].
func (m *Mem) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := check(ctx, "put", key); err != nil {
		return err
	}
	m.mu.RLock()
	_, ok := m.objects[key]
	m.mu.RUnlock()
	if ok {
		return &Error{Op: "put", Key: key, Kind: ErrExist}
	}
	var data []byte
	if b, ok := body.(Bytes); ok && int64(len(b)) == size {
		data = bytes.Clone(b)
	} else {
		data = make([]byte, size)
		if n, err := body.ReadAt(data, 0); int64(n) < size {
			return &Error{Op: "put", Key: key, Err: fmt.Errorf("read the body: %w", err)}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, ok := m.objects[key]; ok {
		return &Error{Op: "put", Key: key, Kind: ErrExist}
	}
	i, _ := slices.BinarySearch(m.keys, key)
	m.keys = slices.Insert(m.keys, i, key)
	m.objects[key] = memObject{data, time.Now()}
	return nil
}

// Get implements [Bucket].
func (m *Mem) Get(ctx context.Context, key string, offset, length int64) (*Object, error) {
	if err := check(ctx, "get", key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, &Error{Op: "get", Key: key, Err: fmt.Errorf("negative offset %d", offset)}
	}
	m.mu.RLock()
	o, ok := m.objects[key]
	m.mu.RUnlock()
	if !ok {
		return nil, &Error{Op: "get", Key: key, Kind: ErrNotExist}
	}
	size := int64(len(o.data))
	data := o.data[min(offset, size):]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return &Object{Body: io.NopCloser(bytes.NewReader(data)), Size: size}, nil
}

// Stat implements [Bucket].
func (m *Mem) Stat(ctx context.Context, key string) (Entry, error) {
	if err := check(ctx, "stat", key); err != nil {
		return Entry{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.objects[key]
	if !ok {
		return Entry{}, &Error{Op: "stat", Key: key, Kind: ErrNotExist}
	}
	return Entry{Key: key, Size: int64(len(o.data)), ModTime: o.time}, nil
}

// List implements [Bucket].
func (m *Mem) List(ctx context.Context, o ListOptions) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		after, from := o.StartAfter, o.Prefix // the next key is > after and >= from
		for {
			if err := ctx.Err(); err != nil {
				yield(Entry{}, err)
				return
			}
			e, ok := m.next(o, after, from)
			if !ok || !yield(e, nil) {
				return
			}
			after = e.Key
			if e.Folder() {
				from = e.Key[:len(e.Key)-1] + "0" // '0' follows '/': the first key after all of the folder
			}
		}
	}
}

func (m *Mem) next(o ListOptions, after, from string) (Entry, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	i, _ := slices.BinarySearch(m.keys, max(after, from))
	for ; i < len(m.keys); i++ {
		key := m.keys[i]
		if !strings.HasPrefix(key, o.Prefix) {
			break
		}
		if o.Folders {
			if j := strings.IndexByte(key[len(o.Prefix):], '/'); j >= 0 {
				if folder := key[:len(o.Prefix)+j+1]; folder > after {
					return Entry{Key: folder}, true
				}
				continue
			}
		}
		if key > after {
			return Entry{Key: key, Size: int64(len(m.objects[key].data)), ModTime: m.objects[key].time}, true
		}
	}
	return Entry{}, false
}

// Delete implements [Bucket].
func (m *Mem) Delete(ctx context.Context, key string) error {
	if err := check(ctx, "delete", key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := slices.BinarySearch(m.keys, key); ok {
		m.keys = slices.Delete(m.keys, i, i+1)
		delete(m.objects, key)
	}
	return nil
}

// TryLock implements [Locker].
func (m *Mem) TryLock(ctx context.Context, key string) (func() error, error) {
	if err := check(ctx, "lock", key); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[key] {
		return nil, &Error{Op: "lock", Key: key, Kind: ErrLocked}
	}
	m.locks[key] = true
	return sync.OnceValue(func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locks, key)
		return nil
	}), nil
}

func check(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := ValidKey(key); err != nil {
		var e *Error
		errors.As(err, &e)
		e.Op = op
		return e
	}
	return nil
}
