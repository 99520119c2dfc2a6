package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// Policy says which commits of a coroutine are kept. A commit is dropped if no rule that is set keeps it; the zero Policy
// keeps all. The newest is never dropped.
type Policy struct {
	Keep int           // keep so many, the newest; 0: no such rule
	Age  time.Duration // keep those that were made within this time, by the store's clock; 0: no such rule
}

// IsZero reports whether p keeps all commits.
func (p Policy) IsZero() bool { return p.Keep <= 0 && p.Age <= 0 }

// keeps reports whether p keeps a commit; n counts from the newest, which is 0.
func (p Policy) keeps(n int, made, now time.Time) bool {
	return n == 0 || p.IsZero() || p.Keep > 0 && n < p.Keep || p.Age > 0 && now.Sub(made) < p.Age
}

// Retained is what [Store.Retain] did.
type Retained struct {
	Commits int   // commits deleted
	Bytes   int64 // by which the store has shrunk; less than 0 if it has grown, by the output of commits that others need
}

// The largest log that is made of others, in bytes of content, and the most output of several commits that goes into one
// log. They bound the memory that this takes, and keep the number of stretches, of which each has a byte of output and
// three of content at least, below [MaxStretches].
const (
	maxMerged = 8 << 20
	maxBatch  = 4 << 20
)

// logOverhead is what a log counts for beside its output, in bytes, when it is weighed against others: so that those
// of commits which write nothing become one, too.
const logOverhead = 256

// Retain drops the commits of a coroutine that a policy doesn't keep: their output goes into a log, and from the moment
// that this is durable they are not part of the history. Then those are deleted that no later commit needs. So it may be
// cut short at any point, and run again; with the zero Policy it does nothing but what an earlier one has left.
//
// It is safe while the coroutine is driven, and while others call it. Its logs are merged so that n dropped commits leave
// O(log n + bytes of output / 8 MiB) of them, each byte of output having been written O(log n) times.
//
// A store that is full is told by [bucket.ErrFull]; before, all has been deleted that needed no room, and as much has
// been dropped as there was room for.
//
// Errors: [ErrNotFound]; [ErrCorrupt] and [ErrVersion] for a commit whose output or needs can't be read: then nothing is
// dropped from there on.
func (s *Store) Retain(ctx context.Context, id string, p Policy) (Retained, error) {
	return s.retain(ctx, id, p, retaining{})
}

// retaining says how commits are dropped.
type retaining struct {
	dry   bool // not at all: only count
	merge bool // all logs become one, whatever their size
}

// retain is Retain in one of several ways.
func (s *Store) retain(ctx context.Context, id string, p Policy, how retaining) (Retained, error) {
	var done Retained
	for try := 0; ; try++ {
		err := s.retainOnce(ctx, id, p, how, &done)
		switch {
		case err == nil:
			return done, nil
		case try < retries && errors.Is(err, errOvertaken):
			continue
		}
		return done, fmt.Errorf("drop commits of coroutine %s: %w", id, err)
	}
}

// errOvertaken is for what was listed and is no more: somebody else drops commits, too.
var errOvertaken = errors.New("others work on the same coroutine")

func (s *Store) retainOnce(ctx context.Context, id string, p Policy, how retaining, done *Retained) error {
	if p.IsZero() {
		// What nobody has ever dropped anything of has nothing left.
		if _, covered, err := s.listLogs(ctx, id); err != nil || covered == 0 {
			return err
		}
	}
	h, err := s.history(ctx, id)
	if err != nil {
		return err
	}
	for _, c := range h.manifests {
		if c.Err != nil {
			return fmt.Errorf("commit %d: %w", c.Seq, c.Err)
		}
	}
	now, err := s.clock(ctx)
	if err != nil {
		return err
	}
	r := retention{s: s, id: id, history: h, done: done, retaining: how}
	if err := r.readLogs(ctx); err != nil {
		return err
	}
	if err := r.clean(ctx); err != nil {
		return err
	}
	kept := h.kept()
	for i, c := range kept {
		if p.keeps(len(kept)-1-i, c.entry.ModTime, now) {
			break
		}
		if want := h.covered + uint64(i) + 1; c.seq != want {
			return fmt.Errorf("%w: %w", errOvertaken, corrupt("store", -1, "commit %d is missing", want))
		}
		r.drop = append(r.drop, h.manifests[i])
	}
	if n := len(r.drop); how.dry && n > 0 {
		r.covered, r.drop = r.drop[n-1].Seq, nil
		return r.clean(ctx)
	}
	limit := len(r.drop)
	for len(r.drop) > 0 {
		n := r.batch(limit)
		switch err := r.fold(ctx, r.drop[:n]); {
		case err == nil:
			r.drop = r.drop[n:]
			if err := r.clean(ctx); err != nil {
				return err
			}
		case !errors.Is(err, bucket.ErrFull) || r.tight && n == 1 || r.merge:
			return err
		case !r.tight:
			r.tight = true
		default: // there may be room for less, and then there is more
			limit = n / 2
		}
	}
	return nil
}

// clock returns the time by the clock that gives the bucket's objects theirs; where there is none, this machine's.
func (s *Store) clock(ctx context.Context) (time.Time, error) {
	if c, ok := s.b.(bucket.Clock); ok {
		now, err := c.Now(ctx)
		if !errors.Is(err, errors.ErrUnsupported) {
			return now, err
		}
	}
	return time.Now(), nil
}

// retention is one pass over a coroutine.
type retention struct {
	s  *Store
	id string
	*history
	spans []span   // the logs, by last, ascending
	drop  []Commit // to be dropped, ascending
	tight bool     // there is no room to merge logs
	done  *Retained
	retaining
}

