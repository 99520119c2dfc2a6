package command

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
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
the messages that wait. Modules stay, since other coroutines may need them. The
children of a coroutine are removed with it.

A coroutine that somebody drives is not removed, nor is one with such a child:
stop the driver first (exit code 75). All ids are looked up before the first is
removed. The ids of what was removed are printed; JSON is an array of objects
with the key id.

An ID has to be whole here. A prefix would be another coroutine's, once the one
that was meant is gone: that of its child, for example.`,
		Example: "  durun rm job\n  durun ps -a -o json | jq -r '.[] | select(.exit_code).id' | xargs durun rm",
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
	for _, arg := range args {
		if !slices.Contains(ids, arg) {
			return store.notWhole(ctx, arg)
		}
	}
	type removed struct {
		ID string `json:"id"`
	}
	list := []removed{}
	gone := map[string]bool{}
	for _, id := range ids {
		if gone[id] {
			continue // with its parent
		}
		err = removeOne(ctx, a, store, id, func(id string) {
			gone[id] = true
			list = append(list, removed{id})
			if o.format == formatText {
				fmt.Fprintln(a.Stdout, id)
			}
		})
		if err != nil {
			break
		}
	}
	if o.format == formatJSON {
		if jerr := writeJSON(a.Stdout, list); err == nil {
			err = jerr
		}
	}
	return err
}

// notWhole returns the error for an id of which only the beginning was given.
func (s *store) notWhole(ctx context.Context, prefix string) error {
	id, err := s.resolve(ctx, prefix)
	if err != nil {
		return err
	}
	return inputError(fmt.Errorf("rm: there is no coroutine %s, but %s", prefix, id),
		"to remove takes the whole id: "+s.app.commandLine("rm", id))
}

// removeOne removes a coroutine and its children, and calls removed with each.
func removeOne(ctx context.Context, a *app, store *store, id string, removed func(id string)) (err error) {
	lease, err := a.acquire(ctx, store, id, 0)
	if err != nil {
		return fmt.Errorf("rm: %w", err)
	}
	defer closeInto(&err, a.release)
	children, unsure, err := runtime.Descendants(ctx, store.Store, id)
	if err != nil {
		return fmt.Errorf("rm: children of %s: %w", id, err)
	}
	for _, err := range unsure {
		fmt.Fprintf(a.Stderr, "durun: what may be a child of %s is left: %v\n", id, err)
	}
	leases := make([]*snapshot.Lease, len(children))
	for i, child := range children {
		if leases[i], err = store.Acquire(ctx, child, snapshot.LeaseOptions{}); err != nil {
			return fmt.Errorf("rm %s: %w", id, err)
		}
		defer closeInto(&err, leases[i].Release)
	}
	// Should this be cut short, the rest are still a family.
	for i := len(children) - 1; i >= 0; i-- {
		if err := leases[i].Delete(ctx); err != nil {
			return err
		}
		removed(children[i])
	}
	if err := lease.Delete(ctx); err != nil {
		return err
	}
	removed(id)
	return nil
}
