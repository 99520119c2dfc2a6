package snapshot

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// The little of CBOR (RFC 8949) that manifests and states are made of, in its core deterministic encoding: integers,
// byte and text strings, booleans, arrays, and maps with integer keys ascending. A library that reflects would take as long
// as all else that a small commit needs; a test compares with one.

// The major types.
const (
	cborUint  = 0
	cborNeg   = 1
	cborBytes = 2
	cborText  = 3
	cborArray = 4
	cborMap   = 5

	cborFalse = 0xf4
	cborTrue  = 0xf5
)

// appendHead appends the start of an item: its major type and its argument in the shortest form.
func appendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, major|27), n)
	}
}

func appendUint(b []byte, n uint64) []byte { return appendHead(b, cborUint, n) }

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, cborNeg, uint64(^n))
	}
	return appendHead(b, cborUint, uint64(n))
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, cborText, uint64(len(s))), s...)
}

func appendBytes[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(appendHead(b, cborBytes, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, cborTrue)
	}
	return append(b, cborFalse)
}

// mapWriter appends a map of at most 23 pairs to b.
type mapWriter struct {
	b    []byte
	head int // where the map's head is, which counts the pairs
}

func newMap(b []byte) mapWriter {
	return mapWriter{append(b, cborMap<<5), len(b)}
}

// key starts a pair, whose value is to be appended to b.
func (m *mapWriter) key(k uint64) {
	m.b[m.head]++
	m.b = appendUint(m.b, k)
}

func (m *mapWriter) uint(k, n uint64) {
	if n != 0 {
		m.key(k)
		m.b = appendUint(m.b, n)
	}
}

func (m *mapWriter) text(k uint64, s string) {
	if s != "" {
		m.key(k)
		m.b = appendText(m.b, s)
	}
}

// head reads the start of an item of a major type and returns its argument.
func (u *unpacker) head(major byte) uint64 {
	h := u.byte()
	if u.err == nil && h>>5 != major {
		u.at--
		u.fail("an item of CBOR's major type %d, where one of type %d belongs", h>>5, major)
	}
	return u.argument(h)
}

// peek returns the major type of the next item, or of none.
func (u *unpacker) peek() byte {
	if !u.more() {
		return 0xff
	}
	return u.b[u.at] >> 5
}

// argument reads the argument of an item that starts with h.
func (u *unpacker) argument(h byte) uint64 {
	n := uint64(h & 31)
	least := uint64(0)
	switch n {
	case 24:
		n, least = uint64(u.byte()), 24
	case 25:
		if b := u.bytes(2); b != nil {
			n, least = uint64(binary.BigEndian.Uint16(b)), math.MaxUint8+1
		}
	case 26:
		if b := u.bytes(4); b != nil {
			n, least = uint64(binary.BigEndian.Uint32(b)), math.MaxUint16+1
		}
	case 27:
		if b := u.bytes(8); b != nil {
			n, least = binary.BigEndian.Uint64(b), math.MaxUint32+1
		}
	case 28, 29, 30, 31:
		u.fail("of indefinite length, or no CBOR")
	}
	if n < least {
		u.fail("a number is not in its shortest form")
	}
	if u.err != nil {
		return 0
	}
	return n
}

func (u *unpacker) number(limit uint64) uint64 {
	n := u.head(cborUint)
	if n > limit {
		u.fail("number is larger than %d", limit)
		return 0
	}
	return n
}

func (u *unpacker) int() int64 {
	h := u.byte()
	if u.err == nil && h>>5 > cborNeg {
		u.fail("not an integer")
	}
	n := u.argument(h)
	if n > math.MaxInt64 {
		u.fail("number is out of range")
	}
	if h>>5 == cborNeg {
		return ^int64(n)
	}
	return int64(n)
}

// count reads the number of an array's elements, each of which takes a byte at least.
func (u *unpacker) count() int {
	n := u.head(cborArray)
	if n > maxList || int64(n) > int64(u.left()) {
		u.fail("%d elements in %d bytes", n, u.left())
		return 0
	}
	return int(n)
}

// tuple reads the start of an array of n elements.
func (u *unpacker) tuple(n int) {
	if got := u.count(); u.err == nil && got != n {
		u.fail("%d elements instead of %d", got, n)
	}
}

// blob reads a byte string, which aliases what is read. It is nil only after an error.
func (u *unpacker) blob() []byte {
	n := u.head(cborBytes)
	return u.bytes(int(min(n, math.MaxInt)))
}

func (u *unpacker) text() string {
	n := u.head(cborText)
	b := u.bytes(int(min(n, math.MaxInt)))
	if !utf8.Valid(b) {
		u.fail("a text is not UTF-8")
		return ""
	}
	return string(b)
}

func (u *unpacker) bool() bool {
	h := u.byte()
	if u.err == nil && h != cborTrue && h != cborFalse {
		u.fail("not a truth value")
	}
	return h == cborTrue
}

// pairs reads a map and calls f to read the value of each key, which fails for one that it doesn't know.
func (u *unpacker) pairs(f func(key uint64)) {
	next := uint64(0)
	for n := u.head(cborMap); n > 0 && u.err == nil; n-- {
		key := u.number(math.MaxUint8)
		if u.err == nil && key < next {
			u.fail("key %d is repeated or out of order", key)
		}
		if u.err == nil {
			f(key)
		}
		next = key + 1
	}
}

func (u *unpacker) unknown(key uint64) { u.fail("unknown key %d", key) }
