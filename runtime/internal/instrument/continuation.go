package instrument

import (
	"fmt"

	"github.com/durun/durun/runtime/internal/wasm"
)

// continuation returns the locals and the body of what is left of a function after a site, as a function without
// parameters: it loads the frame, calls the next frame's continuation in place of the site's call, and goes on.
//
// Around the site it opens the constructs that are open there in the original, without the code that has run in them,
// and with the operands that lie below each. A loop is peeled: what is left of the current iteration stands in a block,
// a branch to the loop's label leaves the block, and behind it stands the whole loop as it was:
//
//	block $exit
//	  block $again
//	    ... the rest of this iteration; br $loop is br $again ...
//	    br $exit
//	  end
//	  loop $loop ... end
//	end
//
// So there is no dispatch and no test at loop heads, and a loop that is resumed runs as fast as before.
//
// slots is what the frame holds, which another version of this package may have chosen: it has the operands, and
// at least the locals that matter. next is a table of continuations, nextType the type of the next one, nextFrame the function
// that says which it is.
func (e *emitter) continuation(f *function, s int32, slots []Slot, nextFrame, nextType, nextTable uint32) (locals []wasm.ValueType, body []byte, err error) {
	st := &f.sites[s]
	if err := checkSlots(f, st, slots); err != nil {
		return nil, nil, err
	}
	e.f, e.resuming = f, true
	// An exception from the next frame is caught here as one from the call was.
	var within *thrower
	for i := range f.throwers {
		if t := &f.throwers[i]; t.instr == st.instr {
			within = t
		}
	}
	var around []int32 // the constructs around the site, the innermost first, the function last
	for c := st.within; c >= 0; c = f.constructs[c].parent {
		around = append(around, c)
	}
	next := func() {
		if within != nil {
			e.try(within, nil)
		}
		e.index(wasm.OpCall, nextFrame)
		e.index(wasm.OpCallIndirect, nextType)
		e.code = wasm.AppendU32(e.code, nextTable)
		if within != nil {
			e.endTry(within)
		}
		e.test(s)
	}
	whole, peel := e.outermost(around)
	emit := func(wraps int32) {
		e.begin(f, wraps)
		e.loadFrame(st, slots)
		if peel {
			e.reopen(st, around, 0)
			next()
			e.tees(st.instr)
			e.rest(st.instr+1, around)
			return
		}
		e.i32(1)
		e.index(wasm.OpLocalSet, e.reenter())
		e.reopen(st, around, whole+1)
		e.path(st, around, whole, next)
		stop := f.constructs[around[whole]].stop
		e.tees(stop)
		e.rest(stop+1, around[whole+1:])
	}
	emit(0) // counts the occurrences of sites
	emit(int32(len(e.cold)))
	body = e.finish()
	return e.locals(), body, nil
}

// checkSlots checks that a frame from outside fits the site, and gives each slot its type in the function, which tells references
// apart.
func checkSlots(f *function, s *site, slots []Slot) error {
	var operands []int32
	for _, o := range s.operands {
		if !isForeign(f.operands[o].typ) {
			operands = append(operands, o)
		}
	}
	fits := func(sl *Slot, t wasm.ValueType) bool {
		if sl.Type != t && !(isFunc(sl.Type) && isFunc(t)) {
			return false
		}
		sl.Type = t
		return true
	}
	n := 0
	for i := range slots {
		sl := &slots[i]
		if sl.Operand {
			if n >= len(operands) || sl.Index != uint32(f.operands[operands[n]].depth) || !fits(sl, f.operands[operands[n]].typ) {
				return fmt.Errorf("operand %d of type %v doesn't fit the call", sl.Index, sl.Type)
			}
			n++
			continue
		}
		if n > 0 || i > 0 && slots[i-1].Index >= sl.Index {
			return fmt.Errorf("local %d is out of order", sl.Index)
		}
		if uint64(sl.Index) >= uint64(len(f.locals)) || !fits(sl, f.locals[sl.Index]) {
			return fmt.Errorf("local %d of type %v doesn't exist", sl.Index, sl.Type)
		}
	}
	if n != len(operands) {
		return fmt.Errorf("%d operands, where the call leaves %d", n, len(operands))
	}
	return nil
}

// loadFrame moves the frame's values into locals: operands into the spill local of their depth and type, and into the
// local that they are a copy of, if so, because that is where later cold paths find them.
func (e *emitter) loadFrame(s *site, slots []Slot) {
	f := e.f
	types := make([]wasm.ValueType, len(slots))
	for i, sl := range slots {
		types[i] = sl.Type
	}
	for first, end := range chunks(types) {
		if first == end {
			break
		}
		e.index(wasm.OpCall, e.link.load(types[first:end]))
		for i := end - 1; i >= first; i-- {
			sl := slots[i]
			if !sl.Operand {
				e.index(wasm.OpLocalSet, sl.Index)
				continue
			}
			e.index(wasm.OpLocalSet, f.spillLocal(int32(sl.Index), sl.Type))
		}
	}
	for _, o := range s.operands {
		if op := &f.operands[o]; op.source == fromLocal && !isForeign(op.typ) {
			e.index(wasm.OpLocalGet, f.spillLocal(op.depth, op.typ))
			e.index(wasm.OpLocalSet, op.local)
		}
	}
}

// reopen opens the constructs around a site, the outermost first, up to around[last], and pushes the operands below the
// site's call or below the construct that comes next.
func (e *emitter) reopen(s *site, around []int32, last int) {
	f := e.f
	low := int32(0)
	push := func(height int32) {
		e.operands(s, low, height)
		low = height
	}
	for i := len(around) - 2; i >= last; i-- {
		c := &f.constructs[around[i]]
		push(c.height)
		if c.op == wasm.OpLoop {
			e.block(c.results) // $exit
			e.pos[around[i]] = e.depth
			e.block(c.params) // $again
			continue
		}
		if c.op == wasm.OpTryTable && !c.narrow {
			e.tryTable(e.link.blockType(nil, c.results), c.catches)
			e.pos[around[i]] = e.depth
			e.depth++
			continue
		}
		e.pos[around[i]] = e.depth
		e.block(c.results)
	}
	if last == 0 {
		push(int32(len(s.operands)))
	} else {
		push(f.constructs[around[last-1]].height)
	}
}

// operands pushes the operands of a site from depth low on and below height, as the frame has them.
func (e *emitter) operands(s *site, low, height int32) {
	f := e.f
	for _, o := range s.operands[low:height] {
		op := &f.operands[o]
		if isForeign(op.typ) {
			e.code = appendZero(e.code, nullable(op.typ))
		} else {
			e.index(wasm.OpLocalGet, f.spillLocal(op.depth, op.typ))
		}
		e.asNonNull(op.typ)
	}
}

// rest emits what is left of the constructs around a site, from instruction from on.
func (e *emitter) rest(from int32, around []int32) {
	f := e.f
	for _, ci := range around {
		c := &f.constructs[ci]
		to := c.stop
		if c.els >= from {
			to = c.els
		}
		e.region(from, to, c.height)
		from = c.stop + 1
		if ci == 0 {
			return
		}
		if c.op == wasm.OpLoop {
			e.index(wasm.OpBr, 1) // $exit
			e.end()               // $again
			e.rangeOf(c.start, c.stop)
			e.close(ci)
		}
		e.end()
		e.ended(ci)
		e.tees(c.stop)
	}
}
