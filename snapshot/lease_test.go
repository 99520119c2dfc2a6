package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// The tests here run in bubbles of package synctest: their time is not the machine's, and goes on only when all wait.

// remote is a bucket without locks as a process sees it: the process can be paused, between any two of its requests.
type remote struct {
	bucket.Bucket
	mu       sync.Mutex
	paused   chan struct{} // nil while it isn't
	requests int
	onPut    func(key string) // called before a put, once
}

func newRemote(b bucket.Bucket) *remote { return &remote{Bucket: buckettest.NoLock(b)} }

func (r *remote) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = make(chan struct{})
}

func (r *remote) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.paused)
	r.paused = nil
}

// count returns how many requests there were since it was last called.
func (r *remote) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.requests
	r.requests = 0
	return n
}

// enter waits while the process is paused. It is called before and after each request.
func (r *remote) enter(count int) {
	r.mu.Lock()
	r.requests += count
	p := r.paused
	r.mu.Unlock()
	if p != nil {
		<-p
	}
}

func (r *remote) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	r.enter(1)
	r.mu.Lock()
	f := r.onPut
	r.onPut = nil
	r.mu.Unlock()
	if f != nil {
		f(key)
		r.enter(0)
	}
	defer r.enter(0)
	return r.Bucket.Put(ctx, key, body, size)
}

func (r *remote) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	r.enter(1)
	defer r.enter(0)
	return r.Bucket.Get(ctx, key, offset, length)
}

func (r *remote) Stat(ctx context.Context, key string) (bucket.Entry, error) {
	r.enter(1)
	defer r.enter(0)
	return r.Bucket.Stat(ctx, key)
}

func (r *remote) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	r.enter(1)
	return r.Bucket.List(ctx, o)
}

func (r *remote) Delete(ctx context.Context, key string) error {
	r.enter(1)
	defer r.enter(0)
	return r.Bucket.Delete(ctx, key)
}

func (r *remote) Now(ctx context.Context) (time.Time, error) {
	r.enter(1)
	return r.Bucket.(bucket.Clock).Now(ctx)
}

// clockless is a bucket without locks and without a clock.
type clockless struct{ bucket.Bucket }

// bubble runs a test in simulated time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	// What is made in a bubble must not be used outside, and compressors have channels.
	encoders, decoders = sync.Pool{New: encoders.New}, sync.Pool{New: decoders.New}
	synctest.Test(t, f)
	encoders, decoders = sync.Pool{New: encoders.New}, sync.Pool{New: decoders.New}
}

// acquire acquires a coroutine, and forgets which process it is that has it, as another machine would.
func acquire(t *testing.T, s *Store, o LeaseOptions) *Lease {
	t.Helper()
	l, err := s.Acquire(t.Context(), "p", o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func leaseKeys(t *testing.T, b bucket.Bucket) []string {
	t.Helper()
	var keys []string
	for e, err := range b.List(context.Background(), bucket.ListOptions{Prefix: leasesPrefix}) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, strings.TrimPrefix(e.Key, leasesPrefix))
	}
	return keys
}

func isDriven(t *testing.T, what string, err, want error, by *Lease) {
	t.Helper()
	var d *DrivenError
	if !errors.Is(err, want) || !errors.As(err, &d) {
		t.Errorf("%s: got %v, want a DrivenError that is %v", what, err, want)
		return
	}
	if by != nil && d.Holder.owner != by.holder.owner {
		t.Errorf("%s: %v names another holder", what, err)
	}
}

