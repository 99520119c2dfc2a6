package runtime

import (
	"fmt"
	"slices"
	"strings"

	"github.com/durun/durun/runtime/internal/wasm"
)

// source is what a program is made from: each choice takes a byte, and is 0 when there are none left. So every change of
// the bytes is a change of the program, and a program's size is bounded by theirs.
type source []byte

// pick returns a number below n.
func (s *source) pick(n int) int {
	if len(*s) == 0 || n <= 1 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) % n
}

func (s *source) one(in int) bool { return s.pick(in) == 1 }

var numeric = []wasm.ValueType{wasm.I32, wasm.I64, wasm.F32, wasm.F64, wasm.V128}

// operators lists the instructions by the type that they push: those that take numbers and vectors alone and always give
// the same bits. The bits of a NaN may depend on the compiler, so an operator that makes one is followed by code that
// makes it the canonical one, and those that make vectors of NaNs are left out.
var operators = func() map[wasm.ValueType][]wasm.Opcode {
	list := map[wasm.ValueType][]wasm.Opcode{}
	for _, prefix := range []wasm.Opcode{0, 0xfc, 0xfd} {
		for i := range wasm.Opcode(256) {
			op := prefix<<16 | i
			info, ok := op.Info()
			if !ok || info.Polymorphic || len(info.Results) != 1 || len(info.Params) == 0 {
				continue
			}
			switch info.Imm {
			case wasm.ImmNone, wasm.ImmLane, wasm.ImmShuffle:
			default:
				continue
			}
			if slices.ContainsFunc(append(slices.Clone(info.Params), info.Results...), wasm.ValueType.IsRef) {
				continue
			}
			floats := strings.HasPrefix(info.Name, "f32x4.") || strings.HasPrefix(info.Name, "f64x2.")
			if floats && !strings.Contains(info.Name, "splat") && !strings.Contains(info.Name, "lane") {
				continue
			}
			list[info.Results[0]] = append(list[info.Results[0]], op)
		}
	}
	return list
}()

// repertoire is what programs may have beyond numbers, vectors, memory, calls and exceptions that are thrown where nothing
// suspends.
type repertoire struct {
	// References in locals, operands, parameters, results, globals and tables, and tables that change.
	references bool
	// Calls that may suspend inside try_table, code that may suspend after a catch, and locals that are written before a throw.
	catches bool
	// Only what the compiler of wazero 1.12 gets right. It takes writes of locals inside try_table back when it catches (wazero
	// issue 2503). And it stays in the care of a try_table after leaving it by a branch to its label, by a br_table that has a
	// default only, or by a clause of another inside; and forgets the one around a try_table without clauses.
	still bool
}

// supported is what durun supports of it.
var supported = repertoire{references: true, catches: true}

// label is a construct that a branch can lead to.
type label struct {
	types []wasm.ValueType // what a branch takes along
	shut  bool             // only catch clauses lead there
}

// generator makes a valid module that ends after a bounded number of steps.
type generator struct {
	source
	repertoire
	m       *wasm.Module
	types   []uint32 // of functions, imports first
	quiet   []bool   // by function: it can't suspend
	imports int
	refs    []wasm.ValueType    // reference types that the program uses
	named   map[uint32][]uint32 // by type: functions of it, of which each gives something else
	globals []wasm.ValueType    // all are mutable. The first is the fuel, the second a hash of what can't be a result
	tags    [][]wasm.ValueType
	memory  bool
	segment []int  // by table: the passive element segment that fits it
	tries   bool   // it has a try_table
	thrower uint32 // a function

	// Of the current function:
	code   []byte
	locals []wasm.ValueType
	result []wasm.ValueType
	labels []label
	hush   int  // in code that may not suspend, if not 0
	within int  // open try_tables
	calm   bool // it has no try_table
	budget int  // constructs that may still be made
	nanF32 uint32
	nanF64 uint32
	exn    uint32
}

const (
	labMemory   = 2 // pages
	labSegments = 3 // of data
	fuel        = 0 // globals
	sum         = 1
	tableSlots  = 8 // that each table but the first has at least
)

// generate returns the binary of a program, and whether it has a try_table. It exports main: [] -> numbers, its memory if
// it has one, and those of its mutable globals that hold no references, as g0, g1, ...; and imports from labModule. What
// references it holds can be seen in the second global, where the program itself puts whether they are null, and what comes
// of calling them.
func generate(data []byte, r repertoire) (binary []byte, tries bool) {
	g := &generator{source: data, repertoire: r, m: &wasm.Module{}, named: map[uint32][]uint32{}}
	for _, f := range labModule.Functions {
		var params, results []wasm.ValueType
		for _, p := range f.Params {
			params = append(params, wasm.ValueType(p))
		}
		for _, r := range f.Results {
			results = append(results, wasm.ValueType(r))
		}
		t := g.typeIndex(params, results)
		g.m.Imports = append(g.m.Imports, wasm.Import{Module: labModule.Name, Name: f.Name, Kind: wasm.ExternFunc, Type: t})
		g.types = append(g.types, t)
		g.quiet = append(g.quiet, f.Await == nil)
	}
	g.imports = len(g.types)
	g.signatures()
	g.state()
	entry := uint32(len(g.types))
	g.thrower = entry + 1
	g.m.Functions = slices.Clone(g.types[g.imports:])
	for i := range g.m.Functions {
		if f := uint32(g.imports + i); slices.Contains(g.named[g.types[f]], f) {
			g.name(int(f))
		} else {
			g.function(int(f))
		}
	}
	g.m.Functions = append(g.m.Functions, g.types[g.imports])
	g.entry()
	g.m.Functions = append(g.m.Functions, g.typeIndex(nil, nil))
	g.throwLate()
	g.m.Exports = append(g.m.Exports, wasm.Export{Name: "main", Kind: wasm.ExternFunc, Index: entry})
	if g.memory {
		g.m.Exports = append(g.m.Exports, wasm.Export{Name: "memory", Kind: wasm.ExternMemory})
	}
	binary = g.m.Encode()
	if m, err := wasm.Decode(binary); err != nil {
		panic(fmt.Errorf("the generated program doesn't decode: %w", err))
	} else if err := wasm.Validate(m); err != nil {
		panic(fmt.Errorf("the generated program is invalid: %w", err))
	}
	return binary, g.tries
}

