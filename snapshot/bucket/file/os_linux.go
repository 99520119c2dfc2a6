package file

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// createUnnamed makes a file with O_TMPFILE, which most local file systems have: ext4, XFS, Btrfs, tmpfs, overlayfs.
func createUnnamed(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o600)
	switch {
	// Without O_TMPFILE a kernel sees O_DIRECTORY in it, and a folder that is to be written to.
	case isAny(err, unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOSYS):
		return nil, errNoUnnamed
	case errors.Is(err, unix.EPERM):
		return createIn(dir)
	}
	return f, err
}

// createIn tells why a folder can't be written to. ext4 says EPERM of one that was removed after it had been looked up.
func createIn(dir string) (*os.File, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd, err := unix.Openat(int(d.Fd()), ".", unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	var stat unix.Stat_t
	if unix.Fstat(int(d.Fd()), &stat) == nil && stat.Nlink == 0 {
		err = unix.ENOENT
	}
	return nil, &os.PathError{Op: "open", Path: dir, Err: err}
}

// linkUnnamed names a file from createUnnamed. Older kernels let only the privileged do it by AT_EMPTY_PATH, and answer
// ENOENT to others.
func linkUnnamed(f *os.File, name string) error {
	err := unix.Linkat(int(f.Fd()), "", unix.AT_FDCWD, name, unix.AT_EMPTY_PATH)
	if isAny(err, unix.ENOENT, unix.EPERM, unix.EINVAL) {
		return linkByProc(f, name)
	}
	return linkError(f, name, err)
}

// linkByProc is the way for everybody, where /proc is mounted.
func linkByProc(f *os.File, name string) error {
	err := unix.Linkat(unix.AT_FDCWD, procPath(f), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, unix.ENOENT) && unix.Access(procPath(f), unix.F_OK) != nil {
		return errNoUnnamed
	}
	return linkError(f, name, err)
}

func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func linkError(f *os.File, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case isAny(err, unix.EXDEV, unix.EPERM, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOSYS):
		return errNoUnnamed // some file systems in user space, some sandboxes; a file with a name may do
	default:
		return &os.LinkError{Op: "linkat", Old: f.Name(), New: name, Err: err}
	}
}

func isAny(err error, targets ...unix.Errno) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
