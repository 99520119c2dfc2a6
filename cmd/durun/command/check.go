package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

type checkOptions struct {
	format format
}

func newCheckCommand(a *app) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check [ID...]",
		Short: "Read and verify everything in the store",
		Long: `Read all that is in the store, or all that some coroutines need, and verify it:
modules, commits, the chains that commits build on, bases, output and messages.
Each object that is damaged or missing is named, with the coroutines that it
touches and what can be resumed of them nevertheless.

The exit code is 0 if all is well, and 65 if anything is damaged. What a
deletion or an import has left that was cut short is no damage, and neither are
messages to coroutines that have ended; "durun gc" removes them.

Without the key, what is encrypted is verified by its digests alone.

JSON is an object with the keys objects, bytes (what was read), locked (how many
of the objects are encrypted under a key that isn't there), problems and
leftovers (an array of keys in the store). A problem has the keys key (of the
object in the store), coroutine (empty if none needs the object), commit (its
number, 0 if it is none), problem (a message), newest (the coroutine's last
commit) and resumable: the last commit that is whole, 0 if there is none. If
that is newest, the coroutine can be resumed as it is; if it is less, "durun
export ID@SEQ" and "durun import" make a coroutine of it.`,
		Example: "  durun check\n  durun check job -o json",
		Args:    arguments(0, -1, "a coroutine's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCheck(cmd.Context(), a, o, args)
		},
		ValidArgsFunction: completeIDs(a, -1, nil),
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

func runCheck(ctx context.Context, a *app, o checkOptions, args []string) (err error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	var ids []string
	for _, arg := range args {
		id, err := store.resolve(ctx, arg)
		if err != nil {
			return err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	var objects, bytes atomic.Int64
	p := a.newProgress(func() string {
		return fmt.Sprintf("checking: %d objects, %s", objects.Load(), humanBytes(uint64(bytes.Load())))
	})
	p.begin()
	c, err := store.Check(ctx, snapshot.CheckOptions{IDs: ids, Progress: func(n int, size int64) {
		objects.Store(int64(n))
		bytes.Store(size)
	}})
	p.end()
	if err != nil {
		return err
	}
	if err := printChecked(a, o, c); err != nil {
		return err
	}
	if len(c.Problems) == 0 {
		return nil
	}
	damaged := map[string]bool{}
	for _, p := range c.Problems {
		damaged[p.Key] = true
	}
	return dataError(fmt.Errorf("check: %s", count(len(damaged), "object is damaged or missing", "objects are damaged or missing")), "")
}

// problem and checked are what check tells, as JSON.
type (
	problem struct {
		Key       string `json:"key"`
		Coroutine string `json:"coroutine"`
		Commit    uint64 `json:"commit"`
		Problem   string `json:"problem"`
		Resumable uint64 `json:"resumable"`
		Newest    uint64 `json:"newest"`
	}
	checked struct {
		Objects   int       `json:"objects"`
		Bytes     int64     `json:"bytes"`
		Locked    int       `json:"locked"`
		Problems  []problem `json:"problems"`
		Leftovers []string  `json:"leftovers"`
	}
)

func printChecked(a *app, o checkOptions, c snapshot.Checked) error {
	if o.format == formatJSON {
		j := checked{c.Objects, c.Bytes, c.Locked, []problem{}, append([]string{}, c.Leftovers...)}
		for _, p := range c.Problems {
			j.Problems = append(j.Problems, problem{p.Key, p.Coroutine, p.Commit, problemText(p), p.Resumable, p.Newest})
		}
		return writeJSON(a.Stdout, j)
	}
	told := map[string]bool{}
	for i, p := range c.Problems {
		if i == 0 || c.Problems[i-1].Key != p.Key {
			what := ""
			if p.Commit > 0 {
				what = fmt.Sprintf("commit %d of %s: ", p.Commit, p.Coroutine)
			}
			fmt.Fprintf(a.Stdout, "damaged: %s: %s%s\n", p.Key, what, printable(problemText(p)))
		}
		if p.Commit == 0 && p.Coroutine != "" {
			fmt.Fprintf(a.Stdout, "  needed by %s\n", p.Coroutine)
		}
	}
	for _, p := range c.Problems {
		if p.Coroutine == "" || told[p.Coroutine] {
			continue
		}
		told[p.Coroutine] = true
		fmt.Fprintf(a.Stdout, "%s: %s\n", p.Coroutine, a.rest(p))
	}
	if n := len(c.Leftovers); n > 0 {
		fmt.Fprintf(a.Stdout, "%s of what was cut short or dropped; remove with: %s\n", count(n, "leftover", "leftovers"), a.commandLine("gc"))
	}
	if c.Locked > 0 {
		fmt.Fprintf(a.Stdout, "%s by digest alone, for want of the key\n", count(c.Locked, "object", "objects"))
	}
	_, err := fmt.Fprintf(a.Stdout, "checked %s, %s\n", count(c.Objects, "object", "objects"), humanBytes(uint64(c.Bytes)))
	return err
}

// problemText is what is wrong with an object, without the key, which stands beside it.
func problemText(p snapshot.Problem) string { return strings.TrimPrefix(p.Err.Error(), p.Key+": ") }

// rest says what is left of a coroutine.
func (a *app) rest(p snapshot.Problem) string {
	switch p.Resumable {
	case 0:
		return "no commit of it can be resumed"
	case p.Newest:
		return fmt.Sprintf("its last commit, %d, is whole; go on with: %s", p.Newest, a.commandLine("resume", p.Coroutine))
	}
	return fmt.Sprintf("the last whole commit is %d of %d; save it with: %s", p.Resumable, p.Newest,
		a.commandLine("export", fmt.Sprintf("%s@%d", p.Coroutine, p.Resumable), "-o FILE"))
}

// count is a number of things.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
