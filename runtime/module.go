package runtime

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/linmem"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// Module is a compiled program. It is safe for concurrent use.
type Module struct {
	runtime  *Runtime
	hash     snapshot.Hash
	original *wasm.Module // with memories and the like of its own in place of imported ones
	env      *wasm.Env
	plan     *instrument.Plan
	code     wazero.CompiledModule
	imports  []hostImport // by index of the imported function
	mutable  []uint32     // the mutable globals

	// foreignGlobals and foreignTables are those that can change and hold references that no snapshot can, unless they are
	// null.
	foreignGlobals, foreignTables []uint32
	// holdsExceptions reports whether a global or a table can hold a reference to an exception over an await.
	holdsExceptions bool

	image  []byte // memory as instantiated, without trailing zero pages; the running form lacks it
	images images

	mu      sync.Mutex
	resumes map[string]*resumeModule
	order   []string // of resumes, the least recently used first
}

// hostImport is the host function behind an import.
type hostImport struct {
	module, function int // indices in Runtime.modules and its Functions
}

// Compile makes a module suspendable and compiles it. It returns a *[ModuleError] for bytes that aren't a valid module, for
// imports that no host module provides, and for programs that can't be captured faithfully; the error says what and
// where.
func (r *Runtime) Compile(ctx context.Context, binary []byte) (*Module, error) {
	m := &Module{runtime: r, hash: sha256.Sum256(binary), resumes: map[string]*resumeModule{}}
	decoded, err := wasm.Decode(binary)
	if err != nil {
		return nil, &ModuleError{Msg: "not a module that durun can run", Err: err}
	}
	if m.env, err = wasm.NewEnv(decoded); err != nil {
		return nil, &ModuleError{Msg: "invalid module", Err: err}
	}
	if err := checkOriginal(decoded); err != nil {
		return nil, err
	}
	if err := m.resolveImports(decoded); err != nil {
		return nil, err
	}
	if m.original, err = r.internalise(decoded); err != nil {
		return nil, err
	}
	if m.env, err = wasm.NewEnv(m.original); err != nil {
		return nil, &ModuleError{Msg: "invalid module", Err: err}
	}
	for i, g := range m.env.Globals {
		if g.Mutable {
			m.mutable = append(m.mutable, uint32(i))
			if g.Type.IsRef() && snapshotType(g.Type) != snapshot.FuncRef {
				m.foreignGlobals = append(m.foreignGlobals, uint32(i))
			}
			m.holdsExceptions = m.holdsExceptions || g.Type.Heap() == wasm.HeapExn && g.Type.IsRef()
		}
	}
	for _, t := range m.env.Tables {
		m.holdsExceptions = m.holdsExceptions || t.Elem.Heap() == wasm.HeapExn
	}
	running, err := m.transform(decoded, len(binary))
	if err != nil {
		return nil, err
	}
	m.image = initialImage(m.original)
	for _, t := range m.plan.Tables {
		if snapshotType(m.env.Tables[t].Elem) != snapshot.FuncRef {
			m.foreignTables = append(m.foreignTables, t)
		}
	}
	r.report(StepCompile, len(binary))
	defer r.report(StepDone, len(binary))
	m.code, err = r.compile(ctx, running)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("compile module: %w", ctx.Err())
		}
		return nil, &ModuleError{Msg: "compile module", Err: err}
	}
	return m, nil
}

func (r *Runtime) report(step Step, bytes int) {
	if r.config.progress != nil {
		r.config.progress(Progress{Step: step, Bytes: bytes})
	}
}

// checkOriginal returns an error for a module that is a running form.
func checkOriginal(decoded *wasm.Module) error {
	for i := range decoded.Imports {
		if decoded.Imports[i].Module == instrument.HostModule {
			return &ModuleError{Msg: "the module is the suspendable form of another, which durun makes by itself: take the original"}
		}
	}
	return nil
}

