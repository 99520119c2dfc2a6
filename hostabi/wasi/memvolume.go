package wasi

import (
	"container/heap"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sys"
	wazerosys "github.com/tetratelabs/wazero/sys"
)

// Limits of volumes in memory.
const (
	// DefaultVolumeLimit is how many bytes a volume in memory may have if its [Mount] doesn't say.
	DefaultVolumeLimit = 64 << 20
	// MaxVolumes is how many bytes the volumes of one coroutine may have together. With what a chunk costs at least it
	// keeps the number of parts of the state below what a snapshot takes.
	MaxVolumes = 256 << 20

	// memDevice is the device of the first volume, as a guest sees it: none of the host's.
	memDevice   = 0x6d656d << 40
	memRoot     = 1       // the root's inode number
	maxLinks    = 40      // symbolic links followed in one path, as on Linux
	maxFileName = 255     // bytes of one element of a path
	maxNames    = 1 << 15 // hard links of a file
	memNodeCost = 256     // what a file or folder counts beside its content, in bytes
	memNameCost = 64      // what each of its names counts beside the name's bytes
)

// memVolume is a volume in memory, which is captured with the coroutine: files, folders, hard and symbolic links, as POSIX
// has them. Nobody else sees it, so it has no permissions. Times of access change only on request, so that to read is no
// change to be captured.
//
// It is a graph of inodes. A file that has lost its last name stays while it is open, also across a suspension.
type memVolume struct {
	now   func() int64 // wall time
	index int          // among the instance's
	limit int64        // bytes
	used  int64

	nodes map[uint64]*memNode
	next  uint64   // inode numbers from here on were never used
	free  minHeap  // those below that are free: the lowest is used next, which keeps the groups dense
	root  *memNode // never changes

	saved memSaved
}

// memNode is an inode.
type memNode struct {
	ino              uint64
	kind             uint8 // typeDirectory, typeRegular, typeSymlink
	atim, mtim, ctim int64
	names            []memName // a folder has one, or none if it is the root or was removed
	opens            int       // descriptors; while there are, it stays without a name

	entries map[string]*memNode // of a folder
	target  string              // of a symbolic link
	memData                     // of a file
}

// memName is one of a file's names.
type memName struct {
	dir  *memNode
	name string
}

// newMemVolume returns an empty volume.
func newMemVolume(index int, limit int64, now func() int64) *memVolume {
	v := &memVolume{now: now, index: index, limit: limit, nodes: map[uint64]*memNode{}, next: memRoot}
	v.root = v.newNode(typeDirectory)
	return v
}

// newNode makes an inode without a name. Its cost is the caller's to charge.
func (v *memVolume) newNode(kind uint8) *memNode {
	n := &memNode{kind: kind, ino: v.next}
	if len(v.free) > 0 {
		n.ino = heap.Pop(&v.free).(uint64)
	} else {
		v.next++
	}
	n.atim = v.now()
	n.mtim, n.ctim = n.atim, n.atim
	if kind == typeDirectory {
		n.entries = map[string]*memNode{}
	}
	v.nodes[n.ino] = n
	v.touch(n)
	return n
}

// charge takes n bytes of the limit, or gives them back if n is negative.
func (v *memVolume) charge(n int64) errno {
	if n > 0 && n > v.limit-v.used {
		return eNospc
	}
	v.used += n
	return success
}

func nameCost(name string) int64 { return memNameCost + int64(len(name)) }

// insert gives n a name in dir, and charges it with cost beside the name's.
func (v *memVolume) insert(dir *memNode, name string, n *memNode, cost int64) errno {
	if len(n.names) >= maxNames {
		return eMlink
	}
	if e := v.charge(cost + nameCost(name)); e != success {
		return e
	}
	dir.entries[name] = n
	n.names = append(n.names, memName{dir, name})
	v.changedDir(dir)
	v.changedInode(n)
	return success
}

// create makes an inode of that name; for a symbolic link cost is the length of its target.
func (v *memVolume) create(dir *memNode, name string, kind uint8, cost int64) (*memNode, errno) {
	n := v.newNode(kind)
	if e := v.insert(dir, name, n, memNodeCost+cost); e != success {
		v.forget(n)
		return nil, e
	}
	return n, success
}

// remove takes n's name in dir away, and n itself if nothing leads to it any more.
func (v *memVolume) remove(dir *memNode, name string, n *memNode) {
	delete(dir.entries, name)
	n.names = slices.DeleteFunc(n.names, func(m memName) bool { return m == memName{dir, name} })
	_ = v.charge(-nameCost(name)) // giving back never fails
	v.changedDir(dir)
	v.changedInode(n)
	v.release(n)
}

// release frees n if it has no name and no descriptor.
func (v *memVolume) release(n *memNode) {
	if n == v.root || len(n.names) > 0 || n.opens > 0 {
		return
	}
	_ = v.charge(-memNodeCost - int64(len(n.target)) - n.cost())
	v.forget(n)
}

