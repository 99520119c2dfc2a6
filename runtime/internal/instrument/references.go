package instrument

import (
	"slices"
	"sync"

	"github.com/durun/durun/runtime/internal/wasm"
)

// A reference can't be looked into: neither the language nor the engine's API tells which function one names. So in the
// running form of a module whose code holds references to functions, all of them come from tables that the transform
// adds, the registries. A registry holds, from position 1 on, the contents of the module's element segments, and then
// the other functions of which something makes a reference. ref.func becomes a table.get of the registry, table.init a
// table.copy from it, active segments are copied from it when the module is instantiated. The runtime reads a registry
// once, and knows which function each reference names.
//
// There is one registry for all references to functions, and one more for each type that ref.func, a global, a table or a segment
// has, as a funcref can't be cast.

// Registry is the contents of one registry.
type Registry struct {
	Type  wasm.ValueType // of the references: nullable, and by canonical type
	Funcs []uint32       // by position: index of a function of the original module + 1; 0 for null
}

// references is what a module's references come from.
type references struct {
	env     *wasm.Env
	list    []Registry
	at      []map[uint32]uint32 // by registry: the position of a function
	globals map[uint32]uint32   // the immutable globals that hold references to functions, as function index + 1
	table0  uint32              // index of the first registry's table

	// By element segment: the registry, and the position of the first element. Not needed for resume modules.
	registry []int
	base     []uint32
}

// canonicalRef returns the nullable form of a reference type, by canonical type. Two are equal if what they return is.
func canonicalRef(env *wasm.Env, t wasm.ValueType) wasm.ValueType {
	h := t.Heap()
	if h.IsIndex() {
		h = wasm.HeapType(env.CanonicalType(uint32(h)))
	}
	return wasm.RefType(h, true)
}

// isFunc reports whether t is a type of references to functions.
func isFunc(t wasm.ValueType) bool {
	return t.IsRef() && (t.Heap() == wasm.HeapFunc || t.Heap().IsIndex())
}

// isForeign reports whether t is a type of references that a snapshot can't hold unless they are null.
func isForeign(t wasm.ValueType) bool { return t.IsRef() && !isFunc(t) }

// nullable returns t, or the nullable form of a reference type.
func nullable(t wasm.ValueType) wasm.ValueType {
	if t.IsRef() {
		return wasm.RefType(t.Heap(), true)
	}
	return t
}

// newReferences takes stock of the references of a module. list is a plan's, or nil to make it.
func newReferences(m *wasm.Module, env *wasm.Env, g *callGraph, list []Registry) *references {
	r := &references{env: env, globals: map[uint32]uint32{}, table0: uint32(len(env.Tables))}
	for i := range m.Globals {
		t := m.Globals[i].Type
		if f, ok := r.constant(m.Globals[i].Init); ok && isFunc(t.Type) && !t.Mutable {
			r.globals[uint32(env.NumImportedGlobals+i)] = f
		}
	}
	r.list = list
	if g != nil && g.references {
		r.collect(m, g)
	}
	for i := range r.list {
		r.at = append(r.at, positions(&r.list[i]))
	}
	return r
}

func positions(g *Registry) map[uint32]uint32 {
	at := make(map[uint32]uint32, len(g.Funcs))
	for p := len(g.Funcs) - 1; p > 0; p-- {
		if f := g.Funcs[p]; f > 0 {
			at[f-1] = uint32(p)
		}
	}
	return at
}

// constant evaluates a constant expression of a type of references to functions: to a function's index + 1, or 0 for null.
// It returns false for the value of an imported global, and for what isn't a reference.
func (r *references) constant(x wasm.Expr) (uint32, bool) {
	var rd wasm.Reader
	var in wasm.Instr
	rd.Reset(x)
	if rd.Next(&in) != nil {
		return 0, false
	}
	switch in.Op {
	case wasm.OpRefFunc:
		return in.Index + 1, true
	case wasm.OpRefNull:
		return 0, true
	case wasm.OpGlobalGet:
		f, ok := r.globals[in.Index]
		return f, ok
	}
	return 0, false
}

// elements returns the values of an element segment as function indices + 1; what can't be told before the module is
// instantiated is 0, too.
func (r *references) elements(e *wasm.Element) []uint32 {
	var fs []uint32
	for _, f := range e.Funcs {
		fs = append(fs, f+1)
	}
	for _, x := range e.Exprs {
		f, _ := r.constant(x)
		fs = append(fs, f)
	}
	return fs
}

