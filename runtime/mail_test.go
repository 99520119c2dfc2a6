package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// TestReceipts remembers what was received of late, whoever has made its key: a request to send may be repeated that was done.
func TestReceipts(t *testing.T) {
	for _, key := range []string{"a key of the sender's", snapshot.NewMessageKey()} {
		var r receipts
		if r.has(key) {
			t.Errorf("%s: received before it came", key)
		}
		r.add(key)
		if !r.has(key) {
			t.Errorf("%s: not received", key)
		}
		r.deleted([]string{key})
		if !r.has(key) || len(r.undeleted) > 0 {
			t.Errorf("%s: forgotten with its deletion from the inbox", key)
		}
		for i := range maxReceipts {
			other := fmt.Sprint(i)
			r.add(other)
			r.deleted([]string{other})
			if had := i < maxReceipts-1; r.has(key) != had || !r.has(other) {
				t.Fatalf("%s: after %d others it is remembered: %v", key, i+1, r.has(key))
			}
		}
	}
}

// suspendedScript starts a script, and commits it where it waits first.
func suspendedScript(t *testing.T, m *Module, store *snapshot.Store, s *scripted) *Coroutine {
	t.Helper()
	c, err := m.Start(t.Context(), StartConfig{ID: "s", Hosts: []hostabi.Instance{s}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	d := Driver{Store: store, Once: true}
	if _, err := d.Drive(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// driveToEnd drives a coroutine to its end, in a minute at most, and returns its output.
func driveToEnd(t *testing.T, d Driver, c *Coroutine) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if status, err := d.Drive(ctx, c); err != nil || status != snapshot.Completed {
		t.Fatal(status, err, c.Err())
	}
	return logsOf(t, d.Store, c.ID())
}

func drop(ops ...uint32) step {
	return func(h hostabi.Coroutine, w *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
		for _, n := range ops {
			if err := h.Drop(n); err != nil {
				fmt.Fprintf(w, "drop: %v\n", err)
			}
		}
		return nil
	}
}

// TestMuchMail sends more than is read from an inbox at once. What nobody waits for any more doesn't stand before what somebody does,
// and what was left out comes when there is room.
func TestMuchMail(t *testing.T) {
	const n = 6
	steps := []step{begin(hostabi.Recv, "large", nil), begin(hostabi.Recv, "small", nil), awaitAll(1), drop(1), awaitAll(2), results(2)}
	for i := range uint32(n - 1) {
		steps = append(steps, begin(hostabi.Recv, "large", nil), awaitAll(3+i), drop(3+i))
	}
	s := &scripted{steps: steps}
	store := snapshot.NewStore(bucket.NewMem())
	c := suspendedScript(t, scriptGuest(t), store, s)
	data := make([]byte, hostabi.MaxPayload)
	for range n {
		if _, err := store.Send(t.Context(), "s", snapshot.Message{Name: "large", Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Send(t.Context(), "s", snapshot.Message{Name: "small", Data: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	got := driveToEnd(t, Driver{Store: store, Outside: &Outside{}}, c)
	if strings.Count(got, "ended") != n+1 || !strings.Contains(got, `2: "hello" <nil>`) {
		t.Error(got)
	}
	if left, _, err := store.Inbox(t.Context(), "s"); err != nil || len(left) > 0 {
		t.Errorf("%d messages are left, %v", len(left), err)
	}
}

// TestMailWithoutRoom has a message come for which the coroutine has no room: it is not lost.
func TestMailWithoutRoom(t *testing.T) {
	set := &handler.Set{}
	set.Handle("large", func(context.Context, handler.Call) ([]byte, error) { return make([]byte, hostabi.MaxPayload-10), nil }, handler.Policy{})
	var steps []step
	for range hostabi.MaxPayloads / hostabi.MaxPayload {
		steps = append(steps, begin(hostabi.Call, "large", nil))
	}
	steps = append(steps, awaitAll(1, 2, 3, 4), begin(hostabi.Recv, "m", nil), awaitAll(5), results(5), drop(1), begin(hostabi.Recv, "m", nil), awaitAll(6), results(6))
	store := snapshot.NewStore(bucket.NewMem())
	c := suspendedScript(t, scriptGuest(t), store, &scripted{steps: steps})
	if _, err := store.Send(t.Context(), "s", snapshot.Message{Name: "m", Data: []byte(strings.Repeat("x", 100))}); err != nil {
		t.Fatal(err)
	}
	got := driveToEnd(t, Driver{Store: store, Outside: &Outside{Handlers: set}}, c)
	if !strings.Contains(got, `5: "" limit: `) || !strings.Contains(got, `6: "xxxx`) {
		t.Error(got)
	}
}

// TestMailUndeleted has the deletion of received messages fail, which are so many that no more can be received: it is tried again,
// although nothing happens to the coroutine.
func TestMailUndeleted(t *testing.T) {
	const n = maxUndeleted + 50
	var failed atomic.Int32
	store := snapshot.NewStore(buckettest.NewFaulty(bucket.NewMem(), func(op buckettest.Op) buckettest.Fault {
		if op.Name == "delete" && strings.HasPrefix(op.Key, "inbox/") && failed.Add(1) == 1 {
			return buckettest.Fault{Before: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	}))
	var steps []step
	var ops []uint32
	for i := range uint32(n) {
		steps = append(steps, begin(hostabi.Recv, "m", nil))
		ops = append(ops, i+1)
	}
	s := &scripted{steps: append(steps, awaitAll(ops...))}
	c := suspendedScript(t, scriptGuest(t), store, s)
	for range n {
		if _, err := store.Send(t.Context(), "s", snapshot.Message{Name: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	driveToEnd(t, Driver{Store: store, Outside: &Outside{}}, c)
	if failed.Load() <= n {
		t.Errorf("messages were deleted %d times", failed.Load())
	}
}

// TestMailSentAgain sends more messages again that were received than a coroutine notes as to be deleted.
func TestMailSentAgain(t *testing.T) {
	c := suspendedScript(t, scriptGuest(t), snapshot.NewStore(bucket.NewMem()), &scripted{steps: []step{begin(hostabi.Recv, "m", nil), awaitAll(1)}})
	o := newOperator(t.Context(), nil, nil, c, func() {})
	var mail []snapshot.Message
	for i := range maxReceipts {
		m := snapshot.Message{Name: "m", Key: fmt.Sprint(i)}
		c.abi.received.add(m.Key)
		mail = append(mail, m)
	}
	c.abi.received.undeleted = nil
	o.sort(append(mail, snapshot.Message{Name: "m", Key: "new"}))
	if n := len(c.abi.received.undeleted); n != maxUndeleted || len(o.box["m"]) != 1 {
		t.Errorf("%d to be deleted, %d to be received", n, len(o.box["m"]))
	}
	version, data, err := c.abi.Save()
	if err == nil {
		err = newABI("s", nil).Restore(version, data)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestNewsBeforeWait has something end when poll was asked, and whoever it tells has not been told yet.
func TestNewsBeforeWait(t *testing.T) {
	waits := func(_ hostabi.Coroutine, _ *bytes.Buffer, p *hostabi.Pending) *hostabi.Pending {
		if p == nil {
			p = &hostabi.Pending{Kind: hostabi.KindStdin}
		}
		return p
	}
	s := &scripted{steps: []step{waits}, wait: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	c := suspendedScript(t, scriptGuest(t), snapshot.NewStore(bucket.NewMem()), s)
	ss := newSession(t.Context(), &Driver{}, c, func() {})
	ss.op.mu.Lock()
	ss.op.arrived = append(ss.op.arrived, arrival{number: 1}) // as arrives does before it calls onNews
	ss.op.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if over, err := ss.waitHost(ctx, time.Time{}); over || err != nil {
		t.Errorf("over: %v, %v; want that there is news", over, err)
	}
}

// fakeChildren note what they are asked for.
type fakeChildren struct {
	spawned []Child
	ctx     []context.Context
	done    []func([]byte, error)
	cancel  error // of CancelChild
}

func (f *fakeChildren) Spawn(ctx context.Context, c Child, done func([]byte, error)) {
	f.spawned, f.ctx, f.done = append(f.spawned, c), append(f.ctx, ctx), append(f.done, done)
}

func (f *fakeChildren) CancelChild(context.Context, Child) error { return f.cancel }

// TestDroppedChild drops a child that can't be told before its parent's driver dies. Whoever goes on with the parent knows of the child, and gives it up.
func TestDroppedChild(t *testing.T) {
	poll := await(hostabi.Wait{Ops: []uint32{1}, Min: 1})
	operations := func(h hostabi.Coroutine, w *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
		_, err := h.Result(1)
		fmt.Fprintln(w, h.Operations(), err, h.Drop(1), h.Cancel(1))
		return nil
	}
	s := &scripted{steps: []step{begin(hostabi.Spawn, "child", nil), poll, drop(1), operations, begin(hostabi.Recv, "go on", nil), awaitAll(2), operations}}
	m, store := scriptGuest(t), snapshot.NewStore(bucket.NewMem())
	c, err := m.Start(t.Context(), StartConfig{ID: "s", Hosts: []hostabi.Instance{s}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	children := &fakeChildren{cancel: errors.New("the store is gone")}
	ctx, cancel := context.WithCancel(t.Context())
	d := Driver{Store: store, Outside: &Outside{Children: children}, OnCommit: func(commit snapshot.Commit) {
		if commit.Seq == 2 {
			cancel()
		}
	}}
	if _, err := d.Drive(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(children.spawned) != 1 || children.spawned[0].GivenUp || children.ctx[0].Err() == nil {
		t.Fatalf("spawned before the crash: %+v", children.spawned)
	}

	restored, err := m.RestoreFrom(t.Context(), store, "s", 0, RestoreConfig{Hosts: []hostabi.Instance{&scripted{steps: s.steps}}})
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	children = &fakeChildren{}
	news := make(chan struct{}, 100)
	ss := newSession(t.Context(), &Driver{Store: store, Outside: &Outside{Children: children}}, restored, func() { news <- struct{}{} })
	defer ss.close(t.Context(), ErrClosed)
	if _, err := ss.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(children.spawned) != 1 || !children.spawned[0].GivenUp || children.spawned[0].ID != "s.1" {
		t.Fatalf("spawned after the crash: %+v", children.spawned)
	}
	children.done[0](nil, refuse(hostabi.CodeCancelled, ""))
	ss.poll()
	if all := restored.abi.ops.all; all[1] != nil || all[2] == nil || children.ctx[0].Err() == nil {
		t.Errorf("a child that has ended is still known: %v", all)
	}
	if got := logsOf(t, store, "s"); !strings.HasSuffix(got, "[] unknown: there is no operation 1 unknown: there is no operation 1 unknown: there is no operation 1\n") {
		t.Errorf("the parent saw %q", got)
	}
}

// TestManyFailures has very many operations fail with long messages: what the coroutine has then can be restored.
func TestManyFailures(t *testing.T) {
	a := newABI("x", nil)
	message := strings.Repeat("é", maxMessage)
	for range hostabi.MaxOperations {
		if _, err := a.Begin(hostabi.Call, "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint32(hostabi.MaxOperations) {
		a.ops.end(i+1, hostabi.CodeFailed, message, nil)
	}
	if _, err := a.Result(1); !strings.Contains(err.Error(), message[:maxMessage]) {
		t.Error("the first has a message that is too short")
	}
	if _, err := save(t, a).restore(); err != nil {
		t.Error(err)
	}
}

// TestDroppedAtOnce has a guest begin and drop without end: nothing of that stays.
func TestDroppedAtOnce(t *testing.T) {
	for _, kind := range []hostabi.OperationKind{hostabi.Call, hostabi.Recv, hostabi.Spawn} {
		a := newABI("x", nil)
		var body []byte
		if kind != hostabi.Recv {
			body = make([]byte, 1000)
		}
		for i := range uint32(10_000) {
			if _, err := a.Begin(kind, "x", body); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				_ = a.Cancel(i + 1)
			}
			_ = a.Drop(i + 1)
		}
		if n := len(a.ops.fresh) + len(a.ops.recvs) + len(a.ops.list) + len(a.ops.given) + len(a.ops.all); n > 300 {
			t.Errorf("%v: %d are kept", kind, n)
		}
		if a.ops.waiting() || a.ops.size != 0 {
			t.Errorf("%v: waiting %v, %d bytes", kind, a.ops.waiting(), a.ops.size)
		}
		if slices.ContainsFunc(a.ops.fresh, func(o *operation) bool { return o.body != nil }) {
			t.Errorf("%v: bodies are kept", kind)
		}
	}
}

// TestWallClock keeps times as the wall clock has them, also while the coroutine stays in memory.
func TestWallClock(t *testing.T) {
	a := newABI("x", nil)
	if _, err := a.Begin(hostabi.Timer, "", nanoseconds(time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, p, err := a.Await(hostabi.Wait{Ops: []uint32{1}, Min: 1, Timeout: time.Hour}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{a.ops.get(1).due, a.ops.get(1).begun, p.Until} {
		if at != at.Round(0) { // the representations: Equal does not see the other clock
			t.Errorf("%v has a reading of another clock", at)
		}
	}
}

// TestUntil has a guest wait for timers and others, and looks at when that is over at the latest: it is what listings show.
func TestUntil(t *testing.T) {
	a := newABI("x", nil)
	for i := range 3 { // 1, 2 and 3: hours; 4: a message
		if _, err := a.Begin(hostabi.Timer, "", nanoseconds(time.Duration(3-i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Begin(hostabi.Recv, "m", nil); err != nil {
		t.Fatal(err)
	}
	three, two, one := a.ops.get(1).due, a.ops.get(2).due, a.ops.get(3).due
	for _, test := range []struct {
		name string
		wait hostabi.Wait
		want time.Time
	}{
		{"one", hostabi.Wait{Ops: []uint32{1}, Min: 1, Timeout: -1}, three},
		{"the first of all", hostabi.Wait{Ops: []uint32{1, 2, 3, 4}, Min: 1, Timeout: -1}, one},
		{"two of all", hostabi.Wait{Ops: []uint32{1, 2, 3, 4}, Min: 2, Timeout: -1}, two},
		{"two successes", hostabi.Wait{Ops: []uint32{1, 2, 4}, Min: 2, Success: true, Timeout: -1}, three},
		{"all", hostabi.Wait{Ops: []uint32{1, 2, 3, 4}, Min: 4, Timeout: -1}, time.Time{}},
		{"a message", hostabi.Wait{Ops: []uint32{4}, Min: 1, Timeout: -1}, time.Time{}},
		{"a timer before the time-out", hostabi.Wait{Ops: []uint32{3, 4}, Min: 1, Timeout: 100 * time.Hour}, one},
	} {
		_, p, err := a.Await(test.wait, nil)
		if err != nil || p == nil || p.Until != test.want {
			t.Errorf("%s: %v, %v; want %v", test.name, p, err, test.want)
		}
	}
	_, p, err := a.Await(hostabi.Wait{Ops: []uint32{1, 4}, Min: 1, Timeout: time.Minute}, nil)
	if err != nil || p == nil || !p.Until.Before(one) {
		t.Errorf("a time-out before the timer: %v, %v", p, err)
	}
	a.ops.end(4, 0, "", nil)
	if _, p, err = a.Await(hostabi.Wait{Ops: []uint32{1, 2, 4}, Min: 2, Timeout: -1}, nil); err != nil || p == nil || p.Until != two {
		t.Errorf("with a message received: %v, %v; want %v", p, err, two)
	}
}

// TestMailStorm sends messages, some twice, to a coroutine that leaves memory whenever it waits, by a store that fails now and then, while
// its scheduler is stopped again and again. Each is received once, and in order.
func TestMailStorm(t *testing.T) {
	const n = 150
	mem := bucket.NewMem()
	var seed atomic.Uint32
	faulty := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		one := uint32(11) // in so many fails
		if op.Name == "get" && strings.HasPrefix(op.Key, "inbox/") {
			one = 500 // to read an inbox takes as many reads as it has messages
		}
		if seed.Add(2654435761)>>16%one > 0 || op.Name == "lock" {
			return buckettest.Fault{}
		}
		err := &bucket.Error{Op: op.Name, Key: op.Key, Kind: buckettest.ErrInjected, Err: buckettest.ErrInjected}
		if op.Name == "put" && op.N%2 == 0 {
			return buckettest.Fault{After: err}
		}
		return buckettest.Fault{Before: err}
	})
	var steps []step
	for i := range uint32(n) {
		steps = append(steps, begin(hostabi.Recv, "m", nil), awaitAll(i+1), results(i+1), drop(i+1))
	}
	m := scriptGuest(t)
	store := snapshot.NewStore(mem)
	suspendedScript(t, m, store, &scripted{steps: steps})
	if err := m.keep(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			message := snapshot.Message{Name: "m", Key: fmt.Sprintf("key %d", i), Data: fmt.Append(nil, i)}
			for range 1 + i%2 {
				if _, err := store.Send(t.Context(), "s", message); err != nil && !errors.Is(err, snapshot.ErrEnded) {
					sent <- err
					return
				}
			}
		}
		sent <- nil
	}()
	lives := 0
	for ended := false; !ended; lives++ {
		if lives > 5000 {
			t.Fatal("it gets nowhere")
		}
		s := NewScheduler(m.runtime, SchedulerConfig{
			Store: snapshot.NewStore(faulty), Memory: 1, Clock: newFastClock(100),
			Hosts: func(context.Context, HostsRequest) ([]hostabi.Instance, error) {
				return []hostabi.Instance{&scripted{steps: steps}}, nil
			},
		})
		if _, err := s.add("s", func() *task { return &task{id: "s"} }, false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(500+20*lives)*time.Microsecond)
		o, err := s.Wait(ctx, "s")
		cancel()
		if ended = err == nil; ended && o.Status != snapshot.Completed {
			t.Errorf("%+v", o)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		_ = s.Close(ctx) // what fails there is not committed, and received again
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range n {
		fmt.Fprintf(&want, "ended [%d] <nil>\n%d: \"%d\" <nil>\n", i+1, i+1, i)
	}
	if got := logsOf(t, store, "s"); got != want.String() {
		t.Errorf("in %d lives:\n%s", lives, got)
	}
	t.Logf("%d lives", lives)
}

// mailScript receives n messages of the name "m", one after the other.
func mailScript(n int) []step {
	var steps []step
	for i := range uint32(n) {
		steps = append(steps, begin(hostabi.Recv, "m", nil), awaitAll(i+1), results(i+1), drop(i+1))
	}
	return steps
}

// received are the data of messages that mailScript has received, as driveToEnd returns it.
func received(t *testing.T, output string) string {
	t.Helper()
	var data []string
	for _, m := range regexp.MustCompile(`\d+: "(.*)" <nil>`).FindAllStringSubmatch(output, -1) {
		data = append(data, m[1])
	}
	return strings.Join(data, " ")
}

// TestUnreadMail has the store fail to give the first of three messages: the others wait for it, as long as that may pass.
func TestUnreadMail(t *testing.T) {
	for _, c := range []struct {
		name  string
		speed int64 // of the clock
		want  string
	}{
		{"for a moment", 1, "1 2 3"},
		{"until others went past it", 1000, "2 3 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var first atomic.Pointer[string]
			var failures, reports atomic.Int32
			store := snapshot.NewStore(buckettest.NewFaulty(bucket.NewMem(), func(op buckettest.Op) buckettest.Fault {
				fails := op.Name == "get" && first.Load() != nil && op.Key == "inbox/s/"+*first.Load() && reports.Load() == 0
				if !fails || c.speed == 1 && failures.Load() == 1 {
					return buckettest.Fault{}
				}
				failures.Add(1)
				return buckettest.Fault{Before: buckettest.ErrInjected}
			}))
			coroutine := suspendedScript(t, scriptGuest(t), store, &scripted{steps: mailScript(3)})
			for i := range 3 {
				r, err := store.Send(t.Context(), "s", snapshot.Message{Name: "m", Data: fmt.Append(nil, i+1)})
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					first.Store(&r.Key)
				}
			}
			outside := &Outside{Now: newFastClock(c.speed).Now, OnUnreadable: func(id string, m snapshot.Message) {
				if reports.Add(1) > 1 || id != "s" || m.Key != *first.Load() || !errors.Is(m.Err, buckettest.ErrInjected) {
					t.Errorf("reported: %s, %+v", id, m)
				}
			}}
			if got := received(t, driveToEnd(t, Driver{Store: store, Outside: outside}, coroutine)); got != c.want {
				t.Errorf("received: %s, want %s", got, c.want)
			}
			if failures.Load() == 0 || (reports.Load() > 0) != (c.speed > 1) {
				t.Errorf("%d failures, %d reports", failures.Load(), reports.Load())
			}
		})
	}
}

// TestDamagedMail has a damaged message before one that is not.
func TestDamagedMail(t *testing.T) {
	mem := bucket.NewMem()
	store := snapshot.NewStore(mem)
	c := suspendedScript(t, scriptGuest(t), store, &scripted{steps: mailScript(1)})
	damaged := snapshot.NewMessageKey()
	if err := bucket.PutBytes(t.Context(), mem, "inbox/s/"+damaged, []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Send(t.Context(), "s", snapshot.Message{Name: "m", Data: []byte("sound")}); err != nil {
		t.Fatal(err)
	}
	reports := 0
	outside := &Outside{OnUnreadable: func(_ string, m snapshot.Message) {
		if reports++; m.Key != damaged || !errors.Is(m.Err, snapshot.ErrCorrupt) {
			t.Errorf("%+v", m)
		}
	}}
	if got := received(t, driveToEnd(t, Driver{Store: store, Outside: outside}, c)); got != "sound" || reports != 1 {
		t.Errorf("received: %s, %d reports", got, reports)
	}
}

// TestCancelPastUnreadMail asks a coroutine to end whose other message the store does not give.
func TestCancelPastUnreadMail(t *testing.T) {
	var u unreadMail
	now := time.Now()
	mail := []snapshot.Message{
		{Key: "unread", Err: buckettest.ErrInjected},
		{Name: "m", Key: "after"},
		{Name: snapshot.CancelMessage, Key: snapshot.CancelMessage},
	}
	if sound, _ := u.sort(mail, now); len(sound) != 1 || sound[0].Name != snapshot.CancelMessage || !u.holding {
		t.Errorf("%+v", sound)
	}
	mail[0].Name = "other"
	if sound, _ := u.sort(mail, now); len(sound) != 2 {
		t.Errorf("of another name: %+v", sound)
	}
}

// stalled is a bucket whose listings of inboxes return only when their context is done, once it has stalled.
type stalled struct {
	bucket.Bucket
	now atomic.Bool
}

func (b *stalled) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	if b.now.Load() && strings.HasPrefix(o.Prefix, "inbox/") {
		return func(yield func(bucket.Entry, error) bool) {
			<-ctx.Done()
			yield(bucket.Entry{}, ctx.Err())
		}
	}
	return b.Bucket.List(ctx, o)
}

// TestMailStalled has a coroutine end while its inbox is being read and that takes for ever, and a message that it has
// received is not deleted yet. It is then, as nobody else would.
func TestMailStalled(t *testing.T) {
	var stall stalled
	var deletions atomic.Int32
	failed := make(chan struct{})
	stall.Bucket = buckettest.NewFaulty(bucket.NewMem(), func(op buckettest.Op) buckettest.Fault {
		if op.Name != "delete" || !strings.HasPrefix(op.Key, "inbox/") {
			return buckettest.Fault{}
		}
		switch deletions.Add(1) {
		case 1:
			close(failed)
			return buckettest.Fault{Before: buckettest.ErrInjected}
		case 2: // the first when it has ended
			return buckettest.Fault{Before: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	})
	store := snapshot.NewStore(&stall)
	moment := nanoseconds(time.Millisecond)
	steps := append(mailScript(1), begin(hostabi.Timer, "", moment), awaitAll(2),
		func(hostabi.Coroutine, *bytes.Buffer, *hostabi.Pending) *hostabi.Pending {
			<-failed
			stall.now.Store(true)
			return nil
		},
		begin(hostabi.Recv, "other", nil), begin(hostabi.Timer, "", moment), awaitAll(4))
	c := suspendedScript(t, scriptGuest(t), store, &scripted{steps: steps})
	if _, err := store.Send(t.Context(), "s", snapshot.Message{Name: "m", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if got := received(t, driveToEnd(t, Driver{Store: store, Outside: &Outside{}}, c)); got != "x" {
		t.Errorf("received: %s", got)
	}
	stall.now.Store(false)
	if left, _, err := store.Inbox(t.Context(), "s"); err != nil || len(left) > 0 || deletions.Load() != 3 {
		t.Errorf("left: %+v, %v after %d deletions", left, err, deletions.Load())
	}
}

// TestMissedMail has the inbox, or the message in it, fail when that comes for a coroutine for which there is no room in memory.
func TestMissedMail(t *testing.T) {
	for _, name := range []string{"list", "get"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := waiters(t)
			mem := bucket.NewMem()
			var failures atomic.Int32
			approval := snapshot.Message{Name: "approval", Key: snapshot.NewMessageKey(), Data: []byte("yes")}
			faulty := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
				if (op.Key == "inbox/a/" || op.Key == "inbox/a/"+approval.Key) && op.Name == name && failures.Add(-1) >= 0 {
					return buckettest.Fault{Before: buckettest.ErrInjected}
				}
				return buckettest.Fault{}
			})
			inbox := snapshot.NewInboxWatcher(snapshot.NewStore(mem), snapshot.InboxWatcherOptions{
				Interval: time.Hour, // it looks around, and tells again, when all is over
			})
			defer inbox.Close()
			s := newTestScheduler(t, m, SchedulerConfig{Store: snapshot.NewStore(faulty), Memory: 1, Inbox: inbox})
			if _, err := s.Start(t.Context(), Program{ID: "a", Module: m, Entry: "approve", Input: nanoseconds(-1)}); err != nil {
				t.Fatal(err)
			}
			sent := snapshot.NewStore(mem)
			if _, err := sent.Send(t.Context(), "a", snapshot.Message{Name: "something else"}); err != nil { // which can be read
				t.Fatal(err)
			}
			for st := s.Stats(); st.Resident+st.Running+st.Ready > 0; st = s.Stats() {
				time.Sleep(time.Millisecond) //nolint:forbidigo // an eviction has no event
			}
			failures.Store(1)
			if _, err := sent.Send(t.Context(), "a", approval); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if o, err := s.Wait(ctx, "a"); err != nil || string(o.Result) != "yes" {
				t.Errorf("%+v, %v", o, err)
			}
		})
	}
}
