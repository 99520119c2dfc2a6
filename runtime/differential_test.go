package runtime

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/snapshot"
)

// virtualClock stands still but when somebody sleeps, so that every run of a program sees the same times.
type virtualClock struct {
	mu  sync.Mutex
	now int64
}

func (c *virtualClock) read() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *virtualClock) Wall() int64 { return 1_800_000_000e9 + c.read() }
func (c *virtualClock) Mono() int64 { return 7e9 + c.read() }

func (c *virtualClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += int64(max(d, 0))
	return ctx.Err()
}

// world is everything outside a guest, the same at the start of every run.
type world struct {
	args, env []string
	stdin     *wasi.Stdin
	clock     *virtualClock
	random    io.Reader
	mounts    []wasi.Mount
	globals   map[string]string // that the guest imports, as in guests.Case
	out, err  bytes.Buffer
	wrap      func(*wasi.Instance) hostabi.Instance // if not nil, puts something between the guest and WASI
}

func newWorld(t *testing.T, c guests.Case, extra ...wasi.Mount) *world {
	w := &world{
		args: append([]string{c.Guest}, c.Args...), stdin: wasi.NewStdin(strings.NewReader(c.Stdin)),
		clock: &virtualClock{}, random: rand.NewChaCha8([32]byte{1, 2, 3}), mounts: extra,
		globals: c.Globals,
	}
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		w.env = append(w.env, k+"="+c.Env[k])
	}
	for _, guest := range slices.Sorted(maps.Keys(c.Dirs)) {
		if len(c.Dirs[guest]) == 0 {
			w.mounts = append(w.mounts, wasi.Mount{Memory: true, Guest: guest}) // is empty, too
			continue
		}
		dir := t.TempDir()
		for name, text := range c.Dirs[guest] {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.mounts = append(w.mounts, wasi.Mount{Host: dir, Guest: guest})
	}
	return w
}

