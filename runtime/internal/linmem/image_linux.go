//go:build amd64 || arm64

package linmem

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// createFile makes the image a sealed memfd with what fill makes of size bytes of zeros. It fails with ErrUnsupported, and
// before fill is called, where there can be none.
func (i *Image) createFile(size uint64, fill func(mem []byte) error) (err error) {
	fd, err := createMemfd()
	if err != nil {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			*i = Image{file: -1, initial: i.initial}
		}
	}()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	mem, err := mmap(fd, nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	err = func() error {
		defer munmap(mem) // from here on, nobody writes
		return fill(mem)
	}()
	if err != nil {
		return err
	}
	if err := seal(fd); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if i.bytes, err = mmap(fd, nil, size, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return err
	}
	// Only what was written is read: to read a hole would fill it.
	for off := int64(0); ; {
		start, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		end := int64(size)
		if err == nil {
			end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
		}
		if err != nil {
			munmap(i.bytes)
			return fmt.Errorf("find data: %w", err)
		}
		i.findData(uint64(start), uint64(end))
		off = end
	}
	i.file = fd
	return nil
}

// seal has the file stay as it is. F_SEAL_WRITE would also make sure that nobody is writing; for that it looks at each page, and
// fails if the kernel uses one for a moment, as it does where memory is short.
func seal(fd int) error {
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals|unix.F_SEAL_FUTURE_WRITE)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.1
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	return err
}

// createMemfd returns a memfd that can't be executed, if the kernel knows of that (Linux 6.3).
func createMemfd() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("durun-image", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("durun-image", flags)
	}
	return fd, err
}

func (i *Image) closeFile() {
	if i.file >= 0 {
		munmap(i.bytes)
		_ = unix.Close(i.file)
		i.file = -1
	}
}
