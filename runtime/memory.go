package runtime

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"unsafe"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/durun/durun/runtime/internal/linmem"
	"github.com/durun/durun/snapshot"
)

// images are what the memories of a module's coroutines start from: the module's initial image, and those of the roots of
// chains that were restored of late. An image is shared by all who start from it, so a root that is among them costs a
// restore a few system calls.
type images struct {
	mu      sync.Mutex
	closed  bool
	initial *linmem.Image                   // nil until it is asked for, and without a memory
	roots   map[snapshot.Hash]*list.Element // of *rootImage, in order
	making  map[snapshot.Hash]chan struct{} // of those that are being read; closed when that has ended
	order   list.List                       // the one used last in front
	pages   int                             // that the roots list, all together
	limit   int                             // of pages; maxRootPages, but in tests
}

// rootImage is the memory of a full snapshot.
type rootImage struct {
	hash  snapshot.Hash
	state *snapshot.Snapshot // without pages
	image *linmem.Image
	pages int
}

const (
	// fewPages is how many pages a root may list to be written over the initial image at each restore: fewer faults and
	// system calls than with an image of its own.
	fewPages = 64
	// maxRootPages bounds the memory that the images of roots take which no coroutine uses, in pages of snapshot.PageSize.
	maxRootPages = 256 << 20 / snapshot.PageSize
)

// initialImage returns the memory of a fresh instance, nil if the module has no memory. The module keeps it.
func (m *Module) initialImage() (*linmem.Image, error) {
	im := &m.images
	im.mu.Lock()
	defer im.mu.Unlock()
	switch {
	case im.closed:
		return nil, fmt.Errorf("the module is %w", ErrClosed)
	case im.initial != nil || len(m.env.Memories) == 0:
		return im.initial, nil
	}
	image, err := linmem.NewImage(m.env.Memories[0].Min*snapshot.WasmPageSize, func(mem []byte) error {
		m.image.fill(mem)
		return nil
	})
	im.initial = image
	return image, err
}

// Known returns the state of a full snapshot, by digest, whose memory the module has at hand: for [snapshot.Store.Chain] and
// [snapshot.Store.Base]. Nil if it hasn't. It has those of late restores.
func (m *Module) Known(hash snapshot.Hash) *snapshot.Snapshot {
	m.images.mu.Lock()
	defer m.images.mu.Unlock()
	if e := m.images.roots[hash]; e != nil {
		m.images.order.MoveToFront(e)
		return e.Value.(*rootImage).state
	}
	return nil
}

// content is what a memory is restored to: that of a full snapshot, the root, as deltas have changed it.
type content struct {
	hash       snapshot.Hash // of the root; zero if it is in no store
	root       *snapshot.Snapshot
	rootPages  []uint32               // that the root lists, ascending
	readRoot   func(mem []byte) error // writes them over the initial image
	deltaPages []uint32               // that the deltas have, ascending
	readDeltas func(mem []byte) error // writes them over the root
	state      *snapshot.Snapshot     // at the end, without pages
	shared     bool                   // the root is a shared base
}

// contentOf is the content at the end of a chain.
func contentOf(ctx context.Context, c *snapshot.Chain) (*content, error) {
	state, err := c.State()
	if err != nil {
		return nil, err
	}
	return &content{
		hash: c.RootRef.Hash, root: c.Root, state: state, shared: c.RootRef.Seq == 0,
		rootPages: c.RootPages(), readRoot: func(mem []byte) error { return c.ReadRoot(ctx, mem) },
		deltaPages: c.DeltaPages(), readDeltas: func(mem []byte) error { return c.ReadDeltas(ctx, mem) },
	}, nil
}

