package wasm

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// FuzzDecode checks that hostile bytes give an error with a place, and that what decodes also encodes, to a fixed
// point that validates alike.
func FuzzDecode(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.module.Encode())
	}
	for _, e := range formatErrors {
		f.Add(binaryOf(f, e.sections))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			if e := (*FormatError)(nil); !errors.As(err, &e) {
				t.Fatalf("error %v, want a FormatError", err)
			} else if e.Offset < 0 || e.Offset > len(data) {
				t.Fatalf("error %v at byte %d of %d", err, e.Offset, len(data))
			}
			return
		}
		names := m.Names()
		names.Locals(0)
		invalid := Validate(m)
		out := m.Encode()
		if len(out) > len(data) {
			t.Fatalf("%d bytes became %d", len(data), len(out))
		}
		m2, err := Decode(out)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if !bytes.Equal(m2.Encode(), out) {
			t.Fatal("the second encoding differs from the first")
		}
		if again := Validate(m2); (again == nil) != (invalid == nil) {
			t.Fatalf("validates to %v, after a round trip to %v", invalid, again)
		}
	})
}

// FuzzReader checks that any bytes are read without a panic, one instruction after the other, that AppendInstr is the
// inverse, and that FuncValidator takes any sequence of instructions. More seeds are in testdata/fuzz.
func FuzzReader(f *testing.F) {
	m := &Module{
		Types: []FuncType{
			{Params: typesI32, Results: typesI32},
			{Params: []ValueType{I32, FuncRef}, Results: []ValueType{I64, RefType(0, false)}},
			{},
		},
		Functions: []uint32{0, 1},
		Tables:    []Table{{Type: TableType{Elem: FuncRef}}, {Type: TableType{Elem: ExternRef}}},
		Memories:  []Limits{{Min: 1}},
		Tags:      []uint32{2},
		Globals:   []Global{{Type: GlobalType{Type: I32, Mutable: true}, Init: Expr{0x41, 0, 0x0b}}},
		Exports:   []Export{{Name: "f", Index: 0}},
		Elements:  []Element{{Mode: Passive, Type: FuncRef, Funcs: []uint32{1}}},
		DataCount: new(uint32),
		Code: []Code{
			NewCode([]LocalGroup{{2, I64}, {1, RefType(0, false)}, {1, V128}}, nil),
			NewCode(nil, []byte{0, 0x0b}),
		},
	}
	env, err := NewEnv(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := NewReader(body)
		v := NewFuncValidator(env, 0)
		var in, back Instr
		at := 0
		for {
			err := r.Next(&in)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				if e := (*FormatError)(nil); !errors.As(err, &e) || e.Offset < at || e.Offset > len(body) {
					t.Fatalf("error %v at or after byte %d of %d", err, at, len(body))
				}
				return
			}
			if in.Offset != at || in.End <= at || in.End > len(body) || r.Offset() != in.End {
				t.Fatalf("%v at [%d, %d), want it at %d of %d", &in, in.Offset, in.End, at, len(body))
			}
			at = in.End
			out := AppendInstr(nil, &in)
			if len(out) > in.End-in.Offset {
				t.Fatalf("%v: %d bytes became %d", &in, in.End-in.Offset, len(out))
			}
			if err := NewReader(out).Next(&back); err != nil || back.String() != in.String() || back.End != len(out) {
				t.Fatalf("%v became %v (%v)", &in, &back, err)
			}
			height := len(v.Stack())
			if err := v.Step(&in); err == nil && (v.Low() > height || v.Low() > len(v.Stack())) {
				t.Fatalf("%v: low %d, height %d before and %d after", &in, v.Low(), height, len(v.Stack()))
			}
		}
	})
}