// span is a log.
type span struct {
	first, last uint64
	raw         uint64 // bytes of its content
	entry       bucket.Entry
}

func (l span) weight() uint64 { return l.raw + logOverhead }

// readLogs reads the manifests of the logs.
func (r *retention) readLogs(ctx context.Context) error {
	r.spans = make([]span, len(r.logs))
	err := parallel(ctx, width, len(r.logs), func(ctx context.Context, i int) error {
		w, err := r.s.peekLog(ctx, r.id, r.logs[i].Key)
		if err != nil {
			return err
		}
		r.spans[i] = span{first: w.First, last: w.Last, entry: r.logs[i]}
		for _, sec := range w.Sections {
			r.spans[i].raw += sec.Raw
		}
		return nil
	})
	return overtaken(err)
}

// clean deletes leftovers: logs whose commits another covers, and commits that a log covers and no later one needs.
func (r *retention) clean(ctx context.Context) error {
	var keys []string
	spans := r.spans[:0:0]
	for i, l := range r.spans {
		if slices.ContainsFunc(r.spans[i+1:], func(o span) bool { return o.first <= l.first }) {
			keys = append(keys, l.entry.Key)
			r.done.Bytes += l.entry.Size
		} else {
			spans = append(spans, l)
		}
	}
	left := r.leftovers(r.covered)
	for _, c := range left {
		keys = append(keys, c.entry.Key)
		r.done.Bytes += c.entry.Size
	}
	if len(keys) == 0 {
		return nil
	}
	for some := range slices.Chunk(keys, 64) {
		if r.dry {
			break
		}
		if err := r.confirm(ctx); err != nil {
			return err
		}
		if err := r.s.deleteKeys(ctx, some); err != nil {
			return err
		}
	}
	r.spans = spans
	r.done.Commits += len(left)
	gone := map[uint64]bool{}
	for _, c := range left {
		gone[c.seq] = true
	}
	r.commits = slices.DeleteFunc(r.commits, func(c listed) bool { return gone[c.seq] })
	return nil
}

// confirm looks whether this is still the coroutine that was listed. Another one of the same id, made after it was
// removed, starts at commit 1, and nothing that was meant for the first must touch it.
func (r *retention) confirm(ctx context.Context) error {
	_, seq, err := r.s.newest(ctx, r.id)
	if err == nil && seq < r.newest() {
		err = fmt.Errorf("%w: it has been replaced", ErrNotFound)
	}
	return err
}

// batch returns how many of the commits to be dropped go into one log: at least one, at most limit.
func (r *retention) batch(limit int) int {
	if r.merge {
		return limit
	}
	n, size := 0, uint64(0)
	for n < min(limit, len(r.drop)) && (n == 0 || size+r.drop[n].Output <= maxBatch) {
		size += r.drop[n].Output
		n++
	}
	return n
}

// fold writes a log of the first commits to be dropped, and of such logs before it as are not much larger. What it
// replaces is left to clean.
func (r *retention) fold(ctx context.Context, drop []Commit) error {
	lists := make([][]Output, len(drop))
	err := parallel(ctx, width, len(drop), func(ctx context.Context, i int) (err error) {
		if drop[i].Output == 0 {
			return nil
		}
		if lists[i], err = r.s.commitOutput(ctx, r.id, drop[i].Seq); err != nil {
			err = fmt.Errorf("commit %d: %w", drop[i].Seq, err)
		}
		return err
	})
	if err != nil {
		return overtaken(err)
	}
	l := span{first: drop[0].Seq, last: drop[len(drop)-1].Seq}
	var entries []entry
	for i, list := range lists {
		if len(list) > 0 {
			entries = append(entries, entry{drop[i].Seq, list})
			l.raw += outputSize(list)
		}
	}
	// Each log stays at least twice as large as the next, so that there are few; one that is written again becomes part
	// of one that is half as large again, so that this is not often.
	for i := len(r.spans) - 1; i >= 0 && !r.tight; i-- {
		prev := r.spans[i]
		if prev.last+1 < l.first ||
			!r.merge && (prev.last >= l.first || prev.weight() >= 2*l.weight() || prev.raw+l.raw > maxMerged) {
			break
		}
		_, earlier, err := r.s.readLog(ctx, r.id, prev.entry.Key)
		if err != nil {
			return overtaken(err)
		}
		// Logs may overlap.
		n, _ := slices.BinarySearchFunc(earlier, l.first, func(e entry, seq uint64) int { return cmp.Compare(e.seq, seq) })
		entries = append(earlier[:n:n], entries...)
		l.first, l.raw = prev.first, prev.raw+l.raw
	}
	data, err := encodeLog(r.id, l.first, l.last, entries, r.s.keys.newObject())
	if err != nil {
		return err
	}
	if err := r.confirm(ctx); err != nil {
		return err
	}
	l.entry = bucket.Entry{Key: logKey(r.id, l.last), Size: int64(len(data))}
	if err := bucket.PutBytes(ctx, r.s.b, l.entry.Key, data); err != nil {
		return overtaken(err)
	}
	r.done.Bytes -= l.entry.Size
	r.spans = append(r.spans, l)
	r.covered = l.last
	return nil
}

// overtaken marks errors that say that somebody else has dropped the same commits.
func overtaken(err error) error {
	if errors.Is(err, bucket.ErrNotExist) || errors.Is(err, bucket.ErrExist) {
		return fmt.Errorf("%w: %w", errOvertaken, err)
	}
	return err
}

// deleteKeys deletes objects, in no order.
func (s *Store) deleteKeys(ctx context.Context, keys []string) error {
	return parallel(ctx, width, len(keys), func(ctx context.Context, i int) error { return s.b.Delete(ctx, keys[i]) })
}