func (w *world) instance(t *testing.T) *wasi.Instance {
	i, err := wasi.New(wasi.Config{
		Args: w.args, Env: w.env, Stdin: w.stdin, Clock: w.clock, Random: w.random, Mounts: w.mounts,
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// host is what the guest runs on.
func (w *world) host(t *testing.T) hostabi.Instance {
	i := w.instance(t)
	if w.wrap == nil {
		return i
	}
	return w.wrap(i)
}

// outcome is what a run leaves.
type outcome struct {
	Out     string
	Err     string
	Exit    uint32
	Results []uint64
	Trap    string // the first line
	Yielded []string
	Awaits  int // of durun's module
	memory  []byte
}

// plain runs the original module on wazero alone; what would suspend blocks instead.
func plain(t *testing.T, binary []byte, entry string, w *world) outcome {
	ctx := compileContext(context.Background())
	engine := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCoreFeatures(features).WithDebugInfoEnabled(false).WithCompilationCache(plainCache))
	defer engine.Close(ctx)
	var o outcome
	var memory api.Memory
	output := func(stream uint8, p []byte) error {
		if stream == 2 {
			w.err.Write(p)
		} else {
			w.out.Write(p)
		}
		return nil
	}
	for _, h := range []hostabi.Instance{&abi{}, w.instance(t)} {
		b := engine.NewHostModuleBuilder(h.Module().Name)
		for _, f := range h.Module().Functions {
			b = b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
				if len(mod.ExportedMemoryDefinitions()) > 0 {
					memory = mod.Memory()
				}
				g := &hostabi.Guest{Memory: memory, Output: output}
				if f.Call != nil {
					f.Call(ctx, g, h, stack)
					return
				}
				args := slices.Clone(stack)
				if h.Module() == abiModule {
					o.Awaits++
				}
				p := f.Await(ctx, g, h, stack, nil)
				for p != nil {
					if p.Kind == hostabi.KindYield {
						o.Yielded = append(o.Yielded, string(p.Data))
					}
					if err := h.Wait(ctx, p); err != nil {
						panic(err)
					}
					copy(stack, args)
					p = f.Await(ctx, g, h, stack, p)
				}
			}), f.Params, f.Results).Export(f.Name)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	providers, err := guests.Providers(binary, w.globals)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range providers {
		inst, err := engine.InstantiateWithConfig(ctx, p, wazero.NewModuleConfig().WithName(name))
		if err != nil {
			t.Fatal(err)
		}
		if len(inst.ExportedMemoryDefinitions()) > 0 {
			memory = inst.Memory()
		}
	}
	mod, err := engine.InstantiateWithConfig(ctx, binary, wazero.NewModuleConfig().WithStartFunctions().WithName(""))
	if err == nil {
		if len(mod.ExportedMemoryDefinitions()) > 0 {
			memory = mod.Memory()
		}
		if entry == "" {
			entry = "_start"
		}
		o.Results, err = mod.ExportedFunction(entry).Call(ctx)
	}
	o.end(err)
	if memory != nil {
		view, _ := memory.Read(0, memory.Size())
		o.memory = slices.Clone(view)
	}
	o.Out, o.Err = w.out.String(), w.err.String()
	return o
}

func (o *outcome) end(err error) {
	var exit *sys.ExitError
	switch {
	case errors.As(err, &exit):
		o.Exit, o.Results = exit.ExitCode(), nil
	case err != nil:
		o.Trap, _, _ = strings.Cut(err.Error(), "\n")
		o.Exit, o.Results = ExitCodeTrap, nil
	}
	if len(o.Results) == 0 {
		o.Results = nil
	}
}

// durable runs a module under durun. transfer is called at each await point and returns the coroutine to go on with.
func durable(t *testing.T, m *Module, entry string, w *world, transfer func(*Coroutine) *Coroutine) outcome {
	t.Helper()
	ctx := context.Background()
	c, err := m.Start(ctx, StartConfig{
		ID: "test", Entry: entry, Hosts: []hostabi.Instance{w.host(t)}, Stdout: &w.out, Stderr: &w.err,
	})
	if err != nil {
		t.Fatal(err)
	}
	var o outcome
	for {
		if err := c.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		before := c.Pending()
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Ended() {
			break
		}
		if before != nil && c.Pending() == before {
			continue
		}
		if c.hosts[c.pending.host.module].Module() == abiModule {
			o.Awaits++
		}
		if v, ok := c.Yielded(); ok {
			o.Yielded = append(o.Yielded, string(v))
		}
		c = transfer(c)
	}
	o.Exit, o.Results = c.ExitCode(), c.Results()
	if err := c.Err(); err != nil {
		o.Trap, _, _ = strings.Cut(err.Error(), "\n")
	}
	if len(o.Results) == 0 {
		o.Results = nil
	}
	if c.memory != nil {
		view, _ := c.memory.Read(0, c.memory.Size())
		o.memory = slices.Clone(view)
	}
	o.Out, o.Err = w.out.String(), w.err.String()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return o
}

// move takes a suspended coroutine through its encoded snapshot into a fresh instance.
func move(t *testing.T, m *Module, w *world, c *Coroutine) *Coroutine {
	t.Helper()
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	data, err := snapshot.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = snapshot.Decode(data); err != nil {
		t.Fatal(err)
	}
	c, err = m.Restore(context.Background(), s, RestoreConfig{
		Hash: snapshot.Digest(data), Hosts: []hostabi.Instance{w.host(t)}, Stdout: &w.out, Stderr: &w.err,
	})
	if err != nil {
		t.Fatal(err)
	}
	// A coroutine that has just been restored gives the snapshot that it was restored from, but for number and time.
	again, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again.Seq, again.Parent, again.Time, again.Output = s.Seq, s.Parent, s.Time, s.Output
	data2, err := snapshot.Encode(again)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, data2) {
		t.Fatalf("the restored coroutine's snapshot differs from the one it was restored from:\n%s", cmp.Diff(s, again))
	}
	return c
}

