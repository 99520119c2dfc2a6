package linmem

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
)

const (
	// PageSize is the size of a page in bytes: the unit in which changes are told. A page of WebAssembly has 16.
	PageSize = 4096

	// wasmPageSize is the unit of the sizes of memories and images.
	wasmPageSize = 65536

	// maxSize is the largest size of a memory, that of the address space of WebAssembly.
	maxSize = 1 << 32
)

var zeroPage [PageSize]byte

// Image is the content of a memory at some point: a module's initial one, or that of a snapshot. It doesn't change, and any
// number of memories may start from it. It may be used by several goroutines.
type Image struct {
	bytes   []byte
	data    pageSet // pages that aren't all zeros
	extent  uint64  // end of the last of them, rounded up to wasmPageSize
	listed  pageSet // pages which the snapshot lists
	initial *Image  // nil if the image is a module's initial one
	file    int     // a sealed memfd; -1 if bytes is a slice of Go's heap
	refs    atomic.Int64
}

// NewImage returns the initial image of a module: what fill makes of size bytes of zeros, where size is a multiple of 64 KiB.
// Pages that fill doesn't touch take no memory on Linux. The caller has one reference to the image, see [Image.Release].
func NewImage(size uint64, fill func(mem []byte) error) (*Image, error) {
	return newImage(mode(), size, nil, fill)
}

// Derive returns the image of a snapshot of the module whose initial image i is. Its content is i's, with zeros up to size, as
// fill changes it; listed are the numbers of the pages that the snapshot lists, and no others must be changed by fill.
// Derive retains i.
func (i *Image) Derive(size uint64, listed []uint32, fill func(mem []byte) error) (*Image, error) {
	return i.derive(mode(), size, listed, fill)
}

func (i *Image) derive(t tracking, size uint64, listed []uint32, fill func(mem []byte) error) (*Image, error) {
	if i.initial != nil {
		return nil, fmt.Errorf("linmem: an image can only be derived from a module's initial one")
	}
	if size < i.Size() {
		return nil, fmt.Errorf("linmem: an image of %d bytes can't be derived from one of %d", size, i.Size())
	}
	d, err := newImage(t, size, i, fill)
	if err != nil {
		return nil, err
	}
	for _, p := range listed {
		if uint64(p) >= size/PageSize {
			d.Release()
			return nil, fmt.Errorf("linmem: page %d is listed in an image of %d bytes", p, size)
		}
		d.listed.add(p)
	}
	return d, nil
}

// newImage makes an image in a memfd if there can be one, else on the heap.
func newImage(t tracking, size uint64, initial *Image, fill func(mem []byte) error) (*Image, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	i := &Image{file: -1, initial: initial}
	whole := func(mem []byte) error {
		if initial != nil {
			initial.copyTo(mem)
		}
		return fill(mem)
	}
	err := errors.ErrUnsupported
	if t != heap && size > 0 {
		err = i.createFile(size, whole)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		i.bytes = make([]byte, size)
		if err = whole(i.bytes); err == nil {
			i.findData(0, size)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("linmem: make an image of %d bytes: %w", size, err)
	}
	for p := range i.data.all() {
		i.extent = (uint64(p)*PageSize/wasmPageSize + 1) * wasmPageSize
	}
	if initial != nil {
		initial.Retain()
	}
	i.refs.Store(1) // here, since a file that can't be made leaves the image as new
	return i, nil
}

// findData adds to i.data the pages from start up to end that aren't all zeros.
func (i *Image) findData(start, end uint64) {
	for p := uint32(start / PageSize); uint64(p)*PageSize < end; p++ {
		if !bytes.Equal(pageOf(i.bytes, p), zeroPage[:]) {
			i.data.add(p)
		}
	}
}

// copyTo writes the image to mem, which is all zeros, and no shorter.
func (i *Image) copyTo(mem []byte) {
	for p := range i.data.all() {
		copy(pageOf(mem, p), pageOf(i.bytes, p))
	}
}

// Size returns the size in bytes.
func (i *Image) Size() uint64 { return uint64(len(i.bytes)) }

// Bytes returns the content, which must not be written: where it is a memfd, that would be a fault. It is good while there are
// references to the image. To read a page that was never written may take memory; see [Image.Page].
func (i *Image) Bytes() []byte { return i.bytes }

// Page returns the content of a page, zeros beyond the image's end. It must not be written.
func (i *Image) Page(number uint32) []byte {
	if !i.data.has(number) {
		return zeroPage[:]
	}
	return pageOf(i.bytes, number)
}

// Retain adds a reference, and returns i.
func (i *Image) Retain() *Image {
	if i.refs.Add(1) <= 1 {
		i.refs.Add(-1)
		panic("linmem: an image was retained after its last release")
	}
	return i
}

// Release takes a reference away. With the last one the image and what the package has kept of memories that started from it
// are gone. A memory has a reference from New to Free.
func (i *Image) Release() {
	switch n := i.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("linmem: an image was released more often than retained")
	}
	dropIdle(i)
	i.closeFile()
	i.bytes = nil
	if i.initial != nil {
		i.initial.Release()
	}
}

func checkSize(size uint64) error {
	if size%wasmPageSize != 0 || size > maxSize {
		return fmt.Errorf("linmem: %d bytes are no size of a memory", size)
	}
	return nil
}

// pageOf returns a page of mem.
func pageOf(mem []byte, number uint32) []byte {
	start := uint64(number) * PageSize
	return mem[start : start+PageSize : start+PageSize]
}
