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
	if err := g.inst.stdin.wait(t.Context(), 1); err != nil {
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
	b, err := io.ReadAll(in)
	if err != nil || string(b) != " world" {
		t.Errorf("%q, %v", b, err)
	}
}
