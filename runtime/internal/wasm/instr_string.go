package wasm

import (
	"fmt"
	"strings"
)

// String returns the instruction with its immediates, close to the text format, for errors and dumps.
func (in *Instr) String() string {
	info := in.Op.info()
	if info == nil {
		return in.Op.String()
	}
	var b strings.Builder
	b.WriteString(info.Name)
	add := func(args ...any) {
		for _, a := range args {
			fmt.Fprintf(&b, " %v", a)
		}
	}
	switch info.Imm {
	case ImmBlock:
		add(in.Block)
	case ImmTryTable:
		add(in.Block)
		for _, c := range in.Catches {
			add(c)
		}
	case ImmLabel, ImmFunc, ImmType, ImmLocal, ImmGlobal, ImmTable, ImmElem, ImmData, ImmMemory, ImmTag:
		add(in.Index)
	case ImmTypeTable, ImmTableTable, ImmElemTable, ImmDataMemory, ImmMemoryMemory:
		add(in.Index, in.Index2)
	case ImmLabels:
		for _, l := range in.Labels {
			add(l)
		}
	case ImmTypes:
		for _, t := range in.Types {
			add(t)
		}
	case ImmHeap:
		add(in.Heap)
	case ImmMemArg, ImmMemArgLane:
		if in.MemArg.Memory != 0 {
			add(in.MemArg.Memory)
		}
		fmt.Fprintf(&b, " offset=%d align=%d", in.MemArg.Offset, uint64(1)<<in.MemArg.Align)
		if info.Imm == ImmMemArgLane {
			add(in.Lane)
		}
	case ImmLane:
		add(in.Lane)
	case ImmShuffle:
		for _, l := range in.Lanes {
			add(l)
		}
	case ImmI32:
		add(int32(in.Const))
	case ImmI64:
		add(int64(in.Const))
	case ImmF32:
		fmt.Fprintf(&b, " %#08x", uint32(in.Const))
	case ImmF64:
		fmt.Fprintf(&b, " %#016x", in.Const)
	case ImmV128:
		fmt.Fprintf(&b, " i64x2 %#016x %#016x", in.Const, in.ConstHi)
	}
	return b.String()
}

// String returns the type as it stands in the text format, "" if it is empty.
func (t BlockType) String() string {
	switch {
	case t.Indexed:
		return fmt.Sprintf("(type %d)", t.Index)
	case t.Value != 0:
		return fmt.Sprintf("(result %v)", t.Value)
	}
	return ""
}

// String returns the clause as it stands in the text format.
func (c Catch) String() string {
	switch c.Kind {
	case CatchTag:
		return fmt.Sprintf("(catch %d %d)", c.Tag, c.Label)
	case CatchTagRef:
		return fmt.Sprintf("(catch_ref %d %d)", c.Tag, c.Label)
	case CatchAll:
		return fmt.Sprintf("(catch_all %d)", c.Label)
	}
	return fmt.Sprintf("(catch_all_ref %d)", c.Label)
}
