package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// waiters compiles testdata/wat/coroutines.wat.
func waiters(t testing.TB) *Module {
	t.Helper()
	m, err := testRuntime(t).Compile(context.Background(), waitersBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func waitersBinary(t testing.TB) []byte {
	t.Helper()
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "wat", "coroutines.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// echoing returns handlers with one, "echo".
func echoing(f handler.Func) *handler.Set {
	var set handler.Set
	set.Handle("echo", f, handler.Policy{})
	return &set
}

func answer(_ context.Context, c handler.Call) ([]byte, error) { return c.Body, nil }

// newTestScheduler returns a scheduler over a store, that of config if it has one.
func newTestScheduler(t testing.TB, m *Module, config SchedulerConfig) *Scheduler {
	t.Helper()
	if config.Store == nil {
		config.Store = snapshot.NewStore(bucket.NewMem())
	}
	s := NewScheduler(m.runtime, config)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func number32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// numbers decodes a result.
func numbers(b []byte) (n []uint32) {
	for ; len(b) >= 4; b = b[4:] {
		n = append(n, binary.LittleEndian.Uint32(b))
	}
	return n
}

// ends waits for a coroutine, at most for a minute.
func ends(t testing.TB, s *Scheduler, id string) Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := s.Wait(ctx, id)
	if err != nil {
		t.Fatalf("wait for %s: %v", id, err)
	}
	return o
}

// TestScheduler runs a coroutine of each sort at once, with room for all of them in memory and for none.
func TestScheduler(t *testing.T) {
	m := waiters(t)
	for _, test := range []struct {
		memory int64
		bucket bucket.Bucket
	}{{0, bucket.NewMem()}, {1, bucket.NewMem()}, {1, buckettest.NoLock(bucket.NewMem())}} {
		t.Run(fmt.Sprintf("memory=%d, %T", test.memory, test.bucket), func(t *testing.T) {
			s := newTestScheduler(t, m, SchedulerConfig{
				Store: snapshot.NewStore(test.bucket), Memory: test.memory, Handlers: echoing(answer),
			})
			cases := []struct {
				entry string
				input []byte
				want  []uint32
			}{
				{"sleep", nanoseconds(20 * time.Millisecond), nil},
				{"steps", number32(20), []uint32{190}},
				{"fan", number32(100), []uint32{4950, 0}},
				{"parent", number32(10), []uint32{90, 0}},
				{"parent", number32(14), []uint32{156, 1}}, // child 13 traps
				{"tree", number32(3), []uint32{15, 0}},
			}
			for i, c := range cases {
				id := fmt.Sprintf("%s-%d", c.entry, i)
				if _, err := s.Start(t.Context(), Program{ID: id, Module: m, Entry: c.entry, Input: c.input}); err != nil {
					t.Fatal(err)
				}
			}
			for i, c := range cases {
				o := ends(t, s, fmt.Sprintf("%s-%d", c.entry, i))
				if o.Status != snapshot.Completed || o.Err != nil || fmt.Sprint(numbers(o.Result)) != fmt.Sprint(c.want) {
					t.Errorf("%s %x: %v %v %v, want %v", c.entry, c.input, o.Status, o.Err, numbers(o.Result), c.want)
				}
			}
			if st := s.Stats(); st.Coroutines != 0 || st.Resident != 0 || st.Bytes != 0 {
				t.Errorf("at the end: %+v", st)
			}
		})
	}
}

// fastClock is a clock that runs faster than the machine's. Its durations pass in a fraction of the time.
type fastClock struct {
	began time.Time
	speed int64
}

func newFastClock(speed int64) *fastClock { return &fastClock{time.Now(), speed} }

func (c *fastClock) Now() time.Time {
	return c.began.Add(time.Since(c.began) * time.Duration(c.speed))
}

func (c *fastClock) AfterFunc(d time.Duration, f func()) func() bool {
	speed := time.Duration(c.speed)
	return SystemClock().AfterFunc((d+speed-1)/speed, f) // not before d has passed
}

// sleepers starts n coroutines that sleep, each for a time of its own within ten minutes from first on, and returns when each is due.
func sleepers(t testing.TB, s *Scheduler, m *Module, n int, first time.Time) map[string]time.Time {
	t.Helper()
	const span = 10 * time.Minute
	due := map[string]time.Time{}
	var starting sync.WaitGroup
	ids := make(chan string)
	for range 16 {
		starting.Go(func() {
			for id := range ids {
				sleep := nanoseconds(due[id].Sub(s.clock.Now()))
				if _, err := s.Start(t.Context(), Program{ID: id, Module: m, Entry: "sleep", Input: sleep}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		due[fmt.Sprintf("t%d", i)] = first.Add(span * time.Duration(i*7919%n) / time.Duration(n))
	}
	for id := range due {
		ids <- id
	}
	close(ids)
	starting.Wait()
	return due
}

// TestSchedulerTimers has very many coroutines sleep, with room in memory for few of them, while the time goes on step by step: all wake
// whose time has come, and no other.
func TestSchedulerTimers(t *testing.T) {
	withoutRace(t)
	n := 100_000
	if testing.Short() || os.Getenv("DURUN_LONG") == "" {
		n = 5_000
	}
	const memory = 64 << 20
	m := waiters(t)
	clock := &manualClock{now: time.Now().Round(0)}
	ended := make(chan string, n)
	s := newTestScheduler(t, m, SchedulerConfig{
		Clock: clock, Memory: memory, MaxCoroutines: n, Retain: snapshot.Policy{Keep: 1},
		OnEnd: func(id string, o Outcome) {
			if o.Status != snapshot.Completed {
				t.Errorf("%s: %+v", id, o)
			}
			ended <- id
		},
	})
	due := sleepers(t, s, m, n, clock.Now().Add(time.Minute))
	for s.Stats().Running > 0 {
		goruntime.Gosched() // until those that have to have left memory
	}
	if stats := s.Stats(); stats.Coroutines != n || stats.Bytes > memory {
		t.Errorf("all asleep: %+v", stats)
	}
	var heap goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&heap)
	t.Logf("heap %d MiB, %d bytes each, of which the store has most", heap.HeapAlloc>>20, heap.HeapAlloc/uint64(n))
	for left := n; left > 0; {
		clock.advance(5 * time.Second)
		ready := 0
		for _, at := range due {
			if !at.After(clock.Now()) {
				ready++
			}
		}
		for range ready {
			select {
			case id := <-ended:
				if early := due[id].Sub(clock.Now()); early > 0 {
					t.Fatalf("%s woke %v before its time", id, early)
				}
				delete(due, id)
			case <-time.After(time.Minute):
				t.Fatalf("only %d of %d have woken", n-len(due), n)
			}
		}
		left -= ready
	}
}

// manualClock is a clock that somebody sets.
type manualClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*manualTimer]bool
}

type manualTimer struct {
	at time.Time
	f  func()
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *manualClock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := &manualTimer{c.now.Add(d), f}
	if d <= 0 {
		go f()
		return func() bool { return false }
	}
	if c.timers == nil {
		c.timers = map[*manualTimer]bool{}
	}
	c.timers[timer] = true
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		waits := c.timers[timer]
		delete(c.timers, timer)
		return waits
	}
}

// advance has time pass, or go back.
func (c *manualClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for timer := range c.timers {
		if !timer.at.After(c.now) {
			delete(c.timers, timer)
			go timer.f()
		}
	}
}

// BenchmarkSchedulerTimers measures by how much sleepers wake too late, on a clock that runs fast, so that all of the ten minutes in
// which they are due take a minute or less.
func BenchmarkSchedulerTimers(b *testing.B) {
	const n, speed = 20_000, 20
	m := waiters(b)
	for range b.N {
		clock := newFastClock(speed)
		type wake struct {
			id string
			at time.Time
		}
		ended := make(chan wake, n)
		s := newTestScheduler(b, m, SchedulerConfig{
			Clock: clock, Memory: 64 << 20, Retain: snapshot.Policy{Keep: 1},
			OnEnd: func(id string, _ Outcome) { ended <- wake{id, clock.Now()} },
		})
		first := clock.Now().Add(n * 500 * time.Microsecond * speed) // when all are there
		due := sleepers(b, s, m, n, first)
		if clock.Now().After(first) {
			b.Fatal("the start has taken too long")
		}
		late := make([]time.Duration, n)
		for i := range late {
			w := <-ended
			late[i] = w.at.Sub(due[w.id]) / speed
		}
		slices.Sort(late)
		b.ReportMetric(float64(late[n/2].Microseconds())/1e3, "ms-late")
		b.ReportMetric(float64(late[n*99/100].Microseconds())/1e3, "ms-late-p99")
		b.ReportMetric(float64(late[n-1].Microseconds())/1e3, "ms-late-max")
	}
}

// TestSchedulerRestart closes a scheduler in the middle of everything, again and again, and goes on with another one.
func TestSchedulerRestart(t *testing.T) {
	m := waiters(t)
	store := snapshot.NewStore(bucket.NewMem())
	slow := func(ctx context.Context, c handler.Call) ([]byte, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Duration(c.Body[0]%7) * time.Millisecond):
			return c.Body, nil
		}
	}
	config := SchedulerConfig{Store: store, Memory: 1, Handlers: echoing(slow)}
	s := newTestScheduler(t, m, config)
	want := map[string][]uint32{"fan": {4950, 0}, "steps": {190}, "tree": {31, 0}, "parent": {156, 1}}
	input := map[string]uint32{"fan": 100, "steps": 20, "tree": 4, "parent": 14}
	for entry := range want {
		if _, err := s.Start(t.Context(), Program{ID: entry, Module: m, Entry: entry, Input: number32(input[entry])}); err != nil {
			t.Fatal(err)
		}
	}
	lives := 0
	for left := []string{"tree"}; len(left) > 0; lives++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(15+lives)*time.Millisecond) // or else they might never get on
		if _, err := s.Wait(ctx, left[0]); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		s = newTestScheduler(t, m, config)
		left = nil
		for entry := range want {
			switch err := s.Resume(t.Context(), entry); {
			case err == nil:
				left = append(left, entry)
			case !errors.Is(err, ErrEnded):
				t.Fatal(err)
			}
		}
	}
	for entry, want := range want {
		if o := ends(t, s, entry); o.Status != snapshot.Completed || fmt.Sprint(numbers(o.Result)) != fmt.Sprint(want) {
			t.Errorf("%s: %v %v, want %v", entry, o, numbers(o.Result), want)
		}
	}
	t.Logf("%d lives", lives)
}

