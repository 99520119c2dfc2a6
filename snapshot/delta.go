package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// MaxChain is the largest number of deltas that a chain may have behind its anchor, by the format. [MaxDeltas] is how
// many durun makes.
const MaxChain = 256

// Ref names a stored snapshot by its digest: commit Seq of the same coroutine or, if Seq is 0, the shared base Name.
type Ref struct {
	Seq  uint64
	Name string
	Hash Hash
}

// String names the snapshot for people.
func (r Ref) String() string {
	if r.Seq == 0 {
		return "base " + r.Name
	}
	return fmt.Sprintf("commit %d", r.Seq)
}

// Origin is where a delta's chain begins. A chain is a full snapshot, the root; then its anchor, a delta against the root;
// then deltas, each against its parent. So from this alone follows what has to be read to restore a delta: the root,
// and the commits from the anchor to the delta.
type Origin struct {
	Root      Ref
	RootBytes int64  // size of the root, encoded
	Anchor    uint64 // the anchor's number, which is the delta's own if it is the anchor
}

// Base makes a snapshot a delta. A [Lineage] tells which.
type Base struct {
	Origin
	// State is the snapshot against which the delta is: the root if the delta is the chain's anchor, else the parent. Its
	// pages are not looked at.
	State *Snapshot
}

// Delta is a decoded delta: a snapshot as far as it differs from its base's.
type Delta struct {
	Commit
	Output []Output // what the guest wrote since the parent commit
	state  wireState
	pages  pageSet
}

// DecodeDelta decodes and verifies an encoded delta, as [Decode] does a full snapshot. Whether it fits its base is seen
// when it is applied.
//
// Errors: a [*FormatError] with [ErrCorrupt] or [ErrVersion].
func DecodeDelta(data []byte) (*Delta, error) {
	st, err := readBytes(data, nil)
	if err != nil {
		return nil, err
	}
	d, err := st.delta()
	if err != nil {
		return nil, err
	}
	d.pages.stored = bytes.Clone(d.pages.stored)
	page := make([]byte, PageSize)
	return d, d.pages.read(context.Background(), func(uint32, uint32) []byte { return page })
}

// delta returns a delta.
func (s *stored) delta() (*Delta, error) {
	if s.kind != KindDelta {
		return nil, corrupt("header", 10, "a full snapshot, not a delta")
	}
	return &Delta{Commit: s.commit(), Output: s.snap.Output, state: s.state, pages: s.pages}, nil
}

// ref names the delta as a base.
func (d *Delta) ref() Ref { return Ref{Seq: d.Seq, Hash: d.Hash} }

// State returns the snapshot that the delta is, without its pages, given that of its base. It shares parts with base,
// neither of which may be changed then.
//
// Errors: a [*FormatError] with [ErrCorrupt] if the delta doesn't fit the base.
func (d *Delta) State(base *Snapshot) (*Snapshot, error) {
	s, err := d.next(base)
	if err != nil {
		return nil, err
	}
	return s, s.validateState(ErrCorrupt)
}

// next is State without a look at whether the result is sound.
func (d *Delta) next(base *Snapshot) (*Snapshot, error) {
	bad := func(section, format string, args ...any) (*Snapshot, error) {
		return nil, corrupt(section, -1, format, args...)
	}
	switch {
	case base.Status != Suspended || base.Await == nil:
		return bad("manifest", "a delta against a coroutine that has ended")
	case base.Module != d.Module:
		return bad("manifest", "a delta against a snapshot of another module")
	case base.Memory.Size > d.MemorySize || base.Memory.Max != d.MemoryMax:
		return bad("manifest", "a memory of %d bytes, at most %d, that had %d, at most %d", d.MemorySize, d.MemoryMax, base.Memory.Size, base.Memory.Max)
	}
	s := &Snapshot{
		Module: d.Module, ModuleName: d.ModuleName, Coroutine: d.Coroutine, Seq: d.Seq, Parent: d.Parent, Time: d.Time,
		Status: d.Status, Entry: d.Entry, ExitCode: d.ExitCode, Error: d.Error,
		Args: base.Args, InStart: base.InStart, Frames: base.Frames, Globals: base.Globals, Tables: base.Tables,
		DroppedData: base.DroppedData, DroppedElements: base.DroppedElements, Host: base.Host, Grants: base.Grants,
		Memory: Memory{Size: d.MemorySize, Max: d.MemoryMax},
		Output: d.Output,
	}
	a := *d.Await
	a.Args, a.Data = base.Await.Args, base.Await.Data
	s.Await = &a
	if err := d.state.apply(s); err != nil {
		return nil, err
	}
	if len(s.Frames) != d.Frames {
		return bad("frames", "%d frames, but the manifest says %d", len(s.Frames), d.Frames)
	}
	return s, nil
}