// signatures chooses the types of the functions, so that any function can call any other.
func (g *generator) signatures() {
	add := func(params, results []wasm.ValueType, quiet bool) {
		g.types = append(g.types, g.typeIndex(params, results))
		g.quiet = append(g.quiet, quiet)
	}
	// References are to functions that take and return numbers; the others have references among their parameters.
	var targets []uint32
	if g.references {
		for range 2 + g.pick(2) {
			targets = append(targets, g.typeIndex(g.someTypes(2), g.someTypes(2)))
		}
		for _, t := range targets {
			g.refs = append(g.refs, wasm.RefType(wasm.HeapType(t), true), wasm.RefType(wasm.HeapType(t), false))
		}
		g.refs = append(g.refs, wasm.FuncRef, wasm.FuncRef, wasm.RefType(wasm.HeapFunc, false), wasm.ExternRef)
	}
	funcs := 2 + g.pick(4)
	for i := range funcs {
		var params, results []wasm.ValueType
		if i > 0 {
			for range g.pick(5) {
				params = append(params, g.typ())
			}
		}
		for range g.pick(4) {
			t := g.typ()
			if i == 0 && (t == wasm.V128 || t.IsRef()) {
				t = wasm.I64
			}
			results = append(results, t)
		}
		add(params, results, i == funcs-1)
	}
	for _, t := range targets {
		// One that may suspend, and some that tell which one was called.
		sig := &g.m.Types[t]
		add(sig.Params, sig.Results, false)
		for range 2 {
			g.named[t] = append(g.named[t], uint32(len(g.types)))
			add(sig.Params, sig.Results, true)
		}
	}
	if g.one(6) {
		i := uint32(len(g.types))
		g.m.Start = &i
		add(nil, nil, false)
	}
}

// state makes memory, globals, tables and segments.
func (g *generator) state() {
	end := wasm.Instr{Op: wasm.OpEnd}
	expr := func(in wasm.Instr) wasm.Expr { return wasm.AppendInstr(wasm.AppendInstr(nil, &in), &end) }
	g.memory = !g.one(10)
	if g.memory {
		g.m.Memories = []wasm.Limits{{Min: labMemory, Max: labMemory + 2, HasMax: true}}
		g.m.Data = []wasm.Data{
			{Mode: wasm.Active, Offset: expr(wasm.Instr{Op: wasm.OpI32Const, Const: 64}), Init: []byte("what stands in memory at the start, so that loads find something")},
			{Mode: wasm.Passive, Flags: 1, Init: []byte("first segment to be dropped")},
			{Mode: wasm.Passive, Flags: 1, Init: []byte("second")},
		}
		n := uint32(labSegments)
		g.m.DataCount = &n
	}
	// No vectors: wazero 1.12 has no room for them, so that durun refuses such tags.
	g.tags = [][]wasm.ValueType{{wasm.I32}, nil, {wasm.I64, wasm.F64}}
	if g.references {
		g.tags = append(g.tags, []wasm.ValueType{wasm.FuncRef})
	}
	for _, t := range g.tags {
		g.m.Tags = append(g.m.Tags, g.typeIndex(t, nil))
	}
	global := func(t wasm.ValueType, init wasm.Instr) {
		g.globals = append(g.globals, t)
		g.m.Globals = append(g.m.Globals, wasm.Global{Type: wasm.GlobalType{Type: t, Mutable: true}, Init: expr(init)})
		if !t.IsRef() {
			n := 0
			for _, e := range g.m.Exports {
				if e.Kind == wasm.ExternGlobal {
					n++
				}
			}
			g.m.Exports = append(g.m.Exports, wasm.Export{Name: fmt.Sprintf("g%d", n), Kind: wasm.ExternGlobal, Index: uint32(len(g.globals) - 1)})
		}
	}
	global(wasm.I32, wasm.Instr{Op: wasm.OpI32Const, Const: uint64(3 + g.pick(40))})
	global(wasm.I64, wasm.Instr{Op: wasm.OpI64Const, Const: 1})
	for range 1 + g.pick(5) {
		t := g.typ()
		global(t, g.constant(t))
	}

	all := make([]uint32, len(g.types))
	for i := range all {
		all[i] = uint32(i)
	}
	// Table 0 has each function in the place of its index, and then a null.
	table := func(t wasm.ValueType, size uint64) {
		g.m.Tables = append(g.m.Tables, wasm.Table{Type: wasm.TableType{Elem: t, Limits: wasm.Limits{Min: size, Max: size + 16, HasMax: true}}})
	}
	zero := expr(wasm.Instr{Op: wasm.OpI32Const})
	table(wasm.FuncRef, uint64(max(len(all)+1, tableSlots)))
	g.m.Elements = []wasm.Element{{Mode: wasm.Active, Offset: zero, Type: wasm.FuncRef, Funcs: all}}
	if !g.references {
		return
	}
	table(g.refs[2*g.pick(len(g.named))], tableSlots) // of a nullable type
	if g.one(2) {
		table(g.refs[g.pick(len(g.refs)/2)*2%(2*len(g.named))], tableSlots)
	} else {
		table(wasm.ExternRef, tableSlots)
	}
	for i := range g.m.Tables {
		// A passive segment of the table's type; and an active one.
		t := g.m.Tables[i].Type.Elem
		var exprs []wasm.Expr
		for range tableSlots - 2 {
			exprs = append(exprs, expr(g.constant(t)))
		}
		g.segment = append(g.segment, len(g.m.Elements))
		g.m.Elements = append(g.m.Elements, wasm.Element{Mode: wasm.Passive, Flags: 5, Type: t, Exprs: exprs[:4]})
		if i > 0 {
			g.m.Elements = append(g.m.Elements, wasm.Element{Mode: wasm.Active, Table: uint32(i), Offset: zero, Flags: 6, Type: t, Exprs: exprs})
		}
	}
}

// typ picks a type.
func (g *generator) typ() wasm.ValueType {
	if len(g.refs) > 0 && g.one(3) {
		return g.refs[g.pick(len(g.refs))]
	}
	return numeric[g.pick(len(numeric))]
}

// fits reports whether a value of type a may stand where one of type b is wanted. Types that are equal have one index.
func fits(a, b wasm.ValueType) bool {
	if a == b {
		return true
	}
	if !a.IsRef() || !b.IsRef() || a.IsNullable() && !b.IsNullable() {
		return false
	}
	return a.Heap() == b.Heap() || b.Heap() == wasm.HeapFunc && a.Heap().IsIndex()
}

