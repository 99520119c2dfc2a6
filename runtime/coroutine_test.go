package runtime

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// counter returns a module whose export main calls an imported function [] -> [] n times and returns n.
func counter(module, name string, n int32) []byte {
	body := []byte{byte(wasm.OpLoop), 0x40, byte(wasm.OpCall), 0}
	body = append(body, byte(wasm.OpLocalGet), 0, byte(wasm.OpI32Const), 1, byte(wasm.OpI32Add), byte(wasm.OpLocalTee), 0)
	body = wasm.AppendS32(append(body, byte(wasm.OpI32Const)), n)
	body = append(body, byte(wasm.OpI32LtS), byte(wasm.OpBrIf), 0, byte(wasm.OpEnd), byte(wasm.OpLocalGet), 0, byte(wasm.OpEnd))
	m := &wasm.Module{
		Types:     []wasm.FuncType{{}, {Results: []wasm.ValueType{wasm.I32}}},
		Imports:   []wasm.Import{{Module: module, Name: name, Kind: wasm.ExternFunc, Type: 0}},
		Functions: []uint32{1},
		Exports:   []wasm.Export{{Name: "main", Kind: wasm.ExternFunc, Index: 1}},
		Code:      []wasm.Code{wasm.NewCode([]wasm.LocalGroup{{Count: 1, Type: wasm.I32}}, body)},
	}
	return m.Encode()
}

func start(t *testing.T, r *Runtime, binary []byte, config StartConfig) *Coroutine {
	t.Helper()
	m, err := r.Compile(context.Background(), binary)
	if err != nil {
		t.Fatal(err)
	}
	config.ID = "test"
	c, err := m.Start(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestManyAwaits goes on from copies of the native stack more often than is allowed in a row.
func TestManyAwaits(t *testing.T) {
	const n = 3*maxNatives + 7
	c := start(t, testRuntime(t), counter(hostabi.ModuleName, hostabi.FuncCheckpoint, n), StartConfig{})
	ctx := context.Background()
	awaits, rebuilt := 0, 0
	for {
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Ended() {
			break
		}
		awaits++
		if c.natives == 1 {
			rebuilt++
		}
		if c.natives > maxNatives {
			t.Fatalf("%d native stacks in a row", c.natives)
		}
	}
	if awaits != n || c.Results()[0] != n || rebuilt != 4 {
		t.Errorf("%d awaits, result %v, %d stacks built; want %d, %d, 4", awaits, c.Results(), rebuilt, n, n)
	}
}

// TestParallel runs many coroutines of one module at once, each moved at every await point.
func TestParallel(t *testing.T) {
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "guests", "recursion.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	m := compiled(t, binary, nil)
	var want string
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ctx := context.Background()
			clock := &virtualClock{}
			host := func() *wasi.Instance {
				i, err := wasi.New(wasi.Config{Args: []string{"recursion", "2", "3", "40"}, Clock: clock})
				if err != nil {
					t.Error(err)
				}
				return i
			}
			var out bytes.Buffer
			c, err := m.Start(ctx, StartConfig{ID: "test", Hosts: []hostabi.Instance{host()}, Stdout: &out})
			for err == nil {
				var status snapshot.Status
				if err = c.Wait(ctx); err != nil {
					break
				}
				if status, err = c.Resume(ctx); err != nil || status.Ended() {
					break
				}
				var s *snapshot.Snapshot
				if s, err = c.Snapshot(); err != nil {
					break
				}
				old := c
				if c, err = m.Restore(ctx, s, RestoreConfig{Hosts: []hostabi.Instance{host()}, Stdout: &out}); err != nil {
					break
				}
				_ = old.Close()
			}
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
			mu.Lock()
			defer mu.Unlock()
			if want == "" {
				want = out.String()
			}
			if out.String() != want || want == "" {
				t.Errorf("one coroutine printed %q, another %q", out.String(), want)
			}
		})
	}
	wg.Wait()
}

// hostModule is a host module with one function [] -> [].
type hostModule struct {
	module *hostabi.Module
}