// TestLock acquires coroutines on buckets that have locks.
func TestLock(t *testing.T) {
	onBuckets(t, func(t *testing.T, b bucket.Bucket) {
		if _, ok := b.(bucket.Locker); !ok {
			t.Skip("it has no locks")
		}
		s := NewStore(b)
		lease := acquire(t, s, LeaseOptions{})
		waits := LeaseOptions{OnWait: func(Wait) { t.Error("somebody waits for a lock") }}
		_, err := s.Acquire(t.Context(), "p", waits)
		isDriven(t, "a second driver", err, ErrBusy, nil)
		driven, err := s.Driven(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, is := driven("p"); !is {
			t.Error("it is not driven")
		}
		if _, is := driven("q"); is {
			t.Error("another is driven")
		}
		snap := commitOf("p", 1)
		if c, err := lease.Commit(t.Context(), snap); err != nil || c.Seq != 1 {
			t.Errorf("commit: %v, %v", c, err)
		}
		for range 2 {
			if err := lease.Release(); err != nil {
				t.Error(err)
			}
		}
		if _, err := lease.Commit(t.Context(), commitOf("p", 2)); !errors.Is(err, ErrFenced) {
			t.Errorf("a commit after release: %v", err)
		}
		if _, is := driven("p"); is {
			t.Error("it is driven still")
		}
		if keys := leaseKeys(t, b); keys != nil {
			t.Errorf("objects of leases: %q", keys)
		}

		lease = acquire(t, s, LeaseOptions{})
		defer lease.Release()
		var out bytes.Buffer
		if err := storeWith(t, bucket.NewMem(), "p", 1).Export(t.Context(), "p", 0, &out); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Import(t.Context(), &out, ImportOptions{}); !errors.Is(err, ErrBusy) {
			t.Errorf("import of one that is driven: %v", err)
		}
	})
}

// slowLocks is a bucket in which somebody holds a lock for a moment, and which takes long to say so.
type slowLocks struct {
	*bucket.Mem
	release func() error
}

func (b *slowLocks) TryLock(ctx context.Context, key string) (func() error, error) {
	release, err := b.Mem.TryLock(ctx, key)
	if b.release != nil {
		<-time.After(2 * lockPatience)
		_ = b.release()
		b.release = nil
	}
	return release, err
}

// TestSlowLock acquires a coroutine whose lock was held for a moment, as it is by who looks for drivers.
func TestSlowLock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mem := bucket.NewMem()
		release, err := mem.TryLock(t.Context(), leasesPrefix+"p")
		if err != nil {
			t.Fatal(err)
		}
		l := acquire(t, NewStore(&slowLocks{mem, release}), LeaseOptions{})
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	})
}

// TestLeaseRenewal holds a lease for a long time.
func TestLeaseRenewal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := bucket.NewMem()
		r := newRemote(b)
		s, other := NewStore(r), NewStore(newRemote(b))
		l := acquire(t, s, LeaseOptions{TTL: 3 * time.Second})
		if got := leaseKeys(t, b); !slices.Equal(got, []string{"p/0000000000000001"}) {
			t.Errorf("objects %q", got)
		}
		_, err := other.Acquire(t.Context(), "p", LeaseOptions{})
		isDriven(t, "a second driver", err, ErrBusy, l)
		driven, err := other.Driven(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if h, is := driven("p"); !is || h.PID != os.Getpid() || h.owner != l.holder.owner || h.TTL != 3*time.Second {
			t.Errorf("driven: %+v, %v", h, is)
		}
		since := time.Now().UTC()
		l.Computing(since, 7) // which the next renewal tells
		if h, _ := driven("p"); !h.Computing.IsZero() {
			t.Errorf("driven: %+v", h)
		}
		elapse(1500 * time.Millisecond)
		if driven, err = other.Driven(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h, _ := driven("p"); !h.Computing.Equal(since) || h.After != 7 || h.PID != os.Getpid() {
			t.Errorf("driven, and computing: %+v", h)
		}
		r.count()
		elapse(time.Hour)
		if got, want := r.count(), 2*3600; got != want { // a put and a delete a second
			t.Errorf("%d requests in an hour, want %d", got, want)
		}
		if got := leaseKeys(t, b); len(got) != 1 {
			t.Errorf("objects %q", got)
		}
		if _, err := l.Commit(t.Context(), commitOf("p", 1)); err != nil {
			t.Error(err)
		}
		r.count()
		if _, err := l.Commit(t.Context(), commitOf("p", 2)); err != nil {
			t.Error(err)
		}
		if got := r.count(); got != 1 {
			t.Errorf("a commit took %d requests, want 1", got)
		}
		_, err = other.Acquire(t.Context(), "p", LeaseOptions{})
		isDriven(t, "a second driver after an hour", err, ErrBusy, l)
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		if got := leaseKeys(t, b); got != nil {
			t.Errorf("after release: objects %q", got)
		}
		if _, is := driven("p"); !is {
			t.Error("a look at the store is for the moment")
		}
		isDriven(t, "after release", l.Err(), ErrFenced, nil)
	})
}

