package instrument

import (
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// The guest counts what it does in a global, [ExportTicks], and calls the runtime's tick when it has counted below zero: so the
// runtime gets to run every so often, however long the guest computes. It counts where it enters an iteration of a loop, in some
// functions where they are entered, before instructions that may take long, and here and there in long stretches of code. In between,
// what it does is bounded by its code.

const (
	// maxUncounted is about how many bytes of code a function may run, with all that it calls outside of loops, without counting when
	// it is entered.
	maxUncounted = 1 << 16
	// maxInIteration is about how many bytes of code the calls in loops of a function may run from one count to the next.
	maxInIteration = 64 * maxUncounted
)

// findCounting decides which functions count where they are entered, so that
//
//   - each cycle of calls has a call that stands in a loop, or a function that counts;
//   - no function that doesn't count runs more than maxUncounted bytes of code, its callees' included, before it comes to a loop
//     or to a function that counts, or returns;
//   - nor do the calls in a function's loops run more than maxInIteration until that comes to the head of a loop.
//
// Indirect calls are taken to lead to every function of their type whose address is taken.
func (r *running) findCounting() error {
	g := newCallees(r.env, r.graph)
	counts := make([]bool, r.env.NumFuncs())

	// A graph without the edges on which a depth-first search meets a node on the way that it came has no cycle. So it is enough that
	// one end of these counts.
	outside := func(e edge) bool { return !e.inLoop }
	g.search(outside, func(from, to uint32) {
		if g.isFunc(to) {
			counts[to] = true
		} else {
			counts[from] = true
		}
	}, func(uint32) {})

	// What a function runs is known when all that it calls is: where the search would go round, something counts.
	costs := make([]int, g.nodes())
	g.search(outside, func(uint32, uint32) {}, func(node uint32) {
		cost := 0
		if g.isFunc(node) {
			if i := int(node) - r.env.NumImportedFuncs; i >= 0 {
				cost = len(r.original.Code[i].Body())
			}
			for _, e := range g.from(node) {
				if outside(e) {
					cost = min(cost+costs[e.to], 2*maxUncounted)
				}
			}
			counts[node] = counts[node] || cost > maxUncounted
			if counts[node] {
				cost = 0
			}
		} else {
			for _, e := range g.from(node) {
				cost = max(cost, costs[e.to])
			}
		}
		costs[node] = cost
	})

	for f := range g.funcs {
		cost := 0
		for _, e := range g.from(f) {
			if outside(e) {
				continue
			}
			if cost += costs[e.to]; cost <= maxInIteration {
				continue
			}
			cost = 0
			if g.isFunc(e.to) {
				counts[e.to] = true
				continue
			}
			for _, member := range g.from(e.to) {
				counts[member.to] = true
			}
		}
	}
	r.counts, r.costs = counts[r.env.NumImportedFuncs:], costs
	return nil
}

// callees is who is called by whom, as a graph. Its nodes are the functions, by index, and behind them the canonical types, which
// stand between indirect calls and the functions that these may lead to.
type callees struct {
	funcs    uint32
	imported uint32
	calls    [][]edge // by function that is defined here
	types    [][]edge
}

// edge is a call, of a function or through a type.
type edge struct {
	to     uint32
	inLoop bool // of its function
}

func newCallees(env *wasm.Env, g *callGraph) *callees {
	c := &callees{
		funcs: uint32(env.NumFuncs()), imported: uint32(env.NumImportedFuncs),
		calls: g.callees, types: make([][]edge, len(env.Types)),
	}
	for f := range c.funcs {
		if g.taken[f] {
			t := env.CanonicalType(env.FuncTypeIndex(f))
			c.types[t] = append(c.types[t], edge{to: f})
		}
	}
	return c
}

func (c *callees) nodes() int { return int(c.funcs) + len(c.types) }

func (c *callees) isFunc(node uint32) bool { return node < c.funcs }

func (c *callees) from(node uint32) []edge {
	switch {
	case node < c.imported:
		return nil
	case node < c.funcs:
		return c.calls[node-c.imported]
	}
	return c.types[node-c.funcs]
}

// search visits all nodes depth first, along the edges that follow names. It calls back for each of these that leads to a node on
// the way to it, and done for each node after all that it leads to. Both are called in an order that depends on the graph only.
func (c *callees) search(follow func(edge) bool, back func(from, to uint32), done func(node uint32)) {
	const (
		unseen = iota
		onTheWay
		left
	)
	state := make([]uint8, c.nodes())
	type step struct {
		node uint32
		next int // of its edges
	}
	var way []step // a chain of calls may be as long as a module has functions
	for root := range uint32(c.nodes()) {
		if state[root] != unseen {
			continue
		}
		state[root] = onTheWay
		way = append(way, step{node: root})
		for len(way) > 0 {
			s := &way[len(way)-1]
			edges := c.from(s.node)
			if s.next == len(edges) {
				state[s.node] = left
				done(s.node)
				way = way[:len(way)-1]
				continue
			}
			e := edges[s.next]
			s.next++
			switch {
			case !follow(e):
			case state[e.to] == unseen:
				state[e.to] = onTheWay
				way = append(way, step{node: e.to})
			case state[e.to] == onTheWay:
				back(s.node, e.to)
			}
		}
	}
}

// longRunning are the instructions whose last operand says how much they do: bytes of memory, or elements of a table.
var longRunning = []wasm.Opcode{
	wasm.OpMemoryFill, wasm.OpMemoryCopy, wasm.OpMemoryInit,
	wasm.OpTableFill, wasm.OpTableCopy, wasm.OpTableInit, wasm.OpTableGrow,
}

func isLongRunning(op wasm.Opcode) bool { return slices.Contains(longRunning, op) }

// spendShift is by how many bits the operand of a long-running instruction is shifted to become a count: one for 64 bytes, or for
// 64 elements, of which each takes longer, but there are fewer of them.
const spendShift = 6

// spend implements linker: a function that counts what a long-running instruction is going to do, [n i32] -> [n i32].
func (u *unit) spend() uint32 {
	const key = "spend"
	if f, ok := u.moves[key]; ok {
		return f
	}
	var b []byte
	index := func(op wasm.Opcode, i uint32) { b = wasm.AppendU32(append(b, byte(op)), i) }
	index(wasm.OpGlobalGet, u.ticksG)
	index(wasm.OpLocalGet, 0)
	b = append(b, byte(wasm.OpI32Const), spendShift, byte(wasm.OpI32ShrU), byte(wasm.OpI64ExtendI32U), byte(wasm.OpI64Sub))
	index(wasm.OpLocalTee, 1)
	index(wasm.OpGlobalSet, u.ticksG)
	index(wasm.OpLocalGet, 1)
	b = append(b, byte(wasm.OpI64Const), 0, byte(wasm.OpI64LtS), byte(wasm.OpIf), 0x40)
	index(wasm.OpCall, u.tickFn)
	b = append(b, byte(wasm.OpEnd))
	index(wasm.OpLocalGet, 0)
	i32 := []wasm.ValueType{wasm.I32}
	f := u.add(i32, i32, []wasm.ValueType{wasm.I64}, b)
	u.moves[key] = f
	return f
}

// maxUnspent is how much a long-running instruction may do without being counted.
const maxUnspent = 256

// spend emits what stands before instruction i, if that may take long.
func (e *emitter) spend(i int32) {
	if !isLongRunning(e.f.instrs[i].op) {
		return
	}
	if before := &e.f.instrs[max(i-1, 0)]; before.op == wasm.OpI32Const {
		var r wasm.Reader
		var in wasm.Instr
		r.Reset(e.f.code.Body()[before.off:before.end])
		if err := r.Next(&in); err == nil && uint32(in.Const) <= maxUnspent {
			return
		}
	}
	e.index(wasm.OpCall, e.link.spend())
}

// What code takes is estimated in units, of which a count stands for some. A unit is what the slowest instructions take for each of
// their bytes, some 6 ns; most take a twentieth of that. So a guest that goes over from the fastest code to the slowest ticks about a
// thousand times later at most, once: in a second.
const (
	unitsPerCount = 64
	// unitsOfAccess is for an access to memory, which may miss all caches.
	unitsOfAccess = 16
	// unitsOfExit is for what leaves the guest: a host function that does nothing, or memory that grows.
	unitsOfExit  = 512
	unitsOfThrow = 4096
	// unitsOfCallee is for a byte of the code that a call of a function which doesn't count runs, up to maxCallee. What runs more
	// counts calls, or long stretches of code, by itself.
	unitsOfCallee = 2
	maxCallee     = 2048
	// unitsOfUnknown is for what a callee calls in turn, where that isn't known: in a resume module, which is made in no time.
	unitsOfUnknown = 1024
	// maxAhead is how much of a stretch of code is counted at its beginning. Of what is longer than that, such as an interpreter's loop, the
	// larger part may not run: it is counted where it does.
	maxAhead = 4096
)

func weight(units int32) int64 { return 1 + int64(units)/unitsPerCount }

func ofCallee(bytes int) int32 { return unitsOfCallee * int32(min(bytes, maxCallee)) }

// units estimates an instruction.
func (a *analyser) units(in *wasm.Instr) int32 {
	n := int32(in.End - in.Offset)
	switch in.Op {
	case wasm.OpCall, wasm.OpReturnCall:
		switch {
		case int(in.Index) < a.env.NumImportedFuncs:
			return n + unitsOfExit
		case a.costs == nil:
			body := len(a.m.Code[int(in.Index)-a.env.NumImportedFuncs].Body())
			return n + unitsOfUnknown + ofCallee(body)
		}
		return n + ofCallee(a.costs[in.Index])
	case wasm.OpCallIndirect, wasm.OpReturnCallIndirect, wasm.OpCallRef, wasm.OpReturnCallRef:
		if a.costs == nil {
			return n + unitsOfUnknown
		}
		return n + 2*unitsOfAccess + ofCallee(a.costs[a.env.NumFuncs()+int(a.env.CanonicalType(in.Index))])
	case wasm.OpThrow, wasm.OpThrowRef:
		return n + unitsOfThrow
	case wasm.OpMemoryGrow, wasm.OpTableGrow:
		return n + unitsOfExit
	case wasm.OpTableGet, wasm.OpTableSet:
		return n + unitsOfAccess
	}
	switch {
	case isLongRunning(in.Op):
		return n + maxUnspent
	case accesses(in.Op):
		return n + unitsOfAccess
	}
	return n
}

// accesses reports whether an instruction loads from memory or stores there.
func accesses(op wasm.Opcode) bool {
	info, _ := op.Info()
	return info.Imm == wasm.ImmMemArg || info.Imm == wasm.ImmMemArgLane
}

// weigh finds how much is to be counted where: at the entry of the function and at the heads of its loops, what can come until the next
// of these, by the longest way, but no more than maxAhead; and before some instructions on the way, what comes behind.
func (f *function) weigh() {
	n := len(f.instrs)
	f.charges = slices.Grow(f.charges[:0], n)[:n]
	f.ahead = slices.Grow(f.ahead[:0], n+1)[:n+1]
	f.ahead[n] = 0
	// at is what is ahead of a branch to a construct: the head of a loop counts by itself.
	at := func(construct int32) int32 {
		if c := &f.constructs[construct]; c.op != wasm.OpLoop {
			return f.ahead[c.stop]
		}
		return 0
	}
	for i := n - 1; i >= 0; i-- {
		in := &f.instrs[i]
		f.charges[i], f.ahead[i] = 0, 0
		ahead := f.ahead[i+1]
		switch in.op {
		case dead:
			continue
		case wasm.OpLoop:
			c := &f.constructs[in.arg]
			c.ahead, c.short = ahead, false
			units := f.unitsOfShort(c, in.arg)
			if units == 0 {
				continue
			}
			c.short = true
			if ahead = f.ahead[c.stop] + units; ahead > maxAhead {
				f.charges[i], ahead = ahead, 0
			}
			f.ahead[i] = ahead
			continue
		case wasm.OpIf:
			if c := &f.constructs[in.arg]; c.els >= 0 {
				ahead = max(ahead, f.ahead[c.els+1])
			} else {
				ahead = max(ahead, f.ahead[c.stop])
			}
		case wasm.OpElse: // from the end of what stands before
			ahead = at(in.arg)
		case wasm.OpTryTable:
			most := int32(0)
			for _, k := range f.constructs[in.arg].catches {
				most = max(most, at(k.target))
			}
			ahead += most
		case wasm.OpBr:
			ahead = at(in.arg)
		case wasm.OpBrIf, wasm.OpBrOnNull, wasm.OpBrOnNonNull:
			ahead = max(ahead, at(in.arg))
		case wasm.OpBrTable:
			ahead = 0
			for _, c := range f.tables[in.arg] {
				ahead = max(ahead, at(c))
			}
		case wasm.OpReturn, wasm.OpUnreachable, wasm.OpThrow, wasm.OpThrowRef,
			wasm.OpReturnCall, wasm.OpReturnCallIndirect, wasm.OpReturnCallRef:
			ahead = 0
		}
		ahead += in.units
		// Branches lead behind what would be counted before an end or else.
		if ahead > maxAhead && in.op != wasm.OpEnd && in.op != wasm.OpElse {
			f.charges[i], ahead = ahead, 0
		}
		f.ahead[i] = ahead
	}
}

// maxShort is how much a loop may do, all its iterations together, that isn't counted at its head: as much as a loop does from one
// count to the next at the most, some hundred microseconds.
const maxShort = 1 << 18

// unitsOfShort returns how much a loop does, from when it is entered until it is left, if that is little and its code says how often it
// goes round; else 0. What such a loop does is counted before it is entered. To count in it can cost half as much again, if there is
// not much else in it.
//
// It is a loop without loops, calls and the like, of this form, where nothing else leads back or sets $i:
//
//	i32.const FROM  local.set $i
//	loop $loop
//	  ...
//	  local.get $i  i32.const STEP  i32.add  local.tee $i
//	  i32.const TO  i32.ne                                  ;; or neither, where TO is 0
//	  br_if $loop
//	end
func (f *function) unitsOfShort(c *construct, index int32) int32 {
	i := c.stop - 1 // walks backwards
	is := func(op wasm.Opcode) bool {
		i--
		return i+1 > c.start && f.instrs[i+1].op == op
	}
	number := func(at int32) uint32 {
		var r wasm.Reader
		var in wasm.Instr
		r.Reset(f.code.Body()[f.instrs[at].off:f.instrs[at].end])
		if r.Next(&in) != nil {
			return 0
		}
		return uint32(in.Const)
	}
	if len(c.params) > 0 || c.start < 2 || !is(wasm.OpBrIf) || f.instrs[i+1].arg != index {
		return 0
	}
	to := uint32(0)
	if f.instrs[i].op == wasm.OpI32Ne {
		if i--; !is(wasm.OpI32Const) {
			return 0
		}
		to = number(i + 1)
	}
	if !is(wasm.OpLocalTee) {
		return 0
	}
	local := f.instrs[i+1].arg
	if !is(wasm.OpI32Add) || !is(wasm.OpI32Const) {
		return 0
	}
	step := number(i + 1)
	set, from := &f.instrs[c.start-1], &f.instrs[c.start-2]
	if !is(wasm.OpLocalGet) || f.instrs[i+1].arg != local || set.op != wasm.OpLocalSet || set.arg != local || from.op != wasm.OpI32Const {
		return 0
	}
	way := to - number(c.start-2)
	if int32(step) < 0 {
		step, way = -step, -way
	}
	if step == 0 || way == 0 || way%step != 0 {
		return 0 // it goes round two billion times, or for ever
	}
	units := int64(0)
	for k := c.start + 1; k < c.stop; k++ {
		in := &f.instrs[k]
		tees := k == c.stop-2 || k == c.stop-4
		switch in.op {
		case wasm.OpLocalSet, wasm.OpLocalTee:
			if in.arg == local && !tees {
				return 0
			}
		case wasm.OpBr, wasm.OpBrIf, wasm.OpBrOnNull, wasm.OpBrOnNonNull:
			if in.arg == index && k != c.stop-1 {
				return 0
			}
		case wasm.OpBrTable:
			if slices.Contains(f.tables[in.arg], index) {
				return 0
			}
		case wasm.OpLoop, wasm.OpTryTable, wasm.OpThrow, wasm.OpThrowRef, wasm.OpMemoryGrow, wasm.OpTableGrow, wasm.OpTableGet, wasm.OpTableSet,
			wasm.OpCall, wasm.OpCallIndirect, wasm.OpCallRef, wasm.OpReturnCall, wasm.OpReturnCallIndirect, wasm.OpReturnCallRef:
			return 0
		}
		if isLongRunning(in.op) || f.charges[k] != 0 {
			return 0
		}
		units += int64(in.units)
	}
	if units *= int64(way / step); units > maxShort {
		return 0
	}
	return int32(units)
}

// charge emits what stands before instruction i of a long stretch of code.
func (e *emitter) charge(i int32) {
	units := e.f.charges[i]
	if units == 0 {
		return
	}
	counter, _ := e.link.ticks()
	e.index(wasm.OpGlobalGet, counter)
	e.take(units)
	e.index(wasm.OpGlobalSet, counter)
}

// countEntry emits what stands at the beginning of a function that counts.
func (e *emitter) countEntry() {
	counter, _ := e.link.ticks()
	left := e.countLocal()
	e.index(wasm.OpGlobalGet, counter)
	e.take(e.f.ahead[0])
	e.index(wasm.OpLocalTee, left)
	e.index(wasm.OpGlobalSet, counter)
	e.index(wasm.OpLocalGet, left)
	e.isNegative()
	e.op(wasm.OpIf)
	e.code = wasm.AppendBlockType(e.code, wasm.BlockType{})
	e.callTick()
	e.op(wasm.OpEnd)
}

// countLocal returns the local that holds what is left while that is counted.
func (e *emitter) countLocal() uint32 { return e.f.spillLocal(-2, wasm.I64) }

// take subtracts from what is left what a piece of code counts for.
func (e *emitter) take(units int32) {
	e.code = wasm.AppendS64(append(e.code, byte(wasm.OpI64Const)), weight(units))
	e.op(wasm.OpI64Sub)
}

func (e *emitter) isNegative() {
	e.code = append(e.code, byte(wasm.OpI64Const), 0, byte(wasm.OpI64LtS))
}

func (e *emitter) callTick() {
	_, tick := e.link.ticks()
	e.index(wasm.OpCall, tick)
}

// openLoop emits the opcode of a loop and the count at its head. The call of tick stands outside of the loop, in another around it that
// leads back:
//
//	block $done
//	  loop $again
//	    block $tick
//	      loop $loop
//	        (less than 0 left)  br_if $tick
//	        (count)
//	        ...
//	      end
//	      br $done
//	    end
//	    call tick
//	    br $again
//	  end
//	end
//
// All have the loop's parameters, and its results or, $tick, the parameters again. A call inside would cost much more: the compiler's
// registers are lost in a call, and so it would keep what the loop works on in memory.
func (e *emitter) openLoop(c *construct) {
	e.enter(wasm.OpBlock, c.block)
	e.enter(wasm.OpLoop, c.block)
	e.enter(wasm.OpBlock, e.link.blockType(c.params, c.params))
	e.enter(wasm.OpLoop, c.block)
	// What is tested is what the last count left: so the way back from tick leads into the loop, whatever an iteration counts for.
	counter, _ := e.link.ticks()
	left := e.countLocal()
	e.index(wasm.OpGlobalGet, counter)
	e.index(wasm.OpLocalTee, left)
	e.isNegative()
	e.index(wasm.OpBrIf, 1) // $tick
	e.index(wasm.OpLocalGet, left)
	e.take(c.ahead)
	e.index(wasm.OpGlobalSet, counter)
}

// endLoop emits the end of a loop, and what stands behind it.
func (e *emitter) endLoop() {
	e.end()
	e.index(wasm.OpBr, 2) // $done
	e.end()
	e.callTick()
	e.index(wasm.OpBr, 0) // $again
	e.end()
	e.end()
}

// close emits the end of a construct.
func (e *emitter) close(construct int32) {
	if c := &e.f.constructs[construct]; c.op == wasm.OpLoop && !c.short {
		e.endLoop()
	} else {
		e.end()
	}
}
