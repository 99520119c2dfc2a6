package wasi

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sys"

	"github.com/durun/durun/hostabi"
)

// listing is a folder's content as fd_readdir tells it: ".", "..", then the names in order. A cookie is the index of
// the next entry. The order is what lets another machine go on: what comes next is what sorts after the last name told.
type listing struct {
	base    uint64 // cookie of the first of entries
	entries []sys.Dirent

	// The last call, which is what the guest may still be working through.
	last  uint64 // its cookie
	count int    // how many entries it got

	resume *dirState // where a restored guest was, until fd_readdir is called
}

func fdReaddir(i *Instance, g *hostabi.Guest, p []uint64) errno {
	size, cookie, result := uint32(p[2]), p[3], uint32(p[4])
	if size < direntSize {
		return eInval // the caller could not even read the length of a name
	}
	buf, ok := bytesAt(g, uint32(p[1]), uint64(size))
	if !ok {
		return eFault
	}
	if _, ok := bytesAt(g, result, 4); !ok {
		return eFault
	}
	d := i.fds.get(int32(p[0]))
	if d == nil {
		return eBadf
	}
	if dir, e := d.file.isDir(); e != 0 {
		return e
	} else if !dir {
		return eBadf // as wazero: Rust's library does not expect ENOTDIR
	}

	if e := d.list(cookie); e != 0 {
		return e
	}
	l := d.dir
	if cookie < l.base || cookie-l.base > uint64(len(l.entries)) {
		return eNoent
	}
	l.last, l.count = cookie, 0
	used := 0
	for _, entry := range l.entries[cookie-l.base:] {
		if used == len(buf) {
			break
		}
		cookie++
		l.count++
		// An entry that doesn't fit is cut off. The guest sees that the buffer is full, and asks for it again.
		var head [direntSize]byte
		le.PutUint64(head[0:], cookie)
		le.PutUint64(head[8:], entry.Ino)
		le.PutUint32(head[16:], uint32(len(entry.Name)))
		head[20] = fileType(entry.Type)
		used += copy(buf[used:], head[:])
		used += copy(buf[used:], entry.Name)
	}
	return putU32(g, result, uint32(used))
}

// list makes sure that there is a listing for the cookie. Cookie 0 reads the folder anew.
func (d *descriptor) list(cookie uint64) errno {
	switch {
	case cookie == 0:
		entries, e := d.readAll()
		if e != 0 {
			return e
		}
		st, e := d.file.stat()
		if e != 0 {
			return e
		}
		dots := []sys.Dirent{{Name: ".", Ino: st.Ino, Type: fs.ModeDir}, {Name: "..", Type: fs.ModeDir}}
		d.dir = &listing{entries: append(dots, entries...)}
	case d.dir == nil:
		d.dir = &listing{} // nothing was told yet: no cookie but 0 is good
	case d.dir.resume != nil:
		entries, e := d.readAll()
		if e != 0 {
			return e
		}
		d.dir = d.dir.resume.listing(entries)
	}
	return 0
}

// readAll returns the folder's content, sorted.
func (d *descriptor) readAll() ([]sys.Dirent, errno) {
	entries, e := d.file.readdir()
	if e != 0 {
		return nil, e
	}
	slices.SortFunc(entries, func(a, b sys.Dirent) int { return strings.Compare(a.Name, b.Name) })
	return entries, 0
}

// dirState is where fd_readdir is, in a snapshot.
type dirState struct {
	Cookie uint64     `cbor:"1,keyasint"`           // of the last call
	After  []byte     `cbor:"2,keyasint,omitempty"` // the name before it, if any
	Batch  []dirEntry `cbor:"3,keyasint,omitempty"` // what the call told
}

type dirEntry struct {
	Name []byte `cbor:"1,keyasint"`
	Type uint8  `cbor:"2,keyasint"`
}

// state captures l.
func (l *listing) state() *dirState {
	if l.resume != nil {
		return l.resume
	}
	from := int(l.last - l.base)
	to := from + l.count
	from = max(from, to-maxBatch)
	s := &dirState{Cookie: l.base + uint64(from)}
	if from > 0 {
		s.After = []byte(l.entries[from-1].Name)
	}
	for _, e := range l.entries[from:to] {
		s.Batch = append(s.Batch, dirEntry{Name: []byte(e.Name), Type: fileType(e.Type)})
	}
	return s
}

// listing puts what the guest was told together with what the sorted folder has after that.
func (s *dirState) listing(now []sys.Dirent) *listing {
	l := &listing{base: s.Cookie, last: s.Cookie, count: len(s.Batch)}
	after := string(s.After)
	for _, told := range s.Batch {
		e := sys.Dirent{Name: string(told.Name), Type: typeMode(told.Type)}
		if n, ok := slices.BinarySearchFunc(now, e.Name, func(d sys.Dirent, name string) int { return strings.Compare(d.Name, name) }); ok {
			e = now[n]
		}
		l.entries = append(l.entries, e)
		after = e.Name
	}
	for _, e := range now {
		// "." and ".." come first, whatever sorts before them.
		if after == "" || after == "." || after == ".." || e.Name > after {
			l.entries = append(l.entries, e)
		}
	}
	if after == "." {
		l.entries = slices.Insert(l.entries, len(s.Batch), sys.Dirent{Name: "..", Type: fs.ModeDir})
	}
	return l
}

// typeMode is the reverse of fileType.
func typeMode(t uint8) fs.FileMode {
	switch t {
	case typeRegular:
		return 0
	case typeDirectory:
		return fs.ModeDir
	case typeSymlink:
		return fs.ModeSymlink
	case typeCharacter:
		return fs.ModeDevice | fs.ModeCharDevice
	case typeBlock:
		return fs.ModeDevice
	}
	return fs.ModeIrregular
}
