package wasm

// polymorphic applies the rules of the instructions whose operand types depend on more than the opcode.
func (v *FuncValidator) polymorphic(in *Instr) {
	switch in.Op {
	case OpLocalGet, OpLocalSet, OpLocalTee:
		v.local(in)
	case OpGlobalGet, OpGlobalSet:
		v.global(in)
	case OpBlock, OpLoop, OpIf, OpElse, OpEnd, OpTryTable:
		v.structured(in)
	case OpBr, OpBrIf, OpBrTable, OpBrOnNull, OpBrOnNonNull, OpReturn:
		v.branch(in)
	case OpCall, OpCallIndirect, OpCallRef, OpReturnCall, OpReturnCallIndirect, OpReturnCallRef:
		v.call(in)
	case OpUnreachable:
		v.unreachable()
	case OpThrow:
		t := v.env.TagType(in.Index)
		if t == nil {
			v.fail("unknown tag %d", in.Index)
			return
		}
		v.popAll(t.Params)
		v.unreachable()
	case OpThrowRef:
		v.popType(ExnRef)
		v.unreachable()
	case OpDrop:
		v.pop()
	case OpSelect, OpSelectT:
		v.selectOperand(in)
	case OpTableGet, OpTableSet, OpTableGrow, OpTableFill:
		v.tableOperands(in)
	case OpRefNull:
		t := RefType(in.Heap, true)
		if err := v.env.checkType(t); err != nil {
			v.fail("%w", err)
		}
		v.push(t)
	case OpRefIsNull:
		v.popRef()
		v.push(I32)
	case OpRefAsNonNull:
		v.push(v.popRef().AsNonNull())
	case OpRefFunc:
		if v.env.FuncType(in.Index) == nil {
			v.fail("unknown function %d", in.Index)
			return
		}
		if !v.env.declared[in.Index] {
			v.fail("function %d is not declared as referenced: no export, element segment or initial value names it", in.Index)
		}
		v.push(RefType(HeapType(v.env.FuncTypeIndex(in.Index)), false))
	default:
		v.fail("has no rule")
	}
}

func (v *FuncValidator) local(in *Instr) {
	if uint64(in.Index) >= uint64(len(v.locals)) {
		v.fail("unknown local %d", in.Index)
		return
	}
	t := v.locals[in.Index]
	if in.Op == OpLocalGet {
		if v.initialized != nil && !v.initialized[in.Index] {
			v.fail("local %d of type %v is not initialised", in.Index, t)
		}
		v.push(t)
		return
	}
	v.popType(t)
	if v.initialized != nil && !v.initialized[in.Index] {
		v.initialized[in.Index] = true
		v.inits = append(v.inits, in.Index)
	}
	if in.Op == OpLocalTee {
		v.push(t)
	}
}

func (v *FuncValidator) global(in *Instr) {
	if uint64(in.Index) >= uint64(len(v.env.Globals)) {
		v.fail("unknown global %d", in.Index)
		return
	}
	g := v.env.Globals[in.Index]
	if in.Op == OpGlobalGet {
		v.push(g.Type)
		return
	}
	if !g.Mutable {
		v.fail("global %d is immutable", in.Index)
	}
	v.popType(g.Type)
}

func (v *FuncValidator) structured(in *Instr) {
	switch in.Op {
	case OpElse:
		if v.controls[len(v.controls)-1].Op != OpIf {
			v.fail("no open if")
			return
		}
		c := v.close()
		c.Op, c.Unreachable = OpElse, false
		v.controls = append(v.controls, c)
		v.pushAll(c.Params)
		return
	case OpEnd:
		c := v.close()
		if c.Op == OpIf && !v.env.matches(c.Params, c.Results) {
			// An else that is left out hands its parameters on.
			v.fail("an if without else takes %v and gives %v", c.Params, c.Results)
		}
		v.pushAll(c.Results)
		return
	}
	if err := v.checkBlock(in.Block); err != nil {
		v.fail("%w", err)
		return
	}
	if in.Op == OpIf {
		v.popType(I32)
	}
	if in.Op == OpTryTable {
		for _, c := range in.Catches {
			v.catch(c)
		}
	}
	params, results := v.env.BlockTypes(in.Block)
	v.open(in.Op, params, results)
}

// checkBlock returns an error if a block's type refers to a type that doesn't exist.
func (v *FuncValidator) checkBlock(t BlockType) error {
	if t.Indexed {
		return v.env.checkTypeIndex(t.Index)
	}
	return v.env.checkType(t.Value)
}

