package runtime

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
)

// Where inject puts await points: before one in so many instructions, or
const (
	everywhere = 1  // before every one, where no reference to an exception is about
	heads      = -1 // at the start of each function alone
	nowhere    = 0
)

// injector makes programs for the differential tests out of those of the specification: it adds calls of
// durun.checkpoint, between which instructions ever, and entries that call an export with given arguments.
type injector struct {
	m          *wasm.Module
	env        *wasm.Env
	imported   uint32 // functions that the original imports; the index of checkpoint
	out        wasm.Module
	checkpoint uint32
	density    int
	sum        uint32 // a global: the hash of what calls in batches give
}

// inject returns a copy of m, which must be valid, that calls durun.checkpoint.
func inject(m *wasm.Module, density int) (*injector, error) {
	env, err := wasm.NewEnv(m)
	if err != nil {
		return nil, err
	}
	i := &injector{m: m, env: env, imported: uint32(env.NumImportedFuncs), out: *m, density: density}
	i.checkpoint = i.imported
	o := &i.out
	o.Customs = nil
	o.Types = slices.Clone(m.Types)
	o.Imports = append(slices.Clone(m.Imports), wasm.Import{
		Module: hostabi.ModuleName, Name: hostabi.FuncCheckpoint, Kind: wasm.ExternFunc, Type: i.typeIndex(nil, nil),
	})
	o.Exports = slices.Clone(m.Exports)
	for e := range o.Exports {
		if o.Exports[e].Kind == wasm.ExternFunc {
			o.Exports[e].Index = i.moved(o.Exports[e].Index)
		}
	}
	if m.Start != nil {
		s := i.moved(*m.Start)
		o.Start = &s
	}
	o.Elements = slices.Clone(m.Elements)
	for e := range o.Elements {
		el := &o.Elements[e]
		el.Funcs = slices.Clone(el.Funcs)
		for f := range el.Funcs {
			el.Funcs[f] = i.moved(el.Funcs[f])
		}
		el.Exprs = slices.Clone(el.Exprs)
		for x := range el.Exprs {
			el.Exprs[x] = i.expr(el.Exprs[x])
		}
	}
	o.Globals = slices.Clone(m.Globals)
	for g := range o.Globals {
		o.Globals[g].Init = i.expr(o.Globals[g].Init)
	}
	o.Tables = slices.Clone(m.Tables)
	for t := range o.Tables {
		if o.Tables[t].Init != nil {
			o.Tables[t].Init = i.expr(o.Tables[t].Init)
		}
	}
	o.Functions = slices.Clone(m.Functions)
	o.Code = make([]wasm.Code, len(m.Code))
	for c := range m.Code {
		if o.Code[c], err = i.function(c); err != nil {
			return nil, err
		}
	}
	if len(env.Memories) > 0 {
		o.Exports = append(o.Exports, wasm.Export{Name: "test:memory", Kind: wasm.ExternMemory})
	}
	i.sum = uint32(len(env.Globals))
	o.Globals = append(o.Globals, wasm.Global{
		Type: wasm.GlobalType{Type: wasm.I64, Mutable: true}, Init: wasm.Expr{byte(wasm.OpI64Const), 0, byte(wasm.OpEnd)},
	})
	n := 0
	for g, t := range append(slices.Clone(env.Globals), o.Globals[len(o.Globals)-1].Type) {
		if t.Mutable && !t.Type.IsRef() {
			o.Exports = append(o.Exports, wasm.Export{Name: fmt.Sprintf("g%d", n), Kind: wasm.ExternGlobal, Index: uint32(g)})
			n++
		}
	}
	return i, nil
}

func (i *injector) moved(f uint32) uint32 {
	if f < i.imported {
		return f
	}
	return f + 1
}

func (i *injector) typeIndex(params, results []wasm.ValueType) uint32 {
	i.out.Types = append(i.out.Types, wasm.FuncType{Params: params, Results: results})
	return uint32(len(i.out.Types) - 1)
}

