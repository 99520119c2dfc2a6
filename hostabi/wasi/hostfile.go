package wasi

import (
	"errors"
	"io"
	"os"

	"github.com/tetratelabs/wazero/experimental/sys"
	wazerosys "github.com/tetratelabs/wazero/sys"
)

// hostFile is an open file of the host: regular, or a device.
type hostFile struct {
	fs   *hostFS
	name string    // in fs; follows renames by the guest
	flag sys.Oflag // as it is open now
	f    *os.File
}

// moved tells that the file has another name now.
func (h *hostFile) moved(name string) { h.name = name }

// current says whether the file's name still leads to it.
func (h *hostFile) current() bool { return h.fs.sameFile(h.name, h.f) }

func (h *hostFile) stat() (wazerosys.Stat_t, errno) { return toStat(h.f.Stat()) }

func (h *hostFile) isDir() (bool, errno) { return false, 0 }

func (h *hostFile) isAppend() bool { return h.flag&sys.O_APPEND != 0 }

// setAppend opens the file anew: an os.File can't change its mind. It fails if the name no longer leads to the file.
func (h *hostFile) setAppend(enable bool) errno {
	if enable == h.isAppend() {
		return 0
	}
	flag := h.flag ^ sys.O_APPEND
	f, err := h.fs.root.OpenFile(h.name, osFlag(flag), 0)
	if err != nil {
		return hostErrno(err)
	}
	if err := continueAs(f, h.f); err != nil {
		_ = f.Close()
		return hostErrno(err)
	}
	_ = h.f.Close()
	h.f, h.flag = f, flag
	return 0
}

// continueAs sets f to old's offset, and fails if they are different files.
func continueAs(f, old *os.File) error {
	a, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := old.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(a, b) {
		return os.ErrNotExist
	}
	off, err := old.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = f.Seek(off, io.SeekStart)
	}
	return err
}

func (h *hostFile) read(b []byte) (int, errno) {
	n, err := h.f.Read(b)
	return n, ioErrno(err)
}

func (h *hostFile) pread(b []byte, off int64) (int, errno) {
	if off < 0 {
		return 0, eInval
	}
	n, err := h.f.ReadAt(b, off)
	return n, ioErrno(err)
}

func (h *hostFile) write(b []byte) (int, errno) {
	n, err := h.f.Write(b)
	return n, hostErrno(err)
}

// pwrite appends if the file is open for that, as Linux does; an os.File refuses.
func (h *hostFile) pwrite(b []byte, off int64) (int, errno) {
	if off < 0 {
		return 0, eInval
	}
	if !h.isAppend() {
		n, err := h.f.WriteAt(b, off)
		return n, hostErrno(err)
	}
	back, err := h.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, hostErrno(err)
	}
	n, err := h.f.Write(b)
	if _, err2 := h.f.Seek(back, io.SeekStart); err == nil {
		err = err2
	}
	return n, hostErrno(err)
}

// ioErrno is hostErrno of a read: the end of a file is no error.
func ioErrno(err error) errno {
	if errors.Is(err, io.EOF) {
		return 0
	}
	return hostErrno(err)
}

func (h *hostFile) seek(off int64, whence int) (int64, errno) {
	if whence < io.SeekStart || whence > io.SeekEnd {
		return 0, eInval
	}
	n, err := h.f.Seek(off, whence)
	return n, hostErrno(err)
}

func (h *hostFile) readdir() ([]sys.Dirent, errno) { return nil, eNotdir }

func (h *hostFile) truncate(size int64) errno {
	if size < 0 {
		return eInval
	}
	return hostErrno(h.f.Truncate(size))
}

func (h *hostFile) sync() errno { return hostErrno(h.f.Sync()) }

// utimens changes times by the open file where the system can, otherwise by its name.
func (h *hostFile) utimens(atim, mtim int64) errno {
	switch {
	case h.fs.readOnly:
		return eRofs
	case atim == sys.UTIME_OMIT && mtim == sys.UTIME_OMIT:
		return 0
	}
	err := futimes(h.f, atim, mtim)
	if !errors.Is(err, errors.ErrUnsupported) {
		return hostErrno(err)
	}
	if !h.current() {
		return eNoent
	}
	return h.fs.utimens(h.name, atim, mtim)
}

func (h *hostFile) close() errno { return hostErrno(h.f.Close()) }

// hostDir is an open folder of the host.
type hostDir struct {
	hostFile
}

func (h *hostDir) isDir() (bool, errno)              { return true, 0 }
func (h *hostDir) isAppend() bool                    { return false }
func (h *hostDir) setAppend(bool) errno              { return eIsdir }
func (h *hostDir) read([]byte) (int, errno)          { return 0, eIsdir }
func (h *hostDir) pread([]byte, int64) (int, errno)  { return 0, eIsdir }
func (h *hostDir) write([]byte) (int, errno)         { return 0, eIsdir }
func (h *hostDir) pwrite([]byte, int64) (int, errno) { return 0, eIsdir }
func (h *hostDir) seek(int64, int) (int64, errno)    { return 0, eIsdir }
func (h *hostDir) truncate(int64) errno              { return eIsdir }

// readdir starts from the beginning each time.
func (h *hostDir) readdir() ([]sys.Dirent, errno) {
	if _, err := h.f.Seek(0, io.SeekStart); err != nil {
		return nil, hostErrno(err)
	}
	infos, err := h.f.Readdir(-1)
	if err != nil {
		return nil, hostErrno(err)
	}
	entries := make([]sys.Dirent, len(infos))
	for i, st := range infos {
		entries[i] = sys.Dirent{Name: st.Name(), Type: st.Mode().Type(), Ino: wazerosys.NewStat_t(st).Ino}
	}
	return entries, 0
}
