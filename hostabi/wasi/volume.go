package wasi

import (
	"io/fs"

	"github.com/tetratelabs/wazero/experimental/sys"
	wazerosys "github.com/tetratelabs/wazero/sys"
)

// volume is what a mount shows: a folder of the host, or one that is made up. Names are slash-separated, relative and
// don't begin with ".."; a slash at the end asks for a folder. The name of its root is ".".
type volume interface {
	// openFile opens a file or folder, or makes a file, as open(2).
	openFile(name string, flag sys.Oflag, perm fs.FileMode) (file, errno)
	lstat(name string) (wazerosys.Stat_t, errno)
	stat(name string) (wazerosys.Stat_t, errno)
	mkdir(name string, perm fs.FileMode) errno
	readlink(name string) (string, errno)
	symlink(target, name string) errno
	link(from, to string) errno
	unlink(name string) errno
	rmdir(name string) errno
	rename(from, to string) errno
	// utimens sets times as file's does.
	utimens(name string, atim, mtim int64) errno
	// close releases the volume. Its files have been closed.
	close()
}
