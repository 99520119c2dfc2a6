package wasi

import (
	"path"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sys"
)

// fdKind is what a descriptor is. The numbers are in snapshots.
type fdKind uint8

const (
	kindStdin fdKind = iota
	kindStdout
	kindStderr
	kindPreopen // a mount's root, which fd_prestat_get tells
	kindDir
	kindFile
	kindDevice // rpc or events under /durun
	kindEnd    // no kind
)

// stdio says whether it is a standard stream.
func (k fdKind) stdio() bool { return k <= kindStderr }

// descriptor is an open file.
type descriptor struct {
	kind     fdKind
	nonblock bool
	file     file

	// The following are for folders and files.

	mount *mount
	path  string    // in the mount, clean; "." is its root. Follows renames by the guest
	flags sys.Oflag // how to open it again
	dir   *listing  // where fd_readdir is
}

// table is the descriptors by number.
type table struct {
	fds []*descriptor // nil where none is open
}

// get returns the descriptor, or nil.
func (t *table) get(fd int32) *descriptor {
	if fd < 0 || int(fd) >= len(t.fds) {
		return nil
	}
	return t.fds[fd]
}

// insert gives d the lowest free number, as POSIX does; false if there is none.
func (t *table) insert(d *descriptor) (int32, bool) {
	for fd, old := range t.fds {
		if old == nil {
			t.fds[fd] = d
			return int32(fd), true
		}
	}
	if len(t.fds) >= maxFDs {
		return 0, false
	}
	t.fds = append(t.fds, d)
	return int32(len(t.fds) - 1), true
}

// full says that insert would fail.
func (t *table) full() bool {
	if len(t.fds) < maxFDs {
		return false
	}
	for _, d := range t.fds {
		if d == nil {
			return false
		}
	}
	return true
}

// set gives d a number below maxFDs that is free.
func (t *table) set(fd int32, d *descriptor) {
	for int(fd) >= len(t.fds) {
		t.fds = append(t.fds, nil)
	}
	t.fds[fd] = d
}

func (t *table) insertStdio(tty [3]bool) {
	for n, k := range []fdKind{kindStdin, kindStdout, kindStderr} {
		t.insert(newStdio(k, tty[n]))
	}
}

// renamed lets the descriptors follow a rename that the guest made.
func (t *table) renamed(m *mount, from, to string) {
	from, to = path.Clean(from), path.Clean(to)
	for _, d := range t.fds {
		if d == nil || d.mount != m {
			continue
		}
		rest, ok := strings.CutPrefix(d.path, from)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		d.path = to + rest
		if f, ok := d.file.(interface{ moved(name string) }); ok {
			f.moved(d.path)
		}
	}
}

func (t *table) close() {
	for _, d := range t.fds {
		if d != nil {
			d.file.close()
		}
	}
	t.fds = nil
}
