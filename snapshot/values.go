package snapshot

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Packed encodings: lists of values, frames, globals, numbers. FORMAT.md specifies each.

// typeCodes gives the value types their packed codes.
var typeCodes = [...]ValueType{I32, I64, F32, F64, V128, FuncRef}

func typeCode(t ValueType) (byte, bool) {
	for i, v := range typeCodes {
		if v == t {
			return byte(i), true
		}
	}
	return 0, false
}

// String returns the type's name in WebAssembly's text format.
func (t ValueType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case FuncRef:
		return "funcref"
	default:
		return fmt.Sprintf("valuetype(%#02x)", byte(t))
	}
}

// check says what is wrong with a value, or "".
func (v Value) check() string {
	if _, ok := typeCode(v.Type); !ok {
		return "of an unknown type, " + v.Type.String()
	}
	if v.Hi != 0 && v.Type != V128 {
		return v.Type.String() + " with high bits"
	}
	if (v.Type == I32 || v.Type == F32) && v.Lo > math.MaxUint32 || v.Type == FuncRef && v.Lo > 1<<32 {
		return fmt.Sprintf("%v of more than 32 bits: %#x", v.Type, v.Lo)
	}
	return ""
}

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func appendBits(b []byte, v Value) []byte {
	switch v.Type {
	case I32:
		return binary.AppendUvarint(b, zigzag(int64(int32(v.Lo))))
	case I64:
		return binary.AppendUvarint(b, zigzag(int64(v.Lo)))
	case F32:
		return binary.LittleEndian.AppendUint32(b, uint32(v.Lo))
	case F64:
		return binary.LittleEndian.AppendUint64(b, v.Lo)
	case V128:
		b = binary.LittleEndian.AppendUint64(b, v.Lo)
		return binary.LittleEndian.AppendUint64(b, v.Hi)
	default:
		return binary.AppendUvarint(b, v.Lo)
	}
}

func appendValue(b []byte, v Value) []byte {
	c, _ := typeCode(v.Type)
	return appendBits(append(b, c), v)
}

func appendValues(b []byte, vs []Value) []byte {
	for _, v := range vs {
		b = appendValue(b, v)
	}
	return b
}

// unpacker reads a packed encoding. Its first error sticks; reads return zeros then.
type unpacker struct {
	name string
	b    []byte
	at   int
	base int // where b starts, for errors
	err  error
}

func (u *unpacker) fail(format string, args ...any) {
	if u.err == nil {
		u.err = corrupt(u.name, u.base+u.at, format, args...)
	}
}

func (u *unpacker) more() bool { return u.err == nil && u.at < len(u.b) }
func (u *unpacker) left() int  { return len(u.b) - u.at }

func (u *unpacker) bytes(n int) []byte {
	if u.err != nil {
		return nil
	}
	if n < 0 || n > u.left() {
		u.fail("truncated: %d bytes wanted, %d left", n, u.left())
		return nil
	}
	u.at += n
	return u.b[u.at-n : u.at : u.at]
}

