package instrument

import (
	"fmt"
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// instr is an instruction of a function under analysis, without what can be read again from its bytes.
type instr struct {
	op       wasm.Opcode
	off, end uint32 // its bytes in the body
	// arg is the local of local.*, the construct of block, loop, if, else, try_table and end, the construct whose label
	// br, br_if and br_on_* name, or the row of tables of br_table.
	arg   int32
	depth int32 // operands after it
	units int32 // what it may take, see counting.go
}

// dead marks an instruction that control can't reach; it is dropped.
const dead = ^wasm.Opcode(0)

// construct is a control construct: a block, loop, if or try_table; or, as the first, the function's body.
type construct struct {
	op               wasm.Opcode // OpBlock for the body
	parent           int32
	start, els, stop int32 // instruction indices of its opcode (-1 for the body), its else (-1 if none), its end
	height           int32 // operands below its parameters
	block            wasm.BlockType
	params, results  []wasm.ValueType
	catches          []catch
	keeps            bool  // a clause of a try_table leads to its label with a reference to the exception, see keeping.go
	ahead            int32 // of a loop: what comes behind its head, see weigh
	short            bool  // a loop that is counted before it is entered
	copies           int32 // how often the code of a loop is emitted, see unroll
	narrow           bool  // a try_table that stands around each throwing instruction in it instead, see narrowing.go
}

// catch is a catch clause of a try_table with its target resolved.
type catch struct {
	kind   byte
	tag    uint32
	target int32 // construct
}

// operand is a value that is or was on the operand stack.
type operand struct {
	producer int32 // index of the instruction that pushed it
	depth    int32
	typ      wasm.ValueType
	source   source
	local    uint32 // fromLocal
	spill    bool   // some site needs it, and only a spill local has it
}

// source says where a cold path finds an operand.
type source uint8

const (
	fromSpill source = iota // a local of its own, set when it is pushed
	fromConst               // the constant instruction that pushed it
	fromLocal               // a local that isn't written while the operand is on the stack
)

// site is a call that may suspend, in a function under analysis.
type site struct {
	instr    int32
	within   int32   // the innermost construct around it
	operands []int32 // below the call's results: indices into function.operands
	results  []wasm.ValueType
	live     []uint32 // locals, ascending
	id       uint32   // in the module's table of sites
	try      bool     // it is inside a try_table
}

// spillKey identifies a spill local: operands of one depth and type share one, as only one is on the stack at a time.
// Spill locals of references are nullable, as they have no other value to begin with.
type spillKey struct {
	depth int32
	typ   wasm.ValueType
}

// tee is a stretch of operands, just pushed by an instruction, that has to be copied to spill locals: those from operand
// first up to the top of the stack.
type tee struct {
	instr    int32
	operands []int32
}

// function is one function under analysis. It is reused from function to function.
type function struct {
	index      uint32
	code       *wasm.Code
	typ        *wasm.FuncType
	locals     []wasm.ValueType // parameters first
	instrs     []instr
	constructs []construct
	tables     [][]int32 // of br_table: constructs, the default last
	operands   []operand
	sites      []site
	tees       []tee
	throwers   []thrower
	ahead      []int32 // by instruction: what comes from there on until something is counted, see weigh
	charges    []int32 // by instruction: what is counted before it, 0 for nothing
	spills     map[spillKey]uint32
	spillTypes []wasm.ValueType
}

// spillLocal returns the local that holds operands of this depth and type.
func (f *function) spillLocal(depth int32, t wasm.ValueType) uint32 {
	t = nullable(t)
	k := spillKey{depth, t}
	if l, ok := f.spills[k]; ok {
		return l
	}
	l := uint32(len(f.locals) + len(f.spillTypes))
	f.spills[k] = l
	f.spillTypes = append(f.spillTypes, t)
	return l
}

// offset returns the offset of an instruction in the function's code, as frames have it.
func (f *function) offset(instr int32) uint32 {
	return uint32(f.code.BodyOffset) + f.instrs[instr].off
}

// analyser fills in function. It keeps what it allocates for the next one.
type analyser struct {
	m   *wasm.Module
	env *wasm.Env
	sus *suspension
	v   *wasm.FuncValidator

	choices Choices
	costs   []int // what calls run without counting, by node of [callees]; nil if that isn't known

	f       function
	stack   []int32  // operands on the stack
	written []int32  // by local: index of the last instruction that wrote it, -1 for none
	open    []int32  // constructs around the current instruction
	tries   int      // of them, try_tables
	live    liveness // scratch
	room    []Slot   // for the next lists of slots

	operands int // of all sites of the function
}

// maxLive is the most values that all frames of one function may have, one for each of its sites. wazero's compiler takes
// some 2 µs and 250 bytes for each.
const maxLive = 4 << 20

var tooMuchLive = fmt.Sprintf("a function that has, over all its calls that may suspend, more than %d values live behind them", maxLive)

func newAnalyser(m *wasm.Module, env *wasm.Env, sus *suspension, choices Choices) *analyser {
	return &analyser{m: m, env: env, sus: sus, choices: choices}
}

// analyse follows the body of defined function i and finds its sites, with what is live at each.
// The result is valid until the next call. firstSite is the id of the function's first call.
func (a *analyser) analyse(i int, firstSite uint32) (*function, error) {
	index := uint32(a.env.NumImportedFuncs + i)
	if a.v == nil {
		a.v = wasm.NewFuncValidator(a.env, index)
	} else {
		a.v.Reset(index)
	}
	f := &a.f
	*f = function{
		index:      index,
		code:       &a.m.Code[i],
		typ:        a.env.FuncType(index),
		locals:     a.v.Locals(),
		instrs:     f.instrs[:0],
		constructs: f.constructs[:0],
		tables:     f.tables[:0],
		operands:   f.operands[:0],
		sites:      f.sites[:0],
		tees:       f.tees[:0],
		throwers:   f.throwers[:0],
		ahead:      f.ahead,
		charges:    f.charges,
		spills:     map[spillKey]uint32{},
		spillTypes: f.spillTypes[:0],
	}
	a.stack, a.operands = a.stack[:0], 0
	a.written = a.written[:0]
	for range f.locals {
		a.written = append(a.written, -1)
	}
	f.constructs = append(f.constructs, construct{
		op: wasm.OpBlock, parent: -1, start: -1, els: -1, stop: -1, results: f.typ.Results,
	})
	a.open, a.tries = append(a.open[:0], 0), 0
	if err := a.follow(firstSite); err != nil {
		return nil, err
	}
	tries := slices.ContainsFunc(f.constructs, func(c construct) bool { return c.op == wasm.OpTryTable })
	if len(f.sites) > 0 || tries {
		if !a.live.solve(f, maxLive-a.operands) {
			return nil, a.unsupported(f.sites[0].instr, tooMuchLive)
		}
		if a.choices.AllLive {
			a.saveAll()
		}
		a.planSpills()
		a.narrow()
	}
	f.weigh()
	f.unroll()
	return f, nil
}

// follow runs the validator over the body and records instructions, constructs, operands and sites.
func (a *analyser) follow(nextSite uint32) error {
	f, v := &a.f, a.v
	var r wasm.Reader
	var in wasm.Instr
	r.Reset(f.code.Body())
	// deadDepth counts the constructs opened in code that control can't reach; unreachable says that it is such code.
	unreachable, deadDepth := false, 0
	for !v.Done() {
		if err := r.Next(&in); err != nil {
			return err
		}
		if err := v.Step(&in); err != nil {
			return err
		}
		idx := int32(len(f.instrs))
		id := nextSite
		switch in.Op {
		case wasm.OpCall, wasm.OpCallIndirect, wasm.OpCallRef:
			nextSite++
		}
		if unreachable {
			switch in.Op {
			case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpTryTable:
				deadDepth++
			case wasm.OpEnd:
				deadDepth--
			}
			if deadDepth > 0 || deadDepth == 0 && in.Op != wasm.OpElse {
				f.instrs = append(f.instrs, instr{op: dead, off: uint32(in.Offset), end: uint32(in.End)})
				continue
			}
			unreachable, deadDepth = false, 0 // the else or end of the construct that control left
		}
		ins := instr{op: in.Op, off: uint32(in.Offset), end: uint32(in.End), depth: int32(len(v.Stack())), units: a.units(&in)}
		within := a.open[len(a.open)-1]
		label := func(l uint32) int32 { return a.open[len(a.open)-1-int(l)] }
		switch in.Op {
		case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpTryTable:
			ins.arg = int32(len(f.constructs))
			params, results := a.env.BlockTypes(in.Block)
			c := construct{
				op: in.Op, parent: within, start: idx, els: -1, stop: -1, block: in.Block,
				params: params, results: results, height: int32(len(v.Stack()) - len(params)),
			}
			if in.Op == wasm.OpTryTable {
				for _, k := range in.Catches {
					c.catches = append(c.catches, catch{k.Kind, k.Tag, label(k.Label)})
					if k.HasRef() {
						f.constructs[label(k.Label)].keeps = true
					}
				}
			}
			f.constructs = append(f.constructs, c)
			a.open = append(a.open, ins.arg)
			if in.Op == wasm.OpTryTable {
				a.tries++
			}
		case wasm.OpElse:
			ins.arg = within
			f.constructs[within].els = idx
		case wasm.OpEnd:
			ins.arg = within
			f.constructs[within].stop = idx
			a.open = a.open[:len(a.open)-1]
			if f.constructs[within].op == wasm.OpTryTable {
				a.tries--
			}
		case wasm.OpBr, wasm.OpBrIf, wasm.OpBrOnNull, wasm.OpBrOnNonNull:
			ins.arg = label(in.Index)
		case wasm.OpBrTable:
			ins.arg = int32(len(f.tables))
			row := make([]int32, len(in.Labels))
			for i, l := range in.Labels {
				row[i] = label(l)
			}
			f.tables = append(f.tables, row)
		case wasm.OpLocalGet, wasm.OpLocalSet, wasm.OpLocalTee:
			ins.arg = int32(in.Index)
		}
		f.instrs = append(f.instrs, ins)

		a.track(idx, &in)
		if a.tries > 0 {
			a.noteThrower(idx, within, &in)
		}
		switch in.Op {
		case wasm.OpCall, wasm.OpCallIndirect, wasm.OpCallRef:
			if a.sus.mayCall(a.env, &in) {
				if err := a.addSite(idx, within, id, &in); err != nil {
					return err
				}
			}
		case wasm.OpReturnCall, wasm.OpReturnCallIndirect, wasm.OpReturnCallRef,
			wasm.OpBr, wasm.OpBrTable, wasm.OpReturn, wasm.OpUnreachable, wasm.OpThrow, wasm.OpThrowRef:
			unreachable = true
		}
	}
	return nil
}

// track applies an instruction's effect on the operand stack to a.stack.
func (a *analyser) track(idx int32, in *wasm.Instr) {
	f := &a.f
	types, low := a.v.Stack(), a.v.Low()
	for _, o := range a.stack[min(low, len(a.stack)):] {
		op := &f.operands[o]
		// Loops may run what stands between in any order: any write in the text between push and pop counts.
		if op.source == fromLocal && a.written[op.local] > op.producer {
			op.source = fromSpill
		}
	}
	a.stack = a.stack[:min(low, len(a.stack))]
	for d := len(a.stack); d < len(types); d++ {
		o := operand{producer: idx, depth: int32(d), typ: types[d]}
		switch in.Op {
		case wasm.OpI32Const, wasm.OpI64Const, wasm.OpF32Const, wasm.OpF64Const, wasm.OpV128Const, wasm.OpRefNull:
			o.source = fromConst
		case wasm.OpLocalGet:
			o.source, o.local = fromLocal, in.Index
		}
		if a.choices.Spill {
			o.source = fromSpill
		}
		a.stack = append(a.stack, int32(len(f.operands)))
		f.operands = append(f.operands, o)
	}
	if in.Op == wasm.OpLocalSet || in.Op == wasm.OpLocalTee {
		a.written[in.Index] = idx
	}
}

func (a *analyser) addSite(idx, within int32, id uint32, in *wasm.Instr) error {
	f := &a.f
	t := in.Index
	if in.Op == wasm.OpCall {
		t = a.env.FuncTypeIndex(in.Index)
	}
	results := a.env.Types[t].Results
	for _, r := range f.typ.Results {
		if isForeign(r) && !r.IsNullable() {
			return a.unsupported(idx, fmt.Sprintf("a call that may suspend in a function that returns a %v, of which none can be made up", r))
		}
	}
	s := site{
		instr: idx, within: within, results: results, id: id, try: a.tries > 0,
		operands: append([]int32(nil), a.stack[:len(a.stack)-len(results)]...),
	}
	if a.operands += len(s.operands); a.operands > maxLive {
		return a.unsupported(idx, tooMuchLive)
	}
	f.sites = append(f.sites, s)
	return nil
}

func (a *analyser) unsupported(idx int32, feature string) error {
	return &UnsupportedError{
		Function: a.f.index, HasFunction: true, Offset: int(a.f.offset(idx)), Feature: feature,
	}
}

// planSpills decides which operands need a spill local, and where it is set.
func (a *analyser) planSpills() {
	f := &a.f
	for i := range f.sites {
		for _, o := range f.sites[i].operands {
			if op := &f.operands[o]; op.source == fromSpill {
				op.spill = true
			}
		}
	}
	// Operands that one instruction pushed stand next to each other.
	for o := 0; o < len(f.operands); {
		end := o + 1
		for end < len(f.operands) && f.operands[end].producer == f.operands[o].producer {
			end++
		}
		for ; o < end; o++ {
			if f.operands[o].spill {
				t := tee{instr: f.operands[o].producer}
				for ; o < end; o++ {
					t.operands = append(t.operands, int32(o))
					f.spillLocal(f.operands[o].depth, f.operands[o].typ)
				}
				f.tees = append(f.tees, t)
				break
			}
		}
	}
}

// slots returns what the frame of a site holds, with one type for all references to functions. Other references are not in
// it: while one is not null, the coroutine can't be captured, which the cold path sees to.
func (a *analyser) slots(s *site) []Slot {
	f := &a.f
	slots := a.newSlots(len(s.live) + len(s.operands))
	add := func(sl Slot) {
		if isForeign(sl.Type) {
			return
		}
		if sl.Type.IsRef() {
			sl.Type = wasm.FuncRef
		}
		slots = append(slots, sl)
	}
	for _, l := range s.live {
		add(Slot{Index: l, Type: f.locals[l]})
	}
	for _, o := range s.operands {
		add(Slot{Operand: true, Index: uint32(f.operands[o].depth), Type: f.operands[o].typ})
	}
	return slots
}

// newSlots returns an empty list with room for n. Lists share memory, as there is one for each site of a module, all kept
// for as long as the plan.
func (a *analyser) newSlots(n int) []Slot {
	if n > cap(a.room)-len(a.room) {
		a.room = make([]Slot, 0, max(n, 256))
	}
	at := len(a.room)
	a.room = a.room[:at+n]
	return a.room[at : at : at+n]
}
