package snapshot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// driveOn commits what follows the newest commit, up to a number, and returns the last commit.
func driveOn(t *testing.T, l *Lease, last uint64) Commit {
	t.Helper()
	_, c, err := l.s.Latest(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	for c.Seq < last {
		snap := commitOf("p", c.Seq+1)
		snap.Parent = c.AsParent()
		if c, err = l.Commit(t.Context(), snap); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func remove(t *testing.T, s *Store) {
	t.Helper()
	l := acquire(t, s, LeaseOptions{})
	if err := l.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = l.Release()
}

// TestPausedCommit pauses a driver where its commit can't be kept from being made: after the lease was found good. What
// others do meanwhile decides what becomes of the commit.
func TestPausedCommit(t *testing.T) {
	for _, c := range []struct {
		name      string
		meanwhile func(t *testing.T, s *Store)
		err       error
		newest    uint64 // afterwards, 0 for no coroutine
		mine      bool   // commit 4 is there, and the late one's
	}{
		{"nobody comes", func(*testing.T, *Store) {}, nil, 4, true},
		{"somebody comes and does nothing", func(t *testing.T, s *Store) {
			_ = acquire(t, s, LeaseOptions{}).Release()
		}, ErrFenced, 4, true},
		{"somebody is there and has done nothing", func(t *testing.T, s *Store) {
			l := acquire(t, s, LeaseOptions{})
			t.Cleanup(func() { _ = l.Release() })
		}, ErrFenced, 4, true},
		{"somebody has gone on", func(t *testing.T, s *Store) {
			l := acquire(t, s, LeaseOptions{})
			driveOn(t, l, 6)
			_ = l.Release()
		}, ErrFenced, 6, false},
		{"somebody has gone on and dropped its number", func(t *testing.T, s *Store) {
			l := acquire(t, s, LeaseOptions{})
			driveOn(t, l, 6)
			if _, err := s.Retain(t.Context(), "p", Policy{Keep: 2}); err != nil {
				t.Fatal(err)
			}
			_ = l.Release()
		}, ErrFenced, 6, false},
		{"somebody is there and has dropped its number", func(t *testing.T, s *Store) {
			l := acquire(t, s, LeaseOptions{})
			t.Cleanup(func() { _ = l.Release() })
			driveOn(t, l, 9)
			if _, err := s.Retain(t.Context(), "p", Policy{Keep: 1}); err != nil {
				t.Fatal(err)
			}
		}, ErrFenced, 9, false},
		{"its parent is dropped", func(t *testing.T, s *Store) { // as soon as it is there itself, by whoever drops
			if _, err := s.Retain(t.Context(), "p", Policy{Keep: 1}); err != nil {
				t.Fatal(err)
			}
		}, nil, 4, true},
		{"it is removed", func(t *testing.T, s *Store) {
			remove(t, s)
		}, ErrFenced, 0, false},
		{"it is removed and created anew", func(t *testing.T, s *Store) {
			remove(t, s)
			commit(t, s, commitOf("p", 1))
		}, ErrFenced, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := bucket.NewMem()
				late, s := newRemote(b), storeWith(t, buckettest.NoLock(b), "p", 1)
				mine := acquire(t, NewStore(late), LeaseOptions{})
				defer mine.Release()
				parent := driveOn(t, mine, 3)
				snap := commitOf("p", 4)
				snap.ModuleName, snap.Parent = "late", parent.AsParent()
				late.onPut = func(string) {
					late.pause()
					elapse(time.Minute)
					c.meanwhile(t, s)
					late.wake()
				}
				_, err := mine.Commit(t.Context(), snap)
				if !errors.Is(err, c.err) {
					t.Errorf("the late commit: %v, want %v", err, c.err)
				}
				if c.err != nil {
					isDriven(t, "the lease", mine.Err(), ErrFenced, nil)
				}
				if c.newest == 0 {
					absent(t, s, "p")
					return
				}
				_, head, err := s.Latest(t.Context(), "p")
				if err != nil || head.Seq != c.newest {
					t.Fatalf("newest %d, %v; want %d", head.Seq, err, c.newest)
				}
				if got := logsOf(t, s, "p"); got != outputOf(1, c.newest) {
					t.Errorf("output %q", got)
				}
				four, err := s.peek(t.Context(), "p", 4, commitKey("p", 4))
				if is := err == nil && four.ModuleName == "late"; is != c.mine {
					t.Errorf("commit 4: %+v, %v", four, err)
				}
			})
		})
	}
}

