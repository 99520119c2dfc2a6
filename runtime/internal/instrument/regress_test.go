package instrument

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/runtime/internal/wasm"
)

// builders make the cases with typed references, which wabt 1.0.32 can't write: each what its .wat says.
var builders = map[string]func() *wasm.Module{
	"002-result":           buildResult,
	"003-dead-reference":   buildDeadReference,
	"004-subtype":          buildSubtype,
	"005-reference-beside": buildReferenceBeside,
	"007-stray-handler":    buildStrayHandler,
	"008-written-after":    buildWrittenAfter,
	"009-table-of-nonnull": buildTableOfNonNull,
	"010-grow-of-nonnull":  buildGrowOfNonNull,
}

// Types and functions that all of them have.
const (
	typeVoid       = 0 // [] -> []
	funcCheckpoint = 0
	funcF          = 1 // of typeVoid, does nothing; may be referred to
)

var (
	refVoid     = wasm.RefType(typeVoid, false)
	refNullVoid = wasm.RefType(typeVoid, true)
)

// base returns a module with an import, a function, and no more.
func base() *wasm.Module {
	m := &wasm.Module{
		Types:    []wasm.FuncType{{}},
		Imports:  []wasm.Import{{Module: "durun", Name: "checkpoint", Kind: wasm.ExternFunc, Type: typeVoid}},
		Elements: []wasm.Element{{Mode: wasm.Declarative, Flags: 3, Type: wasm.FuncRef, Funcs: []uint32{funcF}}},
	}
	define(m, "", nil, nil)
	return m
}

// define adds a function, and exports it if it has a name.
func define(m *wasm.Module, export string, params, results []wasm.ValueType, body ...wasm.Instr) {
	t := uint32(len(m.Types))
	if len(params)+len(results) == 0 {
		t = typeVoid
	} else {
		m.Types = append(m.Types, wasm.FuncType{Params: params, Results: results})
	}
	m.Functions = append(m.Functions, t)
	raw := []byte{0}
	for _, in := range append(body, op(wasm.OpEnd)) {
		raw = wasm.AppendInstr(raw, &in)
	}
	m.Code = append(m.Code, wasm.Code{Raw: raw, BodyOffset: 1})
	if export != "" {
		m.Exports = append(m.Exports, wasm.Export{Name: export, Kind: wasm.ExternFunc, Index: uint32(len(m.Functions))})
	}
}

func op(o wasm.Opcode, index ...uint32) wasm.Instr {
	in := wasm.Instr{Op: o}
	if len(index) > 0 {
		in.Index = index[0]
	}
	return in
}

func buildResult() *wasm.Module {
	m := base()
	define(m, "", nil, []wasm.ValueType{refVoid}, op(wasm.OpCall, funcCheckpoint), op(wasm.OpRefFunc, funcF))
	define(m, "main", nil, nil, op(wasm.OpCall, 2), op(wasm.OpCallRef, typeVoid))
	return m
}

func buildDeadReference() *wasm.Module {
	m := base()
	define(m, "", []wasm.ValueType{refVoid}, nil,
		op(wasm.OpLoop), op(wasm.OpLocalGet, 0), op(wasm.OpCallRef, typeVoid), op(wasm.OpCall, funcCheckpoint), op(wasm.OpEnd))
	define(m, "", []wasm.ValueType{refVoid}, nil,
		op(wasm.OpCall, funcCheckpoint), op(wasm.OpBlock), op(wasm.OpBr, 1), op(wasm.OpEnd), op(wasm.OpLocalGet, 0), op(wasm.OpCallRef, typeVoid))
	define(m, "loop", nil, nil, op(wasm.OpRefFunc, funcF), op(wasm.OpCall, 2))
	define(m, "block", nil, nil, op(wasm.OpRefFunc, funcF), op(wasm.OpCall, 3))
	return m
}

func buildSubtype() *wasm.Module {
	m := base()
	define(m, "", nil, []wasm.ValueType{refNullVoid}, op(wasm.OpCall, funcCheckpoint), wasm.Instr{Op: wasm.OpRefNull, Heap: typeVoid})
	define(m, "", nil, []wasm.ValueType{wasm.FuncRef}, op(wasm.OpReturnCall, 2))
	define(m, "main", nil, []wasm.ValueType{wasm.I32}, op(wasm.OpCall, 3), op(wasm.OpRefIsNull))
	return m
}

