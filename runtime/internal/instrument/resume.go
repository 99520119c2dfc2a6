package instrument

import (
	"errors"
	"fmt"
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// Continuation names the rest of a function after one of its sites, for a frame that holds Slots.
type Continuation struct {
	Function uint32
	Offset   uint32 // of the call, from the first byte of the function's code
	Slots    []Slot
	// Caller is the frame that called it, or rather a function that made a tail call of it: its results have to be those of
	// that frame's call, which may be of other types than the function's own. Nil for the outermost frame.
	Caller *Call
}

// Call is a call in the code of a function.
type Call struct {
	Function, Offset uint32
}

// MismatchError is returned for a frame that doesn't fit the module.
type MismatchError struct {
	Function, Offset uint32
	Msg              string
}

// Error implements error.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("frame of function %d at %#x: %s", e.Function, e.Offset, e.Msg)
}

// resume is a resume module under construction.
type resume struct {
	unit
	plan      *Plan
	env       *wasm.Env
	original  *wasm.Module
	hostNames []int // by imported function of the original: index in Imports
	funcs     map[uint32]uint32
	stateG    uint32
	extra     map[string]uint32 // functions of the running form that stand for instructions
	imported  uint32
}

// Resume returns a module that rebuilds a stack: for each of conts, which are different from each other, a continuation.
// Its table of continuations holds them in this order, then one that calls the await import (a function index of the
// original module). outer is the function of the outermost frame, or the import itself if there are no frames.
//
// It sets the type of each slot that holds a reference to the type of that local or operand: the runtime has to give its position
// in the registry of this type, see [Plan.Position].
//
// The module imports from an instance of the running form, named [MainModule], from the host's modules and from
// [HostModule]; it exports [ExportResume].
func (p *Plan) Resume(m *wasm.Module, conts []Continuation, outer, await uint32) (*wasm.Module, error) {
	env, err := wasm.NewEnv(m)
	if err != nil {
		return nil, err
	}
	if len(p.sus.funcs) != env.NumFuncs() || len(p.first) != len(m.Code)+1 {
		return nil, errors.New("the plan is another module's")
	}
	if uint64(await) >= uint64(env.NumImportedFuncs) || uint64(outer) >= uint64(env.NumFuncs()) {
		return nil, &MismatchError{Function: outer, Msg: "no such function"}
	}
	// Functions are imported as they are met, so their number isn't known before the code is: two passes.
	first := &resume{}
	if err := first.build(p, m, env, conts, outer, await); err != nil {
		return nil, err
	}
	second := &resume{imported: uint32(first.numImported())}
	if err := second.build(p, m, env, conts, outer, await); err != nil {
		return nil, err
	}
	return second.m, nil
}

func (r *resume) numImported() int {
	n := 0
	for i := range r.m.Imports {
		if r.m.Imports[i].Kind == wasm.ExternFunc {
			n++
		}
	}
	return n
}

