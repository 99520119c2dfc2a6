package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
	e, ok, err := bucket.First(ctx, s.b, bucket.ListOptions{Prefix: coroutinePrefix(id)})
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
// the next attempt not come to pass, the newest state is still whole, and Logs tells of the output that is missing.
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
