package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/durun/durun/snapshot/bucket"
)

// chainReads is how many objects of a chain are read at once.
const chainReads = 12

// Chain is a stored snapshot as it is stored: a full one, and the deltas from there to it.
type Chain struct {
	Commit  Commit    // the snapshot that this is the chain of
	Root    *Snapshot // the full snapshot, which is the commit's own if there are no deltas
	RootRef Ref
	Deltas  []*Delta // the anchor first, the commit last
	known   bool     // the root came from the caller
}

// Chain reads a commit of a coroutine, 0 for the newest, and what it needs: first the commit itself, which names the
// others, then those at once. All are verified, and that they belong together.
//
// If have is not nil it is asked, by digest, for the state of the root that a delta needs: if it returns one, whose pages
// may be missing, the root is not read, and is what Chain.Root is.
//
// Errors: [ErrNotFound]; [ErrCorrupt] and [ErrVersion], which say of which object; as for [Store.Latest].
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
	data, err := s.object(ctx, key)
	if err != nil {
		return nil, err
	}
	if h, err := parseHeader(data); err == nil && h.kind != KindDelta {
		snap, m, err := decode(data)
		if err == nil {
			err = isCommit(m, id, seq)
		}
		if err != nil {
			return nil, err
		}
		c := Commit{Manifest: *m, Bytes: int64(len(data)), Hash: Digest(data)}
		return &Chain{Commit: c, Root: snap, RootRef: Ref{Seq: seq, Hash: c.Hash}}, nil
	}
	last, err := DecodeDelta(data)
	if err != nil {
		return nil, err
	}
	if err := isCommit(&last.Manifest, id, seq); err != nil {
		return nil, err
	}
	c := &Chain{
		Commit:  Commit{Manifest: last.Manifest, Bytes: last.Bytes, Hash: last.Hash},
		RootRef: last.Origin.Root,
		Deltas:  make([]*Delta, seq-last.Origin.Anchor+1),
	}
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
	return c, err
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
		read(c.RootRef, func() (err error) {
			c.Root, err = s.readRoot(ctx, id, c.Commit.Origin)
			return err
		})
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

func (s *Store) readRoot(ctx context.Context, id string, o *Origin) (*Snapshot, error) {
	key, seq := commitKey(id, o.Root.Seq), o.Root.Seq
	if seq == 0 {
		key, id, seq = baseKey(o.Root.Name), o.Root.Name, 1
	}
	data, err := s.object(ctx, key)
	if err != nil {
		return nil, err
	}
	snap, m, err := decode(data)
	if err != nil {
		return nil, err
	}
	if err := isCommit(m, id, seq); err != nil {
		return nil, err
	}
	if Digest(data) != o.Root.Hash || int64(len(data)) != o.RootBytes {
		return nil, corrupt("digest", len(data)-digestSize, "it is not the snapshot that the chain was built on")
	}
	return snap, nil
}

func (s *Store) readDelta(ctx context.Context, id string, seq uint64) (*Delta, error) {
	data, err := s.object(ctx, commitKey(id, seq))
	if err != nil {
		return nil, err
	}
	d, err := DecodeDelta(data)
	if err != nil {
		return nil, err
	}
	return d, isCommit(&d.Manifest, id, seq)
}

// object reads a whole object. One that isn't there is ErrNotFound.
func (s *Store) object(ctx context.Context, key string) ([]byte, error) {
	data, err := bucket.ReadAll(ctx, s.b, key, math.MaxInt64)
	if errors.Is(err, bucket.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNotFound, s.b.URL())
	}
	return data, err
}

// check checks that the parts belong together: each names the digest of the one before.
func (c *Chain) check() error {
	o := c.Commit.Origin
	for i, d := range c.Deltas {
		bad := func(format string, args ...any) error {
			return fmt.Errorf("its chain needs %v: %w", d.ref(), corrupt("manifest", headerSize, format, args...))
		}
		switch {
		case *d.Origin != *o:
			return bad("it belongs to another chain")
		case i > 0 && d.Parent.Hash != c.Deltas[i-1].Hash:
			return bad("its parent is another commit %d than the one that is there", d.Parent.Seq)
		}
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
			return nil, fmt.Errorf("%v: %w", d.ref(), err)
		}
	}
	if len(c.Deltas) > 0 {
		if err := s.validateState(ErrCorrupt); err != nil {
			return nil, err
		}
	} else if s.Memory.Pages != nil {
		without := *s
		without.Memory.Pages = nil
		s = &without
	}
	return s, nil
}

// Snapshot returns the complete snapshot. It shares pages with the chain, neither of which may be changed then.
//
// Errors: as for [Chain.State]; one for a root that the caller had, and whose pages are therefore unknown.
func (c *Chain) Snapshot() (*Snapshot, error) {
	if len(c.Deltas) == 0 {
		return c.Root, nil
	}
	if c.known {
		return nil, errors.New("the root's pages were not read")
	}
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	s.Memory.Pages, err = c.fold()
	return s, err
}

// fold returns the pages: the root's, changed by the deltas.
func (c *Chain) fold() ([]Page, error) {
	root := c.Root.Memory.Pages
	changed := map[uint32]*[PageSize]byte{}
	own := map[uint32]bool{} // those that are nobody else's, and can be patched in place
	for _, d := range c.Deltas {
		for _, p := range d.Pages {
			changed[p.Number], own[p.Number] = (*[PageSize]byte)(p.Data), false
		}
		for _, p := range d.Patches {
			page := changed[p.Number]
			if !own[p.Number] {
				fresh := new([PageSize]byte)
				if i, ok := findPage(root, p.Number); page == nil && ok {
					page = (*[PageSize]byte)(root[i].Data)
				}
				switch {
				case page != nil:
					*fresh = *page
				case !p.Zero:
					return nil, fmt.Errorf("%v: %w", d.ref(), corrupt("patches", -1, "page %d is patched, which the base doesn't have", p.Number))
				}
				page = fresh
				changed[p.Number], own[p.Number] = page, true
			}
			p.Apply(page)
		}
	}
	if len(changed) == 0 {
		return root, nil
	}
	numbers := make([]uint32, 0, len(changed))
	for n := range changed {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	pages := make([]Page, 0, len(root)+len(numbers))
	for _, n := range numbers {
		i, ok := findPage(root, n)
		pages = append(pages, root[:i]...)
		if root = root[i:]; ok {
			root = root[1:]
		}
		pages = append(pages, Page{Number: n, Data: changed[n][:]})
	}
	return append(pages, root...), nil
}

func findPage(pages []Page, number uint32) (int, bool) {
	return slices.BinarySearchFunc(pages, number, func(p Page, n uint32) int { return int(int64(p.Number) - int64(n)) })
}

// Lineage returns the lineage that the next commit continues.
func (c *Chain) Lineage() Lineage {
	var l Lineage
	if len(c.Deltas) == 0 {
		l.Committed(c.Commit)
	}
	for _, d := range c.Deltas {
		l.Committed(Commit{Manifest: d.Manifest, Bytes: d.Bytes, Hash: d.Hash})
	}
	return l
}
