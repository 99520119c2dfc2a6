package file

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// memFS is a file system that knows what would be left of it after a loss of power: a file's bytes that were fsynced and
// a folder's entries that were, and of the rest anything.
type memFS struct {
	mu    sync.Mutex
	root  *inode
	named bool // it can't make files without a name
}

type inode struct {
	dir                    bool
	entries, syncedEntries map[string]*inode
	data, syncedData       []byte
	locked                 bool
}

func newDir() *inode {
	return &inode{dir: true, entries: map[string]*inode{}, syncedEntries: map[string]*inode{}}
}

func newMemFS() *memFS { return &memFS{root: newDir()} }

// powerLoss returns the file system as it might be found after the power was lost: with or without what was not synced.
func (m *memFS) powerLoss(keepEntries, keepData func() bool) *memFS {
	seen := map[*inode]*inode{}
	var walk func(n *inode) *inode
	walk = func(n *inode) *inode {
		if c, ok := seen[n]; ok {
			return c
		}
		if !n.dir {
			data := n.syncedData
			if keepData() {
				data = n.data
			}
			c := &inode{data: slices.Clone(data), syncedData: slices.Clone(data)}
			seen[n] = c
			return c
		}
		c := newDir()
		seen[n] = c
		entries := n.syncedEntries
		if keepEntries() {
			entries = n.entries
		}
		for name, e := range entries {
			c.entries[name] = walk(e)
			c.syncedEntries[name] = c.entries[name]
		}
		return c
	}
	return &memFS{root: walk(m.root), named: m.named}
}

func (m *memFS) find(name string) (parent *inode, base string, n *inode, err error) {
	parts := strings.FieldsFunc(filepath.ToSlash(name), func(r rune) bool { return r == '/' })
	n = m.root
	for i, p := range parts {
		if n == nil {
			return nil, "", nil, fs.ErrNotExist
		}
		if !n.dir {
			return nil, "", nil, errNotDir
		}
		parent, base = n, p
		n = n.entries[p]
		_ = i
	}
	return parent, base, n, nil
}

var errNotDir = errors.New("not a directory")

func (m *memFS) Create(name string) (handle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, base, n, err := m.find(name)
	if err == nil && n != nil {
		err = fs.ErrExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	n = &inode{}
	parent.entries[base] = n
	return &memFile{m: m, n: n, name: base}, nil
}

func (m *memFS) CreateUnnamed(dir string) (handle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.named {
		return nil, errNoUnnamed
	}
	_, _, n, err := m.find(dir)
	switch {
	case err == nil && n == nil:
		err = fs.ErrNotExist
	case err == nil && !n.dir:
		err = errNotDir
	}
	if err != nil {
		return nil, &fs.PathError{Op: "create unnamed", Path: dir, Err: err}
	}
	return &memFile{m: m, n: &inode{}}, nil
}

func (m *memFS) Open(name string) (handle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, base, n, err := m.find(name)
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &memFile{m: m, n: n, name: base}, nil
}

func (m *memFS) Link(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.find(from)
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	return m.link(n, to)
}

func (m *memFS) link(n *inode, to string) error {
	parent, base, there, err := m.find(to)
	switch {
	case err != nil:
		return err
	case there != nil:
		return fs.ErrExist
	}
	parent.entries[base] = n
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, base, n, err := m.find(name)
	switch {
	case err != nil:
		return err
	case n == nil:
		return fs.ErrNotExist
	case n.dir && len(n.entries) > 0:
		return errors.New("not empty")
	}
	delete(parent.entries, base)
	return nil
}

func (m *memFS) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, base, n, err := m.find(name)
	switch {
	case err != nil:
		return err
	case n != nil:
		return fs.ErrExist
	}
	parent.entries[base] = newDir()
	return nil
}

func (m *memFS) ReadDir(name string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) {
		m.mu.Lock()
		_, _, n, err := m.find(name)
		if err == nil && n == nil {
			err = fs.ErrNotExist
		}
		var list []fs.DirEntry
		if err == nil {
			for name, e := range n.entries {
				list = append(list, fs.FileInfoToDirEntry(memInfo{name, e}))
			}
		}
		m.mu.Unlock()
		if err != nil {
			yield(nil, err)
			return
		}
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (m *memFS) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, base, n, err := m.find(name)
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	return memInfo{base, n}, nil
}