// TestPausedDelete pauses a deletion after each of its requests, while another one deletes the coroutine and creates it anew.
func TestPausedDelete(t *testing.T) {
	for n := range 9 {
		bubble(t, func(t *testing.T) {
			b := bucket.NewMem()
			s := storeWith(t, buckettest.NoLock(b), "p", 4)
			late := newRemote(b)
			f := buckettest.NewFaulty(late, nil)
			mine := acquire(t, NewStore(f), LeaseOptions{})
			defer mine.Release()
			f.Plan(func(o buckettest.Op) buckettest.Fault {
				if o.N == n {
					late.pause()
				}
				return buckettest.Fault{}
			})
			done := make(chan error)
			go func() { done <- mine.Delete(t.Context()) }()
			elapse(time.Minute)
			select {
			case err := <-done:
				t.Fatalf("it made no operation %d, only %v; %v", n, f.Ops(), err)
			default:
			}
			other := acquire(t, s, LeaseOptions{})
			if err := other.Delete(t.Context()); err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
			for seq := uint64(1); seq <= 4; seq++ {
				if _, err := other.Commit(t.Context(), commitOf("p", seq)); err != nil {
					t.Fatal(err)
				}
			}
			late.wake()
			isDriven(t, fmt.Sprintf("paused at %v", f.Ops()[n]), <-done, ErrFenced, other)
			defer other.Release()
			if o := f.Ops()[n]; o.Name == "list" { // a write that is under way can't be held back
				if got := logsOf(t, s, "p"); got != outputOf(1, 4) {
					t.Errorf("paused at %v: %q", o, got)
				}
			}
		})
	}
}

// TestZombieWins has the last commit of a paused driver come before the first one of who took over, who goes on from it.
func TestZombieWins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := bucket.NewMem()
		late, s := newRemote(b), storeWith(t, buckettest.NoLock(b), "p", 1)
		mine := acquire(t, NewStore(late), LeaseOptions{})
		defer mine.Release()
		parent := driveOn(t, mine, 2)
		snap := commitOf("p", 3)
		snap.ModuleName, snap.Parent = "late", parent.AsParent()
		var next *Lease
		late.onPut = func(string) {
			late.pause()
			elapse(time.Minute)
			next = acquire(t, s, LeaseOptions{})
			late.wake()
		}
		if _, err := mine.Commit(t.Context(), snap); !errors.Is(err, ErrFenced) {
			t.Errorf("the late commit: %v", err)
		}
		defer next.Release()
		other := commitOf("p", 3)
		other.Parent = parent.AsParent()
		if _, err := next.Commit(t.Context(), other); !errors.Is(err, ErrFenced) {
			t.Errorf("the next one's: %v", err)
		}
		if err := next.Err(); err != nil {
			t.Errorf("its lease: %v", err)
		}
		driveOn(t, next, 5)
		if got := logsOf(t, s, "p"); got != outputOf(1, 5) {
			t.Errorf("output %q", got)
		}
	})
}

// TestWokenInAWait pauses a driver while its guest waits. When it wakes, the coroutine has been driven to its end, and its
// lease is given up although it could be had.
func TestWokenInAWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := bucket.NewMem()
		late, s := newRemote(b), storeWith(t, buckettest.NoLock(b), "p", 1)
		mine := acquire(t, NewStore(late), LeaseOptions{})
		defer mine.Release()
		driveOn(t, mine, 3)
		late.pause()
		next := acquire(t, s, LeaseOptions{OnWait: func(Wait) {}})
		driveOn(t, next, 5)
		_ = next.Release()
		late.wake()
		ctx, cancel := mine.Context(t.Context())
		defer cancel()
		began := time.Now()
		<-ctx.Done()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it noticed after %v", took)
		}
		isDriven(t, "the paused one", context.Cause(ctx), ErrFenced, nil)
		if got := leaseKeys(t, b); len(got) > 1 {
			t.Errorf("objects %q", got)
		}
	})
}

var stress = flag.Int("stress", 0, "run TestDriversStress with so many seeds")

// TestDriversStress has several drivers of several machines at one coroutine, which are paused, killed, and lose answers,
// while others drop commits. Each commit is made once, the output is that of a run without all this, and in the end
// somebody has driven it to the end.
func TestDriversStress(t *testing.T) {
	seeds := 40
	if *stress > 0 {
		seeds = *stress
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { stressDrivers(t, uint64(seed)) })
		})
	}
}

