package wasm

import (
	"bytes"
	"testing"
)

func TestInitialMemory(t *testing.T) {
	constant := func(v int32) Expr { return append(AppendS32(Expr{byte(OpI32Const)}, v), byte(OpEnd)) }
	sum := Expr{byte(OpI32Const), 7, byte(OpI32Const), 3, byte(OpI32Const), 2, byte(OpI32Mul), byte(OpI32Add), byte(OpI32Const), 1, byte(OpI32Sub), byte(OpEnd)}
	global := Expr{byte(OpGlobalGet), 0, byte(OpEnd)}
	for _, c := range []struct {
		name string
		data []Data
		want []byte // what there is from 12 on, and zeros around
		size int
		ok   bool
	}{
		{"none", nil, nil, 0, true},
		{"passive", []Data{{Mode: Passive, Init: []byte{1}}}, nil, 0, true},
		{"one", []Data{{Offset: constant(12), Init: []byte{1, 2}}}, []byte{1, 2}, memoryPage, true},
		{"over another", []Data{{Offset: constant(12), Init: []byte{1, 2, 3}}, {Offset: constant(13), Init: []byte{9}}}, []byte{1, 9, 3}, memoryPage, true},
		{"computed", []Data{{Offset: sum, Init: []byte{4}}}, []byte{4}, memoryPage, true},
		{"to the end", []Data{{Offset: constant(2*memoryPage - 1), Init: []byte{0}}}, nil, 2 * memoryPage, true},
		{"over the end", []Data{{Offset: constant(2*memoryPage - 1), Init: []byte{0, 0}}}, nil, 0, false},
		{"before the start", []Data{{Offset: constant(-1), Init: []byte{1}}}, nil, 0, false},
		{"at a global", []Data{{Offset: global, Init: []byte{1}}}, nil, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &Module{Memories: []Limits{{Min: 2}}, Data: c.data}
			got, ok := m.InitialMemory()
			if ok != c.ok || len(got) != c.size {
				t.Fatalf("%d bytes, %v; want %d, %v", len(got), ok, c.size, c.ok)
			}
			want := make([]byte, c.size)
			if c.size > 0 {
				copy(want[12:], c.want)
			}
			if !bytes.Equal(got, want) {
				t.Error("other contents")
			}
		})
	}
	if _, ok := (&Module{}).InitialMemory(); ok {
		t.Error("a module without memory has one")
	}
}
