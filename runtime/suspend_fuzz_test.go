package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// labModule is the host of generated programs: await points of several types, whose results depend on their arguments and
// on what has been called before, and a function that isn't one.
var labModule = &hostabi.Module{
	Name: "lab",
	Functions: []hostabi.Function{
		labAwait("pause", nil, nil),
		labAwait("ask", types32, types32),
		labAwait("wide", []api.ValueType{api.ValueTypeI64, api.ValueTypeF64}, []api.ValueType{api.ValueTypeI64}),
		labAwait("many", []api.ValueType{api.ValueTypeF32}, []api.ValueType{
			api.ValueTypeF32, api.ValueTypeI32, api.ValueTypeF64, api.ValueTypeI64,
		}),
		{
			Name: "note", Params: []api.ValueType{api.ValueTypeI32, api.ValueTypeI64}, Results: types32,
			Call: func(_ context.Context, _ *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				i.(*lab).call(4, stack, []api.ValueType{api.ValueTypeI32, api.ValueTypeI64}, types32)
			},
		},
	},
}

var types32 = []api.ValueType{api.ValueTypeI32}

func labAwait(name string, params, results []api.ValueType) hostabi.Function {
	return hostabi.Function{
		Name: name, Params: params, Results: results,
		Await: func(_ context.Context, _ *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
			if p == nil {
				return &hostabi.Pending{Kind: hostabi.KindCheckpoint, Detail: name}
			}
			i.(*lab).call(uint64(len(name)), stack, params, results)
			return nil
		},
	}
}

// lab is an instance of labModule, or of one of the printers. Its state is a hash of all calls so far.
type lab struct {
	module *hostabi.Module
	hash   uint64
}

func (l *lab) call(salt uint64, stack []uint64, params, results []api.ValueType) {
	mix := func(v uint64) { l.hash = (l.hash ^ v) * 0x9e3779b97f4a7c15; l.hash ^= l.hash >> 29 }
	mix(salt)
	for i, t := range params {
		mix(number(t, stack[i]))
	}
	for i, t := range results {
		mix(uint64(i))
		switch t {
		case api.ValueTypeI32:
			stack[i] = uint64(uint32(l.hash) & 0xff)
		case api.ValueTypeF32:
			stack[i] = api.EncodeF32(float32(l.hash % 1000))
		case api.ValueTypeF64:
			stack[i] = api.EncodeF64(float64(l.hash % 1000))
		default:
			stack[i] = l.hash
		}
	}
}

func (l *lab) Module() *hostabi.Module { return l.module }
func (l *lab) Save() (uint32, []byte, error) {
	return 1, binary.LittleEndian.AppendUint64(nil, l.hash), nil
}

func (l *lab) Restore(version uint32, data []byte) error {
	if version != 1 || len(data) != 8 {
		return fmt.Errorf("%w: version %d with %d bytes", hostabi.ErrState, version, len(data))
	}
	l.hash = binary.LittleEndian.Uint64(data)
	return nil
}
func (l *lab) Wait(context.Context, *hostabi.Pending) error { return nil }
func (l *lab) Close() error                                 { return nil }

// printers are what other programs import: functions that print. They are await points, too.
var printers = func() []*hostabi.Module {
	i32, i64, f32, f64 := api.ValueTypeI32, api.ValueTypeI64, api.ValueTypeF32, api.ValueTypeF64
	module := func(name string, functions map[string][]api.ValueType) *hostabi.Module {
		m := &hostabi.Module{Name: name}
		for _, f := range slices.Sorted(maps.Keys(functions)) {
			m.Functions = append(m.Functions, labAwait(f, functions[f], nil))
		}
		return m
	}
	return []*hostabi.Module{
		// The functions of the specification's test module.
		module("spectest", map[string][]api.ValueType{
			"print": nil, "print_i32": {i32}, "print_i64": {i64}, "print_f32": {f32}, "print_f64": {f64},
			"print_i32_f32": {i32, f32}, "print_f64_f64": {f64, f64},
		}),
		// Binaryen's.
		module("fuzzing-support", map[string][]api.ValueType{
			"log-i32": {i32}, "log-i64": {i64}, "log-f32": {f32}, "log-f64": {f64},
		}),
	}
}()

// quiet is an instance of a module without state.
type quiet struct{ module *hostabi.Module }

