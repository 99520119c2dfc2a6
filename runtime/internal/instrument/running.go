package instrument

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
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

	initData []uint32 // the data segments that code reads, ascending
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

	shift  uint32 // what the added imports add to the index of a function defined in the module
	stateG uint32
	needed []bool // by function: a continuation may call it
	costs  []int  // what functions run without counting, by node of [callees]
	counts []bool // by function that is defined here: it counts where it is entered, see counting.go
	// dropped and droppedElements are the globals that say which segments have been dropped; tableInits the functions that
	// stand for table.init, by segment and table; tableCopies those that copy to a table without nulls, by it and the registry.
	dropped, droppedElements map[uint32]uint32
	tableInits, tableCopies  map[[2]uint32]uint32
}

// passes is the pipeline of [Transform]. The order is that of the table; after says which earlier passes one builds on.
var passes = []struct {
	name  string
	after []string
	run   func(*running) error
}{
	{name: "scan code", run: (*running).scan},
	{name: "find what may suspend", after: []string{"scan code"}, run: (*running).findSuspension},
	{name: "find where to count", after: []string{"scan code"}, run: (*running).findCounting},
	{name: "refuse reserved names", run: (*running).refuse},
	{name: "collect references", after: []string{"find what may suspend"}, run: (*running).collectReferences},
	{name: "add imports and state", after: []string{"collect references"}, run: (*running).addImports},
	{name: "rewrite functions", after: []string{"find where to count", "add imports and state"}, run: (*running).rewriteFunctions},
	{name: "renumber references", after: []string{"add imports and state"}, run: (*running).renumber},
	{name: "wrap exports and start", after: []string{"renumber references"}, run: (*running).wrapExports},
	{name: "share with resume modules", after: []string{"rewrite functions", "wrap exports and start"}, run: (*running).share},
	{name: "fill registries", after: []string{"share with resume modules"}, run: (*running).fillRegistries},
	{name: "add what was gathered", after: []string{"fill registries"}, run: (*running).complete},
}

// Transform returns the running form of a valid module. Of custom sections it has the functions' names alone. It doesn't
// change m, whose bytes the result shares in part.
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
	return &Running{Module: r.m, Plan: r.plan, Stats: r.stats, initData: r.graph.initData}, nil
}

func (r *running) scan() (err error) {
	if r.env, err = wasm.NewEnv(r.original); err != nil {
		return err
	}
	r.graph, err = scan(r.original, r.env)
	return err
}

// refuse returns an error for names that the running form needs itself, and for what the engine can't run.
func (r *running) refuse() error {
	for i := range r.env.Tags {
		if slices.Contains(r.env.TagType(uint32(i)).Params, wasm.V128) {
			return &UnsupportedError{Feature: fmt.Sprintf(
				"tag %d, whose exceptions carry vectors: wazero 1.12 has no room for them, and overwrites what lies behind", i)}
		}
	}
	for _, e := range r.original.Exports {
		if strings.HasPrefix(e.Name, exportPrefix) {
			return fmt.Errorf("export %q: names that begin with %q are reserved", e.Name, exportPrefix)
		}
	}
	return nil
}

// collectReferences decides which registries there are.
func (r *running) collectReferences() error {
	refs := newReferences(r.original, r.env, r.graph, nil)
	r.unit.refs = refs
	r.plan.Registries = refs.list
	r.plan.HasReferences = r.graph.anyRefs
	if len(refs.list) > 0 {
		r.plan.Tables = r.graph.written
		r.plan.DroppedElements = r.graph.droppedElements
	}
	return nil
}

