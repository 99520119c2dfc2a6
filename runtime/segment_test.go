package runtime

import (
	"fmt"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
)

// TestSuspendSegments is TestSuspendRandom and TestSuspendRegress with the code of all functions in segments, as is else
// only that of very large ones.
func TestSuspendSegments(t *testing.T) {
	seeds := 60
	if testing.Short() || guests.RaceEnabled {
		seeds = 15
	}
	for sites := 1; sites <= 2; sites++ {
		t.Run(fmt.Sprint(sites), func(t *testing.T) {
			t.Cleanup(instrument.SetSegments(1, sites))
			b, back := borrow(t)
			defer back()
			awaits := 0
			for seed := range seeds {
				binary := generated(randomBytes(uint64(seed)))
				keep(t, binary)
				got, ok := b.threeWays(t, binary, "main")
				if !ok {
					t.Fatal("refused: the generator makes nothing that is")
				}
				awaits += got.Awaits
			}
			if awaits < seeds {
				t.Errorf("%d programs suspend only %d times", seeds, awaits)
			}
			t.Run("regress", TestSuspendRegress)
		})
	}
}

// TestSuspendReentered is TestSuspendRandom and TestSuspendRegress with continuations that don't peel loops, as is else only
// so where the copies would be very large.
func TestSuspendReentered(t *testing.T) {
	seeds := 100
	if testing.Short() || guests.RaceEnabled {
		seeds = 20
	}
	t.Cleanup(instrument.SetPeeled(-1))
	b, back := borrow(t)
	defer back()
	awaits := 0
	for seed := range seeds {
		binary := generated(randomBytes(uint64(seed)))
		keep(t, binary)
		got, ok := b.threeWays(t, binary, "main")
		if !ok {
			t.Fatal("refused: the generator makes nothing that is")
		}
		awaits += got.Awaits
	}
	if awaits < seeds {
		t.Errorf("%d programs suspend only %d times", seeds, awaits)
	}
	t.Run("regress", TestSuspendRegress)
}

// largeFunction returns a program whose main has very many locals and sites. Of main's calls, each takes a local and sets
// another, and a few suspend.
func largeFunction(locals, sites int) []byte {
	m := &wasm.Module{
		Types: []wasm.FuncType{
			{},
			{Params: []wasm.ValueType{wasm.I32}, Results: []wasm.ValueType{wasm.I32}},
			{Results: []wasm.ValueType{wasm.I32}},
		},
		Imports:   []wasm.Import{{Module: labModule.Name, Name: "ask", Kind: wasm.ExternFunc, Type: 1}},
		Functions: []uint32{1, 2},
		Memories:  []wasm.Limits{{Min: 1}},
		Globals:   []wasm.Global{{Type: wasm.GlobalType{Type: wasm.I32, Mutable: true}, Init: wasm.Expr{byte(wasm.OpI32Const), 0, byte(wasm.OpEnd)}}},
		Exports: []wasm.Export{
			{Name: "main", Kind: wasm.ExternFunc, Index: 2},
			{Name: "memory", Kind: wasm.ExternMemory},
			{Name: "g0", Kind: wasm.ExternGlobal},
		},
	}
	var code []byte
	op := func(op wasm.Opcode, index ...int) {
		in := wasm.Instr{Op: op}
		if len(index) > 0 {
			in.Index, in.Const = uint32(index[0]), uint64(index[0])
		}
		code = wasm.AppendInstr(code, &in)
	}
	// f counts its calls, and asks in a few of them.
	op(wasm.OpGlobalGet, 0)
	op(wasm.OpI32Const, 1)
	op(wasm.OpI32Add)
	op(wasm.OpGlobalSet, 0)
	op(wasm.OpGlobalGet, 0)
	op(wasm.OpI32Const, sites/7)
	op(wasm.OpI32RemU)
	op(wasm.OpI32Eqz)
	code = wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpIf})
	op(wasm.OpLocalGet, 0)
	op(wasm.OpCall, 0)
	op(wasm.OpLocalSet, 0)
	op(wasm.OpEnd)
	op(wasm.OpLocalGet, 0)
	op(wasm.OpGlobalGet, 0)
	op(wasm.OpI32Add)
	op(wasm.OpEnd)
	m.Code = append(m.Code, wasm.NewCode(nil, code))

	code = nil
	for i := range sites {
		if i%16 == 0 {
			// Now and then a loop of two rounds around some of them.
			op(wasm.OpI32Const, 1)
			op(wasm.OpLocalSet, locals-1)
			code = wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpLoop})
		}
		from, to := i*11%(locals-1), (i+1)*11%(locals-1)
		op(wasm.OpLocalGet, from) // stays below
		op(wasm.OpLocalGet, from)
		op(wasm.OpCall, 1)
		op(wasm.OpI32Add)
		op(wasm.OpLocalSet, to)
		op(wasm.OpI32Const, 4*i%65536)
		op(wasm.OpLocalGet, to)
		code = wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpI32Store, MemArg: wasm.MemArg{Align: 2}})
		if i%16 == 15 {
			op(wasm.OpLocalGet, locals-1)
			op(wasm.OpI32Const, 0)
			op(wasm.OpLocalSet, locals-1)
			op(wasm.OpBrIf, 0)
			op(wasm.OpEnd)
		}
	}
	op(wasm.OpLocalGet, sites*11%(locals-1))
	op(wasm.OpEnd)
	m.Code = append(m.Code, wasm.NewCode([]wasm.LocalGroup{{Count: uint32(locals), Type: wasm.I32}}, code))
	return m.Encode()
}

// TestLargeFunction: functions with very many sites and locals are made suspendable and compiled within bounds, and suspend.
func TestLargeFunction(t *testing.T) {
	withoutRace(t)
	for _, c := range []struct{ locals, sites int }{{12, 20000}, {50000, 2000}} {
		t.Run(fmt.Sprintf("%d sites, %d locals", c.sites, c.locals), func(t *testing.T) {
			b, back := borrow(t)
			defer back()
			got, ok := b.threeWays(t, largeFunction(c.locals, c.sites), "main")
			if !ok || got.Awaits != 14 || got.Trap != "" {
				t.Errorf("%d awaits (trap %q), want 14 and none", got.Awaits, got.Trap)
			}
		})
	}
}

// BenchmarkLargeFunction makes functions with very many sites and locals suspendable, and compiles them.
func BenchmarkLargeFunction(b *testing.B) {
	for _, c := range []struct{ locals, sites int }{{12, 4000}, {12, 20000}, {50000, 2000}} {
		b.Run(fmt.Sprintf("sites=%d/locals=%d", c.sites, c.locals), func(b *testing.B) {
			binary := largeFunction(c.locals, c.sites)
			lab, back := borrow(b)
			defer back()
			for b.Loop() {
				m, err := lab.runtime.Compile(b.Context(), binary)
				if err != nil {
					b.Fatal(err)
				}
				_ = m.Close(b.Context())
			}
		})
	}
}
