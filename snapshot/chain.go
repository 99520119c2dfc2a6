package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// chainReads is how many objects of a chain are read at once.
const chainReads = 12

// Chain is a stored snapshot as it is stored: a full one, and the deltas from there to it. Pages are read when they are asked
// for, so that large ones need not be in memory twice.
type Chain struct {
	Commit    Commit    // the snapshot that this is the chain of
	Root      *Snapshot // the full snapshot without its pages; it is the commit's own if there are no deltas
	RootRef   Ref
	RootBytes int64    // size of the root, encoded
	Deltas    []*Delta // the anchor first, the commit last
	root      pageSet
	known     bool // the root came from the caller
}

// Chain reads a commit of a coroutine, 0 for the newest, and what it needs: first the commit itself, which names the
// others, then those at once. All are verified, and that they belong together; of large objects the pages are read, and
// verified, when they are asked for.
//
// If have is not nil it is asked, by digest, for the state of the root that a delta needs: if it returns one, without its
// pages, the root is not read, and is what Chain.Root is.
//
// Errors: [ErrNotFound]; [ErrCorrupt] and [ErrVersion], which say of which object.
func (s *Store) Chain(ctx context.Context, id string, seq uint64, have func(Hash) *Snapshot) (*Chain, error) {
	for try := 0; ; try++ {
		e, newest, err := s.newest(ctx, id) // in any case: to know that the coroutine is not being deleted
		if err != nil {
			return nil, err
		}
		n, key := newest, e.Key
		if seq != 0 {
			if err := s.exists(ctx, id, seq); err != nil {
				return nil, err
			}
			n, key = seq, commitKey(id, seq)
		}
		c, err := s.chain(ctx, id, n, key, have)
		if err == nil {
			return c, nil
		}
		if seq == 0 && errors.Is(err, ErrNotFound) && try < retries && ctx.Err() == nil {
			continue // dropped meanwhile: there is a newer one, or none
		}
		return nil, fmt.Errorf("commit %d of coroutine %s: %w", n, id, err)
	}
}

func (s *Store) chain(ctx context.Context, id string, seq uint64, key string, have func(Hash) *Snapshot) (*Chain, error) {
	st, err := s.readCommit(ctx, id, seq, key)
	if err != nil {
		return nil, err
	}
	c := &Chain{Commit: st.commit()}
	if st.kind == KindFull {
		c.RootRef, c.RootBytes, c.root = Ref{Seq: seq, Hash: st.digest}, st.size, st.pages
		if c.Root, err = st.full(); err != nil {
			return nil, err
		}
		return c, nil
	}
	last, err := st.delta()
	if err != nil {
		return nil, err
	}
	c.RootRef, c.RootBytes = last.Origin.Root, last.Origin.RootBytes
	c.Deltas = make([]*Delta, seq-last.Origin.Anchor+1)
	c.Deltas[len(c.Deltas)-1] = last
	if have != nil {
		c.Root = have(c.RootRef.Hash)
		c.known = c.Root != nil
	}
	err = s.readChain(ctx, id, c)
	if errors.Is(err, errMissing) {
		// What a commit needs is deleted after the commit was dropped. So if it was not, this is damage.
		if errors.Is(s.exists(ctx, id, seq), ErrNotFound) {
			err = fmt.Errorf("%w in %s: it was dropped", ErrNotFound, s.b.URL())
		}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// errMissing is for an object that a chain needs and that isn't there.
var errMissing = corrupt("store", -1, "it is missing")

// readChain reads what is still missing of a chain, in parallel.
func (s *Store) readChain(ctx context.Context, id string, c *Chain) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		once  sync.Once
		first error
		wg    sync.WaitGroup
		slots = make(chan struct{}, chainReads)
	)
	read := func(r Ref, f func() error) {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := f(); err != nil {
				if errors.Is(err, ErrNotFound) {
					err = errMissing
				}
				once.Do(func() {
					first = fmt.Errorf("its chain needs %v: %w", r, err)
					cancel()
				})
			}
		})
	}
	if c.Root == nil {
		read(c.RootRef, func() error { return s.readRoot(ctx, id, c) })
	}
	for i := range c.Deltas[:len(c.Deltas)-1] {
		seq := c.Commit.Origin.Anchor + uint64(i)
		read(Ref{Seq: seq}, func() (err error) {
			c.Deltas[i], err = s.readDelta(ctx, id, seq)
			return err
		})
	}
	wg.Wait()
	if first != nil {
		return first
	}
	return c.check()
}

