package wasi

import (
	"github.com/durun/durun/hostabi"
)

func argsGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	return putStrings(g, i.args, uint32(p[0]), uint32(p[1]))
}

func argsSizesGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	return putStringSizes(g, i.args, uint32(p[0]), uint32(p[1]))
}

func environGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	return putStrings(g, i.env, uint32(p[0]), uint32(p[1]))
}

func environSizesGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	return putStringSizes(g, i.env, uint32(p[0]), uint32(p[1]))
}

// sizeOf returns how many bytes the strings take, each with its NUL.
func sizeOf(list []string) (n uint64) {
	for _, s := range list {
		n += uint64(len(s)) + 1
	}
	return n
}

// putStringSizes writes the number of strings and of their bytes. New bounds both.
func putStringSizes(g *hostabi.Guest, list []string, count, size uint32) errno {
	if e := putU32(g, count, uint32(len(list))); e != success {
		return e
	}
	return putU32(g, size, uint32(sizeOf(list)))
}

// putStrings writes the strings, NUL-terminated, to buf, and the offset of each to the array at ptrs.
func putStrings(g *hostabi.Guest, list []string, ptrs, buf uint32) errno {
	p, ok := bytesAt(g, ptrs, uint64(len(list))*4)
	if !ok {
		return eFault
	}
	b, ok := bytesAt(g, buf, sizeOf(list))
	if !ok {
		return eFault
	}
	n := 0
	for i, s := range list {
		le.PutUint32(p[i*4:], buf+uint32(n))
		n += copy(b[n:], s)
		b[n] = 0
		n++
	}
	return success
}
