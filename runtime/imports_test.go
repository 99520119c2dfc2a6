package runtime

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// importing is a module that imports a checkpoint and what is given, and exports main, which has these instructions.
func importing(results []wasm.ValueType, imports []wasm.Import, code ...wasm.Instr) *wasm.Module {
	m := &wasm.Module{
		Types: []wasm.FuncType{{}, {Results: results}, {Params: []wasm.ValueType{wasm.I32}}},
		Imports: append([]wasm.Import{
			{Module: hostabi.ModuleName, Name: hostabi.FuncCheckpoint, Kind: wasm.ExternFunc, Type: 0},
		}, imports...),
		Functions: []uint32{1},
		Exports:   []wasm.Export{{Name: "main", Kind: wasm.ExternFunc, Index: 1}},
	}
	body := []byte{0}
	for i := range code {
		body = wasm.AppendInstr(body, &code[i])
	}
	m.Code = []wasm.Code{{Raw: append(body, byte(wasm.OpEnd)), BodyOffset: 1}}
	return m
}

func importGlobal(name string, t wasm.ValueType, mutable bool) wasm.Import {
	return wasm.Import{Module: "env", Name: name, Kind: wasm.ExternGlobal, Global: wasm.GlobalType{Type: t, Mutable: mutable}}
}

// checkpointAndMain runs main of a module over its one await point in a second runtime, and returns its results. between
// sees the snapshot.
func checkpointAndMain(t *testing.T, m *wasm.Module, between func(*snapshot.Snapshot), hosts ...*hostabi.Module) []uint64 {
	t.Helper()
	ctx := context.Background()
	binary := m.Encode()
	compile := func() *Module {
		r, err := New(ctx, NewConfig().WithModules(hosts...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close(ctx) })
		mod, err := r.Compile(ctx, binary)
		if err != nil {
			t.Fatal(err)
		}
		return mod
	}
	c, err := compile().Start(ctx, StartConfig{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Resume(ctx); err != nil || s != snapshot.Suspended {
		t.Fatalf("%v, error %v, %v", s, err, c.Err())
	}
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	data, err := snapshot.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = snapshot.Decode(data); err != nil {
		t.Fatal(err)
	}
	between(s)
	if c, err = compile().Restore(ctx, s, RestoreConfig{}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s, err := c.Resume(ctx); err != nil || s != snapshot.Completed {
		t.Fatalf("%v, error %v, %v", s, err, c.Err())
	}
	return c.Results()
}

// TestImportedGlobals captures a mutable global that is imported, and reads one that isn't, of the widest type.
func TestImportedGlobals(t *testing.T) {
	m := importing([]wasm.ValueType{wasm.I64, wasm.I64},
		[]wasm.Import{importGlobal("sum", wasm.V128, true), importGlobal("step", wasm.V128, false)},
		wasm.Instr{Op: wasm.OpGlobalGet, Index: 0}, wasm.Instr{Op: wasm.OpGlobalGet, Index: 1},
		wasm.Instr{Op: wasm.OpI64x2Add}, wasm.Instr{Op: wasm.OpGlobalSet, Index: 0},
		wasm.Instr{Op: wasm.OpCall, Index: 0},
		wasm.Instr{Op: wasm.OpGlobalGet, Index: 0}, wasm.Instr{Op: wasm.OpGlobalGet, Index: 1},
		wasm.Instr{Op: wasm.OpI64x2Add}, wasm.Instr{Op: wasm.OpGlobalSet, Index: 0},
		wasm.Instr{Op: wasm.OpGlobalGet, Index: 0}, wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 0},
		wasm.Instr{Op: wasm.OpGlobalGet, Index: 0}, wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 1},
	)
	// The module's own global starts with the value of an imported one.
	m.Globals = []wasm.Global{{Type: wasm.GlobalType{Type: wasm.V128, Mutable: true}, Init: wasm.Expr{byte(wasm.OpGlobalGet), 1, byte(wasm.OpEnd)}}}
	env := &hostabi.Module{Name: "env", Globals: []hostabi.Global{
		{Name: "sum", Type: byte(wasm.V128), Mutable: true, Value: 1000, High: 1 << 40},
		{Name: "step", Type: byte(wasm.V128), Value: 7, High: 9},
	}}
	got := checkpointAndMain(t, m, func(s *snapshot.Snapshot) {
		want := []snapshot.Global{
			{Index: 0, Value: snapshot.Value{Type: snapshot.V128, Lo: 1007, Hi: 1<<40 + 9}},
			{Index: 2, Value: snapshot.Value{Type: snapshot.V128, Lo: 7, Hi: 9}},
		}
		if !slices.Equal(s.Globals, want) {
			t.Errorf("the snapshot has globals %+v, want %+v", s.Globals, want)
		}
	}, env)
	if want := []uint64{1014, 1<<40 + 18}; !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
}

// TestImportedTag throws and catches an exception of an imported tag, in code that doesn't suspend, on both sides of an
// await.
func TestImportedTag(t *testing.T) {
	// block (result i32) try_table (catch $tag 0) i32.const n throw $tag end unreachable end
	caught := func(n uint64) []wasm.Instr {
		return []wasm.Instr{
			{Op: wasm.OpBlock, Block: wasm.BlockValue(wasm.I32)},
			{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchTag, Tag: 0, Label: 0}}},
			{Op: wasm.OpI32Const, Const: n},
			{Op: wasm.OpThrow, Index: 0},
			{Op: wasm.OpEnd},
			{Op: wasm.OpUnreachable},
			{Op: wasm.OpEnd},
		}
	}
	code := append(caught(30), wasm.Instr{Op: wasm.OpCall, Index: 0})
	code = append(append(code, caught(12)...), wasm.Instr{Op: wasm.OpI32Add})
	m := importing([]wasm.ValueType{wasm.I32},
		[]wasm.Import{{Module: "env", Name: "__cpp_exception", Kind: wasm.ExternTag, Type: 2}}, code...)
	got := checkpointAndMain(t, m, func(*snapshot.Snapshot) {})
	if !slices.Equal(got, []uint64{42}) {
		t.Errorf("got %d, want 42", got)
	}
}

