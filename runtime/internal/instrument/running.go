package instrument

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/durun/durun/runtime/internal/wasm"
)

// Stats says how much a transform changed.
type Stats struct {
	Functions   int // defined in the module
	Suspendable int // of them, those that may suspend
	Sites       int // calls that may suspend
	CodeBefore  int // bytes of function code
	CodeAfter   int
}

// Running is the running form of a module.
type Running struct {
	Module *wasm.Module
	Plan   *Plan
	Stats  Stats
}

// running is the state of a transform. The passes in [passes] share it.
type running struct {
	unit
	original *wasm.Module
	config   Config
	env      *wasm.Env
	graph    *callGraph
	sus      *suspension
	awaits   []uint32 // function indices
	plan     *Plan
	stats    Stats

	shift   uint32 // what the added imports add to the index of a function defined in the module
	stateG  uint32
	needed  []bool // by function: a continuation may call it
	dropped map[uint32]uint32
}

// passes is the pipeline of [Transform]. The order is that of the table; after says which earlier passes one builds on.
var passes = []struct {
	name  string
	after []string
	run   func(*running) error
}{
	{name: "scan code", run: (*running).scan},
	{name: "find what may suspend", after: []string{"scan code"}, run: (*running).findSuspension},
	{name: "refuse what can't be captured", after: []string{"find what may suspend"}, run: (*running).refuse},
	{name: "add imports and state", after: []string{"find what may suspend"}, run: (*running).addImports},
	{name: "rewrite functions", after: []string{"add imports and state"}, run: (*running).rewriteFunctions},
	{name: "renumber references", after: []string{"add imports and state"}, run: (*running).renumber},
	{name: "wrap exports and start", after: []string{"renumber references"}, run: (*running).wrapExports},
	{name: "share with resume modules", after: []string{"rewrite functions", "wrap exports and start"}, run: (*running).share},
}

