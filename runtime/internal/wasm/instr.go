package wasm

import "encoding/binary"

// Instr is one instruction. Which of the fields of immediates hold depends on the opcode, see [Imm]; the others are
// left over from what the Instr held before.
type Instr struct {
	Op Opcode
	// Offset and End are where the instruction starts and where the next one does, in the slice given to the Reader.
	Offset, End int

	Block BlockType
	// Index is a local, global, function, type, table, memory, label, tag or segment. Index2 is the second of two:
	// the table of call_indirect and table.init, the memory of memory.init, the source of table.copy and memory.copy.
	Index, Index2 uint32
	MemArg        MemArg
	// Const is the constant's bits, of v128 the bytes 0 to 7. ConstHi is the bytes 8 to 15 of v128.
	Const, ConstHi uint64
	Lane           byte
	Lanes          [16]byte // i8x16.shuffle
	Heap           HeapType // ref.null

	// The slices are reused by the next call of Reader.Next with the same Instr.
	Labels  []uint32    // br_table; the default is the last
	Catches []Catch     // try_table
	Types   []ValueType // select with a type
}

// MemArg is the alignment and offset of a memory access.
type MemArg struct {
	Align  uint32 // log2 of the alignment in bytes
	Offset uint64
	Memory uint32 // 0, until there is more than one
}

// The kinds of catch clauses, with their codes in the binary format.
const (
	CatchTag    byte = 0 // catch: the exception's values
	CatchTagRef byte = 1 // catch_ref: the exception's values, then a reference to it
	CatchAll    byte = 2 // catch_all: nothing
	CatchAllRef byte = 3 // catch_all_ref: a reference to the exception
)

// Catch is a catch clause of try_table. Label counts from outside the try_table.
type Catch struct {
	Kind       byte
	Tag, Label uint32
}

// HasTag reports whether the clause names a tag.
func (c Catch) HasTag() bool { return c.Kind <= CatchTagRef }

// HasRef reports whether the clause hands a reference to the exception to its label.
func (c Catch) HasRef() bool { return c.Kind&1 != 0 }

// AppendInstr appends the instruction with its immediates, numbers in as few bytes as they take.
func AppendInstr(dst []byte, in *Instr) []byte {
	if in.Op > 0xff {
		dst = append(dst, byte(in.Op>>16))
		dst = AppendU32(dst, uint32(in.Op&0xffff))
	} else {
		dst = append(dst, byte(in.Op))
	}
	info := in.Op.info()
	if info == nil {
		return dst
	}
	switch info.Imm {
	case ImmNone:
	case ImmBlock:
		dst = AppendBlockType(dst, in.Block)
	case ImmTryTable:
		dst = AppendBlockType(dst, in.Block)
		dst = AppendU32(dst, uint32(len(in.Catches)))
		for _, c := range in.Catches {
			dst = append(dst, c.Kind)
			if c.HasTag() {
				dst = AppendU32(dst, c.Tag)
			}
			dst = AppendU32(dst, c.Label)
		}
	case ImmLabel, ImmFunc, ImmType, ImmLocal, ImmGlobal, ImmTable, ImmElem, ImmData, ImmMemory, ImmTag:
		dst = AppendU32(dst, in.Index)
	case ImmTypeTable, ImmTableTable, ImmElemTable, ImmDataMemory, ImmMemoryMemory:
		dst = AppendU32(dst, in.Index)
		dst = AppendU32(dst, in.Index2)
	case ImmLabels:
		if len(in.Labels) == 0 {
			panic("wasm: br_table without a default label")
		}
		dst = AppendU32(dst, uint32(len(in.Labels)-1))
		for _, l := range in.Labels {
			dst = AppendU32(dst, l)
		}
	case ImmTypes:
		dst = AppendU32(dst, uint32(len(in.Types)))
		for _, t := range in.Types {
			dst = AppendValueType(dst, t)
		}
	case ImmHeap:
		dst = appendHeapType(dst, in.Heap)
	case ImmMemArg:
		dst = appendMemArg(dst, in.MemArg)
	case ImmMemArgLane:
		dst = append(appendMemArg(dst, in.MemArg), in.Lane)
	case ImmLane:
		dst = append(dst, in.Lane)
	case ImmShuffle:
		dst = append(dst, in.Lanes[:]...)
	case ImmI32:
		dst = AppendS32(dst, int32(in.Const))
	case ImmI64:
		dst = AppendS64(dst, int64(in.Const))
	case ImmF32:
		dst = binary.LittleEndian.AppendUint32(dst, uint32(in.Const))
	case ImmF64:
		dst = binary.LittleEndian.AppendUint64(dst, in.Const)
	case ImmV128:
		dst = binary.LittleEndian.AppendUint64(dst, in.Const)
		dst = binary.LittleEndian.AppendUint64(dst, in.ConstHi)
	}
	return dst
}

// memArgMemory is the bit of a memory argument's first number that says that a memory index follows.
const memArgMemory = 1 << 6

func appendMemArg(dst []byte, m MemArg) []byte {
	if m.Memory != 0 {
		dst = AppendU32(dst, m.Align|memArgMemory)
		dst = AppendU32(dst, m.Memory)
	} else {
		dst = AppendU32(dst, m.Align)
	}
	return AppendU64(dst, m.Offset)
}
