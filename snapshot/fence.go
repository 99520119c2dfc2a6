package snapshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/durun/durun/snapshot/bucket"
)

// Commit is [Store.Commit] for the lease's holder. While the lease is valid by this machine's clocks it costs nothing
// more. If it may have run out, because the process or the machine was paused, the store is asked: before the commit, so
// that a coroutine which others have driven, removed or created anew meanwhile is left alone; and after it, where the
// pause may have come in between, so that a commit which was made too late, under a number that others have dropped
// since, is taken back.
//
// A holder whose lease is good may still be fenced off, once: by the last commit of a driver that lost its lease while
// it made it. That commit is as good as any. The holder reads it and goes on from there; its [Lease.Err] is nil then.
//
// Errors: as [Store.Commit]; a [*DrivenError] that is [ErrFenced] if the lease is lost.
func (l *Lease) Commit(ctx context.Context, snap *Snapshot) (Commit, error) {
	c, err := l.commit(ctx, snap)
	var driven *DrivenError
	if err != nil && !errors.As(err, &driven) {
		err = fmt.Errorf("commit %d of coroutine %s: %w", snap.Seq, snap.Coroutine, err)
	}
	return c, err
}

func (l *Lease) commit(ctx context.Context, snap *Snapshot) (Commit, error) {
	if snap.Coroutine != l.id {
		return Commit{}, fmt.Errorf("%w: the lease is for coroutine %s", ErrInvalid, l.id)
	}
	if err := l.Err(); err != nil {
		return Commit{}, err
	}
	if l.release != nil {
		return l.s.commitSnapshot(ctx, snap)
	}
	l.setCommitting(true)
	defer l.setCommitting(false)
	if err := l.ensure(ctx); err != nil {
		return Commit{}, err
	}
	if l.doubtful() {
		if err := l.inTurn(ctx, func() error { return l.settle(ctx, snap.Parent) }); err != nil {
			return Commit{}, err
		}
	}
	c, err := l.s.commitSnapshot(ctx, snap)
	if err != nil {
		return Commit{}, err
	}
	if !l.valid() || l.doubtful() {
		if err := l.confirm(ctx, c); err != nil {
			return Commit{}, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = c.AsParent()
	return c, nil
}

// confirm holds a commit that may have been made too late to what the store has now. With an error that is ErrFenced the
// lease is lost, and the commit is gone if nobody could go on from it.
func (l *Lease) confirm(ctx context.Context, c Commit) error {
	lost := l.ensure(ctx)
	if lost != nil && !errors.Is(lost, ErrFenced) {
		return lost
	}
	p, err := l.s.placeOf(ctx, c)
	switch {
	case err != nil:
		return err
	case p == placeNewest && lost == nil:
		return l.inTurn(ctx, func() error { return l.settle(ctx, c.AsParent()) })
	case p == placeNone:
		if err := l.s.b.Delete(ctx, commitKey(c.Coroutine, c.Seq)); err != nil {
			return err
		}
	}
	if lost == nil {
		lost = &DrivenError{Coroutine: l.id, Err: ErrFenced, Cause: errLapsed}
		l.lose(lost)
	}
	return lost
}

func (l *Lease) setCommitting(is bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committing = is
}

func (l *Lease) doubtful() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubt
}

// inTurn calls f while the lease isn't being renewed. That the lease is lost it makes known.
func (l *Lease) inTurn(ctx context.Context, f func() error) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.turn }()
	err := f()
	if errors.Is(err, ErrFenced) {
		l.lose(err)
	}
	return err
}

// isNewest reports whether a commit is the coroutine's newest.
func (s *Store) isNewest(ctx context.Context, id string, p *Parent) (bool, error) {
	e, seq, err := s.newest(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil || seq != p.Seq {
		return false, err
	}
	return s.hasDigest(ctx, e, p.Hash)
}

// hasDigest reports whether an object is the encoding of that digest, from its last bytes.
func (s *Store) hasDigest(ctx context.Context, e bucket.Entry, want Hash) (bool, error) {
	tail, _, err := bucket.ReadRange(ctx, s.b, e.Key, max(0, e.Size-digestSize), digestSize)
	if errors.Is(err, bucket.ErrNotExist) {
		return false, nil
	}
	return err == nil && string(tail) == string(want[:]), err
}

// place is where a commit stands that was made after the lease may have run out.
type place int

const (
	placeNewest  place = iota // at the end of the history
	placeHistory              // others have gone on from it
	placeNone                 // beside the history: its number had been dropped, or the coroutine was removed
)

// placeOf finds the place of a commit that has been made.
func (s *Store) placeOf(ctx context.Context, c Commit) (place, error) {
	// The parent is looked for first. If it was dropped, a log shows that from before it went.
	parent := c.Parent == nil
	if !parent {
		e, err := s.b.Stat(ctx, commitKey(c.Coroutine, c.Parent.Seq))
		if err == nil {
			parent, err = s.hasDigest(ctx, e, c.Parent.Hash)
		}
		if err != nil && !errors.Is(err, bucket.ErrNotExist) {
			return 0, err
		}
	}
	h, err := s.history(ctx, c.Coroutine)
	switch {
	case errors.Is(err, ErrNotFound): // it is being removed
		return placeNone, nil
	case err != nil:
		return 0, err
	case h.newest() < c.Seq: // it was removed and created anew, and this commit with it
		return placeNone, nil
	case c.Seq <= h.covered && !h.needed(h.covered)[c.Seq]:
		return placeNone, nil
	case h.newest() > c.Seq:
		return placeHistory, nil
	case !parent && h.covered < c.Parent.Seq: // the coroutine was removed, and this is all there is of it
		return placeNone, nil
	default:
		return placeNewest, nil
	}
}
