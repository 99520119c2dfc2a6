package wasm

import "fmt"

// The sizes that code may not exceed, so that a few hostile bytes can't claim gigabytes, here or in wazero, which
// takes every count at its word. Browsers allow 50,000 locals.
const (
	maxLocals      = 1 << 20 // of a function, with its parameters
	maxOperands    = 1 << 20 // on the stack
	maxTotalLocals = 1 << 24 // of all functions: wazero holds 8 bytes for each
)

// FuncValidator follows the instructions of a function with the types of the operand stack and the open blocks, and
// refuses an instruction that may not stand where it does. It is the algorithm of the specification's appendix
// "Validation Algorithm", with typed references and their initialisation.
//
// It is not safe for use by several goroutines; several validators may share an [Env].
type FuncValidator struct {
	env      *Env
	typ      *FuncType
	locals   []ValueType
	stack    []ValueType
	controls []Control
	low      int
	op       Opcode
	err      error

	// Locals without a default must be set before they are read. initialized is nil if there are none; inits lists
	// those set so far, so that the end of a block can take back what was set inside it.
	initialized []bool
	inits       []uint32
}

// Control is an open block. The first is the function itself, as a block.
type Control struct {
	Op              Opcode // OpBlock, OpLoop, OpIf, OpElse or OpTryTable
	Params, Results []ValueType
	Height          int  // of the operand stack below Params
	Unreachable     bool // the rest of the block can't be reached, so its operand stack may hold anything
	inits           int  // how long FuncValidator.inits was at its start
}

// LabelTypes returns the types of the operands that a branch to the block takes.
func (c *Control) LabelTypes() []ValueType {
	if c.Op == OpLoop {
		return c.Params
	}
	return c.Results
}

// NewFuncValidator returns a validator at the start of the function, which the module must define. If it can't be
// followed at all, every Step says why.
func NewFuncValidator(env *Env, funcIndex uint32) *FuncValidator {
	v := &FuncValidator{env: env}
	v.Reset(funcIndex)
	return v
}

// Reset moves v to the start of another function of the same Env, and keeps its memory.
func (v *FuncValidator) Reset(funcIndex uint32) {
	*v = FuncValidator{
		env: v.env, locals: v.locals[:0], stack: v.stack[:0], controls: v.controls[:0],
		initialized: v.initialized[:0], inits: v.inits[:0],
	}
	code := int64(funcIndex) - int64(v.env.NumImportedFuncs)
	v.typ = v.env.FuncType(funcIndex)
	if v.typ == nil || code < 0 || code >= int64(len(v.env.code)) {
		v.err = fmt.Errorf("function %d isn't defined in the module", funcIndex)
		return
	}
	v.locals = append(v.locals, v.typ.Params...)
	v.err = v.declareLocals(v.env.code[code].Locals)
	v.controls = append(v.controls, Control{Op: OpBlock, Results: v.typ.Results})
}

func (v *FuncValidator) declareLocals(groups []LocalGroup) error {
	params, defaults := len(v.locals), true
	for _, g := range groups {
		if uint64(len(v.locals))+uint64(g.Count) > maxLocals {
			return fmt.Errorf("too many locals: more than %d", maxLocals)
		}
		if err := v.env.checkType(g.Type); err != nil {
			return err
		}
		defaults = defaults && g.Type.IsDefaultable()
		for range g.Count {
			v.locals = append(v.locals, g.Type)
		}
	}
	if defaults {
		v.initialized = nil
		return nil
	}
	for i, t := range v.locals {
		v.initialized = append(v.initialized, i < params || t.IsDefaultable())
	}
	return nil
}

// Stack returns the types of the operands, which the next Step changes. In unreachable code some may be [Bottom].
func (v *FuncValidator) Stack() []ValueType { return v.stack }

// Low returns the lowest height that the operand stack had during the last Step: the entries of Stack from Low on are
// those that the step pushed.
func (v *FuncValidator) Low() int { return v.low }

// Controls returns the open blocks, the function first. The next Step changes them.
func (v *FuncValidator) Controls() []Control { return v.controls }

// Label returns the block that a branch to the label leads to, nil if there is none.
func (v *FuncValidator) Label(label uint32) *Control {
	if uint64(label) >= uint64(len(v.controls)) {
		return nil
	}
	return &v.controls[len(v.controls)-1-int(label)]
}

// Unreachable reports whether the next instruction can't be reached.
func (v *FuncValidator) Unreachable() bool {
	return len(v.controls) > 0 && v.controls[len(v.controls)-1].Unreachable
}

// Locals returns the types of the locals, the parameters first.
func (v *FuncValidator) Locals() []ValueType { return v.locals }

// Done reports whether the function's end was passed. Then Stack holds its results.
func (v *FuncValidator) Done() bool { return len(v.controls) == 0 && v.err == nil }

// Step takes the next instruction. After an error, v returns it until it is reset.
func (v *FuncValidator) Step(in *Instr) error {
	if v.err != nil {
		return v.err
	}
	info := in.Op.info()
	v.op = in.Op
	v.low = len(v.stack)
	switch {
	case info == nil:
		v.fail("not an instruction")
	case len(v.controls) == 0:
		v.fail("stands after the function's end")
	case info.Polymorphic:
		v.polymorphic(in)
	default:
		if info.Imm != ImmNone {
			v.immediates(info, in)
		}
		v.popAll(info.Params)
		v.pushAll(info.Results)
	}
	return v.err
}

func (v *FuncValidator) fail(format string, args ...any) {
	if v.err == nil {
		v.err = fmt.Errorf("%v: %w", v.op, fmt.Errorf(format, args...))
	}
}

