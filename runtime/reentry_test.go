package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// callbackModule describes the host module of testdata/reentry.wat.
var callbackModule = &hostabi.Module{Name: "env", Functions: []hostabi.Function{
	{
		Name: "call", Params: []api.ValueType{i32, i32}, Results: []api.ValueType{i32},
		Call: func(ctx context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
			stack[0] = i.(*callbacks).call(ctx, g, stack)
		},
	},
	{
		Name: "later", Params: []api.ValueType{i32, i32}, Results: []api.ValueType{i32},
		Await: func(ctx context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
			n := i.(*callbacks).call(ctx, g, stack)
			if p == nil {
				return &hostabi.Pending{Kind: hostabi.KindCheckpoint, Data: binary.LittleEndian.AppendUint64(nil, n)}
			}
			stack[0] = binary.LittleEndian.Uint64(p.Data)<<8 + n
			return nil
		},
	},
	{
		Name: "ready",
		Await: func(_ context.Context, _ *hostabi.Guest, i hostabi.Instance, _ []uint64, _ *hostabi.Pending) *hostabi.Pending {
			i.(*callbacks).ready++
			return nil
		},
	},
	{
		Name: "exit", Params: []api.ValueType{i32},
		Call: func(_ context.Context, _ *hostabi.Guest, _ hostabi.Instance, stack []uint64) {
			panic(sys.NewExitError(uint32(stack[0])))
		},
	},
}}

// callbacks is an instance of callbackModule. Its calls hand their errors to fail, and return what that does; the guest
// that calls it has that as its result.
type callbacks struct {
	ready int
	errs  []error
	fail  func(error) uint64 // nil: panic with the error
	in    func(context.Context) context.Context
	guest *hostabi.Guest // that called last
}

func (c *callbacks) call(ctx context.Context, g *hostabi.Guest, stack []uint64) uint64 {
	c.guest = g
	if c.in != nil {
		ctx = c.in(ctx)
	}
	results, err := g.Call(ctx, fmt.Sprintf("f%d", api.DecodeU32(stack[0])), stack[1])
	if err == nil {
		if len(results) == 0 {
			return 0
		}
		return results[0]
	}
	c.errs = append(c.errs, err)
	if c.fail == nil {
		panic(err)
	}
	return c.fail(err)
}

func (c *callbacks) Module() *hostabi.Module                            { return callbackModule }
func (c *callbacks) Save() (uint32, []byte, error)                      { return 1, nil, nil }
func (c *callbacks) Restore(uint32, []byte) error                       { return nil }
func (c *callbacks) Wait(ctx context.Context, _ *hostabi.Pending) error { return ctx.Err() }
func (c *callbacks) Close() error                                       { return nil }

// reenter runs an entry of testdata/reentry.wat, whose host function calls f<export>(n), to its end. It moves the coroutine at
// each await if move is set.
func reenter(t *testing.T, host *callbacks, entry string, export, n uint64, move bool) *Coroutine {
	t.Helper()
	ctx := context.Background()
	code, err := os.ReadFile("testdata/reentry.wasm")
	if err != nil {
		t.Fatal(err)
	}
	r := testRuntime(t, callbackModule)
	c := start(t, r, code, StartConfig{Entry: entry, Args: []uint64{export, n}, Hosts: []hostabi.Instance{host}})
	awaits := 0
	for {
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Ended() {
			break
		}
		awaits++
		s, err := c.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if !move {
			continue
		}
		data, err := snapshot.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = snapshot.Decode(data); err != nil {
			t.Fatal(err)
		}
		m := c.module
		_ = c.Close()
		if c, err = m.Restore(ctx, s, RestoreConfig{Hosts: []hostabi.Instance{host}}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	if awaits == 0 {
		t.Fatal("it didn't suspend")
	}
	return c
}

// counted returns how many functions the guest says were called back.
func counted(t *testing.T, c *Coroutine) uint32 {
	t.Helper()
	n, ok := c.memory.ReadUint32Le(8)
	if !ok {
		t.Fatal("no counter")
	}
	return n
}

// TestReentry has host functions call the guest, with awaits before and after, and in between where they may.
func TestReentry(t *testing.T) {
	const failed = 77 // what call returns after an error
	for _, tt := range []struct {
		name      string
		entry     string
		export, n uint64
		result    uint64
		count     uint32
		fails     []string // parts of the errors
	}{
		{name: "returns", export: 0, n: 21, result: 1000042, count: 1},
		{name: "no host function in it", export: 7, n: 3, result: 1000001, count: 1},
		{name: "40 deep", export: 2, n: 40, result: 1000000 + 40*41/2 + 5, count: 41},
		{name: "traps", export: 3, n: 1, result: 1000000 + failed, count: 1, fails: []string{"integer divide by zero"}},
		{name: "exits", export: 4, n: 3, result: 1000000 + failed, count: 1, fails: []string{"exit_code(3)"}},
		{name: "no such export", export: 8, n: 3, result: 1000000 + failed, fails: []string{"the module exports no such function"}},
		{
			name: "suspends", export: 1, n: 5, result: 1000000 + failed, count: 1,
			fails: []string{"function 7 (inner), offset 0x10: can't suspend in durun.checkpoint (nothing): the host function env.call is on the stack"},
		},
		{
			name: "suspends 3 deep", export: 6, n: 3, result: 1000000 + failed + 1 + 2 + 3, count: 4,
			fails: []string{"(deep), offset"},
		},
		{
			name: "the await itself", export: 9, result: 1000000 + failed,
			fails: []string{"arguments: 1 values, where there are 0"},
		},
		{
			name: "from an await", entry: "twice", export: 0, n: 21, result: 2000000 + 42<<8 + 42, count: 2,
		},
		{
			name: "from an await, suspends", entry: "twice", export: 1, n: 21, result: 2000000 + failed<<8 + failed, count: 2,
			fails: []string{"the host function env.later is on the stack", "the host function env.later is on the stack"},
		},
	} {
		for _, move := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, moved %v", tt.name, move), func(t *testing.T) {
				host := &callbacks{fail: func(error) uint64 { return failed }}
				entry := tt.entry
				if entry == "" {
					entry = "main"
				}
				c := reenter(t, host, entry, tt.export, tt.n, move)
				if c.Status() != snapshot.Completed || !slices.Equal(c.Results(), []uint64{tt.result}) {
					t.Errorf("%v, results %v, error %v; want %v", c.Status(), c.Results(), c.Err(), tt.result)
				}
				if got := counted(t, c); got != tt.count {
					t.Errorf("%d calls back, want %d", got, tt.count)
				}
				if len(host.errs) != len(tt.fails) {
					t.Fatalf("errors %v, want %q", host.errs, tt.fails)
				}
				for i, want := range tt.fails {
					if !strings.Contains(host.errs[i].Error(), want) {
						t.Errorf("got error %v, want one with %q", host.errs[i], want)
					}
				}
			})
		}
	}
}

