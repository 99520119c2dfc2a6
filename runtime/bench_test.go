package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// pythonLoad is a small mix of what CPython does.
const pythonLoad = `
import time, json
def fib(n): return n if n < 2 else fib(n-1) + fib(n-2)
def timed(name, f):
    t = time.perf_counter(); f(); print(name, time.perf_counter() - t)
def loop():
    s = 0
    for i in range(600000): s += i * i
def table():
    d = {}
    for i in range(100000): d[str(i)] = i
    sorted(d.keys())
timed("loop", loop); timed("fib", lambda: fib(22)); timed("dict", table)
timed("json", lambda: [json.loads(json.dumps(list(range(500)))) for _ in range(50)])
`

func pythonBinary(b *testing.B) []byte {
	binary, err := guests.Python()
	if err != nil {
		b.Skipf("left out: %v", err)
	}
	return binary
}

func guestBinary(b *testing.B, name string) []byte {
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "guests", name+".wasm"))
	if err != nil {
		b.Fatal(err)
	}
	return binary
}

// BenchmarkRun runs programs that time themselves on plain wazero and under durun, in turn, and reports the medians of the
// ratios: 1.05 is 5 % slower than plain.
func BenchmarkRun(b *testing.B) {
	for _, p := range []struct {
		name   string
		binary func(b *testing.B) []byte
		args   []string
	}{
		{"calls", func(b *testing.B) []byte { return guestBinary(b, "calls") }, []string{"calls"}},
		{"interp", func(b *testing.B) []byte { return guestBinary(b, "interp") }, []string{"interp", "bench"}},
		{"python", pythonBinary, []string{"python", "-c", pythonLoad}},
	} {
		b.Run(p.name, func(b *testing.B) {
			ctx := context.Background()
			binary := p.binary(b)
			m, err := testRuntime(b).Compile(ctx, binary)
			if err != nil {
				b.Fatal(err)
			}
			engine := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features).WithDebugInfoEnabled(false))
			defer engine.Close(ctx)
			wasi_snapshot_preview1.MustInstantiate(ctx, engine)
			code, err := engine.CompileModule(ctx, binary)
			if err != nil {
				b.Fatal(err)
			}
			ratios := map[string][]float64{}
			for b.Loop() {
				var plain, durable bytes.Buffer
				config := wazero.NewModuleConfig().WithName("").WithArgs(p.args...).WithStdout(&plain).
					WithSysWalltime().WithSysNanotime().WithStdin(bytes.NewReader(nil))
				inst, err := engine.InstantiateModule(ctx, code, config)
				if err == nil {
					_ = inst.Close(ctx)
				}
				host, err := wasi.New(wasi.Config{Args: p.args})
				if err != nil {
					b.Fatal(err)
				}
				c, err := m.Start(ctx, StartConfig{ID: "bench", Hosts: []hostabi.Instance{host}, Stdout: &durable, Stderr: os.Stderr})
				if err != nil {
					b.Fatal(err)
				}
				for {
					status, err := c.Resume(ctx)
					if err != nil {
						b.Fatal(err)
					}
					if status.Ended() {
						break
					}
				}
				_ = c.Close()
				want, got := timings(plain.String()), timings(durable.String())
				if len(want) == 0 || len(want) != len(got) {
					b.Fatalf("plain printed %q, durun %q", plain.String(), durable.String())
				}
				for name, t := range want {
					ratios[name] = append(ratios[name], got[name]/t)
				}
			}
			for name, r := range ratios {
				slices.Sort(r)
				b.ReportMetric(r[len(r)/2], name+"-ratio")
			}
		})
	}
}

var timingLine = regexp.MustCompile(`(?m)^(\w+) ([\d.]+)$`)

func timings(out string) map[string]float64 {
	t := map[string]float64{}
	for _, m := range timingLine.FindAllStringSubmatch(out, -1) {
		if v, err := strconv.ParseFloat(m[2], 64); err == nil && v > 0 && m[2] != "0" {
			t[m[1]] = v
		}
	}
	return t
}

// BenchmarkTransform makes CPython's running form, and reports what it adds to the code.
func BenchmarkTransform(b *testing.B) {
	m, err := wasm.Decode(pythonBinary(b))
	if err != nil {
		b.Fatal(err)
	}
	r := testRuntime(b)
	b.ReportAllocs()
	for b.Loop() {
		t, err := instrument.Transform(m, instrument.Config{Await: r.isAwait})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(t.Stats.CodeAfter)/float64(t.Stats.CodeBefore), "code-ratio")
	}
}

// BenchmarkCompile compiles CPython as it is and its running form, in turn, and reports the median ratio.
func BenchmarkCompile(b *testing.B) {
	ctx := context.Background()
	binary := pythonBinary(b)
	running, _, err := Instrument(binary, wasi.Module)
	if err != nil {
		b.Fatal(err)
	}
	compile := func(binary []byte) float64 {
		engine := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features).WithDebugInfoEnabled(false))
		defer engine.Close(ctx)
		start := time.Now()
		if _, err := engine.CompileModule(compileContext(ctx), binary); err != nil {
			b.Fatal(err)
		}
		return time.Since(start).Seconds()
	}
	var ratios []float64
	for b.Loop() {
		plain := compile(binary)
		ratios = append(ratios, compile(running)/plain)
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "compile-ratio")
}

