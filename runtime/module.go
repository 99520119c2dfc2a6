package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
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
	runtime *Runtime
	hash    snapshot.Hash
	key     string       // of what the cache has of it
	size    int          // in bytes
	source  fetched      // of the module itself, see original
	outline *wasm.Module // with memories and the like of its own in place of imported ones; no code, no data
	env     *wasm.Env    // of outline
	plan    *instrument.Plan
	code    wazero.CompiledModule
	imports []hostImport // by index of the imported function
	mutable []uint32     // the mutable globals

	// foreignGlobals and foreignTables are those that can change and hold references that no snapshot can, unless they are
	// null.
	foreignGlobals, foreignTables []uint32
	// holdsExceptions reports whether a global or a table can hold a reference to an exception over an await.
	holdsExceptions bool

	image  memoryImage // which the running form lacks
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
	return r.open(ctx, sha256.Sum256(binary), func(context.Context) ([]byte, error) { return binary, nil })
}

// Open is as Compile for a module with a hash, which is fetched only when it is needed: if the cache folder doesn't have what
// was made of it before, and when a coroutine is restored that stands where none did before. fetch may be called at any
// time until the Module is closed, and again if it has failed, which is an error of the call that needed it. What it returns must
// not be changed afterwards.
func (r *Runtime) Open(ctx context.Context, hash snapshot.Hash, fetch func(context.Context) ([]byte, error)) (*Module, error) {
	return r.open(ctx, hash, func(ctx context.Context) ([]byte, error) {
		binary, err := fetch(ctx)
		if err == nil && sha256.Sum256(binary) != hash {
			err = errors.New("what was fetched is something else")
		}
		return binary, err
	})
}

func (r *Runtime) open(ctx context.Context, hash snapshot.Hash, fetch func(context.Context) ([]byte, error)) (*Module, error) {
	m := &Module{
		runtime: r, hash: hash, key: r.preparedKey(hash), source: fetched{hash: hash, fetch: fetch},
		resumes: map[string]*resumeModule{}, images: images{limit: maxRootPages},
	}
	var running []byte // nil if what was prepared before will do
	p, ok := r.readPrepared(m.key)
	if ok {
		if err := m.resolveImports(p.outline); err != nil {
			return nil, err
		}
	} else {
		var err error
		if p, running, err = m.prepare(ctx); err != nil {
			return nil, err
		}
	}
	m.size, m.outline, m.plan, m.image = p.size, p.outline, p.plan, p.image
	var err error
	if m.env, err = wasm.NewEnv(m.outline); err != nil {
		return nil, &ModuleError{Msg: "invalid module", Err: err}
	}
	m.describe()
	if m.code, err = m.compileRunning(ctx, p.shell, running); err != nil {
		return nil, err
	}
	return m, nil
}

// describe notes what the runtime has to know of globals and tables.
func (m *Module) describe() {
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
	for _, t := range m.plan.Tables {
		if snapshotType(m.env.Tables[t].Elem) != snapshot.FuncRef {
			m.foreignTables = append(m.foreignTables, t)
		}
	}
}

// compileRunning compiles the running form, or loads its code. running is nil if it has to be made first, should the code not
// be in the cache.
func (m *Module) compileRunning(ctx context.Context, shell, running []byte) (wazero.CompiledModule, error) {
	r := m.runtime
	r.report(StepCompile, m.size)
	defer r.report(StepDone, m.size)
	if code, ok := r.loadCode(ctx, shell); ok {
		return code, nil
	}
	if running == nil {
		p, again, err := m.prepare(ctx)
		if err != nil {
			return nil, err
		}
		shell, running = p.shell, again
		r.report(StepCompile, m.size)
	}
	code, err := r.compile(ctx, running, shell)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("compile module: %w", ctx.Err())
		}
		return nil, &ModuleError{Msg: "compile module", Err: err}
	}
	return code, nil
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
	m.imports = nil
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
		if n := len(missing) - maxMissing; n > 0 {
			missing = append(missing[:maxMissing], fmt.Sprintf("and %d more", n))
		}
		return &ModuleError{Msg: fmt.Sprintf("the module imports what nobody provides: %s; here it can import from %s",
			strings.Join(missing, ", "), strings.Join(names, ", "))}
	}
	return nil
}

// maxMissing is how many imports an error names that nobody provides.
const maxMissing = 8

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

