package instrument

import (
	"github.com/durun/durun/runtime/internal/wasm"
)

var (
	// maxNest is the most sites that a function has without being emitted in segments.
	maxNest = 512
	// segmentSites is about how many sites a segment has.
	segmentSites = 32
)

// minEntries is how many segments a region has at least for being entered sideways.
const minEntries = 4

// SetSegments sets from how many sites on functions are emitted in segments, and of how many sites, for tests; it returns
// what sets them back. It must not be called while code is emitted.
func SetSegments(functionSites, sites int) (restore func()) {
	n, s := maxNest, segmentSites
	maxNest, segmentSites = functionSites-1, sites
	return func() { maxNest, segmentSites = n, s }
}

// region emits the instructions [from, to), which stand directly in a construct whose operands begin at height.
//
// In a function with more than maxNest sites, it does so in segments: stretches of some segmentSites sites, between points
// where the construct has no operands. Each has its own nest of cold paths, right behind it:
//
//	block $2 block $1 block $0
//	  global.get $state  br_table $0 $1 $2
//	end $0
//	  block block  ... the first segment ...  br $1  end (cold path) end (cold path)
//	end $1
//	  block block  ... the second ...  br $2  end (cold path) end (cold path)
//	end $2 ...
//
// This is for the compiler. Tests make a long chain of blocks out of straight-line code, and wazero v1.12 walks such
// chains, from each block, when it looks for the definitions of variables and for dominators; it copies at each block
// what it knows to be in bounds; and it walks the open blocks at each branch. All this grows with the square of the
// sites. The state is always 0 where it selects a segment, but the compiler can't know: as each segment could be entered
// from the start of the region, chains and copies end there.
func (e *emitter) region(from, to, height int32) {
	f := e.f
	if len(f.sites) <= maxNest || e.sitesIn(from, to) <= segmentSites {
		e.rangeOf(from, to)
		return
	}
	cuts := e.cuts(from, to, height)
	if len(cuts) < 2 {
		e.rangeOf(from, to)
		return
	}
	e.rangeOf(from, cuts[0])
	segments := int32(len(cuts) - 1)
	for range segments {
		e.block(nil)
	}
	if segments >= minEntries {
		e.block(nil)
		e.index(wasm.OpGlobalGet, e.link.state())
		e.index(wasm.OpBrTable, uint32(segments-1))
		for i := range segments {
			e.code = wasm.AppendU32(e.code, uint32(i))
		}
		e.end()
	}
	for i := range segments {
		e.segment(cuts[i], cuts[i+1])
		e.end()
	}
	if diverges(&f.instrs[cuts[segments]-1]) {
		e.op(wasm.OpUnreachable)
	}
	e.rangeOf(cuts[segments], to)
}

// segment emits [from, to) with its cold paths, inside the block that ends behind them.
func (e *emitter) segment(from, to int32) {
	n := e.sitesIn(from, to)
	if n == 0 || n > segmentSites { // a statement too long, whose parts are regions
		e.rangeOf(from, to)
		return
	}
	outer := e.nest
	e.wrap(int32(n))
	e.rangeOf(from, to)
	e.index(wasm.OpBr, uint32(n))
	e.unwrap()
	e.nest = outer
}

// cuts returns where the segments of a region begin, and where the last ends; nothing if there is no such place.
func (e *emitter) cuts(from, to, height int32) []int32 {
	f := e.f
	var cuts []int32
	if from == 0 || f.instrs[from-1].depth == height {
		cuts = append(cuts, from)
	}
	last := from // the end of the last statement
	sites := 0   // from the last cut to there
	for i := from; i < to; i++ {
		switch in := &f.instrs[i]; in.op {
		case dead:
			continue
		case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpTryTable:
			i = f.constructs[in.arg].stop
		}
		if f.instrs[i].depth != height {
			continue
		}
		n := e.sitesIn(last, i+1)
		if len(cuts) > 0 && sites > 0 && sites+n > segmentSites {
			cuts = append(cuts, last)
			sites = 0
		}
		last = i + 1
		if len(cuts) > 0 {
			sites += n
		} else {
			cuts = append(cuts, last)
		}
	}
	if len(cuts) > 0 && last > cuts[len(cuts)-1] {
		cuts = append(cuts, last)
	}
	return cuts
}

// large reports whether instruction i begins a part of a construct that is a region of its own, and where that ends.
func (e *emitter) large(i int32) (end int32, ok bool) {
	f := e.f
	if len(f.sites) <= maxNest {
		return 0, false
	}
	in := &f.instrs[i]
	switch in.op {
	case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpTryTable, wasm.OpElse:
	default:
		return 0, false
	}
	c := &f.constructs[in.arg]
	end = c.stop
	if c.els > i {
		end = c.els
	}
	return end, e.sitesIn(i+1, end) > segmentSites
}

// sitesIn returns how many sites the instructions [from, to) have.
func (e *emitter) sitesIn(from, to int32) int {
	return firstSite(e.f.sites, to) - firstSite(e.f.sites, from)
}

// diverges reports whether control never gets behind the instruction.
func diverges(in *instr) bool {
	switch in.op {
	case wasm.OpBr, wasm.OpBrTable, wasm.OpReturn, wasm.OpUnreachable, wasm.OpThrow, wasm.OpThrowRef,
		wasm.OpReturnCall, wasm.OpReturnCallIndirect, wasm.OpReturnCallRef:
		return true
	}
	return false
}
