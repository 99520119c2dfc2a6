package instrument

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/runtime/internal/wasm"
)

// withData is a module with a memory of one page, an active segment at each of the offsets, and a passive one. initN(n) puts n
// bytes of segment N at 8, dropN drops it; there is no init2.
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
		if i != 2 {
			define(m, fmt.Sprintf("init%d", i), []wasm.ValueType{wasm.I32}, nil,
				wasm.Instr{Op: wasm.OpI32Const, Const: 8}, op(wasm.OpI32Const), op(wasm.OpLocalGet), op(wasm.OpMemoryInit, n))
		}
		define(m, fmt.Sprintf("drop%d", i), nil, nil, op(wasm.OpDataDrop, n))
	}
	m.Exports = append(m.Exports, wasm.Export{Name: "memory", Kind: wasm.ExternMemory})
	return m
}

// TestStrip does the same with a stripped module that was given its memory, and with the module as it was.
func TestStrip(t *testing.T) {
	ctx := context.Background()
	m := withData(16, 17, 65534)
	r, err := Transform(m, Config{Await: awaits})
	if err != nil {
		t.Fatal(err)
	}
	stripped, image := r.Strip()
	if len(image) != 65536 {
		t.Fatalf("an image of %d bytes", len(image))
	}
	for i := range stripped.Data {
		if read := i != 2; stripped.Data[i].Mode != wasm.Passive || (len(stripped.Data[i].Init) > 0) != read {
			t.Errorf("segment %d: mode %d, %d bytes", i, stripped.Data[i].Mode, len(stripped.Data[i].Init))
		}
	}
	if r.Module.Data[2].Mode != wasm.Active || len(r.Module.Data[2].Init) == 0 {
		t.Error("the module itself has changed")
	}
	e := engine(t)
	defineHost(t, e, stripped)
	instance := func(m *wasm.Module, memory []byte) func(export string, args ...uint64) ([]byte, bool) {
		accept(t, e, m)
		code, err := e.CompileModule(ctx, m.Encode())
		if err != nil {
			t.Fatal(err)
		}
		inst, err := e.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		inst.Memory().Write(0, memory)
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
	as, is := instance(r.Module, nil), instance(stripped, image)
	for _, c := range []struct {
		export string
		args   []uint64
	}{
		{"", nil},
		{"init0", []uint64{0}},
		{"init0", []uint64{1}},
		{"init1", []uint64{2}},
		{"init1", []uint64{3}},
		{"drop0", nil},
		{"init0", []uint64{0}},
		{"init0", []uint64{1}},
		{"init3", []uint64{3}},
		{"init3", []uint64{4}},
		{"drop2", nil},
		{"drop3", nil},
		{"init3", []uint64{1}},
	} {
		want, ok := as(c.export, c.args...)
		if got, ok2 := is(c.export, c.args...); ok2 != ok || !bytes.Equal(got, want) {
			t.Errorf("%s(%d): trap %v, want %v; same memory: %v", c.export, c.args, !ok2, !ok, bytes.Equal(got, want))
		}
	}
}

// defineHost instantiates modules that define the functions that m imports, which do nothing.
func defineHost(t *testing.T, e wazero.Runtime, m *wasm.Module) {
	t.Helper()
	builders := map[string]wazero.HostModuleBuilder{}
	for i := range m.Imports {
		im := &m.Imports[i]
		b := builders[im.Module]
		if b == nil {
			b = e.NewHostModuleBuilder(im.Module)
			builders[im.Module] = b
		}
		ft := &m.Types[im.Type]
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) {}), apiTypes(ft.Params), apiTypes(ft.Results)).Export(im.Name)
	}
	for _, b := range builders {
		if _, err := b.Instantiate(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func apiTypes(types []wasm.ValueType) []api.ValueType {
	var ts []api.ValueType
	for _, t := range types {
		ts = append(ts, api.ValueType(t))
	}
	return ts
}

// TestStripNothing: a module that can't be instantiated stays as it is.
func TestStripNothing(t *testing.T) {
	for _, m := range []*wasm.Module{withData(65535), withData(-1), base()} {
		r, err := Transform(m, Config{Await: awaits})
		if err != nil {
			t.Fatal(err)
		}
		if s, image := r.Strip(); s != r.Module || image != nil {
			t.Errorf("data %+v: stripped, with an image of %d bytes", m.Data, len(image))
		}
	}
}