func (r *running) findSuspension() error {
	r.awaits = awaitImports(r.original, r.config)
	r.sus = suspends(r.env, r.graph, r.awaits)
	r.plan = newPlan(r.env, r.graph, r.sus)
	r.plan.choices = r.config.Choices
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

// maxElements is the most elements that a table can grow to; no more fit in a snapshot. Beyond, table.grow fails, as it may. The
// engine would try, and a guest that asks for four billion would end the process.
const maxElements = 1 << 24

func (r *running) addImports() error {
	m := *r.original
	m.Types = slices.Clone(m.Types)
	m.Imports = slices.Clone(m.Imports)
	m.Globals = slices.Clone(m.Globals)
	m.Functions = slices.Clone(m.Functions)
	m.Exports = slices.Clone(m.Exports)
	m.Customs = nil
	r.unit = unit{
		m: &m, types: map[string]uint32{}, moves: map[string]uint32{}, dummies: map[wasm.ValueType]uint32{}, refs: r.refs,
	}
	before := len(m.Imports)
	r.importHost(ImportUnwound, nil, nil)
	r.tickFn = r.unwound() + 1
	r.importHost(ImportTick, nil, nil)
	r.save0 = r.tickFn + 1
	if r.graph.tries {
		r.tryFn = r.save0
		r.importHost(ImportTry, nil, nil)
		r.save0++
	}
	for n := range MaxValues + 1 {
		r.importHost(ImportSave(n), append(i64s(n), wasm.I32), nil)
	}
	if r.plan.HasReferences {
		r.ref = uint32(r.env.NumImportedFuncs + len(m.Imports) - before)
		r.importHost(ImportRef, []wasm.ValueType{wasm.FuncRef}, []wasm.ValueType{wasm.I64})
		r.unnamed = r.ref + 1
		r.importHost(ImportUnnamed, []wasm.ValueType{wasm.I32}, nil)
		r.keepFn = r.unnamed + 1
		r.importHost(ImportKeep, []wasm.ValueType{wasm.ExnRef}, nil)
	}
	r.shift = uint32(len(m.Imports) - before)
	r.base = uint32(r.env.NumFuncs()) + r.shift
	addGlobalOf := func(t wasm.ValueType, init wasm.Expr) uint32 {
		m.Globals = append(m.Globals, wasm.Global{
			Type: wasm.GlobalType{Type: t, Mutable: true}, Init: append(init, byte(wasm.OpEnd)),
		})
		return uint32(r.env.NumImportedGlobals + len(m.Globals) - 1)
	}
	addGlobal := func() uint32 { return addGlobalOf(wasm.I32, appendZero(nil, wasm.I32)) }
	r.stateG = addGlobal()
	r.ticksG = addGlobalOf(wasm.I64, appendZero(nil, wasm.I64))
	r.roomG = addGlobalOf(wasm.I64, wasm.AppendS64(wasm.Expr{byte(wasm.OpI64Const)}, math.MaxInt64))
	r.dropped = map[uint32]uint32{}
	for _, s := range r.graph.droppedData {
		r.dropped[s] = addGlobal()
	}
	r.droppedElements, r.tableInits, r.tableCopies = map[uint32]uint32{}, map[[2]uint32]uint32{}, map[[2]uint32]uint32{}
	for _, s := range r.plan.DroppedElements {
		r.droppedElements[s] = addGlobal()
	}
	m.Tables = slices.Clone(m.Tables)
	for _, t := range r.graph.written {
		if t < uint32(r.env.NumImportedTables) {
			continue
		}
		l := &m.Tables[t-uint32(r.env.NumImportedTables)].Type.Limits
		if most := max(l.Min, maxElements); !l.HasMax || l.Max > most {
			l.Max, l.HasMax = most, true
		}
	}
	for _, t := range r.refs.tables() {
		m.Tables = append(m.Tables, wasm.Table{Type: t})
	}
	r.needed = make([]bool, r.env.NumFuncs())
	return nil
}

func (r *running) unwound() uint32 { return uint32(r.env.NumImportedFuncs) }

// funcIndex implements linker. It is asked for code that continuations may repeat, and for try_tables where nothing suspends.
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

// dropElements implements linker. Where nothing could tell, nothing is done.
func (r *running) dropElements(code []byte, segment uint32) []byte {
	if g, ok := r.droppedElements[segment]; ok {
		code = append(code, byte(wasm.OpI32Const), 1)
		code = wasm.AppendU32(append(code, byte(wasm.OpGlobalSet)), g)
	}
	return code
}

// initTable implements linker.
func (r *running) initTable(code []byte, segment, table uint32) []byte {
	return wasm.AppendU32(append(code, byte(wasm.OpCall)), r.tableInit(segment, table))
}

// tableInit returns the function that stands for a table.init: it copies from the registry that has the segment's elements.
func (r *running) tableInit(segment, table uint32) uint32 {
	key := [2]uint32{segment, table}
	if f, ok := r.tableInits[key]; ok {
		return f
	}
	e := &r.original.Elements[segment]
	size := len(e.Funcs) + len(e.Exprs)
	var b []byte
	index := func(op wasm.Opcode, i uint32) { b = wasm.AppendU32(append(b, byte(op)), i) }
	// If source + n is more than the segment has, trap as a copy from outside of a table does.
	index(wasm.OpLocalGet, 1)
	b = append(b, byte(wasm.OpI64ExtendI32U))
	index(wasm.OpLocalGet, 2)
	b = append(b, byte(wasm.OpI64ExtendI32U), byte(wasm.OpI64Add))
	if e.Mode != wasm.Passive { // has been dropped
		size = 0
	}
	b = wasm.AppendS64(append(b, byte(wasm.OpI64Const)), int64(size))
	if g, ok := r.droppedElements[segment]; ok && size > 0 {
		b = append(b, byte(wasm.OpI64Const), 0)
		index(wasm.OpGlobalGet, g)
		b = append(b, byte(wasm.OpI32Eqz), byte(wasm.OpSelect))
	}
	b = append(b, byte(wasm.OpI64GtU))
	b = appendTableTrap(b, table)
	index(wasm.OpLocalGet, 0)
	index(wasm.OpLocalGet, 1)
	b = wasm.AppendS32(append(b, byte(wasm.OpI32Const)), int32(r.refs.base[segment]))
	b = append(b, byte(wasm.OpI32Add))
	index(wasm.OpLocalGet, 2)
	b = r.copyElements(b, table, r.refs.registry[segment])
	f := r.add([]wasm.ValueType{wasm.I32, wasm.I32, wasm.I32}, nil, nil, b)
	r.tableInits[key] = f
	return f
}

// appendTableTrap appends code that traps as an access outside of a table does, if there is something else than 0 on the
// stack.
func appendTableTrap(b []byte, table uint32) []byte {
	b = append(b, byte(wasm.OpIf), 0x40)
	for range 3 {
		b = wasm.AppendS32(append(b, byte(wasm.OpI32Const)), -1)
	}
	b = wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpTableCopy, Index: table, Index2: table})
	return append(b, byte(wasm.OpEnd))
}

