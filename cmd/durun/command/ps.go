package command

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

type psOptions struct {
	all    bool
	tree   bool
	format format
}

func newPsCommand(a *app) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:     "ps",
		Aliases: []string{"ls"},
		Short:   "List coroutines",
		Long: `List the coroutines of the store that have not ended; with -a those that have,
too. The last changed is first.

STATUS is running for a coroutine that somebody drives now, else that of its
last commit: suspended, completed, failed or cancelled; unreadable, if that
commit is damaged. SEQ is the number of that commit, and WAITING what the
program waits for; of a call that was tried in vain, with the number of the
attempt and why it failed. Of one that is running and has computed for a second
or more since then WAITING says so; where the store has no locks, up to a third
of the lease later. A program that has not waited yet has no commit, and is not
listed.

With --tree children are listed below their parents, as far as those are listed.
A child's id is its parent's, a dot, and a number.

JSON is an array of objects with the keys id, status, module (SHA-256),
module_name, seq, waiting (an object with kind, detail and until, or null),
computing (since when, or null), exit_code (null until the end), updated (null
if unreadable) and, where there is one, parent (the parent's id) and error.`,
		Example:           "  durun ps\n  durun ps -a --tree\n  durun ps -a -o json",
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runPs(cmd.Context(), a, o)
		},
	}
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "also list coroutines that have ended")
	cmd.Flags().BoolVar(&o.tree, "tree", false, "list children below their parents")
	addFormatFlag(cmd, &o.format)
	return cmd
}

func runPs(ctx context.Context, a *app, o psOptions) error {
	list, err := a.list(ctx)
	if err != nil {
		return err
	}
	shown := slices.DeleteFunc(list, func(c coroutine) bool { return c.Status.Ended() && !o.all })
	slices.SortStableFunc(shown, func(a, b coroutine) int { return b.Updated.Compare(a.Updated.Time) })
	if o.tree {
		shown = asTree(shown)
	}
	if o.format == formatJSON {
		return writeJSON(a.Stdout, shown)
	}
	now := time.Now()
	rows := [][]string{{"ID", "STATUS", "MODULE", "SEQ", "WAITING", "UPDATED"}}
	for _, c := range shown {
		status := string(c.Status)
		if c.ExitCode != nil {
			status += " (" + strconv.FormatUint(uint64(*c.ExitCode), 10) + ")"
		}
		rows = append(rows, []string{strings.Repeat("  ", c.depth) + c.ID, status, cell(c.moduleText), strconv.FormatUint(c.Seq, 10), c.doing(now), humanTime(c.Updated.Time, now)})
	}
	return writeTable(a.Stdout, rows)
}

// coroutine is what the commands tell of one, as JSON.
type coroutine struct {
	ID         string          `json:"id"`
	Status     snapshot.Status `json:"status"`
	Module     string          `json:"module"` // SHA-256
	ModuleName string          `json:"module_name"`
	Seq        uint64          `json:"seq"`
	Waiting    *waiting        `json:"waiting"`
	Computing  *moment         `json:"computing"` // since when; nil while it waits, and while nobody drives it
	ExitCode   *uint32         `json:"exit_code"` // nil until the end
	Updated    moment          `json:"updated"`
	Parent     string          `json:"parent,omitempty"`
	Error      string          `json:"error,omitempty"` // why it failed, or can't be read

	moduleText string
	depth      int // below the one that is shown without a parent, in a tree
}

// waiting is what a suspended coroutine waits for.
type waiting struct {
	Kind   string     `json:"kind"`
	Detail string     `json:"detail"`
	Until  *time.Time `json:"until"` // nil if only an event ends it
}

// statusUnreadable is that of a coroutine whose last commit is damaged, or was written by a newer durun.
const statusUnreadable snapshot.Status = "unreadable"