// apply changes a snapshot that has its base's state by what the state of a delta has.
func (w *wireState) apply(s *Snapshot) error {
	var err error
	unpack := func(name string, b []byte, f func(u *unpacker)) {
		if b == nil {
			return
		}
		u := &unpacker{name: name, b: b, err: err}
		f(u)
		err = u.err
	}
	unpack("state", w.Args, func(u *unpacker) { s.Args = u.values() })
	unpack("state", w.AwaitArgs, func(u *unpacker) { s.Await.Args = u.values() })
	if w.AwaitData != nil {
		s.Await.Data = orNil(w.AwaitData)
	}
	if w.InStart != nil {
		s.InStart = *w.InStart
	}
	unpack("frames", w.Frames, func(u *unpacker) {
		kept := int(u.uvarint(MaxFrames))
		if kept > len(s.Frames) {
			u.fail("%d frames are kept of %d", kept, len(s.Frames))
			return
		}
		inner := u.frames()
		s.Frames = append(s.Frames[:kept:kept], inner...)
		if len(s.Frames) == 0 {
			s.Frames = nil
		}
	})
	unpack("globals", w.Globals, func(u *unpacker) { s.Globals = u.globals() })
	if err == nil && w.Tables != nil {
		s.Tables, err = unpackTables(w.Tables)
	}
	unpack("dropped segments", w.DroppedData, func(u *unpacker) { s.DroppedData = u.ascending() })
	unpack("dropped segments", w.DroppedElements, func(u *unpacker) { s.DroppedElements = u.ascending() })
	if err == nil && w.Host != nil {
		s.Host, err = unpackHost(w.Host, s.Host)
	}
	if w.Grants != nil {
		s.Grants = unpackGrants(w.Grants)
	}
	return err
}

func unpackHost(host []wireSection, base []Section) ([]Section, error) {
	var list []Section
	for _, h := range host {
		if h.Name != "" {
			list = append(list, Section{Name: h.Name, Version: h.Version, Data: orNil(h.Data)})
			continue
		}
		if int(h.Index) >= len(base) {
			return nil, corrupt("host sections", -1, "number %d of the base's %d", h.Index, len(base))
		}
		old := base[h.Index]
		if h.Same {
			list = append(list, old)
			continue
		}
		if uint64(h.Prefix)+uint64(h.Suffix) > uint64(len(old.Data)) {
			return nil, corrupt("host sections", -1, "%q keeps %d and %d bytes of %d", old.Name, h.Prefix, h.Suffix, len(old.Data))
		}
		data := slices.Concat(old.Data[:h.Prefix], h.Data, old.Data[len(old.Data)-int(h.Suffix):])
		list = append(list, Section{Name: old.Name, Version: h.Version, Data: orNil(data)})
	}
	return list, nil
}

// apply writes the pages into a memory, which is large enough.
func (p *pageSet) apply(ctx context.Context, mem []byte) error {
	err := p.read(ctx, func(first, n uint32) []byte {
		n = min(n, chunkSize/PageSize)
		return mem[uint64(first)*PageSize : uint64(first+n)*PageSize]
	})
	if err != nil {
		return err
	}
	for _, patch := range p.patches {
		patch.Apply((*[PageSize]byte)(mem[uint64(patch.Number)*PageSize:]))
	}
	return nil
}

// validateBase holds a snapshot to the rules of a delta.
func (s *Snapshot) validateBase(kind error) error {
	bad := func(format string, args ...any) error {
		return &FormatError{Section: "manifest", Offset: -1, Msg: fmt.Sprintf(format, args...), Err: kind}
	}
	o := &s.Base.Origin
	switch {
	case s.Status != Suspended:
		return bad("a delta of a coroutine that has ended")
	case o.Root.Seq != 0 && o.Root.Name != "" || o.Root.Seq == 0 && ValidID(o.Root.Name) != nil:
		return bad("a chain's root that is neither a commit nor a base")
	case o.Root.Seq >= o.Anchor || o.Anchor > s.Seq || s.Seq-o.Anchor > MaxChain:
		return bad("delta %d of a chain with root %d and anchor %d", s.Seq, o.Root.Seq, o.Anchor)
	case o.RootBytes <= 0:
		return bad("a root of %d bytes", o.RootBytes)
	case s.Parent == nil && s.Seq > 1:
		return bad("a delta without a parent")
	case s.Parent != nil && s.Parent.Seq == o.Root.Seq && s.Parent.Hash != o.Root.Hash:
		return bad("a parent that is the root, and has another digest")
	}
	base := s.Base.State
	if base == nil {
		return nil // decoded
	}
	switch {
	case base.Status != Suspended || base.Await == nil:
		return bad("a delta against a coroutine that has ended")
	case base.Module != s.Module:
		return bad("a delta against a snapshot of another module")
	case base.Memory.Size > s.Memory.Size || base.Memory.Max != s.Memory.Max:
		return bad("a memory that shrinks, or has another limit")
	}
	for _, p := range s.Memory.Pages {
		if p.Old != nil && len(p.Old) != PageSize {
			return bad("page %d had %d bytes", p.Number, len(p.Old))
		}
	}
	return nil
}