func buildReferenceBeside() *wasm.Module {
	m := base()
	define(m, "", []wasm.ValueType{wasm.I32}, []wasm.ValueType{wasm.I32, refVoid}, op(wasm.OpLocalGet, 0), op(wasm.OpRefFunc, funcF))
	define(m, "main", nil, []wasm.ValueType{wasm.I32},
		wasm.Instr{Op: wasm.OpLoop, Block: wasm.BlockValue(wasm.I32)},
		wasm.Instr{Op: wasm.OpI32Const, Const: 3}, op(wasm.OpCall, 2), op(wasm.OpCallRef, typeVoid), op(wasm.OpCall, funcCheckpoint), op(wasm.OpEnd))
	return m
}

func buildStrayHandler() *wasm.Module {
	m := base()
	m.Types = append(m.Types, wasm.FuncType{Params: []wasm.ValueType{wasm.I32}})
	m.Tags = []uint32{uint32(len(m.Types) - 1)}
	i32 := []wasm.ValueType{wasm.I32}
	block := func(o wasm.Opcode, results ...wasm.ValueType) wasm.Instr {
		in := wasm.Instr{Op: o}
		if len(results) > 0 {
			in.Block = wasm.BlockValue(results[0])
		}
		return in
	}
	try := func(clauses ...wasm.Catch) wasm.Instr { return wasm.Instr{Op: wasm.OpTryTable, Catches: clauses} }
	catch := func(label uint32) wasm.Catch { return wasm.Catch{Kind: wasm.CatchTag, Label: label} }
	number := func(v uint64) wasm.Instr { return wasm.Instr{Op: wasm.OpI32Const, Const: v} }
	end := op(wasm.OpEnd)
	checkpoint := op(wasm.OpCall, funcCheckpoint)
	// Each body stands in a block that takes what an exception holds. Control leaves the try_table in it, and then there is a
	// throw. Nothing suspends in between, as the engine starts over then.
	for _, c := range []struct {
		name string
		body []wasm.Instr
	}{
		{"label", []wasm.Instr{try(catch(0)), op(wasm.OpBr, 0), end}},
		{"default", []wasm.Instr{block(wasm.OpBlock), try(catch(1)), number(5), {Op: wasm.OpBrTable, Labels: []uint32{1}}, end, end}},
		{"clause", []wasm.Instr{
			block(wasm.OpBlock), try(catch(1)), try(wasm.Catch{Kind: wasm.CatchAll, Label: 1}),
			number(1), op(wasm.OpThrow, 0), end, end, end,
		}},
		{"loop", []wasm.Instr{
			block(wasm.OpLoop), try(catch(1)), op(wasm.OpGlobalGet, 0), block(wasm.OpIf), number(0), op(wasm.OpGlobalSet, 0),
			try(wasm.Catch{Kind: wasm.CatchAll, Label: 2}), number(1), op(wasm.OpThrow, 0), end, end, end, end,
		}},
		{"without", []wasm.Instr{try(catch(0)), try(), end, number(100), op(wasm.OpThrow, 0), end}},
	} {
		f := uint32(len(m.Functions) + 1)
		body := append([]wasm.Instr{block(wasm.OpBlock, wasm.I32)}, c.body...)
		body = append(body, number(7), op(wasm.OpThrow, 0), end, checkpoint, number(100), op(wasm.OpI32Add))
		define(m, "", nil, i32, body...)
		define(m, c.name, nil, i32,
			block(wasm.OpBlock, wasm.I32), try(catch(0)), op(wasm.OpCall, f), op(wasm.OpReturn), end, number(0), end, checkpoint)
	}
	m.Globals = []wasm.Global{{Type: wasm.GlobalType{Type: wasm.I32, Mutable: true}, Init: wasm.Expr{byte(wasm.OpI32Const), 1, byte(wasm.OpEnd)}}}
	m.Exports = append(m.Exports, wasm.Export{Name: "g0", Kind: wasm.ExternGlobal})
	return m
}

