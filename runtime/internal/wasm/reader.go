package wasm

import "io"

// Reader iterates over the instructions of a function body or a constant expression. It checks the form of each
// instruction, and leaves to [FuncValidator] whether it may stand where it does.
type Reader struct {
	c cursor
}

// NewReader returns a Reader of body, which is a sequence of instructions such as [Code.Body].
func NewReader(body []byte) *Reader { return &Reader{cursor{data: body}} }

// Reset makes r read body from its start.
func (r *Reader) Reset(body []byte) { r.c = cursor{data: body} }

// Offset returns where the next instruction starts.
func (r *Reader) Offset() int { return r.c.pos }

// Next reads the next instruction into in, whose slices it reuses. It returns [io.EOF] at the end, else a
// [FormatError], whose offset is in the slice, if there is no instruction that this package knows. After an error it
// keeps returning it. It does not allocate, but to grow the slices of in.
func (r *Reader) Next(in *Instr) error {
	c := &r.c
	if c.err != nil {
		return c.err
	}
	if c.pos >= len(c.data) {
		return io.EOF
	}
	in.Offset = c.pos
	op := Opcode(c.data[c.pos])
	c.pos++
	imm := coreImm[op]
	if imm == immPrefix {
		info := (*Info)(nil)
		if op, info = prefixed(c, op); info == nil {
			return c.err
		}
		imm = info.Imm
	}
	in.Op = op
	switch imm {
	case ImmNone:
		in.End = c.pos
		return nil
	case ImmLocal, ImmGlobal, ImmLabel, ImmFunc, ImmType, ImmTable, ImmElem, ImmData, ImmTag:
		if c.pos < len(c.data) && c.data[c.pos] < 0x80 {
			in.Index = uint32(c.data[c.pos])
			c.pos++
			in.End = c.pos
			return nil
		}
		in.Index = c.u32()
	case ImmI32:
		// Kept as 32 bits, so that equal constants are equal.
		in.Const = uint64(uint32(c.s32()))
	case ImmMemArg:
		readMemArg(c, &in.MemArg)
	case ImmBlock:
		in.Block = c.blockType()
	default:
		readImmediates(c, imm, in)
	}
	in.End = c.pos
	if c.err != nil {
		return c.err
	}
	return nil
}

// coreImm has the immediates of the opcodes of one byte in little room. immPrefix stands for the rest.
var coreImm = func() (imms [len(coreInfo)]Imm) {
	for op := range coreInfo {
		if imms[op] = coreInfo[op].Imm; coreInfo[op].Name == "" {
			imms[op] = immPrefix
		}
	}
	return imms
}()

const immPrefix Imm = 0xff

// prefixed reads the rest of an opcode that isn't one byte, and returns nil if there is no such instruction.
func prefixed(c *cursor, op Opcode) (Opcode, *Info) {
	at := c.pos - 1
	feature := ""
	switch prefix := op; prefix {
	case prefixMisc, prefixVector:
		sub := c.u32()
		if c.err != nil {
			return 0, nil
		}
		if prefix == prefixVector && c.data[c.pos-1] == 0 && c.pos-at > 2 {
			// wazero takes 0xfd 0x80 0x00 for 0xfd 0x80 0x01, another instruction. Nobody writes it.
			c.fail(at, "a vector opcode is padded")
			return 0, nil
		}
		if sub <= 0xffff {
			op = prefix<<16 | Opcode(sub)
			if info := op.info(); info != nil {
				return op, info
			}
		}
		switch {
		case prefix == prefixVector && sub >= 0x100 && sub < 0x130:
			feature = "relaxed SIMD"
		case prefix == prefixMisc && sub >= 0x13 && sub <= 0x16:
			feature = "wide arithmetic"
		default:
			c.fail(at, "no instruction has the opcode %#x %#x", uint32(prefix), sub)
			return 0, nil
		}
	case 0x06, 0x07, 0x09, 0x18, 0x19:
		feature = "legacy exception handling (try, catch, rethrow, delegate)"
	case 0xfe:
		feature = "threads (atomic instructions)"
	case 0xfb, 0xd3:
		feature = "garbage collection"
	default:
		c.fail(at, "no instruction has the opcode %#02x", uint32(op))
		return 0, nil
	}
	c.failWith(at, unsupported(feature))
	return 0, nil
}

// readImmediates reads the immediates that aren't read in [Reader.Next], the rarer ones.
func readImmediates(c *cursor, imm Imm, in *Instr) {
	switch imm {
	case ImmTypeTable, ImmTableTable, ImmElemTable:
		in.Index = c.u32()
		in.Index2 = c.u32()
	case ImmMemory:
		in.Index = readMemory(c)
	case ImmDataMemory:
		in.Index = c.u32()
		in.Index2 = readMemory(c)
	case ImmMemoryMemory:
		in.Index = readMemory(c)
		in.Index2 = readMemory(c)
	case ImmLabels:
		in.Labels = in.Labels[:0]
		n := c.count(1, "labels")
		for i := 0; i <= n && c.err == nil; i++ { // one more: the default
			in.Labels = append(in.Labels, c.u32())
		}
	case ImmTryTable:
		in.Block = c.blockType()
		in.Catches = in.Catches[:0]
		n := c.count(2, "catch clauses")
		for i := 0; i < n && c.err == nil; i++ {
			in.Catches = append(in.Catches, readCatch(c))
		}
	case ImmTypes:
		in.Types = in.Types[:0]
		n := c.count(1, "types")
		for i := 0; i < n && c.err == nil; i++ {
			in.Types = append(in.Types, c.valueType())
		}
	case ImmHeap:
		in.Heap = c.heapType()
	case ImmMemArgLane:
		readMemArg(c, &in.MemArg)
		in.Lane = c.byte()
	case ImmLane:
		in.Lane = c.byte()
	case ImmShuffle:
		copy(in.Lanes[:], c.bytes(16))
	case ImmI64:
		in.Const = uint64(c.s64())
	case ImmF32:
		in.Const = uint64(c.le32())
	case ImmF64:
		in.Const = c.le64()
	case ImmV128:
		in.Const = c.le64()
		in.ConstHi = c.le64()
	}
}

// readMemArg reads the alignment and offset of a memory access.
func readMemArg(c *cursor, m *MemArg) {
	at := c.pos
	m.Align = c.u32()
	m.Memory = 0
	if m.Align&^(memArgMemory-1) == memArgMemory {
		c.failWith(at, unsupported("multiple memories"))
	} else if m.Align > memArgMemory {
		c.fail(at, "alignment 2^%d is too large", m.Align)
	}
	// 64 bits are for memories of 64 bits, which this package refuses.
	m.Offset = uint64(c.u32())
}

// readMemory reads the index of a memory. It has one byte, as long as there is one memory: before the proposal of
// many memories, it was a reserved byte.
func readMemory(c *cursor) uint32 {
	at := c.pos
	b := c.byte()
	if b >= 0x80 {
		c.failWith(at, unsupported("multiple memories"))
	}
	return uint32(b)
}

// readCatch reads a catch clause.
func readCatch(c *cursor) Catch {
	at := c.pos
	k := Catch{Kind: c.byte()}
	if k.Kind > CatchAllRef {
		c.fail(at, "%#02x isn't a kind of catch clause", k.Kind)
		return Catch{}
	}
	if k.HasTag() {
		k.Tag = c.u32()
	}
	k.Label = c.u32()
	return k
}
