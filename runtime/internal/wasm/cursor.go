package wasm

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// cursor reads the binary format from a slice. Its first error sticks: from then on every method returns zero, so
// that callers check once, after a group of reads. A loop must check, lest it run as often as a hostile count says.
type cursor struct {
	data []byte
	pos  int
	err  *FormatError
	// section is the section's name, for errors.
	section string
}

// fail notes an error at offset off, unless there is one already.
func (c *cursor) fail(off int, format string, args ...any) {
	if c.err == nil {
		c.err = &FormatError{Section: c.section, Offset: off, Msg: fmt.Sprintf(format, args...)}
	}
}

// failWith is fail with a cause.
func (c *cursor) failWith(off int, err error) {
	if c.err == nil {
		c.err = &FormatError{Section: c.section, Offset: off, Err: err}
	}
}

// inItem names the entry that was being read in the error, if there is one that doesn't name it yet.
func (c *cursor) inItem(kind string, i int) {
	if c.err != nil && c.err.Item == "" {
		c.err.Item = fmt.Sprintf("%s %d", kind, i)
	}
}

// left returns how many bytes are left to read.
func (c *cursor) left() int { return len(c.data) - c.pos }

func (c *cursor) byte() byte {
	if c.err != nil {
		return 0
	}
	if c.pos >= len(c.data) {
		c.fail(c.pos, "unexpected end")
		return 0
	}
	b := c.data[c.pos]
	c.pos++
	return b
}

// bytes returns the next n bytes. They alias the input.
func (c *cursor) bytes(n uint32) []byte {
	if c.err != nil {
		return nil
	}
	if uint64(n) > uint64(c.left()) {
		c.fail(c.pos, "unexpected end: %d bytes wanted, %d left", n, c.left())
		return nil
	}
	b := c.data[c.pos : c.pos+int(n) : c.pos+int(n)]
	c.pos += int(n)
	return b
}

// u32 reads an unsigned LEB128 number of 32 bits. Nearly all of them have one byte.
func (c *cursor) u32() uint32 {
	if c.pos < len(c.data) && c.err == nil {
		if b := c.data[c.pos]; b < 0x80 {
			c.pos++
			return uint32(b)
		}
	}
	return uint32(c.unsigned(32))
}

func (c *cursor) u64() uint64 { return c.unsigned(64) }
func (c *cursor) s32() int32  { return int32(c.signed(32)) }
func (c *cursor) s33() int64  { return c.signed(33) }
func (c *cursor) s64() int64  { return c.signed(64) }

func (c *cursor) unsigned(bits int) uint64 {
	if c.err != nil {
		return 0
	}
	v, n := decodeUnsigned(c.data[c.pos:], bits)
	return uint64(c.number(int64(v), n, bits))
}

func (c *cursor) signed(bits int) int64 {
	if c.err != nil {
		return 0
	}
	if c.pos < len(c.data) && c.data[c.pos] < 0x80 {
		b := c.data[c.pos]
		c.pos++
		return int64(int8(b<<1) >> 1)
	}
	v, n := decodeSigned(c.data[c.pos:], bits)
	return c.number(v, n, bits)
}

// number moves past a number of n bytes, or notes what n says is wrong with it.
func (c *cursor) number(v int64, n, bits int) int64 {
	switch n {
	case lebShort:
		c.fail(len(c.data), "unexpected end in a number that starts at byte %#x", c.pos)
		return 0
	case lebLong:
		c.fail(c.pos, "number is longer than %d bits allow", bits)
		return 0
	case lebRange:
		c.fail(c.pos, "number doesn't fit %d bits", bits)
		return 0
	}
	c.pos += n
	return v
}

func (c *cursor) le32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) le64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// count reads the length of a vector whose elements take at least size bytes each. It refuses a length that the
// input can't hold.
func (c *cursor) count(size int, what string) int {
	at := c.pos
	n := c.u32()
	if c.err == nil && uint64(n)*uint64(size) > uint64(c.left()) {
		c.fail(at, "%d %s can't be in the %d bytes left", n, what, c.left())
		return 0
	}
	return int(n)
}

