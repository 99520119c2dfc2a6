package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// Commit is [Store.Commit] for the lease's holder. While the lease is valid by this machine's clocks it costs nothing
// more. If it may have run out, because the process or the machine was paused, the store is asked: before the commit, so
// that a coroutine which others have driven, removed or created anew meanwhile is left alone; and after it, where the
// pause may have come in between, so that a commit which was made too late, under a number that others have dropped
// since, is taken back.
//
// A holder whose lease is good may still be fenced off: by the last commit of an earlier driver, whose request was under
// way when its lease ran out. That commit is as good as any. The holder reads it and goes on from there; its [Lease.Err]
// is nil then.
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
	if err := l.ensure(ctx); err != nil {
		return Commit{}, err
	}
	c, err := l.s.commitSnapshot(ctx, snap)
	if err != nil && !errors.Is(err, ErrFenced) {
		return Commit{}, err
	}
	if lost := l.ensure(ctx); lost != nil {
		if err == nil && errors.Is(lost, ErrFenced) {
			err = l.withdraw(ctx, c)
		}
		if err != nil && !errors.Is(err, ErrFenced) {
			return Commit{}, fmt.Errorf("%w; and: %w", lost, err)
		}
		return Commit{}, lost
	}
	return c, err
}

// Delete is [Store.Delete] for the lease's holder. It stops if the lease is lost, so that a coroutine of that id which others
// have created since is left alone. The lease itself is the caller's to release.
//
// Errors: as Store.Delete; a [*DrivenError] that is [ErrFenced] if the lease is lost.
func (l *Lease) Delete(ctx context.Context) error { return l.guarded().Delete(ctx, l.id) }

// Retain drops commits of the coroutine, as [Store.Retain] does, and stops when the lease is lost.
func (l *Lease) Retain(ctx context.Context, p Policy) (Retained, error) {
	return l.guarded().Retain(ctx, l.id, p)
}

// guarded returns the store as the lease's holder uses it, who makes no change without it.
func (l *Lease) guarded() *Store {
	if l.release != nil {
		return l.s
	}
	s := *l.s
	s.b = guard{l.s.b, l}
	return &s
}

// guard is a bucket in which nothing is changed without a lease.
type guard struct {
	bucket.Bucket
	l *Lease
}

func (g guard) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := g.l.ensure(ctx); err != nil {
		return err
	}
	return g.Bucket.Put(ctx, key, body, size)
}

func (g guard) Delete(ctx context.Context, key string) error {
	if err := g.l.ensure(ctx); err != nil {
		return err
	}
	return g.Bucket.Delete(ctx, key)
}

// Now implements [bucket.Clock].
func (g guard) Now(ctx context.Context) (time.Time, error) {
	if c, ok := g.Bucket.(bucket.Clock); ok {
		return c.Now(ctx)
	}
	return time.Time{}, errors.ErrUnsupported
}

// Sync implements [bucket.Syncer].
func (g guard) Sync(ctx context.Context, key string) error {
	if s, ok := g.Bucket.(bucket.Syncer); ok {
		return s.Sync(ctx, key)
	}
	return nil
}

// withdraw deletes a commit that was made without a lease, if nobody can go on from it.
func (l *Lease) withdraw(ctx context.Context, c Commit) error {
	p, err := l.s.placeOf(ctx, c)
	if err != nil || p != placeNone {
		return err
	}
	// It may have gone with its coroutine, and another one have come as far as its number.
	e, err := l.s.b.Stat(ctx, commitKey(c.Coroutine, c.Seq))
	switch {
	case errors.Is(err, bucket.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if own, err := l.s.hasDigest(ctx, e, c.Hash); err != nil || !own {
		return err
	}
	return l.s.b.Delete(ctx, e.Key)
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
