package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// Driver drives a coroutine and commits a snapshot of it at its await points and at its end.
//
// Only Store must be set.
type Driver struct {
	Store *snapshot.Store
	// Lease is the caller's hold on the coroutine, which stays the caller's to release; the coroutine's snapshot must have
	// been read after it was acquired. Driving stops when it is lost. Nil: the commits' numbers alone keep drivers apart.
	Lease *snapshot.Lease
	// BeforeCommit is called before each commit is tried, with its number; nil for nobody. Until OnCommit has been called for
	// that number, it is unknown whether it was made.
	BeforeCommit func(seq uint64)
	// OnCommit is called after each commit; nil for nobody.
	OnCommit func(snapshot.Commit)
	// OnYield is called, after the commit, with each value that the guest hands out with durun.yield, and returns what the
	// guest receives. Nil: it receives empty values.
	OnYield func(value []byte) (reply []byte)
	// OnWait is called before each wait of the coroutine, with what it waits for, and with nil after it; nil for nobody. It runs
	// between the coroutine's steps, so it should be quick.
	OnWait func(*hostabi.Pending)
	// Outside is what the coroutine's operations can reach; nil is none but timers.
	Outside *Outside
	// Once returns after the first commit. Operations that it has are not started.
	Once bool
	// Interval lets awaits go without a commit: at most one commit in that time is made at those where nothing leaves or
	// enters the program, which are waits for a time ([hostabi.Pending].Quiet). Any other await, and what follows one, is
	// committed; and a wait that outlasts the interval is, when the interval is over. So a crash loses up to that much of
	// the program's work, which is then done again: what it writes to files and to those who watch its output is written
	// again, too. 0: every await is committed.
	Interval time.Duration
	// Retain says which commits are kept; zero: all. The others are dropped beside the guest, some 64 at a time, and what is
	// left of them before Drive returns.
	Retain snapshot.Policy
	// OnRetain is called after each attempt to drop commits, by any goroutine, one at a time; nil for nobody. An error does
	// not stop the guest: the commits stay, for the next attempt.
	OnRetain func(snapshot.Retained, error)
	// Ensure is called right before and right after the commit that creates the coroutine, and makes sure that all that it
	// needs is in the store: [snapshot.Store.KeepModule]. [snapshot.Store.Collect], running beside, may have found that
	// nobody needed it. If it returns an ErrNotFound after the commit, the coroutine is deleted. Nil where nobody collects.
	Ensure func(context.Context) error
}

// maxDeferredOutput is how much, in bytes, a guest may write before an await is committed in any case.
const maxDeferredOutput = 16 << 20

// Drive runs c until it has ended and its last commit is made, until the first commit if Once is set, or until ctx is
// done. It returns the status at the last commit. With an error, c is left where it was, or closed: what is in the store is
// what counts. When ctx is done in a wait that was not committed, it is committed before Drive returns; a commit that is being
// made then is finished, unless that takes some seconds.
//
// Errors: those of [Coroutine.Resume], [snapshot.Store.Commit] and [snapshot.Lease.Commit], among them
// [snapshot.ErrFenced] when another driver has gone on with the coroutine, or the lease is lost. If the lease is held
// nevertheless (its Err is nil), an earlier driver has made the last commit of its life, and the caller goes on from that
// one: restores the newest snapshot and drives it.
func (d *Driver) Drive(ctx context.Context, c *Coroutine) (snapshot.Status, error) {
	if d.Lease == nil {
		return d.drive(ctx, c)
	}
	ctx, cancel := d.Lease.Context(ctx)
	defer cancel()
	status, err := d.drive(ctx, c)
	if lost := d.Lease.Err(); err != nil && lost != nil {
		err = lost // whatever else went wrong
	}
	return status, err
}

func (d *Driver) drive(ctx context.Context, c *Coroutine) (_ snapshot.Status, err error) {
	news := make(chan struct{}, 1)
	s := newSession(ctx, d, c, func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	s.news = news
	defer func() { s.close(ctx, err) }()
	if done, err := s.begin(ctx); done || err != nil {
		return c.Status(), err
	}
	for {
		if p := c.Pending(); p != nil {
			d.onWait(p)
			err := s.wait(ctx)
			d.onWait(nil)
			if err != nil {
				return c.Status(), err
			}
		}
		if done, err := s.step(ctx); done || err != nil {
			return c.Status(), err
		}
	}
}

func (d *Driver) onWait(p *hostabi.Pending) {
	if d.OnWait != nil {
		d.OnWait(p)
	}
}

// commit commits c as it is.
func (d *Driver) commit(ctx context.Context, c *Coroutine) error {
	s, err := c.Capture()
	if err != nil {
		return fmt.Errorf("capture coroutine %s: %w", c.ID(), err)
	}
	ensure := func() error {
		if s.Seq > 1 || d.Ensure == nil {
			return nil
		}
		return d.Ensure(ctx)
	}
	if err := ensure(); err != nil {
		return err
	}
	commit := d.Store.Commit
	if d.Lease != nil {
		commit = d.Lease.Commit
	}
	if d.BeforeCommit != nil {
		d.BeforeCommit(s.Seq)
	}
	made, err := commit(ctx, s)
	if err != nil {
		return err
	}
	if err := ensure(); err != nil {
		if errors.Is(err, snapshot.ErrNotFound) { // it has come to be, and lacks what it needs
			remove := func(ctx context.Context) error { return d.Store.Delete(ctx, c.ID()) }
			if d.Lease != nil {
				remove = d.Lease.Delete
			}
			err = errors.Join(err, remove(context.WithoutCancel(ctx)))
		}
		return err
	}
	c.Committed(made)
	if d.OnCommit != nil {
		d.OnCommit(made)
	}
	return nil
}
