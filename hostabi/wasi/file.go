package wasi

import (
	"io/fs"

	"github.com/tetratelabs/wazero/experimental/sys"
	wazerosys "github.com/tetratelabs/wazero/sys"
)

// file is an open file, folder or stream. It is wazero's experimental/sys.File but for two things: a WASI errno can be
// any of WASI's, and there is nothing that WASI doesn't ask for.
type file interface {
	isDir() (bool, errno)
	stat() (wazerosys.Stat_t, errno)
	isAppend() bool
	setAppend(enable bool) errno
	// read and the other three may move fewer bytes than asked for, and return how many also with an errno. The end of the
	// file is 0 bytes.
	read(b []byte) (int, errno)
	pread(b []byte, off int64) (int, errno)
	write(b []byte) (int, errno)
	pwrite(b []byte, off int64) (int, errno)
	seek(off int64, whence int) (int64, errno)
	// readdir returns the content of a folder, in any order, without "." and "..".
	readdir() ([]sys.Dirent, errno)
	truncate(size int64) errno
	sync() errno
	// utimens sets times in nanoseconds since the epoch; sys.UTIME_OMIT leaves one alone.
	utimens(atim, mtim int64) errno
	close() errno
}

// stdio is a standard stream. Reading and writing it is not here: that takes the guest. Otherwise it answers what
// wazero answers for an io.Reader or io.Writer: a block device, which no C library takes for a terminal.
type stdio struct{ tty bool }

func newStdio(k fdKind, tty bool) *descriptor { return &descriptor{kind: k, file: stdio{tty: tty}} }

func (f stdio) stat() (wazerosys.Stat_t, errno) {
	mode := fs.ModeDevice | 0o640
	if f.tty {
		mode |= fs.ModeCharDevice
	}
	return wazerosys.Stat_t{Mode: mode, Nlink: 1}, 0
}

func (stdio) isDir() (bool, errno)              { return false, 0 }
func (stdio) isAppend() bool                    { return false }
func (stdio) setAppend(bool) errno              { return eNosys }
func (stdio) read([]byte) (int, errno)          { return 0, eBadf }
func (stdio) pread([]byte, int64) (int, errno)  { return 0, eBadf }
func (stdio) write([]byte) (int, errno)         { return 0, eBadf }
func (stdio) pwrite([]byte, int64) (int, errno) { return 0, eBadf }
func (stdio) seek(int64, int) (int64, errno)    { return 0, eNosys }
func (stdio) readdir() ([]sys.Dirent, errno)    { return nil, eNotdir }
func (stdio) truncate(int64) errno              { return eNosys }
func (stdio) sync() errno                       { return 0 }
func (stdio) utimens(int64, int64) errno        { return eNosys }
func (stdio) close() errno                      { return 0 }

// brokenFile stands for a file that could not be opened again at a restore. All it can is be closed.
type brokenFile struct {
	saved fdState // as it was captured: at another restore it may be there again
}

// broken says whether the descriptor's file could not be opened again.
func (d *descriptor) broken() bool {
	_, is := d.file.(brokenFile)
	return is
}

func (brokenFile) stat() (wazerosys.Stat_t, errno)   { return wazerosys.Stat_t{}, eIO }
func (brokenFile) isDir() (bool, errno)              { return false, eIO }
func (brokenFile) isAppend() bool                    { return false }
func (brokenFile) setAppend(bool) errno              { return eIO }
func (brokenFile) read([]byte) (int, errno)          { return 0, eIO }
func (brokenFile) pread([]byte, int64) (int, errno)  { return 0, eIO }
func (brokenFile) write([]byte) (int, errno)         { return 0, eIO }
func (brokenFile) pwrite([]byte, int64) (int, errno) { return 0, eIO }
func (brokenFile) seek(int64, int) (int64, errno)    { return 0, eIO }
func (brokenFile) readdir() ([]sys.Dirent, errno)    { return nil, eIO }
func (brokenFile) truncate(int64) errno              { return eIO }
func (brokenFile) sync() errno                       { return eIO }
func (brokenFile) utimens(int64, int64) errno        { return eIO }
func (brokenFile) close() errno                      { return 0 }
