package wasi_test

import (
	"bytes"
	"context"
	leb128 "encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
)

// These tests run real programs on plain wazero, with this package as their WASI. Nothing suspends them: a call that
// waits is waited for in place. But where move is set, WASI's state goes through Save and Restore at every await point.

// host is WASI for a program that runs on plain wazero.
type host struct {
	config wasi.Config
	inst   *wasi.Instance
	guest  hostabi.Guest
	move   bool
	awaits int

	stdout, stderr bytes.Buffer
}

func newHost(c wasi.Config, move bool) (*host, error) {
	h := &host{config: c, move: move}
	if c.Stdin != nil {
		h.config.Stdin = wasi.NewStdin(c.Stdin) // goes from instance to instance
	}
	h.guest.Output = func(stream uint8, p []byte) error {
		w := &h.stdout
		if stream == 2 {
			w = &h.stderr
		}
		_, err := w.Write(p)
		return err
	}
	var err error
	h.inst, err = wasi.New(h.config)
	return h, err
}

// hostKey is the context key of the program's *host.
type hostKey struct{}

func adapt(f hostabi.Function) api.GoModuleFunc {
	return func(ctx context.Context, m api.Module, stack []uint64) {
		h := ctx.Value(hostKey{}).(*host)
		h.guest.Memory = m.Memory()
		if f.Call != nil {
			f.Call(ctx, &h.guest, h.inst, stack)
			return
		}
		args := slices.Clone(stack)
		p := f.Await(ctx, &h.guest, h.inst, stack, nil)
		for ; p != nil; p = f.Await(ctx, &h.guest, h.inst, stack, p) {
			h.awaits++
			if err := h.suspend(ctx, p); err != nil {
				panic(err)
			}
			copy(stack, args)
		}
	}
}

func (h *host) suspend(ctx context.Context, p *hostabi.Pending) error {
	if h.move {
		version, data, err := h.inst.Save()
		if err != nil {
			return err
		}
		parts, err := h.inst.SaveParts()
		if err != nil {
			return err
		}
		h.inst.Close()
		if h.inst, err = wasi.New(h.config); err != nil {
			return err
		}
		if err := h.inst.RestoreParts(version, parts); err != nil {
			return err
		}
		if err := h.inst.Restore(version, data); err != nil {
			return err
		}
	}
	return h.inst.Wait(ctx, p)
}

// outcome is what a program did.
type outcome struct {
	Stdout, Stderr string
	Exit           uint32
	Err            string
}

func (o *outcome) end(err error) {
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		o.Exit = exit.ExitCode()
	} else if err != nil {
		o.Err = err.Error()
	}
}

// engine runs programs on plain wazero.
type engine struct {
	here, there wazero.Runtime // with this package as WASI, and with wazero's own
}

