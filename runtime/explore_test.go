package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// A family is a coroutine "p" with calls, timers, messages and children, one of which it gives up and one of which it forgets.
// Whatever befalls who drives it, it has to end as it does when nothing does.

// familySteps returns the script of a member of the family.
func familySteps(id string) []step {
	switch id {
	case "p":
		return []step{
			begin(hostabi.Call, "effect", []byte("a")),                   // 1
			begin(hostabi.Spawn, "", nil), begin(hostabi.Spawn, "", nil), // 2, 3
			begin(hostabi.Recv, "news", nil), begin(hostabi.Recv, "news", nil), // 4, 5
			timer(time.Millisecond), // 6
			awaitAll(1, 6), results(1),
			begin(hostabi.Call, "effect", []byte("b")), awaitAll(4, 7), results(4, 7),
			awaitAll(5), results(5),
			giveUp(3), awaitAll(3), results(3),
			awaitAll(2), results(2),
			drop(1, 2, 3, 4, 5, 6, 7),
			begin(hostabi.Spawn, "", nil), timer(time.Millisecond), awaitAll(9), drop(8), // 8, 9
			begin(hostabi.Call, "effect", []byte("c")), awaitAll(10), results(10),
		}
	case "p.2":
		return []step{begin(hostabi.Call, "effect", []byte(id)), awaitAll(1), results(1), output("the child's")}
	default:
		return []step{
			begin(hostabi.Recv, "never", nil), awaitAll(1),
			begin(hostabi.Call, "effect", []byte(id+" cleans up")), awaitAll(2), exit(3),
		}
	}
}

// familyLog is what "p" writes.
const familyLog = `ended [1 6] <nil>
1: "did a" <nil>
ended [4 7] <nil>
4: "first" <nil>
7: "did b" <nil>
ended [5] <nil>
5: "second" <nil>
ended [3] <nil>
3: "" cancelled: child p.3 was cancelled
ended [2] <nil>
2: "the child's" <nil>
ended [9] <nil>
ended [10] <nil>
10: "did c" <nil>
`

func giveUp(op uint32) step {
	return func(h hostabi.Coroutine, w *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
		if err := h.Cancel(op); err != nil {
			fmt.Fprintf(w, "cancel: %v\n", err)
		}
		return nil
	}
}

func output(value string) step {
	return func(h hostabi.Coroutine, _ *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
		h.SetOutput([]byte(value))
		return nil
	}
}

func exit(code uint32) step {
	return func(hostabi.Coroutine, *bytes.Buffer, *hostabi.Pending) *hostabi.Pending {
		panic(sys.NewExitError(code))
	}
}

// family is what one acts on: a store, and what was done for it.
type family struct {
	module *Module
	mem    *bucket.Mem
	store  *snapshot.Store // as senders see it, whose storage never fails
	inbox  *snapshot.InboxWatcher

	delay time.Duration // an effect takes less than that, if it isn't zero

	mu   sync.Mutex
	keys map[string]map[string]bool // of each effect
}

func newFamily(t *testing.T, m *Module) *family {
	w := &family{module: m, mem: bucket.NewMem(), keys: map[string]map[string]bool{}}
	w.store = snapshot.NewStore(w.mem)
	w.inbox = snapshot.NewInboxWatcher(w.store, snapshot.InboxWatcherOptions{})
	t.Cleanup(func() { _ = w.inbox.Close() })
	return w
}