// TestRefusedImports compiles modules that import what can't be had.
func TestRefusedImports(t *testing.T) {
	env := &hostabi.Module{Name: "env", Globals: []hostabi.Global{{Name: "g", Type: byte(wasm.I32), Value: 1}}}
	table := func(elem wasm.ValueType) wasm.Import {
		return wasm.Import{Module: "env", Name: "t", Kind: wasm.ExternTable, Table: wasm.TableType{Elem: elem, Limits: wasm.Limits{Min: 1}}}
	}
	tag := wasm.Import{Module: "env", Name: "x", Kind: wasm.ExternTag, Type: 2}
	for _, tt := range []struct {
		name    string
		imports []wasm.Import
		want    string // part of the error
	}{
		{"no such global", []wasm.Import{importGlobal("h", wasm.I32, false)}, `"env"."h" (a global of type i32)`},
		{"of another type", []wasm.Import{importGlobal("g", wasm.I64, false)}, `"env"."g" (a global of type i64)`},
		{"mutable", []wasm.Import{importGlobal("g", wasm.I32, true)}, `"env"."g" (a mutable global of type i32)`},
		{"reference", []wasm.Import{importGlobal("r", wasm.ExternRef, false)}, "of type externref, of which a host can't offer a value"},
		{"shared memory", []wasm.Import{{Module: "env", Name: "m", Kind: wasm.ExternMemory, Memory: wasm.Limits{Min: 1, Max: 2, HasMax: true, Shared: true}}}, "threads"},
		{"table of non-null", []wasm.Import{table(wasm.RefType(wasm.HeapFunc, false))}, "can't be empty"},
		{"the same table", []wasm.Import{table(wasm.FuncRef), table(wasm.FuncRef)}, `table "env"."t", which is imported twice`},
		{"the same tag", []wasm.Import{tag, tag}, `tag "env"."x", which is imported twice`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := context.Background()
			r, err := New(ctx, NewConfig().WithModules(env))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close(ctx)
			_, err = r.Compile(ctx, importing(nil, tt.imports).Encode())
			var me *ModuleError
			if !errors.As(err, &me) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one about %s", err, tt.want)
			}
		})
	}
	// A value that doesn't change may be imported twice.
	m := importing([]wasm.ValueType{wasm.I32}, []wasm.Import{importGlobal("g", wasm.I32, false), importGlobal("g", wasm.I32, false)},
		wasm.Instr{Op: wasm.OpCall, Index: 0},
		wasm.Instr{Op: wasm.OpGlobalGet, Index: 0}, wasm.Instr{Op: wasm.OpGlobalGet, Index: 1}, wasm.Instr{Op: wasm.OpI32Add})
	if got := checkpointAndMain(t, m, func(*snapshot.Snapshot) {}, env); !slices.Equal(got, []uint64{2}) {
		t.Errorf("got %d, want 2", got)
	}
	if _, _, err := Instrument(m.Encode(), env); err != nil {
		t.Error(err)
	}
	if _, _, err := Instrument(m.Encode()); err == nil || !strings.Contains(err.Error(), `"env"."g"`) {
		t.Errorf("without the host module: error %v", err)
	}
}