// functionOf picks a function to which a reference of type t may refer.
func (g *generator) functionOf(t wasm.ValueType) uint32 {
	if !t.Heap().IsIndex() {
		return uint32(g.pick(len(g.types)))
	}
	var of []uint32
	for f, typ := range g.types {
		if typ == uint32(t.Heap()) {
			of = append(of, uint32(f))
		}
	}
	return of[g.pick(len(of))]
}

func (g *generator) typeIndex(params, results []wasm.ValueType) uint32 {
	for i := range g.m.Types {
		if slices.Equal(g.m.Types[i].Params, params) && slices.Equal(g.m.Types[i].Results, results) {
			return uint32(i)
		}
	}
	g.m.Types = append(g.m.Types, wasm.FuncType{Params: params, Results: results})
	return uint32(len(g.m.Types) - 1)
}

// constant returns the instruction that pushes one of a few values of type t.
func (g *generator) constant(t wasm.ValueType) wasm.Instr {
	if t.IsRef() {
		if t.IsNullable() && (t == wasm.ExternRef || g.one(3)) {
			return wasm.Instr{Op: wasm.OpRefNull, Heap: t.Heap()}
		}
		return wasm.Instr{Op: wasm.OpRefFunc, Index: g.functionOf(t)}
	}
	v := []uint64{0, 1, 2, 7, 64, 0xffffffffffffffff, 0x8000000080000000, 0x7fc000007ff8, 0x0123456789abcdef}[g.pick(9)]
	switch t {
	case wasm.I32:
		return wasm.Instr{Op: wasm.OpI32Const, Const: uint64(uint32(v))}
	case wasm.I64:
		return wasm.Instr{Op: wasm.OpI64Const, Const: v}
	case wasm.F32:
		return wasm.Instr{Op: wasm.OpF32Const, Const: uint64(uint32(v)) &^ 0x7f800000}
	case wasm.F64:
		return wasm.Instr{Op: wasm.OpF64Const, Const: v &^ (0x7ff << 52)}
	}
	return wasm.Instr{Op: wasm.OpV128Const, Const: v, ConstHi: ^v << 3}
}

func (g *generator) emit(in wasm.Instr) { g.code = wasm.AppendInstr(g.code, &in) }

func (g *generator) index(op wasm.Opcode, i uint32) { g.emit(wasm.Instr{Op: op, Index: i}) }

func (g *generator) op(op wasm.Opcode) { g.emit(wasm.Instr{Op: op}) }

func (g *generator) i32(v uint32) { g.emit(wasm.Instr{Op: wasm.OpI32Const, Const: uint64(v)}) }

func (g *generator) function(f int) {
	t := &g.m.Types[g.types[f]]
	params, results := slices.Clone(t.Params), slices.Clone(t.Results)
	g.code, g.result, g.labels, g.hush, g.within = nil, results, []label{{types: results}}, 0, 0
	if g.quiet[f] {
		g.hush = 1
	}
	g.locals = slices.Clone(params)
	n := 1 + g.pick(8)
	if g.one(8) {
		n += 24 // more than one call moves
	}
	// The validator of wazero 1.12 forgets at the end of a try_table which locals have been set. So functions have either
	// locals that can't be null, or try_tables.
	g.calm = g.one(3)
	for range n {
		t := g.typ()
		if t.IsRef() && !g.calm {
			t = wasm.RefType(t.Heap(), true)
		}
		g.locals = append(g.locals, t)
	}
	g.nanF32, g.nanF64, g.exn = uint32(len(g.locals)), uint32(len(g.locals)+1), uint32(len(g.locals)+2)
	declared := append(slices.Clone(g.locals[len(params):]), wasm.F32, wasm.F64, wasm.ExnRef)
	g.budget = 12 + g.pick(40)
	g.burn()
	for l := len(params); l < len(g.locals); l++ {
		if !g.locals[l].IsDefaultable() {
			g.emit(g.constant(g.locals[l]))
			g.index(wasm.OpLocalSet, uint32(l))
		}
	}
	g.statements(3 + g.pick(6))
	if g.one(4) && f > g.imports {
		g.throw()
	}
	if g.one(4) {
		g.tailCall()
	} else {
		g.values(results, 3)
	}
	g.define(declared)
}

// define adds the code of a function.
func (g *generator) define(locals []wasm.ValueType) {
	g.op(wasm.OpEnd)
	raw := wasm.AppendU32(nil, uint32(len(locals)))
	for _, d := range locals {
		raw = wasm.AppendValueType(wasm.AppendU32(raw, 1), d)
	}
	offset := len(raw)
	g.m.Code = append(g.m.Code, wasm.Code{Raw: append(raw, g.code...), BodyOffset: offset})
}

// name makes function f one that tells that it was called, and suspends for nothing.
func (g *generator) name(f int) {
	g.code = nil
	g.emit(wasm.Instr{Op: wasm.OpI64Const, Const: uint64(f)})
	g.mix(wasm.I64)
	for _, t := range g.m.Types[g.types[f]].Results {
		g.emit(g.constant(t))
	}
	g.define(nil)
}

// throwLate makes a function that suspends, and then throws.
func (g *generator) throwLate() {
	g.code = nil
	g.index(wasm.OpCall, 0)
	tag := g.pick(len(g.tags))
	for _, t := range g.tags[tag] {
		g.emit(g.constant(t))
	}
	g.index(wasm.OpThrow, uint32(tag))
	g.define(nil)
}

// mix pops a value of type t and mixes it into the hash.
func (g *generator) mix(t wasm.ValueType) {
	switch t {
	case wasm.I32:
		g.op(wasm.OpI64ExtendI32U)
	case wasm.F32:
		g.op(wasm.OpI32ReinterpretF32)
		g.op(wasm.OpI64ExtendI32U)
	case wasm.F64:
		g.op(wasm.OpI64ReinterpretF64)
	case wasm.V128:
		g.emit(wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 1})
	case wasm.I64:
	default:
		g.op(wasm.OpRefIsNull)
		g.op(wasm.OpI64ExtendI32U)
	}
	g.index(wasm.OpGlobalGet, sum)
	g.op(wasm.OpI64Xor)
	g.emit(wasm.Instr{Op: wasm.OpI64Const, Const: 0x9e3779b97f4a7c15})
	g.op(wasm.OpI64Mul)
	g.emit(wasm.Instr{Op: wasm.OpI64Const, Const: 29})
	g.op(wasm.OpI64Rotl)
	g.index(wasm.OpGlobalSet, sum)
}

