package runtime

import (
	"context"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// collectedLike is as large as an exception of wazero's, so that it gets the memory of one that was collected.
type collectedLike struct {
	_      *int
	params []uint64
}

// collectorModule offers, in the place of things.thing, a function that has garbage collected, and its memory used again.
func collectorModule(keep *[]*collectedLike) *hostabi.Module {
	return &hostabi.Module{Name: thingsModule.Name, Functions: []hostabi.Function{{
		Name: "thing", Params: []api.ValueType{api.ValueTypeI32}, Results: []api.ValueType{api.ValueTypeExternref},
		Call: func(_ context.Context, _ *hostabi.Guest, _ hostabi.Instance, stack []uint64) {
			goruntime.GC()
			goruntime.GC()
			for range 100_000 {
				*keep = append(*keep, &collectedLike{params: []uint64{0x4343}})
			}
			stack[0] = 0
		},
	}}}
}

// throwing returns the code that throws v with tag 0 and catches it, with a clause of this kind: v, or the reference to
// the exception, is left on the stack.
func throwing(kind byte, v int32, result wasm.ValueType) []wasm.Instr {
	return []wasm.Instr{
		{Op: wasm.OpBlock, Block: wasm.BlockValue(result)},
		{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: kind, Tag: 0, Label: 0}}},
		constant(v),
		ins(wasm.OpThrow, 0),
		ins(wasm.OpEnd),
		ins(wasm.OpUnreachable),
		ins(wasm.OpEnd),
	}
}

// withTag adds a tag whose exceptions carry an i32.
func withTag(m *wasm.Module) {
	m.Tags = []uint32{uint32(len(m.Types))}
	m.Types = append(m.Types, wasm.FuncType{Params: []wasm.ValueType{wasm.I32}})
}

// TestExceptionsAreKept holds an exception while another is thrown and caught, and while garbage is collected; then it throws
// the first again. In wazero v1.12 that one is gone.
func TestExceptionsAreKept(t *testing.T) {
	var code []wasm.Instr
	code = append(code, throwing(wasm.CatchAllRef, 42, wasm.ExnRef)...)
	code = append(code, ins(wasm.OpLocalSet, 0))
	code = append(code, throwing(wasm.CatchTag, 7, wasm.I32)...)
	code = append(code, ins(wasm.OpDrop), constant(0), ins(wasm.OpCall, fnThing), ins(wasm.OpDrop))
	code = append(
		code,
		wasm.Instr{Op: wasm.OpBlock, Block: wasm.BlockValue(wasm.I32)},
		wasm.Instr{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchTag, Tag: 0, Label: 0}}},
		ins(wasm.OpLocalGet, 0),
		ins(wasm.OpThrowRef),
		ins(wasm.OpEnd),
		ins(wasm.OpUnreachable),
		ins(wasm.OpEnd),
		wasm.Instr{Op: wasm.OpRefNull, Heap: wasm.HeapExn},
		ins(wasm.OpLocalSet, 0),
		ins(wasm.OpCall, fnCheckpoint),
	)
	// The function's own label takes a reference as well.
	own := []wasm.Instr{
		{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchAllRef, Label: 0}}},
		constant(5),
		ins(wasm.OpThrow, 0),
		ins(wasm.OpEnd),
		ins(wasm.OpUnreachable),
	}
	exnref := []wasm.ValueType{wasm.ExnRef}
	binary := assemble(
		t, withTag, fn{results: exnref, code: own},
		fn{results: []wasm.ValueType{wasm.I32}, locals: exnref, code: append([]wasm.Instr{ins(wasm.OpCall, fnFirst), ins(wasm.OpDrop)}, code...)},
	)
	var keep []*collectedLike
	module := collectorModule(&keep)
	ctx := context.Background()
	r, err := New(ctx, NewConfig().WithModules(module))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(ctx)
	c := start(t, r, binary, StartConfig{Hosts: []hostabi.Instance{quiet{module}}})
	status, err := c.Resume(ctx)
	if err != nil || status != snapshot.Suspended {
		t.Fatalf("status %s, error %v, the guest's %v", status, err, c.Err())
	}
	if n := len(c.exceptions.kept); n != 0 {
		t.Errorf("%d exceptions are kept over an await", n)
	}
	if status, err = c.Resume(ctx); err != nil || status != snapshot.Completed || c.Results()[0] != 42 {
		t.Errorf("status %s, error %v, results %v, the guest's error %v", status, err, c.Results(), c.Err())
	}
	goruntime.KeepAlive(keep)
}

// TestTooManyExceptions ends a guest that catches more exceptions by reference than the runtime keeps, and none that stays
// below.
func TestTooManyExceptions(t *testing.T) {
	var code []wasm.Instr
	code = append(code, wasm.Instr{Op: wasm.OpLoop})
	code = append(code, throwing(wasm.CatchAllRef, 1, wasm.ExnRef)...)
	code = append(
		code, ins(wasm.OpDrop), ins(wasm.OpLocalGet, 0), constant(1), ins(wasm.OpI32Sub), ins(wasm.OpLocalTee, 0),
		ins(wasm.OpBrIf, 0), ins(wasm.OpEnd), constant(9),
	)
	binary := assemble(t, withTag, fn{params: []wasm.ValueType{wasm.I32}, results: []wasm.ValueType{wasm.I32}, code: code})
	r := thingsRuntime(t)
	for n, want := range map[uint64]string{100: "", 101: "more than 100 exceptions caught by reference"} {
		c := start(t, r, binary, StartConfig{Args: []uint64{n}, Hosts: []hostabi.Instance{quiet{thingsModule}}})
		c.exceptions.most = 100
		status, err := c.Resume(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if want == "" && (status != snapshot.Completed || c.Results()[0] != 9) {
			t.Errorf("%d exceptions: %s, %v", n, status, c.Err())
		}
		if want != "" && (status != snapshot.Failed || !strings.Contains(c.Err().Error(), want)) {
			t.Errorf("%d exceptions: %s, error %v, want %q", n, status, c.Err(), want)
		}
	}
}
