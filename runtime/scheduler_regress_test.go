package runtime

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// leaveGuarded leaves in a store a parent "p" that waits for its child "p.1", which waits for a message. Nobody drives them.
func leaveGuarded(t *testing.T, m *Module, store *snapshot.Store) {
	t.Helper()
	begun := make(chan struct{})
	s := newTestScheduler(t, m, SchedulerConfig{Store: store, OnCommit: func(c snapshot.Commit) {
		if c.Coroutine == "p.1" && c.Seq == 1 {
			close(begun)
		}
	}})
	if _, err := s.Start(t.Context(), Program{ID: "p", Module: m, Entry: "guardian"}); err != nil {
		t.Fatal(err)
	}
	<-begun
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// cancelElsewhere ends a coroutine as another process does that dies before it has told the children.
func cancelElsewhere(t *testing.T, lease *snapshot.Lease) {
	t.Helper()
	if _, err := lease.Cancel(t.Context(), ExitCodeCancelled, "elsewhere"); err != nil {
		t.Fatal(err)
	}
	if err := lease.Release(); err != nil {
		t.Fatal(err)
	}
}

// TestOrphanOfWatched has a child's parent end elsewhere while the scheduler watches that, and drives the child.
func TestOrphanOfWatched(t *testing.T) {
	m := waiters(t)
	store := snapshot.NewStore(bucket.NewMem())
	leaveGuarded(t, m, store)
	lease, err := store.Acquire(t.Context(), "p", snapshot.LeaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := newTestScheduler(t, m, SchedulerConfig{Store: store, Clock: newFastClock(100)})
	for _, id := range []string{"p", "p.1"} {
		if err := s.Resume(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	for s.Stats().Resident == 0 { // until the child has looked
		time.Sleep(time.Millisecond) //nolint:forbidigo // that it sleeps has no event
	}
	cancelElsewhere(t, lease)
	if o := ends(t, s, "p.1"); o.Status != snapshot.Cancelled {
		t.Errorf("%+v", o)
	}
	if len(s.wards) > 0 {
		t.Errorf("children wait to hear of %v", s.wards)
	}
}

// TestDesertedChild has a child begin when nobody waits for it any more, and its parent is gone.
func TestDesertedChild(t *testing.T) {
	m := waiters(t)
	ctx, desert := context.WithCancel(t.Context())
	desertOnce := sync.OnceFunc(desert)
	faulty := buckettest.NewFaulty(bucket.NewMem(), func(op buckettest.Op) buckettest.Fault {
		if op.Name == "put" && strings.HasPrefix(op.Key, "coroutines/p.1/") {
			desertOnce()
		}
		return buckettest.Fault{}
	})
	store := snapshot.NewStore(faulty)
	if err := m.keep(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	ended := make(chan Outcome, 1)
	s := newTestScheduler(t, m, SchedulerConfig{Store: store, OnEnd: func(_ string, o Outcome) { ended <- o }})
	child := Child{ID: "p.1", Parent: "p", Key: "p/00000000/1", Module: m.Hash(), Target: "approve", Input: nanoseconds(-1)}
	s.Spawn(ctx, child, func([]byte, error) { t.Error("its parent was told") })
	if o := <-ended; o.Status != snapshot.Cancelled {
		t.Errorf("%+v", o)
	}
}

// TestGivenUpElsewhere has a parent that was restored give up a child that somebody else drives: they hear of it.
func TestGivenUpElsewhere(t *testing.T) {
	m := waiters(t)
	store := snapshot.NewStore(bucket.NewMem())
	leaveGuarded(t, m, store)
	lease, err := store.Acquire(t.Context(), "p.1", snapshot.LeaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	state, _, err := store.Latest(t.Context(), "p.1")
	if err != nil {
		t.Fatal(err)
	}
	parent, key, err := ParentOf(state)
	if err != nil {
		t.Fatal(err)
	}
	inbox := snapshot.NewInboxWatcher(store, snapshot.InboxWatcherOptions{})
	defer inbox.Close()
	told, done := make(chan struct{}, 10), make(chan error, 1)
	defer inbox.Watch("p.1", func() { told <- struct{}{} })()
	s := newTestScheduler(t, m, SchedulerConfig{Store: store, Clock: newFastClock(100)})
	s.Spawn(t.Context(), Child{ID: "p.1", Parent: parent, Key: key, Module: m.Hash(), GivenUp: true}, func(_ []byte, err error) { done <- err })
	<-told
	if mail, err := store.PeekInbox(t.Context(), "p.1"); err != nil || len(mail) != 1 || mail[0].Name != snapshot.CancelMessage {
		t.Errorf("in the inbox: %v, %v", mail, err)
	}
	if err := lease.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !isCancelled(err) {
		t.Errorf("it ended with %v", err)
	}
}

func isCancelled(err error) bool {
	return err != nil && strings.Contains(err.Error(), "child p.1 was cancelled")
}

// TestWaitForStart waits for the end of a coroutine that can't be started, while that is tried.
func TestWaitForStart(t *testing.T) {
	m := waiters(t)
	trying, goOn := make(chan struct{}), make(chan struct{})
	faulty := buckettest.NewFaulty(bucket.NewMem(), func(op buckettest.Op) buckettest.Fault {
		if op.Name == "put" && strings.HasPrefix(op.Key, "coroutines/p.1/") {
			select {
			case <-trying:
			default:
				close(trying)
				<-goOn
				return buckettest.Fault{Before: bucket.ErrUnavailable}
			}
		}
		return buckettest.Fault{}
	})
	s := newTestScheduler(t, m, SchedulerConfig{Store: snapshot.NewStore(faulty)})
	started := make(chan error, 1)
	go func() {
		_, err := s.Start(t.Context(), Program{ID: "p.1", Module: m, Entry: "child", Input: number32(1)})
		started <- err
	}()
	<-trying
	ended := make(chan ending, 1)
	if _, ok := s.whenEnded("p.1", func(e ending) { ended <- e }); !ok {
		t.Fatal("nobody drives it")
	}
	// A child of that id is one, once the other is none.
	done := make(chan error, 1)
	child := Child{ID: "p.1", Parent: "p", Key: "p/00000000/1", Module: m.Hash(), Target: "child", Input: number32(1)}
	s.Spawn(t.Context(), child, func(_ []byte, err error) { done <- err })
	close(goOn)
	if err := <-started; !errors.Is(err, bucket.ErrUnavailable) {
		t.Errorf("it was started: %v", err)
	}
	if e := <-ended; e.Status != snapshot.Suspended || !errors.Is(e.Err, bucket.ErrUnavailable) {
		t.Errorf("its end: %+v", e)
	}
	if err := <-done; err != nil {
		t.Errorf("the child: %v", err)
	}
}

// TestLostInSleep has a coroutine lose its lease while it waits in memory for a message, which somebody else receives.
func TestLostInSleep(t *testing.T) {
	m := waiters(t)
	mem := buckettest.NoLock(bucket.NewMem())
	store := snapshot.NewStore(mem)
	var cut atomic.Bool
	faulty := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		if cut.Load() {
			return buckettest.Fault{Before: bucket.ErrUnavailable}
		}
		return buckettest.Fault{}
	})
	s := newTestScheduler(t, m, SchedulerConfig{Store: snapshot.NewStore(faulty), Clock: newFastClock(10), Lease: snapshot.MinLease})
	if _, err := s.Start(t.Context(), Program{ID: "a", Module: m, Entry: "approve", Input: nanoseconds(-1)}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	op := s.tasks["a"].session.op
	s.mu.Unlock()
	for st := s.Stats(); st.Running > 0 || !op.quiet(); st = s.Stats() {
		time.Sleep(time.Millisecond) //nolint:forbidigo // that it has nothing left to do has no event
	}
	cut.Store(true)
	lease, err := store.Acquire(t.Context(), "a", snapshot.LeaseOptions{OnWait: func(snapshot.Wait) {}})
	if err != nil {
		t.Fatal(err)
	}
	cancelElsewhere(t, lease)
	cut.Store(false)
	if o := ends(t, s, "a"); o.Status != snapshot.Cancelled {
		t.Errorf("%+v", o)
	}
}

// TestFarAway has coroutines wait until times that nanoseconds since 1970 in 64 bits don't reach: they sleep, and the timers of others
// end.
func TestFarAway(t *testing.T) {
	m := scriptGuest(t)
	clock := &lookedAt{Clock: SystemClock()}
	far := func(year int) step {
		return func(_ hostabi.Coroutine, _ *bytes.Buffer, p *hostabi.Pending) *hostabi.Pending {
			if p == nil {
				p = &hostabi.Pending{Kind: hostabi.KindTimer, Until: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}
			}
			return p
		}
	}
	steps := map[string][]step{
		"2300": {far(2300)}, "2400": {far(2400)}, "9999": {far(9999)},
		"near": {timer(20 * time.Millisecond), awaitAll(1)},
	}
	s := newTestScheduler(t, m, SchedulerConfig{Clock: clock, Hosts: func(_ context.Context, r HostsRequest) ([]hostabi.Instance, error) {
		return []hostabi.Instance{&scripted{steps: steps[r.ID]}}, nil
	}})
	for _, id := range []string{"2300", "2400", "9999", "near"} {
		if _, err := s.Start(t.Context(), Program{ID: id, Module: m}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if o, err := s.Wait(ctx, "near"); (err != nil || o.Status != snapshot.Completed) && !errors.Is(err, ErrNotEnded) {
		t.Errorf("%+v, %v", o, err)
	}
	if n := clock.looks.Load(); n > 200 {
		t.Errorf("the clock was looked at %d times", n)
	}
}

// lookedAt counts how often somebody looks at a clock.
type lookedAt struct {
	Clock
	looks atomic.Int32
}

func (c *lookedAt) Now() time.Time {
	c.looks.Add(1)
	return c.Clock.Now()
}