func newHostModule(call func()) *hostModule {
	return &hostModule{&hostabi.Module{Name: "test", Functions: []hostabi.Function{{
		Name: "f", Call: func(context.Context, *hostabi.Guest, hostabi.Instance, []uint64) { call() },
	}}}}
}

func (h *hostModule) Module() *hostabi.Module                    { return h.module }
func (*hostModule) Save() (uint32, []byte, error)                { return 1, nil, nil }
func (*hostModule) Restore(uint32, []byte) error                 { return nil }
func (*hostModule) Wait(context.Context, *hostabi.Pending) error { return nil }
func (*hostModule) Close() error                                 { return nil }

// TestCancel cancels the context while the guest runs: it is stopped at its next host call.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	calls := 0
	h := newHostModule(func() {
		if calls++; calls == 3 {
			cancel()
		}
	})
	r, err := New(context.Background(), NewConfig().WithModules(h.module))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	c := start(t, r, counter("test", "f", 1<<30), StartConfig{Hosts: []hostabi.Instance{h}})
	if _, err := c.Resume(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got error %v, want context.Canceled", err)
	}
	if calls != 3 {
		t.Errorf("%d host calls, want 3", calls)
	}
	if _, err := c.Resume(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("got error %v from a stopped coroutine, want ErrClosed", err)
	}
}

