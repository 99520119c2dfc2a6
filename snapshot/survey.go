package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/durun/durun/snapshot/bucket"
)

// survey is a coroutine that is being checked.
type survey struct {
	*checker
	id       string
	problems []Problem
	left     []string        // keys of leftovers
	output   []uint64        // numbers of commits whose output is damaged or missing
	whole    map[uint64]bool // commits that can be restored
	// rootUntil has for each commit that is the root of others the last of these, and roots its chain until then.
	rootUntil map[uint64]uint64
	roots     map[uint64]*line
	line      *line // the chain that the last commit is of; nil if that can't be restored
	before    Commit
	counted   tally // of what was read, guarded by checker.mu
}

// count notes what was read, for the checker and for the survey.
func (v *survey) count(t tally) {
	v.checker.count(t)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.counted.add(t)
}

// uncount takes back what the survey has counted, as the next one reads it again.
func (v *survey) uncount() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Objects -= v.counted.objects
	v.Locked -= v.counted.locked
	v.Bytes -= v.counted.bytes
}

// maxOvertaken is how often a coroutine is looked at anew because what was listed is gone: how likely that is depends on how fast
// it is driven, and it costs little, as it shows early.
const maxOvertaken = 100

// coroutine verifies a coroutine.
func (c *checker) coroutine(ctx context.Context, id string) error {
	for overtaken, missed := 0, 0; ; {
		v := &survey{checker: c, id: id, whole: map[uint64]bool{}, rootUntil: map[uint64]uint64{}, roots: map[uint64]*line{}}
		h, err := c.s.history(ctx, id)
		var newest uint64
		if err == nil {
			newest = h.newest()
			err = v.all(ctx, h)
		}
		if errors.Is(err, errOvertaken) && overtaken < maxOvertaken {
			overtaken++
			v.uncount()
			continue // commits were dropped meanwhile
		}
		if errors.Is(err, ErrCorrupt) { // of the listing itself
			v.problems = append(v.problems, Problem{Key: coroutinePrefix(id), Err: err})
		} else if err != nil {
			return err
		}
		missing := func(p Problem) bool { return errors.Is(p.Err, errMissing) || strings.HasSuffix(p.Key, "/") }
		if missed < 2 && slices.ContainsFunc(v.problems, missing) {
			missed++
			v.uncount()
			continue // a listing that was made while logs were merged may have missed some
		}
		if err := v.messages(ctx, h); err != nil {
			return err
		}
		c.leftover(v.left...)
		resumable := v.resumable(newest)
		for _, p := range v.problems {
			p.Coroutine, p.Resumable, p.Newest = id, resumable, newest
			c.problem(p)
		}
		return nil
	}
}

// resumable returns the newest commit that is whole, and, if it isn't the newest of all, can be exported.
func (v *survey) resumable(newest uint64) uint64 {
	if v.whole[newest] {
		return newest
	}
	limit := uint64(MaxSeq)
	if len(v.output) > 0 {
		limit = slices.Min(v.output)
	}
	best := uint64(0)
	for seq := range v.whole {
		if seq > best && seq <= limit {
			best = seq
		}
	}
	return best
}

func (v *survey) all(ctx context.Context, h *history) error {
	needed := h.needed(h.covered)
	var list []listed
	for _, c := range h.commits {
		if c.seq > h.covered || needed[c.seq] {
			list = append(list, c)
		} else {
			v.left = append(v.left, c.entry.Key)
		}
	}
	for _, c := range h.manifests {
		if c.Err == nil && c.Origin != nil {
			v.rootUntil[c.Origin.Root.Seq] = c.Seq
		}
	}
	if err := v.logs(ctx, h); err != nil {
		return err
	}
	// Several are read at a time, as the budget allows, and looked at in order.
	next := h.covered + 1
	for some := range slices.Chunk(list, width) {
		read := make([]object, len(some))
		err := parallel(ctx, width, len(some), func(ctx context.Context, i int) error { return v.fetch(ctx, some[i], &read[i]) })
		if err != nil {
			return err
		}
		for i := range read {
			seq := some[i].seq
			if seq > h.covered {
				if next < seq {
					v.missing(next)
					v.output = append(v.output, next)
				}
				next = seq + 1
			}
			if err := v.commit(ctx, some[i], &read[i]); err != nil {
				return err
			}
			read[i] = object{}
		}
	}
	return nil
}

