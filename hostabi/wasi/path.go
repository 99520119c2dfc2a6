package wasi

import (
	"io/fs"
	"path"
	goruntime "runtime"
	"strings"
	"unicode/utf8"

	"github.com/tetratelabs/wazero/experimental/sys"

	"github.com/durun/durun/hostabi"
)

// pathAt takes a path from the guest's memory.
func pathAt(g *hostabi.Guest, ptr, size uint64) (string, errno) {
	b, ok := bytesAt(g, uint32(ptr), uint64(uint32(size)))
	switch {
	case !ok:
		return "", eFault
	case len(b) > maxPath:
		return "", eNametoolong
	case !utf8.Valid(b):
		return "", eIlseq
	}
	s := string(b)
	if strings.IndexByte(s, 0) >= 0 {
		return "", eInval
	}
	return s, success
}

// resolve takes a path from the guest's memory and returns the mount it is in, and its name there. The name doesn't lead
// out as far as its text goes, in which ".." is resolved as in wazero; symbolic links are os.Root's business. A slash at
// the end stays: it asks for a folder.
func (i *Instance) resolve(g *hostabi.Guest, fd, ptr, size uint64) (*mount, string, errno) {
	s, e := pathAt(g, ptr, size)
	if e != success {
		return nil, "", e
	}
	slash := strings.HasSuffix(s, "/")
	s = path.Clean(s)
	if !fs.ValidPath(s) || goruntime.GOOS == "windows" && strings.ContainsAny(s, `\:`) {
		return nil, "", ePerm
	}
	d := i.fds.get(int32(fd))
	if d == nil {
		return nil, "", eBadf
	}
	if dir, e := d.file.isDir(); e != 0 {
		return nil, "", e
	} else if !dir {
		return nil, "", eNotdir
	}
	s = path.Join(d.path, s)
	if len(s) > maxPath {
		return nil, "", eNametoolong
	}
	m := d.mount
	if i.durun != nil && m == i.durun.root {
		m, s = i.enter(s)
	}
	if slash {
		s += "/"
	}
	return m, s, success
}

func pathCreateDirectory(i *Instance, g *hostabi.Guest, p []uint64) errno {
	m, name, e := i.resolve(g, p[0], p[1], p[2])
	if e != success {
		return e
	}
	return m.fs.mkdir(name, 0o700)
}

func pathFilestatGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	b, ok := bytesAt(g, uint32(p[4]), filestatSize)
	if !ok {
		return eFault
	}
	m, name, e := i.resolve(g, p[0], p[2], p[3])
	if e != success {
		return e
	}
	stat := m.fs.lstat
	if p[1]&lookupSymlinkFollow != 0 {
		stat = m.fs.stat
	}
	st, failed := stat(name)
	if failed != 0 {
		return failed
	}
	putFilestat(b, st)
	return success
}

func pathFilestatSetTimes(i *Instance, g *hostabi.Guest, p []uint64) errno {
	atim, mtim, e := i.newTimes(p[4], p[5], uint16(p[6]))
	if e != success {
		return e
	}
	m, name, e := i.resolve(g, p[0], p[2], p[3])
	if e != success {
		return e
	}
	if p[1]&lookupSymlinkFollow == 0 {
		if st, failed := m.fs.lstat(name); failed != 0 {
			return failed
		} else if st.Mode&fs.ModeSymlink != 0 {
			return eNotsup // os.Root can't change the link itself
		}
	}
	return m.fs.utimens(name, atim, mtim)
}

func pathLink(i *Instance, g *hostabi.Guest, p []uint64) errno {
	from, oldName, e := i.resolve(g, p[0], p[2], p[3])
	if e != success {
		return e
	}
	to, newName, e := i.resolve(g, p[4], p[5], p[6])
	if e != success {
		return e
	}
	if from != to {
		return eXdev
	}
	if p[1]&lookupSymlinkFollow != 0 {
		if st, failed := from.fs.lstat(oldName); failed == 0 && st.Mode&fs.ModeSymlink != 0 {
			return eInval // as other runtimes: a link is made to the symbolic link itself, or not at all
		}
	}
	return from.fs.link(oldName, newName)
}

