package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// A scripted coroutine is a guest in Go: its module calls one await function until that returns 0, and each of these calls is a step of the
// script. Where it is, is in snapshots.
type scripted struct {
	steps []step
	pc    uint32
	wait  func(context.Context) error // nil to return at once
}

// step is called as [hostabi.Function].Await is. What it writes goes to the coroutine's output.
type step func(h hostabi.Coroutine, w *bytes.Buffer, p *hostabi.Pending) *hostabi.Pending

var scriptModule = &hostabi.Module{Name: "script", Functions: []hostabi.Function{{
	Name: "step", Results: []api.ValueType{api.ValueTypeI32},
	Await: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
		s := i.(*scripted)
		if int(s.pc) == len(s.steps) {
			stack[0] = 0
			return nil
		}
		var w bytes.Buffer
		p = s.steps[s.pc](g.Coroutine, &w, p)
		if w.Len() > 0 {
			_ = g.Output(1, w.Bytes())
		}
		if p == nil {
			s.pc++
			stack[0] = 1
		}
		return p
	},
}}}

func (s *scripted) Module() *hostabi.Module { return scriptModule }

func (s *scripted) Save() (uint32, []byte, error) {
	return 1, binary.AppendUvarint(nil, uint64(s.pc)), nil
}

func (s *scripted) Restore(_ uint32, data []byte) error {
	n, _ := binary.Uvarint(data)
	s.pc = uint32(n)
	return nil
}

func (s *scripted) Wait(ctx context.Context, _ *hostabi.Pending) error {
	if s.wait == nil {
		return nil
	}
	return s.wait(ctx)
}

func (s *scripted) Close() error { return nil }

// scriptGuest compiles the module of scripts.
func scriptGuest(t testing.TB) *Module {
	t.Helper()
	r, err := New(context.Background(), NewConfig().WithModules(scriptModule))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	m := &wasm.Module{
		Types:     []wasm.FuncType{{Results: []wasm.ValueType{wasm.I32}}, {}},
		Imports:   []wasm.Import{{Module: scriptModule.Name, Name: "step", Kind: wasm.ExternFunc}},
		Functions: []uint32{1},
		Exports:   []wasm.Export{{Name: "_start", Kind: wasm.ExternFunc, Index: 1}},
	}
	var body []byte
	for _, in := range []wasm.Instr{ins(wasm.OpLoop), ins(wasm.OpCall, 0), ins(wasm.OpBrIf, 0), ins(wasm.OpEnd), ins(wasm.OpEnd)} {
		body = wasm.AppendInstr(body, &in)
	}
	m.Code = []wasm.Code{wasm.NewCode(nil, body)}
	module, err := r.Compile(context.Background(), m.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// The steps of scripts.

func begin(kind hostabi.OperationKind, name string, body []byte) step {
	return func(h hostabi.Coroutine, w *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
		if _, err := h.Begin(kind, name, body); err != nil {
			fmt.Fprintf(w, "begin: %v\n", err)
		}
		return nil
	}
}

func nanoseconds(d time.Duration) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(d)) }

func timer(d time.Duration) step { return begin(hostabi.Timer, "", nanoseconds(d)) }

// await waits, and writes the numbers of those that have ended.
func await(w hostabi.Wait) step {
	return func(h hostabi.Coroutine, out *bytes.Buffer, p *hostabi.Pending) *hostabi.Pending {
		ended, p, err := h.Await(w, p)
		if p == nil {
			fmt.Fprintln(out, "ended", ended, err)
		}
		return p
	}
}

func awaitAll(ops ...uint32) step {
	return await(hostabi.Wait{Ops: ops, Min: uint32(len(ops)), Timeout: -1})
}

// results writes how operations ended.
func results(ops ...uint32) step {
	return func(h hostabi.Coroutine, w *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
		for _, n := range ops {
			r, err := h.Result(n)
			fmt.Fprintf(w, "%d: %q %v\n", n, r, err)
		}
		return nil
	}
}