func (v *survey) wrong(key string, seq uint64, err error) {
	v.problems = append(v.problems, Problem{Key: key, Commit: seq, Err: err})
}

// missing notes a commit that is not there, once.
func (v *survey) missing(seq uint64) {
	key := commitKey(v.id, seq)
	if !slices.ContainsFunc(v.problems, func(p Problem) bool { return p.Key == key }) {
		v.wrong(key, seq, errMissing)
	}
}

// object is a commit that was read: a full snapshot's line, or a delta.
type object struct {
	commit Commit
	full   *line
	delta  *Delta
	wrong  error
}

// fetch reads and decodes a commit.
func (v *survey) fetch(ctx context.Context, c listed, o *object) error {
	defer v.budget.take(min(c.entry.Size, v.s.inMemory))()
	st, err := v.s.readCommit(ctx, v.id, c.seq, c.entry.Key)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %w", errOvertaken, err)
	}
	switch {
	case errors.Is(err, ErrKey):
		o.commit, err = v.locked(ctx, v.id, c.seq, c.entry.Key)
		if errors.Is(err, bucket.ErrNotExist) {
			return fmt.Errorf("%w: %w", errOvertaken, err)
		}
		if err != nil {
			break
		}
		v.count(tally{objects: 1, locked: 1, bytes: c.entry.Size})
		if o.commit.Kind == KindDelta {
			o.delta = &Delta{Commit: o.commit}
		} else {
			o.full = lockedLine(o.commit, Ref{Seq: c.seq, Hash: o.commit.Hash})
		}
	default:
		v.count(tally{objects: 1, bytes: c.entry.Size})
	}
	switch {
	case err != nil, o.commit.Locked:
	case st.kind == KindDelta:
		o.commit = st.commit()
		if o.delta, err = st.delta(); err == nil {
			err = readAndForget(ctx, &st.pages)
			o.delta.Output, o.delta.pages.stored = nil, nil
		}
	default:
		o.commit = st.commit()
		o.full, err = newLine(ctx, st, Ref{Seq: c.seq, Hash: st.digest})
	}
	o.wrong, err = damage(err)
	return err
}

// commit verifies a commit in its place.
func (v *survey) commit(ctx context.Context, at listed, o *object) error {
	key := at.entry.Key
	before := v.before
	v.before = Commit{Manifest: Manifest{Seq: at.seq}}
	if o.wrong != nil {
		v.wrong(key, at.seq, o.wrong)
		v.output = append(v.output, at.seq)
		v.line = nil
		return nil
	}
	v.before = o.commit
	switch p := o.commit.Parent; {
	case before.Seq+1 != at.seq:
		v.line = nil // a delta against the parent can't go on
		if d := o.delta; d != nil && d.Origin.Anchor < d.Seq {
			v.missing(at.seq - 1)
		}
	case !before.Hash.IsZero() && (p == nil || p.Hash != before.Hash):
		v.wrong(key, at.seq, corrupt("manifest", headerSize, "its parent is another commit %d than the one that is there", before.Seq))
		v.line = nil
	}
	whole, err := v.restores(ctx, key, o)
	if err != nil {
		return err
	}
	m, err := v.module(ctx, o.commit.Module)
	if err != nil {
		return err
	}
	if m.wrong != nil {
		v.share(moduleKey(o.commit.Module), m)
	} else if whole {
		v.whole[at.seq] = true
	}
	for _, h := range o.commit.Modules { // it can be resumed without, and not start children from them
		m, err := v.module(ctx, h)
		if err != nil {
			return err
		}
		if m.wrong != nil {
			v.share(moduleKey(h), m)
		}
	}
	return nil
}

// share notes a problem of a shared object, once.
func (v *survey) share(key string, of *verdict) {
	v.mu.Lock()
	of.used = true
	v.mu.Unlock()
	if !slices.ContainsFunc(v.problems, func(p Problem) bool { return p.Key == key }) {
		v.wrong(key, 0, of.wrong)
	}
}

