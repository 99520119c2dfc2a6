package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

func newBaseCommand(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "base",
		Short: "List and remove shared bases",
		Long: `List and remove shared bases: programs that have run to their first wait, from
which any number of coroutines start. "durun run --base NAME" makes and uses
them.`,
		Example: "  durun base ls\n  durun base rm warm",
	}, newBaseLsCommand(a), newBaseRmCommand(a))
}

func newBaseLsCommand(a *app) *cobra.Command {
	var o struct{ format format }
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List shared bases",
		Long: `List the shared bases of the store, by name. BYTES is the size in the store,
PAGES the number of 4 KiB memory pages in it, AWAIT what the program waits for.

JSON is an array of objects with the keys name, module (SHA-256), module_name,
bytes, pages, time, await (an object with kind, detail and until) and, for a
base that can't be read, error; time and await are null then.`,
		Example:           "  durun base ls",
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBaseLs(cmd.Context(), a, o.format)
		},
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

// base is what base ls tells of one, as JSON.
type base struct {
	Name       string   `json:"name"`
	Module     string   `json:"module"`
	ModuleName string   `json:"module_name"`
	Bytes      int64    `json:"bytes"`
	Pages      int      `json:"pages"`
	Time       moment   `json:"time"`
	Await      *waiting `json:"await"`
	Error      string   `json:"error,omitempty"` // why it can't be read
}

func runBaseLs(ctx context.Context, a *app, f format) (err error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	list := []base{}
	rows := [][]string{{"NAME", "MODULE", "BYTES", "PAGES", "TIME", "AWAIT"}}
	for c, err := range store.Bases(ctx) {
		if err != nil {
			return err
		}
		b := base{Name: c.Coroutine, Bytes: c.Bytes}
		module, await := "-", string(statusUnreadable)
		if c.Err != nil {
			b.Error = c.Err.Error()
		} else {
			b.Module, b.ModuleName, b.Pages, b.Time, b.Await = c.Module.String(), c.ModuleName, c.Pages, moment{c.Time}, describeAwait(c.Await)
			module = moduleText(c.ModuleName, c.Module)
			await = cell(c.Await.Kind)
		}
		list = append(list, b)
		rows = append(rows, []string{
			b.Name, module, humanBytes(uint64(b.Bytes)), fmt.Sprint(b.Pages), b.Time.text("2006-01-02 15:04:05.000"), await,
		})
	}
	if f == formatJSON {
		return writeJSON(a.Stdout, list)
	}
	return writeTable(a.Stdout, rows)
}

func newBaseRmCommand(a *app) *cobra.Command {
	var o struct{ format format }
	cmd := &cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove shared bases",
		Long: `Remove shared bases from the store. A base that a coroutine builds on is not
removed (exit code 75): remove the coroutine first, or let it go on until it no
longer does. The names of what was removed are printed; JSON is an array of
objects with the key name.`,
		Example: "  durun base rm python",
		Args:    arguments(1, -1, "a base's NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBaseRm(cmd.Context(), a, o.format, args)
		},
		ValidArgsFunction: completeBases(a),
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

func runBaseRm(ctx context.Context, a *app, f format, names []string) (err error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	type removed struct {
		Name string `json:"name"`
	}
	list := []removed{}
	for _, name := range names {
		if err = store.DeleteBase(ctx, name); err != nil {
			break
		}
		list = append(list, removed{name})
		if f == formatText {
			fmt.Fprintln(a.Stdout, name)
		}
	}
	if errors.Is(err, snapshot.ErrNotFound) {
		err = inputError(err, `"`+a.commandLine("base", "ls")+`" lists what there is`)
	}
	if f == formatJSON {
		if jerr := writeJSON(a.Stdout, list); err == nil {
			err = jerr
		}
	}
	return err
}
