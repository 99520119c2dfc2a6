//go:build amd64 || arm64

package linmem

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canMap says whether memories can be mapped.
const canMap = true

const (
	// step is how much of a mapping is made accessible at a time: a system call for each page of WebAssembly would be felt by
	// guests that grow in small steps.
	step = 2 << 20

	// smallSize is the size up to which a memory is copied from its image and compared with it. A page costs 40 ns to copy and
	// 50 ns to compare, but microseconds to fault in, and 0.7 µs at each first write after it was protected.
	smallSize = 256 << 10
)

// mapping is a space of address space that is reserved for the largest size that the memory may have. What isn't yet in use is
// inaccessible.
type mapping struct {
	mem    []byte // all that is reserved
	usable uint64 // so many bytes of it are accessible
	small  bool   // a small memory when it was made: see there
	image  *Image // what it was made from; not retained

	// Of a small mapping: so many bytes from the start on may be other than zero when it is taken from the idle ones.
	stale uint64

	kernel     *kernel // nil: doesn't track
	registered bool
	scans      int
	armed      uint64  // so many bytes from the start on are write-protected when they haven't been written
	private    pageSet // pages that take memory of their own, when it is idle
}

// newSpace returns a mapping with the content of c.Image, an idle one or one that it makes. Where address space, mappings or
// descriptors are at their limit it returns a slice.
func newSpace(c Config) space {
	if c.tracking == heap || c.Max == 0 {
		return newSlice(c)
	}
	r, err := newMapping(c)
	if err != nil {
		return newSlice(c)
	}
	return r
}

func newMapping(c Config) (r *mapping, err error) {
	small := c.Size <= smallSize
	image := c.Image
	if small {
		image = nil // any will do
	}
	if r = idle.take(c.Max, image, small); r == nil {
		r = &mapping{small: small, image: image}
		if r.mem, err = mmap(-1, nil, c.Max, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE); err != nil {
			return nil, err
		}
		if small || image != nil && image.initial != nil {
			// There may be many of these, and a huge page would give 2 MiB for a byte. It fails where there are none.
			_ = unix.Madvise(r.mem, unix.MADV_NOHUGEPAGE)
		}
		if image != nil {
			err = r.start(image)
		}
	}
	if err == nil && small {
		err = r.startSmall(c.Image, c.Size)
	}
	if err != nil {
		r.unmap()
		return nil, err
	}
	r.kernel = nil
	if c.tracking == userfaultfd {
		r.kernel, _ = theKernel() // it does, or the memory wouldn't be tracked so
	}
	return r, nil
}

