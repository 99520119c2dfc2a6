package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

type resultOptions struct {
	format format
}

func newResultCommand(a *app) *cobra.Command {
	var o resultOptions
	cmd := &cobra.Command{
		Use:   "result ID[@SEQ]",
		Short: "Print what a coroutine has returned",
		Long: `Print the result of a coroutine that has ended: the bytes that it has set with
durun.output, or written to /durun/output, as they are. They are what a parent
gets of its child. Of a coroutine that has not ended, or of an earlier commit,
it is what was set by then: say so with ID@SEQ.

JSON is an object with the keys id, status, exit_code (null until the end), and
data, or base64 instead of data for what is not UTF-8.`,
		Example: "  durun result job\n  durun result job@3 -o json",
		Args:    arguments(1, 1, "a coroutine's ID, or ID@SEQ,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runResult(cmd.Context(), a, o, args[0])
		},
		ValidArgsFunction: completeIDs(a, 1, nil),
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

// result is what a coroutine has returned, as JSON.
type result struct {
	ID       string          `json:"id"`
	Status   snapshot.Status `json:"status"`
	ExitCode *uint32         `json:"exit_code"`
	dataJSON
}

func runResult(ctx context.Context, a *app, o resultOptions, arg string) (err error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	s, c, err := store.load(ctx, arg)
	if err != nil {
		return err
	}
	data, err := runtime.ResultOf(s)
	if err != nil {
		return err
	}
	if o.format == formatJSON {
		r := result{ID: c.Coroutine, Status: c.Status, dataJSON: encodeData(data)}
		if c.Status.Ended() {
			r.ExitCode = &s.ExitCode
		}
		return writeJSON(a.Stdout, r)
	}
	if !c.Status.Ended() && arg == c.Coroutine {
		return &exitError{
			code:   exitUsage,
			err:    fmt.Errorf("result %s: it has not ended", c.Coroutine),
			advice: "what it has set by now: " + a.commandLine("result", fmt.Sprintf("%s@%d", c.Coroutine, c.Seq)),
		}
	}
	_, err = a.Stdout.Write(data)
	return err
}