// prepare fetches the module, transforms it and keeps the result. It returns that, and the running form.
func (m *Module) prepare(ctx context.Context) (*prepared, []byte, error) {
	r := m.runtime
	decoded, size, err := m.source.decode(ctx)
	if err != nil {
		return nil, nil, err
	}
	if _, err := wasm.NewEnv(decoded); err != nil {
		return nil, nil, &ModuleError{Msg: "invalid module", Err: err}
	}
	if err := checkOriginal(decoded); err != nil {
		return nil, nil, err
	}
	if err := m.resolveImports(decoded); err != nil {
		return nil, nil, err
	}
	own, err := r.internalise(decoded)
	if err != nil {
		return nil, nil, err
	}
	r.report(StepTransform, size)
	if err := wasm.Validate(decoded); err != nil {
		r.report(StepDone, size)
		return nil, nil, &ModuleError{Msg: "invalid module", Err: err}
	}
	t, err := instrument.Transform(own, instrument.Config{Await: r.isAwait, Choices: r.choices})
	if err != nil {
		r.report(StepDone, size)
		return nil, nil, &ModuleError{Msg: "make module suspendable", Err: err}
	}
	stripped, memory := t.Strip()
	running := stripped.Encode()
	p := &prepared{
		size: size, outline: outlineOf(own), plan: t.Plan, image: imageOf(memory), shell: shellOf(stripped, running),
	}
	r.writePrepared(m.key, p)
	return p, running, nil
}

// original returns the module as it came, but with memories and the like of its own. It may have to be fetched, which is for
// what happens seldom.
func (m *Module) original(ctx context.Context) (*wasm.Module, error) {
	decoded, _, err := m.source.decode(ctx)
	if err != nil {
		return nil, err
	}
	return m.runtime.internalise(decoded)
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
	for _, e := range m.outline.Exports {
		if e.Name == name && e.Kind == wasm.ExternFunc {
			return m.env.FuncType(e.Index), true
		}
	}
	return nil, false
}

