package wasi

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/experimental/sys"
	wazerosys "github.com/tetratelabs/wazero/sys"
)

// hostFS is a folder of the host. Names are slash-separated, relative and don't begin with ".."; [os.Root] sees to it
// that symbolic links don't lead out either, even while somebody changes the folder.
type hostFS struct {
	root     *os.Root
	readOnly bool
}

// accessMode is the part of the flags that says how to access the file.
const accessMode = sys.O_RDONLY | sys.O_WRONLY | sys.O_RDWR

func writable(flag sys.Oflag) bool { return flag&accessMode != sys.O_RDONLY }

// osFlag translates open flags. O_DIRECTORY and O_NOFOLLOW, which not every system has, are openFile's business.
func osFlag(flag sys.Oflag) int {
	var n int
	switch flag & accessMode {
	case sys.O_RDWR:
		n = os.O_RDWR
	case sys.O_WRONLY:
		n = os.O_WRONLY
	default:
		n = os.O_RDONLY
	}
	for _, f := range []struct {
		from sys.Oflag
		to   int
	}{
		{sys.O_APPEND, os.O_APPEND},
		{sys.O_CREAT, os.O_CREATE},
		{sys.O_EXCL, os.O_EXCL},
		{sys.O_TRUNC, os.O_TRUNC},
		{sys.O_DSYNC | sys.O_RSYNC | sys.O_SYNC, os.O_SYNC},
	} {
		if flag&f.from != 0 {
			n |= f.to
		}
	}
	return n
}

// openFile opens a file or folder. Somebody who changes the folder between the looks and the open can make the errno
// another, but can't make it leave the folder.
func (m *hostFS) openFile(name string, flag sys.Oflag, perm fs.FileMode) (file, errno) {
	create, excl := flag&sys.O_CREAT != 0, flag&(sys.O_CREAT|sys.O_EXCL) == sys.O_CREAT|sys.O_EXCL
	st, err := m.root.Lstat(name)
	if err == nil && excl {
		return nil, eExist
	}
	if err == nil && st.Mode()&fs.ModeSymlink != 0 {
		switch {
		case flag&sys.O_NOFOLLOW == 0:
			st, err = m.root.Stat(name)
		case flag&sys.O_DIRECTORY != 0:
			return nil, eNotdir
		default:
			return nil, eLoop
		}
	}
	switch e := hostErrno(err); {
	case e == eNoent && create:
		if m.readOnly {
			return nil, eRofs
		}
	case e != 0:
		return nil, e
	default:
		if e := mayOpen(st.Mode(), flag); e != 0 {
			return nil, e
		}
	}
	if m.readOnly {
		if writable(flag) || flag&sys.O_TRUNC != 0 {
			return nil, eRofs
		}
		flag &^= sys.O_CREAT
	}

	f, err := m.root.OpenFile(name, osFlag(flag), perm)
	if err != nil {
		return nil, hostErrno(err)
	}
	if st, err = f.Stat(); err != nil {
		_ = f.Close()
		return nil, hostErrno(err)
	}
	if e := mayOpen(st.Mode(), flag); e != 0 {
		_ = f.Close()
		return nil, e
	}
	h := hostFile{fs: m, name: path.Clean(name), flag: flag &^ (sys.O_CREAT | sys.O_EXCL | sys.O_TRUNC), f: f}
	if st.IsDir() {
		return &hostDir{hostFile: h}, 0
	}
	return &h, 0
}

// mayOpen refuses what can't be opened that way, or at all.
func mayOpen(mode fs.FileMode, flag sys.Oflag) errno {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return eNotsup // it could block, and what is in it can't be captured
	case mode&fs.ModeSocket != 0:
		return eNxio
	case mode.IsDir():
		if writable(flag) || flag&(sys.O_CREAT|sys.O_TRUNC) != 0 {
			return eIsdir
		}
	case flag&sys.O_DIRECTORY != 0:
		return eNotdir
	}
	return 0
}

// sameFile says whether name still leads to f.
func (m *hostFS) sameFile(name string, f *os.File) bool {
	a, err := m.root.Stat(name)
	if err != nil {
		return false
	}
	b, err := f.Stat()
	return err == nil && os.SameFile(a, b)
}

