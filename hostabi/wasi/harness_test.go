package wasi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/experimental/wazerotest"

	"github.com/durun/durun/hostabi"
)

// fakeClock stands still but when somebody sleeps.
type fakeClock struct {
	mu         sync.Mutex
	wall, mono int64
	frozen     bool // sleepers sleep until their context is done
}

func newFakeClock() *fakeClock {
	return &fakeClock{wall: time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC).UnixNano(), mono: 77}
}

func (c *fakeClock) Wall() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

func (c *fakeClock) Mono() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mono
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.mono = c.wall+int64(d), c.mono+int64(d)
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	if c.frozen {
		<-ctx.Done()
		return ctx.Err()
	}
	c.advance(d)
	return ctx.Err()
}

// testRandom is a source that never ends.
type testRandom byte

func (r testRandom) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

// guest plays a guest: memory, and calls by name.
type guest struct {
	t      testing.TB
	config Config
	inst   *Instance
	clock  *fakeClock
	mem    *wazerotest.Memory
	g      *hostabi.Guest
	out    [3]bytes.Buffer
	top    uint32

	pending []*hostabi.Pending // what calls waited for
	move    bool               // at each await point, save, and restore into a new instance

	co      *fakeCoroutine
	outside func() // what happens outside while the guest waits for operations; by default time passes
}

func newGuest(t testing.TB, c Config) *guest {
	t.Helper()
	g := &guest{t: t, clock: newFakeClock(), mem: wazerotest.NewMemory(1 << 16), top: 64}
	if c.Clock == nil {
		c.Clock = g.clock
	}
	g.config = c
	g.co = &fakeCoroutine{clock: g.clock, id: "me"}
	g.g = &hostabi.Guest{Memory: g.mem, Coroutine: g.co, Output: func(stream uint8, p []byte) error {
		g.out[stream].Write(p)
		return nil
	}}
	g.inst = g.newInstance()
	return g
}

func (g *guest) newInstance() *Instance {
	g.t.Helper()
	i, err := New(g.config)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { i.Close() })
	return i
}

// save returns the state, and checks that it is stable.
func (g *guest) save() []byte {
	g.t.Helper()
	version, data, err := g.inst.Save()
	if err != nil || version != StateVersion {
		g.t.Fatalf("Save: version %d, %v", version, err)
	}
	g.clock.advance(1) // the time of the call is not part of the encoding
	if _, again, err := g.inst.Save(); err != nil || !bytes.Equal(data, again) {
		g.t.Fatalf("Save again: %x, then %x, %v", data, again, err)
	}
	return data
}

// restore goes on in a new instance, after between.
func (g *guest) restore(between func()) {
	g.t.Helper()
	data := g.save()
	parts, err := g.inst.SaveParts()
	if err != nil {
		g.t.Fatal(err)
	}
	g.inst.Close()
	if between != nil {
		between()
	}
	g.inst = g.newInstance()
	if err := g.inst.RestoreParts(StateVersion, parts); err != nil {
		g.t.Fatal(err)
	}
	if err := g.inst.Restore(StateVersion, data); err != nil {
		g.t.Fatal(err)
	}
}

func function(name string) *hostabi.Function {
	n := slices.IndexFunc(Module.Functions, func(f hostabi.Function) bool { return f.Name == name })
	return &Module.Functions[n]
}

// start calls a function and returns the Pending, or the errno.
func (g *guest) start(name string, p *hostabi.Pending, args ...uint64) (errno, *hostabi.Pending) {
	g.t.Helper()
	f := function(name)
	if len(args) != len(f.Params) {
		g.t.Fatalf("%s takes %d arguments, not %d", name, len(f.Params), len(args))
	}
	stack := make([]uint64, max(len(f.Params), len(f.Results)))
	copy(stack, args)
	if f.Await == nil {
		f.Call(context.Background(), g.g, g.inst, stack)
		return errno(stack[0]), nil
	}
	p = f.Await(context.Background(), g.g, g.inst, stack, p)
	if p == nil {
		return errno(stack[0]), nil
	}
	if !slices.Equal(stack[:len(args)], args) {
		g.t.Fatalf("%s changed its arguments before it suspended", name)
	}
	return 0, p
}

// call calls a function until it completes.
func (g *guest) call(name string, args ...uint64) errno {
	g.t.Helper()
	e, p := g.start(name, nil, args...)
	for p != nil {
		g.pending = append(g.pending, p)
		if g.move {
			g.restore(nil)
		}
		g.wait(name, p)
		e, p = g.start(name, p, args...)
	}
	return e
}

// wait waits as the runtime does.
func (g *guest) wait(name string, p *hostabi.Pending) {
	g.t.Helper()
	switch {
	case p.Kind == hostabi.KindYield:
	case p.Kind == hostabi.KindOperations:
		g.co.pass(p, g.outside)
	default:
		if err := g.inst.Wait(context.Background(), p); err != nil {
			g.t.Fatalf("%s: Wait: %v", name, err)
		}
	}
}

