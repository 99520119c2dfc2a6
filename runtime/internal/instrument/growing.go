package instrument

import (
	"strconv"

	"github.com/durun/durun/runtime/internal/wasm"
)

// Memories and tables grow by calls of functions in place of the instructions, which know how far that may go: see [ExportRoom]. The
// engine's own limits would not do, as it takes them from the module, which is the same for all coroutines.

const pageSize = 65536 // of memory

// grow emits what stands for instruction i, a memory.grow or table.grow.
func (e *emitter) grow(i int32) {
	in := &e.f.instrs[i]
	var d wasm.Instr
	if err := wasm.NewReader(e.f.code.Body()[in.off:in.end]).Next(&d); err != nil {
		panic(err) // it has been validated
	}
	e.index(wasm.OpCall, e.link.grow(&d))
}

func (r *running) grow(in *wasm.Instr) uint32 { return r.growth(r.env, in) }

func (r *resume) grow(in *wasm.Instr) uint32 { return r.growth(r.env, in) }

// growth returns the function for an instruction. It fails, as the instruction does, where there is no room.
func (u *unit) growth(env *wasm.Env, in *wasm.Instr) uint32 {
	key := "memory.grow"
	unit := int64(pageSize)
	params := []wasm.ValueType{wasm.I32}
	if in.Op == wasm.OpTableGrow {
		elem := env.Tables[in.Index].Elem
		key = "table.grow " + strconv.Itoa(int(in.Index))
		unit = ElementSize
		params = []wasm.ValueType{elem, wasm.I32}
	}
	if f, ok := u.moves[key]; ok {
		return f
	}
	by := uint32(len(params) - 1)
	bytes := by + 1
	var b []byte
	index := func(op wasm.Opcode, i uint32) { b = wasm.AppendU32(append(b, byte(op)), i) }
	number := func(v int32) { b = wasm.AppendS32(append(b, byte(wasm.OpI32Const)), v) }
	index(wasm.OpLocalGet, by)
	b = append(b, byte(wasm.OpI64ExtendI32U))
	b = wasm.AppendS64(append(b, byte(wasm.OpI64Const)), unit)
	b = append(b, byte(wasm.OpI64Mul))
	index(wasm.OpLocalTee, bytes)
	index(wasm.OpGlobalGet, u.roomG)
	b = append(b, byte(wasm.OpI64GtU), byte(wasm.OpIf), 0x40)
	number(-1)
	b = append(b, byte(wasm.OpReturn), byte(wasm.OpEnd))
	for i := range by + 1 {
		index(wasm.OpLocalGet, i)
	}
	b = wasm.AppendInstr(b, in)
	index(wasm.OpLocalTee, by)
	number(-1)
	b = append(b, byte(wasm.OpI32Ne), byte(wasm.OpIf), 0x40)
	index(wasm.OpGlobalGet, u.roomG)
	index(wasm.OpLocalGet, bytes)
	b = append(b, byte(wasm.OpI64Sub))
	index(wasm.OpGlobalSet, u.roomG)
	b = append(b, byte(wasm.OpEnd))
	index(wasm.OpLocalGet, by)
	f := u.add(params, []wasm.ValueType{wasm.I32}, []wasm.ValueType{wasm.I64}, b)
	u.moves[key] = f
	return f
}
