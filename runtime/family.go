package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/durun/durun/snapshot"
)

// ParentID is the inverse of [ChildID]: the id of which a child's is made, and the number of the operation that has started it. A
// coroutine that has such an id need not be a child, see [ParentOf].
func ParentID(id string) (parent string, operation uint32, ok bool) {
	at := strings.LastIndexByte(id, '.')
	if at <= 0 {
		return "", 0, false
	}
	number, err := strconv.ParseUint(id[at+1:], 10, 32)
	return id[:at], uint32(number), err == nil && number > 0 && id[at+1] != '0'
}

// Descendants returns the ids of a coroutine's children, and of theirs, each after its parent's. unsure are errors, one of each
// coroutine that may be one as its id goes, and can't be read. Errors: those of the storage, when it is listed.
func Descendants(ctx context.Context, store *snapshot.Store, id string) (ids []string, unsure []error, err error) {
	var below []string
	for other, err := range store.IDs(ctx, id+".") {
		if err != nil {
			return nil, nil, err
		}
		below = append(below, other)
	}
	slices.SortStableFunc(below, func(a, b string) int { return len(a) - len(b) }) // parents come before their children
	family := map[string]bool{id: true}
	for _, other := range below {
		parent, _, ok := ParentID(other)
		if !ok || !family[parent] {
			continue
		}
		recorded, err := recordedParent(ctx, store, other)
		switch {
		case errors.Is(err, snapshot.ErrNotFound):
		case err != nil:
			unsure = append(unsure, fmt.Errorf("%s: %w", other, err))
		case recorded == parent:
			family[other] = true
			ids = append(ids, other)
		}
	}
	return ids, unsure, nil
}

// recordedParent returns the id of the coroutine that has started one, empty for none.
func recordedParent(ctx context.Context, store *snapshot.Store, id string) (string, error) {
	chain, err := store.Chain(ctx, id, 0, nil)
	if err != nil {
		return "", err
	}
	state, err := chain.State()
	if err != nil {
		return "", err
	}
	parent, _, err := ParentOf(state)
	return parent, err
}

// ErrAwaited is returned by [Scheduler.Remove] for a child whose parent has not ended: that may wait for the child, and would
// start it anew.
var ErrAwaited = errors.New("the coroutine is a child, and its parent has not ended")

// Remove removes a coroutine that has ended from the store, with its children, and theirs, if those have ended, too. Who has
// driven it does not matter.
//
// Errors: [ErrNotEnded], of the coroutine or a child; [ErrAwaited]; [snapshot.ErrNotFound]; [snapshot.ErrBusy] if somebody
// holds the lease of one of them, for a moment; [ErrClosed]; of a coroutine that may be a child and can't be read those of
// [snapshot.Store.Chain]; those of the store. Then some children may be gone already, and the coroutine is not.
func (s *Scheduler) Remove(ctx context.Context, id string) error {
	if err := s.remove(ctx, id); err != nil {
		return fmt.Errorf("remove coroutine %s: %w", id, err)
	}
	return nil
}

func (s *Scheduler) remove(ctx context.Context, id string) (err error) {
	store := s.config.Store
	family := []string{id}
	var leases []*snapshot.Lease
	defer func() {
		for _, l := range leases {
			err = errors.Join(err, l.Release())
		}
	}()
	take := func(id string) error {
		head, err := store.Head(ctx, id)
		if err == nil && !head.Status.Ended() {
			err = ErrNotEnded
		}
		if err == nil {
			err = s.settled(ctx, id)
		}
		var lease *snapshot.Lease
		if err == nil {
			lease, err = store.Acquire(ctx, id, snapshot.LeaseOptions{TTL: s.config.Lease})
		}
		if err != nil {
			return err
		}
		leases = append(leases, lease)
		return nil
	}
	if err := take(id); err != nil {
		return err
	}
	if err := s.notAwaited(ctx, id); err != nil {
		return err
	}
	children, unsure, err := Descendants(ctx, store, id)
	if err != nil || len(unsure) > 0 {
		return errors.Join(append(unsure, err)...)
	}
	for _, child := range children {
		if err := take(child); err != nil {
			return fmt.Errorf("child %s: %w", child, err)
		}
	}
	// Should this be cut short, the rest are still a family.
	family = append(family, children...)
	for i := len(family) - 1; i >= 0; i-- {
		if err := leases[i].Delete(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settled waits until the scheduler has done with a coroutine whose last commit says that it has ended.
func (s *Scheduler) settled(ctx context.Context, id string) error {
	if !s.Drives(id) {
		return nil
	}
	s.wakeID(id) // somebody else may have driven it there
	_, err := s.Wait(ctx, id)
	return err
}

// notAwaited returns [ErrAwaited] for a child whose parent has not ended.
func (s *Scheduler) notAwaited(ctx context.Context, id string) error {
	if _, _, ok := ParentID(id); !ok {
		return nil
	}
	parent, err := recordedParent(ctx, s.config.Store, id)
	if err != nil || parent == "" {
		return err
	}
	head, err := s.config.Store.Head(ctx, parent)
	switch {
	case errors.Is(err, snapshot.ErrNotFound):
		return nil
	case err == nil && !head.Status.Ended():
		return fmt.Errorf("%w: %s", ErrAwaited, parent)
	}
	return err
}