// TestReentryError looks at the error of a call that would have had to suspend, and at the guest afterwards.
func TestReentryError(t *testing.T) {
	host := &callbacks{fail: func(error) uint64 { return 1 }}
	c := reenter(t, host, "main", 1, 5, true)
	var got *hostabi.ReentryError
	if len(host.errs) != 1 || !errors.As(host.errs[0], &got) {
		t.Fatalf("errors %v", host.errs)
	}
	want := hostabi.ReentryError{
		Host: "env.call", Await: "durun.checkpoint", For: "nothing", Function: 7, Name: "inner", Offset: 0x10, HasFunction: true,
	}
	if *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	// What the call had done before stays done.
	if n, _ := c.memory.ReadUint32Le(16); n != 5 {
		t.Errorf("memory has %d, want 5", n)
	}
	if v, err := c.global(0); err != nil || v.Lo != 11 {
		t.Errorf("global 0 is %d, want 11", v.Lo)
	}

	// An await point that the guest exports, called by the host with no function of the guest in between.
	host = &callbacks{}
	host.in = func(ctx context.Context) context.Context {
		_, err := host.guest.Call(ctx, "f9")
		host.errs = append(host.errs, err)
		return ctx
	}
	reenter(t, host, "main", 0, 1, false)
	if len(host.errs) != 1 || !errors.As(host.errs[0], &got) || got.HasFunction || got.Await != "durun.checkpoint" {
		t.Errorf("errors %v", host.errs)
	}
}

// TestReentryPassedOn has a host function panic with the error of its call, and its caller trap or exit.
func TestReentryPassedOn(t *testing.T) {
	var re *hostabi.ReentryError
	c := reenter(t, &callbacks{}, "main", 1, 5, false)
	if c.Status() != snapshot.Failed || c.ExitCode() != ExitCodeTrap || !errors.As(c.Err(), &re) || re.Name != "inner" {
		t.Errorf("suspends: %v, exit code %d, error %v", c.Status(), c.ExitCode(), c.Err())
	}
	c = reenter(t, &callbacks{}, "main", 6, 9, false)
	if c.Status() != snapshot.Failed || !errors.As(c.Err(), &re) || re.Name != "deep" {
		t.Errorf("suspends, 9 deep: %v, error %v", c.Status(), c.Err())
	}
	c = reenter(t, &callbacks{}, "main", 3, 5, false)
	if c.Status() != snapshot.Failed || !strings.Contains(c.Err().Error(), "integer divide by zero") || !strings.Contains(c.Err().Error(), "crash") {
		t.Errorf("traps: %v, error %v", c.Status(), c.Err())
	}
	c = reenter(t, &callbacks{}, "main", 4, 5, true)
	if c.Status() != snapshot.Completed || c.ExitCode() != 5 || c.Err() != nil {
		t.Errorf("exits: %v, exit code %d, error %v", c.Status(), c.ExitCode(), c.Err())
	}
	// In the completion of an await, which runs while the guest is suspended.
	first := true
	host := &callbacks{fail: func(err error) uint64 {
		if !first {
			panic(err)
		}
		first = false
		return 0
	}}
	c = reenter(t, host, "twice", 1, 5, true)
	if c.Status() != snapshot.Failed || !errors.As(c.Err(), &re) || re.Host != "env.later" {
		t.Errorf("suspends, in the completion of an await: %v, error %v", c.Status(), c.Err())
	}
}

