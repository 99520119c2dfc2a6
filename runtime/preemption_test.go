package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// spinners returns a module of testdata, compiled, and the entries that compute for ever.
func spinners(t *testing.T, file string) (m *Module, entries []string) {
	t.Helper()
	ctx := context.Background()
	code, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	r := testRuntime(t, callbackModule)
	if m, err = r.Compile(ctx, code); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.exports() {
		if !strings.HasPrefix(e, "f") || e == "fib" || e == "fill" {
			entries = append(entries, e)
		}
	}
	return m, entries
}

// spin starts an entry that computes for ever, and moves it to another instance if it suspends on the way there.
func spin(t *testing.T, m *Module, entry string, limits Limits) *Coroutine {
	t.Helper()
	ctx := context.Background()
	hosts := func() []hostabi.Instance { return []hostabi.Instance{&callbacks{}} }
	c, err := m.Start(ctx, StartConfig{ID: "spin", Entry: entry, Hosts: hosts(), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(entry, "resumed") {
		if _, err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		s, err := c.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if c, err = m.Restore(ctx, s, RestoreConfig{Hosts: hosts(), Limits: limits}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestSpinning has guests compute for ever. Each gives way to Go's collector, and stops when it is told to.
func TestSpinning(t *testing.T) {
	total := 0
	for _, file := range []string{"spinning.wasm", "spinningstart.wasm"} {
		m, entries := spinners(t, file)
		total += len(entries)
		for _, entry := range entries {
			t.Run(entry, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c := spin(t, m, entry, Limits{})
				var ticks atomic.Int64
				spinning := make(chan struct{})
				c.onTick = func() {
					if ticks.Add(1) == 5 {
						close(spinning)
					}
				}
				stopped := make(chan error, 1)
				go func() {
					_, err := c.Resume(ctx)
					stopped <- err
				}()
				select {
				case <-spinning:
				case err := <-stopped:
					t.Fatalf("it ended by itself: %v, %v", err, c.Err())
				}
				goruntime.GC() // waits for the guest to give way
				cancel()
				last := ticks.Load() + 1 // it may have been about to tick
				if err := <-stopped; !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want %v", err, context.Canceled)
				}
				if n := ticks.Load(); n > last {
					t.Errorf("it went on for %d ticks", n-last)
				}
				if _, err := c.Resume(context.Background()); !errors.Is(err, ErrClosed) {
					t.Errorf("error %v after that, want %v", err, ErrClosed)
				}
			})
		}
	}
	if total < 24 {
		t.Errorf("only %d ways to compute for ever", total)
	}
}

// TestLimitCPU has guests use up the time that they have in their lives, in one piece or in many.
func TestLimitCPU(t *testing.T) {
	m, entries := spinners(t, "spinning.wasm")
	const most = 20 * time.Millisecond
	for _, entry := range entries {
		t.Run(entry, func(t *testing.T) {
			c := spin(t, m, entry, Limits{CPU: most})
			c.onTick = func() {
				if c.abi.cpu >= most {
					t.Errorf("it goes on after %v", c.abi.cpu)
				}
			}
			status, err := c.Resume(t.Context())
			if err != nil || status != snapshot.Failed || c.ExitCode() != ExitCodeTrap {
				t.Fatalf("status %s, exit code %d, error %v", status, c.ExitCode(), err)
			}
			if limit := (*LimitError)(nil); !errors.As(c.Err(), &limit) || limit.Limit != "CPU" || !strings.Contains(c.Err().Error(), most.String()) || strings.Contains(c.Err().Error(), "host.tick") {
				t.Errorf("error %v, want a LimitError", c.Err())
			}
			if c.abi.cpu < most {
				t.Errorf("it has computed for %v only, and may for %v", c.abi.cpu, most)
			}
		})
	}

	// Where the machine has much else to do, one piece may take all of a short time.
	t.Run("in many pieces", func(t *testing.T) {
		most := most
		for lives := 0; lives < 3; most *= 4 {
			if lives = livesWithin(t, most); most > time.Minute {
				t.Fatalf("%d lives within %v of computing", lives, most)
			}
		}
	})
}

// livesWithin returns how many instances a coroutine has that computes for so long in all.
func livesWithin(t *testing.T, most time.Duration) int {
	ctx := context.Background()
	loops := counter(hostabi.ModuleName, hostabi.FuncCheckpoint, 1<<30)
	r := testRuntime(t)
	m, err := r.Compile(ctx, loops)
	if err != nil {
		t.Fatal(err)
	}
	limits := Limits{CPU: most}
	c, err := m.Start(ctx, StartConfig{ID: "x", Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	lives := 0
	for {
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Ended() {
			break
		}
		s, err := c.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		lives++
		if c, err = m.Restore(ctx, s, RestoreConfig{Limits: limits}); err != nil {
			t.Fatal(err)
		}
	}
	if limit := (*LimitError)(nil); !errors.As(c.Err(), &limit) {
		t.Errorf("error %v after %d lives, want a LimitError", c.Err(), lives)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	return lives
}

// TestUnlimitedIsNotMeasured holds that a snapshot doesn't depend on how fast the machine is, unless there is a limit.
func TestUnlimitedIsNotMeasured(t *testing.T) {
	c := start(t, testRuntime(t), counter(hostabi.ModuleName, hostabi.FuncCheckpoint, 3), StartConfig{})
	if _, err := c.Resume(t.Context()); err != nil || c.abi.cpu != 0 {
		t.Errorf("it has computed for %v, error %v", c.abi.cpu, err)
	}
}

// grower returns a program whose main(pages, elements) grows its memory, then its table of two elements, by so much, suspends, grows
// the memory by a page, and returns the three results. It begins with one page.
func grower(t *testing.T) []byte {
	i32 := wasm.I32
	grow := func(local uint32, in wasm.Instr) []wasm.Instr {
		code := []wasm.Instr{ins(wasm.OpLocalGet, local), in}
		if in.Op == wasm.OpTableGrow {
			code = append([]wasm.Instr{{Op: wasm.OpRefNull, Heap: wasm.HeapFunc}}, code...)
		}
		return code
	}
	code := append(grow(0, ins(wasm.OpMemoryGrow, 0)), grow(1, ins(wasm.OpTableGrow, 0))...)
	code = append(code, ins(wasm.OpCall, fnCheckpoint), constant(1), ins(wasm.OpMemoryGrow, 0))
	return assemble(t, func(m *wasm.Module) {
		m.Memories = []wasm.Limits{{Min: 1, Max: 1000, HasMax: true}}
		m.Tables = []wasm.Table{{Type: wasm.TableType{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: 2}}}}
	}, fn{params: []wasm.ValueType{i32, i32}, results: []wasm.ValueType{i32, i32, i32}, code: code})
}

// TestLimitMemory has guests grow up to their limit and beyond it, before and after they have moved.
func TestLimitMemory(t *testing.T) {
	const page = snapshot.WasmPageSize
	ctx := context.Background()
	r := thingsRuntime(t)
	m, err := r.Compile(ctx, grower(t))
	if err != nil {
		t.Fatal(err)
	}
	const failed = 1<<32 - 1
	// It begins with a page and 16 bytes in its table.
	for _, c := range []struct {
		limit           int64
		pages, elements uint64
		want            [3]uint64 // what memory, table, and memory had before they grew
	}{
		{0, 900, 100, [3]uint64{1, 2, 901}},
		{0, 1000, 100, [3]uint64{failed, 2, 1}},
		{3*page + 16, 1, 0, [3]uint64{1, 2, 2}},
		{3*page + 15, 1, 0, [3]uint64{1, 2, failed}},
		{3*page + 15, 2, 0, [3]uint64{failed, 2, 1}},
		{3*page + 16, 2, 0, [3]uint64{1, 2, failed}},
		{3*page + 16, 2, 1, [3]uint64{1, failed, failed}},
		{3*page + 24, 1, 1, [3]uint64{1, 2, 2}},
		{3*page + 24, 0, 2 * page / 8, [3]uint64{1, 2, failed}},
		{3*page + 24, 0, 2*page/8 + 2, [3]uint64{1, failed, 1}},
		{3 * page, 0xffffffff, 0xffffffff, [3]uint64{failed, failed, 1}},
	} {
		for _, move := range []bool{false, true} {
			config := RestoreConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}, Limits: Limits{Memory: c.limit}}
			co, err := m.Start(ctx, StartConfig{ID: "x", Args: []uint64{c.pages, c.elements}, Hosts: config.Hosts, Limits: config.Limits})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := co.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			if move {
				s, err := co.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				if err := co.Close(); err != nil {
					t.Fatal(err)
				}
				if co, err = m.Restore(ctx, s, config); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := co.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			if got := co.Results(); len(got) != 3 || [3]uint64(got) != c.want {
				t.Errorf("with a limit of %d, %d pages and %d elements (moved: %v): %v, %v; want %v", c.limit, c.pages, c.elements, move, got, co.Err(), c.want)
			}
			if err := co.Close(); err != nil {
				t.Error(err)
			}
		}
	}

	// What has more already is refused.
	hosts := []hostabi.Instance{quiet{thingsModule}}
	refused := func(err error) {
		t.Helper()
		if limit := (*LimitError)(nil); !errors.As(err, &limit) || limit.Limit != "memory" {
			t.Errorf("error %v, want a LimitError", err)
		}
	}
	_, err = m.Start(ctx, StartConfig{ID: "x", Args: []uint64{0, 0}, Hosts: hosts, Limits: Limits{Memory: page + 15}})
	refused(err)
	co, err := m.Start(ctx, StartConfig{ID: "x", Args: []uint64{1, 1}, Hosts: hosts, Limits: Limits{Memory: 2*page + 24}})
	if err != nil {
		t.Fatal(err)
	}
	defer co.Close()
	if _, err := co.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := co.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Restore(ctx, s, RestoreConfig{Hosts: hosts, Limits: Limits{Memory: 2*page + 23}})
	refused(err)
}

// TestGrantedLimits holds what a coroutine may take that has limits among its grants, too.
func TestGrantedLimits(t *testing.T) {
	grant := func(name, value string) snapshot.Grant {
		return snapshot.Grant{Kind: GrantLimit, Name: name, Value: value}
	}
	for _, c := range []struct {
		own    Limits
		grants []snapshot.Grant
		want   Limits
	}{
		{Limits{}, nil, Limits{}},
		{Limits{Memory: 5}, []snapshot.Grant{{Kind: "dir", Name: "memory", Value: "4"}}, Limits{Memory: 5}},
		{Limits{Memory: 5, CPU: 7}, []snapshot.Grant{grant("memory", "4"), grant("cpu", "1h")}, Limits{Memory: 4, CPU: 7}},
		{Limits{Memory: 5, CPU: 7 * time.Second}, []snapshot.Grant{grant("memory", "6"), grant("cpu", "1ms")}, Limits{Memory: 5, CPU: time.Millisecond}},
		{Limits{}, Limits{Memory: 1 << 40, CPU: time.Hour + time.Nanosecond}.Grants(), Limits{Memory: 1 << 40, CPU: time.Hour + time.Nanosecond}},
	} {
		if got, err := c.own.with(c.grants); err != nil || got != c.want {
			t.Errorf("%+v with %v: %+v, %v; want %+v", c.own, c.grants, got, err, c.want)
		}
	}
	// Nobody knows what a coroutine may take that has one of these.
	m, err := testRuntime(t).Compile(t.Context(), counter(hostabi.ModuleName, hostabi.FuncCheckpoint, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range []snapshot.Grant{grant("memory", "0"), grant("memory", "-1"), grant("memory", "1GiB"), grant("cpu", "1"), grant("cpu", "-1s"), grant("threads", "1"), grant("", "")} {
		if c, err := m.Start(t.Context(), StartConfig{ID: "x", Grants: []snapshot.Grant{g}}); err == nil {
			t.Errorf("started with %v", g)
			_ = c.Close()
		}
	}
}

// TestNotCaught has a guest that catches all exceptions compute for ever: what stops it is none of them.
func TestNotCaught(t *testing.T) {
	ctx := context.Background()
	m, err := thingsRuntime(t).Compile(ctx, assemble(t, withTag, fn{results: []wasm.ValueType{wasm.I32}, code: []wasm.Instr{
		ins(wasm.OpLoop),
		ins(wasm.OpBlock),
		{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchAll, Label: 0}}},
		ins(wasm.OpLoop),
		ins(wasm.OpBr, 0),
		ins(wasm.OpEnd),
		ins(wasm.OpEnd),
		ins(wasm.OpEnd),
		ins(wasm.OpBr, 0),
		ins(wasm.OpEnd),
		ins(wasm.OpUnreachable),
	}}))
	if err != nil {
		t.Fatal(err)
	}
	start := func(limits Limits) *Coroutine {
		c, err := m.Start(ctx, StartConfig{ID: "x", Hosts: []hostabi.Instance{quiet{thingsModule}}, Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	c := start(Limits{CPU: 5 * time.Millisecond})
	status, err := c.Resume(ctx)
	if limit := (*LimitError)(nil); err != nil || status != snapshot.Failed || !errors.As(c.Err(), &limit) {
		t.Errorf("with a limit: status %s, errors %v and %v", status, err, c.Err())
	}
	c = start(Limits{})
	stopped, stop := context.WithCancel(ctx)
	defer stop()
	c.onTick = stop
	if _, err := c.Resume(stopped); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// TestSpinningBelowHost stops a guest that computes for ever below a host function which calls it in a context of its own.
func TestSpinningBelowHost(t *testing.T) {
	m, _ := spinners(t, "spinning.wasm")
	host := &callbacks{in: func(context.Context) context.Context { return context.Background() }}
	c, err := m.Start(t.Context(), StartConfig{ID: "x", Entry: "reenter", Hosts: []hostabi.Instance{host}, Limits: Limits{CPU: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.onTick = cancel
	if _, err := c.Resume(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// TestPaceWithLimit has a guest with a limit of time tick as often as one without: a count that takes longer than half a millisecond is
// followed by a smaller one.
func TestPaceWithLimit(t *testing.T) {
	m, _ := spinners(t, "spinning.wasm")
	for _, limits := range []Limits{{}, {CPU: time.Hour}} {
		c := spin(t, m, "fill", limits) // 64 MiB, for which a count of 2^20 stands
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ticks := 0
		c.onTick = func() {
			if ticks++; ticks == 10 {
				cancel()
			}
		}
		if _, err := c.Resume(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if c.pace.count > maxCount/2 {
			t.Errorf("with limits %+v: a count of %d", limits, c.pace.count)
		}
	}
}

// TestCountsWhatRuns holds how much guests count for loads from memory, of which each may take 100 ns: no way of hiding them in code leads
// to a count that takes very long. And what an interpreter's loop holds, but doesn't run, doesn't count for much.
func TestCountsWhatRuns(t *testing.T) {
	loads := func(n int) []wasm.Instr {
		code := []wasm.Instr{constant(0)}
		for range n {
			code = append(code, ins(wasm.OpI32Load))
		}
		return append(code, ins(wasm.OpDrop))
	}
	const times = 1000
	// loop returns a function that does something so often.
	loop := func(body ...wasm.Instr) fn {
		code := append([]wasm.Instr{ins(wasm.OpLoop)}, body...)
		return fn{results: []wasm.ValueType{wasm.I32}, locals: []wasm.ValueType{wasm.I32}, code: append(
			code, ins(wasm.OpLocalGet, 0), constant(1), ins(wasm.OpI32Add), ins(wasm.OpLocalTee, 0), constant(times), ins(wasm.OpI32LtU),
			ins(wasm.OpBrIf, 0), ins(wasm.OpEnd), ins(wasm.OpLocalGet, 0),
		)}
	}
	call := func(f uint32) wasm.Instr { return ins(wasm.OpCall, fnFirst+f) }
	// Jumps over the place where each stretch of code would be counted, if that were once in so many bytes.
	var jumps []wasm.Instr
	for range 300 {
		jumps = append(append(jumps, ins(wasm.OpBlock)), loads(30)...)
		jumps = append(jumps, constant(1), ins(wasm.OpBrIf, 0))
		jumps = append(append(jumps, loads(30)...), ins(wasm.OpEnd))
	}
	// One of the cases of a switch is run, each time the same.
	var cases []wasm.Instr
	const n = 300
	for range n + 1 {
		cases = append(cases, ins(wasm.OpBlock))
	}
	labels := make([]uint32, n)
	for i := range labels {
		labels[i] = uint32(i)
	}
	cases = append(cases, constant(7), wasm.Instr{Op: wasm.OpBrTable, Labels: labels})
	for i := range uint32(n) {
		cases = append(append(append(cases, ins(wasm.OpEnd)), loads(60)...), ins(wasm.OpBr, n-1-i))
	}
	cases = append(cases, ins(wasm.OpEnd))
	for _, c := range []struct {
		name  string
		fns   []fn
		loads int64 // in each iteration
	}{
		{"very few", []fn{loop(loads(5)...)}, 5}, // unrolled
		{"few", []fn{loop(loads(50)...)}, 50},
		{"many", []fn{loop(loads(10_000)...)}, 10_000},
		{"in a function", []fn{{code: loads(600)}, loop(call(0))}, 600},
		{"in a long function", []fn{{code: loads(20_000)}, loop(call(0))}, 20_000},
		{"in functions", []fn{
			{code: loads(100)},
			{code: slices.Repeat([]wasm.Instr{call(0)}, 8)},
			{code: slices.Repeat([]wasm.Instr{call(1)}, 8)},
			loop(call(2)),
		}, 6400},
		{"behind an await", []fn{loop(append([]wasm.Instr{
			ins(wasm.OpLocalGet, 0), ins(wasm.OpI32Eqz), ins(wasm.OpIf), ins(wasm.OpCall, fnCheckpoint), ins(wasm.OpEnd),
		}, loads(1000)...)...)}, 1000},
		{"jumps", []fn{loop(jumps...)}, 9000},
		{"a switch", []fn{loop(cases...)}, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			m, err := thingsRuntime(t).Compile(ctx, assemble(t, func(m *wasm.Module) { m.Memories = []wasm.Limits{{Min: 1}} }, c.fns...))
			if err != nil {
				t.Fatal(err)
			}
			config := RestoreConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}}
			co, err := m.Start(ctx, StartConfig{ID: "x", Hosts: config.Hosts})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = co.Close() }()
			const enough = 1 << 50
			co.pace.count = enough
			status, err := co.Resume(ctx)
			if err == nil && !status.Ended() {
				s, err := co.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				_ = co.Close()
				if co, err = m.Restore(ctx, s, config); err != nil {
					t.Fatal(err)
				}
				co.pace.count = enough
				status, err = co.Resume(ctx)
				if err != nil {
					t.Fatal(err)
				}
			}
			if err != nil || status != snapshot.Completed {
				t.Fatal(status, err, co.Err())
			}
			counted := enough - int64(co.pace.counter.Get())
			if all := c.loads * times; counted < all/16 || counted > all+100*times {
				t.Errorf("it counts %d for %d loads", counted, all)
			}
		})
	}
}
