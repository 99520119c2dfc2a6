package runtime

import (
	"context"
	"fmt"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// Driver drives a coroutine and commits a snapshot of it at its await points and at its end.
type Driver struct {
	Store *snapshot.Store
	// OnCommit is called after each commit; nil for nobody.
	OnCommit func(snapshot.Commit)
	// OnYield is called, after the commit, with each value that the guest hands out with durun.yield, and returns what the
	// guest receives. Nil: it receives empty values.
	OnYield func(value []byte) (reply []byte)
	// Once returns after the first commit.
	Once bool
	// Interval lets awaits go without a commit: at most one commit in that time is made at those where nothing leaves or
	// enters the program, which are waits for a time ([hostabi.Pending].Quiet). Any other await, and what follows one, is
	// committed; and a wait that outlasts the interval is, when the interval is over. So a crash loses up to that much of
	// the program's work, which is then done again: what it writes to files and to those who watch its output is written
	// again, too. 0: every await is committed.
	Interval time.Duration
}

// maxDeferredOutput is how much, in bytes, a guest may write before an await is committed in any case.
const maxDeferredOutput = 16 << 20

// Drive runs c until it has ended and its last commit is made, until the first commit if Once is set, or until ctx is
// done. It returns the status at the last commit. With an error, c is left where it was, or closed: what is in the store is
// what counts. When ctx is done in a wait that was not committed, it is committed before Drive returns.
//
// Errors: those of [Coroutine.Resume] and [snapshot.Store.Commit], among them [snapshot.ErrFenced] when another driver
// has gone on with the coroutine.
func (d *Driver) Drive(ctx context.Context, c *Coroutine) (snapshot.Status, error) {
	var (
		last  time.Time // of the last commit, zero if there was none
		quiet = true    // since then there were quiet awaits only
		open  bool      // the present await is not committed
	)
	if c.parent == nil && c.Pending() != nil {
		// It starts from a base, and exists from now on.
		if err := d.commit(ctx, c); err != nil {
			return c.Status(), err
		}
		if last = time.Now(); d.Once {
			return c.Status(), nil
		}
	}
	for {
		if c.Pending() != nil {
			var until time.Time
			if open {
				until = last.Add(d.Interval)
			}
			over, err := d.wait(ctx, c, until)
			if err != nil && open {
				// Somebody asks to stop, and the guest stands still: what it has done since the last commit need not be lost.
				if cerr := d.commit(context.WithoutCancel(ctx), c); cerr != nil {
					err = fmt.Errorf("%w; and: %w", err, cerr)
				}
			}
			if err != nil {
				return c.Status(), err
			}
			if over {
				if err := d.commit(ctx, c); err != nil {
					return c.Status(), err
				}
				last, open = time.Now(), false
				continue
			}
		}
		before := c.Pending()
		status, err := c.Resume(ctx)
		if err != nil {
			return status, err
		}
		if before != nil && c.Pending() == before {
			continue // woken too early, and nothing has changed
		}
		quiet = quiet && (before == nil || before.Quiet)
		if open = !status.Ended() && !d.Once && quiet && c.Pending().Quiet &&
			time.Since(last) < d.Interval && c.written <= maxDeferredOutput; open {
			continue
		}
		if err := d.commit(ctx, c); err != nil {
			return status, err
		}
		last, quiet = time.Now(), true
		if status.Ended() || d.Once {
			return status, nil
		}
	}
}

// commit commits c as it is.
func (d *Driver) commit(ctx context.Context, c *Coroutine) error {
	s, err := c.Capture()
	if err != nil {
		return fmt.Errorf("capture coroutine %s: %w", c.ID(), err)
	}
	commit, err := d.Store.Commit(ctx, s)
	if err != nil {
		return err
	}
	c.Committed(commit)
	if d.OnCommit != nil {
		d.OnCommit(commit)
	}
	return nil
}

// wait waits for what c waits for, at most until a time, if one is given. It reports whether that came first.
func (d *Driver) wait(ctx context.Context, c *Coroutine, until time.Time) (over bool, err error) {
	if c.Pending().Kind == hostabi.KindYield && d.OnYield != nil {
		c.Send(d.OnYield(c.Pending().Data))
	}
	if until.IsZero() {
		return false, c.Wait(ctx)
	}
	limited, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	err = c.Wait(limited)
	if limited.Err() != nil && ctx.Err() == nil {
		return true, nil
	}
	return false, err
}
