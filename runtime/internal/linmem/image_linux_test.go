//go:build amd64 || arm64

package linmem

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSeal makes an image while the kernel uses a page of it, as it does now and then where memory is short: a pipe holds the
// page. Nobody can write to what comes of it.
func TestSeal(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	var i Image
	err := i.createFile(16*PageSize, func(mem []byte) error {
		mem[0] = 1
		page := unix.Iovec{Base: &mem[0]}
		page.SetLen(PageSize)
		_, err := unix.Vmsplice(pipe[1], []unix.Iovec{page}, 0)
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no image is a file here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer i.closeFile()
	if _, err := unix.Pwrite(i.file, []byte{2}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("a write gives %v, want %v", err, unix.EPERM)
	}
	if _, err := mmap(i.file, nil, PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, unix.EPERM) {
		t.Errorf("a writable mapping gives %v, want %v", err, unix.EPERM)
	}
	if err := unix.Ftruncate(i.file, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("to make it smaller gives %v, want %v", err, unix.EPERM)
	}
	if i.bytes[0] != 1 {
		t.Errorf("it has %d in it, want 1", i.bytes[0])
	}
}

// TestImageWithoutFile makes an image where the process may not have files of that size, as with ulimit -f. It is on the heap
// then, and is used and released as any other.
func TestImageWithoutFile(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: PageSize, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	i, err := newImage(compare, wasmPageSize, nil, func(mem []byte) error {
		mem[PageSize] = 1
		return nil
	})
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if i.file >= 0 || i.Page(1)[0] != 1 {
		t.Errorf("it has the file %d, and %d in it; want none, and 1", i.file, i.Page(1)[0])
	}
	i.Retain().Release()
	i.Release()
}