// catch checks that a clause hands its label what that takes.
func (v *FuncValidator) catch(c Catch) {
	label := v.Label(c.Label)
	if label == nil {
		v.fail("unknown label %d in a catch clause", c.Label)
		return
	}
	var values []ValueType
	if c.HasTag() {
		t := v.env.TagType(c.Tag)
		if t == nil {
			v.fail("unknown tag %d in a catch clause", c.Tag)
			return
		}
		values = t.Params
	}
	wanted := label.LabelTypes()
	rest := wanted
	if c.HasRef() {
		n := len(wanted) - 1
		if n < 0 || !v.env.IsSubtype(ExnRef.AsNonNull(), wanted[n]) {
			v.fail("a catch clause ends in a reference to the exception, its label takes %v", wanted)
			return
		}
		rest = wanted[:n]
	}
	if !v.env.matches(values, rest) {
		v.fail("a catch clause gives %v, its label takes %v", values, wanted)
	}
}

func (v *FuncValidator) branch(in *Instr) {
	if in.Op == OpReturn {
		v.popAll(v.typ.Results)
		v.unreachable()
		return
	}
	if in.Op == OpBrTable {
		v.branchTable(in.Labels)
		return
	}
	label := v.Label(in.Index)
	if label == nil {
		v.fail("unknown label %d", in.Index)
		return
	}
	types := label.LabelTypes()
	switch in.Op {
	case OpBr:
		v.popAll(types)
		v.unreachable()
	case OpBrIf:
		v.popType(I32)
		v.popAll(types)
		v.pushAll(types)
	case OpBrOnNull:
		ref := v.popRef()
		v.popAll(types)
		v.pushAll(types)
		v.push(ref.AsNonNull())
	case OpBrOnNonNull:
		ref := v.popRef().AsNonNull()
		n := len(types) - 1
		if n < 0 || !v.env.IsSubtype(ref, types[n]) {
			v.fail("the label takes %v, which doesn't end in %v", types, ref)
			return
		}
		v.popAll(types[:n])
		v.pushAll(types[:n])
	}
}

func (v *FuncValidator) branchTable(labels []uint32) {
	if len(labels) == 0 {
		v.fail("no default label")
		return
	}
	v.popType(I32)
	arity := -1
	last := uint32(0)
	for i, l := range labels {
		if i > 0 && l == last {
			continue // runs of one label are common
		}
		last = l
		label := v.Label(l)
		if label == nil {
			v.fail("unknown label %d", l)
			return
		}
		types := label.LabelTypes()
		if arity >= 0 && len(types) != arity {
			v.fail("label %d takes %d operands, others %d", l, len(types), arity)
			return
		}
		arity = len(types)
		// Every label sees the operands themselves, not what the label before made of them.
		if v.top(types); v.err != nil {
			return
		}
	}
	v.unreachable()
}

func (v *FuncValidator) call(in *Instr) {
	var t *FuncType
	switch in.Op {
	case OpCall, OpReturnCall:
		if t = v.env.FuncType(in.Index); t == nil {
			v.fail("unknown function %d", in.Index)
			return
		}
	default:
		if err := v.env.checkTypeIndex(in.Index); err != nil {
			v.fail("%w", err)
			return
		}
		t = &v.env.Types[in.Index]
		if in.Op == OpCallRef || in.Op == OpReturnCallRef {
			v.popType(RefType(HeapType(in.Index), true))
			break
		}
		if elem := v.table(in.Index2); !v.env.IsSubtype(elem, FuncRef) {
			v.fail("table %d holds %v, not functions", in.Index2, elem)
		}
		v.popType(I32)
	}
	v.popAll(t.Params)
	switch in.Op {
	case OpReturnCall, OpReturnCallIndirect, OpReturnCallRef:
		if !v.env.matches(t.Results, v.typ.Results) {
			v.fail("the callee returns %v, the function %v", t.Results, v.typ.Results)
		}
		v.unreachable()
	default:
		v.pushAll(t.Results)
	}
}

func (v *FuncValidator) selectOperand(in *Instr) {
	v.popType(I32)
	if in.Op == OpSelectT {
		if len(in.Types) != 1 {
			v.fail("%d result types, where one is allowed", len(in.Types))
			return
		}
		t := in.Types[0]
		if err := v.env.checkType(t); err != nil {
			v.fail("%w", err)
		}
		v.popType(t)
		v.popType(t)
		v.push(t)
		return
	}
	a, b := v.pop(), v.pop()
	if a == Bottom {
		a = b
	}
	if b == Bottom {
		b = a
	}
	if a != b || a.IsRef() {
		v.fail("can't choose between %v and %v without a type", b, a)
	}
	v.push(a)
}

func (v *FuncValidator) tableOperands(in *Instr) {
	t := v.table(in.Index)
	switch in.Op {
	case OpTableGet:
		v.popType(I32)
		v.push(t)
	case OpTableSet:
		v.popType(t)
		v.popType(I32)
	case OpTableGrow:
		v.popType(I32)
		v.popType(t)
		v.push(I32)
	case OpTableFill:
		v.popType(I32)
		v.popType(t)
		v.popType(I32)
	}
}
