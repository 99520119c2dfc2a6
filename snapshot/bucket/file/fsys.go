package file

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
)

// fsys is the file system under a bucket.
type fsys interface {
	// Create makes a file that is not there, for writing, mode 0600.
	Create(name string) (handle, error)
	// CreateUnnamed makes a file for writing, mode 0600, that is in no folder until its Link, on the file system of the
	// folder dir. Closed before, or when the process dies, it is gone. It returns errNoUnnamed where there is no such thing.
	CreateUnnamed(dir string) (handle, error)
	// Open opens a file for reading.
	Open(name string) (handle, error)
	Link(from, to string) error
	Remove(name string) error // a file or an empty folder
	Mkdir(name string) error  // mode 0700
	// ReadDir iterates over a folder's entries, in no order, and stops after the first error.
	ReadDir(name string) iter.Seq2[fs.DirEntry, error]
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes a folder's entries durable.
	SyncDir(name string) error
	// Lock opens the file, making it if need be, and locks it, or returns errHeld at once.
	Lock(name string) (lockFile, error)
}

// lockFile is a file that is locked until it is closed.
type lockFile interface {
	io.Closer
	io.WriterAt
	Stat() (fs.FileInfo, error)
}

// handle is an open file.
type handle interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
	// TryLock locks the file until it is closed; false says that another handle has it locked. Where files can't be
	// locked it returns errors.ErrUnsupported.
	TryLock() (bool, error)
	// Link gives an unnamed file its name, if no file has that. It returns errNoUnnamed where files can be made without
	// a name and not get one.
	Link(name string) error
}

// errNoUnnamed says that files can't be made first and named later: not on this system, or not on this file system.
var errNoUnnamed = errors.New("files have to be made with a name")

// osFS is the operating system's file system.
type osFS struct{}

type osFile struct{ *os.File }

func (osFS) Create(name string) (handle, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) CreateUnnamed(dir string) (handle, error) {
	f, err := createUnnamed(dir)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string) (handle, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Link(from, to string) error            { return os.Link(from, to) }
func (osFS) Remove(name string) error              { return os.Remove(name) }
func (osFS) Mkdir(name string) error               { return os.Mkdir(name, 0o700) }
func (osFS) Stat(name string) (fs.FileInfo, error) { return os.Lstat(name) }
func (osFS) SyncDir(name string) error             { return syncDir(name) }

func (osFS) ReadDir(name string) iter.Seq2[fs.DirEntry, error] {
	const batch = 1024
	return func(yield func(fs.DirEntry, error) bool) {
		d, err := os.Open(name)
		if err != nil {
			yield(nil, err)
			return
		}
		defer d.Close()
		for {
			entries, err := d.ReadDir(batch)
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// Lock opens and locks a lock file. Its holder unlinks it before letting go, so whoever gets the lock makes sure that the
// name still leads to the file that it has locked.
func (osFS) Lock(name string) (lockFile, error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if ok, err := tryLock(f); err != nil || !ok {
			_ = f.Close()
			if err == nil {
				err = errHeld
			}
			return nil, err
		}
		mine, err := f.Stat()
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		if named, err := os.Lstat(name); err == nil && os.SameFile(mine, named) {
			return f, nil
		}
		_ = f.Close()
	}
}

func (f osFile) TryLock() (bool, error) { return tryLock(f.File) }

func (f osFile) Link(name string) error { return linkUnnamed(f.File, name) }

// unsyncedFS leaves it to the operating system when something becomes durable.
type unsyncedFS struct{ fsys }

func (u unsyncedFS) Create(name string) (handle, error) { return unsynced(u.fsys.Create(name)) }

func (u unsyncedFS) CreateUnnamed(dir string) (handle, error) {
	return unsynced(u.fsys.CreateUnnamed(dir))
}

func (u unsyncedFS) Open(name string) (handle, error) { return unsynced(u.fsys.Open(name)) }

func (unsyncedFS) SyncDir(string) error { return nil }

func unsynced(h handle, err error) (handle, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{h}, nil
}

type unsyncedFile struct{ handle }

func (unsyncedFile) Sync() error { return nil }
