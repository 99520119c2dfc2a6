package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

type gcOptions struct {
	keep    int
	keepFor time.Duration
	grace   time.Duration
	bases   bool
	dryRun  bool
	format  format
}

func newGCCommand(a *app) *cobra.Command {
	var o gcOptions
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what nobody needs any more",
		Long: `Remove from the store what nobody needs: modules that no coroutine is made of,
what a deletion or an import has left that was cut short, messages to coroutines
that have ended, and, if asked for, old commits. It can run at any time, beside
coroutines that are driven.

With --keep or --keep-for commits of all coroutines are dropped: those that
are not among the newest N, and older than D. The last commit stays, and so do
those that another one builds on. Output is never dropped: "durun logs" has all
of it, and encrypted ones are dropped only with their key. "durun run --keep"
does the same while a program runs.

Modules, and with --bases also shared bases, are not removed at once: a
coroutine may be about to need one. They are condemned, and a gc that comes
--grace later removes those that are still not needed. --grace 0 does all at
once; then start no coroutines meanwhile.

If a coroutine can't be read it is not known what it needs, and no module is
removed: exit code 65. "durun check" says more.

JSON is an object with the keys reclaimed (an array of objects with kind,
objects and bytes, which is negative where more was written than removed),
condemned (an array of objects with kind, name, bytes, since and after, from
when on it may be removed), unreadable and skipped (arrays of messages).`,
		Example:           "  durun gc\n  durun gc --keep 100 --keep-for 168h --dry-run",
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runGC(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.keep, "keep", 0, "drop commits but for the newest `N` of each coroutine (default: drop none)")
	f.DurationVar(&o.keepFor, "keep-for", 0, "drop commits that are older than a `duration`, such as 168h (default: drop none)")
	f.DurationVar(&o.grace, "grace", time.Hour, "how long modules and bases stay condemned: a `duration`")
	f.BoolVar(&o.bases, "bases", false, "also remove shared bases that no coroutine needs")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "say what would be done, and do nothing")
	addFormatFlag(cmd, &o.format)
	return cmd
}

func runGC(ctx context.Context, a *app, o gcOptions) (err error) {
	for _, f := range []struct {
		name  string
		value any
		wrong bool
	}{{"--keep", o.keep, o.keep < 0}, {"--keep-for", o.keepFor, o.keepFor < 0}, {"--grace", o.grace, o.grace < 0}} {
		if f.wrong {
			return usageError("gc: %s %v: it is negative", f.name, f.value)
		}
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	var seen atomic.Int64
	p := a.newProgress(func() string { return fmt.Sprintf("collecting: %d coroutines", seen.Load()) })
	p.begin()
	c, err := store.Collect(ctx, snapshot.CollectOptions{
		Policy: snapshot.Policy{Keep: o.keep, Age: o.keepFor}, Bases: o.bases, Grace: o.grace, DryRun: o.dryRun,
		Progress: func(coroutines int) { seen.Store(int64(coroutines)) },
	})
	p.end()
	if perr := printCollected(a, o, c); err == nil {
		err = perr
	}
	switch {
	case err != nil:
		return fmt.Errorf("gc: %w", err)
	case len(c.Damaged) > 0:
		return dataError(fmt.Errorf("gc: no module was removed, since it is not known what is needed: %w", errors.Join(c.Damaged...)),
			"find out more, and what can be saved: "+a.commandLine("check"))
	case len(c.Skipped) > 0:
		return fmt.Errorf("gc: some things stay: %w", errors.Join(c.Skipped...))
	}
	return nil
}

// reclaimed, condemned and collected are what gc tells, as JSON.
type (
	reclaimed struct {
		Kind    snapshot.ObjectKind `json:"kind"`
		Objects int                 `json:"objects"`
		Bytes   int64               `json:"bytes"`
	}
	condemned struct {
		Kind  snapshot.ObjectKind `json:"kind"`
		Name  string              `json:"name"`
		Bytes int64               `json:"bytes"`
		Since time.Time           `json:"since"`
		After time.Time           `json:"after"`
	}
	collected struct {
		Reclaimed  []reclaimed `json:"reclaimed"`
		Condemned  []condemned `json:"condemned"`
		Unreadable []string    `json:"unreadable"`
		Skipped    []string    `json:"skipped"`
	}
)

func printCollected(a *app, o gcOptions, c snapshot.Collected) error {
	if o.format == formatJSON {
		j := collected{[]reclaimed{}, []condemned{}, messages(c.Damaged), messages(c.Skipped)}
		for _, r := range c.Reclaimed {
			j.Reclaimed = append(j.Reclaimed, reclaimed(r))
		}
		for _, d := range c.Condemned {
			j.Condemned = append(j.Condemned, condemned(d))
		}
		return writeJSON(a.Stdout, j)
	}
	if len(c.Reclaimed) > 0 {
		title := "RECLAIMED"
		if o.dryRun {
			title = "TO RECLAIM"
		}
		rows := [][]string{{title, "OBJECTS", "BYTES"}}
		for _, r := range c.Reclaimed {
			rows = append(rows, []string{string(r.Kind), strconv.Itoa(r.Objects), humanSize(r.Bytes)})
		}
		if err := writeTable(a.Stdout, rows); err != nil {
			return err
		}
	}
	if len(c.Condemned) > 0 {
		rows := [][]string{{"CONDEMNED", "NAME", "BYTES", "TO BE REMOVED"}}
		now := time.Now()
		for _, d := range c.Condemned {
			name := d.Name
			if d.Kind == snapshot.ObjectModule {
				name = name[:12]
			}
			when := "by the next gc"
			if d.After.After(now) {
				when = "in " + humanDuration(d.After.Sub(now))
			}
			rows = append(rows, []string{string(d.Kind), name, humanBytes(uint64(d.Bytes)), when})
		}
		return writeTable(a.Stdout, rows)
	}
	return nil
}

// humanSize is humanBytes for what may be negative.
func humanSize(n int64) string {
	if n < 0 {
		return "-" + humanBytes(uint64(-n))
	}
	return humanBytes(uint64(n))
}

func messages(errs []error) []string {
	list := make([]string, len(errs))
	for i, err := range errs {
		list[i] = err.Error()
	}
	return list
}
