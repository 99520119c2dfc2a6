package command

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

type logsOptions struct {
	stream string
	format format
}

// The names of a coroutine's streams.
const (
	streamStdout = "stdout"
	streamStderr = "stderr"
)

// streamLost stands in JSON for output that can't be read.
const streamLost = "lost"

func newLogsCommand(a *app) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Print what a coroutine has written",
		Long: `Print what a coroutine has written up to its last commit, each byte once,
however often it was resumed: what it wrote to standard output on standard
output, what it wrote to standard error on standard error. --stream prints one
of them only, where it belongs.

What is damaged or missing in the store is skipped: standard error says, in its
place, which commits' output that is and why, and the exit code is 65 in the
end. "durun check" tells more.

JSON is an array of objects with the keys stream (stdout or stderr) and data, or
base64 instead of data for what is not UTF-8. In the place of lost output stands
an object with stream lost, first and last (the commits), and problem.`,
		Example: "  durun logs job\n  durun logs --stream stderr job 2>errors.txt",
		Args:    arguments(1, 1, "a coroutine's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLogs(cmd.Context(), a, o, args[0])
		},
		ValidArgsFunction: completeIDs(a, 1, nil),
	}
	cmd.Flags().StringVar(&o.stream, "stream", "", "only this `stream`: stdout or stderr")
	_ = cmd.RegisterFlagCompletionFunc("stream", cobra.FixedCompletions([]string{streamStdout, streamStderr}, cobra.ShellCompDirectiveNoFileComp))
	addFormatFlag(cmd, &o.format)
	return cmd
}

func runLogs(ctx context.Context, a *app, o logsOptions, arg string) (err error) {
	switch o.stream {
	case "", streamStdout, streamStderr:
	default:
		return usageError("logs: --stream %q is neither %s nor %s", o.stream, streamStdout, streamStderr)
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	id, err := store.resolve(ctx, arg)
	if err != nil {
		return err
	}
	stdout, stderr := a.Stdout, a.Stderr
	stretches, lost := []stretch{}, uint64(0)
	note := func(l snapshot.Lost) {
		lost += l.Last - l.First + 1
		fmt.Fprintf(a.Stderr, "durun: logs: lost: the output of %s: %s\n", commitsText(l.First, l.Last), printable(l.Err.Error()))
	}
	if o.format == formatJSON {
		stdout, stderr = gatherer{&stretches, streamStdout}, gatherer{&stretches, streamStderr}
		tell := note
		note = func(l snapshot.Lost) {
			tell(l)
			stretches = append(stretches, stretch{Stream: streamLost, First: l.First, Last: l.Last, Problem: l.Err.Error()})
		}
	}
	switch o.stream {
	case streamStdout:
		stderr = nil
	case streamStderr:
		stdout = nil
	}
	err = store.SalvageLogs(ctx, id, stdout, stderr, note)
	if o.format == formatJSON {
		for i, s := range stretches {
			if s.Stream != streamLost {
				stretches[i].dataJSON = encodeData(s.Base64)
			}
		}
		if jerr := writeJSON(a.Stdout, stretches); err == nil {
			err = jerr
		}
	}
	if err == nil && lost > 0 {
		return dataError(fmt.Errorf("logs: the output of %s of %s is lost", count(int(lost), "commit", "commits"), id),
			"what else is damaged: "+a.commandLine("check", id))
	}
	return err
}

// commitsText names commits.
func commitsText(first, last uint64) string {
	if first == last {
		return fmt.Sprintf("commit %d", first)
	}
	return fmt.Sprintf("commits %d to %d", first, last)
}

// stretch is what a coroutine wrote to one stream before it wrote to the other, or the place of output that is lost, as JSON.
type stretch struct {
	Stream string `json:"stream"`
	dataJSON
	First   uint64 `json:"first,omitempty"` // the lost commits
	Last    uint64 `json:"last,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// dataJSON is bytes as JSON: as text if they are.
type dataJSON struct {
	Data   *string `json:"data,omitempty"`
	Base64 []byte  `json:"base64,omitempty"`
}

func encodeData(b []byte) dataJSON {
	if !utf8.Valid(b) {
		return dataJSON{Base64: b}
	}
	text := string(b)
	return dataJSON{Data: &text}
}

// gatherer gathers a stream's output.
type gatherer struct {
	list   *[]stretch
	stream string
}

func (c gatherer) Write(p []byte) (int, error) {
	if n := len(*c.list); n == 0 || (*c.list)[n-1].Stream != c.stream {
		*c.list = append(*c.list, stretch{Stream: c.stream})
	}
	last := &(*c.list)[len(*c.list)-1]
	last.Base64 = append(last.Base64, p...)
	return len(p), nil
}
