package command

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

type inspectOptions struct {
	format format
}

func newInspectCommand(a *app) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect ID[@SEQ]",
		Short: "Print the facts of one commit",
		Long: `Print what the last commit of a coroutine says, or commit SEQ: its module, what
it waits for (or, if it is running, that it computes now), and the sizes of what
it is made of. "durun stack" prints its call stack.

JSON is an object with the keys of "durun ps" and driver (an object with host,
pid and since, or null if nobody drives it or the store doesn't say who), entry,
args and results (arrays of objects with type and bits), kind, bytes, hash, key
(the id of the key that it is encrypted under, or empty), parent, chain (of a
delta: an object with base, what it is against, root, the full snapshot that it
goes back to, and objects, how many are read to restore it; else null),
in_start, frames, memory (an object with bytes, max, 0 for none, and pages, how
many of 4 KiB are in the commit), globals, tables (an array of objects with
index and elements), dropped_data, dropped_elements, host (an array of objects
with name, version and bytes), operations (an array of objects with number,
kind, name, key, begun, due, attempts, throttled, last_attempt, last_error,
next_attempt, status, message and bytes; due is null where there is none, and
status is pending, ok or why it failed; attempts is the number of a call's last
attempt, throttled how often those of that number were, last_attempt when it
started, last_error why the last that has ended failed, and next_attempt when
there is another, or null while one is under way; that an attempt failed is in a
commit some seconds later, or a minute, when many have), result (its length in
bytes), messages (an array of objects with name, key, sent, bytes and problem,
why it can't be read, or empty; those that wait now, if this is the last
commit), output (an object with stdout and stderr, the bytes written since the
commit before) and grants (what the run was given: an array of objects with
kind, name, value and flags).`,
		Example: "  durun inspect job\n  durun inspect job@3 -o json",
		Args:    arguments(1, 1, "a coroutine's ID, or ID@SEQ,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInspect(cmd.Context(), a, o, args[0])
		},
		ValidArgsFunction: completeReference(a, nil),
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

// facts is what inspect tells of a commit, as JSON.
type facts struct {
	coroutine
	Driver          *driverFacts `json:"driver"` // nil if nobody drives it, or if who does is not known
	Entry           string       `json:"entry"`
	Args            []value      `json:"args"`
	Results         []value      `json:"results"`
	Kind            string       `json:"kind"`
	Bytes           int64        `json:"bytes"`
	Hash            string       `json:"hash"`   // of the encoded commit
	Key             string       `json:"key"`    // that it is encrypted under, empty for none
	Parent          *uint64      `json:"parent"` // nil for the first commit
	Chain           *chainFacts  `json:"chain"`  // nil for a full snapshot
	InStart         bool         `json:"in_start"`
	Frames          int          `json:"frames"`
	Memory          memoryFacts  `json:"memory"`
	Globals         int          `json:"globals"`
	Tables          []tableFacts `json:"tables"`
	DroppedData     int          `json:"dropped_data"`
	DroppedElements int          `json:"dropped_elements"`
	Host            []hostFacts  `json:"host"`
	Operations      []operation  `json:"operations"`
	Result          int          `json:"result"` // bytes
	Messages        []message    `json:"messages"`
	Output          outputFacts  `json:"output"`
	Grants          []grantFacts `json:"grants"`
}

type value struct {
	Type string `json:"type"`
	Bits string `json:"bits"` // hexadecimal: JSON's numbers can't hold them all
}

type driverFacts struct {
	Host  string `json:"host"`
	PID   int    `json:"pid"`
	Since moment `json:"since"`
}

// chainFacts is what a delta needs.
type chainFacts struct {
	Base    string `json:"base"`    // what it is a delta against
	Root    string `json:"root"`    // the full snapshot at the chain's beginning
	Objects uint64 `json:"objects"` // to be read for a restore, with the delta's own
}

type memoryFacts struct {
	Bytes uint64 `json:"bytes"`
	Max   uint64 `json:"max"`   // 0 for none
	Pages int    `json:"pages"` // of 4 KiB, that the commit has: whole, or what has changed in them
}

type tableFacts struct {
	Index    uint32 `json:"index"`
	Elements int    `json:"elements"`
}

type hostFacts struct {
	Name    string `json:"name"`
	Version uint32 `json:"version"`
	Bytes   int    `json:"bytes"`
}

