package instrument

import (
	"iter"
	"slices"
	"sort"

	"github.com/durun/durun/runtime/internal/wasm"
)

// linker resolves what emitted code refers to. The running form and the resume module number functions differently, and
// only the former has the segments; types, globals, tables and tags keep their original indices in both.
type linker interface {
	// funcIndex returns the index of a function of the original module.
	funcIndex(original uint32) uint32
	// state returns the global that is not zero while the stack is unwound.
	state() uint32
	// save and load return the functions that move values of these types to and from the runtime:
	// save: [types, i32 site] -> [], load: [] -> [types], references nullable.
	save(types []wasm.ValueType) uint32
	load(types []wasm.ValueType) uint32
	// ticks returns the global that the code counts down, i64, and the function to call when it is negative: [] -> [].
	ticks() (counter, tick uint32)
	// beforeTry returns the function to call before a try_table: [] -> [].
	beforeTry() uint32
	// spend returns the function that counts what a long-running instruction is going to do: [n i32] -> [n i32].
	spend() uint32
	// grow returns the function that stands for an instruction memory.grow or table.grow, and has its type.
	grow(in *wasm.Instr) uint32
	// keep returns the function that keeps an exception from being collected: [exnref] -> [].
	keep() uint32
	// mustBeNull returns the function that tells the runtime if a reference of this type isn't null: [t] -> [].
	mustBeNull(t wasm.ValueType) uint32
	// blockType returns the type of a block.
	blockType(params, results []wasm.ValueType) wasm.BlockType
	// The others append what stands for an instruction on functions, globals and segments of the original module. zero
	// appends the instruction that pushes some value of a type.
	refFunc(code []byte, original uint32) []byte
	globalGet(code []byte, global uint32) []byte
	dropData(code []byte, segment uint32) []byte
	initMemory(code []byte, segment uint32) []byte
	dropElements(code []byte, segment uint32) []byte
	initTable(code []byte, segment, table uint32) []byte
	zero(code []byte, t wasm.ValueType) []byte
}

// more stands in place of a site in a call of save that doesn't end the frame.
const more = -1

// emitter writes the code of one function: the original's instructions with a test after each site, and cold code behind
// them. The code stands in nested blocks, one for each occurrence of a site, so that a test can branch to the end of
// one, where the cold path of the occurrence begins:
//
//	block $1 block $0
//	  ... call $f  global.get $state  br_if $0 ... call $g  global.get $state  br_if $1 ...
//	  return
//	end $0  (save the frame of the first occurrence)  return
//	end $1  (save the frame of the second)  return
//
// A block of its own for each means that a cold path has one predecessor. Were they merged, every local that is live at
// any site would become a block parameter in the compiler, and cost registers in the hot code.
//
// Functions with very many sites are emitted in segments, see [emitter.region].
type emitter struct {
	f    *function
	link linker

	code  []byte
	depth int32   // open blocks in the emitted code, those for cold paths included
	pos   []int32 // by construct that is open: the depth at which its label stands; -1 is the function
	nest  nest    // the blocks for the cold paths of the code that is being emitted
	cold  []int32 // by occurrence: index of the site
	tee   int     // next of f.tees, a hint
	moved []moved // of the cold path that is emitted
	types []wasm.ValueType
	// resuming says that a continuation is emitted.
	resuming bool
}

// weak reports whether a local that can't be null is one that can in the emitted code, and is taken as not null where it is
// read. In a continuation it has no value at the start; and in a function with cold paths these read it outside of
// the block in which it was set, which the validation of such locals doesn't allow. A parameter of the running form has
// its value from the start.
func (e *emitter) weak(local int32) bool {
	return !e.f.locals[local].IsDefaultable() &&
		(e.resuming || int(local) >= len(e.f.typ.Params) && len(e.f.sites) > 0)
}

// locals returns the types of the locals in the emitted code, parameters first, those for operands last.
func (e *emitter) locals() []wasm.ValueType {
	types := append(slices.Clone(e.f.locals), e.f.spillTypes...)
	for i := range e.f.locals {
		if e.weak(int32(i)) {
			types[i] = nullable(types[i])
		}
	}
	return types
}

// nest is blocks, each around the next, to whose ends tests branch.
type nest struct {
	base, wraps int32 // the first stands at depth base, and there are so many
	first       int   // of emitter.cold
}

func (e *emitter) begin(f *function, wraps int32) {
	e.f, e.depth, e.tee = f, 0, 0
	e.code, e.cold = e.code[:0], e.cold[:0]
	if cap(e.pos) < len(f.constructs) {
		e.pos = make([]int32, len(f.constructs))
	}
	e.pos = e.pos[:len(f.constructs)]
	e.pos[0] = -1
	e.wrap(wraps)
	if f.constructs[0].keeps {
		e.pos[0] = e.depth
		e.block(f.typ.Results)
	}
}