func buildWrittenAfter() *wasm.Module {
	m := base()
	i32 := []wasm.ValueType{wasm.I32}
	m.Types = append(m.Types, wasm.FuncType{Params: i32})
	m.Tags = []uint32{uint32(len(m.Types) - 1)}
	number := func(v uint64) wasm.Instr { return wasm.Instr{Op: wasm.OpI32Const, Const: v} }
	define(m, "", nil, nil, op(wasm.OpCall, funcCheckpoint), number(5), op(wasm.OpThrow, 0))
	define(m, "", i32, i32,
		number(10), op(wasm.OpLocalSet, 0),
		wasm.Instr{Op: wasm.OpBlock, Block: wasm.BlockValue(wasm.I32)},
		wasm.Instr{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchTag}}},
		op(wasm.OpCall, 2), number(20), op(wasm.OpLocalSet, 0), op(wasm.OpEnd), number(0), op(wasm.OpEnd),
		op(wasm.OpLocalGet, 0), op(wasm.OpI32Add))
	define(m, "main", nil, i32, number(0), op(wasm.OpCall, 3))
	return m
}

func buildTableOfNonNull() *wasm.Module {
	m := base()
	i32 := []wasm.ValueType{wasm.I32}
	m.Types = append(m.Types, wasm.FuncType{Results: i32})
	m.Functions = append(m.Functions, 1, 1) // functions 2 and 3
	number := func(v uint64) wasm.Instr { return wasm.Instr{Op: wasm.OpI32Const, Const: v} }
	expr := func(in wasm.Instr) wasm.Expr {
		return append(wasm.AppendInstr(nil, &in), byte(wasm.OpEnd))
	}
	for v := range byte(2) {
		m.Code = append(m.Code, wasm.Code{Raw: []byte{0, byte(wasm.OpI32Const), v + 1, byte(wasm.OpEnd)}, BodyOffset: 1})
	}
	elem := wasm.RefType(1, false)
	second := expr(op(wasm.OpRefFunc, 3))
	m.Tables = []wasm.Table{{
		Type: wasm.TableType{Elem: elem, Limits: wasm.Limits{Min: 4, Max: 4, HasMax: true}}, Init: expr(op(wasm.OpRefFunc, 2)),
	}}
	m.Elements = append(m.Elements,
		wasm.Element{Mode: wasm.Active, Flags: 6, Type: elem, Offset: expr(number(0)), Exprs: []wasm.Expr{second}},
		wasm.Element{Mode: wasm.Passive, Flags: 5, Type: elem, Exprs: []wasm.Expr{second, second}},
		wasm.Element{Mode: wasm.Declarative, Flags: 3, Type: wasm.FuncRef, Funcs: []uint32{2}})
	call := func(slot uint64) []wasm.Instr {
		return []wasm.Instr{
			number(10), op(wasm.OpI32Mul), number(slot), op(wasm.OpTableGet, 0), op(wasm.OpCallRef, 1), op(wasm.OpI32Add),
		}
	}
	initFrom := func(place, from, n uint64) []wasm.Instr {
		return []wasm.Instr{number(place), number(from), number(n), {Op: wasm.OpTableInit, Index: 2, Index2: 0}, op(wasm.OpCall, funcCheckpoint)}
	}
	main := slices.Concat([]wasm.Instr{op(wasm.OpCall, funcCheckpoint)}, initFrom(1, 0, 2), []wasm.Instr{number(0)}, call(0), call(1), call(2), call(3))
	define(m, "main", nil, i32, main...)
	for _, c := range []struct {
		name           string
		place, from, n uint64
	}{{"place", 3, 0, 2}, {"from", 0, 1, 2}, {"end", 4, 2, 0}, {"beyond", 5, 0, 0}} {
		define(m, c.name, nil, nil, append([]wasm.Instr{op(wasm.OpCall, funcCheckpoint)}, initFrom(c.place, c.from, c.n)...)...)
	}
	return m
}

