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

// label is a construct that a branch can lead to.
type label struct {
	types []wasm.ValueType // what a branch takes along
}

// generator makes a valid module that ends after a bounded number of steps.
type generator struct {
	source
	m       *wasm.Module
	types   []uint32 // of functions, imports first
	quiet   []bool   // by function: it can't suspend
	imports int
	mutable []wasm.ValueType // globals; the first is the fuel

	// Of the current function:
	code   []byte
	locals []wasm.ValueType
	result []wasm.ValueType
	labels []label
	hush   int // in code that may not suspend, if not 0
	budget int // constructs that may still be made
	nanF32 uint32
	nanF64 uint32
}

const (
	labMemory   = 2 // pages
	labSegments = 3
	labTag      = 0
)

// generate returns the binary of a program: it exports main: [] -> numbers, its memory, and its mutable globals as
// g<index>; and imports from labModule.
func generate(data []byte) []byte {
	g := &generator{source: data, m: &wasm.Module{}}
	w := func(ts ...wasm.ValueType) []wasm.ValueType { return ts }
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
	g.m.Memories = []wasm.Limits{{Min: labMemory, Max: labMemory + 2, HasMax: true}}
	g.m.Tags = []uint32{g.typeIndex(w(wasm.I32), nil)}
	g.global(wasm.I32, wasm.Instr{Op: wasm.OpI32Const, Const: uint64(3 + g.pick(40))})
	for range 1 + g.pick(5) {
		t := g.typ()
		g.global(t, g.constant(t))
	}
	g.m.Data = []wasm.Data{
		{Mode: wasm.Active, Offset: wasm.AppendInstr(wasm.AppendInstr(nil, &wasm.Instr{Op: wasm.OpI32Const, Const: 64}), &wasm.Instr{Op: wasm.OpEnd}), Init: []byte("what stands in memory at the start, so that loads find something")},
		{Mode: wasm.Passive, Flags: 1, Init: []byte("first segment to be dropped")},
		{Mode: wasm.Passive, Flags: 1, Init: []byte("second")},
	}
	n := uint32(labSegments)
	g.m.DataCount = &n

	// Signatures first, so that any function can call any other.
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
			if i == 0 && t == wasm.V128 {
				t = wasm.I64
			}
			results = append(results, t)
		}
		g.types = append(g.types, g.typeIndex(params, results))
		g.quiet = append(g.quiet, i == funcs-1)
	}
	start := g.one(6)
	if start {
		g.types = append(g.types, g.typeIndex(nil, nil))
		g.quiet = append(g.quiet, false)
		i := uint32(len(g.types) - 1)
		g.m.Start = &i
	}
	g.m.Functions = slices.Clone(g.types[g.imports:])
	all := make([]uint32, len(g.types))
	for i := range all {
		all[i] = uint32(i)
	}
	size := uint64(len(all) + 1) // the last element is null
	g.m.Tables = []wasm.Table{{Type: wasm.TableType{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: size, Max: size, HasMax: true}}}}
	g.m.Elements = []wasm.Element{{Mode: wasm.Active, Offset: wasm.Expr{byte(wasm.OpI32Const), 0, byte(wasm.OpEnd)}, Type: wasm.FuncRef, Funcs: all}}
	for i := range g.m.Functions {
		g.function(g.imports + i)
	}
	g.m.Exports = append(g.m.Exports,
		wasm.Export{Name: "main", Kind: wasm.ExternFunc, Index: uint32(g.imports)},
		wasm.Export{Name: "memory", Kind: wasm.ExternMemory})
	binary := g.m.Encode()
	if m, err := wasm.Decode(binary); err != nil {
		panic(fmt.Errorf("the generated program doesn't decode: %w", err))
	} else if err := wasm.Validate(m); err != nil {
		panic(fmt.Errorf("the generated program is invalid: %w", err))
	}
	return binary
}

func (g *generator) typ() wasm.ValueType { return numeric[g.pick(len(numeric))] }

func (g *generator) typeIndex(params, results []wasm.ValueType) uint32 {
	for i := range g.m.Types {
		if slices.Equal(g.m.Types[i].Params, params) && slices.Equal(g.m.Types[i].Results, results) {
			return uint32(i)
		}
	}
	g.m.Types = append(g.m.Types, wasm.FuncType{Params: params, Results: results})
	return uint32(len(g.m.Types) - 1)
}

func (g *generator) global(t wasm.ValueType, init wasm.Instr) {
	i := uint32(len(g.mutable))
	g.mutable = append(g.mutable, t)
	g.m.Globals = append(g.m.Globals, wasm.Global{
		Type: wasm.GlobalType{Type: t, Mutable: true},
		Init: wasm.AppendInstr(wasm.AppendInstr(nil, &init), &wasm.Instr{Op: wasm.OpEnd}),
	})
	g.m.Exports = append(g.m.Exports, wasm.Export{Name: fmt.Sprintf("g%d", i), Kind: wasm.ExternGlobal, Index: i})
}