// operation is one that the coroutine has begun and not dropped.
type operation struct {
	Number uint32  `json:"number"`
	Kind   string  `json:"kind"`
	Name   string  `json:"name"`
	Key    string  `json:"key"`
	Begun  moment  `json:"begun"`
	Due    *moment `json:"due"` // nil but for a timer that has not ended

	// Of a call that has not ended:

	Attempts    int    `json:"attempts"`     // the number of the last attempt
	Throttled   int    `json:"throttled"`    // how often those of that number were
	LastAttempt moment `json:"last_attempt"` // when it started
	LastError   string `json:"last_error"`   // of the last attempt that has ended
	NextAttempt moment `json:"next_attempt"` // null while one is under way

	Status  string `json:"status"`
	Message string `json:"message"`
	Bytes   int    `json:"bytes"` // of the body, or the result once it has ended
}

// message is one that waits for the coroutine.
type message struct {
	Name    string `json:"name"`
	Key     string `json:"key"`
	Sent    moment `json:"sent"`
	Bytes   int64  `json:"bytes"`
	Problem string `json:"problem"` // why it can't be read; then only Key, which is its object's name, and Sent are known
}

// outputFacts are the bytes written since the commit before.
type outputFacts struct {
	Stdout int `json:"stdout"`
	Stderr int `json:"stderr"`
}

type grantFacts struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Value string `json:"value"`
	Flags string `json:"flags"`
}

func runInspect(ctx context.Context, a *app, o inspectOptions, arg string) (err error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	s, c, err := store.load(ctx, arg)
	if err != nil {
		return err
	}
	// A commit is running if it is the last one of a coroutine that somebody drives.
	running := false
	var by snapshot.Holder
	var waiting []snapshot.Message
	if head, err := store.Head(ctx, c.Coroutine); err == nil && head.Seq == c.Seq {
		if waiting, err = store.PeekInbox(ctx, c.Coroutine); err != nil {
			return err
		}
		driven, err := store.Driven(ctx)
		if err != nil {
			return err
		}
		by, running = driven(c.Coroutine)
	}
	f := gatherFacts(s, c, running)
	if err := f.gatherOperations(s); err != nil {
		return err
	}
	for _, m := range waiting {
		f.Messages = append(f.Messages, describeMessage(m))
	}
	f.heed(by)
	if running && by.PID != 0 {
		f.Driver = &driverFacts{by.Host, by.PID, moment{by.Since}}
	}
	if o.format == formatJSON {
		return writeJSON(a.Stdout, f)
	}
	return writeFacts(a.Stdout, f, time.Now())
}

func gatherFacts(s *snapshot.Snapshot, c snapshot.Commit, running bool) facts {
	f := facts{
		coroutine: describe(c.Manifest, running),
		Kind:      c.Kind.String(),
		Bytes:     c.Bytes,
		Hash:      c.Hash.String(),
		Key:       keyText(c.Key),
		Entry:     s.Entry,
		Args:      describeValues(s.Args),
		Results:   describeValues(s.Results),
		InStart:   s.InStart,
		Frames:    len(s.Frames),
		Memory: memoryFacts{
			Bytes: s.Memory.Size, Max: s.Memory.Max, Pages: c.Pages,
		},
		Globals:         len(s.Globals),
		Tables:          []tableFacts{},
		DroppedData:     len(s.DroppedData),
		DroppedElements: len(s.DroppedElements),
		Host:            []hostFacts{},
		Messages:        []message{},
		Grants:          []grantFacts{},
	}
	if s.Parent != nil {
		f.Parent = &s.Parent.Seq
	}
	if o := c.Origin; o != nil {
		f.Chain = &chainFacts{Base: c.Base().String(), Root: o.Root.String(), Objects: c.Seq - o.Anchor + 2}
	}
	for _, t := range s.Tables {
		f.Tables = append(f.Tables, tableFacts{t.Index, len(t.Elements)})
	}
	for _, h := range s.Host {
		// Parts of a module's state come after it.
		if k := len(f.Host) - 1; k >= 0 && strings.HasPrefix(h.Name, f.Host[k].Name+"#") {
			f.Host[k].Bytes += len(h.Data)
			continue
		}
		f.Host = append(f.Host, hostFacts{h.Name, h.Version, len(h.Data)})
	}
	for _, out := range s.Output {
		switch out.Stream {
		case 1:
			f.Output.Stdout += len(out.Data)
		case 2:
			f.Output.Stderr += len(out.Data)
		}
	}
	for _, g := range s.Grants {
		if g.Kind == grantHandler {
			g.Value = handlerText(g.Value)
		}
		f.Grants = append(f.Grants, grantFacts{g.Kind, g.Name, g.Value, g.Flags})
	}
	return f
}

