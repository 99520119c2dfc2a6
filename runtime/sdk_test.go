package runtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// languageSDK is an SDK with examples.
type languageSDK struct {
	name   string
	large  bool // takes minutes to compile with the race detector
	module func(t *testing.T, example string) ([]byte, error)
}

// sdks are the languages of which there are the same examples.
var sdks = []languageSDK{
	{name: "go", large: true, module: goExample()},
	{name: "tinygo", large: true, module: goExample("-tags=tinygo")},
	{name: "rust", module: built("rust-")},
	{name: "c", module: built("c-")},
	{name: "assemblyscript", module: built("assemblyscript-")},
}

// built reads modules that the repository has, by name with a prefix.
func built(prefix string) func(*testing.T, string) ([]byte, error) {
	return func(_ *testing.T, example string) ([]byte, error) {
		manifest, err := guests.Manifest(testdata)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(manifest, func(g guests.Guest) bool { return g.Name == prefix+example })
		if i < 0 {
			return nil, fmt.Errorf("guest %s%s: %w", prefix, example, fs.ErrNotExist)
		}
		return manifest[i].Bytes(testdata)
	}
}

const testdata = "../testdata"

// goExample builds an example in Go. Flags that have its SDK compiled as TinyGo compiles it show that, but not TinyGo.
func goExample(flags ...string) func(*testing.T, string) ([]byte, error) {
	return func(t *testing.T, example string) ([]byte, error) {
		out := filepath.Join(t.TempDir(), example+".wasm")
		build := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), "./"+example)...)
		build.Dir = filepath.Join("..", "guests", "go", "examples")
		build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
		if b, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build: %w\n%s", err, b)
		}
		return os.ReadFile(out)
	}
}

// TestSDKs runs the examples of each language: at one go, and with the process lost after each commit.
func TestSDKs(t *testing.T) {
	for _, sdk := range sdks {
		t.Run(sdk.name, func(t *testing.T) {
			for _, example := range sdkExamples {
				t.Run(example.name, func(t *testing.T) {
					t.Parallel()
					example.runs(t, compileExample(t, sdk.name, example.name))
				})
			}
		})
	}
}

// compileExample compiles an example of an SDK.
func compileExample(t *testing.T, sdk, example string) *program {
	t.Helper()
	i := slices.IndexFunc(sdks, func(s languageSDK) bool { return s.name == sdk })
	if sdks[i].large && guests.RaceEnabled {
		t.Skip("left out: takes minutes with the race detector; make test runs it without")
	}
	if sdks[i].large && testing.Short() {
		t.Skip("-short: compiles megabytes")
	}
	binary, err := sdks[i].module(t, example)
	if err != nil {
		t.Fatal(err)
	}
	return &program{args: []string{example}, module: compileWASI(t, binary)}
}

// compileWASI compiles a program in a runtime that has WASI.
func compileWASI(t *testing.T, binary []byte) *runtime.Module {
	t.Helper()
	r, err := runtime.New(t.Context(), runtime.NewConfig().WithModules(wasi.Module))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.WithoutCancel(t.Context())) })
	module, err := r.Compile(t.Context(), binary)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// sdkExample is a program that there is in each language, or in some.
type sdkExample struct {
	name string
	runs func(*testing.T, *program)
}

// sdkExamples are the examples that there are in each language.
var sdkExamples = []sdkExample{
	{"generator", runGenerator},
	{"sleep", runSleep},
	{"notify_users", runNotifyUsers},
	{"approval", runApproval},
	{"fanout", runFanout},
}

// program is an example, compiled.
type program struct {
	args   []string // with its name
	env    []string
	module *runtime.Module
}

// run is one run of an example: what it is given, and how it is driven.
type run struct {
	input     string
	handlers  *handler.Set
	messages  []snapshot.Message // in the inbox from the start
	reply     string             // to each value that the program yields
	echo      bool               // the reply is the value
	crashes   bool               // after each commit, the process is lost
	cancelled bool               // after its first commit
	stdin     string

	yielded []string        // without those that came twice
	store   *snapshot.Store // where it is kept, once it runs
}

// outcome is how a run has ended.
type outcome struct {
	status snapshot.Status
	exit   uint32
	logs   string // standard output and error
	result string
}

// each runs the program in all ways, and checks how it ends.
func (p *program) each(t *testing.T, name string, fresh func() *run, check func(*testing.T, *run, outcome)) {
	for _, crashes := range []bool{false, true} {
		full := name + "/at one go"
		if crashes {
			full = name + "/with crashes"
		}
		t.Run(full, func(t *testing.T) {
			r := fresh()
			r.crashes = crashes
			check(t, r, p.run(t, r))
		})
	}
}

// printed wants a run to end well, and to have printed that.
func printed(want string) func(*testing.T, *run, outcome) {
	return func(t *testing.T, _ *run, got outcome) {
		t.Helper()
		if got.status != snapshot.Completed || got.exit != 0 || got.logs != want {
			t.Errorf("%s, exit code %d, output\n%swant\n%s", got.status, got.exit, got.logs, want)
		}
	}
}

