package wasi

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	wazerosys "github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/hostabi"
)

// TestSignatures holds the functions against wazero's.
func TestSignatures(t *testing.T) {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	theirs, err := wasi_snapshot_preview1.NewBuilder(r).Compile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := theirs.ExportedFunctions()
	for _, f := range Module.Functions {
		def := want[f.Name]
		if def == nil {
			t.Errorf("%s: wazero has no such function", f.Name)
			continue
		}
		delete(want, f.Name)
		if !slices.Equal(f.Params, def.ParamTypes()) || !slices.Equal(f.Results, def.ResultTypes()) {
			t.Errorf("%s: %x -> %x, want %x -> %x", f.Name, f.Params, f.Results, def.ParamTypes(), def.ResultTypes())
		}
		if (f.Call == nil) == (f.Await == nil) {
			t.Errorf("%s: exactly one of Call and Await must be set", f.Name)
		}
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
	if Module.Name != wasi_snapshot_preview1.ModuleName {
		t.Errorf("module %s", Module.Name)
	}
}

func TestConfigErrors(t *testing.T) {
	dir := files(t, map[string]string{"f": ""})
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Args: []string{"a", "b\x00"}}, "argument 1"},
		{Config{Args: make([]string, maxStrings+1)}, "too long"},
		{Config{Env: []string{"A=" + strings.Repeat("x", maxStringBytes)}}, "too long"},
		{Config{Env: []string{"A"}}, "not KEY=VALUE"},
		{Config{Env: []string{"=1"}}, "not KEY=VALUE"},
		{Config{Env: []string{"A=\x00"}}, "NUL"},
		{Config{Mounts: []Mount{{Host: dir + "/none"}}}, "no such file"},
		{Config{Mounts: []Mount{{Host: dir + "/f"}}}, "not a directory"},
		{Config{Mounts: []Mount{{Host: dir}, {Host: dir, Guest: "/./"}}}, "another mount"},
		{Config{Mounts: []Mount{{Host: dir, Guest: "\x00"}}}, "NUL"},
	} {
		i, err := New(c.config)
		if err == nil {
			i.Close()
			t.Errorf("no error, want %s", c.want)
			continue
		}
		contains(t, err.Error(), c.want)
	}
}

func TestArgs(t *testing.T) {
	g := newGuest(t, Config{Args: []string{"prog", "", "-x"}, Env: []string{"B=1", "A=\xff"}})
	count, size := g.space(4), g.space(4)
	for _, c := range []struct {
		fn, text string
		n        uint32
	}{
		{"args", "prog\x00\x00-x\x00", 3},
		{"environ", "B=1\x00A=\xff\x00", 2},
	} {
		g.want(success, c.fn+"_sizes_get", count, size)
		if g.u32(count) != c.n || g.u32(size) != uint32(len(c.text)) {
			t.Errorf("%s: %d strings in %d bytes", c.fn, g.u32(count), g.u32(size))
		}
		ptrs, buf := g.space(4*int(c.n)), g.space(len(c.text))
		g.want(success, c.fn+"_get", ptrs, buf)
		if b, _ := g.mem.Read(uint32(buf), uint32(len(c.text))); string(b) != c.text {
			t.Errorf("%s: %q", c.fn, b)
		}
		if uint64(g.u32(ptrs)) != buf || g.u32(ptrs+4) <= g.u32(ptrs) {
			t.Errorf("%s: pointers %x %x, buffer %x", c.fn, g.u32(ptrs), g.u32(ptrs+4), buf)
		}
		g.want(eFault, c.fn+"_get", 1<<16-4, buf)
		g.want(eFault, c.fn+"_get", ptrs, 1<<16-4)
		g.want(eFault, c.fn+"_sizes_get", 1<<16-2, size)
		g.want(eFault, c.fn+"_sizes_get", count, 1<<16)
	}
}

func TestExit(t *testing.T) {
	g := newGuest(t, Config{})
	defer func() {
		var exit *wazerosys.ExitError
		if err, _ := recover().(error); !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Errorf("proc_exit panicked with %v", err)
		}
	}()
	g.call("proc_exit", 7)
}