func newEngine(t *testing.T, cache wazero.CompilationCache) *engine {
	t.Helper()
	ctx := context.Background()
	rc := wazero.NewRuntimeConfig().WithCompilationCache(cache).
		WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesExceptionHandling)
	e := &engine{wazero.NewRuntimeWithConfig(ctx, rc), wazero.NewRuntimeWithConfig(ctx, rc)}
	t.Cleanup(func() {
		e.here.Close(ctx)
		e.there.Close(ctx)
		cache.Close(ctx)
	})
	b := e.here.NewHostModuleBuilder(wasi.Module.Name)
	for _, f := range wasi.Module.Functions {
		b.NewFunctionBuilder().WithGoModuleFunction(adapt(f), f.Params, f.Results).Export(f.Name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	wasi_snapshot_preview1.MustInstantiate(ctx, e.there)
	return e
}

// program is compiled for both.
type program struct {
	*engine
	onHere, onThere wazero.CompiledModule
	binary          []byte
}

func (e *engine) compile(t *testing.T, binary []byte) *program {
	t.Helper()
	p := &program{engine: e, binary: binary}
	var err1, err2 error
	p.onHere, err1 = e.here.CompileModule(t.Context(), binary)
	p.onThere, err2 = e.there.CompileModule(t.Context(), binary)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return p
}

// withProviders returns a context for one instance that gets new memories and tables for those that it imports.
func (p *program) withProviders(ctx context.Context, t *testing.T) context.Context {
	t.Helper()
	providers, err := guests.Providers(p.binary, nil)
	if err != nil {
		t.Fatal(err)
	}
	instances := map[string]api.Module{}
	for name, binary := range providers {
		if instances[name], err = p.here.InstantiateWithConfig(ctx, binary, wazero.NewModuleConfig().WithName("")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { instances[name].Close(context.Background()) })
	}
	return experimental.WithImportResolver(ctx, func(name string) api.Module {
		if m, ok := instances[name]; ok {
			return m
		}
		return nil
	})
}

// runHere runs it on this package.
func (p *program) runHere(t *testing.T, c wasi.Config, move bool) (outcome, int) {
	t.Helper()
	h, err := newHost(c, move)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { h.inst.Close() }()
	ctx := p.withProviders(context.WithValue(t.Context(), hostKey{}, h), t)
	m, err := p.here.InstantiateModule(ctx, p.onHere, wazero.NewModuleConfig().WithName(""))
	if err == nil {
		m.Close(ctx)
	}
	var o outcome
	o.end(err)
	o.Stdout, o.Stderr = h.stdout.String(), h.stderr.String()
	return o, h.awaits
}

// runThere runs it on wazero's own WASI.
func (p *program) runThere(t *testing.T, c wasi.Config) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	mc := wazero.NewModuleConfig().WithName("").WithArgs(c.Args...).WithStdout(&stdout).WithStderr(&stderr).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep()
	if c.Stdin != nil {
		mc = mc.WithStdin(c.Stdin)
	}
	for _, e := range c.Env {
		k, v, _ := strings.Cut(e, "=")
		mc = mc.WithEnv(k, v)
	}
	fsc := wazero.NewFSConfig()
	for _, m := range c.Mounts {
		fsc = fsc.WithDirMount(m.Host, m.Guest)
	}
	m, err := p.there.InstantiateModule(t.Context(), p.onThere, mc.WithFSConfig(fsc))
	if err == nil {
		m.Close(t.Context())
	}
	var o outcome
	o.end(err)
	o.Stdout, o.Stderr = stdout.String(), stderr.String()
	return o
}

// caseConfig makes a case's Config, with folders of its own.
func caseConfig(t *testing.T, c guests.Case) wasi.Config {
	t.Helper()
	config := wasi.Config{Args: append([]string{c.Guest}, c.Args...)}
	for k, v := range c.Env {
		config.Env = append(config.Env, k+"="+v)
	}
	slices.Sort(config.Env)
	if c.Stdin != "" {
		config.Stdin = strings.NewReader(c.Stdin)
	}
	var names []string
	for guest := range c.Dirs {
		names = append(names, guest)
	}
	slices.Sort(names)
	for _, guest := range names {
		if len(c.Dirs[guest]) == 0 {
			config.Mounts = append(config.Mounts, wasi.Mount{Memory: true, Guest: guest}) // is empty, too
			continue
		}
		config.Mounts = append(config.Mounts, wasi.Mount{Host: folder(t, c.Dirs[guest]), Guest: guest})
	}
	return config
}