func (q quiet) Module() *hostabi.Module                    { return q.module }
func (quiet) Save() (uint32, []byte, error)                { return 1, nil, nil }
func (quiet) Restore(uint32, []byte) error                 { return nil }
func (quiet) Wait(context.Context, *hostabi.Pending) error { return nil }
func (quiet) Close() error                                 { return nil }

// benchModules are the host modules of a bench, benchHosts fresh instances of them.
var benchModules = append([]*hostabi.Module{labModule}, printers...)

func benchHosts() []hostabi.Instance {
	var hosts []hostabi.Instance
	for _, m := range benchModules {
		hosts = append(hosts, &lab{module: m})
	}
	return hosts
}

// hashes returns what stands for all calls of the hosts' functions.
func hashes(hosts []hostabi.Instance) uint64 {
	h := uint64(0)
	for _, i := range hosts {
		if l, ok := i.(*lab); ok {
			h ^= l.hash
		}
	}
	return h
}

// bench runs programs on plain wazero and under durun. It is used by one goroutine at a time.
type bench struct {
	// wazero, with a host whose awaits return at once. What a program has to do is what the interpreter does: the compiler of
	// wazero 1.12 gets exceptions wrong, see [repertoire].
	compiler, interpreter wazero.Runtime

	plain   []hostabi.Instance // of the current plain run, by index in benchModules
	awaits  int
	limit   int // of awaits in a plain run, if not 0
	runtime *Runtime
	other   *Runtime // with a transform that chooses otherwise
}

func newBench(t testing.TB) *bench {
	ctx := context.Background()
	b := &bench{}
	b.compiler = b.plainEngine(t, wazero.NewRuntimeConfigCompiler())
	b.interpreter = b.plainEngine(t, wazero.NewRuntimeConfigInterpreter())
	for _, r := range []**Runtime{&b.runtime, &b.other} {
		var err error
		if *r, err = New(ctx, NewConfig().WithModules(benchModules...)); err != nil {
			t.Fatal(err)
		}
	}
	b.other.choices, b.other.ticking = otherChoices, true
	return b
}

func (b *bench) plainEngine(t testing.TB, config wazero.RuntimeConfig) wazero.Runtime {
	ctx := context.Background()
	engine := wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(features).WithMemoryLimitPages(maxPages))
	for mi, m := range benchModules {
		h := engine.NewHostModuleBuilder(m.Name)
		for _, f := range m.Functions {
			h = h.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, _ api.Module, stack []uint64) {
				if f.Call != nil {
					f.Call(ctx, nil, b.plain[mi], stack)
					return
				}
				b.await()
				f.Await(ctx, nil, b.plain[mi], stack, &hostabi.Pending{})
			}), f.Params, f.Results).Export(f.Name)
		}
		if _, err := h.Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	h := engine.NewHostModuleBuilder(hostabi.ModuleName).NewFunctionBuilder().
		WithGoFunction(api.GoFunc(func(context.Context, []uint64) { b.await() }), nil, nil).Export(hostabi.FuncCheckpoint)
	if _, err := h.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	return engine
}

// errManyAwaits ends a plain run.
var errManyAwaits = errors.New("more awaits than the test wants")

func (b *bench) await() {
	if b.awaits++; b.awaits > b.limit && b.limit > 0 {
		panic(errManyAwaits)
	}
}

func (b *bench) close() {
	_ = b.compiler.Close(context.Background())
	_ = b.interpreter.Close(context.Background())
	_ = b.runtime.Close(context.Background())
	_ = b.other.Close(context.Background())
}

// aftermath is what a program leaves.
type aftermath struct {
	Results []uint64
	Trap    string // the first line
	Awaits  int
	Hash    uint64   // of the host calls
	Globals []uint64 // the mutable ones, low halves
	memory  []byte
}

func (a *aftermath) end(results []uint64, err error, mem api.Memory) {
	a.Results = append([]uint64{}, results...)
	if err != nil {
		a.Trap, _, _ = strings.Cut(err.Error(), "\n")
		if i := strings.Index(a.Trap, " failed: "); strings.HasPrefix(a.Trap, "start function[") && i > 0 {
			a.Trap = a.Trap[i+len(" failed: "):]
		}
		a.Results = nil
	}
	if mem != nil {
		view, _ := mem.Read(0, mem.Size())
		a.memory = slices.Clone(view)
	}
}

