package snapshot

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/durun/durun/snapshot/bucket"
)

// A shared base is a full snapshot from which any number of coroutines start, and which is the root of their chains. It
// is stored as the first commit of a coroutine that has the base's name.

const basesPrefix = "bases/"

func baseKey(name string) string { return basesPrefix + name }

// PutBase keeps a suspended coroutine's snapshot as a shared base, under a name that [ValidID] takes. The base has its own
// name in place of the coroutine's id, number 1, and neither parent nor grants. It returns what the store has: the base's
// Commit, whose Coroutine is the name.
//
// Errors: [ErrExist] if there is another base of that name; [ErrID]; [ErrInvalid]; those of the bucket.
func (s *Store) PutBase(ctx context.Context, name string, snap *Snapshot) (Commit, error) {
	if err := ValidID(name); err != nil {
		return Commit{}, fmt.Errorf("base: %w", err)
	}
	fail := func(err error) (Commit, error) { return Commit{}, fmt.Errorf("base %s: %w", name, err) }
	base := *snap
	base.Coroutine, base.Seq, base.Parent, base.Grants = name, 1, nil, nil
	if base.Status != Suspended || base.Base != nil {
		return fail(&FormatError{Section: "manifest", Offset: -1, Msg: "a base is a full snapshot of a suspended coroutine", Err: ErrInvalid})
	}
	for {
		if err := s.rescue(ctx, baseKey(name)); err != nil {
			return fail(err)
		}
		c, err := s.putSnapshot(ctx, baseKey(name), &base)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, errAnother):
			return fail(fmt.Errorf("%w: the store has another one of that name", ErrExist))
		case !errors.Is(err, bucket.ErrNotExist): // deleted meanwhile
			return fail(err)
		}
	}
}

// Base returns a shared base, as the chain that it is the root of; see [FromBase] for what a coroutine does with it. If have
// is not nil it is asked, by digest, for the base's state, as by [Store.Chain]: if it returns one, no more than the digest
// and the manifest are read. A base that somebody has condemned no longer is; who starts a coroutine from it calls
// [Store.KeepBase] right before its first commit, and right after.
//
// Errors: [ErrNotFound], [ErrCorrupt], [ErrVersion], [ErrID].
func (s *Store) Base(ctx context.Context, name string, have func(Hash) *Snapshot) (*Chain, error) {
	if err := ValidID(name); err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	if err := s.rescue(ctx, baseKey(name)); err != nil {
		return nil, fmt.Errorf("base %s: %w", name, err)
	}
	c, err := s.base(ctx, name, have)
	if err != nil {
		return nil, fmt.Errorf("base %s: %w", name, err)
	}
	return c, nil
}

func (s *Store) base(ctx context.Context, name string, have func(Hash) *Snapshot) (*Chain, error) {
	if have != nil {
		c, err := s.peekBase(ctx, name)
		if err != nil {
			return nil, err
		}
		if root := have(c.Hash); root != nil {
			return &Chain{Commit: c, Root: root, RootRef: Ref{Name: name, Hash: c.Hash}, RootBytes: c.Bytes, known: true}, nil
		}
	}
	st, err := s.readCommit(ctx, name, 1, baseKey(name))
	if err != nil {
		return nil, err
	}
	c := &Chain{Commit: st.commit(), RootRef: Ref{Name: name, Hash: st.digest}, RootBytes: st.size, root: st.pages}
	if c.Root, err = st.full(); err != nil {
		return nil, err
	}
	return c, nil
}

// peekBase reads a base's manifest and digest.
func (s *Store) peekBase(ctx context.Context, name string) (Commit, error) {
	c, err := s.frontAndDigest(ctx, baseKey(name))
	if errors.Is(err, bucket.ErrNotExist) {
		return Commit{}, fmt.Errorf("%w in %s", ErrNotFound, s.b.URL())
	}
	if err == nil {
		err = isCommit(&c.Manifest, name, 1)
	}
	if err != nil {
		return Commit{}, err
	}
	return c, nil
}

func (s *Store) frontAndDigest(ctx context.Context, key string) (Commit, error) {
	data, w, snap, size, err := s.front(ctx, key)
	if err != nil {
		return Commit{}, err
	}
	if size > int64(len(data)) {
		if data, _, err = bucket.ReadRange(ctx, s.b, key, size-digestSize, digestSize); err != nil {
			return Commit{}, err
		}
	}
	if len(data) < digestSize {
		return Commit{}, corrupt("digest", -1, "the object became shorter")
	}
	return Commit{Manifest: *w.manifest(snap), Bytes: size, Hash: Hash(data[len(data)-digestSize:])}, nil
}

// Bases iterates over the store's shared bases, by name ascending: the manifest and digest of each. One that can't be
// read has its Err set and does not stop the listing; an error of the iteration does.
func (s *Store) Bases(ctx context.Context) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		for e, err := range s.b.List(ctx, bucket.ListOptions{Prefix: basesPrefix}) {
			if err != nil {
				yield(Commit{}, fmt.Errorf("list bases: %w", err))
				return
			}
			name := strings.TrimPrefix(e.Key, basesPrefix)
			if ValidID(name) != nil {
				continue // not ours
			}
			c, err := s.peekBase(ctx, name)
			var broken *FormatError
			switch {
			case errors.Is(err, ErrNotFound):
				continue // deleted meanwhile
			case errors.As(err, &broken):
				c, err = Commit{Manifest: Manifest{Coroutine: name}, Bytes: e.Size, Err: fmt.Errorf("base %s: %w", name, err)}, nil
			case err != nil:
				err = fmt.Errorf("base %s: %w", name, err)
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}
