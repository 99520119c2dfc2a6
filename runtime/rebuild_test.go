package runtime

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// frameAt returns a frame of a function's first site, without values.
func frameAt(t *testing.T, m *Module, function uint32) snapshot.Frame {
	t.Helper()
	for _, s := range m.plan.Sites {
		if s.Function == function {
			return snapshot.Frame{Function: function, Offset: s.Offset}
		}
	}
	t.Fatalf("function %d has no site", function)
	return snapshot.Frame{}
}

// TestFrameShapes restores a made-up stack with two frames of one site, of which one has a value that reads like what says who
// called the other. They must not be taken for the same: that was an index out of range in the host.
func TestFrameShapes(t *testing.T) {
	ctx := context.Background()
	const f, g, h = fnFirst, fnFirst + 1, fnFirst + 2
	const caller = uint32(snapshot.FuncRef) // a function whose index is a type's
	fns := []fn{
		{results: []wasm.ValueType{wasm.RefType(tVoid, true)}, code: []wasm.Instr{ins(wasm.OpCall, fnCheckpoint), {Op: wasm.OpRefNull, Heap: tVoid}}},
		{results: []wasm.ValueType{wasm.FuncRef}, code: []wasm.Instr{ins(wasm.OpReturnCall, f)}},
		{code: []wasm.Instr{ins(wasm.OpCall, f), ins(wasm.OpDrop)}},
	}
	for len(fns) < int(caller)-fnFirst {
		fns = append(fns, fn{})
	}
	fns = append(fns,
		fn{code: []wasm.Instr{ins(wasm.OpCall, g), ins(wasm.OpDrop)}},
		fn{code: []wasm.Instr{ins(wasm.OpCall, caller), ins(wasm.OpCall, h)}})
	c := start(t, thingsRuntime(t), assemble(t, nil, fns...), StartConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}})
	if _, err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	outer, inner := frameAt(t, c.module, caller), frameAt(t, c.module, f)
	other := inner
	other.Slots = []snapshot.Slot{{Index: outer.Offset, Value: snapshot.Value{Type: snapshot.FuncRef}}}
	s.Frames = []snapshot.Frame{outer, inner, frameAt(t, c.module, h), other}
	_, err = c.module.Restore(ctx, s, RestoreConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}})
	if !errors.Is(err, ErrMismatch) {
		t.Errorf("error %v, want %v", err, ErrMismatch)
	}
}

// inbox is the state of a host module whose await call takes what isn't there twice.
type inbox struct {
	quiet
	taken  int
	onTake func()
}

var inboxModule = &hostabi.Module{Name: "inbox", Functions: []hostabi.Function{{
	Name: "take", Results: []api.ValueType{api.ValueTypeI32},
	Await: func(_ context.Context, _ *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
		if p == nil {
			return &hostabi.Pending{Kind: hostabi.KindYield}
		}
		b := i.(*inbox)
		b.taken++
		stack[0] = uint64(b.taken)
		b.onTake()
		return nil
	},
}}}

// TestCancelledRebuild: a context that is done when the await call is complete and the stack isn't yet rebuilt ends the
// coroutine. Were it driven on, the call would be completed again, and what it took the first time be lost.
func TestCancelledRebuild(t *testing.T) {
	for _, processors := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d processors", processors), func(t *testing.T) {
			defer goruntime.GOMAXPROCS(goruntime.GOMAXPROCS(processors))
			cancelledRebuild(t)
		})
	}
}

func cancelledRebuild(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := New(context.Background(), NewConfig().WithModules(inboxModule))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	m := &wasm.Module{
		Types:     []wasm.FuncType{{Results: []wasm.ValueType{wasm.I32}}},
		Imports:   []wasm.Import{{Module: inboxModule.Name, Name: "take", Kind: wasm.ExternFunc}},
		Functions: []uint32{0},
		Exports:   []wasm.Export{{Name: "main", Kind: wasm.ExternFunc, Index: 1}},
	}
	var body []byte
	for _, in := range []wasm.Instr{ // a frame in a try_table, so that the stack is rebuilt
		ins(wasm.OpBlock),
		{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchAll, Label: 0}}},
		ins(wasm.OpCall, 0), ins(wasm.OpReturn), ins(wasm.OpEnd),
		ins(wasm.OpEnd),
		constant(-1), ins(wasm.OpEnd),
	} {
		body = wasm.AppendInstr(body, &in)
	}
	m.Code = []wasm.Code{wasm.NewCode(nil, body)}
	box := &inbox{quiet: quiet{inboxModule}, onTake: cancel}
	c := start(t, r, m.Encode(), StartConfig{Hosts: []hostabi.Instance{box}})
	if _, err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resume(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if _, err := c.Resume(context.Background()); !errors.Is(err, ErrClosed) || box.taken != 1 {
		t.Errorf("driven on: error %v, %d taken; want %v, and one", err, box.taken, ErrClosed)
	}
	if _, err := c.Snapshot(); !errors.Is(err, ErrClosed) {
		t.Errorf("snapshot: error %v, want %v", err, ErrClosed)
	}
}

// TestResumeModulesInUse: a resume module that somebody is about to instantiate outlives its place among those that are kept.
func TestResumeModulesInUse(t *testing.T) {
	ctx := context.Background()
	const inner = fnFirst
	fns := []fn{{code: []wasm.Instr{ins(wasm.OpCall, fnCheckpoint)}}}
	for range maxResumeModules + 2 {
		fns = append(fns, fn{code: []wasm.Instr{ins(wasm.OpCall, inner)}})
	}
	c := start(t, thingsRuntime(t), assemble(t, nil, fns...), StartConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}})
	rebuild := func(outer uint32) *resumeModule {
		frames := []snapshot.Frame{frameAt(t, c.module, outer), frameAt(t, c.module, inner)}
		r, _, err := c.module.resumeFor(ctx, frames, fnCheckpoint)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := rebuild(inner + 1)
	for i := range uint32(maxResumeModules + 1) {
		rebuild(inner + 2 + i).release(ctx)
	}
	inst, err := first.instantiate(ctx, c.module.runtime.engine, c.main)
	if err != nil {
		t.Fatal(err)
	}
	first.release(ctx)
	if err := inst.Close(ctx); err != nil {
		t.Error(err)
	}
	if n := first.users.Load(); n != 0 {
		t.Errorf("%d users are left", n)
	}
}

// TestOutermostFrame restores made-up stacks whose outermost function returns something else than the entry: its results would
// be taken for the entry's, and one was an address in the host.
func TestOutermostFrame(t *testing.T) {
	ctx := context.Background()
	config := StartConfig{Hosts: []hostabi.Instance{quiet{thingsModule}}}
	c := start(t, thingsRuntime(t), assemble(t, nil,
		fn{results: []wasm.ValueType{wasm.FuncRef}, code: []wasm.Instr{ins(wasm.OpCall, fnCheckpoint), {Op: wasm.OpRefNull, Heap: wasm.HeapFunc}}},
		fn{results: []wasm.ValueType{wasm.I32}, code: []wasm.Instr{ins(wasm.OpCall, fnFirst), ins(wasm.OpRefIsNull)}}), config)
	if _, err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, frames := range [][]snapshot.Frame{s.Frames[1:], nil} {
		s.Frames = frames
		if _, err := c.module.Restore(ctx, s, RestoreConfig{Hosts: config.Hosts}); !errors.Is(err, ErrMismatch) {
			t.Errorf("%d frames: error %v, want %v", len(frames), err, ErrMismatch)
		}
	}
}