// TestReentryForEver has a guest and a host function call each other without end.
func TestReentryForEver(t *testing.T) {
	host := &callbacks{}
	c := reenter(t, host, "main", 5, 0, false)
	if c.Status() != snapshot.Failed || len(host.errs) == 0 || !strings.Contains(host.errs[0].Error(), "as deep as they may") {
		t.Fatalf("%v, %d errors", c.Status(), len(host.errs))
	}
	if got := counted(t, c); got != maxNested {
		t.Errorf("%d calls, want %d", got, maxNested)
	}
}

// TestReentryInterrupted stops a guest in a call by a host function: by that call's context, and by that of Resume.
func TestReentryInterrupted(t *testing.T) {
	cancelled := func(ctx context.Context) context.Context {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx
	}
	host := &callbacks{in: cancelled, fail: func(error) uint64 { return 3 }}
	c := reenter(t, host, "main", 2, 0, true)
	if c.Status() != snapshot.Completed || len(host.errs) != 1 || !errors.Is(host.errs[0], context.Canceled) {
		t.Errorf("handled: %v, errors %v", c.Status(), host.errs)
	}
	host = &callbacks{in: cancelled}
	if c = reenter(t, host, "main", 2, 0, true); c.Status() != snapshot.Failed || !errors.Is(c.Err(), context.Canceled) {
		t.Errorf("passed on: %v, error %v", c.Status(), c.Err())
	}

	// The host function's own context is done as it calls: then the coroutine is none that has failed, but one that was
	// stopped, whether the host function passes the error on or not.
	code, err := os.ReadFile("testdata/reentry.wasm")
	if err != nil {
		t.Fatal(err)
	}
	for _, fail := range []func(error) uint64{nil, func(error) uint64 { return 3 }} {
		ctx, cancel := context.WithCancel(context.Background())
		r, err := New(ctx, NewConfig().WithModules(callbackModule))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close(ctx)
		host := &callbacks{fail: fail, in: func(ctx context.Context) context.Context { cancel(); return ctx }}
		c := start(t, r, code, StartConfig{Args: []uint64{2, 3}, Hosts: []hostabi.Instance{host}})
		if s, err := c.Resume(ctx); err != nil || s != snapshot.Suspended {
			t.Fatalf("%v, error %v", s, err)
		}
		if s, err := c.Resume(ctx); !errors.Is(err, context.Canceled) || s.Ended() {
			t.Errorf("%v, error %v", s, err)
		}
	}
}

// TestReentryOutOfPlace calls the guest when no host function runs.
func TestReentryOutOfPlace(t *testing.T) {
	ctx := context.Background()
	host := &callbacks{}
	c := reenter(t, host, "main", 0, 1, false)
	if _, err := host.guest.Call(ctx, "f0", 1); err == nil || !strings.Contains(err.Error(), "no host function") {
		t.Errorf("after the end: error %v", err)
	}
	host = &callbacks{}
	_ = c.Close()
	c = start(t, c.module.runtime, mustRead(t, "testdata/reentry.wasm"), StartConfig{Args: []uint64{3, 0}, Hosts: []hostabi.Instance{host}})
	for !c.Status().Ended() {
		if _, err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := host.guest.Call(ctx, "f0", 1); err == nil || !strings.Contains(err.Error(), "no host function") {
		t.Errorf("after a trap: error %v", err)
	}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReentryTypes calls with arguments of several types.
func TestReentryTypes(t *testing.T) {
	host := &callbacks{}
	var got [][]uint64
	host.in = func(ctx context.Context) context.Context {
		for _, args := range [][]uint64{{api.EncodeI32(-5), 7}, {1 << 40, 7}, {1}} {
			r, err := host.guest.Call(ctx, "compare", args...)
			if err != nil {
				r = nil
			}
			got = append(got, r)
		}
		return ctx
	}
	reenter(t, host, "main", 0, 1, false)
	minus := func(n int64) uint64 { return uint64(-n) }
	want := [][]uint64{{minus(12)}, {minus(7)}, nil}
	if !slices.EqualFunc(got, want, slices.Equal[[]uint64]) {
		t.Errorf("got %v, want %v", got, want)
	}
}
