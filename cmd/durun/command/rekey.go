package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

func newRekeyCommand(a *app) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use:   "rekey [ID...]",
		Short: "Encrypt coroutines under another key",
		Long: `Encrypt coroutines under the first of the keys, all of the store's unless ids
are given: those that are under another key, and those that are not encrypted.
The other key has to be among the keys, too: "durun help key" says where they
come from.

What is in the store never changes. So a coroutine's state is committed once
more, and the commits before it are dropped: its history is that one commit
then, and its output stays whole. It no longer builds on a shared base, which
takes more room. Stopped at any moment, rekey goes on when it is run again. A
coroutine that somebody drives is passed over, and can be rekeyed later; the
exit code is 75 then. So is one that is damaged, or under a key that isn't
there; then that is the error in the end.

Shared bases stay under the key that they were made with. They are named at the
end: remove those with "durun base rm", and "durun run --base" makes them anew.
Messages that wait for a coroutine stay under the key that they were sent with,
too: keep that key until the coroutine has received them. Bundles are files of
their own, and so are copies that somebody has made of the store: who has these
and the old key can still read them.

The ids of what was encrypted are printed. JSON is an object with the keys
rekeyed, busy, messages (arrays of ids, the last of coroutines for which
messages wait that are under another key) and bases (an array of names).`,
		Example: "  (durun key new; cat old.key) > new.key\n  durun rekey --key-file new.key",
		Args:    arguments(0, -1, "a coroutine's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRekey(cmd.Context(), a, f, args)
		},
		ValidArgsFunction: completeIDs(a, -1, nil),
	}
	addFormatFlag(cmd, &f)
	return cmd
}

// rekeyed is what rekey tells, as JSON.
type rekeyed struct {
	Rekeyed  []string `json:"rekeyed"`
	Busy     []string `json:"busy"`
	Messages []string `json:"messages"` // ids of those for which some wait that are under another key
	Bases    []string `json:"bases"`    // under another key
}

func runRekey(ctx context.Context, a *app, f format, args []string) (err error) {
	keys, err := a.keyring()
	if err != nil {
		return err
	}
	if len(keys.IDs()) == 0 {
		return &exitError{
			code: exitUsage, err: errors.New("rekey: there is no key to encrypt under"),
			advice: `give a file of keys: --key-file FILE; "durun key new" makes one`,
		}
	}
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
		ids = append(ids, id)
	}
	if len(args) == 0 {
		for c, err := range store.List(ctx) {
			if err != nil {
				return err
			}
			ids = append(ids, c.Coroutine)
		}
	}
	told := rekeyed{Rekeyed: []string{}, Busy: []string{}, Messages: []string{}, Bases: []string{}}
	failed, err := rekeyAll(ctx, a, store, f, ids, &told)
	if err == nil {
		err = otherBases(ctx, store, keys.IDs()[0], &told)
	}
	if f == formatJSON {
		if jerr := writeJSON(a.Stdout, told); err == nil {
			err = jerr
		}
	}
	for _, name := range told.Bases {
		fmt.Fprintf(a.Stderr, "durun: base %s is not under the first key; remove it with: %s\n", name, a.commandLine("base", "rm", name))
	}
	if err == nil && len(failed) > 0 {
		err = fmt.Errorf("rekey: some coroutines stay as they are: %w", errors.Join(failed...))
	}
	if err == nil && len(told.Busy) > 0 {
		err = &exitError{
			code: exitBusy, err: fmt.Errorf("rekey: %s", count(len(told.Busy), "coroutine is driven by somebody", "coroutines are driven by somebody")),
			advice: "run it again when their drivers have stopped",
		}
	}
	return err
}

// rekeyAll rekeys coroutines. What keeps one of them as it is, and is no fault of the storage, does not stop it: it is in failed.
func rekeyAll(ctx context.Context, a *app, store *store, f format, ids []string, told *rekeyed) (failed []error, err error) {
	for _, id := range ids {
		r, err := store.Rekey(ctx, id, snapshot.LeaseOptions{})
		switch {
		case err == nil:
		case errors.Is(err, snapshot.ErrBusy):
			told.Busy = append(told.Busy, id)
			continue
		case errors.Is(err, snapshot.ErrNotFound): // removed meanwhile
			continue
		case errors.Is(err, snapshot.ErrCorrupt), errors.Is(err, snapshot.ErrVersion), errors.Is(err, snapshot.ErrKey),
			errors.Is(err, snapshot.ErrInvalid):
			failed = append(failed, err)
			continue
		default:
			return failed, err
		}
		if r.Done {
			told.Rekeyed = append(told.Rekeyed, id)
			if f == formatText {
				fmt.Fprintln(a.Stdout, id)
			}
		}
		if r.Messages > 0 {
			told.Messages = append(told.Messages, id)
			fmt.Fprintf(a.Stderr, "durun: %s for %s, under another key than the first: keep that until %s has received them\n",
				count(r.Messages, "message waits", "messages wait"), id, id)
		}
	}
	return failed, nil
}

// otherBases notes the bases that are not under a key.
func otherBases(ctx context.Context, store *store, key snapshot.KeyID, told *rekeyed) error {
	for base, err := range store.Bases(ctx) {
		if err != nil {
			return err
		}
		if base.Err == nil && base.Key != key {
			told.Bases = append(told.Bases, base.Coroutine)
		}
	}
	return nil
}
