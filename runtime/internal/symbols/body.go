package symbols

import (
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// body is what a function's code shows of its source.
type body struct {
	typ    *wasm.FuncType
	nframes int
	frame  int32    // the size of its frame on the stack in memory, -1 if it makes none
	spills []int32  // by parameter: where in the frame it is stored at first, -1 unknown
	refs   []uint32 // constants that may be addresses, sorted
	size   int
	slots []uint16 // offset<<4|width of memory accesses
	calls  []uint32
	table bool
}

func bodies(m *wasm.Module, lo, hi uint32) []body {
	list := make([]body, len(m.Code))
	imported := uint32(len(m.FunctionNames()) - len(m.Code))
	var table []uint32
	for _, e := range m.Elements {
		var in wasm.Instr
		r := wasm.NewReader(e.Offset)
		if r.Next(&in) != nil || in.Op != wasm.OpI32Const || in.Const > 1<<20 { continue }
		for len(table) < int(in.Const) + len(e.Funcs) { table = append(table, 0) }
		for k, f := range e.Funcs {
			table[int(in.Const)+k] = f
			if f >= imported { list[f-imported].table = true }
		}
	}
	for _, e := range m.Exports { if e.Kind == wasm.ExternFunc && e.Index >= imported { list[e.Index-imported].table = true } }
	var in wasm.Instr
	var rd wasm.Reader
	for i := range m.Code {
		b := &list[i]
		b.typ = &m.Types[m.Functions[i]]
		b.frame = -1
		b.size = len(m.Code[i].Raw)
		np := len(b.typ.Params)
		b.spills = make([]int32, np)
		set := make([]bool, np)
		for k := range b.spills {
			b.spills[k] = -1
		}
		rd.Reset(m.Code[i].Body())
		var p1, p2, p3 wasm.Opcode
		var i1, i2, i3 uint32
		var c1 uint64
		base := int64(-1)
		for rd.Next(&in) == nil {
			switch in.Op {
			case wasm.OpI32Sub, wasm.OpI32Add:
				if in.Op == wasm.OpI32Add {
					c1 = -c1 & 0xffffffff
				}
				if c1 >= 1<<24 { break }
				if p1 == wasm.OpI32Const && (p2 == wasm.OpGlobalGet && i2 == 0 || p2 == wasm.OpLocalTee && p3 == wasm.OpGlobalGet && i3 == 0) {
					if b.nframes++; b.frame < 0 {
						b.frame = int32(c1)
						base = -2
					}
				}
			case wasm.OpI32Const:
				if v := uint32(in.Const); v >= lo && v < hi {
					b.refs = append(b.refs, v)
				}
				if in.Const > 0 && in.Const < uint64(len(table)) && table[in.Const] != 0 { b.calls = append(b.calls, table[in.Const]) }
			case wasm.OpCall:
				b.calls = append(b.calls, in.Index)
			case wasm.OpLocalSet, wasm.OpLocalTee:
				if base == -2 {
					base = int64(in.Index)
				}
				if int(in.Index) < np {
					set[in.Index] = true
				}
			case wasm.OpI32Store, wasm.OpI64Store, wasm.OpF32Store, wasm.OpF64Store, wasm.OpI32Store8, wasm.OpI32Store16:
				if p1 == wasm.OpLocalGet && int(i1) < np && !set[i1] && b.spills[i1] < 0 && in.MemArg.Offset < 1<<24 {
					b.spills[i1] = int32(in.MemArg.Offset)
				}
				if in.MemArg.Offset >= uint64(lo) && in.MemArg.Offset < uint64(hi) {
					b.refs = append(b.refs, uint32(in.MemArg.Offset))
				}
			case wasm.OpI32Load, wasm.OpI64Load, wasm.OpI32Load8S, wasm.OpI32Load8U, wasm.OpI32Load16S, wasm.OpI32Load16U, wasm.OpF64Load, wasm.OpF32Load:
				if in.MemArg.Offset >= uint64(lo) && in.MemArg.Offset < uint64(hi) {
					b.refs = append(b.refs, uint32(in.MemArg.Offset))
				}
			}
			if in.Op == wasm.OpI32Add && p1 == wasm.OpI32Const && p2 == wasm.OpLocalGet && int64(i2) == base && c1 > 0xfffff000 {
				b.slots = append(b.slots, uint16(-c1&0xfff)<<4)
			}
			if in.Op >= wasm.OpI32Load && in.Op <= wasm.OpI64Load32U && in.MemArg.Offset < 4096 && p1 == wasm.OpLocalGet && int64(i1) == base {
				b.slots = append(b.slots, uint16(in.MemArg.Offset)<<4|uint16(widths[in.Op-wasm.OpI32Load]))
			}
			p3, i3 = p2, i2
			p2, i2 = p1, i1
			p1, i1, c1 = in.Op, in.Index, in.Const
		}
		slices.Sort(b.slots)
		b.slots = slices.Compact(b.slots)
		slices.Sort(b.refs)
		b.refs = slices.Compact(b.refs)
	}
	return list
}

var widths = [...]uint8{4, 8, 4, 8, 1, 1, 2, 2, 1, 1, 2, 2, 4, 4, 4, 8, 4, 8, 1, 2, 1, 2, 4}
