package runtime

import (
	"context"
	"fmt"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// Driver drives a coroutine and commits a snapshot of it at each await point and at its end.
type Driver struct {
	Store *snapshot.Store
	// OnCommit is called after each commit; nil for nobody.
	OnCommit func(snapshot.Commit)
	// OnYield is called, after the commit, with each value that the guest hands out with durun.yield, and returns what the
	// guest receives. Nil: it receives empty values.
	OnYield func(value []byte) (reply []byte)
	// Once returns after the first commit.
	Once bool
}

// Drive runs c until it has ended and its last commit is made, until the first commit if Once is set, or until ctx is
// done. It returns the status at the last commit. With an error, c is left where it was, or closed: what is in the store is
// what counts.
//
// Errors: those of [Coroutine.Resume] and [snapshot.Store.Commit], among them [snapshot.ErrFenced] when another driver
// has gone on with the coroutine.
func (d *Driver) Drive(ctx context.Context, c *Coroutine) (snapshot.Status, error) {
	for {
		if c.Pending() != nil {
			if err := d.wait(ctx, c); err != nil {
				return c.Status(), err
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
		s, err := c.Snapshot()
		if err != nil {
			return status, fmt.Errorf("capture coroutine %s: %w", c.ID(), err)
		}
		commit, err := d.Store.Commit(ctx, s)
		if err != nil {
			return status, err
		}
		c.Committed(commit.AsParent())
		if d.OnCommit != nil {
			d.OnCommit(commit)
		}
		if status.Ended() || d.Once {
			return status, nil
		}
	}
}

// wait waits for what c waits for.
func (d *Driver) wait(ctx context.Context, c *Coroutine) error {
	if c.Pending().Kind == hostabi.KindYield && d.OnYield != nil {
		c.Send(d.OnYield(c.Pending().Data))
	}
	return c.Wait(ctx)
}
