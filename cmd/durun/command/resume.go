package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

type resumeOptions struct {
	driveFlags
	outsideFlags
	limitFlags
	dirs       []string
	trustStore bool
	noCache    bool

	grants []snapshot.Grant // of all flags
	given  *outside
	stdin  *wasi.Stdin // goes from one coroutine to the next, with what was read and not consumed
}

func newResumeCommand(a *app) *cobra.Command {
	var o resumeOptions
	cmd := &cobra.Command{
		Use:   "resume [flags] ID...",
		Short: "Drive suspended coroutines on",
		Long: `Drive a suspended coroutine on, in the foreground, from its last commit until it
ends. The module comes from the store. Output since that commit is written again
if its writer was killed before the next one; "durun logs" has each line once.

A coroutine has one driver at a time. If somebody drives it, resume ends with
exit code 75. Where the store is a folder, a driver that was killed is known to
be dead at once. In object storage a driver holds a lease, which it renews; one
that died on another machine is known to be dead when its lease runs out, and
resume says whom it waits for, and how long. A driver that has lost its lease
to somebody else, because it was paused or cut off, stops with exit code 75.

What the run was given with --dir, --handler, --limit and --module is given to
it again. A coroutine that came by "durun import" has lost that: give it again,
as the message of durun says that names what is missing. What is given here also
replaces what is recorded under the same name, and is recorded from the next
commit on; --max-memory and --max-cpu replace the limits of the run in the same
way. "durun help run" explains handlers and limits.

From a store that isn't a folder, folders and handlers are not given again on
its word, for others may write to it: without --trust-store they have to be
given here.

The children of a coroutine are driven with it, unless somebody drives them; one
that somebody else drives is waited for. A child that is resumed by itself is
driven alone; if its parent has ended, it is asked to end.

Several coroutines are driven one after the other, each to its end; the exit
code is the first that is not 0. To drive them at the same time, start several
durun. A coroutine that has ended can't be resumed: exit code 64.

` + syncHelp + `

What was committed with --sync=false before does not become durable by resuming
without.`,
		Example: `  durun resume job
  durun resume --dir ./data:/data job
  durun resume --handler mail=https://mail.example/send job
  durun resume a b c`,
		Args: arguments(1, -1, "a coroutine's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runResume(cmd.Context(), a, o, args)
		},
		ValidArgsFunction: completeIDs(a, -1, func(s snapshot.Status) bool { return s == snapshot.Suspended }),
	}
	o.addTo(cmd, a)
	return cmd
}