func TestRandom(t *testing.T) {
	g := newGuest(t, Config{Random: testRandom(9)})
	buf := g.space(8)
	g.want(success, "random_get", buf, 7)
	if g.u64(buf) != 0x0009090909090909 {
		t.Errorf("random bytes %x", g.u64(buf))
	}
	g.want(success, "random_get", buf, 0)
	g.want(eFault, "random_get", buf, 1<<16)
	g.want(eFault, "random_get", buf, 1<<32-1)

	g = newGuest(t, Config{})
	g.want(success, "random_get", buf, 8)
	if g.u64(buf) == 0 {
		t.Error("no random bytes")
	}
}

func TestYield(t *testing.T) {
	g := newGuest(t, Config{})
	g.want(success, "sched_yield")
	if len(g.pending) != 0 {
		t.Error("sched_yield suspends without being asked")
	}
	g = newGuest(t, Config{CheckpointOnYield: true})
	g.move = true
	g.want(success, "sched_yield")
	g.want(success, "sched_yield")
	if len(g.pending) != 2 || g.pending[1].Kind != hostabi.KindCheckpoint {
		t.Errorf("sched_yield waited for %v", g.pending)
	}
}

func TestNotSupported(t *testing.T) {
	g := newGuest(t, Config{})
	g.want(eNosys, "fd_fdstat_set_rights", 0, 0, 0)
	for fd, e := range map[uint64]errno{0: eNotsock, 99: eBadf} {
		g.want(e, "sock_accept", fd, 0, 64)
		g.want(e, "sock_recv", fd, 64, 1, 0, 64, 64)
		g.want(e, "sock_send", fd, 64, 1, 0, 64)
		g.want(e, "sock_shutdown", fd, 0)
	}
}

// TestNoMemory calls everything for a module that has no memory.
func TestNoMemory(t *testing.T) {
	for _, f := range Module.Functions {
		if f.Name == "proc_exit" || f.Name == "proc_raise" {
			continue // end the guest
		}
		g := newGuest(t, Config{Mounts: []Mount{{Host: t.TempDir()}}})
		g.g.Memory = nil
		args := make([]uint64, len(f.Params))
		for n := range args {
			args[n] = 1
		}
		g.call(f.Name, args...) // any errno
	}
}

func TestWaitAfterClose(t *testing.T) {
	g := newGuest(t, Config{Stdin: &lines{block: make(chan struct{})}})
	g.clock.frozen = true
	list, _ := g.iovec(8)
	_, p := g.start("fd_read", nil, 0, list, 1, g.space(4))
	done := make(chan error)
	go func() { done <- g.inst.Wait(context.Background(), p) }()
	g.inst.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := newGuest(t, Config{}).inst.Wait(ctx, &hostabi.Pending{Kind: hostabi.KindTimer, Data: wait{hasMono: true, mono: 1 << 62}.encode()}); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with a cancelled context: %v", err)
	}
	if err := g.inst.Wait(ctx, &hostabi.Pending{Kind: hostabi.KindTimer, Data: []byte("?")}); err == nil {
		t.Error("Wait for a damaged Pending: no error")
	}
}

// TestRaise raises each signal: it ends the program, does nothing, or is refused.
func TestRaise(t *testing.T) {
	raise := func(n uint64) (e errno, exit uint32) {
		g := newGuest(t, Config{})
		defer func() {
			if err, ok := recover().(*wazerosys.ExitError); ok {
				exit = err.ExitCode()
			}
		}()
		return g.call("proc_raise", n), 0
	}
	for n, want := range map[uint64]struct {
		e    errno
		exit uint32
	}{
		0: {}, 16: {}, 17: {}, 22: {}, 27: {}, 18: {e: eNotsup}, 21: {e: eNotsup}, 31: {e: eInval}, 255: {e: eInval},
		1: {exit: 129}, 6: {exit: 134}, 9: {exit: 137}, 15: {exit: 143}, 30: {exit: 158},
	} {
		if e, exit := raise(n); e != want.e || exit != want.exit {
			t.Errorf("signal %d: errno %d, exit code %d, want %+v", n, e, exit, want)
		}
	}
}
