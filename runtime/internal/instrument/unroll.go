package instrument

import (
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// Counting is the larger part of what a loop of a few instructions does. So the code of such a loop stands there more than once,
// and is counted for all copies at once.

const (
	// maxCopies is how often the code of a loop is emitted at most. With more, a loop that goes round a few times only is slower.
	maxCopies = 2
	// maxUnrolled is how many bytes of the original's code all copies of a loop have at most: so no loop of more than half of
	// that is unrolled.
	maxUnrolled = 224
	// maxWithUnrolled is how many bytes of the original's code a function with unrolled loops has at most. In a larger one, such
	// as an interpreter's, the compiler has fewer registers for the rest then.
	maxWithUnrolled = 2048
)

// unroll decides which loops are unrolled: small ones without loops, calls that may suspend and try_tables in them. Those that
// are counted before they are entered are as well, which makes them quicker than they were.
func (f *function) unroll() {
	large := len(f.code.Body()) > maxWithUnrolled
	for i := range f.constructs {
		c := &f.constructs[i]
		c.copies = 1
		if large || c.op != wasm.OpLoop || len(c.params) > 0 || c.keeps {
			continue
		}
		size := int32(f.instrs[c.stop].off - f.instrs[c.start].end)
		copies := min(maxCopies, maxUnrolled/max(1, size))
		if copies < 2 {
			continue
		}
		units, ok := f.unitsOfRound(c, int32(i))
		if copies = min(copies, 1+(maxAhead-c.ahead)/max(1, units)); ok && copies > 1 {
			c.copies = copies
			c.ahead += (copies - 1) * units
		}
	}
}

// unitsOfRound returns how much a loop does in an iteration at the most. It is not ok if the loop doesn't go round, or has
// something in it that can't stand in the code twice.
func (f *function) unitsOfRound(c *construct, index int32) (units int32, ok bool) {
	if firstSite(f.sites, c.start) != firstSite(f.sites, c.stop) ||
		firstThrower(f.throwers, c.start) != firstThrower(f.throwers, c.stop) {
		return 0, false
	}
	for i := c.start + 1; i < c.stop; i++ {
		in := &f.instrs[i]
		units += in.units
		switch in.op {
		case wasm.OpLoop, wasm.OpTryTable:
			return 0, false
		case wasm.OpBr, wasm.OpBrIf, wasm.OpBrOnNull, wasm.OpBrOnNonNull:
			ok = ok || in.arg == index
		case wasm.OpBrTable:
			ok = ok || slices.Contains(f.tables[in.arg], index)
		}
	}
	return units, ok
}

// unrolled emits a loop that is unrolled. A branch to its label leads to the next copy, from the last one to the head, and the
// end of each copy leads out:
//
//	block $done
//	  loop $loop
//	    (count)
//	    block $2
//	      block $1
//	        ... br_if $1 ...
//	        br $done
//	      end
//	      ... br_if $2 ...
//	      br $done
//	    end
//	    ... br_if $loop ...
//	  end
//	end
func (e *emitter) unrolled(index int32) {
	c := &e.f.constructs[index]
	done := e.depth
	if c.short {
		e.enter(wasm.OpBlock, c.block)
		e.enter(wasm.OpLoop, c.block)
	} else {
		e.openLoop(c)
	}
	for range c.copies - 1 {
		e.block(nil)
	}
	ends := e.f.instrs[c.stop-1].op != dead && !diverges(&e.f.instrs[c.stop-1])
	for copies := c.copies; ; copies-- {
		e.pos[index] = e.depth - 1
		e.rangeOf(c.start+1, c.stop)
		if copies == 1 {
			break
		}
		if ends {
			e.index(wasm.OpBr, uint32(e.depth-1-done))
		}
		e.end()
	}
	if c.short {
		e.end()
		e.end()
	} else {
		e.endLoop()
	}
}
