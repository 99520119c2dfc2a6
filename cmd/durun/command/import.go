package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

type importOptions struct {
	id     string
	named  bool // --id is given
	format format
}

func newImportCommand(a *app) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Make a coroutine from an exported file",
		Long: `Make a coroutine from FILE, which "durun export" wrote, and print its id; - is
standard input. It has the id that it had, or the one that --id gives, and goes
on where the other was. All of the file is checked before anything is stored:
one that is damaged anywhere is refused (exit code 65). An encrypted file needs
the key; what is stored is encrypted if there are keys.

What the run was given outside has stayed behind: folders, handlers, modules for
children, limits. "durun resume" asks for what the program can't do without; the
limits it doesn't ask for, so give --max-memory and --max-cpu again.

JSON is an object with the keys of "durun ps".`,
		Example: "  durun import job.durun\n  durun import --id again job.durun",
		Args:    arguments(1, 1, "FILE, which durun export wrote,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.named = cmd.Flags().Changed("id")
			return runImport(cmd.Context(), a, o, args[0])
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	cmd.Flags().StringVar(&o.id, "id", "", "the coroutine's new `id` (default: the one that it had)")
	addFormatFlag(cmd, &o.format)
	return cmd
}

func runImport(ctx context.Context, a *app, o importOptions, file string) (err error) {
	if o.named {
		if err := snapshot.ValidID(o.id); err != nil {
			return usageError("import: --id %q: %w", o.id, err)
		}
	}
	in := a.Stdin
	if file == "-" {
		file = "standard input"
	} else {
		f, err := os.Open(file)
		if err != nil {
			return inputError(fmt.Errorf("import: %w", err), "")
		}
		defer f.Close()
		in = f
	}
	store, err := a.makeStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	c, err := store.Import(ctx, bufio.NewReader(&inputReader{in}), snapshot.ImportOptions{ID: o.id})
	switch {
	case errors.Is(err, snapshot.ErrExist):
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: %w", file, err), advice: "give it another id: --id NEW"}
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	}
	if o.format == formatJSON {
		return writeJSON(a.Stdout, describe(c.Manifest, false))
	}
	_, err = fmt.Fprintln(a.Stdout, c.Coroutine)
	return err
}

// inputReader tells the errors of an input file from those of what is made of it.
type inputReader struct{ r io.Reader }

func (r *inputReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = inputError(fmt.Errorf("read: %w", err), "")
	}
	return n, err
}