// collect makes the registries.
func (r *references) collect(m *wasm.Module, g *callGraph) {
	add := func(t wasm.ValueType) int {
		t = canonicalRef(r.env, t)
		if i := r.find(t); i >= 0 {
			return i
		}
		r.list = append(r.list, Registry{Type: t, Funcs: []uint32{0}})
		return len(r.list) - 1
	}
	add(wasm.FuncRef)
	for i := range m.Elements {
		e := &m.Elements[i]
		to := add(e.Type)
		reg := &r.list[to]
		r.registry = append(r.registry, to)
		r.base = append(r.base, uint32(len(reg.Funcs)))
		if e.Mode != wasm.Declarative {
			reg.Funcs = append(reg.Funcs, r.elements(e)...)
		}
	}
	has := make([]map[uint32]uint32, len(r.list))
	for i := range r.list {
		has[i] = positions(&r.list[i])
	}
	need := func(t wasm.ValueType, f uint32) { // f is an index + 1
		i := add(t)
		if i == len(has) {
			has = append(has, map[uint32]uint32{})
		}
		if _, ok := has[i][f-1]; !ok && f > 0 {
			has[i][f-1] = uint32(len(r.list[i].Funcs))
			r.list[i].Funcs = append(r.list[i].Funcs, f)
		}
	}
	for _, f := range g.made {
		need(wasm.RefType(wasm.HeapType(r.env.FuncTypeIndex(f)), true), f+1)
	}
	for i := range m.Globals {
		if t := m.Globals[i].Type.Type; isFunc(t) {
			f, _ := r.constant(m.Globals[i].Init)
			need(t, f)
		}
	}
	for i := range m.Tables {
		if t := m.Tables[i].Type.Elem; isFunc(t) && m.Tables[i].Init != nil {
			f, _ := r.constant(m.Tables[i].Init)
			need(t, f)
		}
	}
	for i := range r.list { // a funcref may name any of them
		if isFunc(r.list[i].Type) {
			for _, f := range slices.Clone(r.list[i].Funcs) {
				if f > 0 {
					need(wasm.FuncRef, f)
				}
			}
		}
	}
}

// find returns the registry of a type, -1 if there is none.
func (r *references) find(t wasm.ValueType) int {
	if !t.IsRef() {
		return -1
	}
	t = canonicalRef(r.env, t)
	return slices.IndexFunc(r.list, func(g Registry) bool { return g.Type == t })
}

// tables returns the types of the registries' tables.
func (r *references) tables() []wasm.TableType {
	var ts []wasm.TableType
	for i := range r.list {
		n := uint64(len(r.list[i].Funcs))
		ts = append(ts, wasm.TableType{Elem: r.list[i].Type, Limits: wasm.Limits{Min: n, Max: n, HasMax: true}})
	}
	return ts
}

// get appends the instructions that push the reference at the position on the stack's top.
func (r *references) get(code []byte, registry int) []byte {
	return wasm.AppendU32(append(code, byte(wasm.OpTableGet)), r.table0+uint32(registry))
}

// constantOf appends the instructions that push a reference of type t to function f - 1, null for 0.
func (r *references) constantOf(code []byte, t wasm.ValueType, f uint32) []byte {
	if f == 0 {
		return wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpRefNull, Heap: t.Heap()})
	}
	i := r.find(t)
	code = wasm.AppendS32(append(code, byte(wasm.OpI32Const)), int32(r.at[i][f-1]))
	code = r.get(code, i)
	if !t.IsNullable() {
		code = append(code, byte(wasm.OpRefAsNonNull))
	}
	return code
}

// refFunc appends what stands for ref.func.
func (r *references) refFunc(code []byte, f uint32) []byte {
	return r.constantOf(code, wasm.RefType(wasm.HeapType(r.env.FuncTypeIndex(f)), false), f+1)
}

// globalGet appends a global.get, or what stands for it: an immutable global's reference is none of a registry's.
func (r *references) globalGet(code []byte, g uint32) []byte {
	if f, ok := r.globals[g]; ok && len(r.list) > 0 {
		return r.constantOf(code, r.env.Globals[g].Type, f)
	}
	return wasm.AppendU32(append(code, byte(wasm.OpGlobalGet)), g)
}

// refIndex finds positions in a plan's registries.
type refIndex struct {
	once sync.Once
	at   []map[uint32]uint32
}

// Position returns where a reference of type t to a function of the original module is to be had: the position in the
// registry of that type. It returns false if no such reference can have come about.
func (p *Plan) Position(env *wasm.Env, t wasm.ValueType, function uint32) (uint32, bool) {
	p.refs.once.Do(func() {
		for i := range p.Registries {
			p.refs.at = append(p.refs.at, positions(&p.Registries[i]))
		}
	})
	t = canonicalRef(env, t)
	for i := range p.Registries {
		if p.Registries[i].Type == t {
			at, ok := p.refs.at[i][function]
			return at, ok
		}
	}
	return 0, false
}