// unreliable is a bucket as a process sees it that has a bad day: requests take their time, long pauses stop the process
// between any two of them, and answers get lost. A dead process's last request may be done long after.
type unreliable struct {
	bucket.Bucket
	mu   sync.Mutex
	r    *rand.Rand
	wake time.Time // the process is paused until then
	dead bool
}

var errDead = errors.New("the process was killed")

func (u *unreliable) chance(p float64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.r.Float64() < p
}

func (u *unreliable) upTo(d time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return time.Duration(u.r.Int64N(int64(d)))
}

// stumble lets time pass; the process may be paused, or be dead.
func (u *unreliable) stumble() error {
	if u.chance(0.01) {
		long := u.upTo(40 * time.Second)
		u.mu.Lock()
		u.wake = time.Now().Add(long)
		u.mu.Unlock()
	}
	for {
		u.mu.Lock()
		left, dead := time.Until(u.wake), u.dead
		u.mu.Unlock()
		if dead {
			return errDead
		}
		if left <= 0 {
			return nil
		}
		<-time.After(left)
	}
}

func (u *unreliable) kill() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dead = true
}

func (u *unreliable) do(key string, f func() error) error {
	if err := u.stumble(); err != nil {
		return err
	}
	if u.chance(0.02) {
		return &bucket.Error{Op: "do", Key: key, Kind: bucket.ErrUnavailable, Err: buckettest.ErrInjected}
	}
	<-time.After(u.upTo(100 * time.Millisecond)) // on its way: from here on it can't be stopped
	err := f()
	<-time.After(u.upTo(100 * time.Millisecond))
	if serr := u.stumble(); serr != nil {
		return serr
	}
	if u.chance(0.02) {
		return &bucket.Error{Op: "do", Key: key, Kind: bucket.ErrUnavailable, Err: buckettest.ErrInjected}
	}
	return err
}

func (u *unreliable) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	return u.do(key, func() error { return u.Bucket.Put(context.WithoutCancel(ctx), key, body, size) })
}

func (u *unreliable) Get(ctx context.Context, key string, offset, length int64) (o *bucket.Object, err error) {
	err = u.do(key, func() error { o, err = u.Bucket.Get(ctx, key, offset, length); return err })
	return o, err
}

func (u *unreliable) Stat(ctx context.Context, key string) (e bucket.Entry, err error) {
	err = u.do(key, func() error { e, err = u.Bucket.Stat(ctx, key); return err })
	return e, err
}

func (u *unreliable) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	return func(yield func(bucket.Entry, error) bool) {
		if err := u.do(o.Prefix, func() error { return nil }); err != nil {
			yield(bucket.Entry{}, err)
			return
		}
		for e, err := range u.Bucket.List(ctx, o) {
			if !yield(e, err) {
				return
			}
		}
	}
}

func (u *unreliable) Delete(ctx context.Context, key string) error {
	return u.do(key, func() error { return u.Bucket.Delete(context.WithoutCancel(ctx), key) })
}

func (u *unreliable) Now(ctx context.Context) (now time.Time, err error) {
	err = u.do("clock", func() error { now, err = u.Bucket.(bucket.Clock).Now(ctx); return err })
	return now, err
}