func (s *Store) readRoot(ctx context.Context, id string, c *Chain) error {
	key, seq := commitKey(id, c.RootRef.Seq), c.RootRef.Seq
	if seq == 0 {
		key, id, seq = baseKey(c.RootRef.Name), c.RootRef.Name, 1
	}
	st, err := s.readCommit(ctx, id, seq, key)
	if err != nil {
		return err
	}
	if st.digest != c.RootRef.Hash || st.size != c.RootBytes {
		return corrupt("digest", int(st.size)-digestSize, "it is not the snapshot that the chain was built on")
	}
	c.root = st.pages
	c.Root, err = st.full()
	return err
}

func (s *Store) readDelta(ctx context.Context, id string, seq uint64) (*Delta, error) {
	st, err := s.readCommit(ctx, id, seq, commitKey(id, seq))
	if err != nil {
		return nil, err
	}
	return st.delta()
}

// readCommit reads the commit, or the base, of a number and an id.
func (s *Store) readCommit(ctx context.Context, id string, seq uint64, key string) (*stored, error) {
	st, err := s.readObject(ctx, key)
	if err != nil {
		return nil, err
	}
	if st.w.Coroutine != id || st.w.Seq != seq {
		return nil, moved(st.w.Coroutine, st.w.Seq)
	}
	return st, nil
}

// check checks that the parts belong together: each names the digest of the one before.
func (c *Chain) check() error {
	o := c.Commit.Origin
	size := c.Root.Memory.Size
	for i, d := range c.Deltas {
		bad := func(format string, args ...any) error {
			return fmt.Errorf("its chain needs %v: %w", d.ref(), corrupt("manifest", headerSize, format, args...))
		}
		switch {
		case *d.Origin != *o:
			return bad("it belongs to another chain")
		case i > 0 && d.Parent.Hash != c.Deltas[i-1].Hash:
			return bad("its parent is another commit %d than the one that is there", d.Parent.Seq)
		case d.MemorySize < size:
			return bad("a memory of %d bytes, which had %d", d.MemorySize, size)
		}
		size = d.MemorySize
	}
	return nil
}

// State returns the snapshot without its pages.
//
// Errors: a [*FormatError] with [ErrCorrupt] for deltas that don't fit each other.
func (c *Chain) State() (*Snapshot, error) {
	s := c.Root
	for _, d := range c.Deltas {
		var err error
		if s, err = d.next(s); err != nil {
			return nil, c.in(d.ref(), err)
		}
	}
	if len(c.Deltas) == 0 {
		return s, nil
	}
	return s, s.validateState(ErrCorrupt)
}

// RootPages returns the numbers of the pages that the root has, ascending: nil if the caller had it.
func (c *Chain) RootPages() []uint32 { return pageNumbers([]*pageSet{&c.root}) }

// DeltaPages returns the numbers of the pages that the deltas have, ascending.
func (c *Chain) DeltaPages() []uint32 {
	sets := make([]*pageSet, len(c.Deltas))
	for i, d := range c.Deltas {
		sets[i] = &d.pages
	}
	return pageNumbers(sets)
}

