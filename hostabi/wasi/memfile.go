package wasi

import (
	"io"
	"math"
	"slices"

	"github.com/tetratelabs/wazero/experimental/sys"
	wazerosys "github.com/tetratelabs/wazero/sys"
)

const (
	// memChunkSize is how much of a file is one part of the state: what is captured anew if a byte of it changes.
	memChunkSize = 64 << 10
	// memInline is how long a file's first chunk may be to be captured with the inode, in bytes.
	memInline = 4 << 10
	// memChunkCost is what a chunk of its own counts at least: it bounds how many there are.
	memChunkCost = 8 << 10
	// maxMemSize is the largest size of a file, in bytes. It is sparse, so it says nothing about its content.
	maxMemSize = 1 << 40
)

// memData is the content of a file: chunks, where none or a short one stands for zeros.
type memData struct {
	size   int64
	chunks map[uint32]*memChunk
}

// memChunk is memChunkSize bytes of a file, without zeros at the end that were never written.
//
// Its first shared bytes belong to a saved state, too, and are not changed: who changes them copies them first.
type memChunk struct {
	data   []byte
	shared int
}

// inline says whether a chunk is captured with the inode.
func inline(index uint32, size int) bool { return index == 0 && size <= memInline }

// chunkCost is what a chunk of so many bytes counts.
func chunkCost(index uint32, size int) int64 {
	if size == 0 || inline(index, size) {
		return int64(size)
	}
	return int64(max(size, memChunkCost))
}

func (d *memData) cost() int64 {
	var n int64
	for index, c := range d.chunks {
		n += chunkCost(index, len(c.data))
	}
	return n
}

// readAt reads until the end of a chunk, so up to one chunk.
func (d *memData) readAt(b []byte, off int64) int {
	if off >= d.size {
		return 0
	}
	b = b[:min(int64(len(b)), d.size-off, memChunkSize-off%memChunkSize)]
	n := 0
	if c := d.chunks[uint32(off/memChunkSize)]; c != nil {
		n = copy(b, c.data[min(off%memChunkSize, int64(len(c.data))):])
	}
	clear(b[n:])
	return len(b)
}

// extend gives a chunk at least size bytes.
func (v *memVolume) extend(d *memData, index uint32, size int) (*memChunk, errno) {
	c := d.chunks[index]
	if c != nil && size <= len(c.data) {
		return c, success
	}
	had := 0
	if c != nil {
		had = len(c.data)
	}
	if e := v.charge(chunkCost(index, size) - chunkCost(index, had)); e != success {
		return nil, e
	}
	if c == nil {
		c = &memChunk{}
		if d.chunks == nil {
			d.chunks = map[uint32]*memChunk{}
		}
		d.chunks[index] = c
	}
	c.data = slices.Grow(c.data, size-had)[:size]
	clear(c.data[had:])
	return c, success
}

// writable lets the bytes of a chunk from off on be changed.
func (c *memChunk) writable(off int) {
	if off < c.shared {
		c.data = slices.Clone(c.data)
		c.shared = 0
	}
}

// writeAt writes b. If there is no space for all of it, it writes what fits, by whole chunks.
func (v *memVolume) writeAt(n *memNode, b []byte, off int64) (int, errno) {
	if off > maxMemSize-int64(len(b)) {
		return 0, eFbig
	}
	done := 0
	for done < len(b) {
		index, start := uint32(off/memChunkSize), int(off%memChunkSize)
		part := b[done:min(len(b), done+memChunkSize-start)]
		c, e := v.extend(&n.memData, index, start+len(part))
		if e != success {
			if done > 0 {
				break
			}
			return 0, e
		}
		c.writable(start)
		copy(c.data[start:], part)
		done += len(part)
		off += int64(len(part))
		n.size = max(n.size, off)
	}
	if done > 0 {
		v.changedContent(n)
	}
	return done, success
}

func (v *memVolume) changedContent(n *memNode) {
	n.mtim = v.now()
	v.changedInode(n)
}

// resize cuts a file, or makes it longer by a hole.
func (v *memVolume) resize(n *memNode, size int64) errno {
	switch {
	case size < 0:
		return eInval
	case size > maxMemSize:
		return eFbig
	}
	v.cut(n, size)
	n.size = size
	v.changedContent(n)
	return success
}

// cut drops content from a size on.
func (v *memVolume) cut(n *memNode, size int64) {
	for index, c := range n.chunks {
		keep := int(min(max(size-int64(index)*memChunkSize, 0), int64(len(c.data))))
		if keep == len(c.data) {
			continue
		}
		_ = v.charge(chunkCost(index, keep) - chunkCost(index, len(c.data))) // never more
		c.data = c.data[:keep:keep]                                          // so that it grows elsewhere: what is cut off may be shared
		if keep == 0 {
			delete(n.chunks, index)
		}
	}
}

