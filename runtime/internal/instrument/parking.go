package instrument

import (
	"github.com/durun/durun/runtime/internal/wasm"
)

// A cold path calls save, for which the engine's execution context has to live through the site's call: in wazero it is a
// hidden parameter, and is stored to the stack at the function's entry, on all paths. Where code behind the site has other
// calls or memory accesses that is done anyway. But in a small function whose last such instruction is the site itself, as in
//
//	if (rare) wait();
//	return a + b;
//
// the cold path alone would make the function store and keep it. One more store sounds like nothing; but measured
// (AMD EPYC), a loop that calls such functions through pointers took twice as long, as values that go through the
// stack no longer took the processor's short cut.
//
// The cold path of such a site parks the frame instead: it puts values and site into globals, which takes no context, and
// returns. Whoever saves the next frame, or reaches the bottom, has the runtime take it from there. There is room for one
// frame, so a site parks only if no frame from its callee's side can be there: the callee is known and doesn't park itself.

// MaxParked is how many words the parking place holds.
const MaxParked = 8

// lastCall is the last instruction of a function that needs the context, if it is a call of a known function outside of loops.
type lastCall struct {
	ok     bool
	offset int32 // in the body
	callee uint32
}

// lastCallFinder finds it while a function's instructions are read.
type lastCallFinder struct {
	last  lastCall
	loops []bool // constructs that are open: whether each is a loop
	depth int    // of them, loops
}

func (l *lastCallFinder) reset() { *l = lastCallFinder{loops: l.loops[:0]} }

func (l *lastCallFinder) step(in *wasm.Instr) {
	switch in.Op {
	case wasm.OpBlock, wasm.OpLoop, wasm.OpIf:
		l.loops = append(l.loops, in.Op == wasm.OpLoop)
		if in.Op == wasm.OpLoop {
			l.depth++
		}
	case wasm.OpEnd:
		if n := len(l.loops); n > 0 {
			if l.loops[n-1] {
				l.depth--
			}
			l.loops = l.loops[:n-1]
		}
	case wasm.OpTryTable:
		l.loops = append(l.loops, false)
		l.last = lastCall{}
	case wasm.OpCall:
		l.last = lastCall{ok: l.depth == 0, offset: int32(in.Offset), callee: in.Index}
	default:
		if !withoutContext(in.Op) {
			l.last = lastCall{}
		}
	}
}

// withoutContext reports whether an instruction's code certainly doesn't need the execution context: it can't trap, and
// calls nothing.
func withoutContext(op wasm.Opcode) bool {
	switch op {
	case wasm.OpI32DivS, wasm.OpI32DivU, wasm.OpI32RemS, wasm.OpI32RemU,
		wasm.OpI64DivS, wasm.OpI64DivU, wasm.OpI64RemS, wasm.OpI64RemU,
		wasm.OpI32TruncF32S, wasm.OpI32TruncF32U, wasm.OpI32TruncF64S, wasm.OpI32TruncF64U,
		wasm.OpI64TruncF32S, wasm.OpI64TruncF32U, wasm.OpI64TruncF64S, wasm.OpI64TruncF64U:
		return false
	case wasm.OpNop, wasm.OpElse, wasm.OpBr, wasm.OpBrIf, wasm.OpBrTable, wasm.OpReturn,
		wasm.OpDrop, wasm.OpSelect, wasm.OpSelectT, wasm.OpLocalGet, wasm.OpLocalSet, wasm.OpLocalTee,
		wasm.OpGlobalGet, wasm.OpGlobalSet, wasm.OpMemorySize, wasm.OpRefNull, wasm.OpRefIsNull:
		return true
	}
	return op >= wasm.OpI32Const && op <= wasm.OpI64Extend32S // constants, comparisons, arithmetic, conversions
}

// parks returns for each defined function the offset of the site that parks, if its frame is small enough; -1 for none.
func parks(env *wasm.Env, g *callGraph, sus *suspension) []int32 {
	imported := uint32(env.NumImportedFuncs)
	candidate := func(f uint32) bool {
		if f < imported {
			return false // the host parks nothing
		}
		l := g.last[f-imported]
		return l.ok && sus.funcs[f] && sus.funcs[l.callee]
	}
	at := make([]int32, len(g.last))
	for i := range at {
		at[i] = -1
		f := imported + uint32(i)
		if !candidate(f) {
			continue
		}
		// A callee that makes a tail call may leave what another function has parked.
		if l := g.last[i]; !candidate(l.callee) && (l.callee < imported || !g.tailCalls[l.callee-imported]) {
			at[i] = l.offset
		}
	}
	return at
}

// parkable reports whether the parking place can hold a frame of such values: numbers, and not too many.
func parkable(types []wasm.ValueType) bool {
	n := 0
	for _, t := range types {
		if t.IsRef() {
			return false
		}
		n += words(t)
	}
	return n <= MaxParked
}

// park emits the cold path of a site that parks: e.moved and e.types are what is live.
func (e *emitter) park(s *site) {
	word := e.parking + 1
	set := func() {
		e.index(wasm.OpGlobalSet, word)
		word++
	}
	for i, v := range e.moved {
		e.push(v)
		if e.types[i] == wasm.V128 {
			e.code = wasm.AppendInstr(e.code, &wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 0})
			set()
			e.push(v)
		}
		e.code = appendWord(e.code, e.types[i])
		set()
	}
	e.i32(int32(s.id) + 1)
	e.index(wasm.OpGlobalSet, e.parking)
}

// appendWord appends the conversion of a number into a word; of a v128, its upper half.
func appendWord(code []byte, t wasm.ValueType) []byte {
	switch t {
	case wasm.I32:
		return append(code, byte(wasm.OpI64ExtendI32U))
	case wasm.F32:
		return append(code, byte(wasm.OpI32ReinterpretF32), byte(wasm.OpI64ExtendI32U))
	case wasm.F64:
		return append(code, byte(wasm.OpI64ReinterpretF64))
	case wasm.V128:
		return wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 1})
	}
	return code
}