// entry makes the function that is exported: it calls the program's first function, then all others, so that none is there for
// nothing, and then looks at what references there are in tables and globals.
func (g *generator) entry() {
	results := g.m.Types[g.types[g.imports]].Results
	locals := slices.Clone(results)
	add := func(t wasm.ValueType) uint32 { locals = append(locals, t); return uint32(len(locals) - 1) }
	g.code = nil
	g.index(wasm.OpCall, uint32(g.imports))
	for i := range slices.Backward(results) {
		g.index(wasm.OpLocalSet, uint32(i))
	}
	for f := uint32(g.imports) + 1; f < uint32(len(g.types)); f++ {
		if g.m.Start != nil && *g.m.Start == f || slices.Contains(g.named[g.types[f]], f) {
			continue
		}
		g.i32(uint32(4 + g.pick(16)))
		g.index(wasm.OpGlobalSet, fuel)
		g.emit(wasm.Instr{Op: wasm.OpBlock})
		if g.catches {
			// An exception is no reason to stop.
			g.emit(wasm.Instr{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchAll}}})
		}
		sig := &g.m.Types[g.types[f]]
		for _, p := range sig.Params {
			g.emit(g.constant(p))
		}
		g.index(wasm.OpCall, f)
		for _, r := range slices.Backward(sig.Results) {
			g.mix(r)
		}
		if g.catches {
			g.op(wasm.OpEnd)
		}
		g.op(wasm.OpEnd)
	}
	g.i32(8)
	g.index(wasm.OpGlobalSet, fuel)
	// look mixes in what the reference in a local is.
	look := func(l uint32) {
		t := locals[l]
		g.index(wasm.OpLocalGet, l)
		g.mix(t)
		if !t.Heap().IsIndex() {
			return
		}
		g.emit(wasm.Instr{Op: wasm.OpBlock})
		sig := &g.m.Types[t.Heap()]
		for _, p := range sig.Params {
			g.zero(p)
		}
		g.index(wasm.OpLocalGet, l)
		g.index(wasm.OpBrOnNull, 0)
		g.index(wasm.OpCallRef, uint32(t.Heap()))
		for _, r := range slices.Backward(sig.Results) {
			g.mix(r)
		}
		g.op(wasm.OpEnd)
	}
	for i, t := range g.globals {
		if t.IsRef() {
			l := add(wasm.RefType(t.Heap(), true))
			g.index(wasm.OpGlobalGet, uint32(i))
			g.index(wasm.OpLocalSet, l)
			look(l)
		}
	}
	if g.references {
		for i := range g.m.Tables {
			l, n := add(g.m.Tables[i].Type.Elem), add(wasm.I32)
			g.index(wasm.OpTableSize, uint32(i))
			g.index(wasm.OpLocalSet, n)
			g.op(wasm.OpLoop)
			g.index(wasm.OpLocalGet, n)
			g.i32(1)
			g.op(wasm.OpI32Sub)
			g.index(wasm.OpLocalTee, n)
			g.index(wasm.OpTableGet, uint32(i))
			g.index(wasm.OpLocalSet, l)
			look(l)
			g.index(wasm.OpLocalGet, n)
			g.index(wasm.OpBrIf, 0)
			g.op(wasm.OpEnd)
		}
	}
	for i := range results {
		g.index(wasm.OpLocalGet, uint32(i))
	}
	g.define(locals)
}

// burn uses fuel, and returns from the function when there is none left. It stands at the start of each function and
// each loop.
func (g *generator) burn() {
	g.index(wasm.OpGlobalGet, fuel)
	g.i32(1)
	g.op(wasm.OpI32Sub)
	g.index(wasm.OpGlobalSet, fuel)
	g.index(wasm.OpGlobalGet, fuel)
	g.i32(0)
	g.op(wasm.OpI32LtS)
	g.op(wasm.OpIf)
	for _, t := range g.result {
		g.zero(t)
	}
	g.op(wasm.OpReturn)
	g.op(wasm.OpEnd)
}

func (g *generator) zero(t wasm.ValueType) {
	if t.IsNullable() {
		g.emit(wasm.Instr{Op: wasm.OpRefNull, Heap: t.Heap()})
		return
	}
	if t.IsRef() {
		g.emit(wasm.Instr{Op: wasm.OpRefFunc, Index: g.functionOf(t)})
		return
	}
	ops := map[wasm.ValueType]wasm.Opcode{
		wasm.I32: wasm.OpI32Const, wasm.I64: wasm.OpI64Const, wasm.F32: wasm.OpF32Const, wasm.F64: wasm.OpF64Const, wasm.V128: wasm.OpV128Const,
	}
	g.op(ops[t])
}

// values pushes values of these types.
func (g *generator) values(types []wasm.ValueType, depth int) {
	for _, t := range types {
		g.value(t, depth)
	}
}

// value pushes a value of type t.
func (g *generator) value(t wasm.ValueType, depth int) {
	if g.budget--; depth <= 0 || g.budget < 0 {
		g.leaf(t)
		return
	}
	switch g.pick(13) {
	case 0, 1:
		g.leaf(t)
	case 2, 3, 4:
		if t.IsRef() {
			g.reference(t, depth)
		} else {
			g.operator(t, depth)
		}
	case 5:
		g.construct(g.someTypes(2), []wasm.ValueType{t}, depth)
	case 6, 7:
		if f, ok := g.callee(func(r []wasm.ValueType) bool { return len(r) > 0 && fits(r[0], t) }); ok {
			g.call(f, depth)
			for range g.m.Types[g.types[f]].Results[1:] {
				g.op(wasm.OpDrop)
			}
			return
		}
		g.leaf(t)
	case 8:
		if t.IsRef() && t != wasm.FuncRef && t != wasm.ExternRef {
			// wazero 1.12 takes a select's type for one byte, and goes astray in one that has more.
			g.leaf(t)
			return
		}
		for range 2 {
			if t.IsRef() {
				// It also wants both operands to be of one type: the result of a block is.
				g.construct(nil, []wasm.ValueType{t}, depth)
			} else {
				g.value(t, depth-1)
			}
		}
		g.value(wasm.I32, depth-1)
		if t.IsRef() || g.one(2) {
			g.emit(wasm.Instr{Op: wasm.OpSelectT, Types: []wasm.ValueType{t}})
		} else {
			g.op(wasm.OpSelect)
		}
	case 9:
		if t.IsRef() || !g.memory {
			g.leaf(t)
			return
		}
		g.address(depth)
		loads := map[wasm.ValueType]wasm.Opcode{
			wasm.I32: wasm.OpI32Load, wasm.I64: wasm.OpI64Load, wasm.F32: wasm.OpF32Load, wasm.F64: wasm.OpF64Load, wasm.V128: wasm.OpV128Load,
		}
		g.emit(wasm.Instr{Op: loads[t], MemArg: wasm.MemArg{Offset: uint64(g.pick(64))}})
		g.canonical(t)
	case 10:
		// The local is written while the value is on the stack.
		if l, ok := g.local(func(l wasm.ValueType) bool { return l == t }); ok && !g.frozen() {
			g.value(t, depth-1)
			g.index(wasm.OpLocalTee, l)
			return
		}
		g.leaf(t)
	case 11:
		// Statements above a value.
		g.value(t, depth-1)
		g.statements(1 + g.pick(2))
	case 12:
		g.tryTable([]wasm.ValueType{t}, depth)
	}
}

