package guests_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// An example is one of the programs that each SDK comes with, and what it does in all languages.
type example struct {
	name     string
	input    string
	messages []string // under the name "approval", as soon as the coroutine exists
	stdout   string
	calls    map[string][]string // bodies by handler; those of send_email sorted
	yields   []string            // what it hands out, as often as it is received
}

var examples = []example{
	{name: "generator", stdout: "received 55\n", yields: []string{"1", "4", "9", "16", "25"}},
	{name: "sleep", stdout: "tick 1\ntick 2\ntick 3\n"},
	{
		name:   "notify_users",
		input:  ` {"opid": "op-1", "emails": ["a@example.org", "b \"]\"@example.org" , "c@example.org"]}`,
		stdout: "stored 3\n",
		calls: map[string][]string{
			"send_email": {`{"to":"a@example.org"}`, `{"to":"b \"]\"@example.org"}`, `{"to":"c@example.org"}`},
			"store_results": {
				`{"opid":"op-1","results":[{"sent":"a@example.org"},{"sent":"b \"]\"@example.org"},{"sent":"c@example.org"}]}`,
			},
		},
	},
	{
		name: "notify_users", input: `{"emails":[],"opid":"op-2"}`, stdout: "stored 0\n",
		calls: map[string][]string{"store_results": {`{"opid":"op-2","results":[]}`}},
	},
	{name: "approval", messages: []string{`"yes"`}, input: `{"timeout": 60}`, stdout: "approved\n"},
	{name: "approval", messages: []string{`"no"`, `"yes"`}, input: `{"timeout": 60.5}`, stdout: "declined\n"},
	{name: "approval", input: `{"timeout":0.05}`, stdout: "timed out\n"},
	{name: "fanout", stdout: "sum 55\n"},
}

// TestExamples runs the SDKs' examples, each in one go, and suspended at each await, to go on in another instance that is
// restored from the store.
func TestExamples(t *testing.T) {
	manifest, err := guests.Manifest(testdata)
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range []string{"c", "assemblyscript"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			rt, err := runtime.New(t.Context(), runtime.NewConfig().WithModules(wasi.Module))
			if err != nil {
				t.Fatal(err)
			}
			defer rt.Close(t.Context())
			modules := map[string]*runtime.Module{}
			for i, e := range examples {
				m := modules[e.name]
				if m == nil {
					at := slices.IndexFunc(manifest, func(g guests.Guest) bool { return g.Name == language+"-"+e.name })
					if at < 0 {
						t.Fatalf("no %s-%s", language, e.name)
					}
					bin, err := manifest[at].Bytes(testdata)
					if err != nil {
						t.Fatal(err)
					}
					if m, err = rt.Compile(t.Context(), bin); err != nil {
						t.Fatal(err)
					}
					modules[e.name] = m
				}
				for _, kill := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s-%d/killed=%v", e.name, i, kill), func(t *testing.T) { e.run(t, m, kill) })
				}
			}
		})
	}
}

