package wasi

import (
	"io"
	"io/fs"

	"github.com/tetratelabs/wazero/experimental/sys"
	wazerosys "github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/hostabi"
)

func fdAdvise(i *Instance, _ *hostabi.Guest, p []uint64) errno {
	const lastAdvice = 5
	switch {
	case i.fds.get(int32(p[0])) == nil:
		return eBadf
	case byte(p[3]) > lastAdvice:
		return eInval
	}
	return success // it is advice
}

func fdAllocate(i *Instance, _ *hostabi.Guest, p []uint64) errno {
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	end := p[1] + p[2]
	if end < p[1] || int64(end) < 0 || int64(p[1]) < 0 {
		return eInval
	}
	st, e := d.file.stat()
	if e != 0 {
		return e
	}
	switch {
	case st.Mode.IsDir():
		return eIsdir
	case d.kind == kindFile && !writable(d.flags):
		return eBadf
	}
	if f, ok := d.file.(interface{ allocate(off, length int64) errno }); ok {
		return f.allocate(int64(p[1]), int64(p[2]))
	}
	if st.Size >= int64(end) {
		return success
	}
	return d.file.truncate(int64(end))
}

func fdClose(i *Instance, _ *hostabi.Guest, p []uint64) errno {
	fd := int32(p[0])
	d := i.fds.get(fd)
	if d == nil {
		return eBadf
	}
	i.fds.fds[fd] = nil
	return d.file.close()
}

// fdSync is fd_datasync too, which asks for less.
func fdSync(i *Instance, _ *hostabi.Guest, p []uint64) errno {
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	return d.file.sync()
}

func fdFdstatGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	b, ok := bytesAt(g, uint32(p[1]), fdstatSize)
	if !ok {
		return eFault
	}
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	st, e := d.file.stat()
	if e != 0 {
		return e
	}
	var flags uint16
	if d.file.isAppend() {
		flags |= fdflagAppend
	}
	if d.nonblock {
		flags |= fdflagNonblock
	}
	kind := fileType(st.Mode)
	var base, inheriting uint64 = fileRights, 0
	switch kind {
	case typeDirectory:
		base, inheriting = dirRights, fileRights|dirRights
	case typeCharacter:
		// This is how C libraries recognise a terminal.
		if d.kind != kindDevice {
			base = fileRights &^ (rightFDSeek | rightFDTell)
		}
	}
	clear(b)
	b[0] = kind
	le.PutUint16(b[2:], flags)
	le.PutUint64(b[8:], base)
	le.PutUint64(b[16:], inheriting)
	return success
}

// fileType is WASI's number for the type in mode.
func fileType(mode fs.FileMode) byte {
	switch {
	case mode.IsRegular():
		return typeRegular
	case mode.IsDir():
		return typeDirectory
	case mode&fs.ModeSymlink != 0:
		return typeSymlink
	case mode&fs.ModeCharDevice != 0:
		return typeCharacter
	case mode&fs.ModeDevice != 0:
		return typeBlock
	}
	return typeUnknown
}

func fdFdstatSetFlags(i *Instance, _ *hostabi.Guest, p []uint64) errno {
	flags := uint16(p[1])
	if flags&^(fdflagAppend|fdflagNonblock) != 0 {
		return eInval
	}
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	st, e := d.file.stat()
	if e != 0 {
		return e
	}
	if st.Mode.IsRegular() {
		if e := d.file.setAppend(flags&fdflagAppend != 0); e != 0 {
			return e
		}
	}
	d.nonblock = flags&fdflagNonblock != 0
	return success
}

// fdFdstatSetRights is gone with the rights, as in wazero.
func fdFdstatSetRights(*Instance, *hostabi.Guest, []uint64) errno { return eNosys }

func fdFilestatGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	b, ok := bytesAt(g, uint32(p[1]), filestatSize)
	if !ok {
		return eFault
	}
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	st, e := d.file.stat()
	if e != 0 {
		return e
	}
	putFilestat(b, st)
	return success
}

