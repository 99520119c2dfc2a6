package file

import (
	"io"
	"io/fs"
	"os"
)

// fsys is the file system under a bucket.
type fsys interface {
	// Create makes a file that is not there, for writing, mode 0600.
	Create(name string) (handle, error)
	// Open opens a file for reading.
	Open(name string) (handle, error)
	Link(from, to string) error
	Remove(name string) error // a file or an empty folder
	Mkdir(name string) error  // mode 0700
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes a folder's entries durable.
	SyncDir(name string) error
	// Lock opens the file, making it if need be, and locks it, or returns errHeld at once.
	Lock(name string) (io.Closer, error)
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
}

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

func (osFS) Open(name string) (handle, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Link(from, to string) error                 { return os.Link(from, to) }
func (osFS) Remove(name string) error                   { return os.Remove(name) }
func (osFS) Mkdir(name string) error                    { return os.Mkdir(name, 0o700) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Lstat(name) }
func (osFS) SyncDir(name string) error                  { return syncDir(name) }

// Lock opens and locks a lock file. Its holder unlinks it before letting go, so whoever gets the lock makes sure that the
// name still leads to the file that it has locked.
func (osFS) Lock(name string) (io.Closer, error) {
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