// TestImportLease imports a coroutine, drives it on and removes it where there are no locks.
func TestImportLease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := storeWith(t, bucket.NewMem(), "p", 4).Export(t.Context(), "p", 0, &out); err != nil {
			t.Fatal(err)
		}
		b := bucket.NewMem()
		s := NewStore(newRemote(b))
		l := acquire(t, s, LeaseOptions{})
		_, err := s.Import(t.Context(), bytes.NewReader(out.Bytes()), ImportOptions{})
		isDriven(t, "import of one that is driven", err, ErrBusy, l)
		_ = l.Release()
		if c, err := s.Import(t.Context(), bytes.NewReader(out.Bytes()), ImportOptions{}); err != nil || c.Seq != 4 {
			t.Fatal(c, err)
		}
		if got := leaseKeys(t, b); got != nil {
			t.Errorf("after import: objects %q", got)
		}
		l = acquire(t, s, LeaseOptions{})
		defer l.Release()
		driveOn(t, l, 6)
		if got := logsOf(t, s, "p"); got != outputOf(1, 6) {
			t.Errorf("output %q", got)
		}
		if err := l.Delete(t.Context()); err != nil {
			t.Error(err)
		}
		absent(t, s, "p")
		if got := leaseKeys(t, b); len(got) != 1 {
			t.Errorf("the lease is the caller's to release, but there is %q", got)
		}
	})
}

func TestLeaseOptions(t *testing.T) {
	s := NewStore(buckettest.NoLock(bucket.NewMem()))
	for _, ttl := range []time.Duration{-1, MinLease - 1, MaxLease + 1} {
		if _, err := s.Acquire(t.Context(), "p", LeaseOptions{TTL: ttl}); err == nil {
			t.Errorf("a lease of %v", ttl)
		}
	}
}

// TestTakeover has a process vanish, and another one of another machine wait for its lease to run out.
func TestTakeover(t *testing.T) {
	for name, hide := range map[string]func(bucket.Bucket) bucket.Bucket{
		"clock":    buckettest.NoLock,
		"no clock": func(b bucket.Bucket) bucket.Bucket { return clockless{b} },
		"a clock that is days ahead": func(b bucket.Bucket) bucket.Bucket {
			return skewed{buckettest.NoLock(b), 72 * time.Hour, 0}
		},
		"a clock that is days behind, of whole seconds": func(b bucket.Bucket) bucket.Bucket {
			return skewed{buckettest.NoLock(b), -72 * time.Hour, time.Second}
		},
		"objects from the future": func(b bucket.Bucket) bucket.Bucket {
			return future{buckettest.NoLock(b)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := bucket.NewMem()
				dead := newRemote(hide(b))
				first := acquire(t, NewStore(dead), LeaseOptions{})
				elapse(7 * time.Second) // it was renewed once, two seconds ago
				dead.pause()
				began := time.Now()
				var waits []Wait
				s := NewStore(hide(b))
				second := acquire(t, s, LeaseOptions{TTL: time.Minute, OnWait: func(w Wait) { waits = append(waits, w) }})
				took := time.Since(began)
				if len(waits) != 1 || waits[0].Holder.owner != first.holder.owner || waits[0].Holder.Host != first.holder.Host {
					t.Errorf("waits: %+v", waits)
				}
				if until := waits[0].Until.Sub(began); until > took || took > until+time.Second {
					t.Errorf("it waited %v, and was to wait until %v", took, until)
				}
				// 15 s after the renewal, and 2.3 s for the clocks; longer where that is not known.
				early, late := 15*time.Second-2*time.Second, 16500*time.Millisecond
				if strings.HasPrefix(name, "no") || strings.HasPrefix(name, "objects") {
					early, late = 15*time.Second, 18*time.Second
				}
				if took < early || took > late {
					t.Errorf("it waited %v", took)
				}
				dead.wake()
				elapse(6 * time.Second)
				isDriven(t, "the first holder", first.Err(), ErrFenced, second)
				if err := second.Err(); err != nil {
					t.Error(err)
				}
				for _, l := range []*Lease{first, second} {
					if err := l.Release(); err != nil {
						t.Error(err)
					}
				}
				if got := leaseKeys(t, b); got != nil {
					t.Errorf("objects %q", got)
				}
			})
		})
	}
}

