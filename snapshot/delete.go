package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/durun/durun/snapshot/bucket"
)

// Delete removes a coroutine: its commits, output and messages. The module stays, since others may need it.
// From the first write on the coroutine is gone for every reader, so that one whose deletion is cut short never looks
// alive; deleting it again, or creating one of that id, finishes the job. Nobody may drive the coroutine meanwhile, nor
// create one of that id: [Lease.Delete] sees to that.
//
// Errors: [ErrNotFound].
func (s *Store) Delete(ctx context.Context, id string) error {
	if err := ValidID(id); err != nil {
		return err
	}
	e, ok, err := s.first(ctx, id)
	if err != nil {
		return fmt.Errorf("delete coroutine %s: %w", id, err)
	}
	if !ok {
		return fmt.Errorf("coroutine %s: %w in %s", id, ErrNotFound, s.b.URL())
	}
	if e.Key != coroutinePrefix(id)+tombstone {
		if err := s.bury(ctx, id); err != nil {
			return fmt.Errorf("delete coroutine %s: %w", id, err)
		}
	}
	if err := s.remove(ctx, id); err != nil {
		return fmt.Errorf("delete coroutine %s: %w", id, err)
	}
	return nil
}

// bury puts the tombstone. On a full disk there may be no room for it: then the oldest commit makes some. Should
// the next attempt not come to pass, the coroutine lacks that commit, which newer ones may need, and its output: Check and
// Logs tell.
func (s *Store) bury(ctx context.Context, id string) error {
	for {
		err := s.b.Put(ctx, coroutinePrefix(id)+tombstone, bucket.Bytes(nil), 0)
		if err == nil || errors.Is(err, bucket.ErrExist) {
			return nil
		}
		if !errors.Is(err, bucket.ErrFull) {
			return err
		}
		oldest := ""
		for e, err := range s.b.List(ctx, bucket.ListOptions{Prefix: coroutinePrefix(id)}) {
			if err != nil {
				return err
			}
			oldest = e.Key
		}
		if oldest == "" {
			return nil
		}
		if err := s.b.Delete(ctx, oldest); err != nil {
			return err
		}
	}
}

// remove removes what there is of a coroutine that has its tombstone, and then that.
func (s *Store) remove(ctx context.Context, id string) error {
	stone := coroutinePrefix(id) + tombstone
	for _, prefix := range []string{inboxPrefix + id + "/", logsPrefix + id + "/", coroutinePrefix(id)} {
		if err := s.deleteAll(ctx, prefix, stone); err != nil {
			return err
		}
	}
	return s.b.Delete(ctx, stone)
}

// deleteAll deletes the objects with a prefix, except one.
func (s *Store) deleteAll(ctx context.Context, prefix, except string) error {
	var keys []string
	for e, err := range s.b.List(ctx, bucket.ListOptions{Prefix: prefix}) {
		if err != nil {
			return err
		}
		if e.Key != except && strings.HasPrefix(e.Key, prefix) {
			keys = append(keys, e.Key)
		}
	}
	for _, key := range keys {
		if err := s.b.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
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