func putFilestat(b []byte, st wazerosys.Stat_t) {
	for n, v := range [filestatSize / 8]uint64{
		st.Dev, st.Ino, uint64(fileType(st.Mode)), st.Nlink, uint64(st.Size), uint64(st.Atim), uint64(st.Mtim), uint64(st.Ctim),
	} {
		le.PutUint64(b[n*8:], v)
	}
}

func fdFilestatSetSize(i *Instance, _ *hostabi.Guest, p []uint64) errno {
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	return d.file.truncate(int64(p[1]))
}

func fdFilestatSetTimes(i *Instance, _ *hostabi.Guest, p []uint64) errno {
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	atim, mtim, e := i.newTimes(p[1], p[2], uint16(p[3]))
	if e != success {
		return e
	}
	return d.file.utimens(atim, mtim)
}

// newTimes works out what the fstflags ask for.
func (i *Instance) newTimes(atim, mtim uint64, flags uint16) (a, m int64, e errno) {
	now := i.clock.wall()
	pick := func(given uint64, set, setNow bool) (int64, errno) {
		switch {
		case set && setNow:
			return 0, eInval
		case set:
			return int64(given), success
		case setNow:
			return now, success
		}
		return sys.UTIME_OMIT, success
	}
	if a, e = pick(atim, flags&fstAtim != 0, flags&fstAtimNow != 0); e != success {
		return 0, 0, e
	}
	m, e = pick(mtim, flags&fstMtim != 0, flags&fstMtimNow != 0)
	return a, m, e
}

// preopen returns the descriptor if it is a mount's root.
func (i *Instance) preopen(fd uint64) *descriptor {
	d := i.fds.get(int32(fd))
	if d == nil || d.kind != kindPreopen {
		return nil
	}
	return d
}

func fdPrestatGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	d := i.preopen(p[0])
	if d == nil {
		return eBadf
	}
	// A tag of 0 for a folder, padding, and the length of the name.
	return putU64(g, uint32(p[1]), uint64(len(d.mount.guest))<<32)
}

func fdPrestatDirName(i *Instance, g *hostabi.Guest, p []uint64) errno {
	d := i.preopen(p[0])
	if d == nil {
		return eBadf
	}
	name, size := d.mount.guest, uint32(p[2])
	if uint64(size) > uint64(len(name)) {
		return eNametoolong // as wazero
	}
	b, ok := bytesAt(g, uint32(p[1]), uint64(size))
	if !ok {
		return eFault
	}
	copy(b, name)
	return success
}

func fdRenumber(i *Instance, _ *hostabi.Guest, p []uint64) errno {
	from, to := int32(p[0]), int32(p[1])
	d := i.fds.get(from)
	if d == nil || to < 0 || to >= maxFDs {
		return eBadf
	}
	old := i.fds.get(to)
	// As wazero: what the guest was started with can't be moved or covered.
	if d.kind <= kindPreopen || old != nil && old.kind <= kindPreopen {
		return eNotsup
	}
	if from == to {
		return success
	}
	if old != nil {
		old.file.close()
	}
	i.fds.fds[from] = nil
	i.fds.set(to, d)
	return success
}

func fdSeek(i *Instance, g *hostabi.Guest, p []uint64) errno {
	return i.seek(g, p[0], int64(p[1]), uint32(p[2]), uint32(p[3]))
}

func fdTell(i *Instance, g *hostabi.Guest, p []uint64) errno {
	return i.seek(g, p[0], 0, io.SeekCurrent, uint32(p[1]))
}

func (i *Instance) seek(g *hostabi.Guest, fd uint64, off int64, whence, result uint32) errno {
	d := i.fds.get(int32(fd))
	if d == nil {
		return eBadf
	}
	if dir, _ := d.file.isDir(); dir {
		return eIsdir // POSIX allows it, wasi-testsuite doesn't
	}
	b, ok := bytesAt(g, result, 8)
	if !ok {
		return eFault
	}
	if whence > io.SeekEnd {
		return eInval
	}
	n, e := d.file.seek(off, int(whence))
	if e != 0 {
		return e
	}
	le.PutUint64(b, uint64(n))
	return success
}