// wrap opens blocks for the cold paths of what is emitted from here on.
func (e *emitter) wrap(n int32) {
	e.nest = nest{base: e.depth, wraps: n, first: len(e.cold)}
	for range n {
		e.block(nil)
	}
}

// running returns the body of the function in the running form.
func (e *emitter) running(f *function, counts bool) []byte {
	e.resuming = false
	emit := func(wraps int32) {
		e.begin(f, wraps)
		if counts {
			e.countEntry()
		}
		e.region(0, int32(len(f.instrs))-1, 0)
	}
	if len(f.sites) <= maxNest {
		emit(int32(len(f.sites)))
	} else {
		emit(0) // counts the sites that stand in no segment
		emit(int32(len(e.cold)))
	}
	return e.finish()
}

// finish ends the hot code, adds the cold paths and returns the body.
func (e *emitter) finish() []byte {
	if e.f.constructs[0].keeps {
		e.end()
		e.keep(0, e.f.typ.Results)
	}
	if len(e.cold) > 0 {
		e.op(wasm.OpReturn)
	}
	e.unwrap()
	e.op(wasm.OpEnd)
	return e.code
}

// unwrap ends the blocks of the current nest, with the cold paths behind them.
func (e *emitter) unwrap() {
	for _, s := range e.cold[e.nest.first:] {
		e.end()
		e.coldPath(&e.f.sites[s])
	}
	e.cold = e.cold[:e.nest.first]
}

// moved is a value that a cold path saves.
type moved struct {
	operand bool // index is that of an operand, not of a local
	index   int32
}

// coldPath saves the frame of a site and returns. The results are ignored: the caller unwinds as well.
func (e *emitter) coldPath(s *site) {
	f := e.f
	e.moved, e.types = e.moved[:0], e.types[:0]
	for _, l := range s.live {
		e.move(f.locals[l], moved{index: int32(l)})
	}
	for _, o := range s.operands {
		e.move(f.operands[o].typ, moved{operand: true, index: o})
	}
	for first, end := range chunks(e.types) {
		for _, v := range e.moved[first:end] {
			e.push(v)
		}
		id := int32(s.id)
		if end < len(e.types) {
			id = more
		}
		e.i32(id)
		e.index(wasm.OpCall, e.link.save(e.types[first:end]))
	}
	for _, t := range f.typ.Results {
		e.anyResult(t)
	}
	e.op(wasm.OpReturn)
}

// anyResult pushes a result that nobody looks at. A local that has just been saved is as good as any value, and if somebody
// did look, it would be noticed sooner than 0.
func (e *emitter) anyResult(t wasm.ValueType) {
	if t == wasm.I32 || t == wasm.I64 {
		for _, v := range e.moved {
			if !v.operand && e.f.locals[v.index] == t {
				e.push(v)
				return
			}
		}
	}
	e.code = e.link.zero(e.code, t)
}

// move notes a value for the calls of save, or, if no snapshot can name what it refers to, has it checked for null.
func (e *emitter) move(t wasm.ValueType, v moved) {
	if !isForeign(t) {
		e.types, e.moved = append(e.types, t), append(e.moved, v)
		return
	}
	e.push(v)
	e.index(wasm.OpCall, e.link.mustBeNull(t))
}

func (e *emitter) push(v moved) {
	if v.operand {
		e.operand(v.index)
	} else {
		e.index(wasm.OpLocalGet, uint32(v.index))
	}
}

// operand pushes an operand as it was at a site.
func (e *emitter) operand(o int32) {
	switch op := &e.f.operands[o]; op.source {
	case fromConst:
		in := &e.f.instrs[op.producer]
		e.code = append(e.code, e.f.code.Body()[in.off:in.end]...)
	case fromLocal:
		e.index(wasm.OpLocalGet, op.local)
	case fromSpill:
		e.index(wasm.OpLocalGet, e.f.spillLocal(op.depth, op.typ))
	}
}

// chunks splits the values of a frame into what one call moves: [first, end) of each, of which there is at least one.
func chunks(types []wasm.ValueType) iter.Seq2[int, int] {
	return func(yield func(first, end int) bool) {
		first, n := 0, 0
		for i, t := range types {
			if n += words(t); n > MaxValues {
				if !yield(first, i) {
					return
				}
				first, n = i, words(t)
			}
		}
		yield(first, len(types))
	}
}

