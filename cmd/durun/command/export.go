package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

type exportOptions struct {
	out     string
	encrypt bool
}

func newExportCommand(a *app) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export ID[@SEQ] -o FILE",
		Short: "Write a coroutine to one file",
		Long: `Write the last commit of a coroutine, or commit SEQ, to one self-contained file:
with the module and the output so far, and without messages that it has not
received. "durun import" makes a coroutine of it, in another store or on another
machine. The coroutine itself stays as it is; what the copy does from there on
is its own.

FILE appears whole or not at all; - is standard output. What the run was given
outside is not in it (folders, handlers, modules for children, limits): the one
who resumes the copy decides about that. What the program knows is: its memory,
arguments and environment variables, secrets included. So FILE is a secret, also
where the store is encrypted, and only its owner may read it; with --encrypt it
is encrypted itself, under the first of the keys ("durun help key"), and who
imports it needs that key.`,
		Example: "  durun export job -o job.durun\n  durun export job@3 -o - | ssh host durun import -",
		Args:    arguments(1, 1, "a coroutine's ID, or ID@SEQ,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExport(cmd.Context(), a, o, args[0])
		},
		ValidArgsFunction: completeReference(a, nil),
	}
	cmd.Flags().StringVarP(&o.out, "output", "o", "", "`file` to write, - for standard output (required)")
	cmd.Flags().BoolVar(&o.encrypt, "encrypt", false, "encrypt it under the first of the keys")
	return cmd
}

func runExport(ctx context.Context, a *app, o exportOptions, arg string) (err error) {
	if err := checkOut("export", o.out, a.Stdout); err != nil {
		return err
	}
	if keys, err := a.keyring(); o.encrypt && err == nil && len(keys.IDs()) == 0 {
		return &exitError{
			code: exitUsage, err: errors.New("export: --encrypt: there is no key to encrypt under"),
			advice: `give a file of keys: --key-file FILE; "durun key new" makes one`,
		}
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	r, err := store.reference(ctx, arg)
	if err != nil {
		return err
	}
	return writeOut(ctx, o.out, 0o600, a.Stdout, func(w io.Writer) error {
		ctx, progressEnd := a.withSnapshotProgress(ctx, r.id)
		defer progressEnd()
		export := store.Export
		if o.encrypt {
			export = store.ExportEncrypted
		}
		err := export(ctx, r.id, r.seq, w)
		if errors.Is(err, snapshot.ErrNotFound) && r.seq > 0 {
			err = inputError(err, fmt.Sprintf(`"%s" lists its commits`, a.commandLine("history", r.id)))
		}
		return err
	})
}
