package runtime

import (
	"context"

	"github.com/durun/durun/snapshot"
)

// Old commits are dropped in passes beside the guest: one each retainBatch commits, since a pass has a price of its own
// (it lists, and writes a log) that is small only for many. A guest that commits faster than a pass can drop has to wait
// for it when it is retainSlack commits ahead, so that what is stored stays bounded.
const (
	retainBatch = 64
	retainSlack = 8 * retainBatch
)

// retainer drops the old commits of one coroutine while it is driven. Its methods are called by one goroutine.
type retainer struct {
	d      *Driver
	id     string
	since  int                // commits since the last pass began
	cancel context.CancelFunc // of the pass that runs, nil for none
	over   chan struct{}      // closed when that has ended
}

func newRetainer(d *Driver, c *Coroutine) *retainer {
	r := &retainer{d: d, id: c.ID()}
	if c.Pending() != nil { // an earlier drive may have left some
		r.since = retainBatch
	}
	return r
}

// committed starts a pass after a commit, if it is time.
func (r *retainer) committed(ctx context.Context) {
	if r.d.Retain.IsZero() {
		return
	}
	if r.since++; r.since < retainBatch {
		return
	}
	if r.cancel != nil {
		select {
		case <-r.over:
		default:
			if r.since < retainSlack {
				return
			}
		}
		r.wait()
	}
	r.since = 0
	ctx, r.cancel = context.WithCancel(ctx)
	over := make(chan struct{})
	r.over = over
	go func() {
		defer close(over)
		r.pass(ctx)
	}()
}

// pass is one pass.
func (r *retainer) pass(ctx context.Context) {
	retain := func() (snapshot.Retained, error) { return r.d.Store.Retain(ctx, r.id, r.d.Retain) }
	if l := r.d.Lease; l != nil {
		retain = func() (snapshot.Retained, error) { return l.Retain(ctx, r.d.Retain) }
	}
	done, err := retain()
	if r.d.OnRetain != nil && ctx.Err() == nil {
		r.d.OnRetain(done, err)
	}
}

// wait waits for the pass that runs.
func (r *retainer) wait() {
	if r.cancel != nil {
		<-r.over
		r.cancel()
		r.cancel = nil
	}
}

// finish ends it: with a last pass, or, if the coroutine was left for some other reason than its end, at once.
func (r *retainer) finish(ctx context.Context, left bool) {
	if left && r.cancel != nil {
		r.cancel()
	}
	r.wait()
	if !left && r.since > 0 && !r.d.Retain.IsZero() {
		r.pass(ctx)
	}
}