func (m *memFS) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.find(name)
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	clear(n.syncedEntries)
	for name, e := range n.entries {
		n.syncedEntries[name] = e
	}
	return nil
}

func (m *memFS) Lock(string) (lockFile, error) { return nil, errors.ErrUnsupported }

type memFile struct {
	m      *memFS
	n      *inode
	name   string
	locked bool
}

func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.locked {
		f.n.locked = false
	}
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.syncedData = slices.Clone(f.n.data)
	return nil
}

func (f *memFile) Link(name string) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.m.link(f.n, name)
}

func (f *memFile) Stat() (fs.FileInfo, error) { return memInfo{f.name, f.n}, nil }

func (f *memFile) TryLock() (bool, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.n.locked {
		return false, nil
	}
	f.n.locked, f.locked = true, true
	return true, nil
}

type memInfo struct {
	name string
	n    *inode
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return int64(len(i.n.data)) }
func (i memInfo) ModTime() time.Time { return time.Unix(0, 0) }
func (i memInfo) IsDir() bool        { return i.n.dir }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.n.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

// faultFS asks plan before each operation that changes or syncs something.
type faultFS struct {
	fsys
	mu   sync.Mutex
	n    int
	plan func(n int, op, name string) fault
}

type fault struct {
	before, after error // fail without doing it, or after doing it
	short         bool  // write half of it, then fail with before
}

func (f *faultFS) do(op, name string, do func() error) error {
	f.mu.Lock()
	fault := f.plan(f.n, op, name)
	f.n++
	f.mu.Unlock()
	if fault.before != nil {
		return &fs.PathError{Op: op, Path: name, Err: fault.before}
	}
	if err := do(); err != nil {
		return err
	}
	if fault.after != nil {
		return &fs.PathError{Op: op, Path: name, Err: fault.after}
	}
	return nil
}

func (f *faultFS) Create(name string) (h handle, err error) {
	err = f.do("create", name, func() error {
		h, err = f.fsys.Create(name)
		return err
	})
	if err != nil {
		if h != nil {
			_ = h.Close()
		}
		return nil, err
	}
	return &faultFile{h, f, name}, nil
}

func (f *faultFS) CreateUnnamed(dir string) (h handle, err error) {
	err = f.do("create", dir, func() error {
		h, err = f.fsys.CreateUnnamed(dir)
		return err
	})
	if err != nil {
		if h != nil {
			_ = h.Close()
		}
		return nil, err
	}
	return &faultFile{h, f, dir}, nil
}

func (f *faultFS) Open(name string) (handle, error) {
	h, err := f.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{h, f, name}, nil
}

func (f *faultFS) Link(from, to string) error {
	return f.do("link", to, func() error { return f.fsys.Link(from, to) })
}

func (f *faultFS) Remove(name string) error {
	return f.do("remove", name, func() error { return f.fsys.Remove(name) })
}

func (f *faultFS) Mkdir(name string) error {
	return f.do("mkdir", name, func() error { return f.fsys.Mkdir(name) })
}

func (f *faultFS) SyncDir(name string) error {
	return f.do("syncdir", name, func() error { return f.fsys.SyncDir(name) })
}

type faultFile struct {
	handle
	f    *faultFS
	name string
}

func (h *faultFile) Write(p []byte) (n int, err error) {
	h.f.mu.Lock()
	fault := h.f.plan(h.f.n, "write", h.name)
	h.f.n++
	h.f.mu.Unlock()
	if fault.short {
		n, _ = h.handle.Write(p[:len(p)/2])
	}
	if fault.before != nil {
		return n, &fs.PathError{Op: "write", Path: h.name, Err: fault.before}
	}
	if n, err = h.handle.Write(p); err == nil && fault.after != nil {
		err = &fs.PathError{Op: "write", Path: h.name, Err: fault.after}
	}
	return n, err
}

func (h *faultFile) Link(name string) error {
	return h.f.do("link", name, func() error { return h.handle.Link(name) })
}

func (h *faultFile) Sync() error { return h.f.do("sync", h.name, h.handle.Sync) }
func (h *faultFile) Close() error {
	return h.f.do("close", h.name, h.handle.Close)
}
