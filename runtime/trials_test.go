package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

var errDown = errors.New("503 Service Unavailable")

// calling is a program that calls "work", and waits for that.
func calling() []hostabi.Instance {
	return []hostabi.Instance{&scripted{steps: []step{begin(hostabi.Call, "work", nil), awaitAll(1), results(1)}}}
}

// progressOf returns how far operation 1 of a coroutine has come, and what it waits for, as its last commit has them.
func progressOf(t *testing.T, store *snapshot.Store, id string) (handler.Progress, string) {
	t.Helper()
	s, _, err := store.Latest(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := OperationsOf(s)
	if err != nil || len(ops) != 1 {
		t.Fatal(ops, err)
	}
	return ops[0].Progress, s.Await.Detail
}

// TestFailedAttempts has a call fail for an hour: the store says so, with few commits; whoever goes on with the coroutine, goes on
// with its attempts, be it after a stop or a crash.
func TestFailedAttempts(t *testing.T) {
	m := scriptGuest(t)
	synctest.Test(t, func(t *testing.T) {
		store := snapshot.NewStore(bucket.NewMem())
		begun := time.Now()
		var mu sync.Mutex // that time has passed orders nothing by itself
		var attempts []handler.Call
		var starts []time.Time
		var commits []time.Duration
		set := &handler.Set{}
		set.Handle("work", func(_ context.Context, c handler.Call) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			attempts, starts = append(attempts, c), append(starts, time.Now())
			if time.Since(begun) < time.Hour {
				return nil, errDown
			}
			return []byte("done"), nil
		}, handler.Policy{MaxBackoff: 10 * time.Second})
		attempted := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(attempts)
		}
		committed := func() []time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(commits)
		}
		drive := func(ctx context.Context, c *Coroutine) (snapshot.Status, error) {
			defer c.Close()
			d := Driver{Store: store, Outside: &Outside{Handlers: set}, OnCommit: func(snapshot.Commit) {
				mu.Lock()
				defer mu.Unlock()
				commits = append(commits, time.Since(begun))
			}}
			return d.Drive(ctx, c)
		}
		c, err := m.Start(t.Context(), StartConfig{ID: "s", Hosts: calling()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			if _, err := drive(ctx, c); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
		pass(2*time.Second + 1)
		if p, detail := progressOf(t, store, "s"); p.Err != errDown.Error() || p.Attempt < 3 || p.Started.IsZero() || p.Next.IsZero() ||
			detail != fmt.Sprintf("call work (attempt %d: %v)", p.Attempt, errDown) {
			t.Errorf("after 2 s: %+v, waiting for %s", p, detail)
		}
		pass(30 * time.Minute)
		if c := committed(); len(c) < 30 || len(c) > 40 || c[len(c)-1] < 28*time.Minute {
			t.Errorf("%d attempts, commits after %v", attempted(), c)
		}
		for p, _ := progressOf(t, store, "s"); p.Attempt == attempted(); { // until an attempt has failed that no commit has
			pass(time.Second)
		}
		cancel()
		<-stopped
		before, _ := progressOf(t, store, "s")
		if n := len(attempts); before.Attempt != n || !before.Started.Equal(starts[n-1]) || before.Throttled != 0 {
			t.Errorf("after a stop %+v, at attempt %d from %v", before, n, starts[n-1])
		}

		// As after a crash, from a commit that is some attempts old.
		var old handler.Progress
		seq := uint64(len(commits) - 2)
		s, _, err := store.At(t.Context(), "s", seq)
		if err == nil {
			old = *mustABI(t, s).ops.get(1).progress
			c, err = m.RestoreFrom(t.Context(), store, "s", seq, RestoreConfig{Hosts: calling()})
		}
		if err != nil {
			t.Fatal(err)
		}
		if old.Attempt >= before.Attempt {
			t.Fatalf("commit %d has attempt %d already", seq, old.Attempt)
		}
		if got := c.Pending().Detail; got != "call work" {
			t.Errorf("restored, it waits for %q", got)
		}
		n, restored := len(attempts), time.Now()
		ctx, cancel = context.WithCancel(t.Context())
		if _, err := drive(ctx, c); !errors.Is(err, snapshot.ErrFenced) {
			t.Error(err)
		}
		cancel()
		if len(attempts) == n || attempts[n].Attempt != old.Attempt+1 || starts[n].Sub(restored) > time.Minute {
			t.Errorf("attempts %+v after number %d", attempts[n:], old.Attempt)
		}

		if c, err = m.RestoreFrom(t.Context(), store, "s", 0, RestoreConfig{Hosts: calling()}); err != nil {
			t.Fatal(err)
		}
		n, restored = len(attempts), time.Now()
		if status, err := drive(t.Context(), c); status != snapshot.Completed || err != nil {
			t.Fatal(status, err)
		}
		if first := attempts[n]; first.Attempt != before.Attempt+1 || before.Next.After(restored) && starts[n].Before(before.Next) {
			t.Errorf("attempt %d at %v, after %+v", first.Attempt, starts[n], before)
		}
		if got := logsOf(t, store, "s"); !strings.Contains(got, `1: "done" <nil>`) {
			t.Error(got)
		}
	})
}