// rangeOf emits the instructions [from, to).
func (e *emitter) rangeOf(from, to int32) {
	f := e.f
	body := f.code.Body()
	site := firstSite(f.sites, from)
	thrower := firstThrower(f.throwers, from)
	for i := from; i < to; i++ {
		in := &f.instrs[i]
		throws := thrower < len(f.throwers) && f.throwers[thrower].instr == i
		if throws {
			e.try(&f.throwers[thrower], f.throwers[thrower].params)
		}
		e.charge(i)
		e.spend(i)
		switch in.op {
		case dead:
			continue
		case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpTryTable:
			if c := &f.constructs[in.arg]; c.copies > 1 {
				e.unrolled(in.arg)
				i = c.stop
			} else {
				e.open(in)
			}
		case wasm.OpEnd:
			e.close(in.arg)
			e.ended(in.arg)
		case wasm.OpBr, wasm.OpBrIf, wasm.OpBrOnNull, wasm.OpBrOnNonNull:
			e.index(in.op, e.label(in.arg))
		case wasm.OpBrTable:
			row := f.tables[in.arg]
			e.index(in.op, uint32(len(row)-1))
			for _, c := range row {
				e.code = wasm.AppendU32(e.code, e.label(c))
			}
		case wasm.OpCall, wasm.OpReturnCall:
			e.index(in.op, e.link.funcIndex(immediate(body[in.off+1:])))
		case wasm.OpRefFunc:
			e.code = e.link.refFunc(e.code, immediate(body[in.off+1:]))
		case wasm.OpMemoryGrow, wasm.OpTableGrow:
			e.grow(i)
		case wasm.OpDataDrop:
			e.code = e.link.dropData(e.code, immediate(body[in.off+2:]))
		case wasm.OpMemoryInit:
			e.code = e.link.initMemory(e.code, immediate(body[in.off+2:]))
		case wasm.OpElemDrop:
			e.code = e.link.dropElements(e.code, immediate(body[in.off+2:]))
		case wasm.OpTableInit:
			segment, n := immediate2(body[in.off+2:])
			e.code = e.link.initTable(e.code, segment, immediate(body[in.off+2+uint32(n):]))
		case wasm.OpGlobalGet:
			e.code = e.link.globalGet(e.code, immediate(body[in.off+1:]))
		case wasm.OpLocalGet, wasm.OpLocalTee:
			e.code = append(e.code, body[in.off:in.end]...)
			if e.weak(in.arg) {
				e.op(wasm.OpRefAsNonNull)
			}
		default:
			e.code = append(e.code, body[in.off:in.end]...)
		}
		if throws {
			e.endTry(&f.throwers[thrower])
			thrower++
		}
		if site < len(f.sites) && f.sites[site].instr == i {
			e.test(int32(site))
			site++
		}
		e.tees(i)
		if body, ok := e.large(i); ok {
			e.region(i+1, body, f.constructs[in.arg].height)
			i = body - 1
			site, thrower = firstSite(f.sites, body), firstThrower(f.throwers, body)
		}
	}
}

// test emits what follows a site's call.
func (e *emitter) test(site int32) {
	e.index(wasm.OpGlobalGet, e.link.state())
	// Occurrence n's block is the n-th from inside of the nest.
	e.index(wasm.OpBrIf, uint32(e.depth-e.nest.base-e.nest.wraps)+uint32(len(e.cold)-e.nest.first))
	e.cold = append(e.cold, site)
}

// open emits the opcode of a construct.
func (e *emitter) open(in *instr) {
	c := &e.f.constructs[in.arg]
	switch {
	case c.narrow:
		e.op(wasm.OpBlock)
		e.code = wasm.AppendBlockType(e.code, c.block)
	case in.op == wasm.OpTryTable:
		e.tryTable(c.block, c.catches)
	case in.op == wasm.OpLoop && !c.short:
		e.openLoop(c)
		e.pos[in.arg] = e.depth - 1
		if c.keeps {
			e.keep(c.height, c.params)
		}
		return
	default:
		e.code = append(e.code, e.f.code.Body()[in.off:in.end]...)
	}
	e.pos[in.arg] = e.depth
	e.depth++
}

// tryTable emits the opcode of a try_table. What it takes to enter one depends on how deep the stack is, which no count tells: so
// the runtime looks at the clock.
func (e *emitter) tryTable(t wasm.BlockType, clauses []catch) {
	e.index(wasm.OpCall, e.link.beforeTry())
	e.op(wasm.OpTryTable)
	e.code = wasm.AppendBlockType(e.code, t)
	e.code = wasm.AppendU32(e.code, uint32(len(clauses)))
	for _, k := range clauses {
		e.code = append(e.code, k.kind)
		if k.kind <= wasm.CatchTagRef {
			e.code = wasm.AppendU32(e.code, k.tag)
		}
		e.code = wasm.AppendU32(e.code, e.label(k.target))
	}
}