// plainCache keeps what plain wazero has compiled, modules what durun has, for all tests of this package.
var (
	plainCache = wazero.NewCompilationCache()
	modulesMu  sync.Mutex
	modules    = map[build]func() (*Module, error){}
)

// build is a module as one transform makes it.
type build struct {
	hash    snapshot.Hash
	choices instrument.Choices
}

// compiled returns the module of a guest, which it compiles only once. globals are those that it imports, as in
// guests.Case.
func compiled(t *testing.T, binary []byte, globals map[string]string) *Module {
	t.Helper()
	return compiledAs(t, binary, globals, instrument.Choices{})
}

// compiledAs returns the module as a transform with these choices makes it.
func compiledAs(t *testing.T, binary []byte, globals map[string]string, choices instrument.Choices) *Module {
	t.Helper()
	modulesMu.Lock()
	which := build{snapshot.HashOf(binary), choices}
	f := modules[which]
	if f == nil {
		f = sync.OnceValues(func() (*Module, error) {
			hosts, err := hostGlobals(globals)
			if err != nil {
				return nil, err
			}
			r, err := New(context.Background(), NewConfig().WithModules(append(hosts, wasi.Module)...))
			if err != nil {
				return nil, err
			}
			r.choices, r.ticking = choices, choices != (instrument.Choices{})
			return r.Compile(context.Background(), binary)
		})
		modules[which] = f
	}
	modulesMu.Unlock()
	m, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// hostGlobals returns host modules that offer these globals.
func hostGlobals(globals map[string]string) ([]*hostabi.Module, error) {
	var hosts []*hostabi.Module
	for _, path := range slices.Sorted(maps.Keys(globals)) {
		module, name, _ := strings.Cut(path, ".")
		g, err := guests.ParseGlobal(globals[path])
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(hosts, func(m *hostabi.Module) bool { return m.Name == module })
		if i < 0 {
			i = len(hosts)
			hosts = append(hosts, &hostabi.Module{Name: module})
		}
		hosts[i].Globals = append(hosts[i].Globals, hostabi.Global{Name: name, Type: g.Type, Mutable: g.Mutable, Value: g.Bits})
	}
	return hosts, nil
}

// testRuntime returns a runtime that offers modules, WASI if there are none.
func testRuntime(t testing.TB, modules ...*hostabi.Module) *Runtime {
	t.Helper()
	if modules == nil {
		modules = []*hostabi.Module{wasi.Module}
	}
	ctx := context.Background()
	r, err := New(ctx, NewConfig().WithModules(modules...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(ctx) })
	return r
}

// shiftFiles makes sure that files made from now on have other inode numbers, and other times even where the file system
// keeps those coarsely.
func shiftFiles(t *testing.T) {
	dir := t.TempDir()
	var first time.Time
	for i := 0; ; i++ {
		name := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = info.ModTime()
		}
		if i > 600 && info.ModTime().Sub(first) > 20*time.Millisecond {
			return
		}
	}
}

// unsupported lists the guests that are refused, with a part of the reason.
var unsupported = map[string]string{}