func (w *family) effect(ctx context.Context, c handler.Call) ([]byte, error) {
	if w.delay > 0 {
		select {
		case <-time.After(rand.N(w.delay)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keys[string(c.Body)] == nil {
		w.keys[string(c.Body)] = map[string]bool{}
	}
	w.keys[string(c.Body)][c.Key] = true
	return append([]byte("did "), c.Body...), nil
}

// node returns a scheduler over a bucket, which leads to the world's.
func (w *family) node(b bucket.Bucket, memory int64) *Scheduler {
	set := &handler.Set{}
	set.Handle("effect", w.effect, handler.Policy{})
	return NewScheduler(w.module.runtime, SchedulerConfig{
		Store: snapshot.NewStore(b), Memory: memory, Handlers: set, Inbox: w.inbox, Clock: newFastClock(100), Workers: 2, Lease: snapshot.MinLease,
		Hosts: func(_ context.Context, r HostsRequest) ([]hostabi.Instance, error) {
			return []hostabi.Instance{&scripted{steps: familySteps(r.ID)}}, nil
		},
	})
}

// begin starts the family, unless it is there, and sends its messages, perhaps again. It reports whether it is there.
func (w *family) begin(ctx context.Context, s *Scheduler) (bool, error) {
	if _, err := s.ResumeAll(ctx); err != nil {
		return false, err
	}
	_, err := s.Start(ctx, Program{ID: "p", Module: w.module})
	if errors.Is(err, snapshot.ErrExist) {
		_, err = s.ResumeAll(ctx) // it may have come to be just now, by somebody who has lost it
	}
	if err != nil {
		return false, err
	}
	if err := w.send(ctx); err != nil {
		return false, err
	}
	return true, nil
}

// send sends the family's messages, perhaps again.
func (w *family) send(ctx context.Context) error {
	for n, text := range []string{"first", "second"} {
		_, err := w.store.Send(ctx, "p", snapshot.Message{
			Name: "news", Key: text, Data: []byte(text), Sent: time.Unix(int64(1000+n), 0),
		})
		if err != nil && !errors.Is(err, snapshot.ErrEnded) {
			return err
		}
	}
	return nil
}

// drain waits until a node has nothing of the family left to be driven.
func (w *family) drain(ctx context.Context, s *Scheduler) error {
	for s.Stats().Coroutines > 0 { // the one that ended last may have had a child
		if err := s.Drain(ctx); err != nil {
			return fmt.Errorf("drain: %w\n%s", err, w.describe(s))
		}
	}
	return nil
}

// end is drain, and says what is wrong with how the family has ended.
func (w *family) end(ctx context.Context, s *Scheduler) error {
	if err := w.drain(ctx, s); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := w.store.Logs(ctx, "p", &out, nil); err != nil {
		return err
	}
	if d := cmp.Diff(familyLog, out.String()); d != "" {
		return errors.New(d)
	}
	for c, err := range w.store.List(ctx) {
		if err != nil {
			return err
		}
		if want := map[bool]snapshot.Status{true: snapshot.Completed, false: snapshot.Cancelled}[c.Coroutine == "p" || c.Coroutine == "p.2"]; c.Status != want {
			return fmt.Errorf("%s: %v", c.Coroutine, c.Status)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range []string{"a", "b", "c", "p.2"} {
		if w.keys[e] == nil {
			return fmt.Errorf("effect %s is missing", e)
		}
	}
	for e, keys := range w.keys {
		if len(keys) != 1 {
			return fmt.Errorf("effect %s was made under the keys %q", e, slices.Sorted(maps.Keys(keys)))
		}
	}
	return nil
}

// describe says what a scheduler still has, and where that stands.
func (w *family) describe(s *Scheduler) string {
	var b strings.Builder
	s.mu.Lock()
	for id, t := range s.tasks {
		fmt.Fprintf(&b, "%s: state %d, woken %v, alarm %d, counts %v\n", id, t.state, t.woken, t.alarm, t.counts)
	}
	s.mu.Unlock()
	for c, err := range w.store.List(context.Background()) {
		fmt.Fprintf(&b, "%s: %v at %d, %v\n", c.Coroutine, c.Status, c.Seq, err)
	}
	mail, err := w.store.PeekInbox(context.Background(), "p")
	fmt.Fprintf(&b, "mail %v, %v", mail, err)
	return b.String()
}

// cut is a plan that has the n-th operation of the store fail, as plan says, and tells when it does.
func cut(n int, plan func(buckettest.Op) buckettest.Fault) (tell func(buckettest.Op) buckettest.Fault, reached chan struct{}) {
	reached = make(chan struct{})
	once := sync.OnceFunc(func() { close(reached) })
	return func(o buckettest.Op) buckettest.Fault {
		if o.N >= n {
			once()
		}
		return plan(o)
	}, reached
}

// TestFamilyCrashes has the node that drives a family die at one operation of the store after the other. Another one goes on.
func TestFamilyCrashes(t *testing.T) {
	m := scriptGuest(t)
	step := 1
	if guests.RaceEnabled {
		step = 5
	}
	for _, memory := range []int64{0, 1} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("memory=%d, after=%v", memory, after), func(t *testing.T) {
				n := 0
				for ; ; n += step {
					w := newFamily(t, m)
					plan, reached := cut(n, buckettest.CrashAt(n, after))
					crashed, err := w.crash(t.Context(), buckettest.NewFaulty(w.mem, plan), memory, reached)
					if err != nil {
						t.Fatalf("crash at operation %d: %v", n, err)
					}
					if !crashed {
						break
					}
				}
				t.Logf("%d operations", n)
			})
		}
	}
}

// crash drives a family until reached is closed, and then on with another node. It reports whether it came to that.
func (w *family) crash(ctx context.Context, b bucket.Bucket, memory int64, reached <-chan struct{}) (crashed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	alive, dies := context.WithCancel(ctx)
	defer dies()
	defer context.AfterFunc(ctx, dies)()
	ended := make(chan struct{})
	var first error
	s := w.node(b, memory)
	go func() {
		defer close(ended)
		if ok, err := w.begin(alive, s); !ok {
			first = err
		} else {
			first = w.end(alive, s)
		}
	}()
	select {
	case <-reached:
		dies()
		<-ended
	case <-ended:
		select {
		case <-reached:
		default:
			return false, errors.Join(first, s.Close(ctx))
		}
	}
	dead, kill := context.WithCancel(ctx)
	kill()
	_ = s.Close(dead)
	s = w.node(w.mem, memory)
	defer s.Close(ctx)
	if _, err := w.begin(ctx, s); err != nil {
		return true, err
	}
	return true, w.end(ctx, s)
}

// TestFamilyFaults has one operation of the store after the other fail, or some puts in a row because the disk is full, while a family
// is driven. What can be tried again is.
func TestFamilyFaults(t *testing.T) {
	m := scriptGuest(t)
	faults := map[string]func(n int) func(buckettest.Op) buckettest.Fault{
		"before": func(n int) func(buckettest.Op) buckettest.Fault {
			return buckettest.FailAt(n, bucket.ErrUnavailable, false)
		},
		"after": func(n int) func(buckettest.Op) buckettest.Fault {
			return buckettest.FailAt(n, bucket.ErrUnavailable, true)
		},
		"full": func(n int) func(buckettest.Op) buckettest.Fault {
			return func(o buckettest.Op) buckettest.Fault {
				if o.N < n || o.N > n+5 {
					return buckettest.Fault{}
				}
				return buckettest.FullDisk(o)
			}
		},
	}
	step := 1
	if guests.RaceEnabled {
		step = 5
	}
	for _, memory := range []int64{0, 1} {
		for name, fault := range faults {
			t.Run(fmt.Sprintf("memory=%d, %s", memory, name), func(t *testing.T) {
				t.Parallel()
				var over atomic.Bool // as many operations as that there aren't
				var next atomic.Int64
				var workers sync.WaitGroup
				for range 8 { // they wait, as a rule, for the time of another attempt
					workers.Go(func() {
						for !over.Load() && !t.Failed() {
							n := int(next.Add(int64(step))) - step
							w := newFamily(t, m)
							plan, reached := cut(n, fault(n))
							if err := w.survive(t.Context(), buckettest.NewFaulty(w.mem, plan), memory); err != nil {
								t.Errorf("fault at operation %d: %v", n, err)
							}
							select {
							case <-reached:
							default:
								over.Store(true)
							}
						}
					})
				}
				workers.Wait()
				t.Logf("%d operations", next.Load())
			})
		}
	}
}

// survive drives a family to its end.
func (w *family) survive(ctx context.Context, b bucket.Bucket, memory int64) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	s := w.node(b, memory)
	defer s.Close(ctx)
	for try := 0; ; try++ {
		ok, err := w.begin(ctx, s)
		if ok {
			return w.end(ctx, s)
		}
		if try == 10 || !errors.As(err, new(*bucket.Error)) {
			return fmt.Errorf("begin: %w", err)
		}
	}
}

// TestFamilyTwoNodes has the node that drives a family die at one operation of the store after the other, while another one drives as
// much of it as it gets.
func TestFamilyTwoNodes(t *testing.T) {
	m := scriptGuest(t)
	step := 1
	if guests.RaceEnabled {
		step = 5
	}
	for _, memory := range []int64{0, 1} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("memory=%d, after=%v", memory, after), func(t *testing.T) {
				t.Parallel()
				n := 0
				for ; ; n += step {
					w := newFamily(t, m)
					plan, reached := cut(n, buckettest.CrashAt(n, after))
					crashed, err := w.contend(t.Context(), buckettest.NewFaulty(w.mem, plan), memory, reached)
					if err != nil {
						t.Fatalf("crash at operation %d: %v", n, err)
					}
					if !crashed {
						break
					}
				}
				t.Logf("%d operations", n)
			})
		}
	}
}