// copyElements appends code that copies elements of a registry to a table: [place, position, number] -> [].
func (r *running) copyElements(b []byte, table uint32, registry int) []byte {
	from := r.refs.table0 + uint32(registry)
	if r.env.Tables[table].Elem.IsNullable() {
		return wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpTableCopy, Index: table, Index2: from})
	}
	// A table.copy can't tell that none of them is null.
	key := [2]uint32{table, from}
	f, ok := r.tableCopies[key]
	if !ok {
		var c []byte
		index := func(op wasm.Opcode, i uint32) { c = wasm.AppendU32(append(c, byte(op)), i) }
		ops := func(ops ...wasm.Opcode) {
			for _, op := range ops {
				c = append(c, byte(op))
			}
		}
		index(wasm.OpLocalGet, 0)
		ops(wasm.OpI64ExtendI32U)
		index(wasm.OpLocalGet, 2)
		ops(wasm.OpI64ExtendI32U, wasm.OpI64Add)
		c = wasm.AppendInstr(c, &wasm.Instr{Op: wasm.OpTableSize, Index: table})
		ops(wasm.OpI64ExtendI32U, wasm.OpI64GtU)
		c = appendTableTrap(c, table)
		c = append(c, byte(wasm.OpBlock), 0x40, byte(wasm.OpLoop), 0x40)
		index(wasm.OpLocalGet, 2)
		ops(wasm.OpI32Eqz)
		index(wasm.OpBrIf, 1)
		index(wasm.OpLocalGet, 0)
		index(wasm.OpLocalGet, 1)
		index(wasm.OpTableGet, from)
		ops(wasm.OpRefAsNonNull)
		index(wasm.OpTableSet, table)
		for l, by := range []int32{1, 1, -1} {
			index(wasm.OpLocalGet, uint32(l))
			c = wasm.AppendS32(append(c, byte(wasm.OpI32Const)), by)
			ops(wasm.OpI32Add)
			index(wasm.OpLocalSet, uint32(l))
		}
		index(wasm.OpBr, 0)
		ops(wasm.OpEnd, wasm.OpEnd)
		f = r.add([]wasm.ValueType{wasm.I32, wasm.I32, wasm.I32}, nil, nil, c)
		r.tableCopies[key] = f
	}
	return wasm.AppendU32(append(b, byte(wasm.OpCall)), f)
}

