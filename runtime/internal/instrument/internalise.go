package instrument

import (
	"fmt"
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// GlobalValue is the value of a global as bits. Hi is the upper half of a v128.
type GlobalValue struct{ Lo, Hi uint64 }

// Internalise returns a module with definitions of its own in place of the memories, tables, tags and globals that m
// imports: such state belongs to the coroutine, and a snapshot has to hold all of it. In each index space imports come
// first, so the definitions take their places and no index changes. Functions stay imported, code stays as it is.
//
// A memory or table is a new one of the limits that m asks for. value says what an imported global starts with. m must have
// an [wasm.Env]; it isn't changed, and is returned itself if it imports nothing but functions.
func Internalise(m *wasm.Module, value func(im *wasm.Import) (GlobalValue, error)) (*wasm.Module, error) {
	functions := func(im wasm.Import) bool { return im.Kind == wasm.ExternFunc }
	if !slices.ContainsFunc(m.Imports, func(im wasm.Import) bool { return !functions(im) }) {
		return m, nil
	}
	out := *m
	out.Imports = nil
	var tables []wasm.Table
	var memories []wasm.Limits
	var tags []uint32
	var globals []wasm.Global
	for i := range m.Imports {
		im := &m.Imports[i]
		if functions(*im) {
			out.Imports = append(out.Imports, *im)
			continue
		}
		if err := checkAlias(m.Imports[:i], im); err != nil {
			return nil, err
		}
		switch im.Kind {
		case wasm.ExternTable:
			if !im.Table.Elem.IsDefaultable() {
				return nil, &UnsupportedError{Feature: fmt.Sprintf("imported table %q.%q of %v, which can't be empty", im.Module, im.Name, im.Table.Elem)}
			}
			tables = append(tables, wasm.Table{Type: im.Table})
		case wasm.ExternMemory:
			memories = append(memories, im.Memory)
		case wasm.ExternTag:
			tags = append(tags, im.Type)
		case wasm.ExternGlobal:
			v, err := value(im)
			if err != nil {
				return nil, err
			}
			init, err := constant(im.Global.Type, v)
			if err != nil {
				return nil, fmt.Errorf("imported global %q.%q: %w", im.Module, im.Name, err)
			}
			globals = append(globals, wasm.Global{Type: im.Global, Init: init})
		}
	}
	out.Tables = append(tables, m.Tables...)
	out.Memories = append(memories, m.Memories...)
	out.Tags = append(tags, m.Tags...)
	out.Globals = append(globals, m.Globals...)
	replaceGlobals(&out, globals)
	return &out, nil
}

// checkAlias returns an error if im is imported before under the same name, so that both are one thing: two definitions
// would not be. Of a global that doesn't change nobody can tell.
func checkAlias(before []wasm.Import, im *wasm.Import) error {
	for i := range before {
		b := &before[i]
		if b.Kind == im.Kind && b.Module == im.Module && b.Name == im.Name && (im.Kind != wasm.ExternGlobal || im.Global.Mutable) {
			return &UnsupportedError{Feature: fmt.Sprintf("%v %q.%q, which is imported twice", im.Kind, im.Module, im.Name)}
		}
	}
	return nil
}

// constant returns the constant expression of a value.
func constant(t wasm.ValueType, v GlobalValue) (wasm.Expr, error) {
	in := wasm.Instr{Const: v.Lo, ConstHi: v.Hi}
	switch t {
	case wasm.I32:
		in.Op = wasm.OpI32Const
	case wasm.I64:
		in.Op = wasm.OpI64Const
	case wasm.F32:
		in.Op = wasm.OpF32Const
	case wasm.F64:
		in.Op = wasm.OpF64Const
	case wasm.V128:
		in.Op = wasm.OpV128Const
	default:
		return nil, &UnsupportedError{Feature: fmt.Sprintf("a value of type %v from the host", t)}
	}
	return append(wasm.AppendInstr(nil, &in), byte(wasm.OpEnd)), nil
}

// replaceGlobals puts their values in place of the first globals of m where constant expressions read them: such an
// expression may read an imported global, and not one defined in the module. Expressions that make references read none of
// these, which are numbers.
func replaceGlobals(m *wasm.Module, first []wasm.Global) {
	replace := func(e wasm.Expr) wasm.Expr {
		var rd wasm.Reader
		var in wasm.Instr
		var out wasm.Expr
		copied := 0
		for rd.Reset(e); rd.Next(&in) == nil; {
			if in.Op == wasm.OpGlobalGet && uint64(in.Index) < uint64(len(first)) {
				init := first[in.Index].Init
				out = append(append(out, e[copied:in.Offset]...), init[:len(init)-1]...)
				copied = in.End
			}
		}
		if copied == 0 {
			return e
		}
		return append(out, e[copied:]...)
	}
	for i := range m.Globals {
		m.Globals[i].Init = replace(m.Globals[i].Init)
	}
	m.Elements = slices.Clone(m.Elements)
	for i := range m.Elements {
		m.Elements[i].Offset = replace(m.Elements[i].Offset)
	}
	m.Data = slices.Clone(m.Data)
	for i := range m.Data {
		m.Data[i].Offset = replace(m.Data[i].Offset)
	}
}