// contend drives a family with two nodes until reached is closed, and then on with the other one. It reports whether it came to that.
func (w *family) contend(ctx context.Context, b bucket.Bucket, memory int64, reached <-chan struct{}) (crashed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	alive, dies := context.WithCancel(ctx)
	defer dies()
	ended := make(chan struct{})
	var first error
	s, other := w.node(b, memory), w.node(w.mem, memory)
	defer other.Close(ctx)
	go func() {
		defer close(ended)
		var ok bool
		if ok, first = w.begin(alive, s); ok {
			if _, first = other.ResumeAll(ctx); first == nil {
				first = w.end(alive, s)
			}
		}
	}()
	select {
	case <-reached:
		dies()
		<-ended
	case <-ended:
		select {
		case <-reached:
		default:
			return false, errors.Join(first, s.Close(ctx))
		}
	}
	dead, kill := context.WithCancel(ctx)
	kill()
	_ = s.Close(dead)
	if _, err := w.begin(ctx, other); err != nil {
		return true, err
	}
	return true, w.end(ctx, other)
}

// TestFamilyPaused has the node that drives a family stand still at one operation of the store after the other, until its leases have
// run out and another node has made some commits. Then the first one wakes, and believes that nothing has happened.
func TestFamilyPaused(t *testing.T) {
	m := scriptGuest(t)
	step := 1
	if guests.RaceEnabled {
		step = 5
	}
	for _, memory := range []int64{0, 1} {
		for _, away := range []int{0, 2, 1000} {
			t.Run(fmt.Sprintf("memory=%d, away=%d", memory, away), func(t *testing.T) {
				n := 0
				for paused := true; paused; n += step {
					synctest.Test(t, func(t *testing.T) { // where leases run out in no time, and none because the machine is slow
						var err error
						w := newFamily(t, m)
						w.delay = 10 * time.Millisecond // so that the two nodes' commits differ
						if paused, err = w.pause(t.Context(), n, away, memory); err != nil {
							t.Fatalf("pause at operation %d: %v", n, err)
						}
					})
				}
				t.Logf("%d operations", n)
			})
		}
	}
}