// want calls and checks the errno.
func (g *guest) want(e errno, name string, args ...uint64) {
	g.t.Helper()
	if got := g.call(name, args...); got != e {
		g.t.Errorf("%s(%v) = %d, want %d", name, args, got, e)
	}
}

// put places bytes in memory.
func (g *guest) put(b []byte) uint64 {
	at := g.top
	if !g.mem.Write(at, b) {
		g.t.Fatal("test needs more memory")
	}
	g.top += uint32(len(b)+15) &^ 7
	return uint64(at)
}

// path places a path and returns its two arguments.
func (g *guest) path(s string) (ptr, size uint64) { return g.put([]byte(s)), uint64(len(s)) }

// space reserves memory.
func (g *guest) space(n int) uint64 { return g.put(make([]byte, n)) }

func (g *guest) u32(at uint64) uint32 {
	v, _ := g.mem.ReadUint32Le(uint32(at))
	return v
}

func (g *guest) u64(at uint64) uint64 {
	v, _ := g.mem.ReadUint64Le(uint32(at))
	return v
}

// iovec places a list of one buffer of n bytes.
func (g *guest) iovec(n int) (list, buf uint64) {
	buf = g.space(n)
	return g.put(le.AppendUint32(le.AppendUint32(nil, uint32(buf)), uint32(n))), buf
}

type openArgs struct {
	dir      uint64 // default 3
	nofollow bool
	oflags   uint64
	rights   uint64 // default: read
	fdflags  uint64
}

const readWrite = rightFDRead | rightFDWrite

// tryOpen is path_open.
func (g *guest) tryOpen(name string, a openArgs) (uint64, errno) {
	g.t.Helper()
	if a.dir == 0 {
		a.dir = 3
	}
	if a.rights == 0 {
		a.rights = rightFDRead
	}
	follow := uint64(lookupSymlinkFollow)
	if a.nofollow {
		follow = 0
	}
	ptr, size := g.path(name)
	result := g.space(4)
	e := g.call("path_open", a.dir, follow, ptr, size, a.oflags, a.rights, 0, a.fdflags, result)
	return uint64(g.u32(result)), e
}

func (g *guest) open(name string, a openArgs) uint64 {
	g.t.Helper()
	fd, e := g.tryOpen(name, a)
	if e != success {
		g.t.Fatalf("open %s: errno %d", name, e)
	}
	return fd
}

// read is fd_read of one buffer.
func (g *guest) read(fd uint64, n int) (string, errno) {
	g.t.Helper()
	defer func(top uint32) { g.top = top }(g.top)
	list, buf := g.iovec(n)
	result := g.space(4)
	if e := g.call("fd_read", fd, list, 1, result); e != success {
		return "", e
	}
	b, _ := g.mem.Read(uint32(buf), g.u32(result))
	return string(b), success
}

func (g *guest) wantRead(fd uint64, n int, want string) {
	g.t.Helper()
	if got, e := g.read(fd, n); e != success || got != want {
		g.t.Errorf("read %d from %d: %q, errno %d; want %q", n, fd, got, e, want)
	}
}

// write is fd_write of one buffer.
func (g *guest) write(fd uint64, s string) errno {
	g.t.Helper()
	defer func(top uint32) { g.top = top }(g.top)
	list, buf := g.iovec(len(s))
	g.mem.WriteString(uint32(buf), s)
	result := g.space(4)
	e := g.call("fd_write", fd, list, 1, result)
	if n := g.u32(result); e == success && int(n) != len(s) {
		g.t.Errorf("write: %d bytes of %d", n, len(s))
	}
	return e
}

func (g *guest) tell(fd uint64) int64 {
	g.t.Helper()
	result := g.space(8)
	g.want(success, "fd_tell", fd, result)
	return int64(g.u64(result))
}

// files makes a folder.
func files(t testing.TB, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, s := range content {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mounted(t testing.TB, content map[string]string) (*guest, string) {
	dir := files(t, content)
	return newGuest(t, Config{Mounts: []Mount{{Host: dir}}}), dir
}

func content(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func remove(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, name string) {
	t.Helper()
	if err := os.WriteFile(name, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// lines is a reader that returns one line a call, and then blocks if it is told to.
type lines struct {
	list  []string
	block chan struct{}
}

func (l *lines) Read(p []byte) (int, error) {
	if len(l.list) == 0 {
		if l.block != nil {
			<-l.block
		}
		return 0, io.EOF
	}
	n := copy(p, l.list[0])
	if l.list[0] = l.list[0][n:]; l.list[0] == "" {
		l.list = l.list[1:]
	}
	return n, nil
}

var errTest = errors.New("test")

func contains(t testing.TB, s, sub string) {
	t.Helper()
	if !strings.Contains(s, sub) {
		t.Errorf("%q does not contain %q", s, sub)
	}
}