func (r *running) initMemory(code []byte, segment uint32) []byte {
	return wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpMemoryInit, Index: segment})
}

func (r *running) rewriteFunctions() error {
	a := newAnalyser(r.original, r.env, r.sus, r.config.Choices)
	a.costs = r.costs
	var e emitter
	e.link = r
	r.m.Code = make([]wasm.Code, len(r.original.Code))
	for i := range r.original.Code {
		c := &r.original.Code[i]
		suspends := r.sus.funcs[r.env.NumImportedFuncs+i]
		long := r.costs[r.env.NumImportedFuncs+i] > maxCallee
		if !suspends && !r.graph.rewrite[i] && !r.counts[i] && !long {
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
			r.plan.Sites[f.sites[s].id] = Site{
				Function: f.index, Offset: f.offset(f.sites[s].instr), Slots: a.slots(&f.sites[s]), Try: f.sites[s].try,
			}
		}
		r.stats.Sites += len(f.sites)
		body := e.running(f, r.counts[i])
		raw := appendLocals(make([]byte, 0, len(body)+16), e.locals()[len(f.typ.Params):])
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
		replace := func(emit func([]byte) []byte) {
			out = emit(append(out, body[copied:in.Offset]...))
			copied = in.End
		}
		switch in.Op {
		case wasm.OpCall, wasm.OpReturnCall:
			replace(func(b []byte) []byte { return wasm.AppendU32(append(b, byte(in.Op)), r.renumbered(in.Index)) })
		case wasm.OpRefFunc:
			replace(func(b []byte) []byte { return r.refFunc(b, in.Index) })
		case wasm.OpGlobalGet:
			if _, ok := r.refs.globals[in.Index]; ok {
				replace(func(b []byte) []byte { return r.globalGet(b, in.Index) })
			}
		case wasm.OpDataDrop:
			replace(func(b []byte) []byte { return r.dropData(b, in.Index) })
		case wasm.OpElemDrop:
			replace(func(b []byte) []byte { return r.dropElements(b, in.Index) })
		case wasm.OpTableInit:
			replace(func(b []byte) []byte { return r.initTable(b, in.Index, in.Index2) })
		}
	}
	return wasm.Code{Raw: append(out, body[copied:]...), BodyOffset: c.BodyOffset}, nil
}