// contentOfSnapshot is the content of a complete snapshot.
func contentOfSnapshot(s *snapshot.Snapshot) *content {
	numbers := make([]uint32, len(s.Memory.Pages))
	for i := range numbers {
		numbers[i] = s.Memory.Pages[i].Number
	}
	return &content{
		root: s, state: s, rootPages: numbers,
		readRoot: func(mem []byte) error {
			if err := snapshot.ApplyPages(mem, s.Memory.Pages); err != nil {
				return fmt.Errorf("%w: %w", ErrMismatch, err)
			}
			return nil
		},
	}
}

// rootImage returns the image of a root, with a reference for the caller. It is nil if it is better to write the root's
// pages over the initial image. A root is read by one at a time, for whom the others who want it wait.
func (m *Module) rootImage(ctx context.Context, from *content) (*linmem.Image, error) {
	im := &m.images
	im.mu.Lock()
	defer im.mu.Unlock()
	for {
		if e := im.roots[from.hash]; e != nil {
			im.order.MoveToFront(e)
			return e.Value.(*rootImage).image.Retain(), nil
		}
		if n := len(from.rootPages); n <= fewPages || n > im.limit/4 || from.hash == (snapshot.Hash{}) {
			return nil, nil
		}
		made := im.making[from.hash]
		if made == nil {
			return im.make(from)
		}
		im.mu.Unlock()
		select {
		case <-made:
		case <-ctx.Done():
		}
		im.mu.Lock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// make makes the image of a root, and keeps it. The caller holds the lock, which others can have while the root is read.
func (im *images) make(from *content) (*linmem.Image, error) {
	if im.roots == nil {
		im.roots, im.making = map[snapshot.Hash]*list.Element{}, map[snapshot.Hash]chan struct{}{}
	}
	made := make(chan struct{})
	im.making[from.hash] = made
	initial := im.initial
	im.mu.Unlock()
	image, err := initial.Derive(from.root.Memory.Size, from.rootPages, from.readRoot)
	im.mu.Lock()
	delete(im.making, from.hash)
	close(made)
	if err != nil || im.closed {
		return image, err
	}
	state := *from.root
	if state.Memory.Pages = nil; !from.shared {
		state.Output = nil
	}
	r := &rootImage{hash: from.hash, state: &state, image: image, pages: len(from.rootPages)}
	im.roots[r.hash] = im.order.PushFront(r)
	im.pages += r.pages
	for im.pages > im.limit {
		im.forget(im.order.Back())
	}
	return image.Retain(), nil
}

// forget takes a root out. Memories that started from it keep its image.
func (im *images) forget(e *list.Element) {
	r := im.order.Remove(e).(*rootImage)
	delete(im.roots, r.hash)
	im.pages -= r.pages
	r.image.Release()
}

// close lets go of all images. Coroutines that are still there keep theirs.
func (im *images) close() {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.closed {
		return
	}
	im.closed = true
	for im.order.Len() > 0 {
		im.forget(im.order.Back())
	}
	if im.initial != nil {
		im.initial.Release()
	}
}

// memoryMax returns the limit that the module gives its memory, in bytes; 0 for none.
func (m *Module) memoryMax() uint64 {
	if len(m.env.Memories) == 0 || !m.env.Memories[0].HasMax {
		return 0
	}
	return m.env.Memories[0].Max * snapshot.WasmPageSize
}

// newMemory returns a memory of some size, 0 for that of the image, that starts as image or, if that is nil, as the
// module's initial one; nil if the module has no memory.
func (m *Module) newMemory(image *linmem.Image, size uint64, limits Limits) (*linmem.Memory, error) {
	initial, err := m.initialImage()
	if err != nil || initial == nil {
		return nil, err
	}
	if image == nil {
		image = initial
	}
	limit := uint64(maxPages)
	if l := m.env.Memories[0]; l.HasMax {
		limit = min(limit, l.Max)
	}
	if limits.Memory > 0 {
		limit = min(limit, uint64(limits.Memory)/snapshot.WasmPageSize)
	}
	return linmem.New(linmem.Config{Image: image, Size: max(size, image.Size()), Max: limit * snapshot.WasmPageSize})
}

// allocation is a memory for the engine. It is the coroutine's to free: wazero v1.12 frees a memory with the first instance
// that is closed, be it one that only imports the memory.
type allocation struct{ *linmem.Memory }

// Free implements experimental.LinearMemory.
func (allocation) Free() {}

// withMemory has the engine take mem for the memory of an instance.
func withMemory(ctx context.Context, mem *linmem.Memory) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory {
		return allocation{mem}
	}))
}

