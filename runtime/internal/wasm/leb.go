package wasm

// What decodeUnsigned and decodeSigned return in place of a length.
const (
	lebShort = 0  // the input ends before the number does
	lebLong  = -1 // more bytes than a number of that many bits may have
	lebRange = -2 // a value that doesn't fit
)

// decodeUnsigned reads an unsigned LEB128 number of at most bits bits, and returns it with its length in bytes.
func decodeUnsigned(b []byte, bits int) (uint64, int) {
	var v uint64
	for i, shift := 0, 0; ; i, shift = i+1, shift+7 {
		if shift >= bits {
			return 0, lebLong
		}
		if i >= len(b) {
			return 0, lebShort
		}
		x := uint64(b[i])
		if room := bits - shift; room < 7 && x&0x7f>>room != 0 {
			if x >= 0x80 {
				return 0, lebLong
			}
			return 0, lebRange
		}
		v |= x & 0x7f << shift
		if x < 0x80 {
			return v, i + 1
		}
	}
}

// decodeSigned reads a signed LEB128 number of at most bits bits, and returns it with its length in bytes.
func decodeSigned(b []byte, bits int) (int64, int) {
	var v int64
	for i, shift := 0, 0; ; i, shift = i+1, shift+7 {
		if shift >= bits {
			return 0, lebLong
		}
		if i >= len(b) {
			return 0, lebShort
		}
		x := b[i]
		if room := bits - shift; room < 7 {
			if x >= 0x80 {
				return 0, lebLong
			}
			// The bits beyond the number must repeat its sign.
			if s := int8(x<<1) >> room; s != 0 && s != -1 {
				return 0, lebRange
			}
		}
		v |= int64(x&0x7f) << shift
		if x < 0x80 {
			if shift+7 < 64 && x&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v, i + 1
		}
	}
}

// AppendU32 appends v in unsigned LEB128, in as few bytes as it takes.
func AppendU32(dst []byte, v uint32) []byte { return AppendU64(dst, uint64(v)) }

// AppendU64 appends v in unsigned LEB128, in as few bytes as it takes.
func AppendU64(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// AppendS32 appends v in signed LEB128, in as few bytes as it takes.
func AppendS32(dst []byte, v int32) []byte { return AppendS64(dst, int64(v)) }

// AppendS33 appends v, which must fit 33 bits, in signed LEB128, in as few bytes as it takes.
func AppendS33(dst []byte, v int64) []byte { return AppendS64(dst, v) }

// AppendS64 appends v in signed LEB128, in as few bytes as it takes.
func AppendS64(dst []byte, v int64) []byte {
	for {
		b := byte(v & 0x7f)
		v >>= 7
		// The last byte's bit 6 is the sign that a reader extends.
		if (v == 0 && b&0x40 == 0) || (v == -1 && b&0x40 != 0) {
			return append(dst, b)
		}
		dst = append(dst, b|0x80)
	}
}