func (g *generator) constant(t wasm.ValueType) wasm.Instr {
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
	g.code, g.result, g.labels, g.hush = nil, results, []label{{results}}, 0
	if g.quiet[f] {
		g.hush = 1
	}
	g.locals = slices.Clone(params)
	for range 1 + g.pick(8) {
		g.locals = append(g.locals, g.typ())
	}
	if g.one(8) {
		for range 24 { // more than one call moves
			g.locals = append(g.locals, g.typ())
		}
	}
	g.nanF32, g.nanF64 = uint32(len(g.locals)), uint32(len(g.locals)+1)
	declared := append(slices.Clone(g.locals[len(params):]), wasm.F32, wasm.F64)
	g.budget = 12 + g.pick(40)
	g.burn()
	g.statements(3 + g.pick(6))
	if g.one(4) {
		g.tailCall()
	} else {
		g.values(results, 3)
	}
	g.op(wasm.OpEnd)
	raw := wasm.AppendU32(nil, uint32(len(declared)))
	for _, d := range declared {
		raw = wasm.AppendValueType(wasm.AppendU32(raw, 1), d)
	}
	offset := len(raw)
	g.m.Code = append(g.m.Code, wasm.Code{Raw: append(raw, g.code...), BodyOffset: offset})
}

// burn uses fuel, and returns from the function when there is none left. It stands at the start of each function and
// each loop.
func (g *generator) burn() {
	g.index(wasm.OpGlobalGet, 0)
	g.i32(1)
	g.op(wasm.OpI32Sub)
	g.index(wasm.OpGlobalSet, 0)
	g.index(wasm.OpGlobalGet, 0)
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
	switch g.pick(12) {
	case 0, 1:
		g.leaf(t)
	case 2, 3, 4:
		g.operator(t, depth)
	case 5:
		g.construct(g.someTypes(2), []wasm.ValueType{t}, depth)
	case 6, 7:
		if f, ok := g.callee(func(r []wasm.ValueType) bool { return len(r) > 0 && r[0] == t }); ok {
			g.call(f, depth)
			for range g.m.Types[g.types[f]].Results[1:] {
				g.op(wasm.OpDrop)
			}
			return
		}
		g.leaf(t)
	case 8:
		g.value(t, depth-1)
		g.value(t, depth-1)
		g.value(wasm.I32, depth-1)
		if g.one(2) {
			g.emit(wasm.Instr{Op: wasm.OpSelectT, Types: []wasm.ValueType{t}})
		} else {
			g.op(wasm.OpSelect)
		}
	case 9:
		g.address(depth)
		loads := map[wasm.ValueType]wasm.Opcode{
			wasm.I32: wasm.OpI32Load, wasm.I64: wasm.OpI64Load, wasm.F32: wasm.OpF32Load, wasm.F64: wasm.OpF64Load, wasm.V128: wasm.OpV128Load,
		}
		g.emit(wasm.Instr{Op: loads[t], MemArg: wasm.MemArg{Offset: uint64(g.pick(64))}})
		g.canonical(t)
	case 10:
		// The local is written while the value is on the stack.
		if l, ok := g.local(t); ok {
			g.value(t, depth-1)
			g.index(wasm.OpLocalTee, l)
			return
		}
		g.leaf(t)
	case 11:
		// Statements above a value.
		g.value(t, depth-1)
		g.statements(1 + g.pick(2))
	}
}

func (g *generator) leaf(t wasm.ValueType) {
	switch g.pick(4) {
	case 1, 2:
		if l, ok := g.local(t); ok {
			g.index(wasm.OpLocalGet, l)
			return
		}
	case 3:
		if i := slices.Index(g.mutable, t); i >= 0 {
			g.index(wasm.OpGlobalGet, uint32(i))
			return
		}
	}
	g.emit(g.constant(t))
}

// local picks a local of type t.
func (g *generator) local(t wasm.ValueType) (uint32, bool) {
	var of []uint32
	for i, l := range g.locals {
		if l == t {
			of = append(of, uint32(i))
		}
	}
	if len(of) == 0 {
		return 0, false
	}
	return of[g.pick(len(of))], true
}

