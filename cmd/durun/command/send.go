package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

type sendOptions struct {
	key    string
	format format
}

func newSendCommand(a *app) *cobra.Command {
	var o sendOptions
	cmd := &cobra.Command{
		Use:   "send [flags] ID NAME [DATA | @FILE | -]",
		Short: "Send a message to a coroutine",
		Long: `Send a message to a coroutine. It waits in the store until the coroutine
receives it, by its name: at once if somebody drives it, else when it is driven
on. What was sent first is received first. NAME is up to 256 bytes of text;
names that begin with "durun." are durun's own.

The data is the argument itself, the content of a file, or standard input, and
empty without one; up to 16 MiB. Data that begins with @, or is -, has to come
from a file or standard input.

A message is received once. To be free to send it again when it is not known
whether it was sent, give it a --key, up to 256 bytes of text: of messages with
one key the coroutine receives the first. The others are dropped, also when they
come later, and it is said which.

A coroutine that has ended receives nothing any more: exit code 64.

JSON is an object with the keys id, name, key, sent, bytes, duplicate (a message
with this key is there already) and differs (that one has another name or data).`,
		Example: `  durun send job approval '{"by": "anna"}'
  durun send --key order-4711 job order @order.json
  date | durun send job stdin -`,
		Args: arguments(2, 3, "a coroutine's ID, or the message's NAME,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSend(cmd.Context(), a, o, args)
		},
		ValidArgsFunction: completeMessage(a),
	}
	cmd.Flags().StringVar(&o.key, "key", "", "send the message once, however often this is repeated: a `text` that no other message has")
	addFormatFlag(cmd, &o.format)
	return cmd
}

// sent is what send tells, as JSON.
type sent struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Key       string    `json:"key"`
	Sent      time.Time `json:"sent"`
	Bytes     int       `json:"bytes"`
	Duplicate bool      `json:"duplicate"`
	Differs   bool      `json:"differs"`
}

func runSend(ctx context.Context, a *app, o sendOptions, args []string) (err error) {
	m := snapshot.Message{Name: args[1], Key: o.key}
	if strings.HasPrefix(m.Name, snapshot.ReservedMessages) {
		advice := "take another name"
		if m.Name == snapshot.CancelMessage {
			advice = "to cancel a coroutine: " + a.commandLine("cancel", args[0])
		}
		return &exitError{code: exitUsage, err: fmt.Errorf("send: %s: names that begin with %q are durun's own", m.Name, snapshot.ReservedMessages), advice: advice}
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	id, err := store.resolve(ctx, args[0])
	if err != nil {
		return err
	}
	if len(args) > 2 {
		if m.Data, err = a.messageData(args[2]); err != nil {
			return err
		}
	}
	r, err := store.Send(ctx, id, m)
	if err != nil {
		return err
	}
	if o.format == formatJSON {
		return writeJSON(a.Stdout, sent{id, m.Name, r.Key, r.Sent, len(m.Data), r.Duplicate, r.Differs})
	}
	switch {
	case r.Differs:
		fmt.Fprintf(a.Stderr, "durun: send: another message with the key %s is there already; that one counts, and this one was dropped\n", printable(r.Key))
	case r.Duplicate:
		fmt.Fprintf(a.Stderr, "durun: send: this message is there already\n")
	}
	return nil
}

// messageData reads what an argument DATA, @FILE or - stands for.
func (a *app) messageData(arg string) ([]byte, error) {
	r, name := a.Stdin, "standard input"
	file, isFile := strings.CutPrefix(arg, "@")
	switch {
	case isFile:
		f, err := os.Open(file)
		if err != nil {
			return nil, inputError(fmt.Errorf("send: %w", err), "data that begins with @ has to come from standard input, with -")
		}
		defer f.Close()
		r, name = f, file
	case arg != "-":
		return []byte(arg), nil
	}
	data, err := io.ReadAll(io.LimitReader(r, snapshot.MaxMessageData+1))
	if err != nil {
		return nil, inputError(fmt.Errorf("send: read %s: %w", name, err), "")
	}
	if len(data) > snapshot.MaxMessageData {
		return nil, usageError("send: %s: more than the %s that a message may have", name, humanBytes(snapshot.MaxMessageData))
	}
	return data, nil
}
