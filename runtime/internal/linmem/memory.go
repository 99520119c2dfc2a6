package linmem

import "fmt"

// Config says what a memory is to be.
type Config struct {
	// Image is the content at the start; nil is zeros. The memory retains it until Free.
	Image *Image

	// Size is the size at the start, in bytes: a multiple of 64 KiB, and no less than Image's.
	Size uint64

	// Max is the size that Reallocate can reach, in bytes. Less than Size counts as Size. Address space is reserved for all of
	// it, so it should be no more than the guest may have.
	Max uint64

	// Shadows is the limit to the memory that copies of pages may take, in bytes. Default: 64 MiB, or 16 MiB and an eighth of
	// the memory's size, whichever is more. Beyond it pages are told without their old content (see Change), and where the
	// kernel doesn't track, Delta tells nothing.
	Shadows uint64

	// tracking overrides what the process uses, in tests.
	tracking tracking
}

// Memory is the linear memory of one guest. Make one with [New], and give it back with Free.
type Memory struct {
	space   space
	image   *Image // nil: zeros
	mem     []byte // nil after Free
	shadows uint64 // limit in bytes; 0: by size
	history
}

// space is where a memory lies. There are two: mapping and slice.
type space interface {
	// resize returns the first size bytes, nil if there can't be so many. What was accessible before keeps its content, the
	// rest is zeros. It doesn't shrink.
	resize(size uint64) []byte

	// written adds to set the pages of the first size bytes that may have been written since the last call. It reports whether
	// the pages are tracked: if not, it may add again what wasn't written since the last call, but was before.
	written(size uint64, set *pageSet) (tracked bool)

	// mark has the next call of written tell only what is written from now on.
	mark(size uint64)

	// detach makes accessible all that the memory can grow to, false if that can't be. See Memory.Detach.
	detach() bool

	// follow says what the memory is since then.
	follow(mem []byte)

	// free gives the space back. changed tells the pages of the first size bytes whose content may differ from the image.
	free(size uint64, changed func(set *pageSet))
}

// New returns a memory with the content of an image.
func New(c Config) (*Memory, error) {
	c.Max = max(c.Max, c.Size)
	for _, size := range []uint64{c.Size, c.Max} {
		if err := checkSize(size); err != nil {
			return nil, err
		}
	}
	if c.Image != nil && c.Size < c.Image.Size() {
		return nil, fmt.Errorf("linmem: a memory of %d bytes can't start from an image of %d", c.Size, c.Image.Size())
	}
	if c.tracking == auto {
		c.tracking = mode()
	}
	s := newSpace(c)
	m := &Memory{space: s, image: c.Image, shadows: c.Shadows}
	if m.mem = s.resize(c.Size); uint64(len(m.mem)) != c.Size {
		s.free(0, nil)
		return nil, fmt.Errorf("linmem: no room for a memory of %d bytes", c.Size)
	}
	if c.Image != nil {
		c.Image.Retain()
	}
	return m, nil
}

// Bytes returns the memory. It is good until the next call of Reallocate or Free. Where the memory is mapped, it stays at one
// address as it grows.
func (m *Memory) Bytes() []byte { return m.mem }

// Reallocate grows the memory to size bytes, a multiple of 64 KiB, and returns it. It returns more if the memory is larger
// already, and nil if it can't grow so far, or was freed.
func (m *Memory) Reallocate(size uint64) []byte {
	switch {
	case m.mem == nil && m.space == nil:
		return nil
	case size <= uint64(len(m.mem)):
		return m.mem
	case checkSize(size) != nil:
		return nil
	}
	mem := m.space.resize(size)
	if mem != nil {
		m.mem = mem
	}
	return mem
}

// Free gives the memory back. What Bytes, Delta and the others have returned must not be touched any more: it may belong to
// another guest already, or be a fault. That goes for wazero's api.Memory as well, which still reads and writes there when its
// instance is closed; who can't rule that out hands wazero a memory whose Free does nothing, and calls this one when all is
// over. To free twice is nothing.
func (m *Memory) Free() {
	if m.space == nil {
		return
	}
	m.space.free(uint64(len(m.mem)), m.differing)
	m.space, m.mem = nil, nil
	m.history.free()
	if m.image != nil {
		m.image.Release()
		m.image = nil
	}
}

// Detach prepares for an engine that grows the memory without Reallocate from now on: all that it can grow to becomes
// accessible. Whoever detaches a memory says with Follow where it is. It returns false if the system refuses; then nothing has
// changed.
func (m *Memory) Detach() bool { return m.space != nil && m.space.detach() }

// Follow says what the memory is after the engine has grown a detached one: mem has at least the size that Bytes had, and is
// at the same address if the memory is mapped.
func (m *Memory) Follow(mem []byte) {
	m.space.follow(mem)
	m.mem = mem
}

// imagePage returns what the image has of a page.
func (m *Memory) imagePage(p uint32) []byte {
	if m.image == nil {
		return zeroPage[:]
	}
	return m.image.Page(p)
}

// initialPage returns what the module's initial image has of a page.
func (m *Memory) initialPage(p uint32) []byte {
	switch {
	case m.image == nil:
		return zeroPage[:]
	case m.image.initial == nil:
		return m.image.Page(p)
	}
	return m.image.initial.Page(p)
}

// slice is a space on Go's heap. It knows nothing of writes.
type slice struct {
	mem []byte
	max uint64
}

func newSlice(c Config) *slice {
	s := &slice{mem: make([]byte, c.Size), max: c.Max}
	if c.Image != nil {
		c.Image.copyTo(s.mem)
	}
	return s
}

func (s *slice) resize(size uint64) []byte {
	switch {
	case size > s.max:
		return nil
	case size <= uint64(cap(s.mem)):
		s.mem = s.mem[:max(size, uint64(len(s.mem)))]
	default:
		grown := make([]byte, size, min(s.max, max(size, 2*uint64(cap(s.mem)))))
		copy(grown, s.mem)
		s.mem = grown
	}
	return s.mem[:size]
}

func (s *slice) written(size uint64, set *pageSet) bool {
	set.addRange(0, uint32(size/PageSize))
	return false
}

func (s *slice) mark(uint64) {}

// detach has nothing to do: an engine on its own takes another slice if it needs to.
func (s *slice) detach() bool { return true }

func (s *slice) follow(mem []byte) { s.mem = mem }

func (s *slice) free(uint64, func(*pageSet)) { s.mem = nil }
