package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/file"
)

const groupOperations = "what a scheduler does with small guests" // in the report

// measureOperations adds how fast coroutines go that wait for operations, and how many may.
func (b *bench) measureOperations() error {
	turn, sleeping, speed, calls := 2*time.Second, 100_000, 10, 10_000
	if b.short {
		turn, sleeping, speed, calls = turn/20, 500, 1000, 500
	}
	add := func(name, unit string, values []float64) {
		b.report.Rows = append(b.report.Rows, row{Group: groupOperations, Name: name, Unit: unit, Durun: summarise(values)})
	}
	// Where commits are measured is where the disk is, see measureStore.
	dir, err := os.MkdirTemp(b.kept, "costs-operations-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var median, p99, join []float64
	rates := map[string][]float64{}
	var kinds []string
	for i := range b.rounds {
		b.progress("operations: run %d of %d", i+1, b.rounds)
		for _, where := range []string{"memory", "folder"} {
			for _, n := range []int{1, 1000} {
				var rate float64
				folder := filepath.Join(dir, fmt.Sprintf("%s-%d-%d", where, n, i))
				if err := childJSON(b, &rate, "steps", b.artefact("durun"), where, folder, strconv.Itoa(n), turn.String()); err != nil {
					return err
				}
				kind := fmt.Sprintf("durable steps (call, commit, go on) of %d guests, to %s", n, map[string]string{"memory": "memory", "folder": "a folder"}[where])
				if i == 0 {
					kinds = append(kinds, kind)
				}
				rates[kind] = append(rates[kind], rate)
			}
		}
		var l latency
		if err := childJSON(b, &l, "latency", b.artefact("durun"), turn.String()); err != nil {
			return err
		}
		median, p99 = append(median, l.Median), append(p99, l.P99)
		var took float64
		if err := childJSON(b, &took, "join", b.artefact("durun"), strconv.Itoa(calls)); err != nil {
			return err
		}
		join = append(join, took)
	}
	for _, kind := range kinds {
		add(kind, unitPerSecond, rates[kind])
	}
	add("from a handler's answer to the guest's next instruction, median", unitMicroseconds, median)
	add("the same, 99th percentile", unitMicroseconds, p99)
	add(fmt.Sprintf("%d calls of one guest at once, from the first to their join", calls), unitMilliseconds, join)

	b.progress("operations: %d timers", sleeping)
	var a alarm
	if err := childJSON(b, &a, "timers", b.artefact("durun"), strconv.Itoa(sleeping), strconv.Itoa(speed)); err != nil {
		return err
	}
	of := fmt.Sprintf("of %d guests with a timer each", sleeping)
	add(of+", memory of each, with its snapshots in memory", unitBytes, []float64{a.Bytes})
	add(of+", due over ten minutes in one: late by, median", unitMilliseconds, []float64{a.Median})
	add("the same, 99th percentile", unitMilliseconds, []float64{a.P99})
	add("the same, at most", unitMilliseconds, []float64{a.Most})
	return nil
}

// scheduled is a scheduler, with what it needs, for a guest.
type scheduled struct {
	*runtime.Scheduler
	runtime *runtime.Runtime
	module  *runtime.Module
	store   *snapshot.Store
	close   func() error // of the store
}

// newScheduled makes a scheduler for the guest of testdata/wat of that name. dir is the store's folder; empty for one in memory.
func newScheduled(ctx context.Context, cache, name, dir string, config runtime.SchedulerConfig, modules ...*hostabi.Module) (*scheduled, error) {
	var b bucket.Bucket = bucket.NewMem()
	if dir != "" {
		var err error
		if b, err = file.Open(dir); err != nil {
			return nil, err
		}
	}
	config.Store = snapshot.NewStore(b)
	r, err := runtime.New(ctx, runtime.NewConfig().WithCacheDir(cache).WithModules(modules...))
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(filepath.Join("testdata", "wat", name+".wasm"))
	if err != nil {
		return nil, err
	}
	m, err := r.Compile(ctx, binary)
	if err != nil {
		return nil, err
	}
	return &scheduled{runtime.NewScheduler(r, config), r, m, config.Store, b.Close}, nil
}

// stop stops everything where it stands.
func (s *scheduled) stop(ctx context.Context) error {
	return errors.Join(s.Close(ctx), s.runtime.Close(ctx), s.close())
}

func echoing(f handler.Func) *handler.Set {
	var set handler.Set
	set.Handle("echo", f, handler.Policy{Concurrency: 10_000})
	return &set
}

// steps has coroutines make one call after the other, for a time.
func steps(ctx context.Context, args []string) error {
	dir := args[2]
	if args[1] == "memory" {
		dir = ""
	}
	n, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	turn, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	var calls atomic.Int64
	s, err := newScheduled(ctx, args[0], "coroutines", dir, runtime.SchedulerConfig{
		Retain: snapshot.Policy{Keep: 1},
		Handlers: echoing(func(_ context.Context, c handler.Call) ([]byte, error) {
			calls.Add(1)
			return c.Body, nil
		}),
	})
	if err != nil {
		return err
	}
	forEver := binary.LittleEndian.AppendUint32(nil, 1<<31)
	if err := inParallel(n, func(i int) error {
		_, err := s.Start(ctx, runtime.Program{ID: fmt.Sprintf("s%d", i), Module: s.module, Entry: "steps", Input: forEver})
		return err
	}); err != nil {
		return err
	}
	before, began := calls.Load(), time.Now()
	time.Sleep(turn)
	rate := float64(calls.Load()-before) / time.Since(began).Seconds()
	if err := s.stop(ctx); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(rate)
}

// inParallel calls f for each number below n, a few at a time.
func inParallel(n int, f func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, min(n, 64))
	for w := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = f(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// latency is how long it takes until a guest goes on, in microseconds.
type latency struct{ Median, P99 float64 }

// probe is a host module that notes when the guest calls it.
type probe struct{ called func() }

var probeModule = &hostabi.Module{Name: "probe", Functions: []hostabi.Function{{
	Name: "goes_on",
	Call: func(_ context.Context, _ *hostabi.Guest, i hostabi.Instance, _ []uint64) { i.(*probe).called() },
}}}

func (p *probe) Module() *hostabi.Module                      { return probeModule }
func (p *probe) Save() (uint32, []byte, error)                { return 1, nil, nil }
func (p *probe) Restore(uint32, []byte) error                 { return nil }
func (p *probe) Wait(context.Context, *hostabi.Pending) error { return nil }
func (p *probe) Close() error                                 { return nil }

// measureLatency has one coroutine make one call after the other, for a time, and notes when it goes on after each.
func measureLatency(ctx context.Context, args []string) error {
	turn, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	var answered atomic.Int64 // nanoseconds since the start
	began := time.Now()
	var took []float64
	s, err := newScheduled(ctx, args[0], "latency", "", runtime.SchedulerConfig{
		Retain: snapshot.Policy{Keep: 1},
		Handlers: echoing(func(context.Context, handler.Call) ([]byte, error) {
			answered.Store(int64(time.Since(began)))
			return nil, nil
		}),
		Hosts: func(context.Context, runtime.HostsRequest) ([]hostabi.Instance, error) {
			return []hostabi.Instance{&probe{func() {
				took = append(took, float64(int64(time.Since(began))-answered.Load())/1000)
			}}}, nil
		},
	}, probeModule)
	if err != nil {
		return err
	}
	if _, err := s.Start(ctx, runtime.Program{ID: "costs", Module: s.module}); err != nil {
		return err
	}
	time.Sleep(turn)
	if err := s.stop(ctx); err != nil {
		return err
	}
	slices.Sort(took)
	return json.NewEncoder(os.Stdout).Encode(latency{median(took), took[len(took)*99/100]})
}

// join has one coroutine make many calls at once, and prints how many milliseconds it takes to its end.
func join(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	s, err := newScheduled(ctx, args[0], "coroutines", "", runtime.SchedulerConfig{
		Handlers: echoing(func(_ context.Context, c handler.Call) ([]byte, error) { return c.Body, nil }),
	})
	if err != nil {
		return err
	}
	began := time.Now()
	input := binary.LittleEndian.AppendUint32(nil, uint32(n))
	if _, err := s.Start(ctx, runtime.Program{ID: "costs", Module: s.module, Entry: "fan", Input: input}); err != nil {
		return err
	}
	o, err := s.Wait(ctx, "costs")
	took := time.Since(began)
	if err = errors.Join(err, o.Err, s.stop(ctx)); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(took.Seconds() * 1000)
}

// alarm is how many milliseconds guests wake after their time, and what memory each takes while it sleeps.
type alarm struct{ Median, P99, Most, Bytes float64 }

// hurried is a clock that runs faster than the machine's.
type hurried struct {
	began time.Time
	speed time.Duration
}

func (c hurried) Now() time.Time { return c.began.Add(time.Since(c.began) * c.speed) }

func (c hurried) AfterFunc(d time.Duration, f func()) func() bool {
	return runtime.SystemClock().AfterFunc(d/c.speed, f)
}

// errLateStart says that the first coroutines were to wake before the last had been started.
var errLateStart = errors.New("it takes too long to start so many")

// timers has many coroutines sleep, each for a time of its own within ten minutes of a clock that runs fast.
func timers(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	speed, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	// On a machine that is slow, or has other things to do, all of them have to wait longer for the last.
	for toStart := 2*time.Second + time.Duration(n)*600*time.Microsecond; ; toStart *= 2 {
		a, err := asleep(ctx, args[0], n, time.Duration(speed), toStart)
		if errors.Is(err, errLateStart) && toStart < 10*time.Minute {
			continue
		}
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(a)
	}
}

// asleep has n coroutines sleep, which are all to have been started toStart from now, by the machine's clock.
func asleep(ctx context.Context, cache string, n int, speed, toStart time.Duration) (_ alarm, err error) {
	const span = 10 * time.Minute
	var (
		clock = hurried{time.Now(), speed}
		mu    sync.Mutex
		due   = make(map[string]time.Time, n)
		late  = make([]float64, 0, n)
		done  = make(chan struct{})
	)
	s, err := newScheduled(ctx, cache, "coroutines", "", runtime.SchedulerConfig{
		Clock: clock, Memory: 64 << 20, MaxCoroutines: n, Retain: snapshot.Policy{Keep: 1},
		OnEnd: func(id string, _ runtime.Outcome) {
			now := clock.Now()
			mu.Lock()
			defer mu.Unlock()
			if late = append(late, (now.Sub(due[id])/clock.speed).Seconds()*1000); len(late) == n {
				close(done)
			}
		},
	})
	if err != nil {
		return alarm{}, err
	}
	defer func() { err = errors.Join(err, s.stop(ctx)) }()
	var before, after goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&before)
	first := clock.Now().Add(toStart * speed)
	name := func(i int) string { return fmt.Sprintf("t%d", i) }
	if err := inParallel(n, func(i int) error {
		at := first.Add(time.Duration(i*7919%n) * span / time.Duration(n))
		input := binary.LittleEndian.AppendUint64(nil, uint64(at.Sub(clock.Now())))
		_, err := s.Start(ctx, runtime.Program{ID: name(i), Module: s.module, Entry: "sleep", Input: input})
		return err
	}); err != nil {
		return alarm{}, err
	}
	// A guest says for how long it sleeps, so that when it is to wake depends on when it came to say so: the store knows.
	if err := inParallel(n, func(i int) error {
		snap, _, err := s.store.Latest(ctx, name(i))
		if err != nil {
			return err
		}
		ops, err := runtime.OperationsOf(snap)
		if err != nil {
			return err
		}
		if len(ops) == 0 { // it has woken
			return errLateStart
		}
		mu.Lock()
		defer mu.Unlock()
		due[name(i)] = ops[0].Due
		return nil
	}); err != nil {
		return alarm{}, err
	}
	if clock.Now().After(first) {
		return alarm{}, errLateStart
	}
	goruntime.GC()
	goruntime.ReadMemStats(&after)
	<-done
	slices.Sort(late)
	return alarm{
		Median: median(late), P99: late[n*99/100], Most: late[n-1], Bytes: float64(after.HeapAlloc-before.HeapAlloc) / float64(n),
	}, nil
}