// compare runs a module in several ways and compares what is left: on plain wazero, under durun without leaving the process,
// moved at every await point, and moved between builds of which the transform makes other choices.
func compare(t *testing.T, binary []byte, c guests.Case) outcome {
	t.Helper()
	m := compiled(t, binary, c.Globals)
	want := plain(t, binary, c.Entry, newWorld(t, c))
	foreign := map[int]bool{}
	var other outcome
	if len(c.Dirs) > 0 {
		// Bytes that differ between two plain runs tell of the folders, which are others in each run: inode numbers, times.
		shiftFiles(t)
		other = plain(t, binary, c.Entry, newWorld(t, c))
	}
	for i := range min(len(want.memory), len(other.memory)) {
		if want.memory[i] != other.memory[i] {
			// Part of a field of up to 8 bytes, some of which may be equal by chance.
			for j := i - 7; j <= i+7; j++ {
				foreign[j] = true
			}
		}
	}
	if len(foreign) > 0 {
		t.Logf("left out: %d bytes of memory around differences between two plain runs", len(foreign))
	}
	check := func(how string, got outcome) {
		t.Helper()
		if d := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "memory" }, cmp.Ignore())); d != "" {
			t.Fatalf("%s: differs from plain wazero (-want +got):\n%s", how, d)
		}
		if len(got.memory) != len(want.memory) {
			t.Fatalf("%s: final memory has %d bytes, not %d", how, len(got.memory), len(want.memory))
		}
		differ, first := 0, 0
		for i := range want.memory {
			if want.memory[i] != got.memory[i] && !foreign[i] {
				if differ++; differ == 1 {
					first = i
				}
			}
		}
		// Two runs may agree by chance in a byte of a time that a third has otherwise.
		const chance = 32
		if differ > 0 && (len(c.Dirs) == 0 || differ > chance) {
			t.Fatalf("%s: %d bytes of the final memory differ, from byte %#x on", how, differ, first)
		}
	}
	check("resident", durable(t, m, c.Entry, newWorld(t, c), func(c *Coroutine) *Coroutine { return c }))
	check("rewound in place at every await point", durable(t, m, c.Entry, newWorld(t, c), func(c *Coroutine) *Coroutine {
		c.limit = 1
		return c
	}))
	w := newWorld(t, c)
	moves := 0
	check("moved at every await point", durable(t, m, c.Entry, w, func(c *Coroutine) *Coroutine {
		moves++
		return move(t, m, w, c)
	}))
	w = newWorld(t, c)
	builds := [2]*Module{m, compiledAs(t, binary, c.Globals, otherChoices)}
	n := 0
	check("moved at every await point to a build that chooses otherwise, and back", durable(t, m, c.Entry, w, func(c *Coroutine) *Coroutine {
		n++
		return move(t, builds[n%2], w, c)
	}))
	t.Logf("%d moves", moves)
	return want
}

// withoutRace skips a test that does all its work in one goroutine, and so much that the race detector makes minutes of it, or tens
// of seconds.
func withoutRace(t *testing.T) {
	if guests.RaceEnabled {
		t.Skip("left out: takes long with the race detector; make test runs it without")
	}
}

func TestGuests(t *testing.T) {
	testdata := filepath.Join("..", "testdata")
	manifest, err := guests.Manifest(testdata)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := guests.Cases(testdata)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, g := range manifest {
		files[g.Name] = filepath.Join(testdata, filepath.FromSlash(g.File))
	}
	ran := 0
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			binary, err := os.ReadFile(files[c.Guest])
			if err != nil {
				t.Fatal(err)
			}
			if guests.RaceEnabled && len(binary) > 1<<20 {
				t.Skipf("left out: with the race detector, wazero takes minutes to compile %d bytes; make test runs it without", len(binary))
			}
			if reason, ok := unsupported[c.Guest]; ok {
				_, err := testRuntime(t).Compile(context.Background(), binary)
				var me *ModuleError
				var ue *instrument.UnsupportedError
				if !errors.As(err, &me) || !errors.As(err, &ue) || !strings.Contains(err.Error(), reason) {
					t.Fatalf("got error %v, want one about %q", err, reason)
				}
				t.Skipf("left out: %v", err)
			}
			got := compare(t, binary, c)
			got.memory = nil
			if got.Exit != c.Exit && c.Trap == "" || got.Out != c.Stdout || c.Awaits != 0 && got.Awaits != c.Awaits || !strings.Contains(got.Trap, c.Trap) {
				t.Errorf("got %+v, want %+v", got, c)
			}
			for i, r := range c.Results {
				typ, bits, _ := strings.Cut(r, ":")
				want, err := strconv.ParseUint(bits, 16, 64)
				if err != nil || i >= len(got.Results) || got.Results[i] != want {
					t.Errorf("result %d is %s %#x, want %s", i, typ, got.Results, r)
				}
			}
		})
		ran++
	}
	if ran < 20 {
		t.Fatalf("only %d cases", ran)
	}
	t.Logf("%d cases", ran)
}
