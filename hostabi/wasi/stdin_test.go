package wasi

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/durun/durun/hostabi"
)

func TestStdin(t *testing.T) {
	for _, move := range []bool{false, true} {
		g := newGuest(t, Config{Stdin: NewStdin(strings.NewReader("hello\nworld"))})
		g.move = move
		g.wantRead(0, 6, "hello\n")
		g.wantRead(0, 3, "wor")
		g.wantRead(0, 100, "ld")
		waits := len(g.pending)
		g.wantRead(0, 100, "")
		if waits != 3 || len(g.pending) != 4 || g.pending[0].Kind != hostabi.KindStdin || !g.pending[0].Until.IsZero() {
			t.Errorf("waited for %+v", g.pending)
		}
		g.wantRead(0, 100, "")
		g.restore(func() { g.config.Stdin = strings.NewReader("more") })
		g.wantRead(0, 100, "")
		if len(g.pending) != 4 {
			t.Error("suspends after the end of the input")
		}
	}
}

func TestStdinNone(t *testing.T) {
	g := newGuest(t, Config{})
	g.wantRead(0, 10, "")
	g.restore(func() { g.config.Stdin = strings.NewReader("more") })
	g.wantRead(0, 10, "")
	if len(g.pending) != 0 {
		t.Error("suspends though there is no input")
	}
}