func (v *memVolume) forget(n *memNode) {
	v.touch(n)
	delete(v.nodes, n.ino)
	heap.Push(&v.free, n.ino)
}

func (v *memVolume) changedDir(dir *memNode) {
	dir.mtim = v.now()
	dir.ctim = dir.mtim
	v.touch(dir)
}

func (v *memVolume) changedInode(n *memNode) {
	n.ctim = v.now()
	v.touch(n)
}

// place is where a path leads.
type place struct {
	dir  *memNode // the folder of the last element; nil if there is none, because the path ends in the root or in ".."
	name string   // the last element
	node *memNode // nil if there is nothing of that name
}

// walk follows a path from the root. Of the last element it follows a symbolic link only if follow is set or a slash
// comes after it. It doesn't lead out of the volume, and an absolute link leads nowhere, as in a folder of the host.
func (v *memVolume) walk(name string, follow bool) (place, errno) {
	slash := strings.HasSuffix(name, "/")
	at := place{node: v.root}
	links := 0
	for todo := elements(name); len(todo) > 0; {
		element := todo[0]
		todo = todo[1:]
		dir := at.node
		switch {
		case dir == nil:
			return place{}, eNoent
		case dir.kind != typeDirectory:
			return place{}, eNotdir
		case len(element) > maxFileName:
			return place{}, eNametoolong
		case element == ".":
			at = place{node: dir}
			continue
		case element == ".." && dir == v.root:
			return place{}, ePerm
		case element == "..":
			at = place{node: dir.names[0].dir}
			continue
		}
		at = place{dir, element, dir.entries[element]}
		if n := at.node; n != nil && n.kind == typeSymlink && (follow || slash || len(todo) > 0) {
			if links++; links > maxLinks {
				return place{}, eLoop
			}
			if path.IsAbs(n.target) {
				return place{}, ePerm
			}
			target := elements(n.target)
			if strings.HasSuffix(n.target, "/") {
				target = append(target, ".")
			}
			todo = append(target, todo...)
			at = place{node: dir}
		}
	}
	if slash && at.node != nil && at.node.kind != typeDirectory {
		return place{}, eNotdir
	}
	return at, success
}

