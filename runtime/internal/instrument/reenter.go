package instrument

import (
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// maxPeeled is how many instructions the copies of loops in a continuation may have; less in tests.
var maxPeeled = 50000

// SetPeeled sets how many instructions the copies of loops in a continuation may have, for tests; it returns what sets it
// back. It must not be called while code is emitted.
func SetPeeled(instructions int) (restore func()) {
	n := maxPeeled
	maxPeeled = instructions
	return func() { maxPeeled = n }
}

// outermost returns whether the loops around a site are peeled; if not, the index of the outermost in around.
//
// Peeled, the code of a loop is there once more for each loop around it: very much for a large function whose loops are
// deep. Then the outermost loop is emitted once, as a whole, and entered at its start: a local says that the code before the
// site is to be skipped, on the way in and only then. See [emitter.path].
func (e *emitter) outermost(around []int32) (whole int, peel bool) {
	f := e.f
	whole = -1
	copies := 0
	for i, ci := range around[:len(around)-1] {
		c := &f.constructs[ci]
		if c.op == wasm.OpLoop {
			if whole >= 0 {
				inner := &f.constructs[around[whole]]
				copies += int(inner.stop - inner.start)
			}
			whole = i
		}
	}
	if whole < 0 || copies <= maxPeeled {
		return 0, true
	}
	for _, ci := range around[:whole+1] {
		c := &f.constructs[ci]
		// A caught exception might give the local its old value back, see narrowing.go. And there is no value to enter with.
		if c.op == wasm.OpTryTable || slices.ContainsFunc(c.params, func(t wasm.ValueType) bool { return !t.IsDefaultable() }) {
			return 0, true
		}
	}
	return whole, false
}

// reenter returns the local that is 1 on the way to the site.
func (e *emitter) reenter() uint32 { return e.f.spillLocal(-1, wasm.I32) }

// path emits the construct around[i] as a whole, so that it does both: what it did, and lead to the site while the local
// says so.
//
//	loop                              ;; or what it is
//	  block $skip
//	    local.get $reenter  br_if $skip
//	    ... what stands before the next construct on the path; operands go to their spill locals ...
//	  end
//	  (push the operands)
//	  (the next construct, in the same way)
//	  ...
//	end
//
// Around the site itself, its call is skipped as well, and the next frame's continuation called.
func (e *emitter) path(s *site, around []int32, i int, next func()) {
	f := e.f
	c := &f.constructs[around[i]]
	var inner *construct
	to := s.instr + 1
	if i > 0 {
		inner = &f.constructs[around[i-1]]
		to = inner.start
	}
	// Parameters come from their spill locals, and go there.
	e.spilled(wasm.OpLocalGet, c.height, c.params)
	if c.op == wasm.OpIf {
		e.condition(c, c.els >= 0 && to > c.els)
	}
	e.open(&f.instrs[c.start])
	from := c.start + 1
	if c.els >= 0 && to > c.els {
		e.region(from, c.els, c.height)
		e.op(wasm.OpElse)
		from = c.els + 1
	}
	e.spilled(wasm.OpLocalSet, c.height, c.params)
	if inner == nil {
		e.block(nil) // $done
	}
	e.block(nil) // $skip
	e.index(wasm.OpLocalGet, e.reenter())
	e.index(wasm.OpBrIf, 0)
	e.spilled(wasm.OpLocalGet, c.height, c.params)
	e.region(from, to, c.height)
	// What has been pushed: operands that stay below, then what the construct or the call takes or gives.
	var below, top []wasm.ValueType
	height := int32(len(s.operands))
	if inner != nil {
		height, top = inner.height, inner.params
		if inner.op == wasm.OpIf {
			top = append(slices.Clone(top), wasm.I32)
		}
	} else {
		top = s.results
	}
	for _, o := range s.operands[c.height:height] {
		below = append(below, f.operands[o].typ)
	}
	e.spilled(wasm.OpLocalSet, height, top)
	e.spilled(wasm.OpLocalSet, c.height, below)
	if inner == nil {
		e.index(wasm.OpBr, 1) // $done
		e.end()               // $skip
		e.i32(0)
		e.index(wasm.OpLocalSet, e.reenter())
		next()
		e.spilled(wasm.OpLocalSet, height, top)
		e.end() // $done
		e.spilled(wasm.OpLocalGet, c.height, below)
		e.spilled(wasm.OpLocalGet, height, top)
		from = s.instr + 1
	} else {
		e.end() // $skip
		e.spilled(wasm.OpLocalGet, c.height, below)
		e.path(s, around, i-1, next)
		e.tees(inner.stop)
		from = inner.stop + 1
	}
	if c.els >= from {
		e.region(from, c.els, c.height)
		e.op(wasm.OpElse)
		from = c.els + 1
	}
	e.region(from, c.stop, c.height)
	e.close(around[i])
	e.ended(around[i])
}

// spilled moves operands from their spill locals to the stack, or the other way. The first has this depth.
func (e *emitter) spilled(op wasm.Opcode, depth int32, types []wasm.ValueType) {
	for k := range types {
		if op == wasm.OpLocalSet {
			k = len(types) - 1 - k
		}
		e.index(op, e.f.spillLocal(depth+int32(k), types[k]))
		if op == wasm.OpLocalGet {
			e.asNonNull(types[k])
		}
	}
}

// condition pushes the condition of an if that is entered on the path: what it was, or what leads to the site.
func (e *emitter) condition(c *construct, toElse bool) {
	value := e.f.spillLocal(c.height+int32(len(c.params)), wasm.I32)
	if toElse {
		e.i32(0)
		e.index(wasm.OpLocalGet, value)
		e.index(wasm.OpLocalGet, e.reenter())
		e.op(wasm.OpSelect)
		return
	}
	e.index(wasm.OpLocalGet, value)
	e.index(wasm.OpLocalGet, e.reenter())
	e.op(wasm.OpI32Or)
}
