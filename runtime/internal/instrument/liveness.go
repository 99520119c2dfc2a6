package instrument

import (
	"math/bits"

	"github.com/durun/durun/runtime/internal/wasm"
)

// liveness computes which locals are live after each site: those that may be read before they are written. It is the
// textbook's backward data-flow analysis over basic blocks (Aho, Lam, Sethi, Ullman, section 9.2.5).
type liveness struct {
	blocks []block
	// blockAt maps an instruction that starts a block to the block, -1 for others.
	blockAt []int32
	sets    []uint64 // backing of the blocks' sets
	words   int      // of one set
}

// block is a basic block: instructions [start, end), of which only the last may branch.
type block struct {
	start, end int32
	succs      []int32 // instructions that start blocks
	// catches are the instructions that a throw anywhere in the block may lead to. Whatever is live there is live
	// throughout the block, written in it or not.
	catches      []int32
	use, def, in []uint64
}

// solve sets the live locals of f's sites.
func (l *liveness) solve(f *function) {
	l.build(f)
	l.words = (len(f.locals) + 63) / 64
	if need := (3*len(l.blocks) + 1) * l.words; cap(l.sets) < need {
		l.sets = make([]uint64, need)
	} else {
		l.sets = l.sets[:need]
		clear(l.sets)
	}
	pool := l.sets
	take := func() []uint64 {
		s := pool[:l.words:l.words]
		pool = pool[l.words:]
		return s
	}
	for i := range l.blocks {
		b := &l.blocks[i]
		b.use, b.def, b.in = take(), take(), take()
		for _, ins := range f.instrs[b.start:b.end] {
			switch ins.op {
			case wasm.OpLocalGet:
				if !has(b.def, ins.arg) {
					add(b.use, ins.arg)
				}
			case wasm.OpLocalSet, wasm.OpLocalTee:
				add(b.def, ins.arg)
			}
		}
	}
	out := take()
	for changed := true; changed; {
		changed = false
		for i := len(l.blocks) - 1; i >= 0; i-- {
			b := &l.blocks[i]
			l.liveOut(b, out)
			for w := range out {
				v := b.use[w] | out[w]&^b.def[w]
				for _, c := range b.catches {
					v |= l.blocks[l.blockAt[c]].in[w]
				}
				if v != b.in[w] {
					b.in[w] = v
					changed = true
				}
			}
		}
	}
	l.markSites(f, out)
}

// liveOut puts what is live at the end of b into out.
func (l *liveness) liveOut(b *block, out []uint64) {
	clear(out)
	for _, s := range b.succs {
		for w, v := range l.blocks[l.blockAt[s]].in {
			out[w] |= v
		}
	}
	for _, s := range b.catches {
		for w, v := range l.blocks[l.blockAt[s]].in {
			out[w] |= v
		}
	}
}

// markSites walks each block with sites backward and records what is live after each.
func (l *liveness) markSites(f *function, live []uint64) {
	s := len(f.sites) - 1
	for i := len(l.blocks) - 1; i >= 0 && s >= 0; i-- {
		b := &l.blocks[i]
		if f.sites[s].instr < b.start {
			continue
		}
		l.liveOut(b, live)
		for j := b.end - 1; j >= b.start; j-- {
			if s >= 0 && f.sites[s].instr == j {
				f.sites[s].live = members(live)
				s--
			}
			switch ins := &f.instrs[j]; ins.op {
			case wasm.OpLocalGet:
				add(live, ins.arg)
			case wasm.OpLocalSet, wasm.OpLocalTee:
				if len(b.catches) == 0 {
					live[ins.arg/64] &^= 1 << (ins.arg % 64)
				}
			}
		}
	}
}