// run runs the example, with a driver of its own for each commit if kill is set.
func (e *example) run(t *testing.T, module *runtime.Module, kill bool) {
	store := snapshot.NewStore(bucket.NewMem())
	w := &world{store: store, module: module, kill: kill, calls: map[string]map[string]string{}}
	set := &handler.Set{}
	set.Handle("send_email", w.sendEmail, handler.Policy{})
	set.Handle("store_results", w.storeResults, handler.Policy{})
	w.outside = &runtime.Outside{Handlers: set, Children: w}

	var yields []string
	yield := func(value []byte) []byte {
		if v := string(value); len(yields) == 0 || yields[len(yields)-1] != v { // at least once
			yields = append(yields, v)
		}
		return value
	}
	messages := e.messages
	started := func() {
		for i, m := range messages {
			if _, err := store.Send(t.Context(), "example", snapshot.Message{Name: "approval", Key: fmt.Sprint(i), Data: []byte(m)}); err != nil {
				t.Fatal(err)
			}
		}
		messages = nil
	}
	program := wasi.Config{Args: []string{e.name}}
	c := w.live(t.Context(), runtime.StartConfig{ID: "example", Input: []byte(e.input)}, program, yield, started)
	if c.err != nil || c.status != snapshot.Completed {
		t.Fatalf("%v: %v", c.status, c.err)
	}
	var stdout, stderr bytes.Buffer
	if err := store.Logs(t.Context(), "example", &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != e.stdout || stderr.Len() > 0 {
		t.Errorf("prints %q and %q, not %q", &stdout, &stderr, e.stdout)
	}
	if diff := cmp.Diff(e.yields, yields); diff != "" {
		t.Errorf("values handed out (-want +got):\n%s", diff)
	}
	calls := map[string][]string{}
	for name, bodies := range w.calls {
		for _, body := range bodies {
			calls[name] = append(calls[name], body)
		}
		slices.Sort(calls[name])
	}
	if len(calls) == 0 {
		calls = nil
	}
	if diff := cmp.Diff(e.calls, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if kill && c.lives < 2 {
		t.Errorf("it went through in %d lives", c.lives)
	}
}

// world is what is outside of an example: handlers, and who drives its children.
type world struct {
	store   *snapshot.Store
	module  *runtime.Module
	kill    bool
	outside *runtime.Outside

	mu    sync.Mutex
	calls map[string]map[string]string // bodies by handler and idempotency key
}

// called notes a call. It reports whether it is the first under that key.
func (w *world) called(c handler.Call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls[c.Name] == nil {
		w.calls[c.Name] = map[string]string{}
	}
	_, again := w.calls[c.Name][c.Key]
	w.calls[c.Name][c.Key] = string(c.Body)
	return !again
}

// sendEmail fails each first time, after it has done its work.
func (w *world) sendEmail(_ context.Context, c handler.Call) ([]byte, error) {
	if w.called(c) {
		return nil, errors.New("try again")
	}
	var mail struct {
		To json.RawMessage `json:"to"`
	}
	if err := json.Unmarshal(c.Body, &mail); err != nil {
		return nil, handler.Final(err)
	}
	return fmt.Appendf(nil, `{"sent":%s}`, mail.To), nil
}

func (w *world) storeResults(_ context.Context, c handler.Call) ([]byte, error) {
	w.called(c)
	return []byte(`{"ok":true}`), nil
}

// ended is how a coroutine ended, and in how many lives.
type ended struct {
	status snapshot.Status
	result []byte
	err    error
	lives  int
}

// live drives a coroutine to its end, from the store each time that it is killed. started is called after each commit.
func (w *world) live(ctx context.Context, config runtime.StartConfig, program wasi.Config, yield func([]byte) []byte, started func()) (e ended) {
	for e.lives = 1; ; e.lives++ {
		host, err := wasi.New(program)
		if err != nil {
			return ended{err: err}
		}
		hosts := []hostabi.Instance{host}
		c, err := w.module.RestoreFrom(ctx, w.store, config.ID, 0, runtime.RestoreConfig{Hosts: hosts})
		if errors.Is(err, snapshot.ErrNotFound) {
			config.Hosts = hosts
			c, err = w.module.Start(ctx, config)
		}
		if err != nil {
			return ended{err: err}
		}
		life, end := context.WithCancel(ctx)
		d := runtime.Driver{Store: w.store, Outside: w.outside, OnYield: yield, OnCommit: func(snapshot.Commit) {
			if started != nil {
				started()
			}
			if w.kill {
				end()
			}
		}}
		e.status, err = d.Drive(life, c)
		stopped := life.Err() != nil
		end()
		e.result, e.err = c.Result(), c.Err()
		_ = c.Close()
		switch {
		case e.status.Ended():
			return e
		case !stopped || ctx.Err() != nil:
			e.err = err
			return e
		}
	}
}

// Spawn drives a child on a goroutine of its own.
func (w *world) Spawn(ctx context.Context, child runtime.Child, done func(output []byte, err error)) {
	config := runtime.StartConfig{ID: child.ID, Entry: child.Entry, Input: child.Input}
	if child.Target != "" {
		config.Entry = child.Target
	}
	program := wasi.Config{Args: child.Program}
	if child.Args != nil {
		program.Args = append([]string{"example"}, child.Args...)
	}
	go func() {
		e := w.live(ctx, config, program, nil, nil)
		if e.status == snapshot.Completed && e.err == nil {
			done(e.result, nil)
			return
		}
		done(nil, &hostabi.OperationError{Code: hostabi.CodeFailed, Message: strings.TrimSpace(fmt.Sprint(e.status, " ", e.err))})
	}()
}

// CancelChild is not asked for by the examples.
func (w *world) CancelChild(context.Context, runtime.Child) error {
	return errors.New("children are not cancelled here")
}