// drive drives a script from the start to its end and returns its output.
func (s *scripted) drive(t *testing.T, d Driver) string {
	t.Helper()
	d.Store = snapshot.NewStore(bucket.NewMem())
	c, err := scriptGuest(t).Start(t.Context(), StartConfig{ID: "s", Hosts: []hostabi.Instance{s}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if status, err := d.Drive(t.Context(), c); err != nil || status != snapshot.Completed {
		t.Fatal(status, err, c.Err())
	}
	return logsOf(t, d.Store, "s")
}

func logsOf(t *testing.T, store *snapshot.Store, id string) string {
	t.Helper()
	var out bytes.Buffer
	if err := store.Logs(t.Context(), id, &out, nil); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// handlers returns a set with a handler that answers with its argument, one that fails, and one that blocks.
func handlers(t *testing.T) *handler.Set {
	s := &handler.Set{}
	s.Handle("echo", func(_ context.Context, c handler.Call) ([]byte, error) { return c.Body, nil }, handler.Policy{})
	s.Handle("fail", func(_ context.Context, c handler.Call) ([]byte, error) {
		return nil, handler.Final(errors.New("no " + string(c.Body)))
	}, handler.Policy{})
	s.Handle("block", func(ctx context.Context, _ handler.Call) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, handler.Policy{})
	return s
}

func TestOperationJoins(t *testing.T) {
	call := func(name, body string) step { return begin(hostabi.Call, name, []byte(body)) }
	for _, test := range []struct {
		name  string
		steps []step
		want  string
	}{
		{"timers", []step{timer(2 * time.Millisecond), timer(time.Millisecond), timer(-1), awaitAll(1, 2, 3), results(2)}, "ended [1 2 3] <nil>\n2: \"\" <nil>\n"},
		{"race", []step{timer(time.Hour), timer(0), await(hostabi.Wait{Ops: []uint32{1, 2}, Min: 1, Timeout: -1})}, "ended [2] <nil>\n"},
		{"some", []step{timer(time.Hour), timer(0), timer(time.Millisecond), await(hostabi.Wait{Ops: []uint32{1, 2, 3}, Min: 2, Timeout: -1})}, "ended [2 3] <nil>\n"},
		{"timeout", []step{timer(time.Hour), await(hostabi.Wait{Ops: []uint32{1}, Min: 1, Timeout: time.Millisecond}), results(1)}, "ended [] <nil>\n1: \"\" pending: operation 1 has not ended\n"},
		{"calls", []step{call("echo", "a"), call("fail", "b"), call("none", "c"), awaitAll(1, 2, 3), results(1, 2, 3)}, "ended [1 2 3] <nil>\n" +
			"1: \"a\" <nil>\n2: \"\" failed: no b\n3: \"\" denied: the run was given no handler \"none\"\n"},
		{"first success", []step{call("fail", "a"), call("block", ""), call("echo", "b"), await(hostabi.Wait{Ops: []uint32{1, 2, 3}, Min: 1, Success: true, Timeout: -1}), results(3)}, "3: \"b\" <nil>\n"},
		{"all fail", []step{call("fail", "a"), call("fail", "b"), await(hostabi.Wait{Ops: []uint32{1, 2}, Min: 1, Success: true, Timeout: -1})}, "ended [1 2] <nil>\n"},
		{"first failure", []step{call("block", ""), call("fail", "b"), await(hostabi.Wait{Ops: []uint32{1, 2}, Min: 2, Success: true, Timeout: -1})}, "ended [2] <nil>\n"},
		{"twice the same", []step{timer(0), awaitAll(1, 1)}, "ended [1 1] <nil>\n"},
		{"nothing", []step{awaitAll()}, "ended [] <nil>\n"},
		{"nothing, for a time", []step{await(hostabi.Wait{Min: 1, Timeout: time.Millisecond})}, "ended [] <nil>\n"},
		{"unknown", []step{awaitAll(7), results(7)}, "ended [] unknown: there is no operation 7\n7: \"\" unknown: there is no operation 7\n"},
		{"poll", []step{call("block", ""), await(hostabi.Wait{Ops: []uint32{1}, Min: 1})}, "ended [] <nil>\n"},
		{"cancel", []step{call("block", ""), await(hostabi.Wait{Ops: []uint32{1}, Min: 1}), func(h hostabi.Coroutine, _ *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
			_ = h.Cancel(1)
			return nil
		}, awaitAll(1), results(1)}, "ended [] <nil>\nended [1] <nil>\n1: \"\" cancelled\n"},
		{"drop", []step{call("block", ""), timer(0), func(h hostabi.Coroutine, w *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
			fmt.Fprintln(w, h.Drop(1), h.Drop(1), h.Operations())
			return nil
		}, results(1)}, "<nil> unknown: there is no operation 1 [2]\n1: \"\" unknown: there is no operation 1\n"},
		{
			"limits",
			[]step{begin(9, "x", nil), begin(hostabi.Call, "", nil), begin(hostabi.Timer, "", []byte{1}), begin(hostabi.Call, strings.Repeat("x", 300), nil), begin(hostabi.Recv, "a\nb", nil), begin(hostabi.Call, "x", make([]byte, hostabi.MaxPayload+1))},
			"begin: invalid: operations of kind 9 are not known\nbegin: invalid: a call without a name\nbegin: invalid: a timer's body has 1 bytes: it is nanoseconds, 8 bytes\n" +
				"begin: limit: a name of 300 bytes, at most 256 are allowed\nbegin: invalid: the name \"a\\nb\" is not UTF-8, or has control characters\nbegin: limit: a body of 16777217 bytes, at most 16777216 are allowed\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{steps: test.steps}
			got := s.drive(t, Driver{Outside: &Outside{Handlers: handlers(t)}})
			if !strings.HasSuffix(got, test.want) {
				t.Errorf("output\n%swant\n%s", got, test.want)
			}
		})
	}
}

// TestOperationsAfterCrash drives a coroutine with parallel calls, and drops it at each commit, as a crash does; then another
// goes on. Each call is made under one key, again if its end was not committed, and never if it was.
func TestOperationsAfterCrash(t *testing.T) {
	const n = maxWhole + 20 // so they are in parts of the state
	var mu sync.Mutex
	calls, committed := map[string]int{}, map[uint32]bool{}
	set := &handler.Set{}
	set.Handle("work", func(_ context.Context, c handler.Call) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		calls[c.Key]++
		if committed[c.Operation] {
			t.Errorf("operation %d is carried out again after its end was committed", c.Operation)
		}
		return append([]byte("did "), c.Body...), nil
	}, handler.Policy{})
	var steps []step
	var ops []uint32
	for i := range n {
		steps = append(steps, begin(hostabi.Call, "work", fmt.Appendf(nil, "%d", i)))
		ops = append(ops, uint32(i+1))
	}
	steps = append(steps, awaitAll(ops...), results(ops...), timer(time.Millisecond), awaitAll(n+1))
	module, store := scriptGuest(t), snapshot.NewStore(bucket.NewMem())
	for round := 0; ; round++ {
		s := &scripted{steps: steps}
		c, err := module.RestoreFrom(t.Context(), store, "s", 0, RestoreConfig{Hosts: []hostabi.Instance{s}})
		if errors.Is(err, snapshot.ErrNotFound) {
			c, err = module.Start(t.Context(), StartConfig{ID: "s", Hosts: []hostabi.Instance{s}})
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())

		d := Driver{Store: store, Outside: &Outside{Handlers: set}, OnCommit: func(snapshot.Commit) {
			mu.Lock()
			defer mu.Unlock()
			c.abi.ops.each(func(o *operation) { committed[o.number] = committed[o.number] || o.ended })
			if round%2 == 0 {
				cancel()
			}
		}}
		status, err := d.Drive(ctx, c)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		_ = c.Close()
		if status == snapshot.Completed {
			break
		}
		if round > 100 {
			t.Fatal("it gets nowhere")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(calls) != n {
		t.Errorf("%d keys for %d calls: %v", len(calls), n, calls)
	}
	got := logsOf(t, store, "s")
	for i := range n {
		if line := fmt.Sprintf("%d: \"did %d\" <nil>\n", i+1, i); !strings.Contains(got, line) {
			t.Errorf("output lacks %q", line)
		}
	}
}

// TestOperationsOfABase: calls that a shared base has begun leave with the coroutines that start from it. Each is another call, also
// when a coroutine has the id of one that was removed, and its time begins then.
func TestOperationsOfABase(t *testing.T) {
	m, store := scriptGuest(t), snapshot.NewStore(bucket.NewMem())
	script := func() []hostabi.Instance {
		return []hostabi.Instance{&scripted{steps: []step{begin(hostabi.Call, "work", nil), awaitAll(1)}}}
	}
	maker, err := m.Start(t.Context(), StartConfig{ID: "maker", Hosts: script()})
	if err != nil {
		t.Fatal(err)
	}
	defer maker.Close()
	maker.abi.now = func() time.Time { return time.Now().Add(-24 * time.Hour) }
	if _, err := maker.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	snap, err := maker.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutBase(t.Context(), "b", snap); err != nil {
		t.Fatal(err)
	}
	base, err := store.Base(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for range 3 {
		started := time.Now().Add(-time.Minute)
		c, err := m.Start(t.Context(), StartConfig{ID: "x", Hosts: script(), Base: base})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ops := c.Operations()
		if len(ops) != 1 || ops[0].Begun.Before(started) {
			t.Fatalf("operations %+v, started at %v", ops, started)
		}
		keys[ops[0].Key] = true
	}
	if len(keys) != 3 {
		t.Errorf("three lives of one id have the keys %v", keys)
	}
}

// TestCommitBeforeEffect: a handler is called only when the store has the commit that asks for it.
func TestCommitBeforeEffect(t *testing.T) {
	called := make(chan struct{})
	store := snapshot.NewStore(&slowBucket{Bucket: bucket.NewMem(), put: sync.OnceFunc(func() {
		select {
		case <-called:
			t.Error("the handler is called before the commit is made")
		case <-time.After(50 * time.Millisecond): // long enough for a goroutine to begin
		}
	})})
	set := &handler.Set{}
	set.Handle("work", func(ctx context.Context, c handler.Call) ([]byte, error) {
		close(called)
		s, _, err := store.Latest(ctx, "s")
		if err != nil {
			return nil, handler.Final(err)
		}
		ops, err := OperationsOf(s)
		if err != nil || len(ops) != 1 || ops[0].Key != c.Key || ops[0].Ended {
			return nil, handler.Final(fmt.Errorf("the store has %+v, %w", ops, err))
		}
		return fmt.Appendf(nil, "commit %d", s.Seq), nil
	}, handler.Policy{})
	s := &scripted{steps: []step{begin(hostabi.Call, "work", nil), awaitAll(1), results(1)}}
	c, err := scriptGuest(t).Start(t.Context(), StartConfig{ID: "s", Hosts: []hostabi.Instance{s}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := Driver{Store: store, Outside: &Outside{Handlers: set}}
	if status, err := d.Drive(t.Context(), c); err != nil || status != snapshot.Completed {
		t.Fatal(status, err, c.Err())
	}
	if got := logsOf(t, store, "s"); !strings.Contains(got, `1: "commit 1"`) {
		t.Error(got)
	}
}

// slowBucket calls put before it puts an object.
type slowBucket struct {
	bucket.Bucket
	put func()
}

func (b *slowBucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	b.put()
	return b.Bucket.Put(ctx, key, body, size)
}

// TestDescribe says for people what a wait is for.
func TestDescribe(t *testing.T) {
	var ops operations
	for _, o := range []struct {
		kind hostabi.OperationKind
		name string
	}{
		{hostabi.Timer, "a"},
		{hostabi.Timer, "b"},
		{hostabi.Call, "mail"},
		{hostabi.Call, "mail"},
		{hostabi.Call, "store"},
		{hostabi.Recv, "ok"},
		{hostabi.Recv, "ok"},
		{hostabi.Spawn, ""},
		{hostabi.Spawn, "\x00-v"},
		{hostabi.Spawn, "work\x00-v"},
	} {
		body := nanoseconds(time.Hour)
		if o.kind == hostabi.Recv {
			body = nil
		}
		if _, err := ops.begin(o.kind, o.name, body, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for want, numbers := range map[string][]uint32{
		"a time-out": nil, "sleep": {1}, "2 sleeps": {1, 2}, "call mail": {3}, "2 calls mail": {3, 4}, "2 operations": {4, 5},
		"message ok": {6}, "2 messages ok": {6, 7}, "child": {8}, "2 children": {8, 9}, "child work": {10},
	} {
		if p := ops.named(&hostabi.Pending{Ops: numbers}); len(numbers) > 0 && p.Detail != want {
			t.Errorf("%v: %q, want %q", numbers, p.Detail, want)
		}
		if got := ops.describe(numbers); got != want {
			t.Errorf("%v: %q, want %q", numbers, got, want)
		}
	}
}

// stateGolden is the version and the encoding of the state in TestStateRoundTrip. Another encoding is another version.
const stateGolden = "4 05696e70757406726573756c7408303132333435363706020501700c702f30313233343536372f3301026b31016ab9f1eb8f7d3388f4" +
	"f9d586f66e99fd00020303010202050101008580a8b1e39fe7cb1785c08ab7c688e8cb170174000102008580a8b1e39fe7cb1703028580" +
	"a8b1e39fe7cb178594938ee79fe7cb1706736f20666172016304626f64790104018580a8b1e39fe7cb17016d076d657373616765010300" +
	"8580a8b1e39fe7cb17066500610a0062000202038580a8b1e39fe7cb1701650603776879"

// TestStateRoundTrip saves and restores each kind of state, and has damaged state refused without a panic.
func TestStateRoundTrip(t *testing.T) {
	a := newABI("x", []byte("input"))
	a.result, a.nonce, a.cancel, a.cpu, a.parent = []byte("result"), "01234567", cancelTold, 5, parentLink{"p", "p/01234567/3"}
	a.received.add("k1")
	now := time.Unix(1700000000, 5).UTC()
	for _, o := range []struct {
		kind hostabi.OperationKind
		name string
		body []byte
	}{{hostabi.Timer, "t", nanoseconds(time.Hour)}, {hostabi.Call, "c", []byte("body")}, {hostabi.Recv, "m", nil}, {hostabi.Spawn, "e\x00a\n\x00b", nil}, {hostabi.Call, "d", nil}, {hostabi.Call, "e", nil}} {
		if _, err := a.ops.begin(o.kind, o.name, o.body, now); err != nil {
			t.Fatal(err)
		}
	}
	a.ops.drop(a.ops.get(5))
	a.ops.end(6, hostabi.CodeFailed, "why", nil)
	a.ops.advance(a.ops.get(2), &handler.Progress{Attempt: 3, Throttled: 2, Started: now, Err: "so far", Next: now.Add(time.Second)})
	a.ops.end(3, 0, "", []byte("message"))
	a.pending = func() *hostabi.Pending {
		return &hostabi.Pending{Ops: []uint32{1, 2, 2}, Min: 2, Success: true, Cancellable: true}
	}
	version, data, err := a.Save()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%d %x", version, data); got != stateGolden {
		t.Errorf("the state is encoded as\n%s\nand not as\n%s\nwhich is what the version stands for", got, stateGolden)
	}
	b := newABI("x", nil)
	if err := b.Restore(version, data); err != nil {
		t.Fatal(err)
	}
	b.pending = func() *hostabi.Pending { return &b.restored }
	if _, again, _ := b.Save(); !bytes.Equal(again, data) {
		t.Errorf("saved\n%q, restored and saved again\n%q", data, again)
	}
	if got, want := b.ops.get(2).progress, a.ops.get(2).progress; *got != *want || b.ops.failing[2] == nil {
		t.Errorf("attempts %+v, want %+v", got, want)
	}
	for n := range data {
		if err := newABI("x", nil).Restore(version, data[:n]); !errors.Is(err, hostabi.ErrState) {
			t.Errorf("the first %d bytes of %d are taken for the whole", n, len(data))
		}
	}
}

// TestStateProgress has made-up attempts refused.
func TestStateProgress(t *testing.T) {
	now := time.Unix(1700000000, 0).UTC()
	for name, c := range map[string]struct {
		p  handler.Progress
		ok bool
	}{
		"under way":          {handler.Progress{Attempt: 1, Started: now}, true},
		"long":               {handler.Progress{Attempt: 1, Started: now, Err: strings.Repeat("x", handler.MaxProgressErr), Next: now}, true},
		"longer":             {handler.Progress{Attempt: 1, Started: now, Err: strings.Repeat("x", handler.MaxProgressErr+1), Next: now}, false},
		"not UTF-8":          {handler.Progress{Attempt: 1, Started: now, Err: "\xff", Next: now}, false},
		"the highest number": {handler.Progress{Attempt: maxAttempt, Throttled: maxAttempt, Started: now}, true},
	} {
		a := newABI("x", nil)
		if _, err := a.Begin(hostabi.Call, "c", nil); err != nil {
			t.Fatal(err)
		}
		a.ops.advance(a.ops.get(1), &c.p)
		version, data, err := a.Save()
		if err != nil {
			t.Fatal(err)
		}
		b := newABI("x", nil)
		if err := b.Restore(version, data); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		} else if err == nil && *b.ops.get(1).progress != c.p {
			t.Errorf("%s: %+v", name, *b.ops.get(1).progress)
		}
	}
}

func FuzzRestoreABI(f *testing.F) {
	a := newABI("x", []byte("input"))
	_, _ = a.ops.begin(hostabi.Call, "c", []byte("body"), time.Unix(1700000000, 0))
	a.received.add("k")
	_, data, _ := a.Save()
	f.Add(data, "", []byte{})
	now := time.Unix(1700000000, 0)
	a.ops.advance(a.ops.get(1), &handler.Progress{Attempt: 3, Throttled: 2, Started: now, Err: "so far", Next: now})
	_, data, _ = a.Save()
	f.Add(data, "", []byte{})
	a = manyOperations(f, maxWhole+1)
	_, data, _ = a.Save()
	parts, _ := a.SaveParts()
	f.Add(data, partOf(0), parts[0].Data)
	a.pending().Ops = nil
	_, data, _ = a.Save()
	f.Add(data, partOf(0), parts[0].Data)
	f.Fuzz(func(t *testing.T, data []byte, name string, part []byte) {
		s := saved{abiVersion, data, nil}
		if name != "" {
			s.parts = []hostabi.Part{{Name: name, Data: part}}
		}
		a, err := s.restore()
		if err != nil {
			return
		}
		if again := save(t, a); a.ops.last > 0 && !again.equal(s) {
			t.Errorf("%q, with part %q, is restored, and saved as %q", data, part, again.data)
		}
	})
}

// TestCancel cancels coroutines that can be told, and one that can't.
func TestCancelRequest(t *testing.T) {
	exit := func(code uint32) step {
		return func(hostabi.Coroutine, *bytes.Buffer, *hostabi.Pending) *hostabi.Pending {
			panic(sys.NewExitError(code))
		}
	}
	elsewhere := func(_ hostabi.Coroutine, _ *bytes.Buffer, p *hostabi.Pending) *hostabi.Pending {
		return &hostabi.Pending{Kind: hostabi.KindTimer}
	}
	for _, test := range []struct {
		name   string
		steps  []step
		status snapshot.Status
		exit   uint32
		want   string
	}{
		{"cleans up", []step{timer(time.Hour), awaitAll(1), timer(time.Millisecond), awaitAll(2), exit(3)}, snapshot.Cancelled, 3, "ended [] cancelled: the coroutine is to end\nended [2] <nil>\n"},
		{"goes on", []step{timer(time.Hour), awaitAll(1)}, snapshot.Completed, 0, "ended [] cancelled: the coroutine is to end\n"},
		{"elsewhere", []step{elsewhere}, snapshot.Cancelled, ExitCodeCancelled, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &scripted{steps: test.steps}
			store := snapshot.NewStore(bucket.NewMem())
			c, err := scriptGuest(t).Start(t.Context(), StartConfig{ID: "s", Hosts: []hostabi.Instance{s}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			d := Driver{Store: store, Once: true}
			if _, err := d.Drive(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			c.Cancel()
			d.Once = false
			status, err := d.Drive(t.Context(), c)
			if err != nil || status != test.status || c.ExitCode() != test.exit {
				t.Errorf("status %v, exit code %d, %v; want %v, %d", status, c.ExitCode(), err, test.status, test.exit)
			}
			if got := logsOf(t, store, "s"); got != test.want {
				t.Errorf("output %q, want %q", got, test.want)
			}
			if head, err := store.Head(t.Context(), "s"); err != nil || head.Status != test.status {
				t.Errorf("the last commit is %v, %v", head.Status, err)
			}
		})
	}
}

// TestTenThousandCalls joins as many calls of one coroutine.
func TestTenThousandCalls(t *testing.T) {
	const n = 10_000
	set := &handler.Set{}
	set.Handle("work", func(_ context.Context, c handler.Call) ([]byte, error) { return c.Body, nil }, handler.Policy{})
	var ops []uint32
	for i := range n {
		ops = append(ops, uint32(i+1))
	}
	s := &scripted{steps: []step{
		func(h hostabi.Coroutine, _ *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
			for i := range n {
				if _, err := h.Begin(hostabi.Call, "work", fmt.Appendf(nil, "%d", i)); err != nil {
					panic(err)
				}
			}
			return nil
		},
		awaitAll(ops...),
		func(h hostabi.Coroutine, w *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
			for i := range n {
				if got, err := h.Result(uint32(i + 1)); err != nil || string(got) != fmt.Sprint(i) {
					fmt.Fprintf(w, "%d: %q, %v\n", i, got, err)
				}
				_ = h.Drop(uint32(i + 1))
			}
			fmt.Fprintln(w, "done", len(h.Operations()))
			return nil
		},
	}}
	commits := 0
	got := s.drive(t, Driver{Outside: &Outside{Handlers: set}, OnCommit: func(snapshot.Commit) { commits++ }})
	if !strings.HasSuffix(got, " <nil>\ndone 0\n") {
		t.Errorf("%.300s", got[max(0, len(got)-300):])
	}
	if commits > 20 {
		t.Errorf("%d commits for one join", commits)
	}
}

// TestMessages sends messages before a coroutine waits for them, while it does, twice, and in an order.
func TestMessages(t *testing.T) {
	store := snapshot.NewStore(bucket.NewMem())
	recv := func(name string) step { return begin(hostabi.Recv, name, nil) }
	s := &scripted{steps: []step{
		recv("a"), recv("b"), awaitAll(1, 2), results(1, 2),
		recv("a"), recv("a"), awaitAll(3, 4), results(3, 4),
		recv("a"), await(hostabi.Wait{Ops: []uint32{5}, Min: 1, Timeout: 50 * time.Millisecond}),
	}}
	module := scriptGuest(t)
	c, err := module.Start(t.Context(), StartConfig{ID: "s", Hosts: []hostabi.Instance{s}})
	if err != nil {
		t.Fatal(err)
	}
	d := Driver{Store: store, Once: true}
	if _, err := d.Drive(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	send := func(name, key, data string) {
		t.Helper()
		if _, err := store.Send(t.Context(), "s", snapshot.Message{Name: name, Key: key, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	send("other", "", "nobody waits for it")
	send("a", "", "1")
	send("a", "key", "2")
	send("b", "", "3")
	send("a", "key", "again")
	send("a", "", "4")
	// Restored at each commit, as after a crash.
	for status := snapshot.Suspended; !status.Ended(); {
		s := &scripted{steps: s.steps}
		c, err := module.RestoreFrom(t.Context(), store, "s", 0, RestoreConfig{Hosts: []hostabi.Instance{s}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		d := Driver{Store: store, Outside: &Outside{}, OnCommit: func(snapshot.Commit) { cancel() }}
		if status, err = d.Drive(ctx, c); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
		_ = c.Close()
		if status.Ended() {
			break
		}
		status = snapshot.Suspended
	}
	want := "ended [1 2] <nil>\n1: \"1\" <nil>\n2: \"3\" <nil>\nended [3 4] <nil>\n3: \"2\" <nil>\n4: \"4\" <nil>\nended [] <nil>\n"
	if got := logsOf(t, store, "s"); got != want {
		t.Errorf("output\n%swant\n%s", got, want)
	}
	left, _, err := store.Inbox(t.Context(), "s")
	if err != nil || len(left) != 1 || left[0].Name != "other" {
		t.Errorf("left in the inbox: %v, %v; want the message that nobody received", left, err)
	}
}

// TestIdle has a host function that doesn't agree with what it says that it waits for, as it may be in a snapshot that was made up: it is
// not asked again and again.
func TestIdle(t *testing.T) {
	for _, kind := range []string{hostabi.KindOperations, hostabi.KindStdin} {
		asked := 0
		never := func(_ hostabi.Coroutine, _ *bytes.Buffer, p *hostabi.Pending) *hostabi.Pending {
			if asked++; p == nil {
				p = &hostabi.Pending{Kind: kind, Ops: []uint32{1}, Min: 1, Cancellable: true}
			}
			return p
		}
		s := &scripted{steps: []step{timer(0), never}, wait: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		store := snapshot.NewStore(bucket.NewMem())
		c := suspendedScript(t, scriptGuest(t), store, s)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		d := Driver{Store: store, Outside: &Outside{}}
		if _, err := d.Drive(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if asked > 20 {
			t.Errorf("%s: asked %d times", kind, asked)
		}

		hosts := func(context.Context, HostsRequest) ([]hostabi.Instance, error) {
			return []hostabi.Instance{&scripted{steps: s.steps, wait: s.wait}}, nil
		}
		if err := c.module.keep(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		asked = 0
		sched := NewScheduler(c.module.runtime, SchedulerConfig{Store: store, Hosts: hosts})
		if err := sched.Resume(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if o, err := sched.Wait(ctx, "s"); err == nil {
			t.Errorf("%+v", o)
		}
		if err := sched.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if asked > 20 {
			t.Errorf("%s: asked %d times by a scheduler", kind, asked)
		}
	}
}
