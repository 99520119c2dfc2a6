package wasm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFuncValidatorFollows pins what a transform reads off after each instruction.
func TestFuncValidatorFollows(t *testing.T) {
	m := &Module{
		Types: []FuncType{
			{Params: typesI64, Results: typesI32},
			{Params: []ValueType{I32, I32}, Results: []ValueType{I64, I32}},
		},
		Functions: []uint32{0, 1},
	}
	steps := []struct {
		in      Instr
		stack   []ValueType
		low     int
		blocks  int // open after the step
		height  int // of the innermost
		nowhere bool
	}{
		{i32Const(1), []ValueType{I32}, 0, 1, 0, false},
		{i32Const(2), []ValueType{I32, I32}, 1, 1, 0, false},
		{i32Const(3), []ValueType{I32, I32, I32}, 2, 1, 0, false},
		{with(OpCall, 1), []ValueType{I32, I64, I32}, 1, 1, 0, false},
		{Instr{Op: OpIf, Block: BlockValue(F64)}, []ValueType{I32, I64}, 2, 2, 2, false},
		{with(OpLocalGet, 0), []ValueType{I32, I64, I64}, 2, 2, 2, false},
		{with(OpLocalTee, 1), []ValueType{I32, I64, I64}, 2, 2, 2, false},
		{with(OpF64ConvertI64S), []ValueType{I32, I64, F64}, 2, 2, 2, false},
		{with(OpElse), []ValueType{I32, I64}, 2, 2, 2, false},
		{with(OpUnreachable), []ValueType{I32, I64}, 2, 2, 2, true},
		{with(OpF64Add), []ValueType{I32, I64, F64}, 2, 2, 2, true},
		{with(OpDrop), []ValueType{I32, I64}, 2, 2, 2, true},
		{with(OpSelect), []ValueType{I32, I64, Bottom}, 2, 2, 2, true},
		{with(OpEnd), []ValueType{I32, I64, F64}, 2, 1, 0, false},
		{with(OpDrop), []ValueType{I32, I64}, 2, 1, 0, false},
		{with(OpNop), []ValueType{I32, I64}, 2, 1, 0, false},
		{with(OpI32WrapI64), []ValueType{I32, I32}, 1, 1, 0, false},
		{Instr{Op: OpLoop, Block: BlockIndex(1)}, []ValueType{I32, I32}, 0, 2, 0, false},
		{i32Const(0), []ValueType{I32, I32, I32}, 2, 2, 0, false},
		{with(OpBrIf, 0), []ValueType{I32, I32}, 0, 2, 0, false},
		{with(OpI32Add), []ValueType{I32}, 0, 2, 0, false},
		{with(OpReturn), nil, 0, 2, 0, true},
		{with(OpEnd), []ValueType{I64, I32}, 0, 1, 0, false},
		{i32Const(0), []ValueType{I64, I32, I32}, 2, 1, 0, false},
		{Instr{Op: OpBrTable, Labels: []uint32{0, 0}}, nil, 0, 1, 0, true},
		{with(OpEnd), typesI32, 0, 0, 0, false},
	}
	var instrs []Instr
	for _, s := range steps[:len(steps)-1] {
		instrs = append(instrs, s.in)
	}
	locals := []LocalGroup{{1, I64}, {2, F32}}
	m.Code = []Code{NewCode(locals, body(instrs...)), NewCode(nil, body(with(OpUnreachable)))}
	if err := Validate(m); err != nil {
		t.Fatal(err)
	}
	env, err := NewEnv(m)
	if err != nil {
		t.Fatal(err)
	}
	v := NewFuncValidator(env, 1)
	for pass := range 2 {
		v.Reset(0)
		if diff := cmp.Diff([]ValueType{I64, I64, F32, F32}, v.Locals()); diff != "" {
			t.Errorf("locals (-want +got):\n%s", diff)
		}
		for i, s := range steps {
			if err := v.Step(&s.in); err != nil {
				t.Fatalf("pass %d, step %d, %v: %v", pass, i, &s.in, err)
			}
			if got := v.Stack(); len(got) != len(s.stack) || len(got) > 0 && cmp.Diff(s.stack, got) != "" || v.Low() != s.low {
				t.Errorf("step %d, %v: stack %v, low %d; want %v, %d", i, &s.in, got, v.Low(), s.stack, s.low)
			}
			controls := v.Controls()
			if len(controls) != s.blocks || v.Unreachable() != s.nowhere {
				t.Errorf("step %d, %v: %d blocks, unreachable %v; want %d, %v", i, &s.in, len(controls), v.Unreachable(), s.blocks, s.nowhere)
			} else if s.blocks > 0 && controls[s.blocks-1].Height != s.height {
				t.Errorf("step %d, %v: block at height %d, want %d", i, &s.in, controls[s.blocks-1].Height, s.height)
			}
			if v.Done() != (i == len(steps)-1) {
				t.Errorf("step %d, %v: done %v", i, &s.in, v.Done())
			}
		}
	}
	if err := v.Step(&Instr{Op: OpNop}); err == nil {
		t.Error("an instruction after the end is accepted")
	}
}

// TestLocalInitialisation follows a local without a default value through blocks.
func TestLocalInitialisation(t *testing.T) {
	set := []Instr{with(OpRefFunc, 0), with(OpLocalSet, 0)}
	get := []Instr{with(OpLocalGet, 0), with(OpDrop)}
	block, end := Instr{Op: OpBlock}, with(OpEnd)
	join := func(parts ...any) (b []Instr) {
		for _, p := range parts {
			switch p := p.(type) {
			case Instr:
				b = append(b, p)
			case []Instr:
				b = append(b, p...)
			}
		}
		return b
	}
	for _, test := range []struct {
		name string
		code []Instr
		ok   bool
	}{
		{"set, then read", join(set, get), true},
		{"read first", join(get), false},
		{"set before a block", join(set, block, get, end, get), true},
		{"set in a block", join(block, set, get, end, get), false},
		{"set in then, read in else", join(i32Const(0), Instr{Op: OpIf}, set, with(OpElse), get, end), false},
		{"set in unreachable code", join(with(OpUnreachable), set, get), true},
		{"read in unreachable code", join(with(OpUnreachable), get), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &Module{
				Types:     []FuncType{{}},
				Functions: []uint32{0},
				Exports:   []Export{{Name: "f"}},
				Code:      []Code{NewCode([]LocalGroup{{1, RefType(0, false)}}, body(test.code...))},
			}
			if err := Validate(m); (err == nil) != test.ok {
				t.Errorf("error %v, want ok %v", err, test.ok)
			}
		})
	}
}

// TestUnknownFunction checks that a validator of a function that the module doesn't define says so.
func TestUnknownFunction(t *testing.T) {
	m := &Module{Types: []FuncType{{}}, Imports: []Import{{Module: "m", Name: "f"}}}
	env, err := NewEnv(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []uint32{0, 1, 1 << 31} {
		if err := NewFuncValidator(env, f).Step(&Instr{Op: OpNop}); err == nil || !strings.Contains(err.Error(), "isn't defined") {
			t.Errorf("function %d: error %v, want one that says it isn't defined", f, err)
		}
	}
}