// try begins the try_table of an instruction in a narrowed one. params are what is taken from the stack in it.
func (e *emitter) try(t *thrower, params []wasm.ValueType) {
	e.tryTable(e.link.blockType(params, t.results), t.clauses)
	e.depth++
}

func (e *emitter) endTry(t *thrower) {
	e.depth--
	e.op(wasm.OpEnd)
	if t.never {
		e.op(wasm.OpUnreachable)
	}
}

// tees copies operands that instruction i has just pushed to their spill locals.
func (e *emitter) tees(i int32) {
	ts := e.f.tees
	for e.tee < len(ts) && ts[e.tee].instr < i {
		e.tee++
	}
	for e.tee > 0 && ts[e.tee-1].instr >= i {
		e.tee--
	}
	if e.tee == len(ts) || ts[e.tee].instr != i {
		return
	}
	os := ts[e.tee].operands
	for k := len(os) - 1; k > 0; k-- {
		op := &e.f.operands[os[k]]
		e.index(wasm.OpLocalSet, e.f.spillLocal(op.depth, op.typ))
	}
	for k, o := range os {
		op := &e.f.operands[o]
		if k == 0 {
			e.index(wasm.OpLocalTee, e.f.spillLocal(op.depth, op.typ))
		} else {
			e.index(wasm.OpLocalGet, e.f.spillLocal(op.depth, op.typ))
		}
		e.asNonNull(op.typ)
	}
}

// asNonNull makes the value that was just read from a local of type t's nullable form one of type t.
func (e *emitter) asNonNull(t wasm.ValueType) {
	if !t.IsDefaultable() {
		e.op(wasm.OpRefAsNonNull)
	}
}

// label returns the label of a construct as seen from where the code stands.
func (e *emitter) label(construct int32) uint32 { return uint32(e.depth - 1 - e.pos[construct]) }

func (e *emitter) op(op wasm.Opcode) { e.code = append(e.code, byte(op)) }

func (e *emitter) block(results []wasm.ValueType) {
	e.enter(wasm.OpBlock, e.link.blockType(nil, results))
}

// enter emits the opcode of a construct and its type.
func (e *emitter) enter(op wasm.Opcode, t wasm.BlockType) {
	e.op(op)
	e.code = wasm.AppendBlockType(e.code, t)
	e.depth++
}

func (e *emitter) end() {
	e.depth--
	e.op(wasm.OpEnd)
}

func (e *emitter) index(op wasm.Opcode, i uint32) {
	e.code = wasm.AppendU32(append(e.code, byte(op)), i)
}

func (e *emitter) i32(v int32) {
	e.code = wasm.AppendS32(append(e.code, byte(wasm.OpI32Const)), v)
}

// firstSite returns the index of the first site at or after instruction i.
func firstSite(sites []site, i int32) int {
	lo, hi := 0, len(sites)
	for lo < hi {
		if mid := (lo + hi) / 2; sites[mid].instr < i {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// firstThrower returns the index of the first thrower at or after instruction i.
func firstThrower(throwers []thrower, i int32) int {
	return sort.Search(len(throwers), func(k int) bool { return throwers[k].instr >= i })
}

// immediate reads an unsigned LEB128 number that has been validated.
func immediate(b []byte) uint32 {
	v, _ := immediate2(b)
	return v
}

// immediate2 returns how many bytes the number has, as well.
func immediate2(b []byte) (v uint32, n int) {
	for i := 0; ; i++ {
		v |= uint32(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
}

// appendZero appends the instruction that pushes the default value of a type.
func appendZero(code []byte, t wasm.ValueType) []byte {
	switch t {
	case wasm.I32:
		return append(code, byte(wasm.OpI32Const), 0)
	case wasm.I64:
		return append(code, byte(wasm.OpI64Const), 0)
	case wasm.F32:
		return append(code, byte(wasm.OpF32Const), 0, 0, 0, 0)
	case wasm.F64:
		return append(code, byte(wasm.OpF64Const), 0, 0, 0, 0, 0, 0, 0, 0)
	case wasm.V128:
		return wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpV128Const})
	}
	return wasm.AppendInstr(code, &wasm.Instr{Op: wasm.OpRefNull, Heap: t.Heap()})
}

// appendLocals appends the declaration of locals, neighbours of one type in one group.
func appendLocals(code []byte, types []wasm.ValueType) []byte {
	groups := 0
	for i := range types {
		if i == 0 || types[i] != types[i-1] {
			groups++
		}
	}
	code = wasm.AppendU32(code, uint32(groups))
	for i := 0; i < len(types); {
		first := i
		for i++; i < len(types) && types[i] == types[first]; i++ {
		}
		code = wasm.AppendU32(code, uint32(i-first))
		code = wasm.AppendValueType(code, types[first])
	}
	return code
}