// Transform returns the running form of a valid module. Of custom sections it has the functions' names alone. It doesn't change m, whose bytes the
// result shares in part.
func Transform(m *wasm.Module, config Config) (*Running, error) {
	r := &running{original: m, config: config}
	for _, p := range passes {
		if err := p.run(r); err != nil {
			var u *UnsupportedError
			if errors.As(err, &u) {
				if u.HasFunction {
					u.Name = m.FunctionNames()[u.Function]
				}
				return nil, u
			}
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return &Running{Module: r.m, Plan: r.plan, Stats: r.stats}, nil
}

func (r *running) scan() (err error) {
	if r.env, err = wasm.NewEnv(r.original); err != nil {
		return err
	}
	r.graph, err = scan(r.original, r.env)
	return err
}

// refuse returns an error for state that a snapshot can't hold yet.
func (r *running) refuse() error {
	if r.stats.Suspendable > 0 || r.exportsAwait() {
		for i, g := range r.env.Globals {
			if g.Mutable && g.Type.IsRef() {
				return &UnsupportedError{Feature: fmt.Sprintf("mutable global %d, which holds references", i)}
			}
		}
		if f := r.graph.tableWrite; f != nil {
			return f
		}
	}
	for _, e := range r.original.Exports {
		if strings.HasPrefix(e.Name, exportPrefix) {
			return fmt.Errorf("export %q: names that begin with %q are reserved", e.Name, exportPrefix)
		}
	}
	return nil
}

// exportsAwait reports whether the host can call an await import directly.
func (r *running) exportsAwait() bool {
	return slices.ContainsFunc(r.original.Exports, func(e wasm.Export) bool {
		return e.Kind == wasm.ExternFunc && slices.Contains(r.awaits, e.Index)
	})
}

func (r *running) findSuspension() error {
	r.awaits = awaitImports(r.original, r.config)
	r.sus = suspends(r.env, r.graph, r.awaits)
	r.plan = newPlan(r.env, r.graph, r.sus)
	r.stats.Functions = len(r.original.Code)
	for i := range r.original.Code {
		r.stats.CodeBefore += len(r.original.Code[i].Raw)
		if r.sus.funcs[r.env.NumImportedFuncs+i] {
			r.stats.Suspendable++
		}
	}
	return nil
}

// awaitImports returns the indices of the imported functions that are await points.
func awaitImports(m *wasm.Module, config Config) []uint32 {
	var awaits []uint32
	n := uint32(0)
	for i := range m.Imports {
		im := &m.Imports[i]
		if im.Kind != wasm.ExternFunc {
			continue
		}
		if config.Await(im.Module, im.Name) {
			awaits = append(awaits, n)
		}
		n++
	}
	return awaits
}

func (r *running) addImports() error {
	m := *r.original
	m.Types = slices.Clone(m.Types)
	m.Imports = slices.Clone(m.Imports)
	m.Globals = slices.Clone(m.Globals)
	m.Functions = slices.Clone(m.Functions)
	m.Exports = slices.Clone(m.Exports)
	m.Customs = nil
	r.unit = unit{m: &m, types: map[string]uint32{}, moves: map[string]uint32{}}
	before := len(m.Imports)
	r.importHost(ImportUnwound, nil, nil)
	r.save0 = uint32(r.env.NumImportedFuncs) + 1
	for n := range MaxValues + 1 {
		r.importHost(ImportSave(n), append(i64s(n), wasm.I32), nil)
	}
	r.shift = uint32(len(m.Imports) - before)
	r.base = uint32(r.env.NumFuncs()) + r.shift
	addGlobal := func() uint32 {
		m.Globals = append(m.Globals, wasm.Global{
			Type: wasm.GlobalType{Type: wasm.I32, Mutable: true},
			Init: wasm.Expr{byte(wasm.OpI32Const), 0, byte(wasm.OpEnd)},
		})
		return uint32(r.env.NumImportedGlobals + len(m.Globals) - 1)
	}
	r.stateG = addGlobal()
	r.dropped = map[uint32]uint32{}
	for _, s := range r.graph.droppedData {
		r.dropped[s] = addGlobal()
	}
	r.needed = make([]bool, r.env.NumFuncs())
	return nil
}

func (r *running) unwound() uint32 { return uint32(r.env.NumImportedFuncs) }

// funcIndex implements linker. It is only asked for code that continuations may repeat.
func (r *running) funcIndex(f uint32) uint32 {
	r.needed[f] = true
	return r.renumbered(f)
}

func (r *running) renumbered(f uint32) uint32 {
	if f < uint32(r.env.NumImportedFuncs) {
		return f
	}
	return f + r.shift
}

func (r *running) state() uint32 { return r.stateG }

func (r *running) dropData(code []byte, segment uint32) []byte {
	code = wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpDataDrop, Index: segment})
	code = append(code, byte(wasm.OpI32Const), 1)
	return wasm.AppendU32(append(code, byte(wasm.OpGlobalSet)), r.dropped[segment])
}

func (r *running) refFunc(code []byte, f uint32) []byte {
	return wasm.AppendU32(append(code, byte(wasm.OpRefFunc)), r.funcIndex(f))
}

func (r *running) dropElements(code []byte, segment uint32) []byte {
	return wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpElemDrop, Index: segment})
}

func (r *running) initMemory(code []byte, segment uint32) []byte {
	return wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpMemoryInit, Index: segment})
}

