package runtime

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// thingsModule offers a function that returns an externref, null if its argument is 0.
var thingsModule = &hostabi.Module{Name: "things", Functions: []hostabi.Function{{
	Name: "thing", Params: []api.ValueType{api.ValueTypeI32}, Results: []api.ValueType{api.ValueTypeExternref},
	Call: func(_ context.Context, _ *hostabi.Guest, _ hostabi.Instance, stack []uint64) {
		stack[0] = uint64(uint32(stack[0]))
	},
}}}

// The first functions and types of the programs of assemble: imports, then those given.
const (
	fnCheckpoint, fnThing, fnFirst = 0, 1, 2
	tVoid, tThing, tI32, tFirst    = 0, 1, 2, 3
)

// fn is a function of an assembled program.
type fn struct {
	params, results, locals []wasm.ValueType
	code                    []wasm.Instr
}

func ins(op wasm.Opcode, index ...uint32) wasm.Instr {
	in := wasm.Instr{Op: op}
	if len(index) > 0 {
		in.Index = index[0]
	}
	if len(index) > 1 {
		in.Index2 = index[1]
	}
	return in
}

func constant(v int32) wasm.Instr {
	return wasm.Instr{Op: wasm.OpI32Const, Const: uint64(uint32(v))}
}

// assemble returns a program with the functions, the last of which is its main; change may add to the module.
func assemble(t *testing.T, change func(m *wasm.Module), fns ...fn) []byte {
	t.Helper()
	m := &wasm.Module{
		Types: []wasm.FuncType{
			{},
			{Params: []wasm.ValueType{wasm.I32}, Results: []wasm.ValueType{wasm.ExternRef}},
			{Results: []wasm.ValueType{wasm.I32}},
		},
		Imports: []wasm.Import{
			{Module: hostabi.ModuleName, Name: hostabi.FuncCheckpoint, Kind: wasm.ExternFunc, Type: tVoid},
			{Module: thingsModule.Name, Name: "thing", Kind: wasm.ExternFunc, Type: tThing},
		},
	}
	for _, f := range fns {
		m.Functions = append(m.Functions, uint32(len(m.Types)))
		m.Types = append(m.Types, wasm.FuncType{Params: f.params, Results: f.results})
		var groups []wasm.LocalGroup
		for _, l := range f.locals {
			groups = append(groups, wasm.LocalGroup{Count: 1, Type: l})
		}
		var body []byte
		for i := range f.code {
			body = wasm.AppendInstr(body, &f.code[i])
		}
		m.Code = append(m.Code, wasm.NewCode(groups, append(body, byte(wasm.OpEnd))))
	}
	m.Exports = []wasm.Export{{Name: "main", Kind: wasm.ExternFunc, Index: uint32(fnFirst + len(fns) - 1)}}
	if change != nil {
		change(m)
	}
	if err := wasm.Validate(m); err != nil {
		t.Fatal(err)
	}
	return m.Encode()
}

func thingsRuntime(t *testing.T) *Runtime {
	ctx := context.Background()
	r, err := New(ctx, NewConfig().WithModules(thingsModule))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(ctx) })
	return r
}

