package snapshot

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/durun/durun/snapshot/bucket"
)

// firstRead is how much of a commit is read for its manifest: most are shorter.
const firstRead = 4096

// Head returns a coroutine's newest commit, from its manifest alone; its Hash is not set. Errors: [ErrNotFound],
// [ErrCorrupt], [ErrVersion].
func (s *Store) Head(ctx context.Context, id string) (Commit, error) {
	c, err := s.peekNewest(ctx, id)
	if err == nil && c.Err != nil {
		err = fmt.Errorf("commit %d of coroutine %s: %w", c.Seq, id, c.Err)
	}
	return c, err
}

// peekNewest reads the manifest of a coroutine's newest commit. What is wrong with the commit itself is in its Err.
func (s *Store) peekNewest(ctx context.Context, id string) (Commit, error) {
	for try := 0; ; try++ {
		e, seq, err := s.newest(ctx, id)
		if err != nil {
			return Commit{}, err
		}
		c, err := s.peek(ctx, id, seq, e.Key)
		if errors.Is(err, ErrNotFound) && try < retries && ctx.Err() == nil {
			continue // dropped meanwhile: there is a newer one, or none
		}
		return c, err
	}
}

// List iterates over the store's coroutines, in the order of their ids with a slash after each, and gives the newest commit
// of each, from its manifest alone. A commit that can't be read has its Err set and does not stop the listing; an error of
// the iteration does.
func (s *Store) List(ctx context.Context) iter.Seq2[Commit, error] { return s.ListAfter(ctx, "") }

// ListAfter is List for the coroutines that it gives after the one of some id, which need not exist; empty for all. So a listing
// can be had in pages. Errors: as List; [ErrID].
func (s *Store) ListAfter(ctx context.Context, after string) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		// Several are asked for at a time, which is what a listing of a store far away takes.
		var ids []string
		give := func() bool {
			heads := make([]head, len(ids))
			_ = parallel(ctx, width, len(ids), func(ctx context.Context, i int) error {
				heads[i] = s.listHead(ctx, ids[i])
				return nil
			})
			ids = ids[:0]
			for _, h := range heads {
				if errors.Is(h.err, ErrNotFound) {
					continue // deleted meanwhile
				}
				if !yield(h.commit, h.err) || h.err != nil {
					return false
				}
			}
			return true
		}
		for id, err := range s.idsAfter(ctx, after) {
			if err != nil {
				if give() {
					yield(Commit{}, err)
				}
				return
			}
			if ids = append(ids, id); len(ids) == 4*width && !give() {
				return
			}
		}
		give()
	}
}

// head is a coroutine's newest commit, as in a listing.
type head struct {
	commit Commit
	err    error
}

func (s *Store) listHead(ctx context.Context, id string) head {
	c, err := s.peekNewest(ctx, id)
	if errors.Is(err, ErrCorrupt) {
		c, err = Commit{Manifest: Manifest{Coroutine: id}, Err: err}, nil
	}
	return head{c, err}
}

// IDs iterates over the ids of coroutines that start with a prefix, ascending. It looks at none of them: one may be about to be
// removed.
func (s *Store) IDs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return s.ids(ctx, prefix)
}

// ids iterates over the ids that start with a prefix and have a folder.
func (s *Store) ids(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return s.listIDs(ctx, bucket.ListOptions{Prefix: coroutinesPrefix + prefix})
}

// idsAfter iterates over the ids that have a folder and come after one in a listing; empty for all.
func (s *Store) idsAfter(ctx context.Context, after string) iter.Seq2[string, error] {
	o := bucket.ListOptions{Prefix: coroutinesPrefix}
	if after != "" {
		if err := ValidID(after); err != nil {
			return func(yield func(string, error) bool) { yield("", err) }
		}
		o.StartAfter = coroutinePrefix(after)
	}
	return s.listIDs(ctx, o)
}