func (r *resume) build(p *Plan, m *wasm.Module, env *wasm.Env, conts []Continuation, outer, await uint32) error {
	r.plan, r.env, r.original = p, env, m
	r.funcs, r.extra = map[uint32]uint32{}, map[string]uint32{}
	r.unit = unit{
		m:     &wasm.Module{Types: slices.Clone(m.Types)},
		types: map[string]uint32{}, moves: map[string]uint32{}, base: r.imported, dummies: map[wasm.ValueType]uint32{},
		refs: newReferences(m, env, nil, p.Registries),
	}
	for i := range m.Imports {
		if m.Imports[i].Kind == wasm.ExternFunc {
			r.hostNames = append(r.hostNames, i)
		}
	}
	r.importHost(ImportUnwound, nil, nil)
	r.tickFn = 1
	r.importHost(ImportTick, nil, nil)
	r.tryFn = 2
	r.importHost(ImportTry, nil, nil)
	next := uint32(3)
	r.importHost(ImportNext, nil, []wasm.ValueType{wasm.I32})
	r.save0 = next + 1
	for n := range MaxValues + 1 {
		r.importHost(ImportSave(n), append(i64s(n), wasm.I32), nil)
	}
	r.load1 = r.save0 + MaxValues + 1
	for n := 1; n <= MaxValues; n++ {
		r.importHost(ImportLoad(n), nil, i64s(n))
	}
	if p.HasReferences {
		r.ref = r.load1 + MaxValues
		r.importHost(ImportRef, []wasm.ValueType{wasm.FuncRef}, []wasm.ValueType{wasm.I64})
		r.unnamed = r.ref + 1
		r.importHost(ImportUnnamed, []wasm.ValueType{wasm.I32}, nil)
		r.keepFn = r.unnamed + 1
		r.importHost(ImportKeep, []wasm.ValueType{wasm.ExnRef}, nil)
	}
	r.importState()

	table := uint32(len(env.Tables) + len(p.Registries))
	a := newAnalyser(m, env, p.sus, p.choices)
	var e emitter
	e.link = r
	var table0 []uint32 // what the table of continuations holds
	names := map[uint32]string{}
	originalNames := m.FunctionNames()
	for _, c := range conts {
		f, site, err := r.find(a, p, c)
		if err != nil {
			return err
		}
		nextType := r.typeIndex(nil, f.sites[site].results)
		locals, body, err := e.continuation(f, site, c.Slots, next, nextType, table)
		if err != nil {
			return &MismatchError{c.Function, c.Offset, err.Error()}
		}
		results, err := r.resultsOf(f, c)
		if err != nil {
			return &MismatchError{c.Function, c.Offset, err.Error()}
		}
		fn := r.add(nil, results, locals, body[:len(body)-1])
		table0 = append(table0, fn)
		if name := originalNames[c.Function]; name != "" {
			names[fn] = name
		}
	}
	t := env.FuncType(await)
	var b []byte
	for _, p := range t.Params {
		b = appendZero(b, p)
	}
	b = wasm.AppendU32(append(b, byte(wasm.OpCall)), r.funcIndex(await))
	table0 = append(table0, r.add(nil, t.Results, nil, b))

	results := env.FuncType(outer).Results
	b = wasm.AppendU32([]byte{byte(wasm.OpCall)}, next)
	b = wasm.AppendU32(append(b, byte(wasm.OpCallIndirect)), r.typeIndex(nil, results))
	b = wasm.AppendU32(b, table)
	b = appendBottom(b, r.stateG, 0)
	entry := r.add(nil, results, nil, b)
	r.m.Exports = []wasm.Export{{Name: ExportResume, Kind: wasm.ExternFunc, Index: entry}}
	size := uint64(len(table0))
	r.m.Tables = []wasm.Table{{Type: wasm.TableType{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: size, Max: size, HasMax: true}}}}
	el := wasm.Element{
		Mode: wasm.Active, Table: table, Offset: wasm.Expr{byte(wasm.OpI32Const), 0, byte(wasm.OpEnd)},
		Type: wasm.FuncRef, Funcs: table0,
	}
	if table > 0 {
		el.Flags = 2 // names its table
	}
	r.m.Elements = []wasm.Element{el}
	r.finish()
	r.m.Customs = nameSection(names)
	return nil
}

// resultsOf returns the types of what a continuation of f returns: what its caller's call leaves.
func (r *resume) resultsOf(f *function, c Continuation) ([]wasm.ValueType, error) {
	if c.Caller == nil {
		return f.typ.Results, nil
	}
	results, ok := ResultsOfCall(r.original, r.env, *c.Caller)
	if !ok {
		return nil, errors.New("there is no call where its caller's should be")
	}
	if len(results) != len(f.typ.Results) {
		return nil, errors.New("its results aren't those of its caller's call")
	}
	for i, t := range results {
		if !r.env.IsSubtype(f.typ.Results[i], t) {
			return nil, errors.New("its results aren't those of its caller's call")
		}
	}
	return results, nil
}

// ResultsOfCall returns the types of what a call leaves on the stack; false if there is no call at that offset.
func ResultsOfCall(m *wasm.Module, env *wasm.Env, call Call) ([]wasm.ValueType, bool) {
	i := int64(call.Function) - int64(env.NumImportedFuncs)
	if i < 0 || i >= int64(len(m.Code)) {
		return nil, false
	}
	at := int64(call.Offset)
	if at < int64(m.Code[i].BodyOffset) || at >= int64(len(m.Code[i].Raw)) {
		return nil, false
	}
	var rd wasm.Reader
	var in wasm.Instr
	rd.Reset(m.Code[i].Raw[at:])
	if rd.Next(&in) != nil {
		return nil, false
	}
	t := in.Index
	switch in.Op {
	case wasm.OpCall:
		if uint64(t) >= uint64(env.NumFuncs()) {
			return nil, false
		}
		t = env.FuncTypeIndex(t)
	case wasm.OpCallIndirect, wasm.OpCallRef:
	default:
		return nil, false
	}
	if uint64(t) >= uint64(len(env.Types)) {
		return nil, false
	}
	return env.Types[t].Results, true
}

