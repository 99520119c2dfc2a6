package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

func newKeyCommand(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "key",
		Short: "Make and list encryption keys",
		Long: `Make and list the keys under which a store is encrypted.

With a key, all that is written to the store is encrypted: what programs know
and what they have written, in commits, logs and shared bases. Not encrypted are
modules, and what listings show: ids, module names, times, what kind of wait,
sizes. What was written before stays as it is, and is read as well; "durun
rekey" encrypts it.

Keys are in a file, which --key-file or DURUN_KEY_FILE names, or in DURUN_KEY:
one a line; lines that start with # are comments. The first one encrypts, all
decrypt. Every command that reads what is encrypted needs the key. Lost keys
can't be replaced by anything: keep a copy where the store is not.`,
		Example: "  durun key new ~/durun.key\n  durun run --key-file ~/durun.key --id job app.wasm",
	}, newKeyNewCommand(a), newKeyLsCommand(a))
}

func newKeyNewCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "new [FILE]",
		Short: "Make a key",
		Long: `Make a random key and write it to a new FILE that only its owner may read, or to
standard output. The key's id goes to standard error; it is no secret.

To change keys, put a new one in front of the old one, and run "durun rekey".`,
		Example: "  durun key new ~/durun.key\n  (durun key new; cat old.key) > new.key",
		Args:    arguments(0, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runKeyNew(cmd.Context(), a, args)
		},
	}
}

func runKeyNew(_ context.Context, a *app, args []string) error {
	k := snapshot.NewKey()
	text := k.Secret() + "\n"
	if len(args) == 0 {
		if _, err := fmt.Fprint(a.Stdout, text); err != nil {
			return err
		}
	} else if err := createKeyFile(args[0], text); err != nil {
		return err
	}
	fmt.Fprintf(a.Stderr, "durun: made key %v\n", k.ID())
	return nil
}

// createKeyFile writes a key to a file that isn't there yet.
func createKeyFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &exitError{
			code: exitUsage, err: fmt.Errorf("key new: %s is there already", name),
			advice: "a key that is lost takes with it what is encrypted under it: give another file",
		}
	}
	if err == nil {
		if _, err = f.WriteString(text); err == nil {
			err = f.Sync()
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = os.Remove(name)
		}
	}
	if err != nil {
		return outputError(fmt.Errorf("key new: %w", err), "")
	}
	return nil
}

func newKeyLsCommand(a *app) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the keys that are in use",
		Long: `List the ids of the keys that --key-file, DURUN_KEY_FILE or DURUN_KEY give, the
one that encrypts first: those that messages name, "durun inspect" and "durun
history -o json".

JSON is an array of objects with the key id.`,
		Example:           "  durun key ls --key-file durun.key",
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return runKeyLs(a, f)
		},
	}
	addFormatFlag(cmd, &f)
	return cmd
}

func runKeyLs(a *app, f format) error {
	keys, err := a.keyring()
	if err != nil {
		return err
	}
	type key struct {
		ID string `json:"id"`
	}
	list := []key{}
	for _, id := range keys.IDs() {
		list = append(list, key{id.String()})
	}
	if f == formatJSON {
		return writeJSON(a.Stdout, list)
	}
	for _, k := range list {
		if _, err := fmt.Fprintln(a.Stdout, k.ID); err != nil {
			return err
		}
	}
	return nil
}
