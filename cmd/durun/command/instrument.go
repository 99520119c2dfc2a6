package command

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
)

type instrumentOptions struct {
	out     string
	verbose bool
}

func newInstrumentCommand(a *app) *cobra.Command {
	var o instrumentOptions
	cmd := &cobra.Command{
		Use:   "instrument IN -o OUT",
		Short: "Write the suspendable form of a module",
		Long: `Write the module that durun makes of IN, a .wasm file, so that it can be
suspended: the transform alone. "durun run" does this by itself, from the
original; this command is for looking at the result. It doesn't run the program.

OUT is a file, or - for standard output. -v says on standard error what was
found and done.`,
		Example: "  durun instrument python.wasm -o suspendable.wasm -v",
		Args:    arguments(1, 1, "IN, the path of a .wasm file,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInstrument(cmd.Context(), a, o, args[0])
		},
		ValidArgsFunction: cobra.FixedCompletions([]string{"wasm"}, cobra.ShellCompDirectiveFilterFileExt),
	}
	cmd.Flags().StringVarP(&o.out, "output", "o", "", "`file` to write, - for standard output (required)")
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "say what was found and done")
	return cmd
}

func runInstrument(ctx context.Context, a *app, o instrumentOptions, in string) error {
	if err := checkOut("instrument", o.out, a.Stdout); err != nil {
		return err
	}
	binary, err := readModule(in)
	if err != nil {
		return err
	}
	out, report, err := runtime.Instrument(binary, wasi.Module)
	if err != nil {
		return fmt.Errorf("instrument %s: %w", in, err)
	}
	if err := writeOut(ctx, o.out, a.Stdout, func(w io.Writer) error {
		_, err := w.Write(out)
		return err
	}); err != nil {
		return err
	}
	if o.verbose {
		fmt.Fprintf(a.Stderr, "functions    %d, of which %d may suspend, at %d call sites\ncode         %s, was %s (%.2f times)\nmodule       %s, was %s\n",
			report.Functions, report.Suspendable, report.Sites,
			humanBytes(uint64(report.CodeAfter)), humanBytes(uint64(report.CodeBefore)),
			float64(report.CodeAfter)/float64(max(1, report.CodeBefore)),
			humanBytes(uint64(len(out))), humanBytes(uint64(len(binary))))
	}
	return nil
}
