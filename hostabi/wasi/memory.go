package wasi

import (
	"encoding/binary"
	"math"

	"github.com/durun/durun/hostabi"
)

// le is the byte order of linear memory.
var le = binary.LittleEndian

// bytesAt returns n bytes of the guest's memory at off, a view, or false if they don't all exist. It takes n as 64
// bits, so that a caller can multiply a guest's 32-bit count without overflow.
func bytesAt(g *hostabi.Guest, off uint32, n uint64) ([]byte, bool) {
	if g.Memory == nil || n > math.MaxUint32 {
		return nil, false
	}
	return g.Memory.Read(off, uint32(n))
}

func putU32(g *hostabi.Guest, off, v uint32) errno {
	b, ok := bytesAt(g, off, 4)
	if !ok {
		return eFault
	}
	le.PutUint32(b, v)
	return success
}

func putU64(g *hostabi.Guest, off uint32, v uint64) errno {
	b, ok := bytesAt(g, off, 8)
	if !ok {
		return eFault
	}
	le.PutUint64(b, v)
	return success
}

// iovecs is a list of buffers in the guest's memory: pairs of 32-bit offset and length.
type iovecs []byte

// iovecsAt finds the list and checks each of its buffers. total is the sum of the lengths.
func iovecsAt(g *hostabi.Guest, off, count uint32) (v iovecs, total uint32, e errno) {
	b, ok := bytesAt(g, off, uint64(count)*8)
	if !ok {
		return nil, 0, eFault
	}
	v = b
	var sum uint64
	for i := range v.len() {
		buf, ok := v.buffer(g, i)
		if !ok {
			return nil, 0, eFault
		}
		if sum += uint64(len(buf)); sum > math.MaxUint32 {
			return nil, 0, eInval // overlapping buffers; the count of bytes could not be returned
		}
	}
	return v, uint32(sum), success
}

func (v iovecs) len() int { return len(v) / 8 }

// buffer returns the i-th buffer. The list lies in memory that a read may just have overwritten, so each use checks anew.
func (v iovecs) buffer(g *hostabi.Guest, i int) ([]byte, bool) {
	return bytesAt(g, le.Uint32(v[i*8:]), uint64(le.Uint32(v[i*8+4:])))
}