// reference pushes a reference by an instruction that only references have.
func (g *generator) reference(t wasm.ValueType, depth int) {
	nullable := wasm.RefType(t.Heap(), true)
	what := g.pick(4)
	if t == wasm.ExternRef {
		what = 0 // there is none but null
	}
	switch what {
	case 0, 1:
		// From a table, most often where there is something.
		for i := range g.m.Tables {
			if e := g.m.Tables[i].Type.Elem; fits(e, nullable) && (i > 0 || g.one(2)) {
				g.slot(depth)
				g.index(wasm.OpTableGet, uint32(i))
				if !t.IsNullable() {
					g.nonNull(t, e)
				}
				return
			}
		}
		g.leaf(t)
	case 2:
		if t.IsNullable() {
			g.value(t, depth-1)
			return
		}
		g.value(nullable, depth-1)
		g.nonNull(t, nullable)
	case 3:
		// The block's result is what isn't null, and another value if it is.
		g.emit(wasm.Instr{Op: wasm.OpBlock, Block: wasm.BlockValue(t.AsNonNull())})
		g.labels = append(g.labels, label{types: []wasm.ValueType{t.AsNonNull()}})
		g.value(nullable, depth-1)
		g.index(wasm.OpBrOnNonNull, 0)
		g.value(t.AsNonNull(), depth-1)
		g.labels = g.labels[:len(g.labels)-1]
		g.op(wasm.OpEnd)
	}
}

// nonNull makes the reference of type from on the stack one of type t, which excludes null. If it is null, it traps now and
// then; most often another takes its place.
func (g *generator) nonNull(t, from wasm.ValueType) {
	if g.one(12) {
		g.op(wasm.OpRefAsNonNull)
		return
	}
	// [from] -> [t]
	g.emit(wasm.Instr{Op: wasm.OpBlock, Block: wasm.BlockIndex(g.typeIndex([]wasm.ValueType{from}, []wasm.ValueType{t}))})
	g.emit(wasm.Instr{Op: wasm.OpBlock, Block: wasm.BlockIndex(g.typeIndex([]wasm.ValueType{from}, nil))})
	g.index(wasm.OpBrOnNull, 0)
	g.index(wasm.OpBr, 1)
	g.op(wasm.OpEnd)
	g.emit(wasm.Instr{Op: wasm.OpRefFunc, Index: g.functionOf(t)})
	g.op(wasm.OpEnd)
}

// slot pushes the index of an element of a table, most often one that is in bounds.
func (g *generator) slot(depth int) {
	g.value(wasm.I32, depth-1)
	if g.one(48) {
		return
	}
	g.i32(tableSlots - 1)
	g.op(wasm.OpI32And)
}

func (g *generator) leaf(t wasm.ValueType) {
	switch g.pick(4) {
	case 1, 2:
		if l, ok := g.local(func(l wasm.ValueType) bool { return fits(l, t) }); ok {
			g.index(wasm.OpLocalGet, l)
			return
		}
	case 3:
		if i := slices.IndexFunc(g.globals, func(have wasm.ValueType) bool { return fits(have, t) }); i >= 0 {
			g.index(wasm.OpGlobalGet, uint32(i))
			return
		}
	}
	g.emit(g.constant(t))
}

// frozen reports whether no local may be written, because of a try_table around.
func (g *generator) frozen() bool { return g.still && g.within > 0 }

// local picks a local of which the type is right.
func (g *generator) local(right func(t wasm.ValueType) bool) (uint32, bool) {
	var of []uint32
	for i, l := range g.locals {
		if right(l) {
			of = append(of, uint32(i))
		}
	}
	if len(of) == 0 {
		return 0, false
	}
	return of[g.pick(len(of))], true
}

func (g *generator) operator(t wasm.ValueType, depth int) {
	if t == wasm.I32 && g.one(8) {
		switch g.pick(4) {
		case 0:
			if g.memory {
				g.op(wasm.OpMemorySize)
			} else {
				g.index(wasm.OpTableSize, 0)
			}
		case 1:
			g.i32(uint32(g.pick(len(g.types) + 1)))
			g.index(wasm.OpTableGet, 0)
			g.op(wasm.OpRefIsNull)
		case 2:
			g.index(wasm.OpRefFunc, uint32(g.pick(len(g.types))))
			g.op(wasm.OpRefIsNull)
		case 3:
			if len(g.refs) > 0 {
				g.value(g.refs[g.pick(len(g.refs))], depth-1)
				g.op(wasm.OpRefIsNull)
			} else {
				g.index(wasm.OpTableSize, uint32(g.pick(len(g.m.Tables))))
			}
		}
		return
	}
	ops := operators[t]
	op := ops[(g.pick(256)<<2+g.pick(4))%len(ops)]
	if traps(op) && !g.one(8) {
		op = ops[0]
	}
	info, _ := op.Info()
	g.values(info.Params, depth-1)
	in := wasm.Instr{Op: op}
	switch info.Imm {
	case wasm.ImmLane:
		in.Lane = byte(g.pick(int(info.Lanes)))
	case wasm.ImmShuffle:
		for i := range in.Lanes {
			in.Lanes[i] = byte((i*g.pick(32) + i) % 32)
		}
	}
	g.emit(in)
	g.canonical(t)
}