func stressDrivers(t *testing.T, seed uint64) {
	const last = 60
	b := bucket.NewMem()
	s := storeWith(t, buckettest.NoLock(b), "p", 1)
	r := rand.New(rand.NewPCG(seed, 1))
	type made struct {
		hash Hash
		by   string
	}
	var (
		mu     sync.Mutex
		won    = map[uint64]made{}
		killed int
		fenced int
		wg     sync.WaitGroup
	)
	ended := func() bool {
		_, seq, err := s.newest(context.Background(), "p")
		return err == nil && seq >= last
	}
	// drive is a process's life.
	drive := func(u *unreliable, name string) {
		store := NewStore(u)
		l, err := store.Acquire(t.Context(), "p", LeaseOptions{TTL: 3 * time.Second, OnWait: func(Wait) {}})
		if err != nil {
			return
		}
		defer l.Release()
		for {
			_, c, err := store.Latest(t.Context(), "p")
			if err != nil {
				return
			}
			for {
				if c.Seq >= last {
					return
				}
				<-time.After(u.upTo(2 * time.Second)) // the guest computes
				if l.Err() != nil {
					return
				}
				snap := commitOf("p", c.Seq+1)
				snap.Parent, snap.ModuleName = c.AsParent(), name
				c, err = l.Commit(t.Context(), snap)
				if errors.Is(err, ErrFenced) {
					mu.Lock()
					fenced++
					mu.Unlock()
				}
				if errors.Is(err, ErrFenced) && l.Err() == nil {
					break // reads what the winner has made
				}
				if err != nil {
					return
				}
				mu.Lock()
				if w, ok := won[c.Seq]; ok && w.hash != c.Hash {
					t.Errorf("commit %d was made by %s, and by %s", c.Seq, w.by, name)
				}
				won[c.Seq] = made{c.Hash, name}
				mu.Unlock()
			}
		}
	}
	for g := range 4 {
		own := rand.New(rand.NewPCG(seed, 2+uint64(g)))
		wg.Go(func() {
			for n := 0; !ended(); n++ {
				u := &unreliable{Bucket: buckettest.NoLock(b), r: rand.New(rand.NewPCG(own.Uint64(), 7))}
				done := make(chan struct{})
				go func() {
					defer close(done)
					drive(u, fmt.Sprintf("%d.%d", g, n))
				}()
				if own.IntN(3) == 0 {
					select {
					case <-done:
					case <-time.After(time.Duration(own.Int64N(int64(20 * time.Second)))):
						u.kill()
						mu.Lock()
						killed++
						mu.Unlock()
					}
				}
				<-done
				<-time.After(time.Duration(own.Int64N(int64(4 * time.Second))))
			}
		})
	}
	wg.Go(func() {
		for !ended() {
			<-time.After(time.Duration(r.Int64N(int64(20 * time.Second))))
			if _, err := s.Retain(t.Context(), "p", Policy{Keep: 1 + r.IntN(3)}); err != nil {
				t.Errorf("drop: %v", err)
			}
		}
	})
	began := time.Now()
	wg.Wait()
	if got := logsOf(t, s, "p"); got != outputOf(1, last) {
		t.Errorf("output %q", got)
	}
	h, err := s.History(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range h {
		if i > 0 && (c.Seq != h[i-1].Seq+1 || c.Parent.Seq != h[i-1].Seq) {
			t.Errorf("history: commit %d after %d", c.Seq, h[i-1].Seq)
		}
		_, full, err := s.At(t.Context(), "p", c.Seq)
		if w, ok := won[c.Seq]; err != nil || ok && w.hash != full.Hash {
			t.Errorf("commit %d: %v, or it is not the one that %s has made", c.Seq, err, w.by)
		}
	}
	elapse(time.Minute) // the requests of the dead
	_, head, err := s.Latest(t.Context(), "p")
	if err != nil || head.Seq != last {
		t.Errorf("at the end: commit %d, %v", head.Seq, err)
	}
	if testing.Verbose() {
		fmt.Fprintf(os.Stderr, "seed %d: %v, %d killed, %d fenced off\n", seed, time.Since(began).Round(time.Second), killed, fenced)
	}
}

// TestWithdrawnIsOwn takes back a commit that went with its coroutine, while another coroutine of that id comes to its number.
func TestWithdrawnIsOwn(t *testing.T) {
	b := bucket.NewMem()
	s := storeWith(t, b, "p", 4)
	late := commitOf("p", 5)
	late.Entry = "another"
	encoded, err := Encode(late)
	if err != nil {
		t.Fatal(err)
	}
	key := commitKey("p", 5)
	var once sync.Once
	f := buckettest.NewFaulty(b, func(o buckettest.Op) buckettest.Fault {
		if o.Key == key && (o.Name == "stat" || o.Name == "delete") {
			once.Do(func() { commit(t, s, commitOf("p", 5)) })
		}
		return buckettest.Fault{}
	})
	l := &Lease{s: NewStore(f), id: "p"}
	if err := l.withdraw(t.Context(), Commit{Manifest: late.manifest(), Bytes: int64(len(encoded)), Hash: Digest(encoded)}); err != nil {
		t.Error(err)
	}
	if c, err := s.Head(t.Context(), "p"); err != nil || c.Seq != 5 {
		t.Errorf("the last commit is %d, %v", c.Seq, err)
	}
}