// skewed is a bucket whose clock is off, and goes in steps.
type skewed struct {
	bucket.Bucket
	by   time.Duration
	step time.Duration
}

func (b skewed) Now(ctx context.Context) (time.Time, error) {
	now, err := b.Bucket.(bucket.Clock).Now(ctx)
	return now.Add(b.by).Truncate(b.step), err
}

func (b skewed) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	return func(yield func(bucket.Entry, error) bool) {
		for e, err := range b.Bucket.List(ctx, o) {
			e.ModTime = e.ModTime.Add(b.by).Truncate(b.step)
			if !yield(e, err) {
				return
			}
		}
	}
}

// future is a bucket whose objects have times that its clock has yet to reach.
type future struct{ bucket.Bucket }

func (b future) Now(ctx context.Context) (time.Time, error) { return b.Bucket.(bucket.Clock).Now(ctx) }

func (b future) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	return skewed{b.Bucket, 100 * time.Hour, 0}.List(ctx, o)
}

// TestAcquireWaiting has somebody wait for a lease that is renewed, released or taken by another.
func TestAcquireWaiting(t *testing.T) {
	setup := func() (b *bucket.Mem, first *remote, s *Store) {
		b = bucket.NewMem()
		first = newRemote(b)
		return b, first, NewStore(newRemote(b))
	}
	nothing := LeaseOptions{OnWait: func(Wait) {}}
	bubble(t, func(t *testing.T) { // its holder is alive
		_, first, s := setup()
		l := acquire(t, NewStore(first), LeaseOptions{})
		defer l.Release()
		began := time.Now()
		_, err := s.Acquire(t.Context(), "p", nothing)
		isDriven(t, "a renewed one", err, ErrBusy, l)
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	bubble(t, func(t *testing.T) { // its holder releases it
		_, first, s := setup()
		l := acquire(t, NewStore(first), LeaseOptions{})
		time.AfterFunc(3*time.Second, func() { _ = l.Release() })
		began := time.Now()
		next := acquire(t, s, nothing)
		defer next.Release()
		if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	bubble(t, func(t *testing.T) { // another one has it next, under the same number, for longer
		b, first, s := setup()
		l := acquire(t, NewStore(first), LeaseOptions{TTL: 3 * time.Second})
		taken := make(chan *Lease, 1)
		time.AfterFunc(500*time.Millisecond, func() {
			_ = l.Release()
			taken <- acquire(t, NewStore(newRemote(b)), LeaseOptions{TTL: time.Minute})
		})
		_, err := s.Acquire(t.Context(), "p", nothing)
		next := <-taken
		isDriven(t, "who has waited for another", err, ErrBusy, next)
		if err := next.Err(); err != nil {
			t.Error(err)
		}
		_ = next.Release()
	})
	bubble(t, func(t *testing.T) { // several wait for one that is dead: one gets it
		b, first, _ := setup()
		l := acquire(t, NewStore(first), LeaseOptions{})
		first.pause()
		got := race(t, b, 5, nothing)
		defer got.Release()
		first.wake()
		elapse(time.Minute)
		isDriven(t, "the first holder", l.Err(), ErrFenced, got)
		_ = l.Release()
		if err := got.Err(); err != nil {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) { // who waits is told to stop
		_, first, s := setup()
		l := acquire(t, NewStore(first), LeaseOptions{})
		defer l.Release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Acquire(ctx, "p", nothing); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// race has n processes acquire the coroutine at once, and returns the lease of the one that may.
func race(t *testing.T, b bucket.Bucket, n int, o LeaseOptions) *Lease {
	t.Helper()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		leases []*Lease
	)
	for range n {
		wg.Go(func() {
			l, err := NewStore(newRemote(b)).Acquire(t.Context(), "p", o)
			if err != nil {
				isDriven(t, "one of several", err, ErrBusy, nil)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			leases = append(leases, l)
		})
	}
	wg.Wait()
	if len(leases) != 1 {
		t.Fatalf("%d of %d acquired it", len(leases), n)
	}
	return leases[0]
}

// TestAcquireRace has many acquire one coroutine at once, again and again.
func TestAcquireRace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := bucket.NewMem()
		for range 200 {
			l := race(t, b, 8, LeaseOptions{})
			if err := l.Release(); err != nil {
				t.Error(err)
			}
		}
		if got := leaseKeys(t, b); got != nil {
			t.Errorf("objects %q", got)
		}
	})
}

// TestAcquireUnknown has two acquire a coroutine at once, and the slower one not be told that it was.
func TestAcquireUnknown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := bucket.NewMem()
		slow := newRemote(b)
		var other *Lease
		slow.onPut = func(string) { other = acquire(t, NewStore(newRemote(b)), LeaseOptions{}) }
		if _, err := NewStore(unsaid{slow}).Acquire(t.Context(), "p", LeaseOptions{}); !errors.Is(err, buckettest.ErrInjected) {
			t.Errorf("the slower one: %v", err)
		}
		if got := leaseKeys(t, b); len(got) != 1 {
			t.Errorf("objects %q", got)
		}
		_ = other.Release()
	})
}

// unsaid is a bucket that never gives an answer to a put.
type unsaid struct{ bucket.Bucket }

func (b unsaid) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	_ = b.Bucket.Put(ctx, key, body, size)
	return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrUnavailable, Err: buckettest.ErrInjected}
}