// TestStdinSuspendsFirst holds that nothing is consumed before the state is captured.
func TestStdinSuspendsFirst(t *testing.T) {
	r := &lines{list: []string{"abc", "def"}}
	g := newGuest(t, Config{Stdin: r})
	list, buf := g.iovec(10)
	result := g.space(4)
	_, p := g.start("fd_read", nil, 0, list, 1, result)
	if p == nil || len(r.list) != 2 {
		t.Fatalf("pending %v, %d lines left", p, len(r.list))
	}
	// The process ends here; another reads from the same terminal.
	g.restore(nil)
	if err := g.inst.Wait(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if e, p := g.start("fd_read", p, 0, list, 1, result); e != success || p != nil || g.u32(result) != 3 {
		t.Errorf("errno %d, %v, %d bytes", e, p, g.u32(result))
	}
	if b, _ := g.mem.Read(uint32(buf), 3); string(b) != "abc" {
		t.Errorf("read %q", b)
	}
	// A Wait that ended early.
	_, p = g.start("fd_read", nil, 0, list, 1, result)
	if _, again := g.start("fd_read", p, 0, list, 1, result); again != p {
		t.Errorf("completed without input: %v", again)
	}
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func TestStdinCancelledWait(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	in := NewStdin(pr)
	g := newGuest(t, Config{Stdin: in})
	g.clock.frozen = true
	list, _ := g.iovec(10)
	result := g.space(4)
	_, p := g.start("fd_read", nil, 0, list, 1, result)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if err := g.inst.Wait(ctx, p); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v", err)
	}
	// What the read that goes on brings is for the next instance.
	g.restore(func() { write(t, pw, "kept") })
	if err := g.inst.Wait(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if e, p := g.start("fd_read", p, 0, list, 1, result); e != success || p != nil || g.u32(result) != 4 {
		t.Errorf("errno %d, %v, %d bytes", e, p, g.u32(result))
	}
}

func TestStdinErrors(t *testing.T) {
	g := newGuest(t, Config{Stdin: iotest.ErrReader(errTest)})
	if _, e := g.read(0, 4); e != eIO {
		t.Errorf("failing reader: errno %d", e)
	}
	list, _ := g.iovec(4)
	g.want(eBadf, "fd_pread", 0, list, 1, 0, 64)
	g.want(eBadf, "fd_write", 0, list, 1, 64)
	g.want(eBadf, "fd_pwrite", 0, list, 1, 0, 64)
	g.want(eNosys, "fd_seek", 0, 0, 0, 64)
	waits := len(g.pending)
	g.want(eFault, "fd_read", 0, 1<<16-4, 1, 64)
	g.want(eFault, "fd_read", 0, list, 1, 1<<16-3)
	g.want(eFault, "fd_read", 0, list, 1<<29, 64) // times 8 overflows 32 bits
	g.want(success, "fd_read", 0, list, 0, 64)
	if len(g.pending) != waits {
		t.Error("suspends on a call that can't succeed or needs nothing")
	}
}

func TestStdinNonblock(t *testing.T) {
	pr, pw := io.Pipe()
	g := newGuest(t, Config{Stdin: NewStdin(pr)})
	g.want(success, "fd_fdstat_set_flags", 0, fdflagNonblock)
	g.restore(nil)
	if _, e := g.read(0, 4); e != eAgain {
		t.Errorf("errno %d, want EAGAIN", e)
	}
	write(t, pw, "now")
	if err := g.inst.stdin.reader.wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	g.wantRead(0, 4, "now")
	if len(g.pending) != 0 {
		t.Error("suspended")
	}
}

// TestStdinReader reads on, in the host, what a guest left.
func TestStdinReader(t *testing.T) {
	in := NewStdin(strings.NewReader("hello world"))
	g := newGuest(t, Config{Stdin: in})
	g.wantRead(0, 5, "hello")
	g.poll(sub{tag: eventFDRead, id: 0}) // reads ahead
	g.inst.Close()
	b, err := io.ReadAll(in)
	if err != nil || string(b) != " world" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestStdinReadAhead ends the process after a commit that has input which the guest asked for, but did not read.
func TestStdinReadAhead(t *testing.T) {
	g := newGuest(t, Config{Stdin: NewStdin(strings.NewReader("one two"))})
	g.poll(sub{tag: eventFDRead, id: 0}) // reads ahead
	g.wantRead(0, 4, "one ")
	g.restore(func() { g.config.Stdin = strings.NewReader("other") })
	g.wantRead(0, 2, "tw")
	g.restore(func() { g.config.Stdin = strings.NewReader("other") })
	if n, ok := g.inst.stdin.ready(); n != 1 || !ok {
		t.Errorf("%d bytes are ready, %v", n, ok)
	}
	g.wantRead(0, 4, "o")
	g.wantRead(0, 10, "other")

	// What no state has goes on in the reader.
	in := NewStdin(strings.NewReader("one two"))
	g = newGuest(t, Config{Stdin: in})
	data := g.save()
	g.poll(sub{tag: eventFDRead, id: 0})
	g.wantRead(0, 4, "one ")
	g.inst.Close()
	g.inst = g.newInstance()
	if err := g.inst.Restore(StateVersion, data); err != nil {
		t.Fatal(err)
	}
	g.wantRead(0, 10, "two") // "one " was consumed after the state that we went back to
}

// mailbox is a coroutine that can do nothing but receive messages.
type mailbox struct {
	hostabi.Coroutine
	last     uint32
	ops      map[uint32][]byte // nil: not received
	messages []string
}

func (m *mailbox) Begin(kind hostabi.OperationKind, name string, body []byte) (uint32, error) {
	if kind != hostabi.Recv || name != "stdin" || len(body) > 0 {
		return 0, &hostabi.OperationError{Code: hostabi.CodeInvalid}
	}
	m.last++
	m.ops[m.last] = nil
	return m.last, nil
}

func (m *mailbox) Result(op uint32) ([]byte, error) {
	data, ok := m.ops[op]
	switch {
	case !ok:
		return nil, &hostabi.OperationError{Code: hostabi.CodeUnknown}
	case data == nil:
		return nil, &hostabi.OperationError{Code: hostabi.CodePending}
	}
	return data, nil
}

func (m *mailbox) Drop(op uint32) error {
	delete(m.ops, op)
	return nil
}

// deliver ends an operation with the next message.
func (m *mailbox) deliver(op uint32) {
	m.ops[op] = append([]byte{}, m.messages[0]...)
	m.messages = m.messages[1:]
}

func TestStdinMessages(t *testing.T) {
	m := &mailbox{ops: map[uint32][]byte{}, messages: []string{"first line\n", "second", "", "never read"}}
	g := newGuest(t, Config{StdinMessages: true, Stdin: strings.NewReader("not this")})
	g.g.Coroutine = m
	read := func(n int, want string, suspends bool) {
		t.Helper()
		list, buf := g.iovec(n)
		result := g.space(4)
		e, p := g.start("fd_read", nil, 0, list, 1, result)
		if (p != nil) != suspends {
			t.Fatalf("read of %q: pending %+v", want, p)
		}
		if p != nil {
			if p.Kind != hostabi.KindOperations || len(p.Ops) != 1 || p.Min != 1 {
				t.Errorf("waits for %+v", p)
			}
			if _, again := g.start("fd_read", p, 0, list, 1, result); again == nil {
				t.Error("completed without a message")
			}
			g.restore(nil)
			m.deliver(p.Ops[0])
			e, p = g.start("fd_read", p, 0, list, 1, result)
		}
		b, _ := g.mem.Read(uint32(buf), g.u32(result))
		if e != success || p != nil || string(b) != want {
			t.Errorf("errno %d, %v, %q, want %q", e, p, b, want)
		}
	}
	read(5, "first", true)
	g.restore(func() { g.config.StdinMessages = false }) // it is the guest's
	read(100, " line\n", false)
	read(100, "second", true)
	g.want(success, "fd_fdstat_set_flags", 0, fdflagNonblock)
	list, _ := g.iovec(10)
	g.want(eAgain, "fd_read", 0, list, 1, 64)
	g.want(success, "fd_fdstat_set_flags", 0, 0)
	read(100, "", true)
	read(100, "", false) // the end stays
	g.restore(nil)
	read(100, "", false)
	if len(m.ops) != 0 || len(m.messages) != 1 {
		t.Errorf("%d operations, %d messages are left", len(m.ops), len(m.messages))
	}

	// poll_oneoff waits for a message, or the time.
	m.messages = []string{"polled", ""}
	g = newGuest(t, Config{StdinMessages: true})
	g.g.Coroutine = m
	for n, want := range []string{"polled", "polled", ""} {
		in := g.subs([]sub{{tag: eventFDRead, id: 0}, sleepFor(time.Second)})
		out := g.space(2 * eventSize)
		_, p := g.start("poll_oneoff", nil, in, out, 2, 64)
		if n == 1 { // it is still there
			if p != nil || g.u64(out) != 100 || g.u64(out+16) != uint64(len(want)) {
				t.Errorf("pending %+v, event %d of %d bytes", p, g.u64(out), g.u64(out+16))
			}
			g.wantRead(0, 20, want)
			continue
		}
		if p == nil || p.Kind != hostabi.KindOperations || len(p.Ops) != 1 || p.Until.IsZero() || p.Cancellable {
			t.Fatalf("waits for %+v", p)
		}
		g.restore(nil)
		m.deliver(p.Ops[0])
		if e, p := g.start("poll_oneoff", p, in, out, 2, 64); e != success || p != nil || g.u32(64) != 1 || g.u64(out) != 100 {
			t.Errorf("errno %d, %v, %d events, of %d", e, p, g.u32(64), g.u64(out))
		}
	}
	g.wantRead(0, 20, "")

	// A guest that drops all operations that it finds waits for the next message nevertheless.
	m.messages = []string{"x"}
	g = newGuest(t, Config{StdinMessages: true})
	g.g.Coroutine = m
	list, _ = g.iovec(10)
	_, p := g.start("fd_read", nil, 0, list, 1, 64)
	_ = m.Drop(p.Ops[0])
	_, p = g.start("fd_read", nil, 0, list, 1, 64)
	if _, err := m.Result(p.Ops[0]); !errors.Is(err, &hostabi.OperationError{Code: hostabi.CodePending}) {
		t.Errorf("waits for an operation that there isn't: %v", err)
	}
}
