package wasm

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSubtypes(t *testing.T) {
	ref := func(i uint32) ValueType { return RefType(HeapType(i), false) }
	null := func(i uint32) ValueType { return RefType(HeapType(i), true) }
	m := &Module{Types: []FuncType{
		0:  {Params: typesI32},
		1:  {Results: typesI32},
		2:  {Params: typesI32}, // as 0
		3:  {Params: []ValueType{ref(0)}},
		4:  {Params: []ValueType{ref(2)}},                               // as 3
		5:  {Params: []ValueType{null(0)}},                              // not as 3
		6:  {Params: []ValueType{ref(7)}, Group: 2},                     // 6 and 7 refer to each other
		7:  {Params: []ValueType{ref(6)}, Group: 2, GroupIndex: 1},      //
		8:  {Params: []ValueType{ref(9)}, Group: 2},                     // as 6
		9:  {Params: []ValueType{ref(8)}, Group: 2, GroupIndex: 1},      // as 7
		10: {Params: []ValueType{ref(7)}},                               // as 6 but for the group
		11: {Params: typesI32, Group: 1},                                // as 0: a group of one is none
		12: {Params: typesI32, Group: 2}, 13: {Group: 2, GroupIndex: 1}, // not as 0
	}}
	e, err := NewEnv(m)
	if err != nil {
		t.Fatal(err)
	}
	nonNullFunc := RefType(HeapFunc, false)
	for _, test := range []struct {
		a, b ValueType
		want bool
	}{
		{I32, I32, true},
		{I32, I64, false},
		{I32, FuncRef, false},
		{FuncRef, I32, false},
		{Bottom, V128, true},
		{bottomRef, FuncRef, true},
		{bottomRef, ref(3), true},
		{bottomRef, I32, false},
		{FuncRef, FuncRef, true},
		{FuncRef, ExternRef, false},
		{nonNullFunc, FuncRef, true},
		{FuncRef, nonNullFunc, false},
		{ref(0), FuncRef, true},
		{ref(0), nonNullFunc, true},
		{null(0), nonNullFunc, false},
		{null(0), ref(0), false},
		{ref(0), ExternRef, false},
		{nonNullFunc, ref(0), false},
		{ref(0), ref(2), true},
		{ref(0), null(2), true},
		{ref(0), ref(1), false},
		{ref(3), ref(4), true},
		{ref(3), ref(5), false},
		{ref(6), ref(8), true},
		{ref(7), ref(9), true},
		{ref(6), ref(7), false},
		{ref(6), ref(10), false},
		{ref(0), ref(11), true},
		{ref(0), ref(12), false},
		{RefType(HeapExn, false), ExnRef, true},
	} {
		if got := e.IsSubtype(test.a, test.b); got != test.want {
			t.Errorf("IsSubtype(%v, %v) = %v, want %v", test.a, test.b, got, test.want)
		}
	}
}

func TestNames(t *testing.T) {
	var m *Module
	for _, s := range samples() {
		if s.name == "segments" {
			m = s.module
		}
	}
	n := m.Names()
	if n.Module != "main" {
		t.Errorf("module %q, want main", n.Module)
	}
	if diff := cmp.Diff([]string{"left", "right"}, n.Functions); diff != "" {
		t.Errorf("functions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[uint32]string{0: "x", 3: "yy"}, n.Locals(1)); diff != "" {
		t.Errorf("locals (-want +got):\n%s", diff)
	}
	if got := n.Locals(0); got != nil {
		t.Errorf("locals of a function without: %v", got)
	}
}

func TestMalformedNames(t *testing.T) {
	for _, test := range []struct {
		data string
		want []string
	}{
		{"", []string{"", ""}},
		{"\x01", []string{"", ""}},
		{"\x01\x40\x02\x00\x01a", []string{"a", ""}},             // cut in the second name
		{"\x01\x06\x01\x00\x03a\xffb", []string{"a\ufffdb", ""}}, // not UTF-8
		{"\x01\x04\x01\x07\x01a", []string{"", ""}},              // no such function
		{"\x01\x07\x02\x01\x01b\x00\x01a", []string{"a", "b"}},   // out of order
		{"\x07\x02xy\x01\x04\x01\x00\x01a", []string{"a", ""}},   // an unknown subsection
		{"\x01\xff\xff\xff\xff\x7f\x01\x00\x01a", []string{"", ""}},
	} {
		m := &Module{Functions: []uint32{0, 0}, Customs: []Custom{{Name: "name", Data: []byte(test.data)}}}
		if diff := cmp.Diff(test.want, m.FunctionNames()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.data, diff)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 63, 64, -64, -65, 127, 128, 8191, 8192, math.MaxInt32, math.MinInt32, math.MaxUint32, 1<<32 - 1, -1 << 32, math.MaxInt64, math.MinInt64} {
		c := cursor{data: AppendS64(nil, v)}
		if got := c.s64(); got != v || c.err != nil || c.left() != 0 {
			t.Errorf("s64 of %d: %d (%v)", v, got, c.err)
		}
		c = cursor{data: AppendU64(nil, uint64(v))}
		if got := c.u64(); got != uint64(v) || c.err != nil || c.left() != 0 {
			t.Errorf("u64 of %d: %d (%v)", uint64(v), got, c.err)
		}
		c = cursor{data: AppendS32(nil, int32(v))}
		if got := c.s32(); got != int32(v) || c.err != nil {
			t.Errorf("s32 of %d: %d (%v)", int32(v), got, c.err)
		}
		c = cursor{data: AppendU32(nil, uint32(v))}
		if got := c.u32(); got != uint32(v) || c.err != nil {
			t.Errorf("u32 of %d: %d (%v)", uint32(v), got, c.err)
		}
		if v == int64(uint32(v)) || v >= math.MinInt32 && v < 0 {
			c = cursor{data: AppendS33(nil, v)}
			if got := c.s33(); got != v || c.err != nil {
				t.Errorf("s33 of %d: %d (%v)", v, got, c.err)
			}
		}
	}
}
