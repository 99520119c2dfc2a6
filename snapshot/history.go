package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/durun/durun/snapshot/bucket"
)

// Which of a coroutine's objects count: FORMAT.md, "History". A log takes the place of the commits that it covers, from
// the moment that it is there; those that are still stored are leftovers, unless a later commit needs them.

// width is how many objects of one coroutine are read or deleted at a time.
const width = 8

// listed is a commit as listed.
type listed struct {
	seq   uint64
	entry bucket.Entry
}

// inventory is what a store lists of a coroutine.
type inventory struct {
	commits []listed       // by number, ascending; at least one
	logs    []bucket.Entry // by the last number that they cover, ascending
	covered uint64         // the last number that a log covers, 0 for none
}

// newest is the number of the newest commit.
func (v *inventory) newest() uint64 { return v.commits[len(v.commits)-1].seq }

// kept returns the commits that no log covers: all but the first few that a later one may need.
func (v *inventory) kept() []listed {
	i, _ := slices.BinarySearchFunc(v.commits, v.covered+1, func(c listed, seq uint64) int { return cmp.Compare(c.seq, seq) })
	return v.commits[i:]
}

// inventory lists a coroutine's commits and logs. Errors: [ErrNotFound]; [ErrCorrupt] if the newest commit is gone, which
// shows in a log that covers all there are: then the inventory is returned as well, and may have no commits.
func (s *Store) inventory(ctx context.Context, id string) (*inventory, error) {
	for try := 0; ; try++ {
		if _, _, err := s.newest(ctx, id); err != nil {
			return nil, err
		}
		// A commit is dropped after a log that covers it is there. So the commits are listed before the logs: what is in
		// neither was never there.
		v := &inventory{}
		for e, err := range s.b.List(ctx, bucket.ListOptions{Prefix: coroutinePrefix(id)}) {
			if err != nil {
				return nil, fmt.Errorf("coroutine %s: %w", id, err)
			}
			if seq, ok := commitSeq(id, e.Key); ok {
				v.commits = append(v.commits, listed{seq, e})
			}
		}
		slices.Reverse(v.commits)
		var err error
		if v.logs, v.covered, err = s.listLogs(ctx, id); err != nil {
			return nil, fmt.Errorf("coroutine %s: %w", id, err)
		}
		if len(v.commits) > 0 && v.newest() > v.covered {
			return v, nil
		}
		// It was deleted meanwhile, or went far ahead.
		if try == retries {
			return v, fmt.Errorf("coroutine %s: %w", id, corrupt("store", -1, "the output of commit %d is there, and commit %d is not", v.covered, v.covered+1))
		}
	}
}

// listLogs lists a coroutine's logs, and returns the last number that they cover.
func (s *Store) listLogs(ctx context.Context, id string) (logs []bucket.Entry, covered uint64, err error) {
	prefix := logsPrefix + id + "/"
	for e, err := range s.b.List(ctx, bucket.ListOptions{Prefix: prefix}) {
		if err != nil {
			return nil, 0, err
		}
		if last, ok := parseSeq(strings.TrimPrefix(e.Key, prefix)); ok && last >= 1 && last <= MaxSeq {
			logs, covered = append(logs, e), last
		}
	}
	return logs, covered, nil
}

// history is a coroutine's history: what there is of it, told from leftovers.
type history struct {
	*inventory
	manifests []Commit // of the commits that no log covers, ascending
	unsure    bool     // one of them can't be read: what it needs isn't known
}

// history reads the manifests of all commits that no log covers.
func (s *Store) history(ctx context.Context, id string) (*history, error) {
	for try := 0; ; try++ {
		v, err := s.inventory(ctx, id)
		if err != nil {
			return nil, err
		}
		h := &history{inventory: v}
		if h.manifests, err = s.peekAll(ctx, id, v.kept()); err == nil {
			for _, c := range h.manifests {
				h.unsure = h.unsure || c.Err != nil
			}
			return h, nil
		}
		if !errors.Is(err, ErrNotFound) || try == retries {
			return nil, err
		}
		// One was dropped meanwhile.
	}
}

// needed returns the commits up to cut that those after it can't be restored without; cut is not less than covered. If
// that isn't known, they are all.
func (h *history) needed(cut uint64) map[uint64]bool {
	needed := map[uint64]bool{}
	if h.unsure {
		for _, c := range h.commits {
			if c.seq <= cut {
				needed[c.seq] = true
			}
		}
		return needed
	}
	for _, c := range h.manifests {
		if c.Seq <= cut {
			continue
		}
		for seq := range c.needs() {
			if seq <= cut {
				needed[seq] = true
			}
		}
	}
	return needed
}

// leftovers returns the commits up to cut that no later one needs.
func (h *history) leftovers(cut uint64) []listed {
	needed := h.needed(cut)
	var list []listed
	for _, c := range h.commits {
		if c.seq <= cut && !needed[c.seq] {
			list = append(list, c)
		}
	}
	return list
}

// peekAll reads the manifests of commits. Errors: [ErrNotFound] if one is gone.
func (s *Store) peekAll(ctx context.Context, id string, list []listed) ([]Commit, error) {
	commits := make([]Commit, len(list))
	err := parallel(ctx, width, len(list), func(ctx context.Context, i int) (err error) {
		commits[i], err = s.peek(ctx, id, list[i].seq, list[i].entry.Key)
		return err
	})
	return commits, err
}

// parallel calls f with 0 to n-1, at most so many at a time. After the first error it starts no more, and returns that.
func parallel(ctx context.Context, width, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if n == 1 {
		return f(ctx, 0)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		next  int
		first error
	)
	for range min(width, n) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := first != nil
				mu.Unlock()
				if i >= n || stop {
					return
				}
				if err := f(ctx, i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
						cancel()
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

// needs iterates over the earlier commits of the same coroutine that the commit can't be restored without.
func (m *Manifest) needs() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if m.Origin == nil || m.Origin.Root.Seq > 0 && !yield(m.Origin.Root.Seq) {
			return
		}
		for seq := m.Origin.Anchor; seq < m.Seq; seq++ {
			if !yield(seq) {
				return
			}
		}
	}
}