// resolveImports finds the host function behind each imported function, and checks that each imported global is offered.
func (m *Module) resolveImports(decoded *wasm.Module) error {
	var missing []string
	for i := range decoded.Imports {
		im := &decoded.Imports[i]
		switch im.Kind {
		case wasm.ExternFunc:
			h, f := m.runtime.lookup(im.Module, im.Name)
			t := &decoded.Types[im.Type]
			switch {
			case f == nil:
				missing = append(missing, fmt.Sprintf("%q.%q", im.Module, im.Name))
			case !sameTypes(t.Params, f.Params) || !sameTypes(t.Results, f.Results):
				missing = append(missing, fmt.Sprintf("%q.%q with this signature", im.Module, im.Name))
			}
			m.imports = append(m.imports, h)
		case wasm.ExternGlobal:
			g := m.runtime.lookupGlobal(im.Module, im.Name)
			if g == nil || wasm.ValueType(g.Type) != im.Global.Type || g.Mutable != im.Global.Mutable {
				missing = append(missing, missingGlobal(im))
			}
		}
	}
	if len(missing) > 0 {
		var names []string
		for _, h := range m.runtime.modules {
			names = append(names, h.Name)
		}
		return &ModuleError{Msg: fmt.Sprintf("the module imports what nobody provides: %s; here it can import from %s",
			strings.Join(missing, ", "), strings.Join(names, ", "))}
	}
	return nil
}

func missingGlobal(im *wasm.Import) string {
	switch {
	case im.Global.Type.IsRef():
		return fmt.Sprintf("%q.%q (a global of type %v, of which a host can't offer a value)", im.Module, im.Name, im.Global.Type)
	case im.Global.Mutable:
		return fmt.Sprintf("%q.%q (a mutable global of type %v)", im.Module, im.Name, im.Global.Type)
	}
	return fmt.Sprintf("%q.%q (a global of type %v)", im.Module, im.Name, im.Global.Type)
}

// internalise gives a module, whose imports are all provided, memories, tables, tags and globals of its own in place of
// those that it imports.
func (r *Runtime) internalise(decoded *wasm.Module) (*wasm.Module, error) {
	m, err := instrument.Internalise(decoded, func(im *wasm.Import) (instrument.GlobalValue, error) {
		g := r.lookupGlobal(im.Module, im.Name)
		if g == nil {
			return instrument.GlobalValue{}, errors.New("nobody provides " + missingGlobal(im))
		}
		return instrument.GlobalValue{Lo: g.Value, Hi: g.High}, nil
	})
	if err != nil {
		return nil, &ModuleError{Msg: "provide what the module imports", Err: err}
	}
	return m, nil
}

func sameTypes(a []wasm.ValueType, b []api.ValueType) bool {
	return slices.EqualFunc(a, b, func(x wasm.ValueType, y api.ValueType) bool {
		return x == wasm.ValueType(y) || x == wasm.ExternRef && y == api.ValueTypeExternref
	})
}

func (r *Runtime) lookup(module, name string) (hostImport, *hostabi.Function) {
	for mi, m := range r.modules {
		if m.Name != module {
			continue
		}
		for fi := range m.Functions {
			if m.Functions[fi].Name == name {
				return hostImport{mi, fi}, &m.Functions[fi]
			}
		}
	}
	return hostImport{}, nil
}

// lookupGlobal returns the global that is offered under a name, nil if none is.
func (r *Runtime) lookupGlobal(module, name string) *hostabi.Global {
	for _, m := range r.modules {
		for i := range m.Globals {
			if m.Name == module && m.Globals[i].Name == name {
				return &m.Globals[i]
			}
		}
	}
	return nil
}

// importIndex returns the index of an imported function that is host.
func (m *Module) importIndex(host hostImport) uint32 { return uint32(slices.Index(m.imports, host)) }

// isAwait reports whether an import is an await point.
func (r *Runtime) isAwait(module, name string) bool {
	_, f := r.lookup(module, name)
	return f != nil && f.Await != nil
}

// transform sets the plan and returns the running form, from the cache if it is there. decoded is the module as it came.
func (m *Module) transform(decoded *wasm.Module, size int) ([]byte, error) {
	r := m.runtime
	key := r.transformKey(m.hash)
	if plan, running, ok := r.readTransform(key); ok {
		m.plan = plan
		return running, nil
	}
	r.report(StepTransform, size)
	if err := wasm.Validate(decoded); err != nil {
		return nil, &ModuleError{Msg: "invalid module", Err: err}
	}
	t, err := instrument.Transform(m.original, instrument.Config{Await: r.isAwait, Choices: r.choices})
	if err != nil {
		return nil, &ModuleError{Msg: "make module suspendable", Err: err}
	}
	m.plan = t.Plan
	stripped, _ := t.Strip()
	running := stripped.Encode()
	r.writeTransform(key, t.Plan, running)
	return running, nil
}