// immediates checks the immediates of an instruction with fixed operand types.
func (v *FuncValidator) immediates(info *Info, in *Instr) {
	switch info.Imm {
	case ImmMemArg, ImmMemArgLane:
		v.memory(in.MemArg.Memory)
		if in.MemArg.Align > uint32(info.Align) {
			v.fail("alignment 2^%d is larger than natural", in.MemArg.Align)
		}
		if info.Imm == ImmMemArgLane && in.Lane >= info.Lanes {
			v.fail("lane %d of %d", in.Lane, info.Lanes)
		}
	case ImmMemory:
		v.memory(in.Index)
	case ImmMemoryMemory:
		v.memory(in.Index)
		v.memory(in.Index2)
	case ImmData:
		v.data(in.Index)
	case ImmDataMemory:
		v.memory(in.Index2)
		v.data(in.Index)
	case ImmLane:
		if in.Lane >= info.Lanes {
			v.fail("lane %d of %d", in.Lane, info.Lanes)
		}
	case ImmShuffle:
		for _, lane := range in.Lanes {
			if lane >= info.Lanes {
				v.fail("lane %d of %d", lane, info.Lanes)
			}
		}
	case ImmTable:
		v.table(in.Index)
	case ImmElem:
		v.element(in.Index)
	case ImmElemTable:
		if e, t := v.element(in.Index), v.table(in.Index2); !v.env.IsSubtype(e, t) {
			v.fail("elements of type %v don't fit a table of %v", e, t)
		}
	case ImmTableTable:
		if dst, src := v.table(in.Index), v.table(in.Index2); !v.env.IsSubtype(src, dst) {
			v.fail("elements of a table of %v don't fit one of %v", src, dst)
		}
	}
}

func (v *FuncValidator) memory(i uint32) {
	if uint64(i) >= uint64(len(v.env.Memories)) {
		v.fail("unknown memory %d", i)
	}
}

func (v *FuncValidator) data(i uint32) {
	if v.env.dataCount == nil {
		v.fail("needs a data count section")
	} else if i >= *v.env.dataCount {
		v.fail("unknown data segment %d", i)
	}
}

// table returns the type of a table's elements.
func (v *FuncValidator) table(i uint32) ValueType {
	if uint64(i) >= uint64(len(v.env.Tables)) {
		v.fail("unknown table %d", i)
		return Bottom
	}
	return v.env.Tables[i].Elem
}

// element returns the type of a segment's elements.
func (v *FuncValidator) element(i uint32) ValueType {
	if uint64(i) >= uint64(len(v.env.elements)) {
		v.fail("unknown element segment %d", i)
		return Bottom
	}
	return v.env.elements[i]
}

func (v *FuncValidator) push(t ValueType) {
	if len(v.stack) >= maxOperands {
		v.fail("more than %d operands on the stack", maxOperands)
		return
	}
	v.stack = append(v.stack, t)
}

func (v *FuncValidator) pushAll(types []ValueType) {
	for _, t := range types {
		v.push(t)
	}
}

// pop takes any operand.
func (v *FuncValidator) pop() ValueType {
	c := &v.controls[len(v.controls)-1]
	n := len(v.stack)
	if n == c.Height {
		if !c.Unreachable {
			v.fail("an operand is missing")
		}
		return Bottom
	}
	t := v.stack[n-1]
	v.stack = v.stack[:n-1]
	v.low = min(v.low, n-1)
	return t
}

// popType takes an operand of type want.
func (v *FuncValidator) popType(want ValueType) {
	if t := v.pop(); t != want && !v.env.IsSubtype(t, want) {
		v.fail("an operand of type %v is wanted, and %v found", want, t)
	}
}

func (v *FuncValidator) popAll(types []ValueType) {
	for i := len(types) - 1; i >= 0 && v.err == nil; i-- {
		v.popType(types[i])
	}
}

// popRef takes a reference of any type.
func (v *FuncValidator) popRef() ValueType {
	t := v.pop()
	if t == Bottom {
		return bottomRef
	}
	if !t.IsRef() {
		v.fail("a reference is wanted, and %v found", t)
		return bottomRef
	}
	return t
}

// top checks that the operands on top have the given types, and leaves them as they are.
func (v *FuncValidator) top(types []ValueType) {
	c := &v.controls[len(v.controls)-1]
	for i := len(types) - 1; i >= 0; i-- {
		at := len(v.stack) - len(types) + i
		if at < c.Height {
			if !c.Unreachable {
				v.fail("an operand is missing")
			}
			return
		}
		if t := v.stack[at]; !v.env.IsSubtype(t, types[i]) {
			v.fail("an operand of type %v is wanted, and %v found", types[i], t)
			return
		}
	}
}

// open starts a block whose parameters are on the stack.
func (v *FuncValidator) open(op Opcode, params, results []ValueType) {
	v.popAll(params)
	v.controls = append(v.controls, Control{
		Op: op, Params: params, Results: results, Height: len(v.stack), inits: len(v.inits),
	})
	v.pushAll(params)
}

// close checks the end of a block, takes its results and closes it.
func (v *FuncValidator) close() Control {
	c := v.controls[len(v.controls)-1]
	v.popAll(c.Results)
	if n := len(v.stack) - c.Height; n != 0 && v.err == nil {
		v.fail("%d operands too many at the end of a block", n)
	}
	for _, i := range v.inits[c.inits:] {
		v.initialized[i] = false
	}
	v.inits = v.inits[:c.inits]
	v.controls = v.controls[:len(v.controls)-1]
	return c
}

// unreachable marks the rest of the block.
func (v *FuncValidator) unreachable() {
	c := &v.controls[len(v.controls)-1]
	c.Unreachable = true
	v.stack = v.stack[:c.Height]
	v.low = c.Height
}
