package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// Rekeyed is what [Store.Rekey] did.
type Rekeyed struct {
	Done     bool     // false: all was under the first key already
	Commit   Commit   // the coroutine's newest
	Retained Retained // of the commits before
	// Messages is how many messages wait for the coroutine that are not under the first key: those stay as they are, and their
	// key is needed until the coroutine has received them.
	Messages int
}

// Rekey brings a coroutine under the first of the store's keys, whatever key it was under or if it was plain. Objects never
// change, so its state becomes a further commit: a full one, which needs neither earlier ones nor a shared base. The commits
// before it are dropped, and all the output goes into one log. So the history ends up with one commit, the output stays
// whole, and a crash anywhere leaves a coroutine that is whole, under both keys perhaps, and that Rekey goes on with. Messages
// that wait for it stay as they are.
//
// It acquires the coroutine meanwhile, and holds its state and output in memory.
//
// Errors: [ErrInvalid] if the store has no keys, or for output of more than [MaxOutput], whose logs can't be merged: then
// they stay as they were; [ErrKey]; [ErrBusy]; [ErrNotFound]; [ErrCorrupt]; [ErrVersion].
func (s *Store) Rekey(ctx context.Context, id string, o LeaseOptions) (Rekeyed, error) {
	r, err := s.rekey(ctx, id, o)
	if err != nil {
		return r, fmt.Errorf("rekey coroutine %s: %w", id, err)
	}
	return r, nil
}

func (s *Store) rekey(ctx context.Context, id string, o LeaseOptions) (r Rekeyed, err error) {
	if s.keys.first().IsZero() {
		return r, fmt.Errorf("%w: there is no key to encrypt it under", ErrInvalid)
	}
	lease, err := s.Acquire(ctx, id, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lease.Release()) }()
	s = lease.guarded()
	old, err := s.otherKeys(ctx, id)
	if err != nil {
		return r, err
	}
	r.Commit = old.newest
	if !old.newest.Status.Ended() {
		if r.Messages, err = s.otherMessages(ctx, id); err != nil {
			return r, err
		}
	}
	if !old.any() {
		// What an earlier one has left that was cut short, under the old key.
		r.Retained, err = s.Retain(ctx, id, Policy{})
		return r, err
	}
	r.Done = true
	// Dropping commits writes the log that takes the place of others. So there must be one to be dropped.
	if old.needs || old.logs && old.single {
		snap, c, err := s.Latest(ctx, id)
		if err != nil {
			return r, err
		}
		next := *snap
		next.Seq, next.Parent, next.Time, next.Output = c.Seq+1, c.AsParent(), time.Now().UTC(), nil
		if r.Commit, err = lease.Commit(ctx, &next); err != nil {
			return r, err
		}
	}
	if r.Retained, err = s.retain(ctx, id, Policy{Keep: 1}, retaining{merge: true}); err != nil {
		return r, err
	}
	if old, err = s.otherKeys(ctx, id); err == nil && old.any() {
		err = corrupt("output", -1, "a part of it is missing, or an object was put meanwhile that is not under the first key")
	}
	return r, err
}

// otherKeys is what of a coroutine is not under the first key.
type otherKeys struct {
	newest  Commit
	needs   bool // the newest commit, or it may need what isn't
	commits bool // an earlier one
	logs    bool
	single  bool // there is no earlier commit to be dropped
}

func (o *otherKeys) any() bool { return o.needs || o.commits || o.logs }

func (s *Store) otherKeys(ctx context.Context, id string) (*otherKeys, error) {
	first := s.keys.first()
	commits, err := s.History(ctx, id)
	if err != nil {
		return nil, err
	}
	n := len(commits) - 1
	o := &otherKeys{newest: commits[n]}
	for i, c := range commits {
		switch {
		case c.Err != nil:
			return nil, fmt.Errorf("commit %d: %w", c.Seq, c.Err)
		case c.Key == first:
		case i < n:
			o.commits = true
		default:
			o.needs = true
		}
	}
	if origin := o.newest.Origin; origin != nil {
		o.needs = o.needs || o.commits
		if origin.Root.Seq == 0 {
			base, err := s.peekBase(ctx, origin.Root.Name)
			if err != nil {
				return nil, fmt.Errorf("%v: %w", origin.Root, err)
			}
			o.needs = o.needs || base.Key != first
		}
	}
	logs, covered, err := s.listLogs(ctx, id)
	if err != nil {
		return nil, err
	}
	o.single = o.newest.Seq == covered+1
	for _, e := range logs {
		w, err := s.peekLog(ctx, id, e.Key)
		if err != nil {
			return nil, err
		}
		o.logs = o.logs || w.Seal == nil || KeyID(w.Seal.Key) != first
	}
	return o, nil
}

// otherMessages counts the messages that wait for a coroutine and are not under the first key.
func (s *Store) otherMessages(ctx context.Context, id string) (int, error) {
	objects, err := s.messageObjects(ctx, id)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range objects {
		h, data, _, err := s.head(ctx, e.Key)
		var m *parsedMessage
		if err == nil {
			m, err = parseMessage(h, data, s.keys)
		}
		switch {
		case m != nil: // though its key be missing
			if m.key == nil || m.key.id != s.keys.first() {
				n++
			}
		case errors.Is(err, bucket.ErrNotExist), isDamage(err): // nobody will read it under any key
		default:
			return 0, err
		}
	}
	return n, nil
}