// traps reports whether an operator traps for some operands.
func traps(op wasm.Opcode) bool {
	s := op.String()
	return strings.Contains(s, ".div_") || strings.Contains(s, ".rem_") || strings.Contains(s, ".trunc_f")
}

// canonical makes a NaN on the stack the canonical one.
func (g *generator) canonical(t wasm.ValueType) {
	tmp, nan, eq := g.nanF32, wasm.Instr{Op: wasm.OpF32Const, Const: 0x7fc00000}, wasm.OpF32Eq
	switch t {
	case wasm.F32:
	case wasm.F64:
		tmp, nan, eq = g.nanF64, wasm.Instr{Op: wasm.OpF64Const, Const: 0x7ff8 << 48}, wasm.OpF64Eq
	default:
		return
	}
	g.index(wasm.OpLocalTee, tmp)
	g.emit(nan)
	g.index(wasm.OpLocalGet, tmp)
	g.index(wasm.OpLocalGet, tmp)
	g.op(eq)
	g.op(wasm.OpSelect)
}

// address pushes an address, most often one that is in bounds.
func (g *generator) address(depth int) {
	g.value(wasm.I32, depth-1)
	if g.one(32) {
		return
	}
	g.i32(0xff8)
	g.op(wasm.OpI32And)
}

// someTypes returns up to n types.
func (g *generator) someTypes(n int) []wasm.ValueType {
	var ts []wasm.ValueType
	for range g.pick(n + 1) {
		ts = append(ts, g.typ())
	}
	return ts
}

// consume pops values of these types.
func (g *generator) consume(types []wasm.ValueType) {
	for _, t := range slices.Backward(types) {
		to := func(l wasm.ValueType) bool { return fits(t, l) }
		l, ok := g.local(to)
		i := 1 + slices.IndexFunc(g.globals[1:], to)
		switch {
		case ok && !g.frozen() && !g.one(4):
			g.index(wasm.OpLocalSet, l)
		case i > 0 && g.one(2):
			g.index(wasm.OpGlobalSet, uint32(i))
		case g.one(2):
			g.mix(t)
		default:
			g.op(wasm.OpDrop)
		}
	}
}

// callee picks a function whose results fit.
func (g *generator) callee(fit func(results []wasm.ValueType) bool) (uint32, bool) {
	var of []uint32
	for i, t := range g.types {
		if (g.hush == 0 || g.quiet[i]) && fit(g.m.Types[t].Results) {
			of = append(of, uint32(i))
			if i < g.imports && !g.quiet[i] {
				of = append(of, uint32(i)) // awaits are what matters
			}
		}
	}
	if len(of) == 0 {
		return 0, false
	}
	return of[g.pick(len(of))], true
}

// call calls a function: directly, through the table or through a reference.
func (g *generator) call(f uint32, depth int) {
	g.values(g.m.Types[g.types[f]].Params, depth-1)
	g.index(g.designate(f, [3]wasm.Opcode{wasm.OpCall, wasm.OpCallIndirect, wasm.OpCallRef}))
}

// designate pushes what it takes to call function f, now and then another of its type, and returns the instruction and its
// immediate. ops are those for a direct call, one through the table and one through a reference.
func (g *generator) designate(f uint32, ops [3]wasm.Opcode) (wasm.Opcode, uint32) {
	how, t := g.pick(5), g.types[f]
	switch {
	case g.hush > 0 || how < 2 || how == 4 && !g.references:
		return ops[0], f
	case how < 4:
		if g.one(64) {
			f = uint32(g.pick(len(g.types) + 2))
		}
		g.i32(f)
		return ops[1], t
	}
	ref := wasm.RefType(wasm.HeapType(t), g.one(2))
	if slices.Contains(g.refs, ref) && g.one(2) {
		g.value(wasm.RefType(wasm.HeapType(t), true), 2)
		g.nonNull(ref.AsNonNull(), wasm.RefType(wasm.HeapType(t), true))
	} else {
		g.index(wasm.OpRefFunc, f)
	}
	return ops[2], t
}

func (g *generator) tailCall() {
	f, ok := g.callee(func(r []wasm.ValueType) bool { return slices.EqualFunc(r, g.result, fits) })
	if !ok {
		g.values(g.result, 1)
		g.op(wasm.OpReturn)
		return
	}
	g.values(g.m.Types[g.types[f]].Params, 2)
	g.index(g.designate(f, [3]wasm.Opcode{wasm.OpReturnCall, wasm.OpReturnCallIndirect, wasm.OpReturnCallRef}))
}

func (g *generator) statements(n int) {
	for range n {
		g.statement()
	}
}

func (g *generator) statement() {
	if g.budget--; g.budget < 0 {
		return
	}
	const depth = 3
	switch g.pick(23) {
	case 0:
		g.op(wasm.OpNop)
	case 1, 2:
		t := g.typ()
		g.value(t, depth)
		g.consume([]wasm.ValueType{t})
	case 3:
		if !g.memory {
			return
		}
		t := numeric[g.pick(len(numeric))]
		g.address(depth)
		g.value(t, depth)
		stores := map[wasm.ValueType]wasm.Opcode{
			wasm.I32: wasm.OpI32Store, wasm.I64: wasm.OpI64Store, wasm.F32: wasm.OpF32Store, wasm.F64: wasm.OpF64Store, wasm.V128: wasm.OpV128Store,
		}
		g.emit(wasm.Instr{Op: stores[t], MemArg: wasm.MemArg{Offset: uint64(g.pick(64))}})
	case 4, 5, 6:
		g.await(depth)
	case 7, 8, 9:
		results := g.someTypes(2)
		g.construct(g.someTypes(2), results, depth)
		g.consume(results)
	case 10, 11:
		if f, ok := g.callee(func([]wasm.ValueType) bool { return true }); ok {
			g.call(f, depth)
			g.consume(g.m.Types[g.types[f]].Results)
		}
	case 12, 13:
		// Operands that stay below statements.
		types := g.someTypes(4)
		g.values(types, depth-1)
		g.statements(1 + g.pick(3))
		g.consume(types)
	case 14, 15:
		l, types := g.label()
		g.values(types, depth-1)
		g.value(wasm.I32, depth-1)
		g.index(wasm.OpBrIf, l)
		g.consume(types)
	case 16:
		g.branchTable()
	case 17:
		g.bulk()
	case 18:
		results := g.someTypes(2)
		g.tryTable(results, depth)
		g.consume(results)
	case 19:
		g.leave()
	case 20:
		if g.within > 0 || g.one(4) { // most often nobody would catch it
			g.throw()
		}
	case 21, 22:
		g.tables(depth)
	}
}

