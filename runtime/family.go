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
	state, err := lastState(ctx, store, id)
	if err != nil {
		return "", err
	}
	parent, _, err := ParentOf(state)
	return parent, err
}

// lastState returns what a coroutine's last commit says, without pages.
func lastState(ctx context.Context, store *snapshot.Store, id string) (*snapshot.Snapshot, error) {
	chain, err := store.Chain(ctx, id, 0, nil)
	if err != nil {
		return nil, err
	}
	return chain.State()
}

// ErrAwaited is returned by [Scheduler.Remove] for a child whose parent has not ended: that may wait for the child, and would
// start it anew.
var ErrAwaited = errors.New("the coroutine is a child, and its parent has not ended")

// Remove removes a coroutine from the store that has ended, or that nobody can go on with, as its last commit is damaged; with
// its children, and theirs, if the same is true of those. Who has driven it does not matter.
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
		if err := s.removable(ctx, id); err != nil {
			return err
		}
		if err := s.settled(ctx, id); err != nil {
			return err
		}
		lease, err := store.Acquire(ctx, id, snapshot.LeaseOptions{TTL: s.config.Lease})
		if err != nil {
			return err
		}
		leases = append(leases, lease)
		return s.removable(ctx, id) // another one may have come by its id before the lease was had
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

// removable returns nil for a coroutine that has ended, or that nobody can go on with, as its last commit is damaged. Of
// any other it is [ErrNotEnded].
func (s *Scheduler) removable(ctx context.Context, id string) error {
	head, err := s.config.Store.Head(ctx, id)
	if err == nil {
		if head.Status.Ended() {
			return nil
		}
		if _, err = lastState(ctx, s.config.Store, id); !errors.Is(err, snapshot.ErrCorrupt) {
			return ErrNotEnded
		}
	}
	switch {
	case !errors.Is(err, snapshot.ErrCorrupt):
		return err
	case s.Drives(id): // it may have all that it needs in memory
		return ErrNotEnded
	}
	return nil
}

// settled waits until the scheduler has done with a coroutine whose last commit says that it has ended.
func (s *Scheduler) settled(ctx context.Context, id string) error {
	if !s.Drives(id) {
		return nil
	}
	_, err := s.Wait(ctx, id)
	return err
}

// notAwaited returns [ErrAwaited] for a child whose parent may wait for it. One that is damaged is a child as its id goes.
func (s *Scheduler) notAwaited(ctx context.Context, id string) error {
	named, _, ok := ParentID(id)
	if !ok {
		return nil
	}
	parent, err := recordedParent(ctx, s.config.Store, id)
	switch {
	case errors.Is(err, snapshot.ErrCorrupt):
		parent = named
	case err != nil || parent == "":
		return err
	}
	err = s.removable(ctx, parent)
	switch {
	case errors.Is(err, snapshot.ErrNotFound):
		return nil
	case errors.Is(err, ErrNotEnded):
		return fmt.Errorf("%w: %s", ErrAwaited, parent)
	}
	return err
}