// toEnd drives a coroutine to its end through a snapshot at each await, and returns how often it was suspended.
func toEnd(t *testing.T, c *Coroutine) (*Coroutine, int) {
	t.Helper()
	ctx := context.Background()
	for n := 0; ; n++ {
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Ended() {
			return c, n
		}
		s, err := c.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		data, err := snapshot.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if s, err = snapshot.Decode(data); err != nil {
			t.Fatal(err)
		}
		if c, err = c.module.Restore(ctx, s, RestoreConfig{Hash: snapshot.Digest(data), Hosts: []hostabi.Instance{quiet{thingsModule}}}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForeignReferences: an externref or exnref that is null goes along; one that isn't ends the guest with an error that says
// where and why.
func TestForeignReferences(t *testing.T) {
	extern := []wasm.ValueType{wasm.ExternRef}
	i32 := []wasm.ValueType{wasm.I32}
	checkpoint, thing := ins(wasm.OpCall, fnCheckpoint), ins(wasm.OpCall, fnThing)
	local := func(v int32) []byte {
		return assemble(t, nil, fn{results: i32, locals: extern, code: []wasm.Instr{
			constant(v), thing, ins(wasm.OpLocalSet, 0), checkpoint, ins(wasm.OpLocalGet, 0), ins(wasm.OpRefIsNull),
		}})
	}
	operand := func(v int32) []byte {
		return assemble(t, nil, fn{results: i32, code: []wasm.Instr{constant(v), thing, checkpoint, ins(wasm.OpRefIsNull)}})
	}
	global := func(v int32) []byte {
		return assemble(t, func(m *wasm.Module) {
			m.Globals = []wasm.Global{{
				Type: wasm.GlobalType{Type: wasm.ExternRef, Mutable: true},
				Init: wasm.AppendInstr(wasm.AppendInstr(nil, &wasm.Instr{Op: wasm.OpRefNull, Heap: wasm.HeapExtern}), &wasm.Instr{Op: wasm.OpEnd}),
			}}
		}, fn{results: i32, code: []wasm.Instr{constant(v), thing, ins(wasm.OpGlobalSet, 0), checkpoint, ins(wasm.OpGlobalGet, 0), ins(wasm.OpRefIsNull)}})
	}
	table := func(v int32) []byte {
		return assemble(t, func(m *wasm.Module) {
			m.Tables = []wasm.Table{{Type: wasm.TableType{Elem: wasm.ExternRef, Limits: wasm.Limits{Min: 3}}}}
		}, fn{results: i32, code: []wasm.Instr{
			constant(2), constant(v), thing, ins(wasm.OpTableSet, 0), checkpoint, constant(2), ins(wasm.OpTableGet, 0), ins(wasm.OpRefIsNull),
		}})
	}
	// A caught exception that is kept across an await, and one that is dropped before.
	exception := func(v int32) []byte {
		keep := []wasm.Instr{ins(wasm.OpLocalSet, 0)}
		if v == 0 {
			keep = []wasm.Instr{ins(wasm.OpDrop)}
		}
		code := append([]wasm.Instr{
			{Op: wasm.OpBlock, Block: wasm.BlockValue(wasm.ExnRef)},
			{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchAllRef, Label: 0}}},
			ins(wasm.OpThrow, 0),
			ins(wasm.OpEnd), ins(wasm.OpUnreachable),
			ins(wasm.OpEnd),
		}, keep...)
		return assemble(t, func(m *wasm.Module) { m.Tags = []uint32{tVoid} }, fn{
			results: i32, locals: []wasm.ValueType{wasm.ExnRef},
			code: append(code, checkpoint, ins(wasm.OpLocalGet, 0), ins(wasm.OpRefIsNull)),
		})
	}
	for _, c := range []struct {
		name    string
		program func(v int32) []byte
		want    string
	}{
		{"local", local, "call in function 2 at offset 0x9: an externref that isn't null is live across the call"},
		{"operand", operand, "call in function 2 at offset 0x5: an externref that isn't null is live across the call"},
		{"global", global, "call in function 2 at offset 0x7: global 0: it holds an externref that isn't null"},
		{"table", table, "element 2 of table 0: it is an externref that isn't null"},
		{"exception", exception, "an exnref that isn't null, a caught exception, is live across the call"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := thingsRuntime(t)
			config := StartConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}}
			null, awaits := toEnd(t, start(t, r, c.program(0), config))
			if null.Err() != nil || awaits != 1 || null.Results()[0] != 1 {
				t.Errorf("null: %d awaits, results %v, error %v", awaits, null.Results(), null.Err())
			}
			co := start(t, r, c.program(7), config)
			status, err := co.Resume(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if status != snapshot.Failed || co.ExitCode() != ExitCodeTrap {
				t.Errorf("status %s, exit code %d", status, co.ExitCode())
			}
			err = co.Err()
			var e *CaptureError
			if !errors.As(err, &e) || !e.HasFunction || !strings.Contains(e.Error(), c.want) {
				t.Errorf("error %v, want a CaptureError that says %q", err, c.want)
			}
		})
	}
}