func toStat(st fs.FileInfo, err error) (wazerosys.Stat_t, errno) {
	if err != nil {
		return wazerosys.Stat_t{}, hostErrno(err)
	}
	return wazerosys.NewStat_t(st), 0
}

func (m *hostFS) lstat(name string) (wazerosys.Stat_t, errno) { return toStat(m.root.Lstat(name)) }

func (m *hostFS) stat(name string) (wazerosys.Stat_t, errno) { return toStat(m.root.Stat(name)) }

func (m *hostFS) mkdir(name string, perm fs.FileMode) errno {
	if m.readOnly {
		return eRofs
	}
	return hostErrno(m.root.Mkdir(name, perm))
}

func (m *hostFS) readlink(name string) (string, errno) {
	target, err := m.root.Readlink(name)
	return filepath.ToSlash(target), hostErrno(err)
}

func (m *hostFS) symlink(target, name string) errno {
	switch {
	case m.readOnly:
		return eRofs
	case path.IsAbs(target), filepath.IsAbs(target):
		return ePerm // as wazero
	}
	return hostErrno(m.root.Symlink(target, name))
}

func (m *hostFS) link(from, to string) errno {
	if m.readOnly {
		return eRofs
	}
	return hostErrno(m.root.Link(from, to))
}

// unlink is for anything but folders, which os.Root's Remove would take too.
func (m *hostFS) unlink(name string) errno {
	if m.readOnly {
		return eRofs
	}
	st, err := m.root.Lstat(name)
	switch {
	case err != nil:
		return hostErrno(err)
	case st.IsDir():
		return eIsdir
	case strings.HasSuffix(name, "/"):
		return eNotdir
	}
	return hostErrno(m.root.Remove(name))
}

// rmdir is for folders only. A mount's root stays.
func (m *hostFS) rmdir(name string) errno {
	if m.readOnly {
		return eRofs
	}
	if path.Clean(name) == "." {
		return eBusy
	}
	st, err := m.root.Lstat(strings.TrimRight(name, "/"))
	switch {
	case err != nil:
		return hostErrno(err)
	case !st.IsDir():
		return eNotdir
	}
	return hostErrno(m.root.Remove(name))
}

// rename replaces a file, or an empty folder by a folder, as POSIX has it; os.Root's Rename replaces no folder.
func (m *hostFS) rename(from, to string) errno {
	if m.readOnly {
		return eRofs
	}
	if path.Clean(from) == "." || path.Clean(to) == "." {
		return eBusy
	}
	old, err := m.root.Lstat(from)
	if err != nil {
		return hostErrno(err)
	}
	var removed fs.FileInfo
	switch dst, err := m.root.Lstat(to); {
	case err != nil:
		// None there, which is fine, or an error that Rename meets too.
	case os.SameFile(old, dst):
		return 0
	case dst.IsDir() && !old.IsDir():
		return eIsdir
	case dst.IsDir():
		if strings.HasPrefix(path.Clean(from)+"/", path.Clean(to)+"/") {
			return eNotempty
		}
		if strings.HasPrefix(path.Clean(to)+"/", path.Clean(from)+"/") {
			return eInval
		}
		if err := m.root.Remove(to); err != nil {
			return hostErrno(err)
		}
		removed = dst
	}
	err = m.root.Rename(from, to)
	if err != nil && removed != nil {
		// As when a symbolic link leads from to's text into the folder that is to be moved.
		_ = m.root.Mkdir(to, removed.Mode().Perm())
	}
	return hostErrno(err)
}

func (m *hostFS) utimens(name string, atim, mtim int64) errno {
	switch {
	case m.readOnly:
		return eRofs
	case atim == sys.UTIME_OMIT && mtim == sys.UTIME_OMIT:
		_, err := m.root.Stat(name)
		return hostErrno(err)
	}
	return hostErrno(m.root.Chtimes(name, fileTime(atim), fileTime(mtim)))
}

func (m *hostFS) close() { _ = m.root.Close() } // nothing was buffered

// fileTime is a time for Chtimes: zero leaves it alone.
func fileTime(ns int64) time.Time {
	if ns == sys.UTIME_OMIT {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
