package command

import (
	"context"
	"unicode/utf8"

	"github.com/spf13/cobra"
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

func newLogsCommand(a *app) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Print what a coroutine has written",
		Long: `Print what a coroutine has written up to its last commit, each byte once,
however often it was resumed: what it wrote to standard output on standard
output, what it wrote to standard error on standard error. --stream prints one
of them only, where it belongs.

JSON is an array of objects with the keys stream (stdout or stderr) and data, or
base64 instead of data for what is not UTF-8.`,
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
	stretches := []stretch{}
	if o.format == formatJSON {
		stdout, stderr = gatherer{&stretches, streamStdout}, gatherer{&stretches, streamStderr}
	}
	switch o.stream {
	case streamStdout:
		stderr = nil
	case streamStderr:
		stdout = nil
	}
	err = store.Logs(ctx, id, stdout, stderr)
	if o.format == formatJSON {
		for i := range stretches {
			stretches[i].dataJSON = encodeData(stretches[i].Base64)
		}
		if jerr := writeJSON(a.Stdout, stretches); err == nil {
			err = jerr
		}
	}
	return err
}

// stretch is what a coroutine wrote to one stream before it wrote to the other, as JSON.
type stretch struct {
	Stream string `json:"stream"`
	dataJSON
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
