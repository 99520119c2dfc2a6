package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

type rmOptions struct {
	format format
}

func newRmCommand(a *app) *cobra.Command {
	var o rmOptions
	cmd := &cobra.Command{
		Use:   "rm ID...",
		Short: "Forget coroutines",
		Long: `Remove coroutines from the store: their commits, output and messages, whether
they have ended or not. It can't be undone; "durun export" keeps a copy, without
the messages that wait. Modules stay, since other coroutines may need them.

A coroutine that somebody drives is not removed: stop its driver first (exit
code 75). All ids are looked up before the first is removed. The ids of what was
removed are printed.`,
		Example: "  durun rm job\n  durun ps -a -o json | jq -r '.[] | select(.status == \"completed\").id' | xargs -r durun rm",
		Args:    arguments(1, -1, "a coroutine's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRm(cmd.Context(), a, o, args)
		},
		ValidArgsFunction: completeIDs(a, -1, nil),
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

func runRm(ctx context.Context, a *app, o rmOptions, args []string) (err error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	ids, err := store.resolveAll(ctx, args)
	if err != nil {
		return err
	}
	type removed struct {
		ID string `json:"id"`
	}
	list := []removed{}
	for _, id := range ids {
		if err = removeOne(ctx, a, store, id); err != nil {
			break
		}
		list = append(list, removed{id})
		if o.format == formatText {
			fmt.Fprintln(a.Stdout, id)
		}
	}
	if o.format == formatJSON {
		if jerr := writeJSON(a.Stdout, list); err == nil {
			err = jerr
		}
	}
	return err
}

func removeOne(ctx context.Context, a *app, store *store, id string) (err error) {
	lease, err := a.acquire(ctx, store, id, 0)
	if err != nil {
		return fmt.Errorf("rm: %w", err)
	}
	defer closeInto(&err, a.release)
	return lease.Delete(ctx)
}
