package wasi

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/experimental/sys"
	wazerosys "github.com/tetratelabs/wazero/sys"
)

// treeVolume is a volume of made-up files, whose folders can't be changed.
type treeVolume struct{ root *node }

// The device numbers of trees, which no folder of the host is likely to have.
const (
	devDurun = 0x6475_7275_6e00 + iota
	devRoot
)

// treeTime is the time of all files in a tree, in nanoseconds since the epoch: 2024-01-01T00:00:00Z. It is the same
// everywhere, so that a program that keeps what it compiled doesn't do it again on each machine.
var treeTime = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// node is a file or folder in a tree.
type node struct {
	name string
	mode fs.FileMode
	dev  uint64
	ino  uint64

	entries []*node // of a folder, by name

	// Of a file:

	size func() int // nil for 0
	open func(n *node, flag sys.Oflag) (file, errno)
}

// newTree returns a tree of the entries, and numbers its nodes.
func newTree(dev uint64, entries ...*node) *treeVolume {
	t := &treeVolume{root: newDir(".", entries...)}
	var ino uint64
	var number func(n *node)
	number = func(n *node) {
		ino++
		n.dev, n.ino = dev, ino
		for _, e := range n.entries {
			number(e)
		}
	}
	number(t.root)
	return t
}

func newDir(name string, entries ...*node) *node {
	slices.SortFunc(entries, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return &node{name: name, mode: fs.ModeDir | 0o555, entries: entries}
}

// entry returns the entry of that name, or nil.
func (n *node) entry(name string) *node {
	i, ok := slices.BinarySearchFunc(n.entries, name, func(e *node, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return nil
	}
	return n.entries[i]
}

func (n *node) stat() wazerosys.Stat_t {
	st := wazerosys.Stat_t{Dev: n.dev, Ino: n.ino, Mode: n.mode, Nlink: 1, Atim: treeTime, Mtim: treeTime, Ctim: treeTime}
	if n.size != nil {
		st.Size = int64(n.size())
	}
	return st
}

func (t *treeVolume) find(name string) (*node, errno) {
	n, rest := t.root, path.Clean(name)
	if rest == "." {
		rest = ""
	}
	for rest != "" {
		var first string
		first, rest, _ = strings.Cut(rest, "/")
		if !n.mode.IsDir() {
			return nil, eNotdir
		}
		if n = n.entry(first); n == nil {
			return nil, eNoent
		}
	}
	if strings.HasSuffix(name, "/") && !n.mode.IsDir() {
		return nil, eNotdir
	}
	return n, success
}

func (t *treeVolume) openFile(name string, flag sys.Oflag, _ fs.FileMode) (file, errno) {
	n, e := t.find(name)
	switch create := flag&sys.O_CREAT != 0; {
	case e == eNoent && create:
		return nil, eRofs
	case e != success:
		return nil, e
	case create && flag&sys.O_EXCL != 0:
		return nil, eExist
	}
	if e := mayOpen(n.mode, flag); e != success {
		return nil, e
	}
	if n.mode.IsDir() {
		return &treeDir{treeFile{node: n, flag: flag}}, success
	}
	if n.mode&0o200 == 0 && (writable(flag) || flag&sys.O_TRUNC != 0) {
		return nil, eRofs
	}
	return n.open(n, flag)
}

func (t *treeVolume) lstat(name string) (wazerosys.Stat_t, errno) {
	n, e := t.find(name)
	if e != success {
		return wazerosys.Stat_t{}, e
	}
	return n.stat(), success
}

func (t *treeVolume) stat(name string) (wazerosys.Stat_t, errno) { return t.lstat(name) }

func (t *treeVolume) readlink(name string) (string, errno) {
	if _, e := t.find(name); e != success {
		return "", e
	}
	return "", eInval // there are no symbolic links
}

// change is the answer to whatever would change the entry: why it can't be.
func (t *treeVolume) change(name string) errno {
	if _, e := t.find(name); e != success {
		return e
	}
	return eRofs
}

// create is the answer to whatever would make the entry.
func (t *treeVolume) create(name string) errno {
	switch _, e := t.find(name); e {
	case success:
		return eExist
	case eNoent:
		return eRofs
	default:
		return e
	}
}

func (t *treeVolume) mkdir(name string, _ fs.FileMode) errno { return t.create(name) }
func (t *treeVolume) symlink(_, name string) errno           { return t.create(name) }
func (t *treeVolume) link(_, to string) errno                { return t.create(to) }
func (t *treeVolume) unlink(name string) errno               { return t.change(name) }
func (t *treeVolume) rmdir(name string) errno                { return t.change(name) }
func (t *treeVolume) rename(from, _ string) errno            { return t.change(from) }
func (t *treeVolume) utimens(name string, _, _ int64) errno  { return t.change(name) }
func (t *treeVolume) close()                                 {}

// treeFile is what the open files of a tree have in common. By itself it is a file that does nothing.
type treeFile struct {
	node *node
	flag sys.Oflag // as it was opened
}

func (f *treeFile) canRead() bool  { return f.flag&accessMode != sys.O_WRONLY }
func (f *treeFile) canWrite() bool { return writable(f.flag) }

func (f *treeFile) isDir() (bool, errno)            { return f.node.mode.IsDir(), success }
func (f *treeFile) stat() (wazerosys.Stat_t, errno) { return f.node.stat(), success }
func (f *treeFile) isAppend() bool                  { return f.flag&sys.O_APPEND != 0 }

func (f *treeFile) setAppend(enable bool) errno {
	f.flag &^= sys.O_APPEND
	if enable {
		f.flag |= sys.O_APPEND
	}
	return success
}

func (*treeFile) read([]byte) (int, errno)          { return 0, eBadf }
func (*treeFile) pread([]byte, int64) (int, errno)  { return 0, eSpipe }
func (*treeFile) write([]byte) (int, errno)         { return 0, eBadf }
func (*treeFile) pwrite([]byte, int64) (int, errno) { return 0, eBadf }
func (*treeFile) seek(int64, int) (int64, errno)    { return 0, eSpipe }
func (*treeFile) readdir() ([]sys.Dirent, errno)    { return nil, eNotdir }
func (*treeFile) truncate(int64) errno              { return eInval }
func (*treeFile) sync() errno                       { return success }
func (*treeFile) utimens(int64, int64) errno        { return eRofs }
func (*treeFile) close() errno                      { return success }

// treeDir is an open folder of a tree.
type treeDir struct{ treeFile }

func (*treeDir) setAppend(bool) errno              { return eIsdir }
func (*treeDir) read([]byte) (int, errno)          { return 0, eIsdir }
func (*treeDir) pread([]byte, int64) (int, errno)  { return 0, eIsdir }
func (*treeDir) write([]byte) (int, errno)         { return 0, eIsdir }
func (*treeDir) pwrite([]byte, int64) (int, errno) { return 0, eIsdir }
func (*treeDir) seek(int64, int) (int64, errno)    { return 0, eIsdir }
func (*treeDir) truncate(int64) errno              { return eIsdir }

func (f *treeDir) readdir() ([]sys.Dirent, errno) {
	entries := make([]sys.Dirent, len(f.node.entries))
	for i, n := range f.node.entries {
		entries[i] = sys.Dirent{Name: n.name, Type: n.mode.Type(), Ino: n.ino}
	}
	return entries, success
}

// regularFile is an open file of a tree with content, which is looked at anew at each use.
type regularFile struct {
	treeFile
	content func() []byte
	off     int64
}

// newText returns a file that can only be read.
func newText(name string, content func() []byte) *node {
	n := &node{name: name, mode: 0o444, size: func() int { return len(content()) }}
	n.open = func(n *node, flag sys.Oflag) (file, errno) {
		return &regularFile{treeFile: treeFile{node: n, flag: flag}, content: content}, success
	}
	return n
}

func (f *regularFile) read(b []byte) (int, errno) {
	n, e := f.pread(b, f.off)
	f.off += int64(n)
	return n, e
}

func (f *regularFile) pread(b []byte, off int64) (int, errno) {
	switch content := f.content(); {
	case !f.canRead():
		return 0, eBadf
	case off < 0:
		return 0, eInval
	case off >= int64(len(content)):
		return 0, success
	default:
		return copy(b, content[off:]), success
	}
}

func (f *regularFile) seek(off int64, whence int) (int64, errno) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off = satAdd(f.off, off)
	case io.SeekEnd:
		off = satAdd(int64(len(f.content())), off)
	default:
		return 0, eInval
	}
	if off < 0 {
		return 0, eInval
	}
	f.off = off
	return off, success
}
