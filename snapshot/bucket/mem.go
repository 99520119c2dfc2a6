package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Mem is a bucket in memory, for tests and for coroutines that need not outlive the process. It implements [Locker],
// [Clock] and [Watcher].
type Mem struct {
	mu      sync.RWMutex
	objects map[string]memObject
	keys    keySet // of objects
	locks   map[string]bool

	watchMu sync.RWMutex // of watches; never taken while mu is held
	watches map[*memWatch]bool
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
	if u.Host != "" || u.Path != "" || u.RawQuery != "" {
		return nil, &Error{Op: "open", Key: u.String(), Kind: ErrURL, Err: errors.New("a bucket in memory has no name and no options: use mem://")}
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
	if err := m.put(ctx, key, data); err != nil {
		return err
	}
	m.noticed(key)
	return nil
}

func (m *Mem) put(ctx context.Context, key string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, ok := m.objects[key]; ok {
		return &Error{Op: "put", Key: key, Kind: ErrExist}
	}
	m.keys.insert(key)
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
		from := o.Prefix
		if o.StartAfter != "" {
			from = max(from, o.StartAfter+"\x00")
		}
		for {
			var entries []Entry
			entries, from = m.page(o, from)
			for _, e := range entries {
				if err := ctx.Err(); err != nil {
					yield(Entry{}, err)
					return
				}
				if !yield(e, nil) {
					return
				}
			}
			if err := ctx.Err(); err != nil {
				yield(Entry{}, err)
				return
			}
			if from == "" {
				return
			}
		}
	}
}

// page returns some entries of a listing, from the key from on, and the key from which it continues, or "" at its end.
func (m *Mem) page(o ListOptions, from string) ([]Entry, string) {
	const most = 256
	size := most
	if o.Limit > 0 {
		size = min(size, o.Limit)
	}
	page := make([]Entry, 0, size)
	m.mu.RLock()
	defer m.mu.RUnlock()
	for {
		skip := "" // to the first key after a folder
		for key := range m.keys.from(from) {
			if !strings.HasPrefix(key, o.Prefix) {
				return page, ""
			}
			if len(page) == size {
				return page, key
			}
			slash := -1
			if o.Folders {
				slash = strings.IndexByte(key[len(o.Prefix):], '/')
			}
			if slash < 0 {
				object := m.objects[key]
				page = append(page, Entry{Key: key, Size: int64(len(object.data)), ModTime: object.time})
				continue
			}
			folder := key[:len(o.Prefix)+slash+1]
			if folder > o.StartAfter {
				page = append(page, Entry{Key: folder})
			}
			skip = folder[:len(folder)-1] + "0" // '0' follows '/'
			break
		}
		if skip == "" {
			return page, ""
		}
		from = skip
	}
}

// Delete implements [Bucket].
func (m *Mem) Delete(ctx context.Context, key string) error {
	if err := check(ctx, "delete", key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys.remove(key)
	delete(m.objects, key)
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