// gatherOperations adds what the coroutine has begun, and the size of its result.
func (f *facts) gatherOperations(s *snapshot.Snapshot) error {
	ops, err := runtime.OperationsOf(s)
	if err != nil {
		return err
	}
	f.Operations = []operation{}
	for _, o := range ops {
		described := operation{
			Number: o.Number, Kind: o.Kind.String(), Name: o.Name, Key: o.Key, Begun: moment{o.Begun},
			Status: hostabi.CodePending.String(), Message: o.Message, Bytes: o.Size,
			Attempts: o.Progress.Attempt, Throttled: o.Progress.Throttled, LastAttempt: moment{o.Progress.Started},
			LastError: o.Progress.Err, NextAttempt: moment{o.Progress.Next},
		}
		if o.Ended {
			described.Status = o.Code.String()
		} else if o.Kind == hostabi.Timer {
			described.Due = &moment{o.Due}
		}
		f.Operations = append(f.Operations, described)
	}
	result, err := runtime.ResultOf(s)
	f.Result = len(result)
	return err
}

func describeMessage(m snapshot.Message) message {
	described := message{Name: m.Name, Key: m.Key, Sent: moment{m.Sent}, Bytes: m.Bytes}
	if m.Err != nil {
		described.Problem = m.Err.Error()
	}
	return described
}

// maxOperationLines is how many operations, and how many messages, are listed for people.
const maxOperationLines = 20

// text is for people.
func (o *operation) text(now time.Time) string {
	t := fmt.Sprintf("%d, %s", o.Number, o.Kind)
	if o.Name != "" {
		t += " " + cell(strings.TrimSpace(strings.ReplaceAll(o.Name, "\x00", " ")))
	}
	t += ": " + o.Status
	if o.Message != "" {
		t += ", " + cell(o.Message)
	}
	if o.Attempts > 0 {
		t += ", " + o.attemptText(now)
	}
	if o.Due != nil {
		t += ", due " + humanTime(o.Due.Time, now)
	}
	return t
}

// attemptText says how far a call has come: "attempt 4, 3 seconds ago: 500 Internal Server Error; the next in 5 seconds".
func (o *operation) attemptText(now time.Time) string {
	t := fmt.Sprintf("attempt %d", o.Attempts)
	if o.Throttled > 0 {
		t += fmt.Sprintf(", throttled %d×", o.Throttled)
	}
	t += ", " + humanTime(o.LastAttempt.Time, now)
	switch {
	case o.NextAttempt.IsZero() && o.LastError != "":
		return t + ", after: " + cell(o.LastError)
	case o.NextAttempt.IsZero():
		return t
	case o.NextAttempt.After(now):
		return t + ": " + cell(o.LastError) + "; the next " + humanTime(o.NextAttempt.Time, now)
	}
	return t + ": " + cell(o.LastError) + "; the next was due " + humanTime(o.NextAttempt.Time, now)
}

func describeValues(values []snapshot.Value) []value {
	list := make([]value, len(values))
	for i, v := range values {
		list[i] = describeValue(v)
	}
	return list
}

func describeValue(v snapshot.Value) value {
	switch v.Type {
	case snapshot.I32:
		return value{"i32", fmt.Sprintf("0x%08x", uint32(v.Lo))}
	case snapshot.I64:
		return value{"i64", fmt.Sprintf("0x%016x", v.Lo)}
	case snapshot.F32:
		return value{"f32", fmt.Sprintf("0x%08x", uint32(v.Lo))}
	case snapshot.F64:
		return value{"f64", fmt.Sprintf("0x%016x", v.Lo)}
	case snapshot.V128:
		return value{"v128", fmt.Sprintf("0x%016x%016x", v.Hi, v.Lo)}
	case snapshot.FuncRef:
		return value{"funcref", fmt.Sprintf("0x%08x", uint32(v.Lo))}
	}
	return value{fmt.Sprintf("type 0x%02x", byte(v.Type)), fmt.Sprintf("0x%016x", v.Lo)}
}