// standing is a bucket as a process sees it that stands still at its n-th operation. When it wakes, it goes on with that one
// first, and finds out as late as can be what has happened. The operations that were under way are done also if nobody waits
// for them any more.
type standing struct {
	bucket.Bucket
	n      int64
	done   atomic.Int64
	stands chan struct{} // closed when it does
	wakes  chan struct{} // closed when it goes on with the n-th operation
	others chan struct{} // closed when it goes on with those that it came to meanwhile
}

func newStanding(b bucket.Bucket, n int) *standing {
	return &standing{Bucket: b, n: int64(n), stands: make(chan struct{}), wakes: make(chan struct{}), others: make(chan struct{})}
}

// enter is called before each operation, which is done with the context that it returns.
func (b *standing) enter(ctx context.Context) context.Context {
	switch n := b.done.Add(1) - 1; {
	case n < b.n:
		return ctx
	case n == b.n:
		close(b.stands)
		<-b.wakes
	default:
		select {
		case <-b.wakes:
			return ctx
		default:
			<-b.others
		}
	}
	return context.WithoutCancel(ctx)
}

// wake has the process go on. It is called once, in a bubble of synctest.
func (b *standing) wake() {
	close(b.wakes)
	go func() {
		synctest.Wait() // there is nothing left that it does by itself
		close(b.others)
	}()
}

func (b *standing) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	return b.Bucket.Put(b.enter(ctx), key, body, size)
}

func (b *standing) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	return b.Bucket.Get(b.enter(ctx), key, offset, length)
}

func (b *standing) Stat(ctx context.Context, key string) (bucket.Entry, error) {
	return b.Bucket.Stat(b.enter(ctx), key)
}

func (b *standing) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	return func(yield func(bucket.Entry, error) bool) { b.Bucket.List(b.enter(ctx), o)(yield) }
}

func (b *standing) Delete(ctx context.Context, key string) error {
	return b.Bucket.Delete(b.enter(ctx), key)
}