func runGenerator(t *testing.T, p *program) {
	squares := []string{"1", "4", "9", "16", "25"}
	check := func(want string) func(*testing.T, *run, outcome) {
		return func(t *testing.T, r *run, got outcome) {
			printed(want)(t, r, got)
			if !slices.Equal(r.yielded, squares) {
				t.Errorf("yielded %q", r.yielded)
			}
		}
	}
	p.each(t, "alone", func() *run { return &run{} }, check("received 0\n"))
	p.each(t, "with replies", func() *run { return &run{reply: "10"} }, check("received 50\n"))
}

func runSleep(t *testing.T, p *program) {
	begin := time.Now()
	p.each(t, "sleep", func() *run { return &run{} }, printed("tick 1\ntick 2\ntick 3\n"))
	if took := time.Since(begin); took < 400*time.Millisecond {
		t.Errorf("two runs with two sleeps of 100 ms each took %v", took)
	}
}

func runNotifyUsers(t *testing.T, p *program) {
	type stored struct {
		OpID    string           `json:"opid"`
		Results []map[string]any `json:"results"`
	}
	var emails []string
	want := stored{OpID: "op-1", Results: []map[string]any{}}
	for i := range 50 {
		to := fmt.Sprintf("ü%d \"\\\u2028@example.org", i)
		emails = append(emails, to)
		want.Results = append(want.Results, map[string]any{"sent": to})
	}
	input, err := json.Marshal(map[string]any{"opid": want.OpID, "emails": emails})
	if err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	var got []stored
	sent := map[string]string{} // by key
	set := &handler.Set{}
	set.Handle("send_email", func(_ context.Context, c handler.Call) ([]byte, error) {
		var body struct{ To string }
		if err := json.Unmarshal(c.Body, &body); err != nil {
			return nil, handler.Final(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if to, ok := sent[c.Key]; ok && to != body.To {
			t.Errorf("key %s is used for %q and for %q", c.Key, to, body.To)
		}
		sent[c.Key] = body.To
		return json.Marshal(map[string]string{"sent": body.To})
	}, handler.Policy{})
	set.Handle("store_results", func(_ context.Context, c handler.Call) ([]byte, error) {
		var body stored
		if err := json.Unmarshal(c.Body, &body); err != nil {
			return nil, handler.Final(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, body)
		return []byte(`{"ok":true}`), nil
	}, handler.Policy{})
	refusing := &handler.Set{}
	refusing.Handle("send_email", func(context.Context, handler.Call) ([]byte, error) {
		return nil, handler.Final(errors.New("no such mailbox"))
	}, handler.Policy{})

	p.each(t, "notify", func() *run {
		clear(sent)
		got = nil
		return &run{input: string(input), handlers: set}
	}, func(t *testing.T, r *run, end outcome) {
		printed("stored 50\n")(t, r, end)
		if len(sent) != len(emails) {
			t.Errorf("%d keys for %d addresses", len(sent), len(emails))
		}
		if len(got) == 0 {
			t.Fatal("nothing is stored")
		}
		for _, s := range got { // more than once, if the process was lost in between
			if !reflect.DeepEqual(s, want) {
				t.Errorf("stored\n%v\nwant\n%v", s, want)
			}
		}
	})
	p.each(t, "nobody", func() *run { return &run{input: `{"opid": "op-2", "emails": []}`, handlers: set} }, printed("stored 0\n"))
	failed := func(message string) func(*testing.T, *run, outcome) {
		return func(t *testing.T, _ *run, got outcome) {
			if got.exit == 0 || !strings.Contains(got.logs, message) || strings.Contains(got.logs, "stored") {
				t.Errorf("%s, exit code %d: %s", got.status, got.exit, got.logs)
			}
		}
	}
	p.each(t, "refused", func() *run { return &run{input: string(input), handlers: refusing} }, failed("no such mailbox"))
	p.each(t, "without handlers", func() *run { return &run{input: string(input)} }, failed("denied"))
}

func runApproval(t *testing.T, p *program) {
	message := func(data string) []snapshot.Message {
		return []snapshot.Message{{Name: "other", Data: []byte(`"yes"`)}, {Name: "approval", Data: []byte(data)}}
	}
	p.each(t, "yes", func() *run { return &run{messages: message(`"yes"`)} }, printed("approved\n"))
	p.each(t, "no", func() *run { return &run{messages: message(`"no"`)} }, printed("declined\n"))
	p.each(t, "neither", func() *run { return &run{input: `{"timeout": 1e300}`, messages: message(`yes"`)} }, printed("declined\n"))
	p.each(t, "timeout", func() *run { return &run{input: `{"timeout": 0.1}`, messages: message(`"yes"`)[:1]} }, printed("timed out\n"))
	p.each(t, "cancelled", func() *run {
		return &run{input: `{"timeout": 3600}`, cancelled: true}
	}, func(t *testing.T, _ *run, got outcome) {
		if got.status != snapshot.Cancelled || got.exit == 0 || strings.Count(got.logs, "\n") > 1 {
			t.Errorf("%s, exit code %d: %s", got.status, got.exit, got.logs)
		}
	})
}

func runFanout(t *testing.T, p *program) {
	p.each(t, "fanout", func() *run { return &run{} }, printed("sum 55\n"))
}

// run drives the program to its end.
func (p *program) run(t *testing.T, r *run) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.store = snapshot.NewStore(bucket.NewMem())
	inbox := snapshot.NewInboxWatcher(r.store, snapshot.InboxWatcherOptions{})
	defer inbox.Close()
	family := &family{t: t, program: p, run: r, store: r.store, inbox: inbox, stdin: wasi.NewStdin(strings.NewReader(r.stdin))}
	return family.drive(ctx, runtime.StartConfig{ID: "sdk", Input: []byte(r.input)}, p.args)
}

// family drives a coroutine, and the children that it has.
type family struct {
	t       *testing.T
	program *program
	run     *run
	store   *snapshot.Store
	inbox   *snapshot.InboxWatcher
	stdin   *wasi.Stdin
}

// Spawn implements runtime.Children, for children of the parent's module.
func (f *family) Spawn(ctx context.Context, child runtime.Child, done func([]byte, error)) {
	args := f.program.args
	if child.Args != nil {
		args = append(slices.Clone(args[:1]), child.Args...)
	}
	go func() {
		end := f.drive(ctx, runtime.StartConfig{ID: child.ID, Entry: child.Target, Input: child.Input}, args)
		switch {
		case ctx.Err() != nil:
		case end.status != snapshot.Completed || end.exit != 0:
			message := fmt.Sprintf("child %s: exit code %d: %s", child.ID, end.exit, end.result)
			done(nil, &hostabi.OperationError{Code: hostabi.CodeFailed, Message: message})
		default:
			done([]byte(end.result), nil)
		}
	}()
}

// CancelChild implements runtime.Children. No example cancels one.
func (f *family) CancelChild(context.Context, runtime.Child) error { return nil }

// drive drives a coroutine from its last commit, or from the start, to its end or until ctx is done.
func (f *family) drive(ctx context.Context, config runtime.StartConfig, args []string) (end outcome) {
	for {
		err := f.live(ctx, config, args)
		switch {
		case errors.Is(err, runtime.ErrEnded):
			end, err = f.outcome(context.WithoutCancel(ctx), config.ID)
			if err != nil {
				f.t.Error(err)
			}
			return end
		case ctx.Err() != nil:
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				f.t.Errorf("coroutine %s has not ended: %v", config.ID, err)
			}
			return end
		case err != nil && !errors.Is(err, context.Canceled):
			f.t.Errorf("coroutine %s: %v", config.ID, err)
			return end
		}
	}
}

// outcome reads how a coroutine has ended.
func (f *family) outcome(ctx context.Context, id string) (outcome, error) {
	s, _, err := f.store.Latest(ctx, id)
	if err != nil {
		return outcome{}, err
	}
	result, err := runtime.ResultOf(s)
	if err != nil {
		return outcome{}, err
	}
	var logs bytes.Buffer
	err = f.store.Logs(ctx, id, &logs, &logs)
	return outcome{status: s.Status, exit: s.ExitCode, logs: logs.String(), result: string(result)}, err
}

// live drives a coroutine in one process.
func (f *family) live(ctx context.Context, config runtime.StartConfig, args []string) error {
	env := f.program.env
	if parent, _, is := strings.Cut(config.ID, "."); is {
		env = append(slices.Clone(env), "DURUN_PARENT="+parent)
	}
	host, err := wasi.New(wasi.Config{Args: args, Env: env, Durun: true, Stdin: f.stdin})
	if err != nil {
		return err
	}
	hosts := []hostabi.Instance{host}
	module := f.program.module
	c, err := module.RestoreFrom(ctx, f.store, config.ID, 0, runtime.RestoreConfig{Hosts: hosts})
	if errors.Is(err, snapshot.ErrNotFound) {
		config.Hosts = hosts
		c, err = module.Start(ctx, config)
	}
	if err != nil {
		_ = host.Close()
		return err
	}
	defer c.Close()

	inner, crash := context.WithCancel(ctx)
	defer crash()
	r := f.run
	driver := runtime.Driver{
		Store:   f.store,
		Outside: &runtime.Outside{Handlers: r.handlers, Inbox: f.inbox, Children: f},
		OnYield: func(value []byte) []byte {
			if n := len(r.yielded); n == 0 || r.yielded[n-1] != string(value) {
				r.yielded = append(r.yielded, string(value))
			}
			if r.echo {
				return value
			}
			return []byte(r.reply)
		},
		OnCommit: func(commit snapshot.Commit) {
			for _, m := range r.messages {
				if commit.Seq == 1 && config.ID == "sdk" {
					if _, err := f.store.Send(ctx, config.ID, m); err != nil {
						f.t.Error(err)
					}
				}
			}
			switch {
			case r.cancelled && c.Status() == snapshot.Suspended:
				c.Cancel()
			case r.crashes:
				crash()
			}
		},
	}
	_, err = driver.Drive(inner, c)
	return err
}
