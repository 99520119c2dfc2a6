package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

type stackOptions struct {
	format format
}

func newStackCommand(a *app) *cobra.Command {
	var o stackOptions
	cmd := &cobra.Command{
		Use:   "stack ID[@SEQ]",
		Short: "Print the call stack of a suspended coroutine",
		Long: `Print the call stack of a coroutine as its last commit, or commit SEQ, has it:
the innermost call first. Names are those of the module's name section, DWARF,
imports or exports. Where a tool has removed the names and DWARF's addresses, as
wasm-opt does, a name that only one function of the source fits is shown, marked
(inferred). Where the module has DWARF with line tables, source lines and
inlined calls are shown too. What follows + is the call's place in its
function's code, in bytes.

A coroutine that runs is shown as it was at that commit. One that has ended has
no stack.

JSON is an array of objects, the innermost first, with the keys frame,
function_index, offset, function, inferred, file, line (0 if unknown) and
inlined (the functions inlined at that place, the innermost first).`,
		Example: "  durun stack job\n  durun stack job@3 -o json",
		Args:    arguments(1, 1, "a coroutine's ID, or ID@SEQ,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runStack(cmd.Context(), a, o, args[0])
		},
		ValidArgsFunction: completeReference(a, func(s snapshot.Status) bool { return !s.Ended() }),
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

// stackFrame is one line of a stack, as JSON.
type stackFrame struct {
	Frame         int      `json:"frame"` // 0 for the innermost
	FunctionIndex uint32   `json:"function_index"`
	Offset        uint32   `json:"offset"`
	Function      string   `json:"function"`
	Inferred      bool     `json:"inferred"`
	File          string   `json:"file"`
	Line          int      `json:"line"`
	Inlined       []string `json:"inlined"`
}

func runStack(ctx context.Context, a *app, o stackOptions, arg string) (err error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	s, _, err := store.load(ctx, arg)
	if err != nil {
		return err
	}
	frames := []stackFrame{}
	if len(s.Frames) > 0 {
		binary, err := store.Module(ctx, s.Module)
		if err != nil {
			return fmt.Errorf("stack %s: fetch module %s: %w", arg, moduleText(s.ModuleName, s.Module), err)
		}
		symbols, err := runtime.NewSymbols(binary)
		if err != nil {
			return fmt.Errorf("stack %s: read the names in module %s: %w", arg, moduleText(s.ModuleName, s.Module), err)
		}
		frames = locate(s.Frames, symbols)
	}
	if o.format == formatJSON {
		return writeJSON(a.Stdout, frames)
	}
	return writeStack(a.Stdout, s, frames)
}

// locate names frames, which come outermost first.
func locate(frames []snapshot.Frame, symbols *runtime.Symbols) []stackFrame {
	list := make([]stackFrame, len(frames))
	for i := range frames {
		f := frames[len(frames)-1-i]
		l := symbols.Locate(f.Function, f.Offset)
		list[i] = stackFrame{
			Frame:         i,
			FunctionIndex: f.Function,
			Offset:        f.Offset,
			Function:      l.Function,
			Inferred:      l.Inferred,
			File:          l.File,
			Line:          l.Line,
			Inlined:       append([]string{}, l.Inlined...),
		}
	}
	return list
}

func writeStack(w io.Writer, s *snapshot.Snapshot, frames []stackFrame) error {
	var b strings.Builder
	switch {
	case s.Status.Ended():
		fmt.Fprintf(&b, "%s has ended: %s, exit code %d\n", s.Coroutine, s.Status, s.ExitCode)
	case s.Await != nil:
		fmt.Fprintf(&b, "%s at commit %d, in %s (%s)\n", s.Coroutine, s.Seq, cell(s.Await.Import), cell(s.Await.Kind))
	}
	for _, f := range frames {
		for _, inlined := range f.Inlined {
			fmt.Fprintf(&b, "%-5s %s (inlined)\n", "", printable(inlined))
		}
		fmt.Fprintf(&b, "%-5s %s +0x%x", fmt.Sprintf("#%d", f.Frame), cell(f.Function), f.Offset)
		if f.Inferred {
			b.WriteString(" (inferred)")
		}
		if f.File != "" {
			fmt.Fprintf(&b, " %s:%d", printable(f.File), f.Line)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}