// pass lets time pass in a synctest bubble, and waits for what happens then.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func mustABI(t *testing.T, s *snapshot.Snapshot) *abi {
	t.Helper()
	a, err := abiOf(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestFailedAttemptsSession has attempts fail while a commit is made, and before the coroutine leaves memory.
func TestFailedAttemptsSession(t *testing.T) {
	store := snapshot.NewStore(bucket.NewMem())
	set := &handler.Set{}
	started := make(chan struct{})
	set.Handle("work", func(ctx context.Context, _ handler.Call) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}, handler.Policy{})
	m := scriptGuest(t)
	clock := time.Now()
	script := func() *scripted {
		return &scripted{steps: []step{begin(hostabi.Call, "work", nil), timer(time.Hour), awaitAll(2), awaitAll(1)}}
	}
	c := suspendedScript(t, m, store, script())
	d := &Driver{Store: store, Outside: &Outside{Handlers: set, Now: func() time.Time { return clock }}}
	ss := newSession(t.Context(), d, c, func() {})
	if _, err := ss.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-started
	fails := func(n int) {
		ss.op.advances(1, handler.Progress{Attempt: n, Started: clock, Err: errDown.Error(), Next: clock.Add(time.Hour)})
	}
	commit := func() {
		t.Helper()
		if v, until, _ := ss.poll(); v != waitOn || !until.Equal(ss.op.trials()) {
			t.Errorf("%v until %v, want to wait until %v", v, until, ss.op.trials())
		}
		if err := ss.commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if due := ss.op.trials(); !due.IsZero() {
		t.Errorf("a commit is due at %v, and nothing has failed", due)
	}
	fails(1)
	if due := ss.op.trials(); due.Sub(clock) != trialsInterval {
		t.Errorf("a commit is due %v after the failure", due.Sub(clock))
	}
	d.OnCommit = func(snapshot.Commit) { fails(2) }
	commit()
	if ss.op.trials().IsZero() {
		t.Error("an attempt that failed while a commit was made is not to be committed")
	}
	d.OnCommit = nil
	commit()
	if due := ss.op.trials(); !due.IsZero() {
		t.Errorf("a commit is due at %v, and the last one has all", due)
	}

	clock = clock.Add(2 * time.Hour)
	if v, _, _ := ss.poll(); v != goOn {
		t.Errorf("%v, want that the guest goes on", v)
	}
	if _, err := ss.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ss.op.hasNews() {
		t.Error("there is news, and nothing has happened")
	}
	fails(3)
	if due := ss.op.trials(); due.Sub(clock) != trialsInterval || !ss.op.hasNews() {
		t.Errorf("a commit is due %v after the failure, news: %v", due.Sub(clock), ss.op.hasNews())
	}
	ss.op.arrive()
	op := ss.detach(t.Context())
	c2, err := m.RestoreFrom(t.Context(), store, "s", 0, RestoreConfig{Hosts: []hostabi.Instance{script()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	if p := c2.abi.ops.get(1).progress; p.Attempt != 2 {
		t.Errorf("restored with %+v", p)
	}
	ss = newSession(t.Context(), d, c2, func() {})
	ss.takeOver(op)
	ss.op.arrive()
	if p := c2.abi.ops.get(1).progress; p.Attempt != 3 {
		t.Errorf("taken over with %+v", p)
	}
	ss.close(t.Context(), nil)
}

// TestFailedAttemptsIdle has calls fail of coroutines that are not in memory. The store comes to say so, but they don't come
// back into memory for that all at once, and their attempts go on all the while.
func TestFailedAttemptsIdle(t *testing.T) {
	const n = 40
	m := scriptGuest(t)
	synctest.Test(t, func(t *testing.T) {
		store := snapshot.NewStore(bucket.NewMem())
		if err := m.keep(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		fails := make(chan struct{})
		last := map[string]int{}
		set := &handler.Set{}
		set.Handle("work", func(_ context.Context, c handler.Call) ([]byte, error) {
			<-fails
			mu.Lock()
			defer mu.Unlock()
			if c.Attempt != last[c.Coroutine]+1 {
				t.Errorf("%s: attempt %d after %d", c.Coroutine, c.Attempt, last[c.Coroutine])
			}
			if last[c.Coroutine]++; c.Attempt == 8 {
				return nil, nil
			}
			return nil, errDown
		}, handler.Policy{Backoff: time.Second, AttemptTimeout: -1})
		var commits []time.Time
		loads := map[string]int{}
		s := newTestScheduler(t, m, SchedulerConfig{
			Store: store, Memory: 1, Handlers: set,
			Hosts: func(_ context.Context, r HostsRequest) ([]hostabi.Instance, error) {
				mu.Lock()
				defer mu.Unlock()
				loads[r.ID]++
				return calling(), nil
			},
			OnCommit: func(snapshot.Commit) {
				mu.Lock()
				defer mu.Unlock()
				commits = append(commits, time.Now())
			},
		})
		for i := range n {
			if _, err := s.Start(t.Context(), Program{ID: fmt.Sprint(i), Module: m}); err != nil {
				t.Fatal(err)
			}
		}
		pass(time.Hour)
		if s.resident != 0 {
			t.Fatalf("%d are in memory", s.resident)
		}
		mu.Lock()
		commits = nil
		mu.Unlock()
		close(fails)
		pass(trialsInterval + n*visitPause)
		mu.Lock()
		if len(commits) != n {
			t.Fatalf("%d commits for %d coroutines", len(commits), n)
		}
		for i := range commits[1:] {
			if d := commits[i+1].Sub(commits[i]); d < visitPause {
				t.Errorf("two commits within %v", d)
			}
		}
		mu.Unlock()
		if s.resident != 0 {
			t.Errorf("%d are in memory", s.resident)
		}
		for i := range n {
			if p, detail := progressOf(t, store, fmt.Sprint(i)); p.Err == "" || !strings.HasSuffix(detail, "Unavailable)") {
				t.Errorf("%+v, waiting for %s", p, detail)
			}
		}
		for i := range n {
			if o, err := s.Wait(t.Context(), fmt.Sprint(i)); err != nil || o.Status != snapshot.Completed {
				t.Errorf("%+v, %v", o, err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for id, n := range loads {
			if n > 9 { // to start, for its failures, to go on
				t.Errorf("%s came into memory %d times", id, n)
			}
		}
	})
}
