package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

type cancelOptions struct {
	resumeOptions
	force bool
}

func newCancelCommand(a *app) *cobra.Command {
	var o cancelOptions
	cmd := &cobra.Command{
		Use:   "cancel [flags] ID...",
		Short: "End coroutines before their time",
		Long: `Ask a coroutine to end. One that waits for operations learns of it where it
stands, as an error with which it can clean up: it may wait for more, and even
end well. One that waits for anything else ends there, and one that computes
when it next waits. Its status is cancelled, unless it exits with 0 all the
same, and its children are cancelled with it.

If somebody drives the coroutine, that driver sees to it, and cancel doesn't
wait for the end. Else cancel drives it on itself, in the foreground, until it
has ended, as "durun resume" does and with the same flags: it needs its folders
and handlers to clean up. The request stays with the coroutine in any case: if
cancel is stopped, "durun resume" goes on with it.

With --force the coroutine is not asked, and does not run again: it ends at its
last commit, and so do its children that have not ended. For one that doesn't
clean up, or can't be run here. What it has begun outside may still be going on.
A coroutine that somebody drives can't be ended so: stop its driver first (exit
code 75).

A coroutine that has ended can't be cancelled: exit code 64. Of several, the
exit code is the first that is not 0; what a coroutine exits with doesn't count.`,
		Example: "  durun cancel job\n  durun cancel --force job",
		Args:    arguments(1, -1, "a coroutine's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCancel(cmd.Context(), a, o, args)
		},
		ValidArgsFunction: completeIDs(a, -1, func(s snapshot.Status) bool { return !s.Ended() }),
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "end it at its last commit, without asking it")
	o.addTo(cmd, a)
	return cmd
}

func runCancel(ctx context.Context, a *app, o cancelOptions, args []string) error {
	return o.each(ctx, a, args, func(store *store, id string) error {
		if o.force {
			return a.forceCancel(ctx, store, id, o.lease)
		}
		return cancelOne(ctx, a, o.resumeOptions, store, id)
	})
}

// cancelOne asks a coroutine to end, and drives it there if nobody else does.
func cancelOne(ctx context.Context, a *app, o resumeOptions, store *store, id string) error {
	_, err := store.Send(ctx, id, snapshot.Message{Name: snapshot.CancelMessage, Key: snapshot.CancelMessage})
	if errors.Is(err, snapshot.ErrEnded) {
		return &exitError{code: exitUsage, err: fmt.Errorf("cancel %s: %w", id, snapshot.ErrEnded), advice: "its output: " + a.commandLine("logs", id)}
	}
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	err = resumeOne(ctx, a, o, store, id)
	status := (*exitError)(nil)
	switch {
	case errors.Is(err, snapshot.ErrBusy):
		fmt.Fprintf(a.Stderr, "durun: %s was asked to end; its driver sees to that\n", id)
		return nil
	case errors.Is(err, snapshot.ErrEnded):
		fmt.Fprintf(a.Stderr, "durun: %s has ended; its driver saw to that\n", id)
		return nil
	case errors.As(err, &status) && status.err == nil:
		return nil // the guest's exit code
	case err != nil && ctx.Err() == nil && a.classify(err).code != exitTrap:
		return fmt.Errorf("cancel: %w", &exitError{
			code: a.classify(err).code, err: err,
			advice: a.classify(err).advice + "\nto end it as it stands, without running it: " + a.commandLine("cancel", "--force", id),
		})
	}
	return err
}

// forceCancel ends a coroutine, and its children, as they stand.
func (a *app) forceCancel(ctx context.Context, store *store, id string, ttl time.Duration) (err error) {
	lease, err := a.acquire(ctx, store, id, ttl)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	defer closeInto(&err, a.release)
	children, unsure, err := runtime.Descendants(ctx, store.Store, id)
	if err != nil {
		return fmt.Errorf("cancel: children of %s: %w", id, err)
	}
	for _, err := range unsure {
		fmt.Fprintf(a.Stderr, "durun: what may be a child of %s goes on: %v\n", id, err)
	}
	leases := make([]*snapshot.Lease, len(children))
	for i, child := range children {
		if leases[i], err = store.Acquire(ctx, child, snapshot.LeaseOptions{TTL: ttl}); err != nil {
			return fmt.Errorf("cancel %s: %w", id, err)
		}
		defer closeInto(&err, leases[i].Release)
	}
	// Should this be cut short, what is left can be cancelled by the same command.
	for i := len(children) - 1; i >= 0; i-- {
		if err := a.endAsItStands(ctx, leases[i], children[i]); err != nil && !errors.Is(err, snapshot.ErrEnded) {
			return err
		}
	}
	return a.endAsItStands(ctx, lease, id)
}

// endAsItStands ends a coroutine without running it.
func (a *app) endAsItStands(ctx context.Context, lease *snapshot.Lease, id string) (err error) {
	for range lateCommits {
		if _, err = lease.Cancel(ctx, runtime.ExitCodeCancelled, "cancelled by force"); !isLateCommit(err, lease) {
			break
		}
	}
	if err == nil {
		fmt.Fprintf(a.Stderr, "durun: %s was cancelled\n", id)
	}
	return err
}