// original runs the entry of a program on plain wazero. The program exports its mutable globals of numbers as "g<number>".
func (b *bench) original(t testing.TB, engine wazero.Runtime, binary []byte, entry string) aftermath {
	ctx := context.Background()
	b.plain, b.awaits = benchHosts(), 0
	var a aftermath
	code, err := engine.CompileModule(ctx, binary)
	if err != nil {
		t.Fatalf("plain wazero refuses the program: %v", err)
	}
	defer code.Close(ctx)
	mod, err := engine.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithStartFunctions().WithName(""))
	if err != nil {
		// The start function trapped; what it left can't be seen.
		a.end(nil, err, nil)
		a.Awaits, a.Hash = b.awaits, hashes(b.plain)
		return a
	}
	defer mod.Close(ctx)
	f := mod.ExportedFunction(entry)
	if f == nil {
		t.Fatalf("the program has no entry %q", entry)
	}
	results, err := f.Call(ctx)
	mem := mod.Memory()
	if len(mod.ExportedMemoryDefinitions()) == 0 {
		mem = nil // a program without has one all the same, as an interface of nothing
	}
	a.end(trim(f, results), err, mem)
	a.Awaits, a.Hash = b.awaits, hashes(b.plain)
	for i := range uint32(1000) {
		g := mod.ExportedGlobal(fmt.Sprintf("g%d", i))
		if g == nil {
			break
		}
		a.Globals = append(a.Globals, number(g.Type(), g.Get()))
	}
	return a
}

// trim clears the halves of results that mean nothing.
func trim(f api.Function, results []uint64) []uint64 {
	for i, t := range f.Definition().ResultTypes() {
		if i < len(results) {
			results[i] = number(t, results[i])
		}
	}
	return results
}

func number(t api.ValueType, v uint64) uint64 {
	if t == api.ValueTypeI32 || t == api.ValueTypeF32 {
		return uint64(uint32(v))
	}
	return v
}

// run runs a program under durun. At each await, transfer may put another coroutine in the place of c.
func (b *bench) run(t testing.TB, m *Module, entry string, transfer func(c *Coroutine) *Coroutine) aftermath {
	t.Helper()
	ctx := context.Background()
	c, err := m.Start(ctx, StartConfig{ID: "lab", Entry: entry, Hosts: benchHosts()})
	if err != nil {
		t.Fatal(err)
	}
	var a aftermath
	for {
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Ended() {
			break
		}
		a.Awaits++
		c = transfer(c)
	}
	var mem api.Memory
	if c.memory != nil {
		mem = c.memory
	}
	started := !c.inStart || c.Err() == nil
	a.end(c.Results(), c.Err(), mem)
	a.Hash = hashes(c.hosts)
	if started {
		for _, i := range m.mutable {
			v, err := c.global(i)
			if err != nil {
				t.Fatal(err)
			}
			if v.Type != snapshot.FuncRef {
				a.Globals = append(a.Globals, v.Lo)
			}
		}
	} else {
		a.memory = nil
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return a
}

// hop takes a suspended coroutine through its encoded snapshot into a fresh instance.
func (b *bench) hop(t testing.TB, m *Module, c *Coroutine) *Coroutine {
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
	c, err = m.Restore(context.Background(), s, RestoreConfig{Hash: snapshot.Digest(data), Hosts: benchHosts()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// maxHops bounds the time of a run: further awaits go on where they are.
const maxHops = 20

// generated returns a program of what durun supports.
func generated(data []byte) []byte {
	binary, _ := generate(data, supported)
	return binary
}

// threeWays compares a program on plain wazero with itself under durun: in one process, with its stack rebuilt in place, and
// moved at each await. It returns what plain wazero did, or false if durun refuses the program.
func (b *bench) threeWays(t testing.TB, binary []byte, entry string) (aftermath, bool) {
	t.Helper()
	ctx := context.Background()
	m, err := b.runtime.Compile(ctx, binary)
	if err != nil {
		t.Logf("refused: %v", err)
		return aftermath{}, false
	}
	defer m.Close(ctx)
	want := b.original(t, b.interpreter, binary, entry)
	b.compare(t, m, entry, want, func(n int) bool { return n < maxHops }, resident, moved, rebuilt)
	return want, true
}

// difference returns how what a program did differs from what it has to do, nothing if it doesn't.
func (a *aftermath) difference(got *aftermath) string {
	if d := cmp.Diff(*a, *got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "memory" }, cmp.Ignore())); d != "" {
		return "differs from plain wazero (-want +got):\n" + d
	}
	if bytes.Equal(a.memory, got.memory) {
		return ""
	}
	for i := range min(len(a.memory), len(got.memory)) {
		if a.memory[i] != got.memory[i] {
			return fmt.Sprintf("final memory differs from byte %#x on", i)
		}
	}
	return fmt.Sprintf("final memory has %d bytes, not %d", len(got.memory), len(a.memory))
}

// way is a way in which a program goes on at an await.
type way int

const (
	resident way = iota // in its process, on the native stack as it was
	moved               // in a fresh instance
	rebuilt             // in its instance, on a stack that is built anew
)

// compare runs a program under durun, in each of some ways, and compares it with what plain wazero did. at says at which of
// the awaits, counted from 0, it goes on in the way; at others it goes on as it is quickest.
func (b *bench) compare(t testing.TB, m *Module, entry string, want aftermath, at func(n int) bool, ways ...way) {
	t.Helper()
	for _, w := range ways {
		n := -1
		got := b.run(t, m, entry, func(c *Coroutine) *Coroutine {
			n++
			c.limit = maxNatives
			switch {
			case w == moved && at(n):
				return b.hop(t, m, c)
			case w == rebuilt && at(n):
				c.limit = 1
			}
			return c
		})
		if d := want.difference(&got); d != "" {
			t.Fatalf("%s: %s", []string{"resident", "moved", "rebuilt in place"}[w], d)
		}
	}
}

// benches lends benches out, so that tests and fuzz workers share what they can.
var benches = sync.Pool{}

func borrow(t testing.TB) (*bench, func()) {
	b, ok := benches.Get().(*bench)
	if !ok {
		b = newBench(t)
	}
	return b, func() {
		if t.Failed() {
			b.close() // in an unknown state
			return
		}
		benches.Put(b)
	}
}

// FuzzSuspend: bytes choose a program; it does the same on plain wazero and under durun, wherever it is suspended.
func FuzzSuspend(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomBytes(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			t.Skip("longer than a program needs")
		}
		binary := generated(data)
		b, back := borrow(t)
		defer back()
		keep(t, binary)
		want, ok := b.threeWays(t, binary, "main")
		if !ok {
			t.Fatal("refused: the generator makes nothing that is")
		}
		b.betweenBuilds(t, binary, "main", want)
	})
}