// vector reads a vector whose elements take at least size bytes each. Ahead of reading it allocates no more than the
// size of the input, whatever a hostile count claims.
func vector[T any](c *cursor, size int, what string, read func(i int) T) []T {
	n := c.count(size, what)
	v := make([]T, 0, min(n, len(c.data)/int(reflect.TypeFor[T]().Size())))
	for i := 0; i < n && c.err == nil; i++ {
		v = append(v, read(i))
	}
	return v
}

// name reads a string, which must be UTF-8.
func (c *cursor) name(what string) string {
	at := c.pos
	b := c.bytes(c.u32())
	if !utf8.Valid(b) {
		c.fail(at, "%s isn't UTF-8", what)
		return ""
	}
	return string(b)
}

// valueType reads a value type.
func (c *cursor) valueType() ValueType {
	at := c.pos
	return c.valueTypeFrom(at, c.byte())
}

// valueTypeFrom reads the rest of a value type that begins with the byte b at offset at.
func (c *cursor) valueTypeFrom(at int, b byte) ValueType {
	switch b {
	case byte(I32), byte(I64), byte(F32), byte(F64), byte(V128):
		return ValueType(b)
	case codeRefNull, codeRef:
		if h := c.heapType(); c.err == nil {
			return RefType(h, b == codeRefNull)
		}
		return 0
	}
	if h, ok := abstractHeap(b); ok {
		return RefType(h, true)
	}
	if _, ok := gcTypes[b]; ok {
		c.failWith(at, unsupported("garbage collection (type "+gcTypes[b]+")"))
		return 0
	}
	c.fail(at, "%#02x isn't a value type", b)
	return 0
}

// refType reads a reference type.
func (c *cursor) refType() ValueType {
	at := c.pos
	t := c.valueType()
	if c.err == nil && !t.IsRef() {
		c.fail(at, "%v isn't a reference type", t)
	}
	return t
}

// heapType reads a heap type: a code of one byte, or the index of a type.
func (c *cursor) heapType() HeapType {
	at := c.pos
	v := c.s33()
	if c.err != nil {
		return 0
	}
	if v >= 0 {
		if v >= int64(maxTypes) {
			c.fail(at, "type index %d is too large", v)
			return 0
		}
		return HeapType(v)
	}
	if v >= -64 {
		b := byte(v & 0x7f)
		if h, ok := abstractHeap(b); ok {
			return h
		}
		if _, ok := gcTypes[b]; ok {
			c.failWith(at, unsupported("garbage collection (heap type "+gcTypes[b]+")"))
			return 0
		}
	}
	c.fail(at, "%d isn't a heap type", v)
	return 0
}

// limits reads the size range of a memory or a table.
func (c *cursor) limits() Limits {
	at := c.pos
	flags := c.byte()
	if flags > limitsMax|limitsShared|limits64 {
		c.fail(at, "%#02x aren't flags of limits", flags)
	}
	l := Limits{HasMax: flags&limitsMax != 0, Shared: flags&limitsShared != 0, Is64: flags&limits64 != 0}
	read := func() uint64 {
		if l.Is64 {
			return c.u64()
		}
		return uint64(c.u32())
	}
	l.Min = read()
	if l.HasMax {
		l.Max = read()
	}
	return l
}

// tableType reads a table's type.
func (c *cursor) tableType() TableType {
	elem := c.refType()
	return TableType{Elem: elem, Limits: c.limits()}
}

// globalType reads a global's type.
func (c *cursor) globalType() GlobalType {
	t := c.valueType()
	at := c.pos
	mut := c.byte()
	if mut > 1 {
		c.fail(at, "%#02x isn't a mutability", mut)
	}
	return GlobalType{Type: t, Mutable: mut == 1}
}

// blockType reads the type of a block.
func (c *cursor) blockType() BlockType {
	at := c.pos
	if at < len(c.data) && c.err == nil {
		// A negative number of one byte is a code; others that start alike are references in their long form.
		b := c.data[at]
		if b == codeEmptyBlock {
			c.pos++
			return BlockType{}
		}
		if b&0xc0 == 0x40 {
			c.pos++
			return BlockValue(c.valueTypeFrom(at, b))
		}
	}
	i := c.s33()
	if c.err != nil {
		return BlockType{}
	}
	if i < 0 || i >= int64(maxTypes) {
		c.fail(at, "%d isn't a block type", i)
		return BlockType{}
	}
	return BlockIndex(uint32(i))
}