// sleeper is a guest that suspends forever, with a stack of some depth.
func sleeper(b *testing.B, python bool) (*Module, func() *wasi.Instance, *Coroutine) {
	ctx := context.Background()
	args, binary := []string{"sleeper"}, []byte(nil)
	entry := ""
	if python {
		binary = pythonBinary(b)
		args = []string{"python", "-c", "import time, json, re\ndef f(n):\n  if n: f(n-1)\n  while not n: time.sleep(1e-9)\nf(10)"}
	} else {
		var err error
		if binary, err = os.ReadFile(filepath.Join("..", "testdata", "wat", "generator.wasm")); err != nil {
			b.Fatal(err)
		}
		entry = "main"
	}
	m, err := testRuntime(b).Compile(ctx, binary)
	if err != nil {
		b.Fatal(err)
	}
	clock := &virtualClock{}
	host := func() *wasi.Instance {
		i, err := wasi.New(wasi.Config{Args: args, Clock: clock})
		if err != nil {
			b.Fatal(err)
		}
		return i
	}
	c, err := m.Start(ctx, StartConfig{ID: "bench", Entry: entry, Hosts: []hostabi.Instance{host()}})
	if err != nil {
		b.Fatal(err)
	}
	resume(b, c)
	return m, host, c
}

func resume(b *testing.B, c *Coroutine) {
	if err := c.Wait(context.Background()); err != nil {
		b.Fatal(err)
	}
	if status, err := c.Resume(context.Background()); err != nil || status != snapshot.Suspended {
		b.Fatal(status, err, c.Err())
	}
}

// BenchmarkAwait is an await of a resident CPython: complete the call, run to the next, unwind. It compares going on
// from the copy of the native stack with rebuilding the stack.
func BenchmarkAwait(b *testing.B) {
	for _, natives := range []int{maxNatives, 1} {
		b.Run(fmt.Sprintf("rewind-after-%d", natives), func(b *testing.B) {
			_, _, c := sleeper(b, true)
			defer c.Close()
			c.limit = natives
			resume(b, c)
			for b.Loop() {
				resume(b, c)
			}
			b.ReportMetric(float64(len(c.stack.sites)), "frames")
		})
	}
}

// BenchmarkSnapshot captures and encodes a suspended CPython.
func BenchmarkSnapshot(b *testing.B) {
	_, _, c := sleeper(b, true)
	defer c.Close()
	for b.Loop() {
		s, err := c.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		data, err := snapshot.Encode(s)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(data)), "bytes")
	}
}

// BenchmarkRestore restores a CPython and runs it to its next await, with all code compiled: from a complete snapshot that is
// decoded each time, and from a store's chain whose root the module knows.
func BenchmarkRestore(b *testing.B) {
	ctx := context.Background()
	m, host, c := sleeper(b, true)
	s, err := c.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	data, err := snapshot.Encode(s)
	if err != nil {
		b.Fatal(err)
	}
	store := snapshot.NewStore(bucket.NewMem())
	for range 16 {
		s, err := c.Capture()
		if err != nil {
			b.Fatal(err)
		}
		commit, err := store.Commit(ctx, s)
		if err != nil {
			b.Fatal(err)
		}
		c.Committed(commit)
		resume(b, c)
	}
	_ = c.Close()
	b.Run("complete", func(b *testing.B) {
		for b.Loop() {
			s, err := snapshot.Decode(data)
			if err != nil {
				b.Fatal(err)
			}
			c, err := m.Restore(ctx, s, RestoreConfig{Hosts: []hostabi.Instance{host()}, Stdout: io.Discard})
			if err != nil {
				b.Fatal(err)
			}
			resume(b, c)
			_ = c.Close()
		}
	})
	b.Run("known-root", func(b *testing.B) {
		for b.Loop() {
			c, err := m.RestoreFrom(ctx, store, "bench", 0, RestoreConfig{Hosts: []hostabi.Instance{host()}, Stdout: io.Discard})
			if err != nil {
				b.Fatal(err)
			}
			resume(b, c)
			_ = c.Close()
		}
	})
}

// BenchmarkContinuations makes and compiles the resume module of a CPython's stack.
func BenchmarkContinuations(b *testing.B) {
	ctx := context.Background()
	m, _, c := sleeper(b, true)
	defer c.Close()
	await := m.importIndex(c.pending.host)
	frames, err := c.captured()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r, _, err := m.resumeFor(ctx, frames, await)
		if err != nil {
			b.Fatal(err)
		}
		r.release(ctx)
		m.mu.Lock()
		for _, r := range m.resumes {
			r.release(ctx)
		}
		m.resumes, m.order = map[string]*resumeModule{}, nil
		m.mu.Unlock()
	}
}