// keep writes a program that fails to the folder $DURUN_KEEP_PROGRAMS, to look into it.
func keep(t *testing.T, binary []byte) {
	if dir := os.Getenv("DURUN_KEEP_PROGRAMS"); dir != "" {
		t.Cleanup(func() {
			if t.Failed() {
				_ = os.WriteFile(filepath.Join(dir, filepath.Base(t.Name())+".wasm"), binary, 0o600)
			}
		})
	}
}

func randomBytes(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	data := make([]byte, 200+r.IntN(1200))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// TestSuspendRandom is FuzzSuspend for a fixed number of programs.
func TestSuspendRandom(t *testing.T) {
	seeds := 150
	if testing.Short() || guests.RaceEnabled {
		seeds = 30
	}
	var mu sync.Mutex
	awaits, traps, awaiting, most := 0, 0, 0, 0
	t.Run("seeds", func(t *testing.T) {
		for part := range 4 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				b, back := borrow(t)
				defer back()
				for seed := part; seed < seeds; seed += 4 {
					t.Run(fmt.Sprint(seed), func(t *testing.T) {
						binary := generated(randomBytes(uint64(seed)))
						keep(t, binary)
						got, ok := b.threeWays(t, binary, "main")
						if !ok {
							t.Fatal("refused: the generator makes nothing that is")
						}
						mu.Lock()
						defer mu.Unlock()
						awaits += got.Awaits
						most = max(most, got.Awaits)
						if got.Awaits > 0 {
							awaiting++
						}
						if got.Trap != "" {
							traps++
						}
					})
				}
			})
		}
	})
	t.Logf("%d programs: %d suspend, %d times together, one %d times; %d end in a trap", seeds, awaiting, awaits, most, traps)
	if awaiting < seeds/2 || awaits < 3*seeds || traps > seeds/2 {
		t.Error("the generator makes too little of interest")
	}
}