func (g *generator) operator(t wasm.ValueType, depth int) {
	if t == wasm.I32 && g.one(12) {
		switch g.pick(3) {
		case 0:
			g.op(wasm.OpMemorySize)
		case 1:
			g.i32(uint32(g.pick(len(g.types) + 1)))
			g.index(wasm.OpTableGet, 0)
			g.op(wasm.OpRefIsNull)
		case 2:
			g.index(wasm.OpRefFunc, uint32(g.pick(len(g.types))))
			g.op(wasm.OpRefIsNull)
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
		switch l, ok := g.local(t); {
		case ok && !g.one(4):
			g.index(wasm.OpLocalSet, l)
		case g.one(2) && slices.Contains(g.mutable[1:], t):
			g.index(wasm.OpGlobalSet, uint32(1+slices.Index(g.mutable[1:], t)))
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

// call calls a function, directly or through the table.
func (g *generator) call(f uint32, depth int) {
	g.values(g.m.Types[g.types[f]].Params, depth-1)
	if g.hush > 0 || !g.one(3) {
		g.index(wasm.OpCall, f)
		return
	}
	g.element(f)
	g.emit(wasm.Instr{Op: wasm.OpCallIndirect, Index: g.types[f]})
}

// element pushes a function's index in the table, now and then another's.
func (g *generator) element(f uint32) {
	if g.one(24) {
		f = uint32(g.pick(len(g.types) + 2))
	}
	g.i32(f)
}

func (g *generator) tailCall() {
	f, ok := g.callee(func(r []wasm.ValueType) bool { return slices.Equal(r, g.result) })
	if !ok {
		g.values(g.result, 1)
		g.op(wasm.OpReturn)
		return
	}
	g.values(g.m.Types[g.types[f]].Params, 2)
	if g.hush > 0 || g.one(2) {
		g.index(wasm.OpReturnCall, f)
		return
	}
	g.element(f)
	g.emit(wasm.Instr{Op: wasm.OpReturnCallIndirect, Index: g.types[f]})
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
	switch g.pick(20) {
	case 0:
		g.op(wasm.OpNop)
	case 1, 2:
		t := g.typ()
		g.value(t, depth)
		g.consume([]wasm.ValueType{t})
	case 3:
		t := g.typ()
		g.address(depth)
		g.value(t, depth)
		stores := map[wasm.ValueType]wasm.Opcode{
			wasm.I32: wasm.OpI32Store, wasm.I64: wasm.OpI64Store, wasm.F32: wasm.OpF32Store, wasm.F64: wasm.OpF64Store, wasm.V128: wasm.OpV128Store,
		}
		g.emit(wasm.Instr{Op: stores[t], MemArg: wasm.MemArg{Offset: uint64(g.pick(64))}})
	case 4, 5, 6:
		if g.hush == 0 {
			f := uint32(g.pick(g.imports - 1))
			g.call(f, depth)
			g.consume(g.m.Types[g.types[f]].Results)
		}
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
		l := g.pick(len(g.labels))
		types := g.labels[len(g.labels)-1-l].types
		g.values(types, depth-1)
		g.value(wasm.I32, depth-1)
		g.index(wasm.OpBrIf, uint32(l))
		g.consume(types)
	case 16:
		g.branchTable()
	case 17:
		g.bulk()
	case 18:
		g.tryTable()
	case 19:
		g.leave()
	}
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
		l := g.pick(len(g.labels))
		g.values(g.labels[len(g.labels)-1-l].types, 2)
		g.index(wasm.OpBr, uint32(l))
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

// construct makes a block, loop or if.
func (g *generator) construct(params, results []wasm.ValueType, depth int) {
	kind := g.pick(3)
	g.values(params, depth-1)
	var bt wasm.BlockType
	switch {
	case len(params) == 0 && len(results) == 1:
		bt = wasm.BlockValue(results[0])
	case len(params)+len(results) > 0:
		bt = wasm.BlockIndex(g.typeIndex(params, results))
	}
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
		g.labels = append(g.labels, label{results})
		body()
	case 1:
		g.emit(wasm.Instr{Op: wasm.OpLoop, Block: bt})
		g.labels = append(g.labels, label{params})
		g.burn()
		body()
	case 2:
		g.value(wasm.I32, depth-1)
		g.emit(wasm.Instr{Op: wasm.OpIf, Block: bt})
		g.labels = append(g.labels, label{results})
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
	first := g.pick(len(g.labels))
	types := g.labels[len(g.labels)-1-first].types
	var fit []uint32
	for l := range g.labels {
		if slices.Equal(g.labels[len(g.labels)-1-l].types, types) {
			fit = append(fit, uint32(l))
		}
	}
	row := []uint32{uint32(first)}
	for range g.pick(4) {
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

// tryTable makes code that may throw and be caught. None of it suspends, which isn't supported.
func (g *generator) tryTable() {
	g.hush++
	g.emit(wasm.Instr{Op: wasm.OpBlock, Block: wasm.BlockValue(wasm.I32)})
	g.labels = append(g.labels, label{[]wasm.ValueType{wasm.I32}})
	g.emit(wasm.Instr{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchTag, Tag: labTag}}})
	g.labels = append(g.labels, label{})
	g.statements(1 + g.pick(2))
	if g.one(2) {
		g.value(wasm.I32, 2)
		g.op(wasm.OpIf)
		g.labels = append(g.labels, label{})
		g.value(wasm.I32, 1)
		g.index(wasm.OpThrow, labTag)
		g.labels = g.labels[:len(g.labels)-1]
		g.op(wasm.OpEnd)
	}
	g.labels = g.labels[:len(g.labels)-1]
	g.op(wasm.OpEnd)
	g.value(wasm.I32, 1)
	g.labels = g.labels[:len(g.labels)-1]
	g.op(wasm.OpEnd)
	g.hush--
	g.consume([]wasm.ValueType{wasm.I32})
}
