package command

import (
	"context"
	"fmt"
	"time"

	"github.com/durun/durun/snapshot"
)

// acquire makes the command the coroutine's driver, until a.release. Where it has to wait for the lease of somebody who
// may be dead, it says so.
func (a *app) acquire(ctx context.Context, store *store, id string, ttl time.Duration) (*snapshot.Lease, error) {
	var p *progress
	lease, err := store.Acquire(ctx, id, snapshot.LeaseOptions{TTL: ttl, OnWait: func(w snapshot.Wait) {
		p = newProgress(a.Stderr, func() string { return waitText(id, w, time.Now()) })
		p.patience = 0
		a.setProgress(p)
		p.begin()
	}})
	if p != nil {
		p.end()
	}
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lease = lease
	return lease, nil
}

// waitText says for whom and how long a command waits.
func waitText(id string, w snapshot.Wait, now time.Time) string {
	since := ""
	if !w.Holder.Since.IsZero() {
		since = ", its driver since " + w.Holder.Since.Local().Format("2006-01-02 15:04:05")
	}
	return fmt.Sprintf("%s: waiting for %v%s: taken for dead in %v, unless it is heard of",
		id, w.Holder, since, max(0, w.Until.Sub(now)).Round(time.Second))
}

// release gives up what acquire got. It may be called more than once, and by others than the command's goroutine.
func (a *app) release() error {
	a.mu.Lock()
	lease := a.lease
	a.lease = nil
	a.mu.Unlock()
	if lease == nil {
		return nil
	}
	return lease.Release()
}

// lost explains the error of a command that has lost its coroutine to somebody else.
func (a *app) lost(err error) error {
	a.mu.Lock()
	p := a.driving
	a.mu.Unlock()
	return &exitError{
		code:   exitBusy,
		err:    err,
		advice: "what this one has done since its last commit doesn't count; where the coroutine is now: " + a.commandLine("inspect", p.id),
	}
}