// determined checks that the transform of a module gives the same bytes again, and so do the continuations of its sites,
// or of one in so many of them; and that all of it is valid, here and for wazero. It returns how many sites there are.
func determined(t *testing.T, engine wazero.Runtime, m *wasm.Module, awaits func(module, name string) bool, oneIn int) int {
	t.Helper()
	var bytesOf [2][3][]byte
	var sites int
	for i := range bytesOf {
		sites = 0
		r, err := instrument.Transform(m, instrument.Config{Await: awaits})
		if err != nil {
			t.Fatal(err)
		}
		bytesOf[i] = [3][]byte{r.Module.Encode(), r.Plan.Encode()}
		var conts []instrument.Continuation
		for _, s := range r.Plan.Sites {
			if s.Offset == 0 {
				continue // a call that can't suspend
			}
			if sites++; sites%oneIn == 0 {
				conts = append(conts, instrument.Continuation{Function: s.Function, Offset: s.Offset, Slots: slices.Clone(s.Slots)})
			}
		}
		if len(conts) == 0 {
			continue
		}
		await := slices.IndexFunc(m.Imports, func(im wasm.Import) bool { return im.Kind == wasm.ExternFunc && awaits(im.Module, im.Name) })
		res, err := r.Plan.Resume(m, conts, conts[0].Function, uint32(await))
		if err != nil {
			t.Fatal(err)
		}
		bytesOf[i][2] = res.Encode()
	}
	for k, what := range []string{"running form", "plan", "resume module"} {
		binary := bytesOf[0][k]
		if !bytes.Equal(binary, bytesOf[1][k]) {
			t.Errorf("the %s differs when it is made again", what)
		}
		if what == "plan" || binary == nil {
			continue
		}
		d, err := wasm.Decode(binary)
		if err == nil {
			err = wasm.Validate(d)
		}
		if err != nil {
			t.Errorf("the %s is invalid: %v", what, err)
			continue
		}
		code, err := engine.CompileModule(context.Background(), binary)
		if err != nil {
			t.Errorf("wazero refuses the %s: %v", what, err)
			continue
		}
		_ = code.Close(context.Background())
	}
	return sites
}

// TestGenerator checks what the other tests rely on: the same bytes give the same program, which is valid, and which wazero's
// interpreter and its compiler agree on. Programs have all that the generator knows, but write no locals inside try_table,
// where the two don't agree.
func TestGenerator(t *testing.T) {
	seeds := 400
	if testing.Short() || guests.RaceEnabled {
		seeds = 60
	}
	b, back := borrow(t)
	defer back()
	tries, traps, awaits, sites := 0, map[string]int{}, 0, 0
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			data := randomBytes(seed)
			binary, try := generate(data, repertoire{references: true, catches: true, still: true})
			keep(t, binary)
			if again, _ := generate(data, repertoire{references: true, catches: true, still: true}); !bytes.Equal(binary, again) {
				t.Fatal("the same bytes give another program")
			}
			want := b.original(t, b.interpreter, binary, "main")
			got := b.original(t, b.compiler, binary, "main")
			if d := want.difference(&got); d != "" {
				t.Fatalf("wazero's compiler, compared with its interpreter: %s", d)
			}
			m, err := wasm.Decode(generated(data))
			if err != nil {
				t.Fatal(err)
			}
			sites += determined(t, b.compiler, m, b.runtime.isAwait, 1)
			awaits += want.Awaits
			if try {
				tries++
			}
			if want.Trap != "" {
				traps[want.Trap]++
			}
		})
	}
	t.Logf("%d programs, %d of them with try_table, with %d awaits and %d sites; traps: %v", seeds, tries, awaits, sites, traps)
	if sites < 10*seeds || tries < seeds/5 || awaits < 3*seeds || len(traps) > seeds/2 {
		t.Error("the generator makes too little of interest")
	}
}

// TestSuspendRegress runs what was found before: testdata/regress of the transform, each case with a comment that says
// what went wrong.
func TestSuspendRegress(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("internal", "instrument", "testdata", "regress", "*.wasm"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".wasm"), func(t *testing.T) {
			binary, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, err := wasm.Decode(binary)
			if err != nil {
				t.Fatal(err)
			}
			b, back := borrow(t)
			defer back()
			entries := 0
			for _, e := range m.Exports {
				if e.Kind != wasm.ExternFunc {
					continue
				}
				entries++
				if _, ok := b.threeWays(t, binary, e.Name); !ok {
					t.Error("refused")
				}
			}
			if entries == 0 {
				t.Error("no entry")
			}
		})
	}
}