func (u *unpacker) byte() byte {
	if b := u.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// uvarint reads a number up to limit in the shortest form of LEB128.
func (u *unpacker) uvarint(limit uint64) uint64 {
	if u.err != nil {
		return 0
	}
	v, n := binary.Uvarint(u.b[u.at:])
	switch {
	case n == 0:
		u.fail("truncated number")
	case n < 0 || v > limit:
		u.fail("number is larger than %d", limit)
	case n > 1 && u.b[u.at+n-1] == 0:
		u.fail("number is not in its shortest form")
	default:
		u.at += n
		return v
	}
	return 0
}

func (u *unpacker) uint32() uint32 { return uint32(u.uvarint(math.MaxUint32)) }

func (u *unpacker) bits(code byte) Value {
	if int(code) >= len(typeCodes) {
		u.fail("unknown type code %d", code)
		return Value{}
	}
	v := Value{Type: typeCodes[code]}
	switch v.Type {
	case I32:
		v.Lo = uint64(uint32(unzigzag(u.uvarint(math.MaxUint32))))
	case I64:
		v.Lo = uint64(unzigzag(u.uvarint(math.MaxUint64)))
	case F32:
		if b := u.bytes(4); b != nil {
			v.Lo = uint64(binary.LittleEndian.Uint32(b))
		}
	case F64:
		if b := u.bytes(8); b != nil {
			v.Lo = binary.LittleEndian.Uint64(b)
		}
	case V128:
		if b := u.bytes(16); b != nil {
			v.Lo, v.Hi = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		}
	default:
		v.Lo = u.uvarint(1 << 32)
	}
	return v
}

func (u *unpacker) value() Value { return u.bits(u.byte()) }

func (u *unpacker) values() []Value {
	var vs []Value
	for u.more() {
		if len(vs) == maxList {
			u.fail("more than %d values", maxList)
			return nil
		}
		vs = append(vs, u.value())
	}
	return vs
}

// Ascending numbers are stored as the first one and then the gaps between each and the next, less one.

func appendAscending(b []byte, ns []uint32) []byte {
	next := uint32(0)
	for _, n := range ns {
		b = binary.AppendUvarint(b, uint64(n-next))
		next = n + 1
	}
	return b
}

// step reads the next number of an ascending list; next is one more than the last.
func (u *unpacker) step(next *uint64) uint32 {
	n := *next + u.uvarint(math.MaxUint32)
	if n > math.MaxUint32 {
		u.fail("number is larger than %d", uint32(math.MaxUint32))
		return 0
	}
	*next = n + 1
	return uint32(n)
}

func (u *unpacker) ascending() []uint32 {
	var ns []uint32
	next := uint64(0)
	for u.more() {
		ns = append(ns, u.step(&next))
	}
	return ns
}

// A slot's head is its index, then one bit for an operand, then three for its type.

func appendFrames(b []byte, frames []Frame) []byte {
	if len(frames) == 0 {
		return b
	}
	slots := 0
	for i := range frames {
		slots += len(frames[i].Slots)
	}
	b = binary.AppendUvarint(b, uint64(len(frames)))
	b = binary.AppendUvarint(b, uint64(slots))
	for i := range frames {
		f := &frames[i]
		b = binary.AppendUvarint(b, uint64(f.Function))
		b = binary.AppendUvarint(b, uint64(f.Offset))
		b = binary.AppendUvarint(b, uint64(len(f.Slots)))
		for _, s := range f.Slots {
			c, _ := typeCode(s.Value.Type)
			head := uint64(s.Index)<<4 | uint64(c)
			if s.Operand {
				head |= 8
			}
			b = appendBits(binary.AppendUvarint(b, head), s.Value)
		}
	}
	return b
}

func (u *unpacker) frames() []Frame {
	if !u.more() {
		return nil
	}
	// A frame takes three bytes at least and a slot two, so the counts can't claim what isn't there.
	n := int(u.uvarint(MaxFrames))
	total := int(u.uvarint(MaxSlots))
	if u.err == nil && (n == 0 || 3*n+2*total > u.left()) {
		u.fail("%d frames of %d slots in %d bytes", n, total, u.left())
	}
	if u.err != nil {
		return nil
	}
	frames := make([]Frame, n)
	slots := make([]Slot, total)
	for i := range frames {
		f := &frames[i]
		f.Function = u.uint32()
		f.Offset = u.uint32()
		n := int(u.uvarint(MaxSlots))
		if n > len(slots) {
			u.fail("frame %d: more slots than the %d of all frames", i, total)
		}
		if u.err != nil {
			return nil
		}
		if n > 0 {
			f.Slots, slots = slots[:n:n], slots[n:]
		}
		for j := range f.Slots {
			head := u.uvarint(math.MaxUint32<<4 | 15)
			f.Slots[j] = Slot{Operand: head&8 != 0, Index: uint32(head >> 4), Value: u.bits(byte(head & 7))}
		}
	}
	if u.err == nil && len(slots) > 0 {
		u.fail("%d slots fewer than announced", len(slots))
	}
	if u.more() {
		u.fail("%d bytes follow the frames", u.left())
	}
	return frames
}

func appendGlobals(b []byte, globals []Global) []byte {
	next := uint32(0)
	for _, g := range globals {
		b = binary.AppendUvarint(b, uint64(g.Index-next))
		b = appendValue(b, g.Value)
		next = g.Index + 1
	}
	return b
}

func (u *unpacker) globals() []Global {
	var gs []Global
	next := uint64(0)
	for u.more() {
		if len(gs) == maxList {
			u.fail("more than %d globals", maxList)
			return nil
		}
		index := u.step(&next)
		gs = append(gs, Global{Index: index, Value: u.value()})
	}
	return gs
}

// Pages are stored as runs: the gap to the last run, then the length of the run less one.

func appendRuns(b []byte, pages []Page) []byte {
	next := uint32(0)
	for i := 0; i < len(pages); {
		j := i + 1
		for j < len(pages) && pages[j].Number == pages[j-1].Number+1 {
			j++
		}
		b = binary.AppendUvarint(b, uint64(pages[i].Number-next))
		b = binary.AppendUvarint(b, uint64(j-i-1))
		next = pages[j-1].Number + 1
		i = j
	}
	return b
}

// runs calls f with each run's first page and length. Runs that touch are not in the shortest form.
func (u *unpacker) runs(f func(first, n uint32)) {
	const limit = MaxMemory / PageSize
	next := uint64(0)
	for start := true; u.more(); start = false {
		gap := u.uvarint(limit)
		n := u.uvarint(limit) + 1
		if u.err == nil && gap == 0 && !start {
			u.fail("two runs touch")
		}
		first := next + gap
		if next = first + n; next > limit {
			u.fail("page %d is beyond any memory", next-1)
		}
		if u.err != nil {
			return
		}
		f(uint32(first), uint32(n))
	}
}