// TestSchedulerMessages leaves messages for coroutines that wait in memory and elsewhere, and cancels some.
func TestSchedulerMessages(t *testing.T) {
	m := waiters(t)
	for _, memory := range []int64{0, 1} {
		t.Run(fmt.Sprintf("memory=%d", memory), func(t *testing.T) {
			begun := make(chan struct{})
			s := newTestScheduler(t, m, SchedulerConfig{Memory: memory, OnCommit: func(c snapshot.Commit) {
				if c.Coroutine == "parent.1" && c.Seq == 1 {
					close(begun)
				}
			}})
			start := func(id, entry string, input []byte) {
				t.Helper()
				if _, err := s.Start(t.Context(), Program{ID: id, Module: m, Entry: entry, Input: input}); err != nil {
					t.Fatal(err)
				}
			}
			start("asked", "approve", nanoseconds(-1))
			start("late", "approve", nanoseconds(10*time.Millisecond))
			start("cancelled", "approve", nanoseconds(-1))
			start("parent", "guardian", nil)
			start("careless", "careless", nil)
			start("asleep", "sleep", nanoseconds(time.Hour))

			if o := ends(t, s, "late"); o.Status != snapshot.Completed || len(o.Result) != 0 {
				t.Errorf("without a message: %+v", o)
			}
			if _, err := s.Send(t.Context(), "asked", snapshot.Message{Name: "approval", Data: []byte("yes")}); err != nil {
				t.Fatal(err)
			}
			if o := ends(t, s, "asked"); string(o.Result) != "yes" {
				t.Errorf("with a message: %+v", o)
			}
			// One of them ends well although it is told.
			for id, want := range map[string]snapshot.Status{"cancelled": snapshot.Cancelled, "asleep": snapshot.Completed} {
				if err := s.Cancel(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				if o := ends(t, s, id); o.Status != want {
					t.Errorf("%s: %+v", id, o)
				}
			}
			// A child is cancelled when its parent ends, and told to by its operation.
			if o := ends(t, s, "careless"); o.Status != snapshot.Completed {
				t.Errorf("careless: %+v", o)
			}
			// It may have had no time to start.
			for s.Drives("careless.1") {
				if _, err := s.Wait(t.Context(), "careless.1"); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
					t.Fatal(err)
				}
			}
			if head, err := s.config.Store.Head(t.Context(), "careless.1"); !errors.Is(err, snapshot.ErrNotFound) && (err != nil || head.Status != snapshot.Cancelled) {
				t.Errorf("the child of one that has ended: %v, %v", head.Status, err)
			}
			<-begun
			if _, err := s.Send(t.Context(), "parent.1", snapshot.Message{Name: "approval", Data: []byte("to the child")}); err != nil {
				t.Fatal(err)
			}
			if o := ends(t, s, "parent"); string(o.Result) != "to the child" {
				t.Errorf("the parent of one that got a message: %+v", o)
			}
		})
	}
}

// TestSchedulerFairness has guests compute for ever, more than there are workers, beside one that has something to do. When the
// scheduler is closed they are stopped.
func TestSchedulerFairness(t *testing.T) {
	m := waiters(t)
	s := NewScheduler(m.runtime, SchedulerConfig{
		Store: snapshot.NewStore(bucket.NewMem()), Workers: 2, Handlers: echoing(answer),
	})
	spinning := make(chan error)
	for i := range 5 {
		go func() {
			_, err := s.Start(context.Background(), Program{ID: fmt.Sprintf("spin-%d", i), Module: m, Entry: "spin"})
			spinning <- err
		}()
	}
	for s.Stats().Running < 2 || s.Stats().Ready < 3 {
		goruntime.Gosched()
	}
	if _, err := s.Start(t.Context(), Program{ID: "steps", Module: m, Entry: "steps", Input: number32(5)}); err != nil {
		t.Fatal(err)
	}
	if o := ends(t, s, "steps"); fmt.Sprint(numbers(o.Result)) != "[10]" {
		t.Errorf("beside them: %+v", o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	for range 5 {
		if err := <-spinning; err == nil {
			t.Error("one that computes for ever was started")
		}
	}
}