// TestTailCallsStay makes ten million tail calls, direct and indirect, and suspends now and then: neither the stack nor the
// snapshot grows.
func TestTailCallsStay(t *testing.T) {
	n := int32(10_000_000)
	if testing.Short() {
		n = 1_000_000
	}
	every := n / 7
	step := func(next wasm.Instr, before ...wasm.Instr) fn {
		code := []wasm.Instr{
			ins(wasm.OpLocalGet, 0), ins(wasm.OpI32Eqz),
			{Op: wasm.OpIf},
			ins(wasm.OpLocalGet, 1), ins(wasm.OpReturn), ins(wasm.OpEnd),
			ins(wasm.OpLocalGet, 0), constant(every), ins(wasm.OpI32RemU), ins(wasm.OpI32Eqz),
			{Op: wasm.OpIf},
			ins(wasm.OpCall, fnCheckpoint), ins(wasm.OpEnd),
			ins(wasm.OpLocalGet, 0), constant(1), ins(wasm.OpI32Sub), ins(wasm.OpLocalGet, 1), ins(wasm.OpLocalGet, 0), ins(wasm.OpI32Xor),
		}
		return fn{params: []wasm.ValueType{wasm.I32, wasm.I32}, results: []wasm.ValueType{wasm.I32}, code: append(append(code, before...), next)}
	}
	binary := assemble(t, func(m *wasm.Module) {
		m.Tables = []wasm.Table{{Type: wasm.TableType{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: 2}}}}
		m.Elements = []wasm.Element{{
			Mode: wasm.Active, Offset: wasm.Expr{byte(wasm.OpI32Const), 0, byte(wasm.OpEnd)},
			Type: wasm.RefType(wasm.HeapFunc, false), Funcs: []uint32{fnFirst, fnFirst + 2},
		}}
	},
		step(ins(wasm.OpReturnCall, fnFirst+1)),
		step(ins(wasm.OpReturnCallRef, tFirst), ins(wasm.OpRefFunc, fnFirst+2)),
		step(ins(wasm.OpReturnCallIndirect, tFirst), constant(0)),
		fn{results: []wasm.ValueType{wasm.I32}, code: []wasm.Instr{constant(n), constant(0), ins(wasm.OpCall, fnFirst)}},
	)
	want := int32(0)
	for i := n; i > 0; i-- {
		want ^= i
	}
	c, awaits := toEnd(t, start(t, thingsRuntime(t), binary, StartConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}}))
	if c.Err() != nil || awaits != int(n/every) || int32(c.Results()[0]) != want {
		t.Errorf("%d awaits, results %v, error %v; want %d", awaits, c.Results(), c.Err(), want)
	}
}

// TestLargeTables: what a snapshot can't hold isn't captured, and the guest can go on.
func TestLargeTables(t *testing.T) {
	ctx := context.Background()
	binary := assemble(t, func(m *wasm.Module) {
		m.Tables = []wasm.Table{
			{Type: wasm.TableType{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: 1}}},
			{Type: wasm.TableType{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: 1}}},
		}
	}, fn{code: []wasm.Instr{
		constant(0),
		{Op: wasm.OpRefNull, Heap: wasm.HeapFunc},
		ins(wasm.OpTableSet, 0),
		{Op: wasm.OpRefNull, Heap: wasm.HeapFunc},
		constant(snapshot.MaxElements - 1), ins(wasm.OpTableGrow, 1), ins(wasm.OpDrop),
		ins(wasm.OpCall, fnCheckpoint),
	}})
	c := start(t, thingsRuntime(t), binary, StartConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}})
	if _, err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	var e *CaptureError
	if _, err := c.Snapshot(); !errors.As(err, &e) || !strings.Contains(e.Error(), "table 1") {
		t.Errorf("error %v, want a CaptureError about table 1", err)
	}
	if status, err := c.Resume(ctx); err != nil || status != snapshot.Completed {
		t.Errorf("driven on: %s, %v", status, err)
	}
}

// TestTableGrowsTooFar: a guest that asks for more than a snapshot holds doesn't get it. The engine would have taken 32 GiB.
func TestTableGrowsTooFar(t *testing.T) {
	binary := assemble(t, func(m *wasm.Module) {
		m.Tables = []wasm.Table{{Type: wasm.TableType{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: 1}}}}
	}, fn{results: []wasm.ValueType{wasm.I32}, code: []wasm.Instr{
		{Op: wasm.OpRefNull, Heap: wasm.HeapFunc},
		constant(-10), ins(wasm.OpTableGrow, 0),
		{Op: wasm.OpRefNull, Heap: wasm.HeapFunc},
		constant(snapshot.MaxElements), ins(wasm.OpTableGrow, 0), ins(wasm.OpI32Add),
		ins(wasm.OpCall, fnCheckpoint),
		{Op: wasm.OpRefNull, Heap: wasm.HeapFunc},
		constant(3), ins(wasm.OpTableGrow, 0), ins(wasm.OpI32Add),
	}})
	c, _ := toEnd(t, start(t, thingsRuntime(t), binary, StartConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}}))
	if c.Err() != nil || int32(c.Results()[0]) != -1-1+1 {
		t.Errorf("results %v, error %v; want -1", c.Results(), c.Err())
	}
}
