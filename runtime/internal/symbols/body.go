package symbols

import (
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/durun/durun/runtime/internal/wasm"
)

// maxFrame is where places in a frame stop.
const maxFrame = 1 << 20

// maxSlot is where those stop that a body's accesses are compared with.
const maxSlot = 1 << 12

// body is what the code of a function shows of its source.
type body struct {
	signature *wasm.FuncType
	// frame is the size of its frame in memory, -1 if it makes none; frames counts those of the calls inlined into it
	// too.
	frame, frames int32
	// stored says, by parameter, where in the frame it is stored first, -1 if it isn't.
	stored []int32
	// slots are the places in its frame that it reads, or takes the address of, as slot has them. Sorted.
	slots []uint16
	// objects are the known addresses that it has as constants. Sorted.
	objects []uint32
	// fixed says that its type is that of the source: it is called through a table or from outside.
	fixed bool
	// mentioned is the last function before it that calls it or takes its address, by its place; -1 without.
	mentioned int32
	// rarity is log₂ of how rare its numbers are among all functions'.
	rarity int32
	// is is the declaration that it has for certain, or nil.
	is *declaration
}

// slot packs a place below maxSlot and the size of the access, 0 for an address that is taken.
func slot(place int32, size uint8) uint16 { return uint16(place)<<4 | uint16(size) }

// loadSizes are the sizes that the instructions from i32.load to i64.load32_u read.
var loadSizes = [...]uint8{4, 8, 4, 8, 1, 1, 2, 2, 1, 1, 2, 2, 4, 4}

// bodies reads the code of the functions that the module defines. known says which addresses are those of objects.
func bodies(m *wasm.Module, imported uint32, known map[uint32]struct{}) []body {
	list := make([]body, len(m.Code))
	table := functionTable(m)
	defined := func(function uint32) (*body, bool) {
		if i := int64(function) - int64(imported); i >= 0 && i < int64(len(list)) {
			return &list[i], true
		}
		return nil, false
	}
	for _, f := range table {
		if b, ok := defined(f); ok {
			b.fixed = true
		}
	}
	for _, e := range m.Exports {
		if b, ok := defined(e.Index); ok && e.Kind == wasm.ExternFunc {
			b.fixed = true
		}
	}
	bits := filter(known)
	mentions := make([][]mention, len(list))
	inParallel(len(list), func(from, to int) {
		s := scanner{table: table, filter: bits, known: known}
		for i := from; i < to; i++ {
			s.scan(&list[i], &m.Types[m.Functions[i]], m.Code[i].Body())
			for _, f := range s.mentions {
				if int64(f) > int64(i)+int64(imported) {
					mentions[from] = append(mentions[from], mention{int32(i), f})
				}
			}
		}
	})
	for _, list := range mentions {
		for _, x := range list {
			if b, ok := defined(x.function); ok {
				b.mentioned = max(b.mentioned, x.by)
			}
		}
	}
	return list
}

// mention says that a body, by its place, calls a function or takes its address.
type mention struct {
	by       int32
	function uint32
}

// inParallel calls do for the parts of a list of n, on all processors.
func inParallel(n int, do func(from, to int)) {
	const part = 256
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(goruntime.GOMAXPROCS(0), n/part+1) {
		workers.Go(func() {
			for {
				to := int(next.Add(part))
				if to-part >= n {
					return
				}
				do(to-part, min(to, n))
			}
		})
	}
	workers.Wait()
}

// functionTable returns the functions in the module's tables by index, as far as there are active segments. A gap is
// function 0.
func functionTable(m *wasm.Module) []uint32 {
	const maxTable = 1 << 20
	var table []uint32
	for _, e := range m.Elements {
		var in wasm.Instr
		if e.Mode != wasm.Active || wasm.NewReader(e.Offset).Next(&in) != nil || in.Op != wasm.OpI32Const ||
			in.Const+uint64(len(e.Funcs)) > maxTable {
			continue
		}
		at, end := int(in.Const), int(in.Const)+len(e.Funcs)
		if end > len(table) {
			table = append(table, make([]uint32, end-len(table))...)
		}
		copy(table[at:], e.Funcs)
	}
	return table
}