// allocate sees to it that the file has a length of off+length, and that to write there takes no more space.
func (v *memVolume) allocate(n *memNode, off, length int64) errno {
	end := off + length
	if end > maxMemSize {
		return eFbig
	}
	if length > v.limit {
		return eNospc // before much is allocated
	}
	for at := off; at < end; {
		index, start := uint32(at/memChunkSize), at%memChunkSize
		upTo := min(memChunkSize, start+end-at)
		if _, e := v.extend(&n.memData, index, int(upTo)); e != success {
			v.cut(n, n.size)
			v.touch(n) // holes before that may be filled
			return e
		}
		at += upTo - start
	}
	n.size = max(n.size, end)
	v.changedInode(n)
	return success
}

// memFile is an open file or folder of a volume in memory.
type memFile struct {
	v    *memVolume
	n    *memNode
	flag sys.Oflag
	off  int64
}

var _ file = (*memFile)(nil)

func (f *memFile) stat() (wazerosys.Stat_t, errno) { return f.v.statNode(f.n), success }

func (f *memFile) isDir() (bool, errno) { return f.n.kind == typeDirectory, success }

func (f *memFile) isAppend() bool { return f.flag&sys.O_APPEND != 0 }

func (f *memFile) setAppend(enable bool) errno {
	if f.n.kind == typeDirectory {
		return eIsdir
	}
	f.flag &^= sys.O_APPEND
	if enable {
		f.flag |= sys.O_APPEND
	}
	return success
}

// may says whether the file was opened for reading, or for writing.
func (f *memFile) may(write bool) errno {
	mode := f.flag & accessMode
	switch {
	case f.n.kind == typeDirectory:
		return eIsdir
	case write && mode == sys.O_RDONLY, !write && mode == sys.O_WRONLY:
		return eBadf
	}
	return success
}

func (f *memFile) read(b []byte) (int, errno) {
	n, e := f.pread(b, f.off)
	f.off += int64(n)
	return n, e
}

func (f *memFile) pread(b []byte, off int64) (int, errno) {
	if e := f.may(false); e != success {
		return 0, e
	}
	if off < 0 {
		return 0, eInval
	}
	done := 0
	for done < len(b) {
		n := f.n.readAt(b[done:], off+int64(done))
		if n == 0 {
			break
		}
		done += n
	}
	return done, success
}

func (f *memFile) write(b []byte) (int, errno) {
	off := f.off
	if f.isAppend() {
		off = f.n.size
	}
	n, e := f.pwrite(b, off)
	if n > 0 {
		f.off = off + int64(n)
	}
	return n, e
}

// pwrite appends if the file is open for that, as Linux does.
func (f *memFile) pwrite(b []byte, off int64) (int, errno) {
	if e := f.may(true); e != success {
		return 0, e
	}
	if off < 0 {
		return 0, eInval
	}
	if f.isAppend() {
		off = f.n.size
	}
	return f.v.writeAt(f.n, b, off)
}

func (f *memFile) seek(off int64, whence int) (int64, errno) {
	if f.n.kind == typeDirectory {
		return 0, eIsdir
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off = satAdd(f.off, off)
	case io.SeekEnd:
		off = satAdd(f.n.size, off)
	default:
		return 0, eInval
	}
	if off < 0 || off == math.MaxInt64 {
		return 0, eInval
	}
	f.off = off
	return off, success
}

func (f *memFile) readdir() ([]sys.Dirent, errno) {
	if f.n.kind != typeDirectory {
		return nil, eNotdir
	}
	entries := make([]sys.Dirent, 0, len(f.n.entries))
	for name, n := range f.n.entries {
		entries = append(entries, sys.Dirent{Name: name, Ino: n.ino, Type: typeMode(n.kind)})
	}
	return entries, success
}

func (f *memFile) truncate(size int64) errno {
	switch e := f.may(true); {
	case e == eBadf:
		return eInval // as ftruncate(2)
	case e != success:
		return e
	}
	return f.v.resize(f.n, size)
}

func (f *memFile) allocate(off, length int64) errno {
	if e := f.may(true); e != success {
		return e
	}
	return f.v.allocate(f.n, off, length)
}

// sync has nothing to do: a commit is what makes the volume durable.
func (f *memFile) sync() errno { return success }

func (f *memFile) utimens(atim, mtim int64) errno {
	f.v.setTimes(f.n, atim, mtim)
	return success
}

func (f *memFile) close() errno {
	f.n.opens--
	f.v.release(f.n)
	return success
}