// asTree puts children below their parents, in the order of their numbers, where those are in the list.
func asTree(list []coroutine) []coroutine {
	there := map[string]bool{}
	for _, c := range list {
		there[c.ID] = true
	}
	children := map[string][]coroutine{} // by parent; those without one under ""
	for _, c := range list {
		parent := c.Parent
		if !there[parent] {
			parent = ""
		}
		children[parent] = append(children[parent], c)
	}
	tree := make([]coroutine, 0, len(list))
	var add func(parent string, depth int)
	add = func(parent string, depth int) {
		below := children[parent]
		if parent != "" {
			slices.SortFunc(below, func(a, b coroutine) int {
				_, i, _ := runtime.ParentID(a.ID)
				_, k, _ := runtime.ParentID(b.ID)
				return cmp.Compare(i, k)
			})
		}
		for _, c := range below {
			c.depth = depth
			tree = append(tree, c)
			add(c.ID, depth+1)
		}
	}
	add("", 0)
	return tree
}

// setParents notes whose child each is, by their ids.
func setParents(list []coroutine) {
	there := map[string]bool{}
	for _, c := range list {
		there[c.ID] = true
	}
	for i := range list {
		if parent, _, ok := runtime.ParentID(list[i].ID); ok && there[parent] {
			list[i].Parent = parent
		}
	}
}

// list returns the store's coroutines, by id. It is not nil.
func (a *app) list(ctx context.Context) (_ []coroutine, err error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer closeInto(&err, store.Close)
	driven, err := store.Driven(ctx)
	if err != nil {
		return nil, err
	}
	list := []coroutine{}
	for c, err := range store.List(ctx) {
		switch {
		case err != nil:
			return nil, err
		case c.Err != nil:
			list = append(list, coroutine{ID: c.Coroutine, Status: statusUnreadable, Seq: c.Seq, Error: c.Err.Error()})
		default:
			var by snapshot.Holder
			running := false
			if !c.Status.Ended() {
				by, running = driven(c.Coroutine)
			}
			d := describe(c.Manifest, running)
			d.heed(by)
			list = append(list, d)
		}
	}
	setParents(list)
	return list, nil
}

// describe tells of a coroutine what a commit says. driven: somebody drives it now.
func describe(m snapshot.Manifest, driven bool) coroutine {
	c := coroutine{
		ID:         m.Coroutine,
		Status:     m.Status,
		Module:     m.Module.String(),
		ModuleName: m.ModuleName,
		Seq:        m.Seq,
		Waiting:    describeAwait(m.Await),
		Updated:    moment{m.Time},
		Error:      m.Error,
		moduleText: moduleText(m.ModuleName, m.Module),
	}
	if m.Status.Ended() {
		c.ExitCode = &m.ExitCode
	} else if driven {
		c.Status = snapshot.Running
	}
	return c
}

// heed takes in what the coroutine's driver says: that it computes, and doesn't wait any longer as its last commit has it.
func (c *coroutine) heed(by snapshot.Holder) {
	if c.Status == snapshot.Running && !by.Computing.IsZero() && by.After == c.Seq {
		c.Waiting, c.Computing = nil, &moment{by.Computing}
	}
}

// doing is what it waits for, or that it computes, for a table's cell.
func (c *coroutine) doing(now time.Time) string {
	if c.Computing != nil {
		return "computing, for " + humanDuration(now.Sub(c.Computing.Time))
	}
	return c.Waiting.text(now)
}

func describeAwait(w *snapshot.Await) *waiting {
	if w == nil {
		return nil
	}
	d := &waiting{Kind: w.Kind, Detail: w.Detail}
	if !w.Until.IsZero() {
		d.Until = &w.Until
	}
	return d
}

// text is for a table's cell.
func (w *waiting) text(now time.Time) string {
	if w == nil {
		return "-"
	}
	t := w.Detail
	if t == "" {
		t = w.Kind
	}
	t = cell(t)
	if w.Until != nil {
		if w.Until.After(now) {
			t += ", " + humanDuration(w.Until.Sub(now)) + " left"
		} else {
			t += ", due"
		}
	}
	return t
}

// moduleText names a module for people: the file's name, else the start of its hash.
func moduleText(name string, hash snapshot.Hash) string {
	if name != "" {
		return printable(name)
	}
	return hash.String()[:12]
}