// exports returns the names of the exported functions.
func (m *Module) exports() []string {
	var names []string
	for _, e := range m.outline.Exports {
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

// resumeModule is a compiled module that rebuilds stacks of one shape.
type resumeModule struct {
	preparedResume
	code wazero.CompiledModule
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

// shape is what a resume module depends on: the different frames of a stack, each together with the call of the frame that
// called it. A recursion has the same shape however deep it is.
type shape struct {
	outer, await uint32         // the outermost frame's function, and the import in which the stack ends
	frames       []shapeFrame   // in the order of their keys
	index        map[string]int // of frames, by key
	key          string
}

type shapeFrame struct {
	frame  *snapshot.Frame
	caller *instrument.Call // nil for the outermost frame
}

// shapeOf returns the shape of a stack, and which of its frames each frame of the stack is, outermost first.
func shapeOf(frames []snapshot.Frame, await uint32) (*shape, []int) {
	s := &shape{outer: await, await: await, index: map[string]int{}}
	if len(frames) > 0 {
		s.outer = frames[0].Function
	}
	keys := make([]string, len(frames))
	var buf []byte
	for i := range frames {
		buf = appendShape(buf[:0], &frames[i])
		f := shapeFrame{frame: &frames[i]}
		if i > 0 {
			f.caller = &instrument.Call{Function: frames[i-1].Function, Offset: frames[i-1].Offset}
			buf = wasm.AppendU32(wasm.AppendU32(buf, f.caller.Function), f.caller.Offset)
		}
		keys[i] = string(buf)
		if _, ok := s.index[keys[i]]; !ok {
			s.index[keys[i]] = len(s.frames)
			s.frames = append(s.frames, f)
		}
	}
	// In order, so that equal sets met in another order share a module.
	sorted := slices.Sorted(maps.Keys(s.index))
	ordered := make([]shapeFrame, len(sorted))
	for i, k := range sorted {
		ordered[i] = s.frames[s.index[k]]
		s.index[k] = i
	}
	s.frames = ordered
	s.key = fmt.Sprintf("%d %d %q", s.outer, await, sorted)
	which := make([]int, len(frames))
	for i, k := range keys {
		which[i] = s.index[k]
	}
	return s, which
}

// resumeFor returns the module that rebuilds a snapshot's stack, and the continuations of its frames, outermost first. The
// caller releases it once there is an instance.
func (m *Module) resumeFor(ctx context.Context, frames []snapshot.Frame, await uint32) (*resumeModule, []uint32, error) {
	s, which := shapeOf(frames, await)
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.resumes[s.key]
	if ok {
		i := slices.Index(m.order, s.key)
		m.order = append(slices.Delete(m.order, i, i+1), s.key)
	} else {
		var err error
		if r, err = m.makeResume(ctx, s); err != nil {
			return nil, nil, err
		}
		r.users.Store(1)
		m.resumes[s.key] = r
		m.order = append(m.order, s.key)
		if len(m.order) > maxResumeModules {
			m.resumes[m.order[0]].release(ctx)
			delete(m.resumes, m.order[0])
			m.order = m.order[1:]
		}
	}
	r.users.Add(1)
	sequence := make([]uint32, len(which), len(which)+1)
	for i, w := range which {
		sequence[i] = r.continuations[w]
	}
	return r, append(sequence, uint32(len(r.slots))), nil
}

// makeResume loads the resume module of a shape from the cache, or builds it.
func (m *Module) makeResume(ctx context.Context, s *shape) (*resumeModule, error) {
	r := m.runtime
	sum := sha256.Sum256([]byte(m.key + " " + s.key))
	key := hex.EncodeToString(sum[:])
	if p, ok := r.readResume(key); ok && len(p.continuations) == len(s.frames) {
		if code, ok := r.loadCode(ctx, p.shell); ok {
			return &resumeModule{preparedResume: *p, code: code}, nil
		}
	}
	p, module, err := m.buildResume(ctx, s)
	if err != nil {
		return nil, err
	}
	binary := module.Encode()
	p.shell = shellOf(module, binary)
	r.report(StepResume, len(binary))
	defer r.report(StepDone, len(binary))
	code, err := r.compile(ctx, binary, p.shell)
	if err != nil {
		return nil, fmt.Errorf("compile continuations: %w", err)
	}
	r.writeResume(key, p)
	return &resumeModule{preparedResume: *p, code: code}, nil
}

// buildResume builds the resume module of a shape from the original. p.shell is not yet set.
func (m *Module) buildResume(ctx context.Context, s *shape) (p *preparedResume, module *wasm.Module, err error) {
	original, err := m.original(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("build continuations: %w", err)
	}
	env, err := wasm.NewEnv(original)
	if err != nil {
		return nil, nil, fmt.Errorf("build continuations: %w", err)
	}
	p = &preparedResume{}
	var conts []instrument.Continuation
	index := map[string]uint32{}
	var key []byte
	for _, f := range s.frames {
		caller := f.caller
		if caller != nil && !callsOtherResults(original, env, *caller, f.frame.Function) {
			caller = nil
		}
		key = appendShape(key[:0], f.frame)
		if caller != nil {
			key = wasm.AppendU32(wasm.AppendU32(key, caller.Function), caller.Offset)
		}
		at, ok := index[string(key)]
		if !ok {
			at = uint32(len(conts))
			index[string(key)] = at
			c := instrument.Continuation{Function: f.frame.Function, Offset: f.frame.Offset, Caller: caller}
			for _, s := range f.frame.Slots {
				c.Slots = append(c.Slots, instrument.Slot{Operand: s.Operand, Index: s.Index, Type: moduleType(s.Value.Type)})
			}
			conts = append(conts, c)
		}
		p.continuations = append(p.continuations, at)
	}
	module, err = m.plan.Resume(original, conts, s.outer, s.await)
	if err != nil {
		var mismatch *instrument.MismatchError
		if errors.As(err, &mismatch) {
			return nil, nil, fmt.Errorf("%w: %w", ErrMismatch, err)
		}
		return nil, nil, fmt.Errorf("build continuations: %w", err)
	}
	for i := range conts {
		types := make([]wasm.ValueType, len(conts[i].Slots))
		for k := range types {
			types[k] = conts[i].Slots[k].Type
		}
		p.slots = append(p.slots, types)
	}
	return p, module, nil
}

// callsOtherResults reports whether the results of a call are of other types than those of a function: then that was
// called by a tail call in between.
func callsOtherResults(original *wasm.Module, env *wasm.Env, call instrument.Call, function uint32) bool {
	results, ok := instrument.ResultsOfCall(original, env, call)
	t := env.FuncType(function)
	return ok && t != nil && !slices.Equal(results, t.Results) // what doesn't fit is found later
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