func elements(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

// existing is walk to something that is there.
func (v *memVolume) existing(name string, follow bool) (place, errno) {
	at, e := v.walk(name, follow)
	if e == success && at.node == nil {
		e = eNoent
	}
	return at, e
}

func (v *memVolume) openFile(name string, flag sys.Oflag, _ fs.FileMode) (file, errno) {
	create := flag&sys.O_CREAT != 0
	excl := create && flag&sys.O_EXCL != 0
	at, e := v.walk(name, flag&sys.O_NOFOLLOW == 0 && !excl)
	switch {
	case e != success:
		return nil, e
	case at.node == nil && !create:
		return nil, eNoent
	case at.node == nil && strings.HasSuffix(name, "/"):
		return nil, eNoent
	case at.node == nil:
		if at.node, e = v.create(at.dir, at.name, typeRegular, 0); e != success {
			return nil, e
		}
	case excl:
		return nil, eExist
	case at.node.kind == typeSymlink && flag&sys.O_DIRECTORY != 0:
		return nil, eNotdir
	case at.node.kind == typeSymlink:
		return nil, eLoop
	default:
		if e := mayOpen(typeMode(at.node.kind), flag); e != success {
			return nil, e
		}
	}
	if flag&sys.O_TRUNC != 0 {
		if e := v.resize(at.node, 0); e != success {
			return nil, e
		}
	}
	return v.openNode(at.node, flag), success
}

// openNode returns an open file.
func (v *memVolume) openNode(n *memNode, flag sys.Oflag) *memFile {
	n.opens++
	return &memFile{v: v, n: n, flag: flag &^ (sys.O_CREAT | sys.O_EXCL | sys.O_TRUNC)}
}

func (v *memVolume) statNode(n *memNode) wazerosys.Stat_t {
	st := wazerosys.Stat_t{
		Dev: memDevice + uint64(v.index), Ino: n.ino, Nlink: uint64(len(n.names)), Mode: typeMode(n.kind) | 0o600, Size: n.size,
		Atim: n.atim, Mtim: n.mtim, Ctim: n.ctim,
	}
	switch n.kind {
	case typeDirectory:
		st.Nlink, st.Mode = 2, st.Mode|0o100
		for _, child := range n.entries {
			if child.kind == typeDirectory {
				st.Nlink++
			}
		}
	case typeSymlink:
		st.Size = int64(len(n.target))
	}
	return st
}

func (v *memVolume) statAt(name string, follow bool) (wazerosys.Stat_t, errno) {
	at, e := v.existing(name, follow)
	if e != success {
		return wazerosys.Stat_t{}, e
	}
	return v.statNode(at.node), success
}

func (v *memVolume) lstat(name string) (wazerosys.Stat_t, errno) { return v.statAt(name, false) }

func (v *memVolume) stat(name string) (wazerosys.Stat_t, errno) { return v.statAt(name, true) }

func (v *memVolume) mkdir(name string, _ fs.FileMode) errno {
	at, e := v.walk(strings.TrimRight(name, "/"), false)
	if e == success && at.node != nil {
		e = eExist
	}
	if e == success {
		_, e = v.create(at.dir, at.name, typeDirectory, 0)
	}
	return e
}

func (v *memVolume) readlink(name string) (string, errno) {
	at, e := v.existing(name, false)
	if e == success && at.node.kind != typeSymlink {
		e = eInval
	}
	if e != success {
		return "", e
	}
	return at.node.target, success
}

func (v *memVolume) symlink(target, name string) errno {
	if path.IsAbs(target) {
		return ePerm // as in a folder of the host
	}
	at, e := v.absent(name)
	if e != success {
		return e
	}
	n, e := v.create(at.dir, at.name, typeSymlink, int64(len(target)))
	if e == success {
		n.target = target
	}
	return e
}

// absent is walk to where something that isn't a folder is to be made.
func (v *memVolume) absent(name string) (place, errno) {
	at, e := v.walk(name, false)
	switch {
	case e != success:
		return at, e
	case at.node != nil:
		return at, eExist
	case strings.HasSuffix(name, "/"):
		return at, eNoent
	}
	return at, success
}

func (v *memVolume) link(from, to string) errno {
	old, e := v.existing(from, false)
	if e != success {
		return e
	}
	at, e := v.absent(to)
	switch {
	case e != success:
		return e
	case old.node.kind == typeDirectory:
		return ePerm
	}
	return v.insert(at.dir, at.name, old.node, 0)
}

func (v *memVolume) unlink(name string) errno {
	at, e := v.existing(strings.TrimRight(name, "/"), false)
	switch {
	case e != success:
		return e
	case at.node.kind == typeDirectory:
		return eIsdir
	case strings.HasSuffix(name, "/"):
		return eNotdir
	}
	v.remove(at.dir, at.name, at.node)
	return success
}

func (v *memVolume) rmdir(name string) errno {
	at, e := v.existing(strings.TrimRight(name, "/"), false)
	switch {
	case e != success:
		return e
	case at.node.kind != typeDirectory:
		return eNotdir
	case at.dir == nil:
		return eBusy // the root
	case len(at.node.entries) > 0:
		return eNotempty
	}
	v.remove(at.dir, at.name, at.node)
	return success
}

func (v *memVolume) rename(from, to string) errno {
	if path.Clean(from) == "." || path.Clean(to) == "." {
		return eBusy
	}
	src, e := v.existing(strings.TrimRight(from, "/"), false)
	if e != success {
		return e
	}
	dst, e := v.walk(strings.TrimRight(to, "/"), false)
	isDir := src.node.kind == typeDirectory
	switch {
	case e != success:
		return e
	case src.dir == nil || dst.dir == nil:
		return eBusy
	case !isDir && (strings.HasSuffix(from, "/") || strings.HasSuffix(to, "/")):
		return eNotdir
	case src.node == dst.node:
		return success
	case isDir && src.node.contains(dst.dir):
		return eInval
	case dst.node == nil:
	case isDir && dst.node.kind != typeDirectory:
		return eNotdir
	case !isDir && dst.node.kind == typeDirectory:
		return eIsdir
	case len(dst.node.entries) > 0:
		return eNotempty
	}
	// The space of the name that goes counts for the one that comes.
	if more := nameCost(dst.name) - nameCost(src.name); dst.node == nil && more > v.limit-v.used {
		return eNospc
	}
	if dst.node != nil {
		v.remove(dst.dir, dst.name, dst.node)
	}
	src.node.opens++ // it stays while it has no name
	v.remove(src.dir, src.name, src.node)
	e = v.insert(dst.dir, dst.name, src.node, 0)
	src.node.opens--
	return e
}

// contains says whether other is n or below it.
func (n *memNode) contains(other *memNode) bool {
	for other != n {
		if len(other.names) == 0 {
			return false
		}
		other = other.names[0].dir
	}
	return true
}

func (v *memVolume) utimens(name string, atim, mtim int64) errno {
	at, e := v.existing(name, true)
	if e != success {
		return e
	}
	v.setTimes(at.node, atim, mtim)
	return success
}

func (v *memVolume) setTimes(n *memNode, atim, mtim int64) {
	if atim != sys.UTIME_OMIT {
		n.atim = atim
	}
	if mtim != sys.UTIME_OMIT {
		n.mtim = mtim
	}
	if atim != sys.UTIME_OMIT || mtim != sys.UTIME_OMIT {
		v.changedInode(n)
	}
}

func (v *memVolume) close() {}

// minHeap is inode numbers, see [heap.Interface].
type minHeap []uint64

func (h minHeap) Len() int           { return len(h) }
func (h minHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h minHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *minHeap) Push(x any)        { *h = append(*h, x.(uint64)) }
func (h *minHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
