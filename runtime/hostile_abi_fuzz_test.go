package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// abiCalls assembles a guest that calls functions of the import module "durun" with arbitrary arguments, one for each 24 bytes
// of script: the function, then 32-bit words. What a call returns it keeps in its memory, at which others may point.
func abiCalls(script []byte) []byte {
	m := &wasm.Module{Memories: []wasm.Limits{{Min: 1, Max: 2, HasMax: true}}}
	functions := abiModule.Functions
	for i, f := range functions {
		var t wasm.FuncType
		for _, p := range f.Params {
			t.Params = append(t.Params, wasm.ValueType(p))
		}
		for _, r := range f.Results {
			t.Results = append(t.Results, wasm.ValueType(r))
		}
		m.Types = append(m.Types, t)
		m.Imports = append(m.Imports, wasm.Import{Module: hostabi.ModuleName, Name: f.Name, Kind: wasm.ExternFunc, Type: uint32(i)})
	}
	m.Types = append(m.Types, wasm.FuncType{})
	m.Functions = []uint32{uint32(len(m.Types) - 1)}
	var body []byte
	emit := func(in wasm.Instr) { body = wasm.AppendInstr(body, &in) }
	for n := 0; len(script) >= 24; n, script = n+1, script[24:] {
		k := int(binary.LittleEndian.Uint32(script)) % len(functions)
		f := functions[k]
		if len(f.Results) > 0 {
			emit(constant(int32(4 * n % 4096)))
		}
		for i, p := range f.Params {
			word := binary.LittleEndian.Uint32(script[4+4*i:])
			if p == api.ValueTypeI64 {
				emit(wasm.Instr{Op: wasm.OpI64Const, Const: uint64(int64(int32(word)))})
				continue
			}
			emit(constant(int32(word)))
		}
		emit(ins(wasm.OpCall, uint32(k)))
		if len(f.Results) > 0 {
			emit(wasm.Instr{Op: wasm.OpI32Store})
		}
	}
	emit(ins(wasm.OpEnd))
	m.Code = []wasm.Code{wasm.NewCode(nil, body)}
	m.Exports = []wasm.Export{
		{Name: "_start", Kind: wasm.ExternFunc, Index: uint32(len(functions))},
		{Name: "memory", Kind: wasm.ExternMemory},
	}
	return m.Encode()
}

// abiCall is a call for abiCalls.
func abiCall(function string, args ...uint32) []byte {
	var script []byte
	for i, f := range abiModule.Functions {
		if f.Name == function {
			script = binary.LittleEndian.AppendUint32(script, uint32(i))
		}
	}
	for i := range 5 {
		a := uint32(0)
		if i < len(args) {
			a = args[i]
		}
		script = binary.LittleEndian.AppendUint32(script, a)
	}
	return script
}

// FuzzABI drives guests that call the ABI with arbitrary arguments, beside one that is well. They may trap, end, or wait until
// their time is up; the other one, of the same runtime and store, must not notice, and the state of each must be one that can be
// captured and restored.
func FuzzABI(f *testing.F) {
	seq := func(calls ...[]byte) []byte {
		var all []byte
		for _, c := range calls {
			all = append(all, c...)
		}
		return all
	}
	const far = 1<<32 - 4
	forever := uint32(1<<32 - 1)
	f.Add(seq(abiCall("begin", 1, 0, 0, 8, 8), abiCall("wait", 0, 1, 1, forever), abiCall("result", 1, 0, 9), abiCall("drop", 1)))
	f.Add(seq(abiCall("begin", 2, 64, 4, 0, 0), abiCall("yield", 0, 10), abiCall("wait", 4, 1, 1, 0), abiCall("message", 1, far, 3)))
	f.Add(seq(abiCall("begin", 3, 64, 1<<17, 0, 0), abiCall("begin", 4, 64, 3, 0, 0), abiCall("cancel", 1), abiCall("checkpoint")))
	f.Add(seq(abiCall("wait", far, 2, 1, forever)))
	f.Add(seq(abiCall("wait", 0, 1<<30, 1, forever)))
	f.Add(seq(abiCall("input", 8, forever), abiCall("output", 0, 1<<16), abiCall("id", 65530, 100)))
	f.Add(seq(abiCall("wait", 0, 16384, 1<<31+5, 1000), abiCall("begin", 77, 0, 0, 0, 0)))
	r, err := New(context.Background(), NewConfig().WithModules(scriptModule))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = r.Close(context.Background()) })
	well := scriptGuest(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 24*64 {
			return
		}
		module, err := r.Compile(t.Context(), abiCalls(script))
		if err != nil {
			t.Fatal(err)
		}
		defer module.Close(t.Context())
		store := snapshot.NewStore(bucket.NewMem())
		outside := &Outside{Handlers: handlers(t)}
		c, err := module.Start(t.Context(), StartConfig{ID: "hostile", Input: []byte("input")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		d := Driver{Store: store, Outside: outside}
		status, err := d.Drive(ctx, c)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if closeErr := c.Close(); closeErr != nil {
			t.Error(closeErr)
		}
		if err != nil {
			// It waits: it is there to be gone on with.
			again, err := module.RestoreFrom(t.Context(), store, "hostile", 0, RestoreConfig{})
			if err != nil {
				t.Fatalf("status %v: %v", status, err)
			}
			_ = again.Close()
		}

		s := &scripted{steps: []step{begin(hostabi.Call, "echo", []byte("hello")), awaitAll(1), results(1)}}
		other, err := well.Start(t.Context(), StartConfig{ID: "well", Hosts: []hostabi.Instance{s}})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if status, err := d.Drive(t.Context(), other); err != nil || status != snapshot.Completed {
			t.Fatal(status, err)
		}
		if got := logsOf(t, store, "well"); got != "ended [1] <nil>\n1: \"hello\" <nil>\n" {
			t.Errorf("the other one wrote %q", got)
		}
	})
}