// await calls a host function that suspends.
func (g *generator) await(depth int) {
	if g.hush == 0 {
		f := uint32(g.pick(g.imports - 1))
		g.call(f, depth)
		g.consume(g.m.Types[g.types[f]].Results)
	}
}

// label picks a construct to branch to.
func (g *generator) label() (uint32, []wasm.ValueType) {
	l := g.pick(len(g.labels))
	for g.labels[len(g.labels)-1-l].shut {
		l++
	}
	return uint32(l), g.labels[len(g.labels)-1-l].types
}

// leave ends the straight line: what follows is dead code.
func (g *generator) leave() {
	if !g.one(3) {
		return
	}
	// Most often under a condition.
	if !g.one(4) {
		g.value(wasm.I32, 2)
		g.op(wasm.OpIf)
		g.labels = append(g.labels, label{})
		defer func() {
			g.labels = g.labels[:len(g.labels)-1]
			g.op(wasm.OpEnd)
		}()
	}
	switch g.pick(6) {
	case 0, 1:
		l, types := g.label()
		g.values(types, 2)
		g.index(wasm.OpBr, l)
	case 2:
		g.values(g.result, 2)
		g.op(wasm.OpReturn)
	case 3, 4:
		g.tailCall()
	case 5:
		if g.one(4) {
			g.op(wasm.OpUnreachable)
		}
	}
	g.statements(g.pick(3))
}

func (g *generator) blockType(params, results []wasm.ValueType) wasm.BlockType {
	switch {
	case len(params) == 0 && len(results) == 1:
		return wasm.BlockValue(results[0])
	case len(params)+len(results) > 0:
		return wasm.BlockIndex(g.typeIndex(params, results))
	}
	return wasm.BlockType{}
}

// construct makes a block, loop or if.
func (g *generator) construct(params, results []wasm.ValueType, depth int) {
	kind := g.pick(3)
	g.values(params, depth-1)
	bt := g.blockType(params, results)
	body := func() {
		if g.one(2) {
			g.statements(1)
		}
		g.consume(params)
		g.statements(1 + g.pick(3))
		g.values(results, depth-1)
	}
	switch kind {
	case 0:
		g.emit(wasm.Instr{Op: wasm.OpBlock, Block: bt})
		g.labels = append(g.labels, label{types: results})
		body()
	case 1:
		g.emit(wasm.Instr{Op: wasm.OpLoop, Block: bt})
		g.labels = append(g.labels, label{types: params})
		g.burn()
		body()
	case 2:
		g.value(wasm.I32, depth-1)
		g.emit(wasm.Instr{Op: wasm.OpIf, Block: bt})
		g.labels = append(g.labels, label{types: results})
		body()
		if !slices.Equal(params, results) || g.one(2) {
			g.op(wasm.OpElse)
			body()
		}
	}
	g.labels = g.labels[:len(g.labels)-1]
	g.op(wasm.OpEnd)
}

func (g *generator) branchTable() {
	first, types := g.label()
	var fit []uint32
	for l := range g.labels {
		if at := g.labels[len(g.labels)-1-l]; !at.shut && slices.Equal(at.types, types) {
			fit = append(fit, uint32(l))
		}
	}
	row := []uint32{first}
	n := g.pick(4)
	if g.frozen() {
		n++
	}
	for range n {
		row = append(row, fit[g.pick(len(fit))])
	}
	g.value(wasm.I32, 2)
	g.op(wasm.OpIf)
	g.labels = append(g.labels, label{})
	for i := range row {
		row[i]++
	}
	g.values(types, 2)
	g.value(wasm.I32, 2)
	g.emit(wasm.Instr{Op: wasm.OpBrTable, Labels: row})
	g.labels = g.labels[:len(g.labels)-1]
	g.op(wasm.OpEnd)
}

func (g *generator) bulk() {
	if !g.memory {
		return
	}
	switch g.pick(6) {
	case 0:
		g.i32(uint32(g.pick(3)))
		g.op(wasm.OpMemoryGrow)
		g.consume([]wasm.ValueType{wasm.I32})
	case 1:
		g.address(2)
		g.value(wasm.I32, 2)
		g.i32(uint32(g.pick(100)))
		g.op(wasm.OpMemoryFill)
	case 2:
		g.address(2)
		g.address(2)
		g.i32(uint32(g.pick(100)))
		g.op(wasm.OpMemoryCopy)
	case 3, 4:
		g.address(2)
		g.i32(uint32(g.pick(4)))
		g.i32(uint32(g.pick(4)))
		g.index(wasm.OpMemoryInit, uint32(g.pick(labSegments)))
	case 5:
		g.index(wasm.OpDataDrop, uint32(g.pick(labSegments)))
	}
}

// tables makes a statement that changes a table, or branches on a reference.
func (g *generator) tables(depth int) {
	if !g.references {
		return
	}
	table := 0
	if !g.one(16) { // programs call through the first
		table = 1 + g.pick(len(g.m.Tables)-1)
	}
	elem := g.m.Tables[table].Type.Elem
	few := func() { g.i32(uint32(g.pick(4))) }
	switch g.pick(10) {
	case 0, 1:
		g.slot(depth)
		g.value(elem, depth-1)
		g.index(wasm.OpTableSet, uint32(table))
	case 2:
		g.value(elem, depth-1)
		few()
		g.index(wasm.OpTableGrow, uint32(table))
		g.consume([]wasm.ValueType{wasm.I32})
	case 3:
		g.slot(depth)
		g.value(elem, depth-1)
		few()
		g.index(wasm.OpTableFill, uint32(table))
	case 4:
		var from []uint32
		for i := range g.m.Tables {
			if fits(g.m.Tables[i].Type.Elem, elem) {
				from = append(from, uint32(i))
			}
		}
		g.slot(depth)
		g.slot(depth)
		few()
		g.emit(wasm.Instr{Op: wasm.OpTableCopy, Index: uint32(table), Index2: from[g.pick(len(from))]})
	case 5, 6:
		if elem == wasm.ExternRef {
			return // wazero 1.12 takes passive segments of it for empty
		}
		g.slot(depth)
		g.i32(uint32(g.pick(2)))
		few()
		g.emit(wasm.Instr{Op: wasm.OpTableInit, Index: uint32(g.segment[table]), Index2: uint32(table)})
	case 7:
		if g.one(2) {
			g.index(wasm.OpElemDrop, uint32(g.segment[table]))
		}
	case 8:
		// A call through a reference that may be null, with operands below.
		t := g.refs[g.pick(len(g.named))*2]
		if g.hush > 0 {
			return
		}
		sig := &g.m.Types[t.Heap()]
		g.emit(wasm.Instr{Op: wasm.OpBlock})
		g.labels = append(g.labels, label{})
		g.values(sig.Params, depth-1)
		g.value(t, depth-1)
		g.index(wasm.OpBrOnNull, 0)
		g.index(wasm.OpCallRef, uint32(t.Heap()))
		g.consume(sig.Results)
		g.labels = g.labels[:len(g.labels)-1]
		g.op(wasm.OpEnd)
	case 9:
		// A branch to any label, with what it takes.
		l, types := g.label()
		g.values(types, depth-1)
		t := g.refs[g.pick(len(g.refs))]
		g.value(wasm.RefType(t.Heap(), true), depth-1)
		g.index(wasm.OpBrOnNull, l)
		g.consume(append(slices.Clone(types), t.AsNonNull()))
	}
}