// pause drives a family with one node until its n-th operation, then with another one, and after so many commits, or the end, with
// both. It reports whether it came to that.
func (w *family) pause(ctx context.Context, n, away int, memory int64) (paused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	mem := buckettest.NoLock(w.mem)
	b := newStanding(mem, n)
	wakes := sync.OnceFunc(b.wake)
	s := w.node(b, memory)
	defer s.Close(ctx)
	defer wakes()
	ended := make(chan error, 1)
	go func() {
		ok, err := w.begin(ctx, s)
		if ok {
			err = w.drain(ctx, s)
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return false, errors.Join(err, w.end(ctx, s))
	case <-b.stands:
	}
	other := w.node(buckettest.NewFaulty(mem, func(o buckettest.Op) buckettest.Fault {
		if o.Name == "put" && strings.HasPrefix(o.Key, "coroutines/") {
			if away--; away < 0 {
				wakes()
			}
		}
		return buckettest.Fault{}
	}), memory)
	defer other.Close(ctx)
	for {
		ok, err := w.begin(ctx, other)
		if ok {
			break
		}
		if !errors.Is(err, snapshot.ErrBusy) {
			return true, fmt.Errorf("the other one begins: %w", err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if err := w.drain(ctx, other); err != nil {
		return true, fmt.Errorf("the other one: %w\nbeside\n%s", err, w.describe(s))
	}
	wakes()
	if err := <-ended; err != nil && !errors.Is(err, snapshot.ErrFenced) && !errors.Is(err, snapshot.ErrBusy) {
		return true, fmt.Errorf("the one that stood still: %w", err)
	}
	return true, w.end(ctx, s)
}

// TestFamilyDriver is TestFamilyCrashes where a [Driver] drives the parent, and a scheduler its children.
func TestFamilyDriver(t *testing.T) {
	m := scriptGuest(t)
	step := 1
	if guests.RaceEnabled {
		step = 5
	}
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%v", after), func(t *testing.T) {
			t.Parallel()
			n := 0
			for ; ; n += step {
				w := newFamily(t, m)
				plan, reached := cut(n, buckettest.CrashAt(n, after))
				crashed, err := w.crashDriver(t.Context(), buckettest.NewFaulty(w.mem, plan), reached)
				if err != nil {
					t.Fatalf("crash at operation %d: %v", n, err)
				}
				if !crashed {
					break
				}
			}
			t.Logf("%d operations", n)
		})
	}
}

// crashDriver is crash for a [Driver].
func (w *family) crashDriver(ctx context.Context, b bucket.Bucket, reached <-chan struct{}) (crashed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	alive, dies := context.WithCancel(ctx)
	defer dies()
	ended := make(chan struct{})
	var first error
	s := w.node(b, 0)
	go func() {
		defer close(ended)
		first = w.drive(alive, s)
	}()
	select {
	case <-reached:
		dies()
		<-ended
	case <-ended:
		select {
		case <-reached:
		default:
			return false, errors.Join(first, s.Close(ctx))
		}
	}
	dead, kill := context.WithCancel(ctx)
	kill()
	_ = s.Close(dead)
	s = w.node(w.mem, 0)
	defer s.Close(ctx)
	return true, w.drive(ctx, s)
}

// drive drives a family to its end: the parent by a [Driver], the others by a scheduler.
func (w *family) drive(ctx context.Context, s *Scheduler) error {
	if err := w.driveParent(ctx, s); err != nil && !errors.Is(err, ErrEnded) {
		return err
	}
	if _, err := s.ResumeAll(ctx); err != nil { // the children that are left
		return err
	}
	return w.end(ctx, s)
}

func (w *family) driveParent(ctx context.Context, s *Scheduler) error {
	store := s.config.Store
	lease, err := store.Acquire(ctx, "p", snapshot.LeaseOptions{})
	if err != nil {
		return err
	}
	defer lease.Release()
	hosts := []hostabi.Instance{&scripted{steps: familySteps("p")}}
	c, err := w.module.RestoreFrom(ctx, store, "p", 0, RestoreConfig{Hosts: hosts})
	if errors.Is(err, snapshot.ErrNotFound) {
		c, err = w.module.Start(ctx, StartConfig{ID: "p", Hosts: hosts})
	}
	if err != nil {
		return err
	}
	defer c.Close()
	d := Driver{
		Store: store, Lease: lease, Outside: &s.outside,
		Ensure:   func(ctx context.Context) error { return w.module.keep(ctx, store) },
		OnCommit: func(snapshot.Commit) { err = errors.Join(err, w.send(ctx)) },
	}
	if c.parent != nil { // who was to send may have died
		err = w.send(ctx)
	}
	_, derr := d.Drive(ctx, c)
	return errors.Join(derr, err)
}