// start gives a new mapping the content of an image.
func (r *mapping) start(i *Image) error {
	if i.extent == 0 {
		return nil
	}
	if i.file >= 0 {
		r.usable = i.extent
		_, err := mmap(i.file, unsafe.Pointer(&r.mem[0]), i.extent, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
		return err
	}
	mem := r.resize(i.Size())
	if mem == nil {
		return unix.ENOMEM
	}
	i.copyTo(mem)
	return nil
}

// startSmall gives a small mapping of any content that of an image.
func (r *mapping) startSmall(i *Image, size uint64) error {
	mem := r.resize(max(size, r.stale))
	if mem == nil {
		return unix.ENOMEM
	}
	n := 0
	if i != nil {
		n = copy(mem, i.Bytes()[:i.extent])
	}
	if uint64(n) < r.stale {
		clear(mem[n:r.stale])
	}
	return nil
}

func (r *mapping) resize(size uint64) []byte {
	if size > uint64(len(r.mem)) {
		return nil
	}
	if size > r.usable && !r.use(min((size+step-1)/step*step, uint64(len(r.mem)))) {
		return nil
	}
	return r.mem[:size] // with all that is reserved as its capacity, for the sake of an engine that is detached
}

// use makes the first size bytes accessible.
func (r *mapping) use(size uint64) bool {
	if size > r.usable {
		if err := unix.Mprotect(r.mem[r.usable:size], unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return false
		}
		r.usable = size
	}
	return true
}

func (r *mapping) detach() bool { return r.use(uint64(len(r.mem))) }

func (r *mapping) follow([]byte) {} // it doesn't move

// written asks the kernel. The first time it doesn't have writes tracked, which costs more than it saves if there is no second
// time: what was written until then is what takes memory of its own.
func (r *mapping) written(size uint64, set *pageSet) bool {
	if r.small && size <= smallSize {
		set.addRange(0, uint32(size/PageSize))
		return false
	}
	r.scans++
	if r.kernel != nil && (r.scans > 1 || r.armed > 0) {
		if r.track(size, set) == nil {
			return true
		}
		r.untrack()
	}
	if populated(r.mem[:size], 0, set) != nil {
		r.kernel = nil
		set.addRange(0, uint32(size/PageSize))
	}
	return r.kernel != nil
}

func (r *mapping) mark(size uint64) {
	if r.kernel == nil || r.small && size <= smallSize {
		return
	}
	var written pageSet
	if r.track(size, &written) != nil {
		r.untrack()
	}
}

// untrack is for when the kernel fails: what it has told so far may be lost, so nothing that it will tell is all.
func (r *mapping) untrack() { r.kernel, r.armed, r.registered = nil, 0, false }

// track adds to set what was written since the last call, or has ever been written in what it hasn't seen before, and
// write-protects it.
func (r *mapping) track(size uint64, set *pageSet) error {
	if !r.registered {
		if err := r.kernel.register(r.mem); err != nil {
			return err
		}
		r.registered = true
	}
	if r.armed > 0 {
		// The memory before this one may have been larger.
		if err := r.kernel.scan(r.mem[:min(r.armed, size)], set); err != nil {
			return err
		}
	}
	if size > r.armed {
		fresh := r.mem[r.armed:size]
		if err := populated(fresh, uint32(r.armed/PageSize), set); err != nil {
			return err
		}
		if err := r.kernel.protect(fresh); err != nil {
			return err
		}
		r.armed = size
	}
	return nil
}

// free keeps the mapping for the next memory if that is quicker: if a few pages have to be put right, which then needn't be
// faulted in again.
func (r *mapping) free(size uint64, changed func(*pageSet)) {
	if changed == nil || !r.reset(size, changed) {
		r.unmap()
		return
	}
	idle.put(r)
}

// reset gives an idle mapping the content of its image; a small one gets it when it is taken.
func (r *mapping) reset(size uint64, changed func(*pageSet)) bool {
	if r.small {
		if size > smallSize && unix.Madvise(r.mem[smallSize:size], unix.MADV_DONTNEED) != nil {
			return false
		}
		r.stale = max(r.stale, min(size, smallSize))
		r.scans, r.armed = 0, 0
		r.private.addRange(0, uint32(r.stale/PageSize))
		return true
	}
	var set pageSet
	r.written(size, &set)
	changed(&set)
	r.private.union(set)
	if r.private.count() > maxPrivate {
		return false
	}
	for p := range set.all() {
		if r.image == nil {
			clear(pageOf(r.mem, p))
		} else {
			copy(pageOf(r.mem, p), r.image.Page(p))
		}
	}
	return true
}

func (r *mapping) unmap() {
	if r.mem != nil {
		munmap(r.mem)
		r.mem = nil
	}
}

// Mappings that wait for the next memory are bounded in number and in the memory that they take, in pages.
const (
	maxIdle        = 64
	maxIdlePrivate = 64 << 20 / PageSize
	maxPrivate     = maxIdlePrivate / 4 // of one
)

// pool holds mappings that wait for the next memory, the latest last.
type pool struct {
	sync.Mutex
	mappings []*mapping
	private  int // pages
}

var idle pool

// take returns a mapping for a memory that may grow to size bytes, or nil.
func (p *pool) take(size uint64, image *Image, small bool) *mapping {
	p.Lock()
	defer p.Unlock()
	for i := len(p.mappings) - 1; i >= 0; i-- {
		if r := p.mappings[i]; uint64(len(r.mem)) == size && r.image == image && r.small == small {
			p.remove(i)
			return r
		}
	}
	return nil
}

// put keeps a mapping, and lets go of others if these are too many.
func (p *pool) put(r *mapping) {
	p.Lock()
	defer p.Unlock()
	p.mappings = append(p.mappings, r)
	p.private += r.private.count()
	for len(p.mappings) > maxIdle || p.private > maxIdlePrivate {
		p.remove(0).unmap()
	}
}

func (p *pool) remove(i int) *mapping {
	r := p.mappings[i]
	p.private -= r.private.count()
	p.mappings = append(p.mappings[:i], p.mappings[i+1:]...)
	return r
}

// dropIdle lets go of the mappings of an image.
func dropIdle(i *Image) {
	idle.Lock()
	defer idle.Unlock()
	for n := len(idle.mappings) - 1; n >= 0; n-- {
		if idle.mappings[n].image == i {
			idle.remove(n).unmap()
		}
	}
}

// allocate returns memory outside of Go's heap, or nil.
func allocate(size int) []byte {
	mem, err := mmap(-1, nil, uint64(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil
	}
	return mem
}

func deallocate(mem []byte) { munmap(mem) }

// mmap maps size bytes at a place of the kernel's choice, or at addr.
func mmap(file int, addr unsafe.Pointer, size uint64, prot, flags int) ([]byte, error) {
	p, err := unix.MmapPtr(file, 0, addr, uintptr(size), prot, flags)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), size), nil
}

// munmap can only fail for arguments that mmap didn't return, or if the kernel can't split its record of a mapping; then the
// memory stays.
func munmap(mem []byte) {
	_ = unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem)))
}