func folder(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestGuests runs the guests of testdata, and compares with what they do on wazero's own WASI.
func TestGuests(t *testing.T) {
	const testdata = "../../testdata"
	list, err := guests.Manifest(testdata)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no guests: run `make guests`: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	cases, err := guests.Cases(testdata)
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, wazero.NewCompilationCache())
	programs := map[string]*program{}
	ran := 0
	for _, c := range cases {
		n := slices.IndexFunc(list, func(g guests.Guest) bool { return g.Name == c.Guest })
		if n < 0 || c.Entry != "" {
			continue
		}
		binary, err := os.ReadFile(filepath.Join(testdata, list[n].File))
		if err != nil {
			t.Error(err)
			continue
		}
		if bytes.Contains(binary, []byte("\x05durun")) {
			continue // imports what only the runtime has
		}
		ran++
		if guests.RaceEnabled && len(binary) > 1<<20 {
			t.Logf("left out: %s: with the race detector, wazero takes minutes to compile it; make test runs it without", c.Name)
			continue
		}
		if programs[c.Guest] == nil {
			programs[c.Guest] = e.compile(t, binary)
		}
		t.Run(c.Name, func(t *testing.T) {
			for _, move := range []bool{false, true} {
				got, awaits := programs[c.Guest].runHere(t, caseConfig(t, c), move)
				if c.Trap != "" && strings.Contains(got.Err, c.Trap) {
					got.Err = ""
				}
				if d := cmp.Diff(outcome{Stdout: c.Stdout, Exit: c.Exit}, outcome{Stdout: got.Stdout, Exit: got.Exit, Err: got.Err}); d != "" {
					t.Errorf("with state moved %v: differs from wazero (-) here (+):\n%s%s", move, d, got.Stderr)
				}
				t.Logf("%d await points", awaits)
			}
		})
	}
	if ran == 0 {
		t.Error("no case ran")
	}
}