// TestAcquireLate pauses who acquires between its look at the store and its put, while others come, renew and go.
func TestAcquireLate(t *testing.T) {
	for name, stays := range map[string]bool{"while another holds it": true, "when another has gone": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := bucket.NewMem()
				late := newRemote(b)
				var other *Lease
				late.onPut = func(string) {
					other = acquire(t, NewStore(newRemote(b)), LeaseOptions{})
					elapse(time.Minute)
					if !stays {
						_ = other.Release()
					}
				}
				l, err := NewStore(late).Acquire(t.Context(), "p", LeaseOptions{})
				if stays {
					isDriven(t, "the late one", err, ErrBusy, other)
					if got := leaseKeys(t, b); len(got) != 1 {
						t.Errorf("objects %q", got)
					}
					_ = other.Release()
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if !l.valid() {
					t.Error("it is not valid")
				}
				_ = l.Release()
				if got := leaseKeys(t, b); got != nil {
					t.Errorf("objects %q", got)
				}
			})
		})
	}
}

// TestLostAnswers acquires, renews and releases on a bucket that loses the answer of each operation in turn, or fails
// before it: the lease works, or ends, and nobody else waits for longer than it can hold.
func TestLostAnswers(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := range 20 {
			bubble(t, func(t *testing.T) {
				b := bucket.NewMem()
				f := buckettest.NewFaulty(buckettest.NoLock(b), buckettest.FailAt(n, buckettest.ErrInjected, after))
				l, err := NewStore(f).Acquire(t.Context(), "p", LeaseOptions{})
				if err != nil {
					if l != nil || !errors.Is(err, buckettest.ErrInjected) {
						t.Errorf("operation %d: %v, %v", n, l, err)
					}
				} else {
					for range 4 {
						elapse(6100 * time.Millisecond) // the renewal each 5 s, and a second attempt
						if err := l.Err(); err != nil {
							t.Errorf("operation %d, after %v: %v", n, f.Ops(), err)
						}
						if got := leaseKeys(t, b); len(got) == 0 || len(got) > 2 {
							t.Errorf("operation %d: objects %q", n, got)
						}
					}
					if err := l.Release(); err != nil {
						t.Error(err)
					}
				}
				ops := f.Ops()
				next := acquire(t, NewStore(newRemote(b)), LeaseOptions{OnWait: func(Wait) {
					if last := len(ops) - 1; n != last || ops[last].Name != "delete" { // of the release
						t.Errorf("operation %d of %v, after: %v: the next one has to wait", n, ops, after)
					}
				}})
				_ = next.Release()
				if got := leaseKeys(t, b); got != nil {
					t.Errorf("operation %d of %v: objects %q", n, ops, got)
				}
			})
		}
	}
}