// renumberedExpr moves references to functions in a constant expression.
func (r *running) renumberedExpr(e wasm.Expr) wasm.Expr {
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

// renumber moves references to functions outside code.
func (r *running) renumber() error {
	expr := r.renumberedExpr
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
	r.export(ExportTicks, wasm.ExternGlobal, r.ticksG)
	r.export(ExportRoom, wasm.ExternGlobal, r.roomG)
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
		if registry := r.refs.find(g.Type); g.Mutable && isFunc(g.Type) && registry >= 0 {
			b := r.refs.get([]byte{byte(wasm.OpLocalGet), 0}, registry)
			if !g.Type.IsNullable() {
				b = append(b, byte(wasm.OpRefAsNonNull))
			}
			b = wasm.AppendU32(append(b, byte(wasm.OpGlobalSet)), i)
			r.export(ExportSetRef(i), wasm.ExternFunc, r.add([]wasm.ValueType{wasm.I32}, nil, nil, b))
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
	r.shareReferences()
	return nil
}

// shareReferences exports the registries, and what moves the state of tables and element segments.
func (r *running) shareReferences() {
	i32 := []wasm.ValueType{wasm.I32}
	for i := range r.refs.list {
		r.export(exportRegistryTable(i), wasm.ExternTable, r.refs.table0+uint32(i))
		if isFunc(r.refs.list[i].Type) {
			b := r.refs.get([]byte{byte(wasm.OpLocalGet), 0}, i)
			r.export(ExportRegistry(i), wasm.ExternFunc, r.add(i32, []wasm.ValueType{wasm.FuncRef}, nil, b))
		}
	}
	for _, s := range r.plan.DroppedElements {
		r.export(ExportDroppedElements(s), wasm.ExternGlobal, r.droppedElements[s])
		r.export(ExportDropElements(s), wasm.ExternFunc, r.add(nil, nil, nil, r.dropElements(nil, s)))
	}
	inits := slices.SortedFunc(maps.Keys(r.tableInits), func(a, b [2]uint32) int { return slices.Compare(a[:], b[:]) })
	for _, k := range inits {
		r.export(exportInitTable(k[0], k[1]), wasm.ExternFunc, r.tableInits[k])
	}
	for _, t := range r.plan.Tables {
		elem := r.env.Tables[t].Elem
		table := func(b []byte, op wasm.Opcode) []byte { return wasm.AppendInstr(b, &wasm.Instr{Op: op, Index: t}) }
		r.export(ExportTableSize(t), wasm.ExternFunc, r.add(nil, i32, nil, table(nil, wasm.OpTableSize)))
		get := table([]byte{byte(wasm.OpLocalGet), 0}, wasm.OpTableGet)
		filler := []byte{byte(wasm.OpLocalGet), 0}
		if !isFunc(elem) {
			get = append(get, byte(wasm.OpRefIsNull), byte(wasm.OpI32Eqz))
			r.export(ExportTableGet(t), wasm.ExternFunc, r.add(i32, i32, nil, get))
		} else {
			r.export(ExportTableGet(t), wasm.ExternFunc, r.add(i32, []wasm.ValueType{wasm.FuncRef}, nil, get))
			b := []byte{byte(wasm.OpLocalGet), 0, byte(wasm.OpLocalGet), 1}
			if registry := r.refs.find(elem); registry >= 0 {
				b = r.refs.get(b, registry)
			} else {
				b = appendZero(append(b, byte(wasm.OpDrop)), nullable(elem))
			}
			if !elem.IsNullable() {
				b = append(b, byte(wasm.OpRefAsNonNull))
			}
			r.export(ExportTableSet(t), wasm.ExternFunc, r.add([]wasm.ValueType{wasm.I32, wasm.I32}, nil, nil, table(b, wasm.OpTableSet)))
		}
		if elem.IsNullable() {
			b := append(appendZero(nil, elem), filler...)
			r.export(ExportTableGrow(t), wasm.ExternFunc, r.add(i32, i32, nil, table(b, wasm.OpTableGrow)))
		} else if registry := r.refs.find(elem); registry >= 0 {
			// What it grows by is set right away, and has to be something until then. A table that grows got a function first.
			some := slices.IndexFunc(r.refs.list[registry].Funcs, func(f uint32) bool { return f > 0 })
			b := r.refs.get(wasm.AppendS32([]byte{byte(wasm.OpI32Const)}, int32(max(some, 0))), registry)
			b = append(append(b, byte(wasm.OpRefAsNonNull)), filler...)
			r.export(ExportTableGrow(t), wasm.ExternFunc, r.add(i32, i32, nil, table(b, wasm.OpTableGrow)))
		}
	}
}

// fillRegistries has the registries filled by active element segments in place of the original's segments, and adds the start
// function, which gives tables and globals their references out of the registries.
func (r *running) fillRegistries() error {
	if len(r.refs.list) == 0 {
		return nil
	}
	segments := r.m.Elements // renumbered
	r.m.Elements = nil
	for i := range r.refs.list {
		reg := &r.refs.list[i]
		if len(reg.Funcs) == 1 {
			continue
		}
		exprs := make([]wasm.Expr, 0, len(reg.Funcs))
		for _, f := range reg.Funcs {
			var x wasm.Expr
			if f > 0 {
				x = wasm.AppendU32(wasm.Expr{byte(wasm.OpRefFunc)}, r.renumbered(f-1))
			} else {
				x = wasm.AppendInstr(nil, &wasm.Instr{Op: wasm.OpRefNull, Heap: reg.Type.Heap()})
			}
			exprs = append(exprs, append(x, byte(wasm.OpEnd)))
		}
		for s := range segments {
			// What isn't known before, the value of an imported global, stands in the segment as it was.
			for k, x := range segments[s].Exprs {
				if _, ok := r.refs.constant(r.original.Elements[s].Exprs[k]); !ok && r.refs.registry[s] == i && segments[s].Mode != wasm.Declarative {
					exprs[int(r.refs.base[s])+k] = x
				}
			}
		}
		r.m.Elements = append(r.m.Elements, wasm.Element{
			Mode: wasm.Active, Table: r.refs.table0 + uint32(i), Offset: wasm.Expr{byte(wasm.OpI32Const), 0, byte(wasm.OpEnd)},
			Type: reg.Type, Exprs: exprs,
		})
	}
	var b []byte
	number := func(v int) { b = wasm.AppendS32(append(b, byte(wasm.OpI32Const)), int32(v)) }
	for i := range r.original.Tables {
		t := &r.original.Tables[i]
		if f, ok := r.refs.constant(t.Init); ok && f > 0 && t.Init != nil {
			number(0)
			b = r.refs.constantOf(b, t.Type.Elem, f)
			number(int(t.Type.Limits.Min))
			b = wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpTableFill, Index: uint32(r.env.NumImportedTables + i)})
		}
	}
	for i := range r.original.Globals {
		g := &r.original.Globals[i]
		if f, ok := r.refs.constant(g.Init); ok && f > 0 && g.Type.Mutable && isFunc(g.Type.Type) {
			b = r.refs.constantOf(b, g.Type.Type, f)
			b = wasm.AppendU32(append(b, byte(wasm.OpGlobalSet)), uint32(r.env.NumImportedGlobals+i))
		}
	}
	for s := range r.original.Elements {
		e := &r.original.Elements[s]
		if e.Mode != wasm.Active {
			continue
		}
		b = append(b, e.Offset[:len(e.Offset)-1]...)
		number(int(r.refs.base[s]))
		number(len(e.Funcs) + len(e.Exprs))
		b = r.copyElements(b, e.Table, r.refs.registry[s])
	}
	if b != nil {
		start := r.add(nil, nil, nil, b)
		r.m.Start = &start
	}
	return nil
}

// complete adds the functions and the names.
func (r *running) complete() error {
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