// followMemory has c.linear be what the engine says that the memory is. They differ once the engine grows it on its own.
func (c *Coroutine) followMemory() {
	view, _ := c.memory.Read(0, c.memory.Size())
	if mine := c.linear.Bytes(); len(view) != len(mine) || unsafe.SliceData(view) != unsafe.SliceData(mine) {
		c.linear.Follow(view)
	}
}

// changes returns the pages that go into a snapshot, as told since some moment.
func (c *Coroutine) changes(since snapshot.Since) ([]snapshot.Page, bool) {
	var changes []linmem.Change
	ok := true
	switch since {
	case snapshot.SinceParent:
		changes, ok = c.linear.Delta()
	case snapshot.SinceRoot:
		changes, ok = c.linear.Anchor()
	default:
		changes = c.linear.Full()
	}
	if !ok {
		return nil, false
	}
	pages := make([]snapshot.Page, len(changes))
	for i, ch := range changes {
		pages[i] = snapshot.Page{Number: ch.Number, Data: ch.Data, Old: ch.Old}
	}
	return pages, true
}

// restoreMemory makes a memory of some content, and tells it what is committed of it. It is nil if the module has none.
func (m *Module) restoreMemory(ctx context.Context, from *content, limits Limits) (*linmem.Memory, error) {
	initial, err := m.initialImage()
	if err != nil {
		return nil, err
	}
	if initial == nil {
		if from.state.Memory.Size > 0 {
			return nil, fmt.Errorf("%w: it has a memory, and the module none", ErrMismatch)
		}
		return nil, nil
	}
	for _, size := range []uint64{from.root.Memory.Size, from.state.Memory.Size} {
		if size < initial.Size() || size%snapshot.WasmPageSize != 0 {
			return nil, fmt.Errorf("%w: a memory of %d bytes, where the module starts with %d", ErrMismatch, size, initial.Size())
		}
		if l := m.env.Memories[0]; size > maxPages*snapshot.WasmPageSize || l.HasMax && size > l.Max*snapshot.WasmPageSize {
			return nil, fmt.Errorf("%w: a memory of %d bytes, which is more than the module or this machine allows", ErrMismatch, size)
		}
	}
	image, err := m.rootImage(ctx, from)
	if err != nil {
		return nil, err
	}
	if image != nil {
		defer image.Release()
	}
	mem, err := m.newMemory(image, from.state.Memory.Size, limits)
	if err != nil {
		return nil, err
	}
	view := mem.Bytes()
	if image == nil {
		if err = from.readRoot(view[:from.root.Memory.Size]); err == nil {
			mem.AdoptRoot(from.rootPages)
		}
	}
	if err == nil && len(from.deltaPages) > 0 {
		if err = from.readDeltas(view); err == nil {
			mem.Adopt(from.deltaPages)
		}
	}
	if err != nil {
		mem.Free()
		return nil, err
	}
	return mem, nil
}

// Tracking says how this process learns which pages of a memory its guest has written, which commits are made of:
//
//	userfaultfd  the kernel tells
//	compare      pages are compared with copies
//	heap         likewise, and memories aren't mapped, which makes restores slower
//
// why is the reason why it isn't userfaultfd, nil if it is. The environment variable DURUN_TRACKING, set to compare or heap, asks
// for that. Commits are the same in each case.
func Tracking() (how string, why error) { return linmem.Tracking() }