func pathOpen(i *Instance, g *hostabi.Guest, p []uint64) errno {
	result := uint32(p[8])
	if _, ok := bytesAt(g, result, 4); !ok {
		return eFault
	}
	m, name, e := i.resolve(g, p[0], p[2], p[3])
	if e != success {
		return e
	}
	if uint32(p[3]) == 0 {
		return eInval
	}
	fdflags := uint16(p[7])
	flag := openFlags(uint16(p[1]), uint16(p[4]), fdflags, p[5])
	if flag&sys.O_DIRECTORY != 0 && flag&sys.O_CREAT != 0 {
		return eInval // path_create_directory makes folders
	}
	if i.fds.full() {
		return eMfile
	}
	f, failed := m.fs.openFile(name, flag, 0o600)
	if failed != 0 {
		return failed
	}
	d := &descriptor{
		kind: kindFile, mount: m, path: path.Clean(name), file: f,
		flags: flag &^ (sys.O_CREAT | sys.O_EXCL | sys.O_TRUNC), nonblock: fdflags&fdflagNonblock != 0,
	}
	if dir, _ := f.isDir(); dir {
		d.kind = kindDir
	} else if _, ok := f.(device); ok {
		d.kind = kindDevice
	}
	fd, _ := i.fds.insert(d)
	return putU32(g, result, uint32(fd))
}

// openFlags is how wazero reads WASI's flags. Rights only say whether to read or write; without those two, what else is
// asked for decides.
func openFlags(dirflags, oflags, fdflags uint16, rights uint64) sys.Oflag {
	var flag sys.Oflag
	if dirflags&lookupSymlinkFollow == 0 {
		flag |= sys.O_NOFOLLOW
	}
	access := sys.O_RDONLY
	if oflags&(oflagTrunc|oflagCreat) != 0 || fdflags&fdflagAppend != 0 {
		access = sys.O_RDWR
	}
	switch rights & (rightFDRead | rightFDWrite) {
	case rightFDRead | rightFDWrite:
		access = sys.O_RDWR
	case rightFDWrite:
		access = sys.O_WRONLY
	case rightFDRead:
		access = sys.O_RDONLY
	}
	flag |= access
	for _, f := range []struct {
		set bool
		to  sys.Oflag
	}{
		{oflags&oflagDirectory != 0, sys.O_DIRECTORY},
		{oflags&oflagExcl != 0 && oflags&oflagDirectory == 0, sys.O_EXCL},
		{oflags&oflagTrunc != 0, sys.O_TRUNC},
		{oflags&oflagCreat != 0, sys.O_CREAT},
		{fdflags&fdflagAppend != 0, sys.O_APPEND},
		{fdflags&fdflagDsync != 0, sys.O_DSYNC},
		{fdflags&fdflagRsync != 0, sys.O_RSYNC},
		{fdflags&fdflagSync != 0, sys.O_SYNC},
	} {
		if f.set {
			flag |= f.to
		}
	}
	return flag
}

func pathReadlink(i *Instance, g *hostabi.Guest, p []uint64) errno {
	size, result := uint32(p[4]), uint32(p[5])
	if uint32(p[2]) == 0 || size == 0 {
		return eInval
	}
	b, ok := bytesAt(g, uint32(p[3]), uint64(size))
	if !ok {
		return eFault
	}
	m, name, e := i.resolve(g, p[0], p[1], p[2])
	if e != success {
		return e
	}
	target, failed := m.fs.readlink(name)
	if failed != 0 {
		return failed
	}
	if len(target) > len(b) {
		return eRange // as wazero
	}
	return putU32(g, result, uint32(copy(b, target)))
}

func pathRemoveDirectory(i *Instance, g *hostabi.Guest, p []uint64) errno {
	m, name, e := i.resolve(g, p[0], p[1], p[2])
	if e != success {
		return e
	}
	return m.fs.rmdir(name)
}

func pathRename(i *Instance, g *hostabi.Guest, p []uint64) errno {
	from, oldName, e := i.resolve(g, p[0], p[1], p[2])
	if e != success {
		return e
	}
	to, newName, e := i.resolve(g, p[3], p[4], p[5])
	if e != success {
		return e
	}
	if from != to {
		return eXdev
	}
	if failed := from.fs.rename(oldName, newName); failed != 0 {
		return failed
	}
	i.fds.renamed(from, oldName, newName)
	return success
}

func pathSymlink(i *Instance, g *hostabi.Guest, p []uint64) errno {
	if uint32(p[1]) == 0 || uint32(p[4]) == 0 {
		return eInval
	}
	target, e := pathAt(g, p[0], p[1])
	if e != success {
		return e
	}
	m, name, e := i.resolve(g, p[2], p[3], p[4])
	if e != success {
		return e
	}
	return m.fs.symlink(target, name)
}

func pathUnlinkFile(i *Instance, g *hostabi.Guest, p []uint64) errno {
	m, name, e := i.resolve(g, p[0], p[1], p[2])
	if e != success {
		return e
	}
	return m.fs.unlink(name)
}
