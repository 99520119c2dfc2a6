package runtime

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
)

// zeal is how many places of a module get an await point.
type zeal int

const (
	everywhere  zeal = iota // before every instruction, but where a reference is on the stack, and in try_table
	noRefs                  // and not in functions with locals that hold references
	outermost               // and not in functions that others can call
	notAnywhere             // nowhere
)

// injector makes programs for the differential tests out of those of the specification: it adds calls of
// durun.checkpoint, between which instructions ever, and entries that call an export with given arguments.
type injector struct {
	m          *wasm.Module
	env        *wasm.Env
	imported   uint32 // functions that the original imports; the index of checkpoint
	out        wasm.Module
	checkpoint uint32
	sites      int
}

// inject returns a copy of m, which must be valid, that calls durun.checkpoint.
func inject(m *wasm.Module, z zeal) (*injector, error) {
	env, err := wasm.NewEnv(m)
	if err != nil {
		return nil, err
	}
	i := &injector{m: m, env: env, imported: uint32(env.NumImportedFuncs), out: *m}
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
	callable := i.callable()
	for c := range m.Code {
		if o.Code[c], err = i.function(c, z, callable[c]); err != nil {
			return nil, err
		}
	}
	if len(env.Memories) > 0 {
		o.Exports = append(o.Exports, wasm.Export{Name: "test:memory", Kind: wasm.ExternMemory})
	}
	n := 0
	for g, t := range env.Globals {
		if t.Mutable {
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

// callable reports for each function defined in the module whether its own code or a table can call it.
func (i *injector) callable() []bool {
	c := make([]bool, len(i.m.Code))
	mark := func(f uint32) {
		if f >= i.imported {
			c[f-i.imported] = true
		}
	}
	scan := func(code []byte) {
		var in wasm.Instr
		for r := wasm.NewReader(code); r.Next(&in) == nil; {
			switch in.Op {
			case wasm.OpCall, wasm.OpReturnCall, wasm.OpRefFunc:
				mark(in.Index)
			}
		}
	}
	for f := range i.m.Code {
		scan(i.m.Code[f].Body())
	}
	for e := range i.m.Elements {
		for _, f := range i.m.Elements[e].Funcs {
			mark(f)
		}
		for _, x := range i.m.Elements[e].Exprs {
			scan(x)
		}
	}
	for g := range i.m.Globals {
		scan(i.m.Globals[g].Init)
	}
	for t := range i.m.Tables {
		scan(i.m.Tables[t].Init)
	}
	return c
}

// maxInjected bounds the sites of a function: behind each the compiler has one more path.
const maxInjected = 400

func (i *injector) function(c int, z zeal, callable bool) (wasm.Code, error) {
	code := &i.m.Code[c]
	v := wasm.NewFuncValidator(i.env, i.imported+uint32(c))
	never := z == notAnywhere || z == outermost && callable ||
		z >= noRefs && slices.ContainsFunc(v.Locals(), wasm.ValueType.IsRef)
	out := slices.Clone(code.Raw[:code.BodyOffset])
	var in wasm.Instr
	r := wasm.NewReader(code.Body())
	every := 1 + len(code.Body())/(2*maxInjected)
	for n := 0; ; n++ {
		err := r.Next(&in)
		if errors.Is(err, io.EOF) {
			return wasm.Code{Raw: out, BodyOffset: code.BodyOffset}, nil
		}
		if err != nil {
			return wasm.Code{}, err
		}
		fits := !slices.ContainsFunc(v.Stack(), wasm.ValueType.IsRef)
		for _, k := range v.Controls() {
			fits = fits && k.Op != wasm.OpTryTable
		}
		if fits && !never && n%every == 0 {
			out = wasm.AppendInstr(out, &wasm.Instr{Op: wasm.OpCall, Index: i.checkpoint})
			i.sites++
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

// entry adds an export that calls function f of the original with these constants, and returns numbers: a v128 as two
// i64, a reference as whether it is null.
func (i *injector) entry(name string, f uint32, args []wasm.Instr) {
	t := i.env.FuncType(f)
	var b []byte
	emit := func(in wasm.Instr) { b = wasm.AppendInstr(b, &in) }
	for _, a := range args {
		emit(a)
	}
	emit(wasm.Instr{Op: wasm.OpCall, Index: i.moved(f)})
	for l := len(t.Results) - 1; l >= 0; l-- {
		if t.Results[l].IsRef() {
			emit(wasm.Instr{Op: wasm.OpRefIsNull})
		}
		emit(wasm.Instr{Op: wasm.OpLocalSet, Index: uint32(l)})
	}
	var results []wasm.ValueType
	raw := wasm.AppendU32(nil, uint32(len(t.Results)))
	for l, r := range t.Results {
		if r.IsRef() {
			r = wasm.I32
		}
		raw = wasm.AppendValueType(wasm.AppendU32(raw, 1), r)
		emit(wasm.Instr{Op: wasm.OpLocalGet, Index: uint32(l)})
		if r != wasm.V128 {
			results = append(results, r)
			continue
		}
		emit(wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 0})
		emit(wasm.Instr{Op: wasm.OpLocalGet, Index: uint32(l)})
		emit(wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 1})
		results = append(results, wasm.I64, wasm.I64)
	}
	emit(wasm.Instr{Op: wasm.OpEnd})
	i.out.Functions = append(i.out.Functions, i.typeIndex(nil, results))
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