// find analyses the function of a continuation and returns its site.
func (r *resume) find(a *analyser, p *Plan, c Continuation) (*function, int32, error) {
	i := int64(c.Function) - int64(r.env.NumImportedFuncs)
	if i < 0 || i >= int64(len(r.original.Code)) || !p.MaySuspend(c.Function) {
		return nil, 0, &MismatchError{c.Function, c.Offset, "no such function that may suspend"}
	}
	f, err := a.analyse(int(i), p.first[i])
	if err != nil {
		return nil, 0, err
	}
	for s := range f.sites {
		if f.offset(f.sites[s].instr) == c.Offset {
			return f, int32(s), nil
		}
	}
	return nil, 0, &MismatchError{c.Function, c.Offset, "no call that may suspend there"}
}

// importState imports everything of the running form but functions, with the original's indices.
func (r *resume) importState() {
	add := func(im wasm.Import) {
		im.Module = MainModule
		r.m.Imports = append(r.m.Imports, im)
	}
	for i, t := range r.env.Tables {
		add(wasm.Import{Name: exportTable(uint32(i)), Kind: wasm.ExternTable, Table: t})
	}
	for i, t := range r.refs.tables() {
		add(wasm.Import{Name: exportRegistryTable(i), Kind: wasm.ExternTable, Table: t})
	}
	for _, mem := range r.env.Memories {
		add(wasm.Import{Name: ExportMemory, Kind: wasm.ExternMemory, Memory: mem})
	}
	for i, g := range r.env.Globals {
		add(wasm.Import{Name: ExportGlobal(uint32(i)), Kind: wasm.ExternGlobal, Global: g})
	}
	for i, t := range r.env.Tags {
		add(wasm.Import{Name: exportTag(uint32(i)), Kind: wasm.ExternTag, Type: t})
	}
	r.stateG = uint32(len(r.env.Globals))
	add(wasm.Import{Name: ExportState, Kind: wasm.ExternGlobal, Global: wasm.GlobalType{Type: wasm.I32, Mutable: true}})
	r.ticksG, r.roomG = r.stateG+1, r.stateG+2
	for _, name := range []string{ExportTicks, ExportRoom} {
		add(wasm.Import{Name: name, Kind: wasm.ExternGlobal, Global: wasm.GlobalType{Type: wasm.I64, Mutable: true}})
	}
}

// funcIndex implements linker: it imports the function on first use.
func (r *resume) funcIndex(f uint32) uint32 {
	i, ok := r.funcs[f]
	if ok {
		return i
	}
	i = uint32(r.numImported())
	im := wasm.Import{Module: MainModule, Name: exportFunction(f), Kind: wasm.ExternFunc, Type: r.env.FuncTypeIndex(f)}
	if int(f) < len(r.hostNames) {
		im = r.original.Imports[r.hostNames[f]]
	}
	r.m.Imports = append(r.m.Imports, im)
	r.funcs[f] = i
	return i
}

func (r *resume) state() uint32 { return r.stateG }

// call appends a call of a function of the running form that stands for an instruction.
func (r *resume) call(code []byte, name string, params []wasm.ValueType) []byte {
	i, ok := r.extra[name]
	if !ok {
		i = uint32(r.numImported())
		r.m.Imports = append(r.m.Imports, wasm.Import{
			Module: MainModule, Name: name, Kind: wasm.ExternFunc, Type: r.typeIndex(params, nil),
		})
		r.extra[name] = i
	}
	return wasm.AppendU32(append(code, byte(wasm.OpCall)), i)
}

// dropElements implements linker. Without the function nothing could tell.
func (r *resume) dropElements(code []byte, segment uint32) []byte {
	if slices.Contains(r.plan.DroppedElements, segment) {
		return r.call(code, ExportDropElements(segment), nil)
	}
	return code
}

func (r *resume) initTable(code []byte, segment, table uint32) []byte {
	return r.call(code, exportInitTable(segment, table), []wasm.ValueType{wasm.I32, wasm.I32, wasm.I32})
}

func (r *resume) dropData(code []byte, segment uint32) []byte {
	return r.call(code, ExportDrop(segment), nil)
}

func (r *resume) initMemory(code []byte, segment uint32) []byte {
	return r.call(code, exportInit(segment), []wasm.ValueType{wasm.I32, wasm.I32, wasm.I32})
}