func pageNumbers(sets []*pageSet) []uint32 {
	var numbers []uint32
	for _, p := range sets {
		p.numbers(func(first, n uint32) {
			for i := range n {
				numbers = append(numbers, first+i)
			}
		})
		for _, patch := range p.patches {
			numbers = append(numbers, patch.Number)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// ReadRoot writes the root's pages into mem, which has the size of its memory, and the content of the module's initial
// image.
//
// Errors: [ErrCorrupt] and others of reading, after which the content of mem is undefined; [ErrRootKnown].
func (c *Chain) ReadRoot(ctx context.Context, mem []byte) error {
	if c.known {
		return ErrRootKnown
	}
	if uint64(len(mem)) < c.Root.Memory.Size {
		return fmt.Errorf("a memory of %d bytes, where the root's has %d", len(mem), c.Root.Memory.Size)
	}
	return c.in(c.RootRef, c.root.apply(ctx, mem))
}

// ReadDeltas changes mem, which has the size of the snapshot's memory, from the content of the root's to that of the
// snapshot's. What the root's does not reach is zero.
//
// Errors: as for ReadRoot.
func (c *Chain) ReadDeltas(ctx context.Context, mem []byte) error {
	if uint64(len(mem)) < c.Commit.MemorySize {
		return fmt.Errorf("a memory of %d bytes, where the snapshot's has %d", len(mem), c.Commit.MemorySize)
	}
	pages := c.pageBits()
	for _, d := range c.Deltas {
		if err := pages.add(d); err != nil {
			return c.in(d.ref(), err)
		}
		if err := d.pages.apply(ctx, mem); err != nil {
			return c.in(d.ref(), err)
		}
	}
	return nil
}

// pageBits is a set of pages.
type pageBits []uint64

// add checks that the pages which a delta patches are in the set of its base's, if that is known, and adds the delta's.
func (b pageBits) add(d *Delta) error {
	for _, p := range d.pages.patches {
		if b != nil && !p.Zero && b[p.Number/64]&(1<<(p.Number%64)) == 0 {
			return corrupt("patches", -1, "page %d is patched, which the base doesn't have", p.Number)
		}
	}
	b.union(&d.pages)
	return nil
}

func (b pageBits) union(p *pageSet) {
	if b == nil {
		return
	}
	p.numbers(func(first, n uint32) {
		for i := first; i < first+n; i++ {
			b[i/64] |= 1 << (i % 64)
		}
	})
	for _, p := range p.patches {
		b[p.Number/64] |= 1 << (p.Number % 64)
	}
}

// pageBits returns the set of the root's pages, nil if they aren't known.
func (c *Chain) pageBits() pageBits {
	if c.known {
		return nil
	}
	b := make(pageBits, c.Commit.MemorySize/PageSize/64+1) // no delta makes the memory smaller
	b.union(&c.root)
	return b
}

// in says in which part of the chain an error occurred.
func (c *Chain) in(r Ref, err error) error {
	if err == nil || r == (Ref{Seq: c.Commit.Seq, Hash: c.Commit.Hash}) {
		return err
	}
	return fmt.Errorf("its chain needs %v: %w", r, err)
}

// ErrRootKnown is returned where the pages of a chain's root are asked for, which were not read, since the caller had it.
var ErrRootKnown = errors.New("the root's pages were not read, since its state was known")

// Snapshot returns the complete snapshot.
//
// Errors: as for [Chain.State] and [Chain.ReadRoot].
func (c *Chain) Snapshot(ctx context.Context) (*Snapshot, error) {
	if c.known {
		return nil, ErrRootKnown
	}
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	root, err := c.root.all(ctx)
	if err != nil {
		return nil, c.in(c.RootRef, err)
	}
	snap := *s
	snap.Memory.Pages, err = c.fold(ctx, root)
	return &snap, err
}

// fold returns the root's pages, changed by the deltas.
func (c *Chain) fold(ctx context.Context, root []Page) ([]Page, error) {
	changed := map[uint32]*[PageSize]byte{}
	listed := c.pageBits()
	for _, d := range c.Deltas {
		if err := listed.add(d); err != nil {
			return nil, c.in(d.ref(), err)
		}
		whole, err := d.pages.whole(ctx)
		if err != nil {
			return nil, c.in(d.ref(), err)
		}
		for _, p := range whole {
			changed[p.Number] = (*[PageSize]byte)(p.Data)
		}
		for _, p := range d.pages.patches {
			page := changed[p.Number]
			if page == nil {
				page = new([PageSize]byte)
				if k, ok := findPage(root, p.Number); ok {
					copy(page[:], root[k].Data)
				}
				changed[p.Number] = page
			}
			p.Apply(page)
		}
	}
	pages := make([]Page, 0, len(root)+len(changed))
	for _, n := range slices.Sorted(maps.Keys(changed)) {
		i, ok := findPage(root, n)
		pages = append(pages, root[:i]...)
		if root = root[i:]; ok {
			root = root[1:]
		}
		pages = append(pages, Page{Number: n, Data: changed[n][:]})
	}
	if len(changed) == 0 {
		return root, nil
	}
	return append(pages, root...), nil
}

func findPage(pages []Page, number uint32) (int, bool) {
	return slices.BinarySearchFunc(pages, number, func(p Page, n uint32) int { return cmp.Compare(p.Number, n) })
}

// Lineage returns the lineage that the next commit continues.
func (c *Chain) Lineage() Lineage {
	var l Lineage
	if len(c.Deltas) == 0 {
		l.Committed(c.Commit)
	}
	for _, d := range c.Deltas {
		l.Committed(d.Commit)
	}
	return l
}
