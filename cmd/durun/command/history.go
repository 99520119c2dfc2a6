package command

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

type historyOptions struct {
	format format
}

func newHistoryCommand(a *app) *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:   "history ID",
		Short: "List a coroutine's commits",
		Long: `List the commits of a coroutine that the store has, the first one first.

KIND is full for a snapshot that stands on the module alone, delta for one that
stands on the commit before. BYTES is its size in the store, PAGES the number of
4 KiB memory pages in it, AWAIT what the program waited for.

JSON is an array of objects with the keys seq, kind, bytes, pages, time, status,
await (an object with kind, detail and until, or null at the end), key (the id
of the key that it is encrypted under, or empty) and, for a commit that can't be
read, error; time is null then. If the key isn't there, detail is empty.`,
		Example: "  durun history job\n  durun inspect job@3",
		Args:    arguments(1, 1, "a coroutine's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runHistory(cmd.Context(), a, o, args[0])
		},
		ValidArgsFunction: completeIDs(a, 1, nil),
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

// commit is what history tells of one, as JSON.
type commit struct {
	Seq    uint64          `json:"seq"`
	Kind   string          `json:"kind"`
	Bytes  int64           `json:"bytes"`
	Pages  int             `json:"pages"`
	Time   moment          `json:"time"`
	Status snapshot.Status `json:"status"`
	Await  *waiting        `json:"await"`
	Key    string          `json:"key"`
	Error  string          `json:"error,omitempty"` // why it can't be read
}

func runHistory(ctx context.Context, a *app, o historyOptions, arg string) (err error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	id, err := store.resolve(ctx, arg)
	if err != nil {
		return err
	}
	list, err := store.History(ctx, id)
	if err != nil {
		return err
	}
	commits := make([]commit, len(list))
	for i, c := range list {
		commits[i] = commit{Seq: c.Seq, Bytes: c.Bytes, Status: statusUnreadable}
		if c.Err != nil {
			commits[i].Error = c.Err.Error()
			continue
		}
		commits[i] = commit{
			Seq: c.Seq, Kind: c.Kind.String(), Bytes: c.Bytes, Pages: c.Pages, Time: moment{c.Time},
			Status: c.Status, Await: describeAwait(c.Await), Key: keyText(c.Key),
		}
	}
	if o.format == formatJSON {
		return writeJSON(a.Stdout, commits)
	}
	rows := [][]string{{"SEQ", "KIND", "BYTES", "PAGES", "TIME", "AWAIT"}}
	for _, c := range commits {
		await := string(c.Status)
		if c.Await != nil {
			await = cell(c.Await.Kind)
			if c.Await.Detail != "" {
				await += ": " + printable(c.Await.Detail)
			}
		}
		rows = append(rows, []string{
			strconv.FormatUint(c.Seq, 10), cell(c.Kind), humanBytes(uint64(c.Bytes)), strconv.Itoa(c.Pages),
			c.Time.text("2006-01-02 15:04:05.000"), await,
		})
	}
	return writeTable(a.Stdout, rows)
}
