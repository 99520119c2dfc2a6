package wasm

import "testing"

// body encodes instructions, with the end that they leave out.
func body(instrs ...Instr) []byte {
	var b []byte
	for i := range instrs {
		b = AppendInstr(b, &instrs[i])
	}
	return append(b, byte(OpEnd))
}

func i32Const(v int32) Instr { return Instr{Op: OpI32Const, Const: uint64(uint32(v))} }
func with(op Opcode, i ...uint32) Instr {
	in := Instr{Op: op}
	if len(i) > 0 {
		in.Index = i[0]
	}
	if len(i) > 1 {
		in.Index2 = i[1]
	}
	return in
}

func ptr[T any](v T) *T { return &v }

type sample struct {
	name   string
	module *Module
}

// samples returns valid modules that have, together, every section and every form of entry.
func samples() []sample {
	ref := func(i uint32) ValueType { return RefType(HeapType(i), false) }
	return []sample{
		{"empty", &Module{}},
		{"imports", &Module{
			Types: []FuncType{{Params: []ValueType{I32, I64, F32, F64, V128}, Results: []ValueType{FuncRef, ExternRef}}, {Params: typesI32}},
			Imports: []Import{
				{Module: "m", Name: "f", Kind: ExternFunc, Type: 0},
				{Module: "m", Name: "t", Kind: ExternTable, Table: TableType{Elem: FuncRef, Limits: Limits{Min: 1, Max: 9, HasMax: true}}},
				{Module: "m", Name: "m", Kind: ExternMemory, Memory: Limits{Min: 1, Max: maxPages, HasMax: true}},
				{Module: "m", Name: "g", Kind: ExternGlobal, Global: GlobalType{Type: I32}},
				{Module: "m", Name: "x", Kind: ExternTag, Type: 1},
			},
			Exports: []Export{
				{Name: "f", Kind: ExternFunc},
				{Name: "t", Kind: ExternTable},
				{Name: "m", Kind: ExternMemory},
				{Name: "g", Kind: ExternGlobal},
				{Name: "x", Kind: ExternTag},
				{Name: "", Kind: ExternFunc},
			},
		}},
		{"segments", &Module{
			Types:     []FuncType{{}, {Results: []ValueType{I32}}},
			Imports:   []Import{{Module: "m", Name: "base", Kind: ExternGlobal, Global: GlobalType{Type: I32}}},
			Functions: []uint32{0, 1},
			Tables:    []Table{{Type: TableType{Elem: FuncRef, Limits: Limits{Min: 10}}}, {Type: TableType{Elem: ref(0), Limits: Limits{Min: 3}}, Init: body(with(OpRefFunc, 0))}},
			Memories:  []Limits{{Min: 2}},
			Globals: []Global{
				{Type: GlobalType{Type: I64, Mutable: true}, Init: body(Instr{Op: OpI64Const, Const: 1 << 63})},
				{Type: GlobalType{Type: V128}, Init: body(Instr{Op: OpV128Const, Const: 1, ConstHi: 2})},
				{Type: GlobalType{Type: FuncRef}, Init: body(Instr{Op: OpRefNull, Heap: HeapFunc})},
				{Type: GlobalType{Type: I32}, Init: body(with(OpGlobalGet, 0), i32Const(-7), with(OpI32Mul))},
			},
			Start: ptr(uint32(0)),
			Elements: []Element{
				{Mode: Active, Offset: body(with(OpGlobalGet, 0)), Type: RefType(HeapFunc, false), Funcs: []uint32{1, 0}},
				{Mode: Passive, Type: RefType(HeapFunc, false), Funcs: []uint32{1}, Flags: 1},
				{Mode: Active, Offset: body(i32Const(0)), Type: RefType(HeapFunc, false), Funcs: []uint32{}, Flags: 2},
				{Mode: Declarative, Type: RefType(HeapFunc, false), Funcs: []uint32{0}, Flags: 3},
				{Mode: Active, Offset: body(i32Const(1)), Type: FuncRef, Exprs: []Expr{body(with(OpRefFunc, 0)), body(Instr{Op: OpRefNull, Heap: HeapFunc})}, Flags: 4},
				{Mode: Passive, Type: ExternRef, Exprs: []Expr{body(Instr{Op: OpRefNull, Heap: HeapExtern})}, Flags: 5},
				{Mode: Active, Table: 1, Offset: body(i32Const(2)), Type: ref(0), Exprs: []Expr{body(with(OpRefFunc, 0))}, Flags: 6},
				{Mode: Declarative, Type: FuncRef, Exprs: []Expr{}, Flags: 7},
			},
			DataCount: ptr(uint32(3)),
			Code: []Code{
				NewCode(nil, body(
					i32Const(0), i32Const(0), i32Const(1), with(OpMemoryInit, 1, 0), with(OpDataDrop, 1),
					i32Const(0), i32Const(0), i32Const(1), with(OpTableInit, 4, 0), with(OpElemDrop, 4),
					i32Const(0), i32Const(0), i32Const(1), with(OpTableCopy, 0, 1),
				)),
				NewCode([]LocalGroup{{3, I32}, {1, V128}}, body(
					with(OpLocalGet, 0),
					Instr{Op: OpI32Load8U, MemArg: MemArg{Offset: 1<<32 - 1}},
					Instr{Op: OpI8x16Splat}, with(OpLocalGet, 3), Instr{Op: OpI8x16Shuffle, Lanes: [16]byte{31, 0, 16}},
					Instr{Op: OpI8x16ExtractLaneU, Lane: 15},
				)),
			},
			Data: []Data{
				{Mode: Active, Offset: body(with(OpGlobalGet, 0)), Init: []byte("data")},
				{Mode: Passive, Init: []byte("passive"), Flags: 1},
				{Mode: Active, Offset: body(i32Const(9)), Init: []byte{}, Flags: 2},
			},
			Customs: []Custom{
				{Name: "first", Data: []byte{1}, After: 0},
				{Name: "a", Data: []byte{2}, After: idType},
				{Name: "b", Data: []byte{}, After: idDataCount},
				{Name: "c", Data: []byte{3}, After: idDataCount},
				{Name: "name", Data: []byte("\x00\x05\x04main\x01\x0e\x02\x00\x04left\x01\x05right\x02\x0a\x01\x01\x02\x00\x01x\x03\x02yy"), After: idData},
			},
		}},
		{"control", &Module{
			Types:     []FuncType{{Params: typesI32, Results: typesI32}, {Params: []ValueType{I32, I32}, Results: []ValueType{I32, I32}}},
			Functions: []uint32{0},
			Tables:    []Table{{Type: TableType{Elem: FuncRef, Limits: Limits{Min: 1}}}},
			Code: []Code{NewCode(nil, body(
				with(OpLocalGet, 0), with(OpLocalGet, 0),
				Instr{Op: OpBlock, Block: BlockIndex(1)},
				Instr{Op: OpLoop, Block: BlockIndex(1)},
				with(OpLocalGet, 0), Instr{Op: OpBrTable, Labels: []uint32{0, 1, 1}},
				with(OpEnd), with(OpEnd),
				with(OpLocalGet, 0), Instr{Op: OpIf, Block: BlockIndex(1)}, with(OpElse), with(OpI32Add), with(OpLocalGet, 0), with(OpEnd),
				with(OpLocalGet, 0), Instr{Op: OpSelectT, Types: typesI32},
			))},
		}},
		{"exceptions", &Module{
			Types:     []FuncType{{Params: typesI32}, {Results: typesI32}, {}},
			Functions: []uint32{1},
			Tags:      []uint32{0},
			Code: []Code{NewCode(nil, body(
				Instr{Op: OpBlock, Block: BlockValue(I32)},
				Instr{Op: OpTryTable, Block: BlockValue(I32), Catches: []Catch{{Kind: CatchTag, Tag: 0, Label: 0}}},
				i32Const(1), with(OpThrow, 0), with(OpEnd), with(OpEnd),
			))},
		}},
		{"references", &Module{
			Types: []FuncType{
				{Params: typesI32, Results: typesI32},
				{Params: []ValueType{ref(2)}, Group: 2, GroupIndex: 0},
				{Params: []ValueType{ref(1)}, Group: 2, GroupIndex: 1},
				{Params: []ValueType{RefType(0, true), I32}, Results: typesI32},
			},
			Functions: []uint32{0, 3},
			Exports:   []Export{{Name: "f"}},
			Code: []Code{
				NewCode([]LocalGroup{{1, ref(0)}}, body(
					with(OpRefFunc, 0), with(OpLocalSet, 1), with(OpLocalGet, 0), with(OpLocalGet, 1), with(OpReturnCallRef, 0),
				)),
				NewCode(nil, body(
					Instr{Op: OpBlock, Block: BlockValue(ref(0))},
					with(OpLocalGet, 0), with(OpBrOnNonNull, 0), with(OpLocalGet, 1), with(OpReturn), with(OpEnd),
					with(OpDrop), with(OpLocalGet, 1), with(OpReturnCall, 0),
				)),
			},
		}},
	}
}

func TestSamples(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			if err := Validate(s.module); err != nil {
				t.Fatal(err)
			}
			data := s.module.Encode()
			m, err := Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := diffModules(s.module, m); diff != "" {
				t.Errorf("the round trip changed it (-before +after):\n%s", diff)
			}
			if err := wazeroVerdict(t, data); err != nil {
				t.Errorf("wazero: %v", err)
			}
		})
	}
}