func buildGrowOfNonNull() *wasm.Module {
	m := base()
	i32 := []wasm.ValueType{wasm.I32}
	m.Types = append(m.Types, wasm.FuncType{Results: i32})
	m.Functions = append(m.Functions, 1, 1) // functions 2 and 3
	expr := func(in wasm.Instr) wasm.Expr {
		return append(wasm.AppendInstr(nil, &in), byte(wasm.OpEnd))
	}
	for v := range byte(2) {
		m.Code = append(m.Code, wasm.Code{Raw: []byte{0, byte(wasm.OpI32Const), v + 1, byte(wasm.OpEnd)}, BodyOffset: 1})
	}
	m.Tables = []wasm.Table{{
		Type: wasm.TableType{Elem: wasm.RefType(1, false), Limits: wasm.Limits{Min: 1, Max: 4, HasMax: true}}, Init: expr(op(wasm.OpRefFunc, 2)),
	}}
	m.Elements = append(m.Elements,
		wasm.Element{Mode: wasm.Passive, Flags: 5, Type: wasm.RefType(1, true), Exprs: []wasm.Expr{expr(wasm.Instr{Op: wasm.OpRefNull, Heap: 1})}},
		wasm.Element{Mode: wasm.Declarative, Flags: 3, Type: wasm.FuncRef, Funcs: []uint32{2, 3}})
	number := func(v uint64) wasm.Instr { return wasm.Instr{Op: wasm.OpI32Const, Const: v} }
	define(m, "main", nil, i32,
		op(wasm.OpRefFunc, 3), number(2), op(wasm.OpTableGrow, 0), op(wasm.OpCall, funcCheckpoint),
		number(2), op(wasm.OpTableGet, 0), op(wasm.OpCallRef, 1), op(wasm.OpI32Add))
	return m
}

// TestRegress: what was found before, each case with a comment that says what went wrong. Package runtime runs them; here
// they are built, and have to give valid modules.
func TestRegress(t *testing.T) {
	const dir = "testdata/regress"
	list := cases(t, dir)
	orphans(t, dir, list, ".wat", ".wasm")
	e := engine(t)
	for name, data := range list {
		t.Run(name, func(t *testing.T) {
			m := decode(t, data)
			r, err := Transform(m, Config{Await: awaits})
			if err != nil {
				t.Fatal(err)
			}
			accept(t, e, r.Module)
			for _, c := range continuations(r.Plan) {
				res, err := r.Plan.Resume(m, []Continuation{c}, c.Function, firstAwait(t, m))
				if err != nil {
					t.Fatal(err)
				}
				accept(t, e, res)
			}
		})
	}
}

// TestVectorTag: an exception that carries a vector would overwrite memory of the host.
func TestVectorTag(t *testing.T) {
	m := base()
	m.Types = append(m.Types, wasm.FuncType{Params: []wasm.ValueType{wasm.I32, wasm.V128}})
	m.Tags = []uint32{typeVoid, uint32(len(m.Types) - 1)}
	if err := wasm.Validate(m); err != nil {
		t.Fatal(err)
	}
	var u *UnsupportedError
	if _, err := Transform(m, Config{Await: awaits}); !errors.As(err, &u) || !strings.Contains(u.Feature, "tag 1") {
		t.Errorf("error %v, want an UnsupportedError about tag 1", err)
	}
}

// TestNestedTries: each instruction in narrowed try_tables, one in the other, gets the clauses that an exception can get to, not
// those of all around it: of a few hundred, compiling took seconds.
func TestNestedTries(t *testing.T) {
	const depth = 300
	m := base()
	catch := wasm.Instr{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchTag}}}
	m.Tags = []uint32{typeVoid}
	var body []wasm.Instr
	for range depth {
		body = append(body, op(wasm.OpBlock), catch, op(wasm.OpCall, funcCheckpoint))
	}
	body = append(body, wasm.Instr{Op: wasm.OpI32Const}, op(wasm.OpLocalSet, 0))
	for range depth {
		body = append(body, op(wasm.OpEnd), op(wasm.OpEnd))
	}
	define(m, "main", []wasm.ValueType{wasm.I32}, []wasm.ValueType{wasm.I32}, append(body, op(wasm.OpLocalGet, 0))...)
	if err := wasm.Validate(m); err != nil {
		t.Fatal(err)
	}
	r, err := Transform(m, Config{Await: awaits})
	if err != nil {
		t.Fatal(err)
	}
	if r.Stats.CodeAfter > 10*r.Stats.CodeBefore {
		t.Errorf("%d bytes of code became %d", r.Stats.CodeBefore, r.Stats.CodeAfter)
	}
	accept(t, engine(t), r.Module)
}
