package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

type sendOptions struct {
	key    string
	line   bool
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

With --line a message is a line, as a program that reads lines wants it: DATA
with a line feed. A file, or standard input, is sent line by line, each as a
message as soon as it is read; with a --key, line N has the key KEY.N.

A message is received once. To be free to send it again when it is not known
whether it was sent, give it a --key, up to 256 bytes of text: of messages with
one key the coroutine receives the first. The others are dropped, also when they
come later, and it is said which.

A coroutine that has ended receives nothing any more: exit code 64.

JSON is an object with the keys id, name, key, sent, bytes, duplicate (a message
with this key is there already) and differs (that one has another name or data);
for what is sent line by line an array of those.`,
		Example: `  durun send job approval '{"by": "anna"}'
  durun send --key order-4711 job order @order.json
  durun send --line job stdin 'hello'
  grep error app.log | durun send --line job stdin -`,
		Args: arguments(2, 3, "a coroutine's ID, or the message's NAME,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSend(cmd.Context(), a, o, args)
		},
		ValidArgsFunction: completeMessage(a),
	}
	cmd.Flags().StringVar(&o.key, "key", "", "send the message once, however often this is repeated: a `text` that no other message has")
	cmd.Flags().BoolVarP(&o.line, "line", "l", false, "send a line, or, of a file or standard input, each line as a message")
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
	data := ""
	if len(args) > 2 {
		data = args[2]
	}
	in, err := a.messageInput(data)
	switch {
	case err != nil:
		return err
	case in != nil:
		defer in.close()
		if o.line {
			return a.sendLines(ctx, store, id, m, in, o.format)
		}
		m.Data, err = in.all()
	case o.line:
		m.Data = []byte(data + "\n")
	default:
		m.Data = []byte(data)
	}
	if err != nil {
		return err
	}
	s, err := a.send(ctx, store, id, m)
	if err == nil && o.format == formatJSON {
		err = writeJSON(a.Stdout, s)
	}
	return err
}

// send sends a message, and says if its key was there already.
func (a *app) send(ctx context.Context, store *store, id string, m snapshot.Message) (sent, error) {
	r, err := store.Send(ctx, id, m)
	if err != nil {
		return sent{}, err
	}
	switch {
	case r.Differs:
		fmt.Fprintf(a.Stderr, "durun: send: another message with the key %s is there already; that one counts, and this one was dropped\n", printable(r.Key))
	case r.Duplicate:
		fmt.Fprintf(a.Stderr, "durun: send: the message with the key %s is there already\n", printable(r.Key))
	}
	return sent{id, m.Name, r.Key, r.Sent, len(m.Data), r.Duplicate, r.Differs}, nil
}

// sendLines sends each line of the input as a message like m, with the line's number after its key.
func (a *app) sendLines(ctx context.Context, store *store, id string, m snapshot.Message, in *messageInput, f format) error {
	list, key := []sent{}, m.Key
	err := in.lines(func(number int, line []byte) error {
		if m.Data = line; key != "" {
			m.Key = key + "." + strconv.Itoa(number)
		}
		s, err := a.send(ctx, store, id, m)
		if err != nil {
			e := a.classify(err)
			e.err = fmt.Errorf("send: line %d: %w", number, e.err)
			return e
		}
		list = append(list, s)
		return nil
	})
	if f == formatJSON {
		if jerr := writeJSON(a.Stdout, list); err == nil {
			err = jerr
		}
	}
	return err
}

// messageInput is where the data of messages comes from.
type messageInput struct {
	name  string
	r     *bufio.Reader
	close func() error
}

// messageInput opens what an argument @FILE or - stands for. It returns nil for one that is the data itself.
func (a *app) messageInput(arg string) (*messageInput, error) {
	if file, ok := strings.CutPrefix(arg, "@"); ok {
		f, err := os.Open(file)
		if err != nil {
			return nil, inputError(fmt.Errorf("send: %w", err), "data that begins with @ has to come from standard input, with -")
		}
		return &messageInput{file, bufio.NewReader(f), f.Close}, nil
	}
	if arg == "-" {
		return &messageInput{"standard input", bufio.NewReader(a.Stdin), func() error { return nil }}, nil
	}
	return nil, nil
}

// all reads all there is, as one message.
func (in *messageInput) all() ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in.r, snapshot.MaxMessageData+1))
	if err != nil {
		return nil, in.failed(err)
	}
	if len(data) > snapshot.MaxMessageData {
		return nil, usageError("send: %s: more than the %s that a message may have", in.name, humanBytes(snapshot.MaxMessageData))
	}
	return data, nil
}

// lines calls f with each line and its number, which count from 1. Each has its line feed, the last one too if it had none.
func (in *messageInput) lines(f func(number int, line []byte) error) error {
	for number := 1; ; number++ {
		var line []byte
		for {
			piece, err := in.r.ReadSlice('\n')
			line = append(line, piece...)
			if len(line) > snapshot.MaxMessageData {
				return usageError("send: %s: line %d has more than the %s of a message", in.name, number, humanBytes(snapshot.MaxMessageData))
			}
			switch {
			case err == nil:
			case errors.Is(err, bufio.ErrBufferFull):
				continue
			case !errors.Is(err, io.EOF):
				return in.failed(err)
			case len(line) == 0:
				return nil
			default:
				line = append(line, '\n')
			}
			break
		}
		if err := f(number, line); err != nil {
			return err
		}
	}
}

func (in *messageInput) failed(err error) error {
	return inputError(fmt.Errorf("send: read %s: %w", in.name, err), "")
}
