//go:build amd64 || arm64

package linmem

import (
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What golang.org/x/sys/unix lacks: see Linux's include/uapi/linux/userfaultfd.h and fs.h.
const (
	uffdUserModeOnly = 1 // kernel's own accesses are none of our business, which makes it free for all users

	uffdAPI        = 0xaa
	uffdioAPI      = 0xc018aa3f
	uffdioRegister = 0xc020aa00
	uffdioProtect  = 0xc018aa06

	featureWPShmem       = 1 << 12 // memfds
	featureWPUnpopulated = 1 << 13 // pages that were never touched, too
	featureWPAsync       = 1 << 15 // the kernel lets writes pass by itself, and notes them

	registerModeWP = 1 << 1
	protectModeWP  = 1 << 0

	pagemapScan         = 0xc0606610
	scanWPMatching      = 1 << 0 // protect again what is told
	scanCheckWPAsync    = 1 << 1 // fail where nothing is tracked
	pageIsWritten       = 1 << 1
	scanRegions         = 256 // told by one call
	pagemapFile         = 1 << 61
	pagemapSwapped      = 1 << 62
	pagemapPresent      = 1 << 63
	pagemapEntries      = 4096 // read by one call
	pagemapScanArgsSize = 96
)

type uffdAPIArgs struct{ api, features, ioctls uint64 }

type uffdRegisterArgs struct{ start, len, mode, ioctls uint64 }

type uffdProtectArgs struct{ start, len, mode uint64 }

type pageRegion struct{ start, end, _ uint64 }

type pagemapScanArgs struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages uint64
	_, categoryMask, _, returnMask                          uint64
}

// kernel is the userfaultfd that all memories of the process are registered with. Nothing is ever read from it, as
// asynchronous write-protection sends no events: a write to a protected page takes the protection off, and PAGEMAP_SCAN tells
// where there is none and puts it back.
type kernel struct{ uffd int }

// theKernel fails where the kernel doesn't track. It is opened and tried once, and stays open.
var theKernel = sync.OnceValues(func() (*kernel, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	if err := k.try(); err != nil {
		_ = unix.Close(k.uffd)
		return nil, err
	}
	return k, nil
})

// probe returns why the kernel doesn't track, nil if it does.
func probe() error {
	_, err := theKernel()
	return err
}

func openKernel() (*kernel, error) {
	if _, err := pagemap(); err != nil {
		return nil, err
	}
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK|uffdUserModeOnly, 0, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("userfaultfd", errno)
	}
	k := &kernel{uffd: int(fd)}
	a := uffdAPIArgs{api: uffdAPI, features: featureWPShmem | featureWPUnpopulated | featureWPAsync}
	if err := k.ioctl(uffdioAPI, unsafe.Pointer(&a)); err != nil {
		_ = unix.Close(k.uffd)
		return nil, fmt.Errorf("userfaultfd without asynchronous write-protection: %w", err)
	}
	return k, nil
}

func (k *kernel) ioctl(request uintptr, args unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(k.uffd), request, uintptr(args))
		switch errno {
		case 0:
			return nil
		case unix.EINTR, unix.EAGAIN:
		default:
			return os.NewSyscallError("ioctl userfaultfd", errno)
		}
	}
}

// register has writes to mem tracked once it is protected.
func (k *kernel) register(mem []byte) error {
	a := uffdRegisterArgs{start: address(mem), len: uint64(len(mem)), mode: registerModeWP}
	return k.ioctl(uffdioRegister, unsafe.Pointer(&a))
}

// protect has the next scan tell what is written from now on.
func (k *kernel) protect(mem []byte) error {
	a := uffdProtectArgs{start: address(mem), len: uint64(len(mem)), mode: protectModeWP}
	return k.ioctl(uffdioProtect, unsafe.Pointer(&a))
}

// scanBuffer is what a scan needs, on the heap: stacks move, and the kernel is told addresses.
type scanBuffer struct {
	args    pagemapScanArgs
	regions [scanRegions]pageRegion
}

var scanBuffers = sync.Pool{New: func() any { return new(scanBuffer) }}