// restores reports whether a commit can be put together from its chain, and sets v.line to that.
func (v *survey) restores(ctx context.Context, key string, o *object) (bool, error) {
	seq := o.commit.Seq
	defer maps.DeleteFunc(v.roots, func(root uint64, _ *line) bool { return v.rootUntil[root] <= seq })
	if o.full != nil {
		v.line = o.full
		v.roots[seq] = o.full
		return true, nil
	}
	if o.delta.Origin.Anchor == seq {
		root, err := v.root(ctx, o.delta.Origin.Root)
		if err != nil {
			return false, err
		}
		if v.line = nil; root != nil {
			v.line = root.fork()
		}
	}
	if v.line == nil { // the fault is with another object, which is told there
		return false, nil
	}
	if err := v.line.add(o.delta); err != nil {
		v.wrong(key, seq, err)
		v.line = nil
		return false, nil
	}
	return true, nil
}

// root returns the root of a chain, nil if it is not whole.
func (v *survey) root(ctx context.Context, r Ref) (*line, error) {
	if r.Seq > 0 {
		if v.roots[r.Seq] == nil {
			v.missing(r.Seq)
		}
		return v.roots[r.Seq], nil
	}
	b, err := v.base(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	if b.wrong != nil {
		v.share(baseKey(r.Name), b)
	}
	return b.base, nil
}

// messages verifies the messages that wait for the coroutine. If it has ended they are leftovers.
func (v *survey) messages(ctx context.Context, h *history) error {
	list, err := v.s.messageObjects(ctx, v.id)
	if err != nil {
		return err
	}
	if h != nil && len(h.manifests) > 0 && h.manifests[len(h.manifests)-1].Status.Ended() {
		for _, e := range list {
			v.left = append(v.left, e.Key)
		}
		return nil
	}
	for _, e := range list {
		err := func() error {
			defer v.budget.take(min(e.Size, maxMessage))()
			_, err := v.s.readMessage(ctx, v.id, e.Key)
			locked := errors.Is(err, ErrKey)
			if locked {
				_, _, _, err = v.lockedObject(ctx, e.Key)
			}
			if errors.Is(err, bucket.ErrNotExist) {
				return nil // received meanwhile
			}
			wrong, err := damage(err)
			switch {
			case err != nil:
				return err
			case wrong != nil:
				v.wrong(e.Key, 0, wrong)
			case locked:
				v.count(tally{objects: 1, locked: 1, bytes: e.Size})
			default:
				v.count(tally{objects: 1, bytes: e.Size})
			}
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// logs verifies the logs, and that they cover what they should.
func (v *survey) logs(ctx context.Context, h *history) error {
	type covered struct{ first, last uint64 }
	var all []covered
	for _, e := range h.logs {
		err := func() error {
			defer v.budget.take(e.Size)()
			w, _, err := v.s.readLog(ctx, v.id, e.Key)
			locked := errors.Is(err, ErrKey)
			if locked {
				if _, _, _, err = v.lockedObject(ctx, e.Key); err == nil {
					w, err = v.s.peekLog(ctx, v.id, e.Key)
				}
			}
			if errors.Is(err, bucket.ErrNotExist) {
				return fmt.Errorf("%w: %w", errOvertaken, err)
			}
			wrong, err := damage(err)
			if err != nil {
				return err
			}
			switch {
			case !locked:
				v.count(tally{objects: 1, bytes: e.Size})
			case wrong == nil:
				v.count(tally{objects: 1, locked: 1, bytes: e.Size})
			}
			if wrong != nil {
				v.wrong(e.Key, 0, wrong)
				return nil
			}
			all = append(all, covered{w.First, w.Last})
			return nil
		}()
		if err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b covered) int { return cmp.Compare(a.first, b.first) })
	next := uint64(1)
	gap := func(to uint64) {
		if next < to {
			v.wrong(logsPrefix+v.id+"/", 0, outputMissing(next, to-1))
			v.output = append(v.output, next)
		}
	}
	for _, l := range all {
		gap(l.first)
		next = max(next, l.last+1)
	}
	gap(h.covered + 1)
	return nil
}