// filter answers quickly that an address isn't known; most constants aren't.
func filter(known map[uint32]struct{}) []uint64 {
	bits := make([]uint64, 1<<14)
	for a := range known {
		h := filterHash(a)
		bits[h>>6] |= 1 << (h & 63)
	}
	return bits
}

func filterHash(address uint32) uint32 { return address * 2654435761 >> 12 }

// scanner reads bodies, one after the other.
type scanner struct {
	table  []uint32
	filter []uint64
	known  map[uint32]struct{}

	reader   wasm.Reader
	mentions []uint32 // the functions that the last body mentions
	assigned []bool   // by parameter
	slots    []uint16
	objects  []uint32
}

// The frame's local, before there is one.
const (
	noFrame   = -1
	nextLocal = -2 // the next that is assigned
)

func (s *scanner) scan(b *body, signature *wasm.FuncType, code []byte) {
	b.signature, b.frame, b.mentioned = signature, -1, -1
	parameters := len(signature.Params)
	b.stored = slices.Repeat([]int32{-1}, parameters)
	s.assigned = slices.Grow(s.assigned[:0], parameters)[:parameters]
	clear(s.assigned)
	s.mentions, s.slots, s.objects = s.mentions[:0], s.slots[:0], s.objects[:0]
	base := int64(noFrame)
	s.reader.Reset(code)
	var in wasm.Instr
	// The three instructions before.
	type before struct {
		op    wasm.Opcode
		index uint32
		value uint64
	}
	var last [3]before
	for s.reader.Next(&in) == nil {
		switch op := in.Op; op {
		case wasm.OpI32Add, wasm.OpI32Sub:
			if last[0].op != wasm.OpI32Const {
				break
			}
			n := uint32(last[0].value)
			if op == wasm.OpI32Add {
				n = -n
			}
			switch {
			case n < maxFrame && (last[1].op == wasm.OpGlobalGet && last[1].index == 0 ||
				last[1].op == wasm.OpLocalTee && last[2].op == wasm.OpGlobalGet && last[2].index == 0):
				// The stack pointer, which wasm-ld makes global 0, is moved.
				if b.frames++; b.frames == 1 {
					b.frame, base = int32(n), nextLocal
				}
			case op == wasm.OpI32Add && -n < maxSlot && last[1].op == wasm.OpLocalGet && int64(last[1].index) == base:
				s.slots = append(s.slots, slot(int32(-n), 0))
			}
		case wasm.OpI32Const:
			s.object(uint32(in.Const))
			if in.Const > 0 && in.Const < uint64(len(s.table)) {
				s.mentions = append(s.mentions, s.table[in.Const])
			}
		case wasm.OpCall:
			s.mentions = append(s.mentions, in.Index)
		case wasm.OpLocalSet, wasm.OpLocalTee:
			if base == nextLocal {
				base = int64(in.Index)
			}
			if uint64(in.Index) < uint64(parameters) {
				s.assigned[in.Index] = true
			}
		default:
			if op < wasm.OpI32Load || op > wasm.OpI64Store32 {
				break
			}
			s.object(uint32(in.MemArg.Offset))
			if last[0].op != wasm.OpLocalGet {
				break
			}
			local := last[0].index
			switch {
			case op <= wasm.OpI64Load32U:
				if int64(local) == base && in.MemArg.Offset < maxSlot {
					s.slots = append(s.slots, slot(int32(in.MemArg.Offset), loadSizes[op-wasm.OpI32Load]))
				}
			case uint64(local) < uint64(parameters) && !s.assigned[local] && b.stored[local] < 0 && in.MemArg.Offset < maxFrame:
				b.stored[local] = int32(in.MemArg.Offset)
			}
		}
		last[2], last[1] = last[1], last[0]
		last[0] = before{in.Op, in.Index, in.Const}
	}
	slices.Sort(s.slots)
	b.slots = slices.Clone(slices.Compact(s.slots))
	slices.Sort(s.objects)
	b.objects = slices.Clone(slices.Compact(s.objects))
}

func (s *scanner) object(address uint32) {
	if h := filterHash(address); s.filter[h>>6]&(1<<(h&63)) == 0 {
		return
	}
	if _, ok := s.known[address]; ok {
		s.objects = append(s.objects, address)
	}
}
