package command

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
)

type instrumentOptions struct {
	out     string
	verbose bool
	report  format // empty for none, if verbose doesn't ask for one
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
found and done: how many functions may suspend, at how many calls, the size of
the code before and after, and the time it took. --report json says the same as
an object with the keys module, functions, suspendable, sites, code_before,
code_after, code_ratio, bytes_before, bytes_after and seconds; code is the bytes
of all functions, bytes those of the whole file.`,
		Example: "  durun instrument python.wasm -o suspendable.wasm -v\n" +
			"  durun instrument python.wasm -o /dev/null --report json",
		Args: arguments(1, 1, "IN, the path of a .wasm file,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInstrument(cmd.Context(), a, o, args[0])
		},
		ValidArgsFunction: cobra.FixedCompletions([]string{"wasm"}, cobra.ShellCompDirectiveFilterFileExt),
	}
	cmd.Flags().StringVarP(&o.out, "output", "o", "", "`file` to write, - for standard output (required)")
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "say what was found and done")
	cmd.Flags().Var(&o.report, "report", "say on standard error what was found and done: `format` text (as -v) or json")
	_ = cmd.RegisterFlagCompletionFunc("report", cobra.FixedCompletions([]string{"json", "text"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// instrumented is what -v and --report tell.
type instrumented struct {
	Module      string  `json:"module"`
	Functions   int     `json:"functions"`
	Suspendable int     `json:"suspendable"`
	Sites       int     `json:"sites"`
	CodeBefore  int     `json:"code_before"`
	CodeAfter   int     `json:"code_after"`
	CodeRatio   float64 `json:"code_ratio"`
	BytesBefore int     `json:"bytes_before"`
	BytesAfter  int     `json:"bytes_after"`
	Seconds     float64 `json:"seconds"`
}

func runInstrument(ctx context.Context, a *app, o instrumentOptions, in string) error {
	if err := checkOut("instrument", o.out, a.Stdout); err != nil {
		return err
	}
	binary, err := readModule(in)
	if err != nil {
		return err
	}
	began := time.Now()
	out, report, err := runtime.Instrument(binary, wasi.Module)
	if err != nil {
		return fmt.Errorf("instrument %s: %w", in, err)
	}
	took := time.Since(began)
	if err := writeOut(ctx, o.out, 0o666, a.Stdout, func(w io.Writer) error {
		_, err := w.Write(out)
		return err
	}); err != nil {
		return err
	}
	if o.report == "" && !o.verbose {
		return nil
	}
	facts := instrumented{
		Module: in, Functions: report.Functions, Suspendable: report.Suspendable, Sites: report.Sites,
		CodeBefore: report.CodeBefore, CodeAfter: report.CodeAfter, CodeRatio: ratio(report.CodeAfter, report.CodeBefore),
		BytesBefore: len(binary), BytesAfter: len(out), Seconds: took.Seconds(),
	}
	if o.report == formatJSON {
		return writeJSON(a.Stderr, facts)
	}
	return writeInstrumented(a.Stderr, facts)
}

func writeInstrumented(w io.Writer, f instrumented) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "functions\t%d, of which %d (%.1f %%) may suspend\n", f.Functions, f.Suspendable, 100*ratio(f.Suspendable, f.Functions))
	calls := "calls"
	if f.Sites == 1 {
		calls = "call"
	}
	fmt.Fprintf(t, "sites\t%d %s that may suspend\n", f.Sites, calls)
	for _, size := range []struct {
		name          string
		after, before int
	}{{"code", f.CodeAfter, f.CodeBefore}, {"module", f.BytesAfter, f.BytesBefore}} {
		fmt.Fprintf(t, "%s\t%s, was %s (%.2f times)\n", size.name,
			humanBytes(uint64(size.after)), humanBytes(uint64(size.before)), ratio(size.after, size.before))
	}
	fmt.Fprintf(t, "time\t%.3g s\n", f.Seconds)
	return t.Flush()
}

// ratio is a as a multiple of b, and 0 where there is no b.
func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