// Hash returns the SHA-256 of the module's bytes.
func (m *Module) Hash() snapshot.Hash { return m.hash }

// Close releases the module's code. Its coroutines must have been closed.
func (m *Module) Close(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.resumes {
		r.release(ctx)
	}
	m.resumes, m.order = map[string]*resumeModule{}, nil
	m.images.close()
	if err := m.code.Close(ctx); err != nil {
		return fmt.Errorf("close module: %w", err)
	}
	return nil
}

// defaultEntry returns the export that a coroutine starts with unless it is told otherwise.
func (m *Module) defaultEntry() string {
	for _, name := range []string{"_start", "main"} {
		if _, ok := m.entryType(name); ok {
			return name
		}
	}
	return "_start"
}

// entryType returns the type of an exported function.
func (m *Module) entryType(name string) (*wasm.FuncType, bool) {
	for _, e := range m.original.Exports {
		if e.Name == name && e.Kind == wasm.ExternFunc {
			return m.env.FuncType(e.Index), true
		}
	}
	return nil, false
}

// exports returns the names of the exported functions.
func (m *Module) exports() []string {
	var names []string
	for _, e := range m.original.Exports {
		if e.Kind == wasm.ExternFunc {
			names = append(names, e.Name)
		}
	}
	return names
}

// instanceConfig is for all instances: no name, so that there can be many; no start functions, as the runtime calls the
// entry itself; and a source of randomness that nobody uses, since wazero would make one for each instance, which takes
// longer than all the rest for a small guest.
var instanceConfig = wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(noRandom{})

type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, io.EOF }

// instantiate returns a fresh instance of the running form with this memory, nil if the module has none, in which nothing of the guest has run.
func (m *Module) instantiate(ctx context.Context, mem *linmem.Memory) (api.Module, error) {
	if mem != nil {
		ctx = withMemory(ctx, mem)
	}
	inst, err := m.runtime.engine.InstantiateModule(ctx, m.code, instanceConfig)
	if err != nil {
		return nil, &ModuleError{Msg: "instantiate module", Err: err}
	}
	return inst, nil
}

// fillImage puts the initial image into zeros. Zero pages are left alone, so that the system need not provide them.
func fillImage(view, image []byte) {
	for at := 0; at < len(image); at += snapshot.PageSize {
		end := min(at+snapshot.PageSize, len(image))
		if page := image[at:end]; !allZero(page) {
			copy(view[at:], page)
		}
	}
}

// initialImage returns what memory holds before anything of the guest runs, without zero pages at its end.
func initialImage(original *wasm.Module) []byte {
	all, _ := original.InitialMemory()
	n := len(all)
	for n >= snapshot.PageSize && allZero(all[n-snapshot.PageSize:n]) {
		n -= snapshot.PageSize
	}
	return all[:n:n]
}

var zeroPage [snapshot.PageSize]byte

func allZero(page []byte) bool { return string(page) == string(zeroPage[:len(page)]) }

// resumeModule is a compiled module that rebuilds stacks of one shape.
type resumeModule struct {
	code          wazero.CompiledModule
	continuations []instrument.Continuation
	// users are who is about to instantiate it, and the Module that keeps it: when there is none left, the code is closed.
	// Instances that run keep theirs.
	users atomic.Int32
}

func (r *resumeModule) release(ctx context.Context) {
	if r.users.Add(-1) == 0 {
		_ = r.code.Close(ctx)
	}
}

// maxResumeModules is how many resume modules a Module keeps. One takes as much memory as the code of the functions on
// the stack that it rebuilds.
const maxResumeModules = 64