func (i *injector) expr(e wasm.Expr) wasm.Expr {
	var out wasm.Expr
	var in wasm.Instr
	for r := wasm.NewReader(e); r.Next(&in) == nil; {
		if in.Op == wasm.OpRefFunc {
			in.Index = i.moved(in.Index)
		}
		out = wasm.AppendInstr(out, &in)
	}
	return out
}

// maxInjected bounds the sites of a function: behind each the compiler has one more path.
const maxInjected = 400

func (i *injector) function(c int) (wasm.Code, error) {
	code := &i.m.Code[c]
	v := wasm.NewFuncValidator(i.env, i.imported+uint32(c))
	never := i.density == nowhere || slices.ContainsFunc(v.Locals(), isException)
	out := slices.Clone(code.Raw[:code.BodyOffset])
	var in wasm.Instr
	r := wasm.NewReader(code.Body())
	every := max(1+len(code.Body())/(2*maxInjected), i.density)
	// Other places in each function.
	first := c % min(every, max(len(code.Body())/4, 1))
	for n := 0; ; n++ {
		err := r.Next(&in)
		if errors.Is(err, io.EOF) {
			return wasm.Code{Raw: out, BodyOffset: code.BodyOffset}, nil
		}
		if err != nil {
			return wasm.Code{}, err
		}
		fits := !slices.ContainsFunc(v.Stack(), isException)
		here := n >= first && (n-first)%every == 0
		if i.density == heads {
			here = n == 0
		}
		if fits && !never && here {
			out = wasm.AppendInstr(out, &wasm.Instr{Op: wasm.OpCall, Index: i.checkpoint})
		}
		if err := v.Step(&in); err != nil {
			return wasm.Code{}, err
		}
		switch in.Op {
		case wasm.OpCall, wasm.OpReturnCall, wasm.OpRefFunc:
			in.Index = i.moved(in.Index)
		}
		out = wasm.AppendInstr(out, &in)
	}
}

// specCall is a call of an exported function.
type specCall struct {
	name     string
	function uint32 // of the original
	args     []wasm.Instr
}

