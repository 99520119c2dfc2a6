package wasi

import (
	"github.com/durun/durun/hostabi"
)

func fdRead(i *Instance, g *hostabi.Guest, args []uint64, p *hostabi.Pending) (errno, *hostabi.Pending) {
	d := i.fds.get(int32(args[0]))
	if d == nil {
		return eBadf, nil
	}
	if d.kind == kindStdin {
		return i.readStdin(g, d, args, p)
	}
	if d.kind == kindDevice && !d.broken() {
		return i.readDevice(g, d, args, p)
	}
	return transfer(g, args[1], args[2], args[3], readv, d.file.read), nil
}

func fdPread(i *Instance, g *hostabi.Guest, p []uint64) errno {
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	return transfer(g, p[1], p[2], p[4], readv, atOffset(d.file.pread, int64(p[3])))
}

func fdWrite(i *Instance, g *hostabi.Guest, p []uint64) errno {
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	op := ioFunc(d.file.write)
	if d.kind == kindStdout || d.kind == kindStderr {
		op = func(b []byte) (int, errno) {
			if len(b) == 0 || g.Output == nil {
				return len(b), success
			}
			if err := g.Output(uint8(d.kind), b); err != nil {
				return 0, eIO
			}
			return len(b), success
		}
	}
	return transfer(g, p[1], p[2], p[3], writev, op)
}

func fdPwrite(i *Instance, g *hostabi.Guest, p []uint64) errno {
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	return transfer(g, p[1], p[2], p[4], writev, atOffset(d.file.pwrite, int64(p[3])))
}

// ioFunc moves bytes from or to a file.
type ioFunc func(b []byte) (int, errno)

// atOffset adapts pread and pwrite.
func atOffset(f func([]byte, int64) (int, errno), off int64) ioFunc {
	return func(b []byte) (int, errno) {
		n, e := f(b, off)
		off = satAdd(off, int64(n))
		return n, e
	}
}

// transfer checks the buffers and where the result goes, then moves the bytes.
func transfer(g *hostabi.Guest, list, count, result uint64, move func(*hostabi.Guest, iovecs, ioFunc) (uint32, errno), op ioFunc) errno {
	v, _, e := iovecsAt(g, uint32(list), uint32(count))
	if e != success {
		return e
	}
	if _, ok := bytesAt(g, uint32(result), 4); !ok {
		return eFault
	}
	n, e := move(g, v, op)
	if e != success {
		return e
	}
	return putU32(g, uint32(result), n)
}

// readv reads into the buffers until one is not filled. An error after some bytes is left to the next call.
func readv(g *hostabi.Guest, v iovecs, read ioFunc) (uint32, errno) {
	var total uint32
	for n := range v.len() {
		b, ok := v.buffer(g, n)
		if !ok {
			return 0, eFault // the guest read over its own list
		}
		if len(b) == 0 && v.len() > 1 {
			continue
		}
		got, e := read(b)
		total += uint32(got)
		if e != success && total == 0 {
			return 0, e
		}
		if e != success || got < len(b) {
			break
		}
	}
	return total, success
}

// writev writes the buffers. An error after some bytes is left to the next call.
func writev(g *hostabi.Guest, v iovecs, write ioFunc) (uint32, errno) {
	var total uint32
	for n := range v.len() {
		b, ok := v.buffer(g, n)
		if !ok {
			return 0, eFault
		}
		put, e := write(b)
		total += uint32(put)
		if e != success && total == 0 {
			return 0, e
		}
		if e != success || put < len(b) {
			break
		}
	}
	return total, success
}