// TestLeaseCrashes ends a process at each operation of a lease. Another one goes on when the lease has run out.
func TestLeaseCrashes(t *testing.T) {
	crashes := 0
	for _, after := range []bool{false, true} {
		for n := range 16 {
			bubble(t, func(t *testing.T) {
				b := bucket.NewMem()
				f := buckettest.NewFaulty(buckettest.NoLock(b), buckettest.CrashAt(n, after))
				l, err := NewStore(f).Acquire(t.Context(), "p", LeaseOptions{TTL: 3 * time.Second})
				if err == nil {
					elapse(2100 * time.Millisecond)
					defer l.Release()
				}
				if len(f.Ops()) <= n {
					return // it is alive
				}
				crashes++
				began := time.Now()
				next := acquire(t, NewStore(newRemote(b)), LeaseOptions{OnWait: func(Wait) {}})
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("operation %d: the next one waited %v", n, took)
				}
				if l != nil {
					elapse(time.Minute)
					isDriven(t, fmt.Sprintf("operation %d", n), l.Err(), ErrFenced, nil)
				}
				_ = next.Release()
				if got := leaseKeys(t, b); got != nil {
					t.Errorf("operation %d: objects %q", n, got)
				}
			})
		}
	}
	if crashes < 12 {
		t.Errorf("%d crashes only", crashes)
	}
}

// TestOutage takes the store away for longer than the lease holds.
func TestOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := buckettest.NewFaulty(buckettest.NoLock(bucket.NewMem()), nil)
		var lost atomic.Int32
		l := acquire(t, NewStore(f), LeaseOptions{OnLost: func() { lost.Add(1) }})
		ctx, cancel := l.Context(t.Context())
		defer cancel()
		elapse(time.Second)
		f.Plan(buckettest.CrashAt(0, false))
		elapse(13 * time.Second)
		if err := l.Err(); err != nil || lost.Load() > 0 {
			t.Errorf("before it has run out: %v, %d calls", err, lost.Load())
		}
		began := time.Now()
		<-ctx.Done()
		if took := time.Since(began); took < 500*time.Millisecond || took > 2*time.Second {
			t.Errorf("it was lost %v after", took)
		}
		isDriven(t, "after an outage", context.Cause(ctx), ErrFenced, nil)
		if err := l.Err(); !errors.Is(err, buckettest.ErrInjected) || !strings.Contains(err.Error(), "could not be renewed") {
			t.Errorf("it was lost with %v", err)
		}
		_ = l.Release()
		if synctest.Wait(); lost.Load() != 1 {
			t.Errorf("the holder was told %d times", lost.Load())
		}

		// A shorter one it outlives.
		f.Plan(nil)
		elapse(20 * time.Second)
		l = acquire(t, NewStore(f), LeaseOptions{OnWait: func(Wait) {}, OnLost: func() { t.Error("it was lost") }})
		elapse(time.Second)
		f.Plan(buckettest.CrashAt(0, false))
		elapse(12 * time.Second)
		f.Plan(nil)
		elapse(time.Minute)
		if err := l.Err(); err != nil {
			t.Error(err)
		}
		_ = l.Release()
	})
}

