package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

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
	data, err := Encode(&base)
	if err == nil {
		err = s.rescue(ctx, baseKey(name))
	}
	if err != nil {
		return fail(err)
	}
	err = bucket.PutBytes(ctx, s.b, baseKey(name), data)
	if errors.Is(err, bucket.ErrExist) {
		there, read := bucket.ReadAll(ctx, s.b, baseKey(name), int64(len(data)))
		switch {
		case read == nil && bytes.Equal(there, data): // our own, of an earlier attempt
			err = nil
		case read == nil, errors.Is(read, bucket.ErrTooLarge):
			err = fmt.Errorf("%w: the store has another one of that name", ErrExist)
		default:
			err = read
		}
	}
	if err != nil {
		return fail(err)
	}
	return Commit{Manifest: base.manifest(), Bytes: int64(len(data)), Hash: Digest(data)}, nil
}

// Base returns a shared base, decoded and verified. If have is not nil it is asked, by digest, for the base's state: if it
// returns one, no more than that digest and the manifest are read. A base that somebody has condemned no longer is; who
// starts a coroutine from it calls [Store.KeepBase] right before its first commit, and right after.
//
// Errors: [ErrNotFound], [ErrCorrupt], [ErrVersion], [ErrID].
func (s *Store) Base(ctx context.Context, name string, have func(Hash) *Snapshot) (*Snapshot, Commit, error) {
	if err := ValidID(name); err != nil {
		return nil, Commit{}, fmt.Errorf("base: %w", err)
	}
	if err := s.rescue(ctx, baseKey(name)); err != nil {
		return nil, Commit{}, fmt.Errorf("base %s: %w", name, err)
	}
	snap, c, err := s.base(ctx, name, have)
	if err != nil {
		return nil, Commit{}, fmt.Errorf("base %s: %w", name, err)
	}
	return snap, c, nil
}

// KeepBase makes sure that a shared base with this digest is there and not condemned. Errors: [ErrNotFound] if it was
// deleted, or replaced: then a commit that names it can't be restored.
func (s *Store) KeepBase(ctx context.Context, name string, digest Hash) error {
	err := s.rescue(ctx, baseKey(name))
	var c Commit
	if err == nil {
		c, err = s.peekBase(ctx, name)
	}
	if err == nil && c.Hash != digest {
		err = fmt.Errorf("%w in %s: another one has its name", ErrNotFound, s.b.URL())
	}
	if err != nil {
		return fmt.Errorf("base %s: %w", name, err)
	}
	return nil
}

// DeleteBase deletes a shared base, unless a coroutine needs it. One that is being started from it at this moment either
// keeps it, or finds out that it is gone.
//
// Errors: [ErrNotFound]; an [*InUseError], which is [ErrInUse]; [ErrCorrupt] and [ErrVersion] of a coroutine whose needs
// can't be read: then nothing is deleted.
func (s *Store) DeleteBase(ctx context.Context, name string) error {
	if err := ValidID(name); err != nil {
		return fmt.Errorf("base: %w", err)
	}
	if err := s.deleteBase(ctx, name); err != nil {
		return fmt.Errorf("delete base %s: %w", name, err)
	}
	return nil
}

func (s *Store) deleteBase(ctx context.Context, name string) error {
	key := baseKey(name)
	if _, err := s.b.Stat(ctx, key); errors.Is(err, bucket.ErrNotExist) {
		return fmt.Errorf("%w in %s", ErrNotFound, s.b.URL())
	} else if err != nil {
		return err
	}
	m, err := s.condemn(ctx, key)
	if errors.Is(err, bucket.ErrNotExist) {
		return &InUseError{Name: name} // rescued at once
	}
	if err != nil {
		return err
	}
	if err := s.unused(ctx, name); err != nil {
		return errors.Join(err, s.rescue(context.WithoutCancel(ctx), key))
	}
	deleted, err := s.sweep(ctx, key, m)
	if err == nil && !deleted {
		err = &InUseError{Name: name}
	}
	return err
}

// unused returns an error if a coroutine needs a base.
func (s *Store) unused(ctx context.Context, name string) error {
	var mu sync.Mutex
	used := &InUseError{Name: name}
	err := s.eachID(ctx, func(ctx context.Context, id string) error {
		keys, err := s.needsOf(ctx, id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if slices.Contains(keys, baseKey(name)) {
			mu.Lock()
			defer mu.Unlock()
			used.Coroutines = append(used.Coroutines, id)
		}
		return nil
	})
	if err != nil || len(used.Coroutines) == 0 {
		return err
	}
	slices.Sort(used.Coroutines)
	return used
}

func (s *Store) base(ctx context.Context, name string, have func(Hash) *Snapshot) (*Snapshot, Commit, error) {
	key := baseKey(name)
	if have != nil {
		c, err := s.peekBase(ctx, name)
		if err != nil {
			return nil, Commit{}, err
		}
		if snap := have(c.Hash); snap != nil {
			return snap, c, nil
		}
	}
	data, err := s.object(ctx, key)
	if err != nil {
		return nil, Commit{}, err
	}
	snap, m, err := decode(data)
	if err == nil {
		err = isCommit(m, name, 1)
	}
	if err != nil {
		return nil, Commit{}, err
	}
	return snap, Commit{Manifest: *m, Bytes: int64(len(data)), Hash: Digest(data)}, nil
}

// peekBase reads a base's manifest and digest.
func (s *Store) peekBase(ctx context.Context, name string) (Commit, error) {
	key := baseKey(name)
	data, w, snap, size, err := s.front(ctx, key)
	if errors.Is(err, bucket.ErrNotExist) {
		return Commit{}, fmt.Errorf("%w in %s", ErrNotFound, s.b.URL())
	}
	if err != nil {
		return Commit{}, err
	}
	m := w.manifest(snap)
	if err := isCommit(m, name, 1); err != nil {
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
	return Commit{Manifest: *m, Bytes: size, Hash: Hash(data[len(data)-digestSize:])}, nil
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