// TestPython runs stock CPython.
func TestPython(t *testing.T) {
	if testing.Short() {
		t.Skip("CPython takes seconds to compile")
	}
	if guests.RaceEnabled {
		t.Skip("left out: with the race detector, wazero takes minutes to compile CPython; make test runs it without")
	}
	binary, err := guests.Python()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	// Compiling CPython takes seconds, and much longer under -race: keep the code beside the program.
	name, err := guests.PythonPath()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := wazero.NewCompilationCacheWithDir(filepath.Join(filepath.Dir(name), "wazero-test"))
	if err != nil {
		t.Fatal(err)
	}
	p := newEngine(t, cache).compile(t, withoutCustom(t, binary))

	files := map[string]string{"in.txt": "one\ntwo\nthree\n", "b.txt": "", "sub/x.txt": "x", "a.txt": ""}
	for _, c := range []struct {
		name, script string
		stdin        string
		want         string // standard output; "=": what wazero's own WASI gives, errors and exit code too
		awaits       int
	}{
		{name: "hello", script: `print('hello', 6*7)`, want: "="},
		{name: "exit", script: `import sys; print('bye'); sys.exit(3)`, want: "="},
		{name: "exception", script: `1/0`, want: "="},
		{name: "argv", script: `import sys, os; print(sys.argv, os.environ['LANG'], sys.stdout.isatty(), sys.stdin.isatty())`, want: "="},
		{
			name: "stdin", stdin: "first\nsecond\n", want: "=", awaits: 2,
			script: `
import sys
for n, line in enumerate(sys.stdin): print(n, line.strip())
print(repr(sys.stdin.read()))`,
		},
		{name: "input", stdin: "me\n", want: "=", awaits: 1, script: `print('hello', input('name? '))`},
		{
			name: "files", want: "=",
			script: `
import os
print(sorted(os.listdir('/data')), sorted(e.name for e in os.scandir('/data') if e.is_dir()))
for line in open('/data/in.txt'): print(line.strip().upper())
os.makedirs('/data/new/deep')
with open('/data/new/out.txt', 'w') as f: f.write('written')
with open('/data/new/out.txt', 'a+') as f:
    f.write(' more'); f.seek(0); print(f.read(), f.tell())
os.rename('/data/new/out.txt', '/data/new/deep/moved.txt')
print(os.stat('/data/new/deep/moved.txt').st_size, os.path.exists('/data/new/out.txt'))
print([(d, sorted(s), sorted(f)) for d, s, f in sorted(os.walk('/data'))])
os.truncate('/data/in.txt', 5); print(open('/data/in.txt').read())
os.utime('/data/in.txt', ns=(1_000, 2_000_000_000)); print(os.stat('/data/in.txt').st_mtime_ns)
for bad in ('/data/none', '/data/in.txt/x', '/data/../etc/passwd', '/etc/passwd'):
    try: open(bad)
    except OSError as e: print(bad, e)
try: os.rmdir('/data/new')
except OSError as e: print(e)
try: os.mkdir('/data/new')
except OSError as e: print(e)
import tempfile, shutil
shutil.copy('/data/in.txt', '/data/copy.txt'); print(open('/data/copy.txt').read())
shutil.rmtree('/data/new'); print(sorted(os.listdir('/data')))
os.symlink('copy.txt', '/data/link'); print(os.readlink('/data/link'), open('/data/link').read(), os.path.islink('/data/link'))
f = open('/data/in.txt', 'rb'); print(os.pread(f.fileno(), 2, 1), f.read(), os.fstat(f.fileno()).st_size)`,
		},
		// wazero's poll_oneoff answers ENOTSUP to the absolute times that CPython sleeps with.
		{name: "sleep", script: "import time; time.sleep(0.05); print(1)", want: "1\n", awaits: 1},
		{
			name: "clocks", want: "True True True\n", awaits: 1, // a sleep that is late already doesn't wait
			script: `
import time
def read(): return time.monotonic(), time.time(), time.monotonic()
a = read()
for _ in range(3): time.sleep(0.02)
b = read()
wall = b[1] - a[1] # no more and no less than between the readings around it
print(0.06 <= b[0] - a[2], b[0] - a[2] - 0.01 <= wall, wall <= b[2] - a[0] + 0.01)`,
		},
		{
			name: "open across sleeps", want: "one two three ['a.txt', 'b.txt', 'in.txt', 'sub'] AB", awaits: 4,
			script: `
import os, time
f = open('/data/in.txt', buffering=1); log = open('/data/b.txt', 'w+')
d = os.scandir('/data'); names = [next(d).name]
out = []
for line in f: out.append(line.strip()); log.write('A' if not log.tell() else ''); log.flush(); time.sleep(0.001)
names += [e.name for e in d]
log.write('B'); log.flush(); time.sleep(0.001); log.seek(0)
print(*out, sorted(names), log.read(), end='')`,
		},
		{
			name: "select", stdin: "x", want: "[] [] [1]\n1 0 0\n", awaits: 2,
			script: `
import select, time
t = time.monotonic()
print(*[[len(x)] if x else [] for x in select.select([], [], [], 0.01)[:2]], [1 if time.monotonic() - t >= 0.01 else 0])
print(*[len(x) for x in select.select([0], [], [], 10)])`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := func() wasi.Config {
				config := wasi.Config{
					Args: []string{"python", "-c", c.script, "arg"}, Env: []string{"LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"},
					Mounts: []wasi.Mount{{Host: folder(t, files), Guest: "/data"}},
				}
				if c.stdin != "" {
					config.Stdin = strings.NewReader(c.stdin)
				}
				return config
			}
			want := outcome{Stdout: c.want}
			if c.want == "=" {
				want = p.runThere(t, config())
			}
			for _, move := range []bool{false, true} {
				start := time.Now()
				got, awaits := p.runHere(t, config(), move)
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("with state moved %v: want (-), got (+):\n%s", move, d)
				}
				if awaits < c.awaits {
					t.Errorf("%d await points, want at least %d", awaits, c.awaits)
				}
				t.Logf("%d await points, %v", awaits, time.Since(start).Round(time.Millisecond))
			}
		})
	}
}

// withoutCustom leaves the custom sections out. Otherwise wazero reads CPython's DWARF to describe the stack of each
// proc_exit, which takes 10 s.
func withoutCustom(t *testing.T, binary []byte) []byte {
	t.Helper()
	out, rest := bytes.Clone(binary[:8]), binary[8:]
	for len(rest) > 0 {
		size, n := leb128.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			t.Fatal("the program is no WebAssembly module")
		}
		end := 1 + n + int(size)
		if rest[0] != 0 {
			out = append(out, rest[:end]...)
		}
		rest = rest[end:]
	}
	return out
}
