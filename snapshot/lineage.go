package snapshot

// The rule by which chains are kept short; RATIONALE.md has the measurements.
const (
	// MaxDeltas is how many deltas a chain has behind its anchor at most: with root and anchor, that is how many objects a
	// restore reads.
	MaxDeltas = 32
	// slack is what a chain may hold beyond a share of its root before it is compacted, in bytes: so that small roots don't
	// make for short chains.
	slack = 64 << 10
	// tiny is the size in bytes up to which a full snapshot isn't worth a chain: it costs about what a delta does, and a
	// restore reads one object.
	tiny = 4 << 10
)

// Since says from when on the pages that go into a snapshot have changed.
type Since uint8

// The moments since which pages can have changed.
const (
	SinceImage  Since = iota // the module's initial image: a full snapshot
	SinceRoot                // the root of the chain: a delta that becomes its anchor
	SinceParent              // the last commit: a delta
)

// Lineage decides how a coroutine's next commit is stored, so that commits cost what changed, and yet a restore reads a
// bounded number of objects and bytes. The rule, where a chain is root, anchor and deltas as [Origin] says:
//
//   - what follows the root is the anchor, which then is a delta against its parent as well
//   - a delta against the parent follows, until there are [MaxDeltas] of them or they have more bytes together than half of
//     the root and 64 KiB
//   - then comes a new anchor, a delta against the root of all that has changed since: it replaces the anchor and the deltas
//   - or, if the last anchor has more bytes than half of the root and 64 KiB, a full snapshot, the root of a new chain
//
// A root of at most 4 KiB has no deltas: what follows it is full again.
//
// The zero value is the lineage of a coroutine without commits. It is a plain value; see [Chain.Lineage] for that of a
// stored coroutine.
type Lineage struct {
	origin      Origin // zero without a root; its Anchor 0 without an anchor
	anchorBytes int64
	deltas      int   // behind the anchor
	deltaBytes  int64 // of those
}

// FromBase is the lineage of a coroutine that starts from a shared base.
func FromBase(base Commit) Lineage {
	return Lineage{origin: Origin{Root: Ref{Name: base.Coroutine, Hash: base.Hash}, RootBytes: base.Bytes}}
}

// Next says against what the next commit is to be stored, if the coroutine is suspended. (Of one that has ended, commits
// are always full.)
func (l *Lineage) Next() Since {
	limit := l.origin.RootBytes/2 + slack
	switch {
	case l.origin.RootBytes <= tiny: // or there is none
		return SinceImage
	case l.origin.Anchor == 0:
		return SinceRoot
	case l.deltas < MaxDeltas && l.deltaBytes <= limit:
		return SinceParent
	case l.anchorBytes > limit:
		return SinceImage
	default:
		return SinceRoot
	}
}

// Base returns the base of commit seq, which is to be stored as [Lineage.Next] says; state is the root's or the parent's.
// It is nil for a full snapshot.
func (l *Lineage) Base(since Since, seq uint64, state *Snapshot) *Base {
	if since == SinceImage {
		return nil
	}
	b := &Base{Origin: l.origin, State: state}
	if since == SinceRoot {
		b.Anchor = seq
	}
	return b
}

// Committed notes a commit that has become durable.
func (l *Lineage) Committed(c Commit) {
	switch {
	case c.Status.Ended():
	case c.Origin == nil:
		*l = Lineage{origin: Origin{Root: Ref{Seq: c.Seq, Hash: c.Hash}, RootBytes: c.Bytes}}
	case c.Origin.Anchor == c.Seq:
		*l = Lineage{origin: *c.Origin, anchorBytes: c.Bytes}
	default:
		l.deltas++
		l.deltaBytes += c.Bytes
	}
}