// throw throws an exception under a condition.
func (g *generator) throw() {
	tag := g.pick(len(g.tags))
	switch g.pick(3) {
	case 0:
		g.value(wasm.I32, 2)
	case 1:
		g.value(wasm.I32, 2)
		g.op(wasm.OpI32Eqz)
	case 2:
		g.i32(1)
	}
	g.op(wasm.OpIf)
	g.labels = append(g.labels, label{})
	g.values(g.tags[tag], 2)
	g.index(wasm.OpThrow, uint32(tag))
	g.labels = g.labels[:len(g.labels)-1]
	g.op(wasm.OpEnd)
}

// tryTable makes code that may throw and be caught, and pushes values of the types results.
//
//	block $out
//	  block $second  block $first
//	    try_table (catch ... $first) (catch ... $second) (catch ... some label around) ... end
//	    br $out
//	  end ... br $out
//	  end ...
//	end
func (g *generator) tryTable(results []wasm.ValueType, depth int) {
	if g.calm {
		g.construct(nil, results, depth)
		return
	}
	g.tries = true
	if !g.catches {
		g.hush++
		defer func() { g.hush-- }()
	}
	var own [][]wasm.ValueType // what the labels of its own take
	clauses := make([]wasm.Catch, g.pick(4))
	if len(clauses) == 0 && g.still {
		clauses = make([]wasm.Catch, 1)
	}
	around := make([]bool, len(clauses))
	for i := range clauses {
		c := &clauses[i]
		c.Kind = byte(g.pick(4))
		var types []wasm.ValueType
		if c.HasTag() {
			c.Tag = uint32(g.pick(len(g.tags)))
			types = slices.Clone(g.tags[c.Tag])
		}
		if c.HasRef() {
			types = append(types, wasm.ExnRef)
		}
		if g.one(2) && !g.frozen() {
			for l := range g.labels {
				if slices.Equal(g.labels[len(g.labels)-1-l].types, types) {
					around[i], c.Label = true, uint32(l)
					break
				}
			}
		}
		if !around[i] {
			c.Label = uint32(len(own))
			own = append(own, types)
		}
	}
	open := func(op wasm.Opcode, params, results []wasm.ValueType) {
		in := wasm.Instr{Op: op, Block: g.blockType(params, results)}
		if op == wasm.OpTryTable {
			in.Catches = clauses
		}
		g.emit(in)
		shut := slices.Contains(results, wasm.ExnRef) || op == wasm.OpTryTable && g.still
		g.labels = append(g.labels, label{results, shut})
	}
	end := func() {
		g.labels = g.labels[:len(g.labels)-1]
		g.op(wasm.OpEnd)
	}
	for i := range clauses {
		if around[i] {
			clauses[i].Label += uint32(1 + len(own))
		}
	}
	open(wasm.OpBlock, nil, results)
	for _, types := range slices.Backward(own) {
		open(wasm.OpBlock, nil, types)
	}
	params := g.someTypes(1)
	g.values(params, depth-1)
	open(wasm.OpTryTable, params, results)
	g.within++
	g.consume(params)
	// A local changes, it suspends, the local changes again, it throws: what do the handlers see?
	l := uint32(g.pick(len(g.locals)))
	rewrite := g.one(2)
	if rewrite {
		g.rewrite(l)
	}
	g.statements(g.pick(3))
	if !g.one(3) {
		g.await(2)
	}
	if g.hush == 0 && g.one(4) {
		g.index(wasm.OpCall, g.thrower)
	}
	if rewrite && g.one(2) {
		g.rewrite(l)
	}
	if !g.one(3) {
		g.throw()
	}
	g.values(results, depth-1)
	g.within--
	end()
	g.index(wasm.OpBr, uint32(len(own)))
	for i, types := range own {
		end()
		g.handle(types, l)
		g.values(results, 1)
		if rest := len(own) - 1 - i; rest > 0 {
			g.index(wasm.OpBr, uint32(rest))
		}
	}
	end()
}

// rewrite writes a local.
func (g *generator) rewrite(l uint32) {
	if !g.frozen() {
		g.value(g.locals[l], 1)
		g.index(wasm.OpLocalSet, l)
	}
}

// look mixes what is in a local into the hash.
func (g *generator) look(l uint32) {
	g.index(wasm.OpLocalGet, l)
	g.mix(g.locals[l])
}

// handle consumes what a catch clause hands on. Nothing suspends while there is a reference to an exception, which no
// snapshot can hold. Local l is what the body may have written.
func (g *generator) handle(types []wasm.ValueType, l uint32) {
	if n := len(types) - 1; n >= 0 && types[n] == wasm.ExnRef {
		types = types[:n]
		if g.one(2) {
			g.op(wasm.OpDrop)
		} else {
			g.hush++
			g.index(wasm.OpLocalSet, g.exn)
			g.statements(g.pick(2))
			g.value(wasm.I32, 2)
			g.op(wasm.OpIf)
			g.index(wasm.OpLocalGet, g.exn)
			g.op(wasm.OpThrowRef)
			g.op(wasm.OpEnd)
			g.hush--
		}
	}
	g.consume(types)
	g.look(l)
	g.statements(g.pick(3))
}