func (s *Store) listIDs(ctx context.Context, o bucket.ListOptions) iter.Seq2[string, error] {
	o.Folders = true
	return func(yield func(string, error) bool) {
		for e, err := range s.b.List(ctx, o) {
			if err != nil {
				yield("", fmt.Errorf("list coroutines: %w", err))
				return
			}
			id := strings.TrimSuffix(strings.TrimPrefix(e.Key, coroutinesPrefix), "/")
			if !e.Folder() || ValidID(id) != nil {
				continue // not ours
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

// History returns a coroutine's commits, the oldest first, from their manifests alone; their Hash is not set: those that
// were not dropped, and those that they need to be restored. A commit that can't be read has its Err set. Errors:
// [ErrNotFound]; [ErrCorrupt] if the newest commit is gone.
func (s *Store) History(ctx context.Context, id string) ([]Commit, error) {
	for try := 0; ; try++ {
		h, err := s.history(ctx, id)
		if err != nil {
			return nil, err
		}
		needed := h.needed(h.covered)
		var earlier []listed
		for _, c := range h.commits {
			if needed[c.seq] {
				earlier = append(earlier, c)
			}
		}
		commits, err := s.peekAll(ctx, id, earlier)
		if err == nil {
			return append(commits, h.manifests...), nil
		}
		if !errors.Is(err, ErrNotFound) || try == retries {
			return nil, err
		}
	}
}

// peek reads a commit's manifest. What is wrong with the commit itself is in its Err.
func (s *Store) peek(ctx context.Context, id string, seq uint64, key string) (Commit, error) {
	c := Commit{Manifest: Manifest{Coroutine: id, Seq: seq}}
	fail := func(err error) (Commit, error) {
		if errors.Is(err, bucket.ErrNotExist) {
			err = ErrNotFound
		}
		return c, fmt.Errorf("commit %d of coroutine %s: %w", seq, id, err)
	}
	_, w, snap, size, err := s.front(ctx, key)
	var broken *FormatError
	switch c.Bytes = size; {
	case errors.As(err, &broken):
		c.Err = err
		return c, nil
	case err != nil:
		return fail(err)
	}
	m := w.manifest(snap)
	if c.Err = isCommit(m, id, seq); c.Err == nil {
		c.Manifest = *m
	}
	return c, nil
}

// front reads the start of a snapshot: at least its header and manifest. It returns the bytes read, the decoded
// manifest and the object's size.
func (s *Store) front(ctx context.Context, key string) ([]byte, *wireManifest, *Snapshot, int64, error) {
	h, data, size, err := s.head(ctx, key)
	if err != nil {
		return nil, nil, nil, size, err
	}
	w, snap, err := parseManifest(h, data, s.keys)
	return data, w, snap, size, err
}

// head reads the start of a container: at least its header and manifest. It returns the header, the bytes read and
// the object's size.
func (s *Store) head(ctx context.Context, key string) (header, []byte, int64, error) {
	data, size, err := bucket.ReadRange(ctx, s.b, key, 0, firstRead)
	if err != nil {
		return header{}, nil, 0, err
	}
	h, err := parseHeader(data)
	if err != nil {
		return header{}, nil, size, err
	}
	if h.total != size {
		return header{}, nil, size, corrupt("header", 16, "the object has %d bytes of %d: truncated or damaged", size, h.total)
	}
	if end := int64(headerSize + h.manifest); end > int64(len(data)) {
		more, _, err := bucket.ReadRange(ctx, s.b, key, int64(len(data)), end-int64(len(data)))
		if err != nil {
			return header{}, nil, 0, err
		}
		data = append(data, more...)
	}
	return h, data, size, nil
}

// Resolve returns the id of the coroutine that a prefix means: the one of exactly that id, or else the only one whose id
// starts so. Errors: [ErrNotFound]; an [*AmbiguousError], which is [ErrAmbiguous].
func (s *Store) Resolve(ctx context.Context, prefix string) (string, error) {
	if prefix == "" {
		return "", fmt.Errorf("%w: it is empty", ErrID)
	}
	if ValidID(prefix) != nil {
		return "", fmt.Errorf("coroutine %q: %w in %s", prefix, ErrNotFound, s.b.URL())
	}
	if _, _, err := s.newest(ctx, prefix); err == nil || errors.Is(err, ErrCorrupt) {
		return prefix, nil
	} else if !errors.Is(err, ErrNotFound) {
		return "", err
	}
	found := &AmbiguousError{Prefix: prefix}
	for id, err := range s.ids(ctx, prefix) {
		if err != nil {
			return "", err
		}
		if _, _, err := s.newest(ctx, id); errors.Is(err, ErrNotFound) {
			continue
		}
		if len(found.IDs) == 10 {
			found.More = true
			break
		}
		found.IDs = append(found.IDs, id)
	}
	switch len(found.IDs) {
	case 0:
		return "", fmt.Errorf("coroutine %s: %w in %s", prefix, ErrNotFound, s.b.URL())
	case 1:
		return found.IDs[0], nil
	default:
		return "", found
	}
}
