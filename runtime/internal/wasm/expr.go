package wasm

import (
	"errors"
	"fmt"
	"io"
)

// constant says which instructions a constant expression may hold, before its end. The additions, subtractions and
// multiplications are the proposal of extended constant expressions.
func constant(op Opcode) bool {
	switch op {
	case OpI32Const, OpI64Const, OpF32Const, OpF64Const, OpV128Const, OpRefNull, OpRefFunc, OpGlobalGet,
		OpI32Add, OpI32Sub, OpI32Mul, OpI64Add, OpI64Sub, OpI64Mul:
		return true
	}
	return false
}

// expr reads a constant expression, up to and with its end.
func (c *cursor) expr() Expr {
	r := Reader{*c}
	var in Instr
	for r.c.err == nil {
		switch err := r.Next(&in); {
		case errors.Is(err, io.EOF):
			r.c.fail(r.c.pos, "unexpected end in a constant expression")
		case err != nil:
		case in.Op == OpEnd:
			start := c.pos
			c.pos = in.End
			return Expr(c.data[start:in.End:in.End])
		case !constant(in.Op):
			r.c.fail(in.Offset, "%v in a constant expression", in.Op)
		}
	}
	c.err = r.c.err
	return nil
}

// checkExpr checks that x is a constant expression with a value of type want. It may read the first globals globals.
func (e *Env) checkExpr(x Expr, want ValueType, globals int) error {
	r := NewReader(x)
	var in Instr
	var stack []ValueType
	for {
		if err := r.Next(&in); errors.Is(err, io.EOF) {
			return errors.New("constant expression without end")
		} else if err != nil {
			return err
		}
		if in.Op == OpEnd {
			break
		}
		if !constant(in.Op) {
			return fmt.Errorf("%v in a constant expression", in.Op)
		}
		switch in.Op {
		case OpRefNull:
			t := RefType(in.Heap, true)
			if err := e.checkType(t); err != nil {
				return err
			}
			stack = append(stack, t)
		case OpRefFunc:
			if e.FuncType(in.Index) == nil {
				return fmt.Errorf("ref.func: unknown function %d", in.Index)
			}
			stack = append(stack, RefType(HeapType(e.FuncTypeIndex(in.Index)), false))
		case OpGlobalGet:
			switch {
			case uint64(in.Index) >= uint64(len(e.Globals)):
				return fmt.Errorf("global.get: unknown global %d", in.Index)
			case uint64(in.Index) >= uint64(globals):
				return fmt.Errorf("global.get: global %d has no value yet", in.Index)
			case e.Globals[in.Index].Mutable:
				return fmt.Errorf("global.get: global %d is mutable", in.Index)
			}
			stack = append(stack, e.Globals[in.Index].Type)
		default:
			info := in.Op.info()
			n := len(stack) - len(info.Params)
			if n < 0 || !e.matches(stack[n:], info.Params) {
				return fmt.Errorf("%v: operands %v are wanted, and %v found", in.Op, info.Params, stack)
			}
			stack = append(stack[:n], info.Results...)
		}
	}
	if in.End != len(x) {
		return fmt.Errorf("%d bytes after the end of a constant expression", len(x)-in.End)
	}
	if len(stack) != 1 || !e.IsSubtype(stack[0], want) {
		return fmt.Errorf("a constant expression of type %v is wanted, and %v found", want, stack)
	}
	return nil
}
