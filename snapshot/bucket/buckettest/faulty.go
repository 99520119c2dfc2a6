package buckettest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// ErrInjected is what a [Faulty] bucket's operations fail with if its plan gives no other error.
var ErrInjected = errors.New("injected fault")

// Op is an operation about to be done on a [Faulty] bucket.
type Op struct {
	N    int    // counts the bucket's operations, from 0
	Name string // put, get, stat, list, delete, lock, now
	Key  string // or the prefix of a list
}

// String returns the operation as it shows in a test's output.
func (o Op) String() string { return fmt.Sprintf("#%d %s %s", o.N, o.Name, o.Key) }

// Fault says how an operation fails. The zero Fault lets it succeed.
type Fault struct {
	// Before fails the operation without doing it.
	Before error
	// After does the operation and then reports this error: an answer that was lost.
	After error
	// Short cuts what a get reads to this many bytes and then fails its body with Before, which must be set, instead of
	// failing the get.
	Short int
}

// Faulty is a bucket that fails according to a plan. It implements [bucket.Locker], [bucket.Syncer] and [bucket.Clock], as
// far as the bucket below does.
type Faulty struct {
	b    bucket.Bucket
	mu   sync.Mutex
	plan func(Op) Fault
	ops  []Op
}

// NewFaulty returns a bucket that asks plan before each operation on b. A nil plan lets all succeed.
func NewFaulty(b bucket.Bucket, plan func(Op) Fault) *Faulty { return &Faulty{b: b, plan: plan} }

// FailAt is a plan that fails operation n, before it is done, or after.
func FailAt(n int, err error, after bool) func(Op) Fault {
	return func(o Op) Fault {
		switch {
		case o.N != n:
			return Fault{}
		case after:
			return Fault{After: err}
		default:
			return Fault{Before: err}
		}
	}
}

// CrashAt is a plan that fails operation n and all that follow, as if the process or the network had gone. If after is
// set, operation n itself is still done.
func CrashAt(n int, after bool) func(Op) Fault {
	return func(o Op) Fault {
		switch {
		case o.N < n:
			return Fault{}
		case o.N == n && after:
			return Fault{After: ErrInjected}
		default:
			return Fault{Before: ErrInjected}
		}
	}
}

// FullDisk is a plan on which nothing can be put any more: [bucket.ErrFull].
func FullDisk(o Op) Fault {
	if o.Name == "put" {
		return Fault{Before: bucket.ErrFull}
	}
	return Fault{}
}

// Plan sets another plan and starts counting anew.
func (f *Faulty) Plan(plan func(Op) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.ops = plan, nil
}

// Ops returns the operations since the plan was set.
func (f *Faulty) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Op(nil), f.ops...)
}

func (f *Faulty) fault(name, key string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := Op{len(f.ops), name, key}
	f.ops = append(f.ops, o)
	if f.plan == nil {
		return Fault{}
	}
	return f.plan(o)
}

func (f *Faulty) do(name, key string, do func() error) error {
	fault := f.fault(name, key)
	if fault.Before != nil {
		return injected(name, key, fault.Before)
	}
	if err := do(); err != nil {
		return err
	}
	return injected(name, key, fault.After)
}

func injected(op, key string, err error) error {
	if err == nil {
		return nil
	}
	e := &bucket.Error{Op: op, Key: key, Err: err}
	for _, kind := range []error{bucket.ErrFull, bucket.ErrPermission, bucket.ErrUnavailable} {
		if err == kind { //nolint:errorlint // a bare sentinel becomes the kind
			e.Kind, e.Err = kind, ErrInjected
		}
	}
	return e
}

// Put implements [bucket.Bucket].
func (f *Faulty) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	return f.do("put", key, func() error { return f.b.Put(ctx, key, body, size) })
}

// Get implements [bucket.Bucket].
func (f *Faulty) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	fault := f.fault("get", key)
	if fault.Before != nil && fault.Short == 0 {
		return nil, injected("get", key, fault.Before)
	}
	o, err := f.b.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	if fault.After != nil {
		_ = o.Body.Close()
		return nil, injected("get", key, fault.After)
	}
	if fault.Short > 0 {
		o.Body = &short{o.Body, io.LimitReader(o.Body, int64(fault.Short)), injected("get", key, fault.Before)}
	}
	return o, nil
}

type short struct {
	io.Closer
	r   io.Reader
	err error
}

func (s *short) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err == io.EOF {
		err = s.err
	}
	return n, err
}

// Stat implements [bucket.Bucket].
func (f *Faulty) Stat(ctx context.Context, key string) (e bucket.Entry, err error) {
	err = f.do("stat", key, func() error {
		e, err = f.b.Stat(ctx, key)
		return err
	})
	return e, err
}

// List implements [bucket.Bucket]. A fault after it comes after its last entry.
func (f *Faulty) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	return func(yield func(bucket.Entry, error) bool) {
		fault := f.fault("list", o.Prefix)
		if fault.Before != nil {
			yield(bucket.Entry{}, injected("list", o.Prefix, fault.Before))
			return
		}
		for e, err := range f.b.List(ctx, o) {
			if !yield(e, err) || err != nil {
				return
			}
		}
		if fault.After != nil {
			yield(bucket.Entry{}, injected("list", o.Prefix, fault.After))
		}
	}
}

// Delete implements [bucket.Bucket].
func (f *Faulty) Delete(ctx context.Context, key string) error {
	return f.do("delete", key, func() error { return f.b.Delete(ctx, key) })
}

// TryLock implements [bucket.Locker].
func (f *Faulty) TryLock(ctx context.Context, key string) (release func() error, err error) {
	l, ok := f.b.(bucket.Locker)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	err = f.do("lock", key, func() error {
		release, err = l.TryLock(ctx, key)
		return err
	})
	if err != nil && release != nil {
		_ = release() // the process that would hold it has gone
		release = nil
	}
	return release, err
}

// Sync implements [bucket.Syncer].
func (f *Faulty) Sync(ctx context.Context, key string) error {
	if s, ok := f.b.(bucket.Syncer); ok {
		return s.Sync(ctx, key)
	}
	return nil
}

// Now implements [bucket.Clock].
func (f *Faulty) Now(ctx context.Context) (now time.Time, err error) {
	c, ok := f.b.(bucket.Clock)
	if !ok {
		return time.Time{}, errors.ErrUnsupported
	}
	err = f.do("now", "", func() error {
		now, err = c.Now(ctx)
		return err
	})
	return now, err
}

// URL implements [bucket.Bucket].
func (f *Faulty) URL() string { return f.b.URL() }

// Close implements [bucket.Bucket].
func (f *Faulty) Close() error { return f.b.Close() }

var (
	_ bucket.Bucket = (*Faulty)(nil)
	_ bucket.Locker = (*Faulty)(nil)
	_ bucket.Syncer = (*Faulty)(nil)
	_ bucket.Clock  = (*Faulty)(nil)
)