// TestDeadHolder looks at leases of processes of this machine.
func TestDeadHolder(t *testing.T) {
	me := self()
	if me.Start == "" {
		t.Skip("this system doesn't tell processes apart")
	}
	for name, c := range map[string]struct {
		change func(*Holder)
		gone   bool
	}{
		"this process":                      {func(*Holder) {}, false},
		"an earlier one of this number":     {func(h *Holder) { h.process.Start += "0" }, true},
		"one that is no more":               {func(h *Holder) { h.PID = 1 << 29 }, true},
		"of another boot":                   {func(h *Holder) { h.PID, h.process.Boot = 1<<29, "x" }, false},
		"of another namespace":              {func(h *Holder) { h.PID, h.process.PIDs = 1<<29, "pid:[1]" }, false},
		"one that doesn't say when it came": {func(h *Holder) { h.PID, h.process.Start = 1<<29, "" }, false},
		"without a number":                  {func(h *Holder) { h.PID = 0 }, false},
		"a negative one":                    {func(h *Holder) { h.PID = -1 }, false},
	} {
		bubble(t, func(t *testing.T) {
			b := bucket.NewMem()
			h := newHolder()
			h.TTL = DefaultLease
			c.change(&h)
			if err := bucket.PutBytes(t.Context(), b, leaseKey("p", 7), h.encode()); err != nil {
				t.Fatal(err)
			}
			s := NewStore(newRemote(b))
			driven, err := s.Driven(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, is := driven("p"); is == c.gone {
				t.Errorf("%s: driven: %v", name, is)
			}
			l, err := s.Acquire(t.Context(), "p", LeaseOptions{})
			if c.gone != (err == nil) {
				t.Errorf("%s: %v", name, err)
			}
			if l != nil {
				if got := leaseKeys(t, b); !slices.Equal(got, []string{"p/0000000000000008"}) {
					t.Errorf("%s: objects %q", name, got)
				}
				_ = l.Release()
			}
		})
	}
}

// TestHostileLeases acquires where there are objects that nobody should have made.
func TestHostileLeases(t *testing.T) {
	for _, c := range []struct {
		name, key, body string
		wait            time.Duration // at most
		err             error
	}{
		{"nothing", "1", "", 18 * time.Second, nil},
		{"no JSON", "0000000000000001", "\x00\xff", 18 * time.Second, nil},
		{"an array", "0000000000000001", "[1]", 18 * time.Second, nil},
		{"huge", "0000000000000001", strings.Repeat("x", 1<<20), 18 * time.Second, nil},
		{"a long TTL", "0000000000000001", `{"ttl_ms":9223372036854775807}`, 25 * time.Hour, nil},
		{"a short TTL", "0000000000000001", `{"ttl_ms":-1}`, 18 * time.Second, nil},
		{"unknown keys", "0000000000000001", `{"owner":"x","ttl_ms":1000,"region":{"a":1}}`, 4 * time.Second, nil},
		{"an epoch of 0", "0000000000000000", "", 0, nil},
		{"a negative epoch", "ffffffffffffffff", "", 0, nil},
		{"the last epoch", "7fffffffffffffff", "", 18 * time.Second, ErrCorrupt},
		{"another name", "x", "", 0, nil},
		{"upper case", "000000000000000A", "", 0, nil},
		{"a folder", "0000000000000001/x", "", 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := bucket.NewMem()
				if err := bucket.PutBytes(t.Context(), b, leasePrefix("p")+c.key, []byte(c.body)); err != nil {
					t.Fatal(err)
				}
				s := NewStore(newRemote(b))
				began := time.Now()
				l, err := s.Acquire(t.Context(), "p", LeaseOptions{OnWait: func(w Wait) { _ = w.Holder.String() }})
				if c.err != nil {
					if !errors.Is(err, c.err) {
						t.Errorf("got %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > c.wait {
					t.Errorf("it waited %v", took)
				}
				_ = l.Release()
			})
		})
	}
}