func (r *running) rewriteFunctions() error {
	a := newAnalyser(r.original, r.env, r.sus)
	var e emitter
	e.link = r
	r.m.Code = make([]wasm.Code, len(r.original.Code))
	for i := range r.original.Code {
		c := &r.original.Code[i]
		if !r.sus.funcs[r.env.NumImportedFuncs+i] {
			raw, err := r.copyFunction(c)
			if err != nil {
				return err
			}
			r.m.Code[i] = raw
			r.stats.CodeAfter += len(raw.Raw)
			continue
		}
		f, err := a.analyse(i, r.plan.first[i])
		if err != nil {
			return err
		}
		for s := range f.sites {
			slots, err := a.slots(&f.sites[s])
			if err != nil {
				return err
			}
			r.plan.Sites[f.sites[s].id] = Site{Function: f.index, Offset: f.offset(f.sites[s].instr), Slots: slots}
		}
		r.stats.Sites += len(f.sites)
		body := e.running(f)
		raw := appendLocals(make([]byte, 0, len(body)+16), append(slices.Clone(f.locals[len(f.typ.Params):]), f.spillTypes...))
		offset := len(raw)
		r.m.Code[i] = wasm.Code{Raw: append(raw, body...), BodyOffset: offset}
		r.stats.CodeAfter += len(r.m.Code[i].Raw)
	}
	return nil
}

// copyFunction returns the code of a function that can't suspend, with its references renumbered.
func (r *running) copyFunction(c *wasm.Code) (wasm.Code, error) {
	body := c.Body()
	out := append(make([]byte, 0, len(c.Raw)+16), c.Raw[:c.BodyOffset]...)
	var rd wasm.Reader
	var in wasm.Instr
	copied := 0
	for rd.Reset(body); ; {
		err := rd.Next(&in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return wasm.Code{}, err
		}
		switch in.Op {
		case wasm.OpCall, wasm.OpReturnCall, wasm.OpRefFunc:
			if in.Op == wasm.OpRefFunc {
				// The export declares the function: the export that did so may now name its wrapper.
				r.needed[in.Index] = true
			}
			out = append(out, body[copied:in.Offset]...)
			out = wasm.AppendU32(append(out, byte(in.Op)), r.renumbered(in.Index))
			copied = in.End
		case wasm.OpDataDrop:
			out = append(out, body[copied:in.Offset]...)
			out = r.dropData(out, in.Index)
			copied = in.End
		}
	}
	return wasm.Code{Raw: append(out, body[copied:]...), BodyOffset: c.BodyOffset}, nil
}

// renumber moves references to functions outside code.
func (r *running) renumber() error {
	expr := func(e wasm.Expr) wasm.Expr {
		var rd wasm.Reader
		var in wasm.Instr
		var out wasm.Expr
		copied := 0
		for rd.Reset(e); rd.Next(&in) == nil; {
			if in.Op == wasm.OpRefFunc {
				out = append(out, e[copied:in.Offset]...)
				out = wasm.AppendU32(append(out, byte(in.Op)), r.renumbered(in.Index))
				copied = in.End
			}
		}
		if copied == 0 {
			return e
		}
		return append(out, e[copied:]...)
	}
	r.m.Elements = slices.Clone(r.m.Elements)
	for i := range r.m.Elements {
		el := &r.m.Elements[i]
		el.Funcs = slices.Clone(el.Funcs)
		for j, f := range el.Funcs {
			el.Funcs[j] = r.renumbered(f)
		}
		el.Exprs = slices.Clone(el.Exprs)
		for j, e := range el.Exprs {
			el.Exprs[j] = expr(e)
		}
	}
	for i := range r.m.Globals {
		r.m.Globals[i].Init = expr(r.m.Globals[i].Init)
	}
	r.m.Tables = slices.Clone(r.m.Tables)
	for i := range r.m.Tables {
		if r.m.Tables[i].Init != nil {
			r.m.Tables[i].Init = expr(r.m.Tables[i].Init)
		}
	}
	return nil
}

// wrapExports gives each exported function that may suspend a wrapper, where unwinding ends; and makes an export of
// the start function.
func (r *running) wrapExports() error {
	wrappers := map[uint32]uint32{}
	wrap := func(f uint32) uint32 {
		if !r.sus.funcs[f] {
			return r.renumbered(f)
		}
		w, ok := wrappers[f]
		if !ok {
			t := r.env.FuncType(f)
			var b []byte
			for i := range t.Params {
				b = wasm.AppendU32(append(b, byte(wasm.OpLocalGet)), uint32(i))
			}
			b = wasm.AppendU32(append(b, byte(wasm.OpCall)), r.renumbered(f))
			b = r.bottom(b)
			w = r.add(t.Params, t.Results, nil, b)
			wrappers[f] = w
		}
		return w
	}
	for i := range r.m.Exports {
		if e := &r.m.Exports[i]; e.Kind == wasm.ExternFunc {
			e.Index = wrap(e.Index)
		}
	}
	if r.m.Start != nil {
		r.export(ExportStart, wasm.ExternFunc, wrap(*r.m.Start))
		r.m.Start = nil
	}
	return nil
}

