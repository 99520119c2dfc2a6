package instrument

import (
	"bytes"
	"context"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/durun/durun/runtime/internal/wasm"
)

// withData is a module with a memory of one page, an active segment at each of the offsets, and a passive one. main(segment,
// n) initialises n bytes at 8 from a segment.
func withData(offsets ...int32) *wasm.Module {
	m := base()
	m.Memories = []wasm.Limits{{Min: 1}}
	for i, at := range offsets {
		offset := append(wasm.AppendS32(wasm.Expr{byte(wasm.OpI32Const)}, at), byte(wasm.OpEnd))
		m.Data = append(m.Data, wasm.Data{Offset: offset, Init: []byte{byte(i) + 1, 0xff}})
	}
	m.Data = append(m.Data, wasm.Data{Mode: wasm.Passive, Init: []byte{7, 8, 9}})
	count := uint32(len(m.Data))
	m.DataCount = &count
	for i := range m.Data {
		n := uint32(i)
		define(m, "init"+string(rune('0'+i)), []wasm.ValueType{wasm.I32}, nil,
			wasm.Instr{Op: wasm.OpI32Const, Const: 8}, op(wasm.OpI32Const), op(wasm.OpLocalGet), op(wasm.OpMemoryInit, n))
		define(m, "drop"+string(rune('0'+i)), nil, nil, op(wasm.OpDataDrop, n))
	}
	m.Exports = append(m.Exports, wasm.Export{Name: "memory", Kind: wasm.ExternMemory})
	return m
}

// TestStrip does the same with a stripped module that was given its memory, and with the module as it was.
func TestStrip(t *testing.T) {
	ctx := context.Background()
	m := withData(16, 17, 65534)
	stripped, image := Strip(m)
	if len(image) != 65536 {
		t.Fatalf("an image of %d bytes", len(image))
	}
	for i := range stripped.Data {
		if want := len(m.Data) - 1; stripped.Data[i].Mode != wasm.Passive || (len(stripped.Data[i].Init) > 0) != (i == want) {
			t.Errorf("segment %d: mode %d, %d bytes", i, stripped.Data[i].Mode, len(stripped.Data[i].Init))
		}
	}
	if m.Data[0].Mode != wasm.Active || len(m.Data[0].Init) == 0 {
		t.Error("the module itself has changed")
	}
	e := engine(t)
	if _, err := e.NewHostModuleBuilder("durun").NewFunctionBuilder().WithFunc(func() {}).Export("checkpoint").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	instance := func(m *wasm.Module) func(export string, args ...uint64) ([]byte, bool) {
		accept(t, e, m)
		code, err := e.CompileModule(ctx, m.Encode())
		if err != nil {
			t.Fatal(err)
		}
		inst, err := e.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		if m == stripped {
			inst.Memory().Write(0, image)
		}
		return func(export string, args ...uint64) ([]byte, bool) {
			if export != "" {
				if _, err := inst.ExportedFunction(export).Call(ctx, args...); err != nil {
					return nil, false
				}
			}
			mem, _ := inst.Memory().Read(0, inst.Memory().Size())
			return bytes.Clone(mem), true
		}
	}
	as, is := instance(m), instance(stripped)
	for _, c := range []struct {
		export string
		args   []uint64
		traps  bool
	}{
		{"", nil, false},
		{"init0", []uint64{0}, false},
		{"drop0", nil, false},
		{"init0", []uint64{0}, false},
		{"init0", []uint64{1}, true},
		{"init3", []uint64{3}, false},
		{"init3", []uint64{4}, true},
		{"drop3", nil, false},
		{"init3", []uint64{1}, true},
	} {
		want, ok := as(c.export, c.args...)
		if ok == c.traps {
			t.Fatalf("%s(%d): trap %v", c.export, c.args, !ok)
		}
		if got, ok2 := is(c.export, c.args...); ok2 != ok || !bytes.Equal(got, want) {
			t.Errorf("%s(%d): trap %v, want %v; same memory: %v", c.export, c.args, !ok2, !ok, bytes.Equal(got, want))
		}
	}
	// Segment 1 has been dropped by the instantiation, says the specification; wazero 1.12 has it still.
	if _, ok := is("init1", 1); ok {
		t.Error("an active segment is there after the instantiation")
	}
}

// TestStripNothing: a module that can't be instantiated stays as it is.
func TestStripNothing(t *testing.T) {
	for _, m := range []*wasm.Module{withData(65535), withData(-1), base()} {
		if s, image := Strip(m); s != m || image != nil {
			t.Errorf("data %+v: stripped, with an image of %d bytes", m.Data, len(image))
		}
	}
}