func writeFacts(w io.Writer, f facts, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	line("id", "%s", f.ID)
	line("commit", "%d, %s, %s", f.Seq, f.Kind, humanBytes(uint64(f.Bytes)))
	if f.Chain != nil {
		line("chain", "against %s; %d objects, from %s on", f.Chain.Base, f.Chain.Objects, f.Chain.Root)
	}
	if f.Key != "" {
		line("key", "%s", f.Key)
	}
	line("time", "%s (%s)", f.Updated.Local().Format(time.RFC3339), humanTime(f.Updated.Time, now))
	line("status", "%s", f.Status)
	if f.Driver != nil {
		line("driver", "process %d on %s, since %s (%s)", f.Driver.PID, printable(f.Driver.Host), f.Driver.Since.Local().Format(time.RFC3339), humanTime(f.Driver.Since.Time, now))
	}
	if f.ExitCode != nil {
		line("exit code", "%d", *f.ExitCode)
	}
	if f.Error != "" {
		line("error", "%s", strings.ReplaceAll(strings.TrimSpace(f.Error), "\n", "\n\t"))
	}
	if f.Computing != nil {
		line("computing", "since %s (%s)", f.Computing.Local().Format(time.RFC3339), humanTime(f.Computing.Time, now))
	}
	if f.Waiting != nil {
		line("waiting", "%s: %s", f.Waiting.Kind, f.Waiting.text(now))
	}
	line("module", "%s %s", cell(f.ModuleName), f.Module)
	line("entry", "%s(%s)%s", printable(f.Entry), valuesText(f.Args), arrow(valuesText(f.Results)))
	frames := strconv.Itoa(f.Frames)
	if f.InStart {
		frames += ", in the module's start function"
	}
	line("frames", "%s", frames)
	if f.Memory.Bytes > 0 {
		limit := ""
		if f.Memory.Max > 0 {
			limit = ", limit " + humanBytes(f.Memory.Max)
		}
		line("memory", "%s (%d pages of 64 KiB%s)", humanBytes(f.Memory.Bytes), f.Memory.Bytes/snapshot.WasmPageSize, limit)
		line("", "%d pages of 4 KiB in the commit", f.Memory.Pages)
	} else {
		line("memory", "-")
	}
	line("globals", "%d", f.Globals)
	for _, table := range f.Tables {
		line("table", "%d: %d elements", table.Index, table.Elements)
	}
	if f.DroppedData+f.DroppedElements > 0 {
		line("dropped", "%d data segments, %d element segments", f.DroppedData, f.DroppedElements)
	}
	for _, h := range f.Host {
		line("host", "%s version %d, %s", printable(h.Name), h.Version, humanBytes(uint64(h.Bytes)))
	}
	for i, o := range f.Operations {
		if i == maxOperationLines {
			line("", "and %d more operations", len(f.Operations)-i)
			break
		}
		line("operation", "%s", o.text(now))
	}
	if f.Result > 0 {
		line("result", "%s", humanBytes(uint64(f.Result)))
	}
	for i, m := range f.Messages {
		if i == maxOperationLines {
			line("", "and %d more messages", len(f.Messages)-i)
			break
		}
		what := fmt.Sprintf("%s, %s", cell(m.Name), humanBytes(uint64(m.Bytes)))
		if m.Problem != "" {
			what = "unreadable: " + cell(m.Problem)
		}
		line("message", "%s, sent %s", what, humanTime(m.Sent.Time, now))
	}
	line("output", "%s stdout, %s stderr since the commit before", humanBytes(uint64(f.Output.Stdout)), humanBytes(uint64(f.Output.Stderr)))
	for _, g := range f.Grants {
		text := printable(g.Value) + " as " + printable(g.Name)
		switch g.Kind {
		case grantPolicy:
			text = printable(g.Value) + " for " + printable(g.Name)
		case runtime.GrantLimit:
			text = printable(g.Name) + " " + printable(g.Value)
		}
		switch {
		case g.Flags == "":
		case g.Kind == grantHandler:
			text += ", in " + printable(g.Flags)
		default:
			text += ", " + printable(g.Flags)
		}
		line("grant", "%s %s", printable(g.Kind), text)
	}
	return t.Flush()
}

func valuesText(values []value) string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = v.Type + " " + v.Bits
	}
	return strings.Join(list, ", ")
}

func arrow(results string) string {
	if results == "" {
		return ""
	}
	return " -> " + results
}