// build splits f into basic blocks. A construct's end starts a block, so that branches to its label have a target; a
// loop's opcode does.
func (l *liveness) build(f *function) {
	n := len(f.instrs)
	if cap(l.blockAt) < n {
		l.blockAt = make([]int32, n)
	}
	l.blockAt = l.blockAt[:n]
	for i := range l.blockAt {
		l.blockAt[i] = -1
	}
	const leader = -2
	l.blockAt[0] = leader
	for i := range f.instrs {
		switch f.instrs[i].op {
		case wasm.OpLoop, wasm.OpEnd, dead:
			l.blockAt[i] = leader
			if f.instrs[i].op != dead {
				continue
			}
		case wasm.OpIf, wasm.OpElse, wasm.OpTryTable,
			wasm.OpBr, wasm.OpBrIf, wasm.OpBrTable, wasm.OpBrOnNull, wasm.OpBrOnNonNull,
			wasm.OpReturn, wasm.OpUnreachable, wasm.OpThrow, wasm.OpThrowRef,
			wasm.OpReturnCall, wasm.OpReturnCallIndirect, wasm.OpReturnCallRef:
		default:
			continue
		}
		if i+1 < n {
			l.blockAt[i+1] = leader
		}
	}
	// within follows the constructs around the current instruction, for the catches.
	within := int32(0)
	l.blocks = l.blocks[:0]
	for i := 0; i < n; {
		start := i
		for i++; i < n && l.blockAt[i] != leader; i++ {
		}
		b := block{start: int32(start), end: int32(i)}
		first, last := &f.instrs[start], &f.instrs[i-1]
		if first.op == wasm.OpEnd {
			within = max(f.constructs[first.arg].parent, 0)
		}
		for c := within; c > 0; c = f.constructs[c].parent {
			for _, k := range f.constructs[c].catches {
				b.catches = append(b.catches, target(f, k.target))
			}
		}
		for _, ins := range f.instrs[start:i] {
			switch ins.op {
			case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpTryTable:
				within = ins.arg
			}
		}
		b.succs = successors(f, last, int32(i))
		l.blockAt[start] = int32(len(l.blocks))
		l.blocks = append(l.blocks, b)
	}
}

// successors returns where control may go after last, the last instruction before next.
func successors(f *function, last *instr, next int32) []int32 {
	switch last.op {
	case dead, wasm.OpReturn, wasm.OpUnreachable, wasm.OpThrow, wasm.OpThrowRef,
		wasm.OpReturnCall, wasm.OpReturnCallIndirect, wasm.OpReturnCallRef:
		return nil
	case wasm.OpBr:
		return []int32{target(f, last.arg)}
	case wasm.OpBrTable:
		var s []int32
		for _, c := range f.tables[last.arg] {
			s = append(s, target(f, c))
		}
		return s
	case wasm.OpElse: // reached from the first branch
		return []int32{f.constructs[last.arg].stop}
	case wasm.OpBrIf, wasm.OpBrOnNull, wasm.OpBrOnNonNull:
		return []int32{target(f, last.arg), next}
	case wasm.OpIf:
		c := &f.constructs[last.arg]
		if c.els >= 0 {
			return []int32{next, c.els + 1}
		}
		return []int32{next, c.stop}
	case wasm.OpTryTable:
		s := []int32{next}
		for _, k := range f.constructs[last.arg].catches {
			s = append(s, target(f, k.target))
		}
		return s
	}
	if int(next) == len(f.instrs) {
		return nil
	}
	return []int32{next}
}

// target returns the instruction to which a branch to a construct's label leads.
func target(f *function, construct int32) int32 {
	c := &f.constructs[construct]
	if c.op == wasm.OpLoop {
		return c.start
	}
	return c.stop
}

// liveAt reports whether a local is live before an instruction that starts a block.
func (l *liveness) liveAt(instr, local int32) bool {
	return has(l.blocks[l.blockAt[instr]].in, local)
}

func has(set []uint64, i int32) bool { return set[i/64]>>(i%64)&1 != 0 }
func add(set []uint64, i int32)      { set[i/64] |= 1 << (i % 64) }

func members(set []uint64) []uint32 {
	n := 0
	for _, w := range set {
		n += bits.OnesCount64(w)
	}
	m := make([]uint32, 0, n)
	for i, w := range set {
		for ; w != 0; w &= w - 1 {
			m = append(m, uint32(i*64+bits.TrailingZeros64(w)))
		}
	}
	return m
}