// resumeFor returns the module that rebuilds a snapshot's stack, and the continuations of its frames, outermost first. The
// caller releases it once there is an instance.
func (m *Module) resumeFor(ctx context.Context, frames []snapshot.Frame, await uint32) (*resumeModule, []uint32, error) {
	var conts []instrument.Continuation
	index := map[string]uint32{}
	var sequence []uint32
	var key []byte
	for i := range frames {
		f := &frames[i]
		key = appendShape(key[:0], f)
		caller := m.callerOf(frames, i)
		if caller != nil {
			key = wasm.AppendU32(wasm.AppendU32(key, caller.Function), caller.Offset)
		}
		at, ok := index[string(key)]
		if !ok {
			at = uint32(len(conts))
			index[string(key)] = at
			c := instrument.Continuation{Function: f.Function, Offset: f.Offset, Caller: caller}
			for _, s := range f.Slots {
				c.Slots = append(c.Slots, instrument.Slot{Operand: s.Operand, Index: s.Index, Type: moduleType(s.Value.Type)})
			}
			conts = append(conts, c)
		}
		sequence = append(sequence, at)
	}
	// The shapes in order, so that equal sets met in another order share a module.
	shapes := make([]string, 0, len(index))
	for s := range index {
		shapes = append(shapes, s)
	}
	slices.Sort(shapes)
	rank := make([]uint32, len(shapes))
	sorted := make([]instrument.Continuation, len(shapes))
	for i, s := range shapes {
		rank[index[s]] = uint32(i)
		sorted[i] = conts[index[s]]
	}
	for i := range sequence {
		sequence[i] = rank[sequence[i]]
	}
	sequence = append(sequence, uint32(len(sorted)))
	outer := await
	if len(frames) > 0 {
		outer = frames[0].Function
	}
	all := fmt.Sprintf("%d %d %q", outer, await, shapes)

	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.resumes[all]; ok {
		i := slices.Index(m.order, all)
		m.order = append(slices.Delete(m.order, i, i+1), all)
		r.users.Add(1)
		return r, sequence, nil
	}
	mod, err := m.plan.Resume(m.original, sorted, outer, await)
	if err != nil {
		var mismatch *instrument.MismatchError
		if errors.As(err, &mismatch) {
			return nil, nil, fmt.Errorf("%w: %w", ErrMismatch, err)
		}
		return nil, nil, fmt.Errorf("build continuations: %w", err)
	}
	binary := mod.Encode()
	m.runtime.report(StepResume, len(binary))
	defer m.runtime.report(StepDone, len(binary))
	code, err := m.runtime.compile(ctx, binary)
	if err != nil {
		return nil, nil, fmt.Errorf("compile continuations: %w", err)
	}
	r := &resumeModule{code: code, continuations: sorted}
	r.users.Store(2)
	m.resumes[all] = r
	m.order = append(m.order, all)
	if len(m.order) > maxResumeModules {
		m.resumes[m.order[0]].release(ctx)
		delete(m.resumes, m.order[0])
		m.order = m.order[1:]
	}
	return r, sequence, nil
}

// callerOf returns the call of the frame before frame i, if its results are of other types than those of the function of frame i:
// then that was called by a tail call in between.
func (m *Module) callerOf(frames []snapshot.Frame, i int) *instrument.Call {
	if i == 0 {
		return nil
	}
	call := instrument.Call{Function: frames[i-1].Function, Offset: frames[i-1].Offset}
	results, ok := instrument.ResultsOfCall(m.original, m.env, call)
	t := m.env.FuncType(frames[i].Function)
	if !ok || t == nil || slices.Equal(results, t.Results) {
		return nil // the most frequent by far; and what doesn't fit is found later
	}
	return &call
}

// appendShape appends what a continuation depends on.
func appendShape(b []byte, f *snapshot.Frame) []byte {
	b = wasm.AppendU32(b, f.Function)
	b = wasm.AppendU32(b, f.Offset)
	b = wasm.AppendU32(b, uint32(len(f.Slots))) // the caller's call may follow them
	for _, s := range f.Slots {
		kind := byte(s.Value.Type) & 0x7f
		if s.Operand {
			kind |= 0x80
		}
		b = wasm.AppendU32(append(b, kind), s.Index)
	}
	return b
}

// instantiate returns an instance that shares the state of an instance of the running form.
func (r *resumeModule) instantiate(ctx context.Context, engine wazero.Runtime, main api.Module) (api.Module, error) {
	ctx = experimental.WithImportResolver(ctx, func(name string) api.Module {
		if name == instrument.MainModule {
			return main
		}
		return nil
	})
	return engine.InstantiateModule(ctx, r.code, instanceConfig)
}
