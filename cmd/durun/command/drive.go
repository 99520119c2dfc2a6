package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// output takes what a coroutine writes while it is driven. The guest never learns how its output fares here: what it
// wrote is in the store in any case, and a run must not depend on who watched it. A failure stops the drive instead.
type output struct {
	stdout, stderr io.Writer // nil for nobody
	failed         chan error
}

// newOutput passes output to the command's streams, or to nobody.
func newOutput(a *app, discard bool) *output {
	o := &output{failed: make(chan error, 1)}
	if !discard {
		o.stdout = &outputStream{o: o, name: "standard output", w: a.Stdout}
		o.stderr = &outputStream{o: o, name: "standard error", w: a.Stderr}
	}
	return o
}

type outputStream struct {
	o    *output
	name string
	w    io.Writer
	once sync.Once
}

func (s *outputStream) Write(p []byte) (int, error) {
	if _, err := s.w.Write(p); err != nil {
		s.once.Do(func() {
			select {
			case s.o.failed <- fmt.Errorf("write to %s: %w", s.name, err):
			default:
			}
		})
	}
	return len(p), nil
}

// driveFlags are the flags of all commands that drive.
type driveFlags struct {
	interval time.Duration
	lease    time.Duration
	retain   retainFlags
}

// retainFlags say which commits are kept.
type retainFlags struct {
	keep int
	age  time.Duration
}

// add gives cmd the flags.
func (o *retainFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&o.keep, "keep", 0, "keep the newest `N` commits of a coroutine, and drop older ones (default: keep all)")
	f.DurationVar(&o.age, "keep-for", 0, "keep commits made within a `duration`, such as 24h, and drop older ones (default: keep all)")
}

// check returns an error for flags that make no sense.
func (o *retainFlags) check() error {
	switch {
	case o.keep < 0:
		return usageError("--keep %d: it is negative", o.keep)
	case o.age < 0:
		return usageError("--keep-for %v: it is negative", o.age)
	}
	return nil
}

func (o *retainFlags) policy() snapshot.Policy { return snapshot.Policy{Keep: o.keep, Age: o.age} }

// add gives cmd the flags.
func (o *driveFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&o.interval, "checkpoint-interval", 0,
		"commit waits for a time at most once in a `duration`, such as 5s; a crash loses up to that much work (default: commit each)")
	f.DurationVar(&o.lease, "lease", snapshot.DefaultLease,
		"where the store has no locks: how long others wait, if this machine vanishes, before they go on; a `duration`")
	o.retain.add(cmd)
}

// check returns an error for flags that make no sense.
func (o *driveFlags) check() error {
	if o.interval < 0 {
		return usageError("--checkpoint-interval %v: it is negative", o.interval)
	}
	if o.lease < snapshot.MinLease || o.lease > snapshot.MaxLease {
		return usageError("--lease %v: it can be from %v to %v", o.lease, snapshot.MinLease, snapshot.MaxLease)
	}
	return o.retain.check()
}

// drive drives one coroutine and commits to a store.
type drive struct {
	driveFlags
	app    *app
	store  *snapshot.Store
	lease  *snapshot.Lease
	id     string
	seq    uint64 // last commit, 0 for none
	try    uint64 // the last one that was tried
	output *output
	once   bool                        // return after the first commit
	ensure func(context.Context) error // see [runtime.Driver]

	near *surroundings // nil where nothing outside is begun
}