// TestSuspendedMachine has one of the machine's clocks stand still.
func TestSuspendedMachine(t *testing.T) {
	for name, advance := range map[string]func(i *instant, d time.Duration){
		"monotonic only": func(i *instant, d time.Duration) { i.mono += d },
		"wall only":      func(i *instant, d time.Duration) { i.wall = i.wall.Add(d) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := bucket.NewMem()
				r := newRemote(b)
				s := NewStore(r)
				off := instant{wall: time.Unix(1_700_000_000, 0)}
				s.local = func() instant { return off }
				l := acquire(t, s, LeaseOptions{})
				if _, err := l.Commit(t.Context(), commitOf("p", 1)); err != nil {
					t.Fatal(err)
				}
				// Nobody has come: it goes on.
				advance(&off, time.Minute)
				if l.valid() {
					t.Error("it is valid after a minute")
				}
				snap := commitOf("p", 2)
				if _, err := l.Commit(t.Context(), snap); err != nil {
					t.Errorf("nobody has come, but: %v", err)
				}
				if !l.valid() {
					t.Error("it has not been renewed")
				}
				// Somebody has come, and gone.
				r.pause()
				elapse(time.Minute)
				other := acquire(t, NewStore(newRemote(b)), LeaseOptions{})
				c := driveOn(t, other, 4)
				_ = other.Release()
				r.wake()
				advance(&off, time.Minute)
				snap = commitOf("p", 5)
				snap.Parent = c.AsParent()
				if _, err := l.Commit(t.Context(), snap); !errors.Is(err, ErrFenced) {
					t.Errorf("got %v", err)
				}
				isDriven(t, "the lease", l.Err(), ErrFenced, nil)
				_ = l.Release()
			})
		})
	}
}

// noting is a bucket whose locks have notes, and which notes what is to be made durable.
type noting struct {
	*bucket.Mem
	note   []byte
	synced []string
	err    error // of Sync
}

func (b *noting) SetNote(string, []byte) error { return nil }

func (b *noting) Note(_ string, most int) ([]byte, error) {
	return b.note[:min(most, len(b.note))], nil
}

func (b *noting) Sync(_ context.Context, key string) error {
	b.synced = append(b.synced, key)
	return b.err
}

// TestAcquireAfterDeath takes the lock of a holder that has died with it: what that put last is made durable first.
func TestAcquireAfterDeath(t *testing.T) {
	b := &noting{Mem: bucket.NewMem()}
	s := storeWith(t, b, "p", 5)
	if _, err := s.Retain(t.Context(), "p", Policy{Keep: 2}); err != nil {
		t.Fatal(err)
	}
	last := []string{commitKey("p", 5), logKey("p", 3)}
	for _, c := range []struct {
		id, note string
		err      error
		synced   []string
	}{
		{"p", "", nil, nil},
		{"p", "left", nil, last},
		{"none", "left", nil, nil},
		{"p", "left", &bucket.Error{Op: "sync", Kind: bucket.ErrNotExist}, last}, // dropped meanwhile
		{"p", "left", &bucket.Error{Op: "sync", Kind: bucket.ErrUnavailable}, last[:1]},
		{"p", "", nil, nil}, // the lock is free after all
	} {
		b.note, b.err, b.synced = []byte(c.note), c.err, nil
		driven, err := s.Driven(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, is := driven(c.id); is || !slices.Equal(b.synced, c.synced) {
			t.Errorf("%+v: driven: %v; made durable: %v", c, is, b.synced)
		}
		b.synced = nil
		l, err := s.Acquire(t.Context(), c.id, LeaseOptions{})
		if fails := errors.Is(c.err, bucket.ErrUnavailable); fails != errors.Is(err, bucket.ErrUnavailable) || !fails && err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if !slices.Equal(b.synced, c.synced) {
			t.Errorf("%+v: made durable: %v", c, b.synced)
		}
		if err == nil {
			if err := l.Release(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