// addTo gives cmd the flags.
func (o *resumeOptions) addTo(cmd *cobra.Command, a *app) {
	f := cmd.Flags()
	f.StringArrayVar(&o.dirs, "dir", nil, "let the program see a folder: `HOST[:GUEST][:ro]`; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("dir", completeFolders)
	f.Var(&a.sync, "sync", syncUsage)
	f.Lookup("sync").NoOptDefVal = "true"
	f.BoolVar(&o.noCache, "no-cache", false, "neither read nor write the cache of prepared modules")
	f.BoolVar(&o.trustStore, "trust-store", false, "give the program what the store says that it was given, also where the store is no folder")
	o.driveFlags.add(cmd)
	o.outsideFlags.add(a, cmd)
	o.limitFlags.add(cmd)
}

// read reads what the flags say. It returns an error for flags that make no sense.
func (o *resumeOptions) read(a *app) error {
	if err := errors.Join(o.driveFlags.check(), o.limitFlags.check()); err != nil {
		return err
	}
	grants, err := parseMounts(o.dirs)
	if err != nil {
		return err
	}
	if o.given, err = o.outsideFlags.read(); err != nil {
		return err
	}
	o.grants = slices.Concat(grants, o.given.grants, o.limits().Grants())
	o.stdin = wasi.NewStdin(a.Stdin)
	return nil
}

func runResume(ctx context.Context, a *app, o resumeOptions, args []string) error {
	return o.each(ctx, a, args, func(store *store, id string) error { return resumeOne(ctx, a, o, store, id) })
}

// each reads the flags, opens the store and does something to coroutines.
func (o *resumeOptions) each(ctx context.Context, a *app, args []string, do func(store *store, id string) error) (err error) {
	if err := o.read(a); err != nil {
		return err
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	if err := o.given.keep(ctx, store.Store); err != nil {
		return err
	}
	ids, err := store.resolveAll(ctx, args)
	if err != nil {
		return err
	}
	return a.each(ctx, ids, func(id string) error { return do(store, id) })
}

// each does something to coroutines, one after the other, also after it has failed for one. It returns the first error, and
// reports the others; if others are yet to come, it reports the first as well, and returns its exit code.
func (a *app) each(ctx context.Context, ids []string, do func(id string) error) error {
	var first error
	for i, id := range ids {
		err := do(id)
		if ctx.Err() != nil {
			if err == nil && i < len(ids)-1 {
				err = context.Cause(ctx) // the others are left as they are
			}
			return err
		}
		switch {
		case err != nil && first == nil:
			first = err
			if i < len(ids)-1 { // the others are yet to come, and the last error is reported by the caller
				first = exitStatus(a.report(err))
			}
		case err != nil:
			a.report(err)
		}
	}
	return first
}

func resumeOne(ctx context.Context, a *app, o resumeOptions, store *store, id string) (err error) {
	lease, err := a.acquire(ctx, store, id, o.lease)
	if err != nil {
		return err
	}
	defer closeInto(&err, a.release)
	err = resumeLatest(ctx, a, o, store, lease, id, false)
	if isLateCommit(err, lease) {
		err = resumeHeld(ctx, a, o, store, lease, id)
	}
	return err
}

// lateCommits is how often a command goes on from the commit of another, as isLateCommit has it.
const lateCommits = 3

// isLateCommit reports whether a coroutine whose lease is held was committed by somebody else all the same: by an earlier
// driver, which lost its lease when this one commit was under way.
func isLateCommit(err error, lease *snapshot.Lease) bool {
	return errors.Is(err, snapshot.ErrFenced) && !errors.Is(err, snapshot.ErrExist) && lease.Err() == nil
}

// resumeHeld goes on after such a commit.
func resumeHeld(ctx context.Context, a *app, o resumeOptions, store *store, lease *snapshot.Lease, id string) (err error) {
	for range lateCommits {
		fmt.Fprintf(a.Stderr, "durun: %s: an earlier driver has made a last commit; going on from that\n", id)
		if err = resumeLatest(ctx, a, o, store, lease, id, true); !isLateCommit(err, lease) {
			break
		}
	}
	return err
}

// resumeLatest drives on from the newest commit. To find that this is the end is an error, except after a late commit.
func resumeLatest(ctx context.Context, a *app, o resumeOptions, store *store, lease *snapshot.Lease, id string, late bool) (err error) {
	ctx, progressEnd := a.withSnapshotProgress(ctx, id)
	defer progressEnd()
	chain, err := store.Chain(ctx, id, 0, nil)
	var s *snapshot.Snapshot
	if err == nil {
		s, err = chain.State()
	}
	if err != nil {
		err = fmt.Errorf("resume %s: %w", id, err)
		if errors.Is(err, snapshot.ErrCorrupt) {
			return dataError(err, a.earlierCommit(id))
		}
		return err
	}
	if s.Status.Ended() && late {
		return exitStatus(guestExit(s.ExitCode))
	}
	if s.Status.Ended() {
		return &exitError{
			code:   exitUsage,
			err:    fmt.Errorf("resume %s: %w: %s, exit code %d", id, snapshot.ErrEnded, s.Status, s.ExitCode),
			advice: "its output: " + a.commandLine("logs", id),
		}
	}
	trusted := store.trusts() || o.trustStore
	if !trusted {
		if err := a.untrusted(id, s.Grants, o.grants); err != nil {
			return err
		}
	}
	grants := mergeGrants(s.Grants, o.grants)
	if err := o.given.check(grants); err != nil {
		return err
	}
	err = missingHandlers(s, grants, "resume "+id, func(flags ...string) string { return a.commandLine("resume", append(flags, id)...) })
	if err != nil {
		return err
	}
	handlers, err := newHandlers(grants, a.Stderr)
	if err != nil {
		return fmt.Errorf("resume %s: %w", id, err)
	}
	a.setDriving(position{id: id, seq: s.Seq})
	e, err := a.newEngine(ctx, moduleText(s.ModuleName, s.Module), o.noCache)
	if err != nil {
		return err
	}
	defer closeInto(&err, func() error { return e.close(ctx) })
	module, err := e.open(ctx, store, s.Module)
	if err != nil {
		return fmt.Errorf("resume %s: %w", id, err)
	}
	system, err := newSystem(systemConfig{grants: grants, stdin: o.stdin, restored: true})
	if err != nil {
		return &exitError{
			code:   exitUsage,
			err:    fmt.Errorf("resume %s: %w", id, err),
			advice: "if the folder is elsewhere now: " + a.commandLine("resume", "--dir HOST:GUEST", id),
		}
	}
	out := newOutput(a, false)
	c, err := module.RestoreChain(ctx, chain, runtime.RestoreConfig{
		Hosts:  []hostabi.Instance{system},
		Stdout: out.stdout,
		Stderr: out.stderr,
		Grants: grants,
	})
	e.progress.end()
	if err != nil {
		return restoreError(a, id, err)
	}
	if err := a.askOrphan(ctx, store, s, c); err != nil {
		return errors.Join(fmt.Errorf("resume %s: %w", id, err), c.Close())
	}
	d := drive{driveFlags: o.driveFlags, app: a, store: store.Store, lease: lease, id: id, seq: s.Seq, output: out}
	d.near = a.newSurroundings(e, module, store, o.driveFlags, handlers, grants, trusted)
	defer closeInto(&err, func() error { return d.near.close(ctx) })
	_, err = d.run(ctx, c)
	return err
}

// restoreError explains why a coroutine can't be restored here.
func restoreError(a *app, id string, err error) error {
	if missing := (*wasi.MissingMountError)(nil); errors.As(err, &missing) {
		flags := make([]string, len(missing.Guests))
		for i, name := range missing.Guests {
			flags[i] = "--dir HOST:" + name
		}
		return &exitError{
			code:   exitUsage,
			err:    fmt.Errorf("resume %s: %w", id, err),
			advice: "say which folders of this machine they are: " + a.commandLine("resume", strings.Join(flags, " "), id),
		}
	}
	err = fmt.Errorf("resume %s: %w", id, err)
	if limit := (*runtime.LimitError)(nil); errors.As(err, &limit) {
		return &exitError{code: exitUsage, err: err, advice: "give it more: " + a.commandLine("resume", "--max-memory SIZE", id)}
	}
	if errors.As(err, new(*wasi.VolumeMountError)) {
		return usageError("%w", err)
	}
	if a.classify(err).code == exitBug { // whatever it is, it is in the snapshot
		return dataError(err, a.earlierCommit(id))
	}
	return err
}

// earlierCommit advises what to do about a coroutine whose last commit is of no use.
func (a *app) earlierCommit(id string) string {
	return "an earlier commit may do: export ID@SEQ, and import that under another id; for its number: " + a.commandLine("history", id)
}
