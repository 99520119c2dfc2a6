package snapshot

import (
	"context"
	"slices"
)

// line is a chain, as far as deltas need to know it to go on from it: states without pages, and which pages there are.
//
// Of what is encrypted under a key that isn't there, and of all that builds on it, states and pages are not known.
type line struct {
	module    Hash
	root      *Snapshot // nil: not known
	rootRef   Ref
	rootBytes int64
	rootPages pageBits

	origin Origin    // of the deltas, once there is one
	state  *Snapshot // of the last commit of the chain, nil: not known
	hash   Hash      // its digest
	pages  pageBits  // that it has
}

// newLine reads the pages of a full snapshot, to verify them, and returns its chain.
func newLine(ctx context.Context, st *stored, ref Ref) (*line, error) {
	snap, err := st.full()
	if err != nil {
		return nil, err
	}
	if err := readAndForget(ctx, &st.pages); err != nil {
		return nil, err
	}
	snap.Output = nil
	l := &line{module: snap.Module, root: snap, rootRef: ref, rootBytes: st.size, rootPages: pageBits(nil).grown(snap.Memory.Size), state: snap, hash: ref.Hash}
	l.rootPages.union(&st.pages)
	return l, nil
}

// lockedLine is the chain of a full snapshot that can't be read for want of the key.
func lockedLine(c Commit, ref Ref) *line {
	return &line{module: c.Module, rootRef: ref, rootBytes: c.Bytes, hash: ref.Hash}
}

// readAndForget reads pages, to verify them.
func readAndForget(ctx context.Context, p *pageSet) error {
	scratch := make([]byte, 16*PageSize)
	return p.read(ctx, func(_, n uint32) []byte { return scratch[:min(int(n), 16)*PageSize] })
}

// grown returns a copy of the set with room for the pages of a memory.
func (b pageBits) grown(memory uint64) pageBits {
	return append(slices.Clone(b), make(pageBits, max(0, int(memory/PageSize/64)+1-len(b)))...)
}

// add goes on to a delta of the chain: the anchor, or the next.
func (l *line) add(d *Delta) error {
	bad := func(format string, args ...any) error { return corrupt("manifest", headerSize, format, args...) }
	before, pages := l.state, l.pages
	switch {
	case d.Origin.Root != l.rootRef || d.Origin.RootBytes != l.rootBytes:
		return bad("it is of a chain with another root than the one that is there")
	case d.Origin.Anchor == d.Seq:
		l.origin = *d.Origin
		before, pages = l.root, l.rootPages
	case *d.Origin != l.origin:
		return bad("it is of another chain than the commit before it")
	case d.Parent.Hash != l.hash:
		return bad("its parent is another commit %d than the one that is there", d.Parent.Seq)
	}
	if d.Locked || before == nil {
		l.state, l.hash, l.pages = nil, d.Hash, nil
		return nil
	}
	s, err := d.State(before)
	if err != nil {
		return err
	}
	if d.Origin.Anchor == d.Seq || len(pages) <= int(d.MemorySize/PageSize/64) {
		pages = pages.grown(d.MemorySize)
	}
	if err := pages.add(d); err != nil {
		return err
	}
	s.Output = nil
	l.state, l.hash, l.pages = s, d.Hash, pages
	return nil
}

// fork returns a line that goes its own way from l's root.
func (l *line) fork() *line {
	return &line{module: l.module, root: l.root, rootRef: l.rootRef, rootBytes: l.rootBytes, rootPages: l.rootPages}
}