// bottom appends what stands behind the outermost call: if the stack has been unwound to here, tell the runtime.
func (r *running) bottom(b []byte) []byte { return appendBottom(b, r.stateG, r.unwound()) }

func appendBottom(b []byte, state, unwound uint32) []byte {
	b = wasm.AppendU32(append(b, byte(wasm.OpGlobalGet)), state)
	b = append(b, byte(wasm.OpIf), 0x40)
	b = wasm.AppendU32(append(b, byte(wasm.OpCall)), unwound)
	return append(b, byte(wasm.OpEnd))
}

func (r *running) export(name string, kind wasm.ExternKind, index uint32) {
	r.m.Exports = append(r.m.Exports, wasm.Export{Name: name, Kind: kind, Index: index})
}

// share exports what resume modules import, and what the runtime reads.
func (r *running) share() error {
	r.export(ExportState, wasm.ExternGlobal, r.stateG)
	if len(r.env.Memories) > 0 {
		r.export(ExportMemory, wasm.ExternMemory, 0)
	}
	for i, g := range r.env.Globals {
		i := uint32(i)
		r.export(ExportGlobal(i), wasm.ExternGlobal, i)
		if g.Mutable && g.Type == wasm.V128 {
			get := wasm.AppendU32([]byte{byte(wasm.OpGlobalGet)}, i)
			b := wasm.AppendInstr(slices.Clone(get), &wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 0})
			b = append(b, get...)
			b = wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 1})
			r.export(ExportGetV128(i), wasm.ExternFunc, r.add(nil, i64s(2), nil, b))
			b = []byte{byte(wasm.OpLocalGet), 0}
			b = wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpI64x2Splat})
			b = append(b, byte(wasm.OpLocalGet), 1)
			b = wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpI64x2ReplaceLane, Lane: 1})
			b = wasm.AppendU32(append(b, byte(wasm.OpGlobalSet)), i)
			r.export(ExportSetV128(i), wasm.ExternFunc, r.add(i64s(2), nil, nil, b))
		}
	}
	for i := range r.env.Tables {
		r.export(exportTable(uint32(i)), wasm.ExternTable, uint32(i))
	}
	for i := range r.env.Tags {
		r.export(exportTag(uint32(i)), wasm.ExternTag, uint32(i))
	}
	for i, needed := range r.needed {
		if needed && i >= r.env.NumImportedFuncs {
			r.export(exportFunction(uint32(i)), wasm.ExternFunc, r.renumbered(uint32(i)))
		}
	}
	for _, s := range r.graph.droppedData {
		r.export(ExportDropped(s), wasm.ExternGlobal, r.dropped[s])
		r.export(ExportDrop(s), wasm.ExternFunc, r.add(nil, nil, nil, r.dropData(nil, s)))
	}
	for _, s := range r.graph.initData {
		b := []byte{byte(wasm.OpLocalGet), 0, byte(wasm.OpLocalGet), 1, byte(wasm.OpLocalGet), 2}
		params := []wasm.ValueType{wasm.I32, wasm.I32, wasm.I32}
		r.export(exportInit(s), wasm.ExternFunc, r.add(params, nil, nil, r.initMemory(b, s)))
	}
	r.finish()
	names := make(map[uint32]string)
	for i, name := range r.original.FunctionNames() {
		if name != "" {
			names[r.renumbered(uint32(i))] = name
		}
	}
	r.m.Customs = nameSection(names)
	return nil
}