// scan adds to set the pages of a memory, which starts with mem, that were written since they were last protected, and
// protects them. If it fails, it may have protected pages that it doesn't tell.
func (k *kernel) scan(mem []byte, set *pageSet) error {
	fd, err := pagemap()
	if err != nil {
		return err
	}
	b := scanBuffers.Get().(*scanBuffer)
	defer scanBuffers.Put(b)
	start := address(mem)
	b.args = pagemapScanArgs{
		size: pagemapScanArgsSize, flags: scanWPMatching | scanCheckWPAsync,
		start: start, end: start + uint64(len(mem)),
		vec: uint64(uintptr(unsafe.Pointer(&b.regions))), vecLen: scanRegions,
		categoryMask: pageIsWritten, returnMask: pageIsWritten, // just this has a fast path in the kernel
	}
	for b.args.start < b.args.end {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), pagemapScan, uintptr(unsafe.Pointer(&b.args)))
		if errno != 0 {
			return os.NewSyscallError("ioctl PAGEMAP_SCAN", errno)
		}
		for _, r := range b.regions[:n] {
			set.addRange(uint32((r.start-start)/PageSize), uint32((r.end-start)/PageSize))
		}
		if b.args.walkEnd <= b.args.start {
			return errors.New("PAGEMAP_SCAN doesn't get on")
		}
		b.args.start = b.args.walkEnd
	}
	goruntime.KeepAlive(b)
	return nil
}

// pagemap returns the descriptor of /proc/self/pagemap, which is opened once and stays open.
var pagemap = sync.OnceValues(func() (int, error) {
	if size := os.Getpagesize(); size != PageSize {
		return 0, fmt.Errorf("the kernel's pages have %d bytes", size)
	}
	fd, err := unix.Open("/proc/self/pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("open /proc/self/pagemap", err)
})

type pagemapBuffer [pagemapEntries]uint64

var pagemapBuffers = sync.Pool{New: func() any { return new(pagemapBuffer) }}

// populated adds to set the pages of mem that take memory of their own, and so may differ from what they were mapped from,
// counted from first on. It touches none of them.
func populated(mem []byte, first uint32, set *pageSet) error {
	fd, err := pagemap()
	if err != nil {
		return err
	}
	b := pagemapBuffers.Get().(*pagemapBuffer)
	defer pagemapBuffers.Put(b)
	const entrySize = 8
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(b)), len(b)*entrySize)
	offset := int64(address(mem) / PageSize * entrySize)
	for pages := len(mem) / PageSize; pages > 0; {
		n, err := unix.Pread(fd, bytes[:min(pages, len(b))*entrySize], offset)
		if err == nil && n%entrySize != 0 || n == 0 {
			err = errors.New("short read")
		}
		if err != nil {
			return fmt.Errorf("read /proc/self/pagemap: %w", err)
		}
		n /= entrySize
		for i, e := range b[:n] {
			if e&(pagemapPresent|pagemapSwapped) != 0 && e&pagemapFile == 0 {
				set.add(first + uint32(i))
			}
		}
		first, pages, offset = first+uint32(n), pages-n, offset+int64(n*entrySize)
	}
	return nil
}

func address(mem []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) }

// try writes to a page that comes from an image and to one that doesn't, and has the kernel tell which. There are too many
// versions, permissions, filters of system calls, and kernels that only pretend to be Linux, to ask for each.
func (k *kernel) try() error {
	const imageSize, size = wasmPageSize, 2 * wasmPageSize
	image, err := newImage(compare, imageSize, nil, func(mem []byte) error {
		for p := range uint32(imageSize / PageSize) {
			mem[p*PageSize] = 1
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer image.Release()
	mem, err := mmap(-1, nil, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	r := &mapping{mem: mem, kernel: k}
	defer r.unmap()
	if err := r.start(image); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	if r.resize(size) == nil {
		return errors.New("mprotect fails")
	}
	const before, fromImage, fresh = 1, 3, 20
	var got, want pageSet
	mem[before*PageSize] = 2
	if err := r.track(size, &got); err != nil {
		return err
	}
	mem[fromImage*PageSize], mem[fresh*PageSize] = 2, 2
	got = nil
	if err := r.track(size, &got); err != nil {
		return err
	}
	want.add(fromImage)
	want.add(fresh)
	if !slices.Equal(got, want) {
		return errors.New("the kernel doesn't tell which pages were written")
	}
	return nil
}