// TestCachedGlobals compiles a module in one cache folder with other values of its imported global.
func TestCachedGlobals(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	binary := importing([]wasm.ValueType{wasm.I32}, []wasm.Import{importGlobal("g", wasm.I32, false)},
		wasm.Instr{Op: wasm.OpGlobalGet, Index: 0}).Encode()
	for _, value := range []uint64{5, 6, 5} {
		env := &hostabi.Module{Name: "env", Globals: []hostabi.Global{{Name: "g", Type: byte(wasm.I32), Value: value}}}
		r, err := New(ctx, NewConfig().WithCacheDir(dir).WithModules(env))
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Compile(ctx, binary)
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.Start(ctx, StartConfig{ID: "c"})
		if err != nil {
			t.Fatal(err)
		}
		if s, err := c.Resume(ctx); err != nil || s != snapshot.Completed || !slices.Equal(c.Results(), []uint64{value}) {
			t.Errorf("%v, error %v, results %d; want %d", s, err, c.Results(), value)
		}
		_ = c.Close()
		if err := r.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInternalise checks that the module keeps its index spaces and is valid, and that the original isn't touched.
func TestInternalise(t *testing.T) {
	m := importing(nil, []wasm.Import{
		importGlobal("a", wasm.F32, true),
		{Module: "env", Name: "m", Kind: wasm.ExternMemory, Memory: wasm.Limits{Min: 2}},
		importGlobal("b", wasm.I32, false),
	})
	m.Globals = []wasm.Global{{Type: wasm.GlobalType{Type: wasm.I32}, Init: wasm.Expr{byte(wasm.OpGlobalGet), 1, byte(wasm.OpEnd)}}}
	m.Data = []wasm.Data{{Mode: wasm.Active, Offset: wasm.Expr{byte(wasm.OpGlobalGet), 1, byte(wasm.OpEnd)}, Init: []byte("x")}}
	before := m.Encode()
	if err := wasm.Validate(m); err != nil {
		t.Fatal(err)
	}
	out, err := instrument.Internalise(m, func(im *wasm.Import) (instrument.GlobalValue, error) {
		return instrument.GlobalValue{Lo: uint64(len(im.Name))}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := wasm.Validate(out); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Encode(), before) {
		t.Error("the original was changed")
	}
	env, err := wasm.NewEnv(out)
	if err != nil {
		t.Fatal(err)
	}
	want := []wasm.GlobalType{{Type: wasm.F32, Mutable: true}, {Type: wasm.I32}, {Type: wasm.I32}}
	if len(out.Imports) != 1 || !slices.Equal(env.Globals, want) || len(env.Memories) != 1 || env.NumImportedMemories != 0 {
		t.Errorf("imports %+v, globals %+v, memories %+v", out.Imports, env.Globals, env.Memories)
	}
}

// TestManyMissing loads a module that wants much that nobody provides: the error names some of it.
func TestManyMissing(t *testing.T) {
	for n, want := range map[int]string{
		maxMissing:     `"env"."7" (a global of type i32); here it can`,
		maxMissing + 3: `"env"."7" (a global of type i32), and 3 more; here it can`,
	} {
		var imports []wasm.Import
		for i := range n {
			imports = append(imports, importGlobal(strconv.Itoa(i), wasm.I32, false))
		}
		binary := importing(nil, imports).Encode()
		if _, err := testRuntime(t).Compile(t.Context(), binary); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d imports: %v, want %s", n, err, want)
		}
	}
}