// run drives c until it ends or ctx is done, closes it, and returns the status of its last commit, empty if there is
// none. The error has the exit code of the guest, or that of the reason to stop.
func (d *drive) run(ctx context.Context, c *runtime.Coroutine) (status snapshot.Status, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	finished := make(chan struct{})
	defer close(finished)

	ctx, progressEnd := d.app.withSnapshotProgress(ctx, d.id)
	defer progressEnd()
	d.app.setDriving(d.position())
	var complained sync.Once
	driver := runtime.Driver{
		Store:    d.store,
		Lease:    d.lease,
		Once:     d.once,
		Interval: d.interval,
		Ensure:   d.ensure,
		Retain:   d.retain.policy(),
		OnRetain: func(_ snapshot.Retained, err error) {
			if err != nil {
				complained.Do(func() { fmt.Fprintf(d.app.Stderr, "durun: %v; they stay for now, and %s goes on\n", err, d.id) })
			}
		},
		BeforeCommit: func(seq uint64) {
			d.try = seq
			d.app.setDriving(d.position())
		},
		OnCommit: func(c snapshot.Commit) {
			d.seq = c.Seq
			d.app.setDriving(d.position())
		},
	}
	failed := (<-chan error)(nil) // by a child
	if d.near != nil {
		driver.Outside, failed = &d.near.Outside, d.near.failed
	}
	if d.output.stderr != nil && isTerminal(d.app.Stderr) {
		w := newWaitNotice(d.app.Stderr, d.id)
		driver.OnWait = w.wait
		defer w.wait(nil)
	}
	go func() {
		select {
		case err := <-d.output.failed:
			cancel(err)
		case err := <-failed:
			cancel(err)
		case <-finished:
		}
	}()
	if d.output.stdout != nil {
		driver.OnYield = func(value []byte) []byte {
			_, _ = d.output.stdout.Write(append(value[:len(value):len(value)], '\n'))
			return nil
		}
	}
	status, err = driver.Drive(ctx, c)
	// Read before Close.
	code, trap := uint32(0), error(nil)
	if err == nil && status.Ended() {
		code, trap = c.ExitCode(), c.Err()
	}
	closeErr := c.Close()
	d.app.setDriving(position{})
	if err == nil && status.Ended() && d.near != nil {
		d.near.drain(ctx, d.app, d.id)
	}

	if err != nil {
		if status = ""; d.seq > 0 {
			status = snapshot.Suspended
		}
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			d.app.setDriving(d.position())
			return status, d.app.interrupted(context.Cause(ctx))
		}
		if errors.Is(err, snapshot.ErrFenced) {
			d.app.setDriving(d.position())
			return status, fmt.Errorf("drive %s: %w", d.id, d.app.lost(err))
		}
		return status, fmt.Errorf("drive %s: %w", d.id, d.stopped(err))
	}
	if trap != nil {
		e := &exitError{
			code:   guestExit(code),
			err:    fmt.Errorf("%s failed: %w", d.id, trap),
			advice: "its state before that: " + d.app.commandLine("history", d.id),
		}
		if capture := (*runtime.CaptureError)(nil); errors.As(trap, &capture) {
			e.advice = captureAdvice + "\n" + e.advice
		}
		return status, e
	}
	if status == snapshot.Cancelled {
		fmt.Fprintf(d.app.Stderr, "durun: %s was cancelled\n", d.id)
	}
	if status.Ended() {
		return status, errors.Join(exitStatus(guestExit(code)), closeErr)
	}
	return status, closeErr
}

// position is where the coroutine stands.
func (d *drive) position() position { return position{id: d.id, seq: d.seq, try: d.try} }

// stopped adds to the error of a drive where the coroutine stands now.
func (d *drive) stopped(err error) error {
	e := d.app.classify(err)
	if e.advice != "" {
		e.advice += "\n"
	}
	if d.seq == 0 {
		p := d.position()
		if errors.Is(err, snapshot.ErrExist) || errors.Is(err, snapshot.ErrInvalid) || errors.Is(err, bucket.ErrFull) {
			p.try = 0 // it was not made
		}
		e.advice += d.app.uncommitted(p)
	} else {
		e.advice += fmt.Sprintf("%s is suspended at commit %d; resume with: %s", d.id, d.seq, d.app.commandLine("resume", d.id))
	}
	return e
}

// isBrokenPipe reports whether err says that nobody reads what was to be written.
func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}