// entry adds an export that makes the calls, one after the other, and then looks into the tables. What the functions
// return, and whether there are nulls in the tables, goes into a hash in a global.
func (i *injector) entry(name string, calls []specCall) {
	var b []byte
	var locals []wasm.ValueType
	emit := func(in wasm.Instr) { b = wasm.AppendInstr(b, &in) }
	index := func(op wasm.Opcode, x uint32) { emit(wasm.Instr{Op: op, Index: x}) }
	local := func(t wasm.ValueType, n int) uint32 {
		for l := range locals {
			if locals[l] == t {
				if n--; n < 0 {
					return uint32(l)
				}
			}
		}
		locals = append(locals, t)
		return uint32(len(locals) - 1)
	}
	bits := func() { // mixes in an i64
		index(wasm.OpGlobalGet, i.sum)
		emit(wasm.Instr{Op: wasm.OpI64Xor})
		emit(wasm.Instr{Op: wasm.OpI64Const, Const: 0x9e3779b97f4a7c15})
		emit(wasm.Instr{Op: wasm.OpI64Mul})
		emit(wasm.Instr{Op: wasm.OpI64Const, Const: 29})
		emit(wasm.Instr{Op: wasm.OpI64Rotl})
		index(wasm.OpGlobalSet, i.sum)
	}
	// mix pops a value of type t.
	var mix func(t wasm.ValueType)
	mix = func(t wasm.ValueType) {
		switch t {
		case wasm.I64:
		case wasm.I32:
			emit(wasm.Instr{Op: wasm.OpI64ExtendI32U})
		case wasm.F32:
			emit(wasm.Instr{Op: wasm.OpI32ReinterpretF32})
			emit(wasm.Instr{Op: wasm.OpI64ExtendI32U})
		case wasm.F64:
			emit(wasm.Instr{Op: wasm.OpI64ReinterpretF64})
		case wasm.V128:
			l := local(t, 0)
			index(wasm.OpLocalTee, l)
			emit(wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 0})
			bits()
			index(wasm.OpLocalGet, l)
			emit(wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 1})
		default:
			// What a reference is shows when it is called, which takes that its type is known.
			if h := t.Heap(); h.IsIndex() && len(i.env.Types[h].Params) == 0 && !slices.ContainsFunc(i.env.Types[h].Results, wasm.ValueType.IsRef) {
				n := wasm.RefType(h, true)
				l := local(n, 0)
				index(wasm.OpLocalSet, l)
				emit(wasm.Instr{Op: wasm.OpBlock})
				index(wasm.OpLocalGet, l)
				index(wasm.OpBrOnNull, 0)
				index(wasm.OpCallRef, uint32(h))
				for _, r := range slices.Backward(i.env.Types[h].Results) {
					mix(r)
				}
				emit(wasm.Instr{Op: wasm.OpEnd})
				index(wasm.OpLocalGet, l)
			}
			emit(wasm.Instr{Op: wasm.OpRefIsNull})
			emit(wasm.Instr{Op: wasm.OpI64ExtendI32U})
		}
		bits()
	}
	for _, c := range calls {
		for _, a := range c.args {
			emit(a)
		}
		index(wasm.OpCall, i.moved(c.function))
		for _, r := range slices.Backward(i.env.FuncType(c.function).Results) {
			mix(r)
		}
	}
	for t := range i.env.Tables {
		const most = 64
		l := local(wasm.I32, 0)
		index(wasm.OpTableSize, uint32(t))
		index(wasm.OpLocalTee, l)
		mix(wasm.I32)
		emit(wasm.Instr{Op: wasm.OpI32Const, Const: most})
		index(wasm.OpLocalGet, l)
		index(wasm.OpLocalGet, l)
		emit(wasm.Instr{Op: wasm.OpI32Const, Const: most})
		emit(wasm.Instr{Op: wasm.OpI32GtU})
		emit(wasm.Instr{Op: wasm.OpSelect})
		index(wasm.OpLocalSet, l)
		emit(wasm.Instr{Op: wasm.OpBlock})
		emit(wasm.Instr{Op: wasm.OpLoop})
		index(wasm.OpLocalGet, l)
		emit(wasm.Instr{Op: wasm.OpI32Eqz})
		index(wasm.OpBrIf, 1)
		index(wasm.OpLocalGet, l)
		emit(wasm.Instr{Op: wasm.OpI32Const, Const: 1})
		emit(wasm.Instr{Op: wasm.OpI32Sub})
		index(wasm.OpLocalTee, l)
		index(wasm.OpTableGet, uint32(t))
		emit(wasm.Instr{Op: wasm.OpRefIsNull})
		mix(wasm.I32)
		index(wasm.OpBr, 0)
		emit(wasm.Instr{Op: wasm.OpEnd})
		emit(wasm.Instr{Op: wasm.OpEnd})
	}
	emit(wasm.Instr{Op: wasm.OpEnd})
	raw := wasm.AppendU32(nil, uint32(len(locals)))
	for _, t := range locals {
		raw = wasm.AppendValueType(wasm.AppendU32(raw, 1), t)
	}
	i.out.Functions = append(i.out.Functions, i.typeIndex(nil, nil))
	i.out.Code = append(i.out.Code, wasm.Code{Raw: append(raw, b...), BodyOffset: len(raw)})
	i.out.Exports = append(i.out.Exports, wasm.Export{
		Name: name, Kind: wasm.ExternFunc, Index: i.imported + uint32(len(i.out.Functions)),
	})
}

// binary returns the program.
func (i *injector) binary() ([]byte, error) {
	data := i.out.Encode()
	m, err := wasm.Decode(data)
	if err != nil {
		return nil, err
	}
	return data, wasm.Validate(m)
}

// isException reports whether t is a type of references to exceptions, which no snapshot can hold.
func isException(t wasm.ValueType) bool { return t.IsRef() && t.Heap() == wasm.HeapExn }
