package instrument

import (
	"math/bits"
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// liveness computes which locals are live after each site: those that may be read before they are written. It is the
// textbook's backward data-flow analysis over basic blocks (Aho, Lam, Sethi, Ullman, section 9.2.5).
//
// Functions may have tens of thousands of locals and of blocks. So sets have only those locals that are read anywhere, and
// where all of them would still take too much memory, it is done for some of them after the other.
type liveness struct {
	blocks []block
	// blockAt maps an instruction that starts a block to the block, -1 for others.
	blockAt []int32
	preds   [][]int32 // by block

	read   []int32 // by local: its index among those that are read, -1 if it isn't
	locals []int32 // that are read, ascending
	sets   []uint64
	words  int // of a set
	// The sets are of locals[lo:hi].
	lo, hi  int32
	targets []int32 // backing of the blocks' succs
}

// maxSets is the most memory, in words, that the sets of all blocks take.
var maxSets = 8 << 20 // less in tests

// block is a basic block: instructions [start, end), of which only the last may branch.
type block struct {
	start, end int32
	succs      []int32 // instructions that start blocks
	// catches are the instructions that a throw anywhere in the block may lead to. Whatever is live there is live
	// throughout the block, written in it or not.
	catches []int32
	dirty   bool
}

// solve sets the live locals of f's sites, and marks the try_tables whose bodies write what their handlers read. It stops,
// and returns false, when the live locals are more than most in all.
func (l *liveness) solve(f *function, most int) bool {
	l.build(f)
	l.findRead(f)
	l.words = min((len(l.locals)+63)/64, max(1, maxSets/len(l.blocks)))
	for l.lo, l.hi = 0, 0; int(l.hi) < len(l.locals); {
		l.lo, l.hi = l.hi, min(int32(len(l.locals)), l.hi+int32(l.words*64))
		l.flow(f)
		l.markTries(f)
		if most -= l.markSites(f, most); most < 0 {
			return false
		}
	}
	return true
}

// findRead finds the locals that are read.
func (l *liveness) findRead(f *function) {
	l.read, l.locals = l.read[:0], l.locals[:0]
	for range f.locals {
		l.read = append(l.read, -1)
	}
	for i := range f.instrs {
		if ins := &f.instrs[i]; ins.op == wasm.OpLocalGet {
			l.read[ins.arg] = 0
		}
	}
	for i := range l.read {
		if l.read[i] == 0 {
			l.read[i] = int32(len(l.locals))
			l.locals = append(l.locals, int32(i))
		}
	}
}

// in returns the set of what is live at the start of a block.
func (l *liveness) in(block int32) []uint64 {
	at := int(block) * l.words
	return l.sets[at : at+l.words]
}

// flow computes what is live at the start of each block.
func (l *liveness) flow(f *function) {
	need := (len(l.blocks) + 2) * l.words // two sets for passing
	if cap(l.sets) < need {
		l.sets = make([]uint64, need)
	} else {
		l.sets = l.sets[:need]
		clear(l.sets)
	}
	for i := range l.blocks {
		l.blocks[i].dirty = true
	}
	live := l.in(int32(len(l.blocks)))
	for changed := true; changed; {
		changed = false
		for i := int32(len(l.blocks)) - 1; i >= 0; i-- {
			b := &l.blocks[i]
			if !b.dirty {
				continue
			}
			b.dirty = false
			held := l.liveOut(b, live)
			for j := b.end - 1; j >= b.start; j-- {
				l.step(&f.instrs[j], live, held)
			}
			if in := l.in(i); !slices.Equal(in, live) {
				copy(in, live)
				for _, p := range l.preds[i] {
					l.blocks[p].dirty = true
					changed = changed || p >= i
				}
			}
		}
	}
}

// step goes from behind an instruction to before it. What is in held stays live.
func (l *liveness) step(ins *instr, live, held []uint64) {
	switch ins.op {
	case wasm.OpLocalGet:
		if i := l.read[ins.arg]; i >= l.lo && i < l.hi {
			i -= l.lo
			live[i/64] |= 1 << (i % 64)
		}
	case wasm.OpLocalSet, wasm.OpLocalTee:
		if i := l.read[ins.arg]; i >= l.lo && i < l.hi {
			i -= l.lo
			if held == nil || held[i/64]>>(i%64)&1 == 0 {
				live[i/64] &^= 1 << (i % 64)
			}
		}
	}
}

// liveOut puts what is live at the end of b into out. It returns what is live throughout b, whatever is written, nil for
// nothing.
func (l *liveness) liveOut(b *block, out []uint64) (held []uint64) {
	clear(out)
	union := func(to []uint64, starts []int32) {
		for _, s := range starts {
			for w, v := range l.in(l.blockAt[s]) {
				to[w] |= v
			}
		}
	}
	union(out, b.succs)
	if len(b.catches) > 0 {
		held = l.in(int32(len(l.blocks)) + 1)
		clear(held)
		union(held, b.catches)
		union(out, b.catches)
	}
	return held
}

// markSites walks each block with sites backward and records what is live after each. It returns how many locals that
// are, and stops when they are more than most.
func (l *liveness) markSites(f *function, most int) (n int) {
	s := len(f.sites) - 1
	live := l.in(int32(len(l.blocks)))
	for i := len(l.blocks) - 1; i >= 0 && s >= 0; i-- {
		b := &l.blocks[i]
		if f.sites[s].instr < b.start {
			continue
		}
		held := l.liveOut(b, live)
		for j := b.end - 1; j >= b.start; j-- {
			if s >= 0 && f.sites[s].instr == j {
				if n += count(live); n > most {
					return n
				}
				f.sites[s].live = l.appendMembers(f.sites[s].live, live)
				s--
			}
			l.step(&f.instrs[j], live, held)
		}
	}
	return n
}

// markTries marks the try_tables whose bodies write a local that may be read after one of their clauses.
func (l *liveness) markTries(f *function) {
	for i := range f.constructs {
		c := &f.constructs[i]
		if c.op != wasm.OpTryTable || len(c.catches) == 0 {
			continue
		}
		for _, ins := range f.instrs[c.start:c.stop] {
			if ins.op != wasm.OpLocalSet && ins.op != wasm.OpLocalTee {
				continue
			}
			local := l.read[ins.arg]
			if local < l.lo || local >= l.hi {
				continue
			}
			local -= l.lo
			for _, k := range c.catches {
				if l.in(l.blockAt[target(f, k.target)])[local/64]>>(local%64)&1 != 0 {
					c.narrow = true
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
	catches := slices.ContainsFunc(f.constructs, func(c construct) bool { return len(c.catches) > 0 })
	l.blocks, l.targets = l.blocks[:0], l.targets[:0]
	for i := 0; i < n; {
		start := i
		for i++; i < n && l.blockAt[i] != leader; i++ {
		}
		b := block{start: int32(start), end: int32(i)}
		first, last := &f.instrs[start], &f.instrs[i-1]
		if first.op == wasm.OpEnd {
			within = max(f.constructs[first.arg].parent, 0)
		}
		for c := within; catches && c > 0; c = f.constructs[c].parent {
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
		from := len(l.targets)
		l.targets = appendSuccessors(l.targets, f, last, int32(i))
		b.succs = l.targets[from:len(l.targets):len(l.targets)]
		l.blockAt[start] = int32(len(l.blocks))
		l.blocks = append(l.blocks, b)
	}
	l.preds = append(l.preds[:0], make([][]int32, len(l.blocks))...)
	for i := range l.blocks {
		for _, list := range [][]int32{l.blocks[i].succs, l.blocks[i].catches} {
			for _, s := range list {
				to := l.blockAt[s]
				if ps := l.preds[to]; len(ps) == 0 || ps[len(ps)-1] != int32(i) {
					l.preds[to] = append(ps, int32(i))
				}
			}
		}
	}
}

// appendSuccessors appends where control may go after last, the last instruction before next.
func appendSuccessors(to []int32, f *function, last *instr, next int32) []int32 {
	switch last.op {
	case dead, wasm.OpReturn, wasm.OpUnreachable, wasm.OpThrow, wasm.OpThrowRef,
		wasm.OpReturnCall, wasm.OpReturnCallIndirect, wasm.OpReturnCallRef:
		return to
	case wasm.OpBr:
		return append(to, target(f, last.arg))
	case wasm.OpBrTable:
		for _, c := range f.tables[last.arg] {
			to = append(to, target(f, c))
		}
		return to
	case wasm.OpElse: // reached from the first branch
		return append(to, f.constructs[last.arg].stop)
	case wasm.OpBrIf, wasm.OpBrOnNull, wasm.OpBrOnNonNull:
		return append(to, target(f, last.arg), next)
	case wasm.OpIf:
		c := &f.constructs[last.arg]
		if c.els >= 0 {
			return append(to, next, c.els+1)
		}
		return append(to, next, c.stop)
	case wasm.OpTryTable:
		to = append(to, next)
		for _, k := range f.constructs[last.arg].catches {
			to = append(to, target(f, k.target))
		}
		return to
	}
	if int(next) == len(f.instrs) {
		return to
	}
	return append(to, next)
}

// target returns the instruction to which a branch to a construct's label leads.
func target(f *function, construct int32) int32 {
	c := &f.constructs[construct]
	if c.op == wasm.OpLoop {
		return c.start
	}
	return c.stop
}

func count(set []uint64) (n int) {
	for _, w := range set {
		n += bits.OnesCount64(w)
	}
	return n
}

// appendMembers appends the locals of a set, ascending.
func (l *liveness) appendMembers(to []uint32, set []uint64) []uint32 {
	to = slices.Grow(to, count(set))
	for i, w := range set {
		for ; w != 0; w &= w - 1 {
			to = append(to, uint32(l.locals[int(l.lo)+i*64+bits.TrailingZeros64(w)]))
		}
	}
	return to
}