// TestCancelledBefore finds the context done before anything runs: the coroutine can be driven on.
func TestCancelledBefore(t *testing.T) {
	c := start(t, testRuntime(t), counter(hostabi.ModuleName, hostabi.FuncCheckpoint, 2), StartConfig{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 2 {
		if _, err := c.Resume(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got error %v, want context.Canceled", err)
		}
		if status, err := c.Resume(context.Background()); err != nil || status != snapshot.Suspended {
			t.Fatal(status, err)
		}
	}
	if status, err := c.Resume(context.Background()); err != nil || status != snapshot.Completed {
		t.Fatal(status, err)
	}
	if _, err := c.Resume(context.Background()); !errors.Is(err, ErrEnded) {
		t.Errorf("got error %v, want ErrEnded", err)
	}
}

// TestInUse uses a coroutine from inside its own guest's host call.
func TestInUse(t *testing.T) {
	var c *Coroutine
	var errs []error
	h := newHostModule(func() {
		_, err := c.Resume(context.Background())
		_, err2 := c.Snapshot()
		errs = append(errs, err, err2, c.Wait(context.Background()), c.Close())
	})
	r, err := New(context.Background(), NewConfig().WithModules(h.module))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	c = start(t, r, counter("test", "f", 1), StartConfig{Hosts: []hostabi.Instance{h}})
	if _, err := c.Snapshot(); !errors.Is(err, ErrNotSuspended) {
		t.Errorf("got error %v before the start, want ErrNotSuspended", err)
	}
	if status, err := c.Resume(context.Background()); err != nil || status != snapshot.Completed {
		t.Fatal(status, err, c.Err())
	}
	for _, err := range errs {
		if !errors.Is(err, ErrInUse) {
			t.Errorf("got error %v, want ErrInUse", err)
		}
	}
	if len(errs) != 4 {
		t.Errorf("%d errors, want 4", len(errs))
	}
}

// TestModuleErrors checks what is said of modules that can't be run.
func TestModuleErrors(t *testing.T) {
	r := testRuntime(t)
	bad := counter(hostabi.ModuleName, hostabi.FuncCheckpoint, 1)
	for _, c := range []struct {
		name   string
		binary []byte
		want   string
	}{
		{"empty", nil, "not a module"},
		{"text", []byte("hello"), "not a module"},
		{"cut", bad[:len(bad)-3], "code section"},
		{"unknown import", counter("env", "f", 1), `"env"."f"; here it can import from durun`},
		{"wrong signature", counter(hostabi.ModuleName, hostabi.FuncYield, 1), "signature"},
		{"reserved export", func() []byte {
			m, _ := wasm.Decode(bad)
			m.Exports[0].Name = "durun:main"
			return m.Encode()
		}(), "reserved"},
		{"running form", func() []byte {
			b, _, err := Instrument(bad)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}(), "take the original"},
	} {
		_, err := r.Compile(context.Background(), c.binary)
		var me *ModuleError
		if !errors.As(err, &me) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want a *ModuleError about %q", c.name, err, c.want)
		}
	}
	m, err := r.Compile(context.Background(), bad)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Start(context.Background(), StartConfig{Entry: "nobody"}); err == nil || !strings.Contains(err.Error(), `"main"`) {
		t.Errorf("got error %v for an unknown entry, want one that names what there is", err)
	}
	if _, err := m.Start(context.Background(), StartConfig{Args: []uint64{1}}); err == nil {
		t.Error("no error for an argument too many")
	}
	if _, err := m.Start(context.Background(), StartConfig{Hosts: []hostabi.Instance{newHostModule(func() {})}}); err == nil {
		t.Error("no error for an instance of an unknown host module")
	}
}

// TestTrapNames checks that a trap's stack has the guest's function names, in the running form and in continuations.
func TestTrapNames(t *testing.T) {
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "wat", "trap.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	m := compiled(t, binary, nil)
	for _, moved := range []bool{false, true} {
		ctx := context.Background()
		c, err := m.Start(ctx, StartConfig{ID: "test"})
		if err != nil {
			t.Fatal(err)
		}
		for !c.Status().Ended() {
			if _, err := c.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			if moved && !c.Status().Ended() {
				s, err := c.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				if c, err = m.Restore(ctx, s, RestoreConfig{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if c.Status() != snapshot.Failed || c.ExitCode() != ExitCodeTrap || strings.Count(c.Err().Error(), "down") < 5 {
			t.Errorf("moved %v: ended %s, exit code %d, error %v", moved, c.Status(), c.ExitCode(), c.Err())
		}
	}
}

// TestMaxOutput has a guest write more between two commits than a commit may hold: it traps, and says why.
func TestMaxOutput(t *testing.T) {
	var c *Coroutine
	h := newHostModule(func() {
		c.written = MaxOutput - 3
		if err := c.write(1, []byte("abc")); err != nil {
			t.Error(err)
		}
		_ = c.write(1, []byte("d"))
	})
	r, err := New(context.Background(), NewConfig().WithModules(h.module))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	c = start(t, r, counter("test", "f", 1), StartConfig{Hosts: []hostabi.Instance{h}})
	status, err := c.Resume(context.Background())
	if err != nil || status != snapshot.Failed || !strings.Contains(c.Err().Error(), "more than 256 MiB of output") {
		t.Fatalf("ended %s, %v, %v", status, err, c.Err())
	}
	c.Committed(snapshot.Commit{Manifest: snapshot.Manifest{Seq: 1, Output: 3}})
	if c.written != 0 {
		t.Errorf("%d bytes counted after a commit", c.written)
	}
}

// TestMaxStretches has a guest change between its streams more often than a commit may hold.
func TestMaxStretches(t *testing.T) {
	var c *Coroutine
	h := newHostModule(func() {
		c.output = slices.Repeat([]snapshot.Output{{Stream: 2}}, snapshot.MaxStretches-1)
		for range 2 {
			_ = c.write(1, []byte("a")) // is one
		}
		_ = c.write(2, []byte("b"))
	})
	r, err := New(context.Background(), NewConfig().WithModules(h.module))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	c = start(t, r, counter("test", "f", 1), StartConfig{Hosts: []hostabi.Instance{h}})
	status, err := c.Resume(context.Background())
	if err != nil || status != snapshot.Failed || !strings.Contains(c.Err().Error(), "changes between standard output and error") {
		t.Fatalf("ended %s, %v, %v", status, err, c.Err())
	}
	if s, err := c.Snapshot(); err != nil {
		t.Error(err)
	} else if s.Coroutine = "c"; s.Validate() != nil {
		t.Error(s.Validate())
	}
}

// TestDriver drives a generator through a store, and has two drivers go on from the same commit.
func TestDriver(t *testing.T) {
	ctx := context.Background()
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "wat", "generator.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	m := compiled(t, binary, nil)
	store := snapshot.NewStore(bucket.NewMem())
	if _, err := store.PutModule(ctx, binary); err != nil {
		t.Fatal(err)
	}
	c, err := m.Start(ctx, StartConfig{ID: "gen"})
	if err != nil {
		t.Fatal(err)
	}
	var values, waits []string
	d := Driver{Store: store, Once: true, OnYield: func(v []byte) []byte {
		values = append(values, string(v))
		return []byte("reply")
	}, OnWait: func(p *hostabi.Pending) {
		kind := ""
		if p != nil {
			kind = p.Kind
		}
		waits = append(waits, kind)
	}}
	if status, err := d.Drive(ctx, c); err != nil || status != snapshot.Suspended {
		t.Fatal(status, err)
	}
	latest := func() *Coroutine {
		s, commit, err := store.Latest(ctx, "gen")
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.Restore(ctx, s, RestoreConfig{Hash: commit.Hash})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := latest(), latest()
	d.Once = false
	if status, err := d.Drive(ctx, first); err != nil || status != snapshot.Completed {
		t.Fatal(status, err)
	}
	if want := []string{"yield", "", "yield", "", "yield", ""}; !slices.Equal(waits, want) {
		t.Errorf("it waited for %q, want %q", waits, want)
	}
	if got := strings.Join(values, " "); got != "1 2 3" {
		t.Errorf("the generator yielded %q", got)
	}
	if _, err := (&Driver{Store: store}).Drive(ctx, second); !errors.Is(err, snapshot.ErrFenced) {
		t.Errorf("the second driver: got error %v, want ErrFenced", err)
	}
	history, err := store.History(ctx, "gen")
	if err != nil || len(history) != 4 || history[3].Status != snapshot.Completed {
		t.Errorf("history has %d commits, %v", len(history), err)
	}
	for i := 1; i < len(history); i++ {
		if history[i].Parent == nil || history[i].Parent.Seq != history[i-1].Seq {
			t.Errorf("commit %d has parent %v", history[i].Seq, history[i].Parent)
		}
	}
}

// TestInputOutput passes values through durun.input, durun.yield and durun.output.
func TestInputOutput(t *testing.T) {
	a := &abi{input: []byte("input")}
	memory := &fakeMemory{data: make([]byte, 64)}
	g := &hostabi.Guest{Memory: memory}
	call := func(name string, args ...uint64) []uint64 {
		for _, f := range abiModule.Functions {
			if f.Name == name {
				f.Call(context.Background(), g, a, args)
			}
		}
		return args
	}
	if n := call(hostabi.FuncInput, 8, 3)[0]; n != 5 || string(memory.data[8:14]) != "inp\x00\x00\x00" {
		t.Errorf("input returned %d, memory has %q", n, memory.data[8:14])
	}
	call(hostabi.FuncOutput, 8, 3)
	if string(a.result) != "inp" {
		t.Errorf("the result is %q", a.result)
	}
	version, data, err := a.Save()
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshot.Snapshot{Host: []snapshot.Section{{Name: hostabi.ModuleName, Version: version, Data: data}}}
	if r, err := ResultOf(s); err != nil || string(r) != "inp" {
		t.Errorf("the snapshot's result is %q, %v", r, err)
	}
	defer func() {
		if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "outside the guest's memory") {
			t.Errorf("trapped with %v", err)
		}
	}()
	call(hostabi.FuncOutput, 60, 5)
}

type fakeMemory struct {
	api.Memory
	data []byte
}

func (m *fakeMemory) Read(offset, n uint32) ([]byte, bool) {
	if uint64(offset)+uint64(n) > uint64(len(m.data)) {
		return nil, false
	}
	return m.data[offset : offset+n : offset+n], true
}
