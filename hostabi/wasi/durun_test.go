package wasi

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/hostabi"
)

// durunGuest has the files under /durun, as descriptor 4; 3 is the root.
func durunGuest(t testing.TB) *guest {
	t.Helper()
	return newGuest(t, Config{Durun: true})
}

// openDurun opens one of the files.
func (g *guest) openDurun(name string, a openArgs) uint64 {
	g.t.Helper()
	a.dir = g.preopened(durunName)
	return g.open(name, a)
}

// preopened finds a preopened descriptor by its name.
func (g *guest) preopened(name string) uint64 {
	g.t.Helper()
	defer func(top uint32) { g.top = top }(g.top)
	buf, size := g.space(64), g.space(8)
	for fd := uint64(3); g.call("fd_prestat_get", fd, size) == success; fd++ {
		n := uint64(g.u32(size + 4))
		g.want(success, "fd_prestat_dir_name", fd, buf, n)
		if b, _ := g.mem.Read(uint32(buf), uint32(n)); string(b) == name {
			return fd
		}
	}
	g.t.Fatalf("there is no preopened %s", name)
	return 0
}

// readAll reads to the end, n bytes at a time.
func (g *guest) readAll(fd uint64, n int) string {
	g.t.Helper()
	var b strings.Builder
	for {
		s, e := g.read(fd, n)
		if e != success {
			g.t.Fatalf("read %d: errno %d after %q", fd, e, b.String())
		}
		if s == "" {
			return b.String()
		}
		b.WriteString(s)
	}
}

// ask makes a request and returns the response.
func (g *guest) ask(rpc uint64, request string) string {
	g.t.Helper()
	if e := g.write(rpc, request); e != success {
		g.t.Fatalf("write %.60q: errno %d", request, e)
	}
	return g.readAll(rpc, 1000)
}

func (g *guest) wantAsk(rpc uint64, request, want string) {
	g.t.Helper()
	if got := g.ask(rpc, request); got != want {
		g.t.Errorf("%.60q: %q, want %q", request, got, want)
	}
}

// names lists a folder.
func (g *guest) names(fd uint64) []string {
	g.t.Helper()
	defer func(top uint32) { g.top = top }(g.top)
	buf, result := g.space(4096), g.space(4)
	g.want(success, "fd_readdir", fd, buf, 4096, 0, result)
	b, _ := g.mem.Read(uint32(buf), g.u32(result))
	var names []string
	for len(b) > 0 {
		n := direntSize + le.Uint32(b[16:])
		names = append(names, string(b[direntSize:n]))
		b = b[n:]
	}
	return names[2:] // without "." and ".."
}

func TestDurunTree(t *testing.T) {
	g := durunGuest(t)
	root, dir := g.preopened("/"), g.preopened(durunName)
	if root != 3 || dir != 4 {
		t.Errorf("preopened as %d and %d", root, dir)
	}
	for fd, want := range map[uint64][]string{
		root:                                     {"durun"},
		g.open("durun", openArgs{dir: root}):     {"events", "id", "input", "lib", "output", "parent", "rpc"},
		g.open("lib/python", openArgs{dir: dir}): {"durun", "sitecustomize.py"},
	} {
		if d := cmp.Diff(want, g.names(fd)); d != "" {
			t.Error(d)
		}
	}
	if !slices.Contains(g.names(g.open("durun/lib/python/durun", openArgs{dir: root})), "__init__.py") {
		t.Error("there is no Python module")
	}
	for _, c := range []struct {
		name string
		a    openArgs
		want errno
	}{
		{"none", openArgs{}, eNoent},
		{"none", openArgs{oflags: oflagCreat, rights: readWrite}, eRofs},
		{"lib/none", openArgs{oflags: oflagCreat, rights: readWrite}, eRofs},
		{"id", openArgs{rights: readWrite}, eRofs},
		{"id", openArgs{oflags: oflagTrunc}, eRofs},
		{"id/", openArgs{}, eNotdir},
		{"id/x", openArgs{}, eNotdir},
		{"id", openArgs{oflags: oflagDirectory}, eNotdir},
		{"lib", openArgs{rights: readWrite}, eIsdir},
		{"rpc", openArgs{oflags: oflagCreat | oflagExcl, rights: readWrite}, eExist},
		{"../x", openArgs{}, ePerm},
		{"rpc", openArgs{oflags: oflagCreat | oflagTrunc, rights: readWrite}, success},
	} {
		c.a.dir = dir
		if _, e := g.tryOpen(c.name, c.a); e != c.want {
			t.Errorf("open %s %+v: errno %d, want %d", c.name, c.a, e, c.want)
		}
	}
	for _, c := range []struct {
		name     string
		existing errno
	}{{"path_create_directory", eExist}, {"path_remove_directory", eRofs}, {"path_unlink_file", eRofs}} {
		for path, want := range map[string]errno{"lib": c.existing, "rpc": c.existing, "lib/python/__pycache__": eRofs, "id/x": eNotdir} {
			if c.name != "path_create_directory" && strings.HasPrefix(path, "lib/") {
				want = eNoent
			}
			ptr, n := g.path(path)
			g.want(want, c.name, dir, ptr, n)
		}
	}
	from, n := g.path("id")
	to, m := g.path("id2")
	g.want(eRofs, "path_rename", dir, from, n, dir, to, m)
	g.want(eRofs, "path_link", dir, 0, from, n, dir, to, m)
	g.want(eRofs, "path_symlink", from, n, dir, to, m)
	g.want(eInval, "path_readlink", dir, from, n, g.space(8), 8, g.space(4))
	g.want(eRofs, "path_filestat_set_times", dir, 1, from, n, 1, 1, 5)
	buf := g.space(filestatSize)
	g.want(success, "path_filestat_get", root, 1, g.put([]byte("durun/id")), 8, buf)
	if g.u64(buf+16)&0xff != typeRegular || g.u64(buf+32) != 2 || g.u64(buf+40) != uint64(treeTime) {
		t.Errorf("id: type %d, size %d, time %d", g.u64(buf+16), g.u64(buf+32), g.u64(buf+40))
	}
	g.want(success, "fd_fdstat_get", g.openDurun("rpc", openArgs{rights: readWrite}), buf)
	if b, _ := g.mem.Read(uint32(buf), fdstatSize); b[0] != typeCharacter || le.Uint64(b[8:])&rightFDSeek == 0 {
		t.Errorf("rpc: %x; a character device, but not what a C library takes for a terminal", b)
	}
}

// TestDurunRoot is the root that lists mounts, and what is reached through it.
func TestDurunRoot(t *testing.T) {
	data := files(t, map[string]string{"in.txt": "in", "deep/x": ""})
	g := newGuest(t, Config{Durun: true, Mounts: []Mount{
		{Host: data, Guest: "/data"}, {Host: data, Guest: "/a/b"}, {Host: data, Guest: "rel"}, {Host: data, Guest: "/a/b/deep"},
	}})
	root := g.preopened("/")
	if root != 7 || g.preopened("/data") != 3 || g.preopened(durunName) != 8 {
		t.Error("the root is not between the mounts and /durun")
	}
	if d := cmp.Diff([]string{"a", "data", "durun", "rel"}, g.names(root)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"b"}, g.names(g.open("a", openArgs{dir: root}))); d != "" {
		t.Error(d)
	}
	for _, name := range []string{"data/in.txt", "a/b/in.txt", "rel/in.txt", "a/b/deep/in.txt"} {
		g.wantRead(g.open(name, openArgs{dir: root}), 10, "in")
	}
	if _, e := g.tryOpen("dataset", openArgs{dir: root}); e != eNoent {
		t.Errorf("errno %d for a name that begins as a mount's", e)
	}
	a := g.open("a", openArgs{dir: root})
	file := g.open("b/in.txt", openArgs{dir: a})
	g.wantRead(file, 1, "i")
	g.restore(nil)
	g.wantRead(file, 9, "n")
	g.wantRead(g.open("b/in.txt", openArgs{dir: a}), 10, "in")
	if d := cmp.Diff([]string{"a", "data", "durun", "rel"}, g.names(root)); d != "" {
		t.Error(d)
	}

	// A guest that has a root, or a /durun, of its own keeps it.
	g = newGuest(t, Config{Durun: true, Mounts: []Mount{{Host: data}}})
	if g.preopened("/") != 3 || g.preopened(durunName) != 4 {
		t.Error("a mounted root is not the only one")
	}
	g.wantRead(g.open("in.txt", openArgs{}), 10, "in")
	g = newGuest(t, Config{Durun: true, Mounts: []Mount{{Host: data, Guest: durunName}}})
	g.wantRead(g.open("in.txt", openArgs{}), 10, "in")
	g.want(eBadf, "fd_prestat_get", 4, g.space(8))
	g.restore(nil)
	g.wantRead(g.open("in.txt", openArgs{}), 10, "in")
}

// TestDurunCaptured is that a guest keeps /durun, or stays without, whatever the config of the restoring node says.
func TestDurunCaptured(t *testing.T) {
	g := newGuest(t, Config{})
	g.restore(func() { g.config.Durun = true })
	g.want(eBadf, "fd_prestat_get", 3, g.space(8))

	g = durunGuest(t)
	g.restore(func() { g.config.Durun = false })
	g.wantRead(g.openDurun("id", openArgs{}), 10, "me")
	g.restore(nil)
	g.wantRead(g.openDurun("id", openArgs{}), 10, "me")
}

func TestDurunTexts(t *testing.T) {
	g := durunGuest(t)
	g.config.Env = []string{"X=1", "DURUN_PARENT=mother"}
	g.inst = g.newInstance()
	g.co.input = []byte("the input")
	id, input, parent := g.openDurun("id", openArgs{}), g.openDurun("input", openArgs{}), g.openDurun("parent", openArgs{})
	g.wantRead(id, 10, "me")
	g.wantRead(input, 4, "the ")
	g.restore(nil)
	g.wantRead(id, 10, "")
	g.wantRead(input, 10, "input")
	g.wantRead(parent, 10, "mother")
	result := g.space(8)
	g.want(success, "fd_seek", input, 1, 0, result)
	g.co.input = []byte("new")
	g.wantRead(input, 10, "ew")
	g.want(eInval, "fd_seek", input, ^uint64(0), 0, result)
	if e := g.write(id, "x"); e != eBadf {
		t.Errorf("write: errno %d", e)
	}
}

func TestDurunOutput(t *testing.T) {
	g := durunGuest(t)
	want := func(s string) {
		t.Helper()
		if string(g.co.output) != s {
			t.Errorf("result %q, want %q", g.co.output, s)
		}
	}
	out := g.openDurun("output", openArgs{oflags: oflagCreat | oflagTrunc, rights: readWrite})
	g.want(success, "fd_write", out, g.put(nil), 0, g.space(4))
	if e := g.write(out, "hello"); e != success {
		t.Fatalf("errno %d", e)
	}
	want("hello")
	g.restore(nil)
	g.write(out, " world")
	want("hello world")
	g.want(success, "fd_seek", out, 1, 0, g.space(8))
	g.write(out, "E")
	want("hEllo world")
	g.wantRead(out, 3, "llo")
	app := g.openDurun("output", openArgs{rights: rightFDWrite, fdflags: fdflagAppend})
	g.write(app, "!")
	want("hEllo world!")
	g.restore(nil)
	g.write(app, "!")
	want("hEllo world!!")
	g.want(success, "fd_filestat_set_size", out, 4)
	want("hEll")
	list, _ := g.iovec(1)
	g.want(success, "fd_pwrite", out, list, 1, 6, g.space(4))
	want("hEll\x00\x00\x00")
	g.want(eFbig, "fd_pwrite", out, list, 1, hostabi.MaxPayload, g.space(4))
	g.want(eFbig, "fd_filestat_set_size", out, hostabi.MaxPayload+1)
	if _, e := g.read(app, 1); e != eBadf {
		t.Errorf("read of what is open for writing: errno %d", e)
	}
	g.openDurun("output", openArgs{oflags: oflagTrunc, rights: rightFDWrite})
	want("")
	g.wantAsk(g.openDurun("rpc", openArgs{rights: readWrite}), "output\nby rpc", "ok\n")
	want("by rpc")
	g.write(app, "!")
	want("by rpc!")
}

func TestRPC(t *testing.T) {
	g := durunGuest(t)
	g.co.input, g.co.reply = []byte("in\nput"), "received"
	rpc := g.openDurun("rpc", openArgs{rights: readWrite})
	g.wantRead(rpc, 10, "") // nothing was asked
	for _, c := range []struct{ request, want string }{
		{"id", "ok\nme"},
		{"input\n", "ok\nin\nput"},
		{"operations", "ok\n"},
		{"begin call send%5femail\n{\"to\": 1}\n", "ok\n1"},
		{"begin recv a%20b%25", "ok\n2"},
		{"begin timer -5 nap", "ok\n3"},
		{"begin spawn\nin", "ok\n4"},
		{"begin spawn module:x/y -v  %0a", "ok\n5"},
		{"begin timer 1000000000", "ok\n6"},
		{"operations\n", "ok\n1 2 3 4 5 6"},
		{"result 1", "error 1 pending\n"},
		{"result 3", "ok\n"},
		{"result 9", "error 2 unknown\nthere is no operation 9"},
		{"cancel 2", "ok\n"},
		{"result 2", "error 8 cancelled\n"},
		{"drop 2", "ok\n"},
		{"drop 2", "error 2 unknown\n"},
		{"cancel 2", "error 2 unknown\n"},
		{"wait 1 - 1 3", "ok\n3"},
		{"wait 0 -", "ok\n"},
		{"wait 5 0 1 3", "ok\n3"},
		{"wait 1 - 7", "error 2 unknown\nthere is no operation 7"},
		{"wait 1 - 6 1", "ok\n6"},
		{"wait 2 2000000000 6 1", "ok\n6"},
		{"yield\nvalue", "ok\nreceived"},
		{"input", "ok\nreceived"},
		{"checkpoint", "ok\n"},
		{"output\nresult\n", "ok\n"},
	} {
		for _, move := range []bool{false, true} {
			if verb, _, _ := strings.Cut(c.request, " "); move && (verb == "begin" || verb == "drop") {
				continue
			}
			g.move = move
			g.wantAsk(rpc, c.request, c.want)
		}
	}
	want := map[uint32]*fakeOp{
		1: {kind: hostabi.Call, name: "send_email", body: "{\"to\": 1}\n"},
		4: {kind: hostabi.Spawn, body: "in"},
		5: {kind: hostabi.Spawn, name: "module:x/y\x00-v\x00\x00\n"},
	}
	for n, op := range want {
		if d := cmp.Diff(op, g.co.ops[n], cmp.AllowUnexported(fakeOp{})); d != "" {
			t.Errorf("operation %d: %s", n, d)
		}
	}
	if g.co.ops[3].body != "\xfb\xff\xff\xff\xff\xff\xff\xff" || g.co.ops[3].name != "nap" {
		t.Errorf("timer: %+v", g.co.ops[3])
	}
	if d := cmp.Diff([]string{"value", "value"}, g.co.yielded); d != "" {
		t.Error(d)
	}
	if string(g.co.output) != "result\n" {
		t.Errorf("result %q", g.co.output)
	}
}

func TestRPCSyntax(t *testing.T) {
	g := durunGuest(t)
	rpc := g.openDurun("rpc", openArgs{rights: readWrite})
	for _, request := range []string{
		"\n", " ", "none", "ID", "begin", "begin ", "begin none", "begin timer", "begin timer x", "begin timer 1 2 3",
		"begin timer 99999999999999999999", "begin timer 1 n\nbody", "begin call a b", "begin spawn a%00b", "begin call a%4",
		"begin call a%zz", "begin call %", "wait", "wait 1", "wait x -", "wait -1 -", "wait 1 x", "wait 1 - x", "wait 1 - ",
		"wait 1 - -1", "wait 4294967296 -", "wait ++1 -", "wait 1  1", "result", "result x", "result 1 2", "cancel -1",
		"drop 99999999999", "id x", "id\nbody", "checkpoint\nbody", "output x\nbody", "yield x", "result 1 ",
	} {
		if got := g.ask(rpc, request); !strings.HasPrefix(got, "error 3 invalid\n") || len(got) < 20 {
			t.Errorf("%q: %q", request, got)
		}
	}
	if got := g.ask(rpc, "begin recv "+strings.Repeat("x", hostabi.MaxName+1)); got != "error 4 limit\nlong" {
		t.Errorf("%q", got)
	}
	if len(g.co.ops) > 0 {
		t.Errorf("%d operations have begun", len(g.co.ops))
	}
}

// TestRPCPieces is a request that is written, and a response that is read, in pieces, with a restore after each.
func TestRPCPieces(t *testing.T) {
	g := durunGuest(t)
	rpc := g.openDurun("rpc", openArgs{rights: readWrite})
	other := g.openDurun("rpc", openArgs{rights: readWrite})
	request := "begin call send_email\nsome body"
	for n := range request {
		g.write(rpc, request[n:n+1])
		g.restore(nil)
	}
	g.wantAsk(other, "operations", "ok\n") // the request is complete with its first read
	g.wantRead(rpc, 1, "o")
	g.restore(nil)
	g.wantAsk(other, "operations", "ok\n1")
	g.wantRead(rpc, 2, "k\n")
	g.restore(nil)
	g.wantRead(rpc, 9, "1")
	g.wantRead(rpc, 9, "")
	g.wantRead(rpc, 0, "")
	if op := g.co.ops[1]; op.name != "send_email" || op.body != "some body" {
		t.Errorf("%+v", op)
	}
	// What is left unread is gone with the next request.
	g.write(rpc, "id")
	g.wantRead(rpc, 1, "o")
	g.wantAsk(rpc, "operations", "ok\n1")
	if g.inst.durun.buffered != 0 {
		t.Errorf("%d bytes held", g.inst.durun.buffered)
	}
	// Only what was opened for it can be written, or read.
	w := g.openDurun("rpc", openArgs{rights: rightFDWrite})
	g.write(w, "id")
	if _, e := g.read(w, 1); e != eBadf {
		t.Errorf("read: errno %d", e)
	}
	if e := g.write(g.openDurun("rpc", openArgs{}), "x"); e != eBadf {
		t.Errorf("write: errno %d", e)
	}
	result := g.space(8)
	g.want(eSpipe, "fd_seek", rpc, 0, 0, result)
	list, _ := g.iovec(1)
	g.want(eSpipe, "fd_pread", rpc, list, 1, 0, result)
	g.want(eSpipe, "fd_pwrite", rpc, list, 1, 0, result)
	g.want(eFault, "fd_read", rpc, 1<<20, 1, result)
}

// TestRPCWait is the wait for operations, by a read and by a poll.
func TestRPCWait(t *testing.T) {
	for _, move := range []bool{false, true} {
		g := durunGuest(t)
		g.move = move
		rpc := g.openDurun("rpc", openArgs{rights: readWrite})
		for range 6 {
			g.ask(rpc, "begin call f")
		}
		ends := []struct {
			op   uint32
			code hostabi.Code
		}{{1, 0}, {2, hostabi.CodeFailed}, {3, 0}, {4, hostabi.CodeTimeout}, {5, 0}}
		g.outside = func() {
			if len(ends) == 0 {
				t.Fatal("the guest waits on")
			}
			g.co.end(ends[0].op, "r"+strconv.Itoa(int(ends[0].op)), ends[0].code)
			ends = ends[1:]
		}
		g.wantAsk(rpc, "wait 1 - 3 1 2", "ok\n1")
		g.wantAsk(rpc, "result 1", "ok\nr1")
		g.wantAsk(rpc, "wait +3 - 3 1 2", "ok\n1 2") // they can't all end well any more
		g.wantAsk(rpc, "result 2", "error 6 failed\nr2")
		g.wantAsk(rpc, "wait +2 - 3 1 2 6", "ok\n3 1 2")
		if len(ends) != 2 {
			t.Fatalf("%d operations are still to end", len(ends))
		}

		// By poll, which asks again each time that something ends.
		g.write(rpc, "wait 5 - 1 2 3 4 5")
		in, out, result := g.subs([]sub{readable(rpc)}), g.space(eventSize), g.space(4)
		g.want(success, "poll_oneoff", in, out, 1, result)
		if len(ends) != 0 {
			t.Errorf("%d operations are still to end", len(ends))
		}
		if p := g.pending[len(g.pending)-1]; p.Kind != hostabi.KindOperations || !p.Cancellable || !slices.Equal(p.Ops, []uint32{5}) || p.Min != 1 {
			t.Errorf("%+v", p)
		}
		n := len(g.pending)
		if got := g.readAll(rpc, 100); got != "ok\n1 2 3 4 5" || len(g.pending) != n {
			t.Errorf("%q", got)
		}
	}
}

// TestRPCTimeout is that a wait's time counts from when it was first asked for, by a poll or a read.
func TestRPCTimeout(t *testing.T) {
	for _, move := range []bool{false, true} {
		g := durunGuest(t)
		g.move = move
		rpc := g.openDurun("rpc", openArgs{rights: readWrite})
		g.ask(rpc, "begin recv never")
		start := g.clock.Wall()
		g.wantAsk(rpc, "wait 1 3000000000 1", "ok\n")
		if d := time.Duration(g.clock.Wall() - start); d != 3*time.Second {
			t.Errorf("waited %v", d)
		}

		start = g.clock.Wall()
		g.write(rpc, "wait 1 3000000000 1")
		in, out, result := g.subs([]sub{readable(rpc), sleepFor(time.Second)}), g.space(2*eventSize), g.space(4)
		g.want(success, "poll_oneoff", in, out, 2, result)
		if g.u32(result) != 1 || g.u64(out) != 101 {
			t.Errorf("%d events, the first %d", g.u32(result), g.u64(out))
		}
		if got := g.readAll(rpc, 100); got != "ok\n" {
			t.Errorf("%q", got)
		}
		if d := time.Duration(g.clock.Wall() - start); d != 3*time.Second {
			t.Errorf("waited %v", d)
		}

		// A poll alone ends at the wait's deadline.
		g.write(rpc, "wait 1 3000000000 1")
		g.want(success, "poll_oneoff", in, out, 1, result)
		if got := g.readAll(rpc, 100); got != "ok\n" {
			t.Errorf("%q", got)
		}
		if d := time.Duration(g.clock.Wall() - start); d != 6*time.Second {
			t.Errorf("waited %v", d)
		}
	}
}

func TestRPCNonblock(t *testing.T) {
	g := durunGuest(t)
	rpc := g.openDurun("rpc", openArgs{rights: readWrite})
	g.want(success, "fd_fdstat_set_flags", rpc, fdflagNonblock)
	g.ask(rpc, "begin recv a")
	g.write(rpc, "wait 1 1000 1")
	for range 2 {
		if _, e := g.read(rpc, 10); e != eAgain {
			t.Errorf("errno %d", e)
		}
		g.restore(nil)
	}
	g.co.end(1, "", 0)
	g.wantRead(rpc, 10, "ok\n1")
	g.co.ops[1].ended = false
	g.write(rpc, "wait 1 1000 1")
	if _, e := g.read(rpc, 10); e != eAgain {
		t.Errorf("errno %d", e)
	}
	g.clock.advance(1000)
	g.wantRead(rpc, 10, "ok\n")
	if len(g.pending) > 1 {
		t.Errorf("%d suspensions", len(g.pending))
	}
}

// TestRPCCancelled is that a coroutine hears once that it is to be cancelled.
func TestRPCCancelled(t *testing.T) {
	for _, poll := range []bool{false, true} {
		g := durunGuest(t)
		g.move = true
		rpc := g.openDurun("rpc", openArgs{rights: readWrite})
		g.ask(rpc, "begin recv a")
		g.outside = func() {
			if g.co.cancel = len(g.pending) == 1; !g.co.cancel {
				g.co.end(1, "", 0)
			}
		}
		g.write(rpc, "wait 1 - 1")
		if poll {
			g.want(success, "poll_oneoff", g.subs([]sub{readable(rpc)}), g.space(eventSize), 1, g.space(4))
			g.restore(nil)
		}
		if got := g.readAll(rpc, 100); got != "error 8 cancelled\n" {
			t.Errorf("%q", got)
		}
		g.wantAsk(rpc, "wait 1 - 1", "ok\n1")
	}
}

// TestEventsWithoutRoom has the guest be told that it is to be cancelled when it holds as much as it may: it hears later.
func TestEventsWithoutRoom(t *testing.T) {
	g := durunGuest(t)
	g.co.cancel = true
	events := g.openDurun("events", openArgs{})
	var full []uint64
	for left := maxBuffered; left > 0; {
		rpc := g.openDurun("rpc", openArgs{rights: readWrite})
		full = append(full, rpc)
		for n := 0; n < hostabi.MaxPayload && left > 0; {
			part := min(left, 32<<10)
			g.write(rpc, strings.Repeat("x", part))
			n, left = n+part, left-part
		}
	}
	if _, e := g.read(events, 20); e != eNomem {
		t.Errorf("errno %d", e)
	}
	g.want(success, "fd_close", full[0])
	g.wantRead(events, 20, "cancelled\n")
}

func TestRPCLimits(t *testing.T) {
	g := durunGuest(t)
	rpc := g.openDurun("rpc", openArgs{rights: readWrite})
	piece := strings.Repeat("x", 32<<10)
	fill := func(fd uint64, n int) {
		t.Helper()
		defer func(top uint32) { g.top = top }(g.top)
		list, buf := g.iovec(len(piece))
		g.mem.WriteString(uint32(buf), piece)
		result := g.space(4)
		for range n / len(piece) {
			g.want(success, "fd_write", fd, list, 1, result)
		}
	}
	g.write(rpc, "output\n")
	fill(rpc, hostabi.MaxPayload)
	g.wantRead(rpc, 10, "ok\n")
	g.write(rpc, "output\nx")
	fill(rpc, hostabi.MaxPayload)
	g.wantRead(rpc, 13, "error 4 limit")
	g.write(rpc, "id ")
	fill(rpc, maxRequestLine)
	g.wantRead(rpc, 13, "error 4 limit")
	fill(rpc, 2*hostabi.MaxPayload)
	if n := g.inst.durun.buffered; n != 0 {
		t.Errorf("%d bytes held of a request that is too large", n)
	}
	g.restore(nil)
	g.wantRead(rpc, 13, "error 4 limit")
	// All together.
	var open []uint64
	for range 3 {
		fd := g.openDurun("rpc", openArgs{rights: readWrite})
		g.write(fd, "output\n")
		fill(fd, hostabi.MaxPayload-len(piece))
		open = append(open, fd)
	}
	for n, want := range []string{"ok\n", "ok\n", "error 4 l"} {
		g.wantRead(open[n], 9, want)
	}
	g.wantAsk(rpc, "wait 1 -"+strings.Repeat(" 1", 10_000), "error 2 unknown\nthere is no operation 1")
	// Numbers of descriptors.
	var e errno
	n := 0
	for ; e == success && n < 2*maxDevices; n++ {
		_, e = g.tryOpen("events", openArgs{dir: g.preopened(durunName)})
	}
	if e != eMfile || n != maxDevices-4+1 {
		t.Errorf("errno %d after %d", e, n)
	}
	g.want(success, "fd_close", rpc)
	g.openDurun("events", openArgs{})
}

func TestEvents(t *testing.T) {
	for _, move := range []bool{false, true} {
		g := durunGuest(t)
		g.move = move
		rpc, events := g.openDurun("rpc", openArgs{rights: readWrite}), g.openDurun("events", openArgs{})
		for range 4 {
			g.ask(rpc, "begin call f")
		}
		g.outside = func() { g.co.end(3, "", 0); g.co.end(1, "", hostabi.CodeFailed) }
		g.wantRead(events, 3, "1\n3")
		g.outside = func() { g.co.end(2, "", 0) }
		g.wantRead(events, 10, "\n")
		g.wantRead(events, 10, "2\n")
		g.ask(rpc, "drop 2")
		g.ask(rpc, "begin timer 5000000000")
		g.outside = nil

		if p := g.pending[len(g.pending)-1]; len(p.Ops) == 0 || p.Quiet {
			t.Errorf("%+v", p)
		}
		// Beside a clock that comes first, and one that doesn't.
		for _, c := range []struct {
			after time.Duration
			want  uint64
		}{{time.Second, 101}, {time.Minute, 100}} {
			in, out, result := g.subs([]sub{readable(events), sleepFor(c.after)}), g.space(2*eventSize), g.space(4)
			g.want(success, "poll_oneoff", in, out, 2, result)
			if g.u32(result) != 1 || g.u64(out) != c.want {
				t.Errorf("%d events, the first %d", g.u32(result), g.u64(out))
			}
		}
		g.wantRead(events, 10, "5\n")

		// Each descriptor tells for itself.
		g.wantRead(g.openDurun("events", openArgs{}), 10, "1\n3\n5\n")

		g.want(success, "fd_fdstat_set_flags", events, fdflagNonblock)
		if _, e := g.read(events, 10); e != eAgain {
			t.Errorf("errno %d", e)
		}
		g.co.end(4, "", 0)
		g.wantRead(events, 10, "4\n")
		g.want(success, "fd_fdstat_set_flags", events, 0)

		// With nothing to wait for it waits for a cancellation.
		g.outside = func() { g.co.cancel = true }
		g.wantRead(events, 20, "cancelled\n")
		if p := g.pending[len(g.pending)-1]; p.Kind != hostabi.KindOperations || len(p.Ops) > 0 || !p.Cancellable || !p.Quiet {
			t.Errorf("%+v", p)
		}
		if e := g.write(events, "x"); e != eBadf {
			t.Errorf("write: errno %d", e)
		}
	}
}

// TestEventsWhileStdin is standard input, operations and a clock in one poll.
func TestEventsWhileStdin(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	g := newGuest(t, Config{Durun: true, Stdin: &lines{block: block}})
	rpc, events := g.openDurun("rpc", openArgs{rights: readWrite}), g.openDurun("events", openArgs{})
	g.ask(rpc, "begin call f")
	in, out, result := g.subs([]sub{readable(0), readable(events), sleepFor(time.Second)}), g.space(3*eventSize), g.space(4)
	_, p := g.start("poll_oneoff", nil, in, out, 3, result)
	if p == nil || p.Kind != hostabi.KindStdin || !slices.Equal(p.Ops, []uint32{1}) || p.Until.IsZero() || p.Quiet {
		t.Fatalf("%+v", p)
	}
	if _, again := g.start("poll_oneoff", p, in, out, 3, result); again != p {
		t.Errorf("woken for nothing, it waits for something else: %+v", again)
	}
	g.co.end(1, "", 0)
	if e, again := g.start("poll_oneoff", p, in, out, 3, result); again != nil || e != success || g.u32(result) != 1 || g.u64(out) != 101 {
		t.Errorf("errno %d, %+v, %d events", e, again, g.u32(result))
	}
}

// TestPollOften is a poll in which one device is many times: it is looked at once, and what it waits for is not multiplied.
func TestPollOften(t *testing.T) {
	g := durunGuest(t)
	rpc := g.openDurun("rpc", openArgs{rights: readWrite})
	g.ask(rpc, "begin call f")
	g.write(rpc, "wait 1 - 1")
	subs := slices.Repeat([]sub{readable(rpc)}, 100)
	in, out, result := g.subs(subs), g.space(len(subs)*eventSize), g.space(4)
	_, p := g.start("poll_oneoff", nil, in, out, uint64(len(subs)), result)
	if g.co.awaits != 1 || p == nil || !slices.Equal(p.Ops, []uint32{1}) {
		t.Errorf("asked %d times, then waits for %+v", g.co.awaits, p)
	}
	g.co.end(1, "", 0)
	if e, p := g.start("poll_oneoff", p, in, out, uint64(len(subs)), result); e != success || p != nil || g.u32(result) != 100 {
		t.Errorf("errno %d, %+v, %d events", e, p, g.u32(result))
	}
	// A write of nothing begins no request.
	g.wantRead(rpc, 1, "o")
	g.write(rpc, "")
	g.wantRead(rpc, 9, "k\n1")
}

// TestDurunWithout is a runtime that offers no operations.
func TestDurunWithout(t *testing.T) {
	g := durunGuest(t)
	g.g.Coroutine = nil
	rpc, events := g.openDurun("rpc", openArgs{rights: readWrite}), g.openDurun("events", openArgs{})
	g.write(rpc, "id")
	for _, fd := range []uint64{rpc, events} {
		if _, e := g.read(fd, 10); e != eIO {
			t.Errorf("errno %d", e)
		}
		g.want(success, "poll_oneoff", g.subs([]sub{readable(fd)}), g.space(eventSize), 1, g.space(4))
	}
	g.wantRead(g.openDurun("id", openArgs{}), 10, "")
	g.wantRead(g.openDurun("input", openArgs{}), 10, "")
	if e := g.write(g.openDurun("output", openArgs{rights: rightFDWrite}), "x"); e != eIO {
		t.Errorf("errno %d", e)
	}
}

// TestDurunGolden holds the encoding of what is captured of /durun.
func TestDurunGolden(t *testing.T) {
	g := newGuest(t, Config{Durun: true, Args: []string{"prog"}, Env: []string{"A=1"}})
	rpc, events := g.openDurun("rpc", openArgs{rights: readWrite}), g.openDurun("events", openArgs{fdflags: fdflagNonblock})
	other := g.openDurun("rpc", openArgs{rights: readWrite, fdflags: fdflagNonblock})
	for range 3 {
		g.ask(rpc, "begin call f")
	}
	g.co.end(2, "result", 0)
	g.wantRead(events, 1, "2")
	g.write(g.openDurun("output", openArgs{rights: rightFDWrite, fdflags: fdflagAppend}), "result")
	g.write(rpc, "result 2")
	g.wantRead(rpc, 4, "ok\nr")
	g.write(other, "wait 1 1000000000 1")
	if _, e := g.read(other, 10); e != eAgain {
		t.Errorf("errno %d", e)
	}
	got := g.save()
	name := filepath.Join("testdata", "state-v2-durun.cbor")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := content(t, name); string(got) != want {
		t.Errorf("the encoding changed: a new version is due.\n got %x\nwant %x", got, want)
	}
	g.restore(nil)
	g.wantRead(rpc, 10, "esult")
	g.wantRead(events, 10, "\n")
	g.clock.advance(time.Second)
	g.wantRead(other, 10, "ok\n")
}

func TestDurunRestoreBad(t *testing.T) {
	g := durunGuest(t)
	rpc, events := g.openDurun("rpc", openArgs{rights: readWrite}), g.openDurun("events", openArgs{})
	g.write(rpc, "wait 1 - 1")
	_ = events
	data := g.save()
	for name, edit := range map[string]func(s *state){
		"no durun":    func(s *state) { s.Durun = false },
		"output":      func(s *state) { s.Output = make([]byte, hostabi.MaxPayload+1) },
		"mount":       func(s *state) { s.Mounts[1] = []byte("/other") },
		"no device":   func(s *state) { s.FDs[5].Device = nil },
		"not one":     func(s *state) { s.FDs[4].Device = &deviceState{} },
		"path":        func(s *state) { s.FDs[5].Path = []byte("id") },
		"the other":   func(s *state) { s.FDs[5].Path = []byte("events") },
		"numbers":     func(s *state) { s.FDs[6].Device.Told = []byte{1, 0} },
		"cut":         func(s *state) { s.FDs[6].Device.Told = []byte{0x80} },
		"overflow":    func(s *state) { s.FDs[6].Device.Told = []byte("\xff\xff\xff\xff\x0f\x01") },
		"large":       func(s *state) { s.FDs[5].Device.Large = true },
		"without any": func(s *state) { *s = state{Mounts: [][]byte{{}}} },
		"devices": func(s *state) {
			for n := range maxDevices {
				f := s.FDs[6]
				f.FD = int32(100 + n)
				s.FDs = append(s.FDs, f)
			}
		},
	} {
		var s state
		if err := decMode.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		edit(&s)
		b, err := encMode.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.newInstance().Restore(StateVersion, b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// More than is held: the descriptor is broken, and no bytes are counted for it.
	var s state
	if err := decMode.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	s.FDs[5].Device.Request = make([]byte, maxBuffered)
	s.FDs[5].Device.Unread = make([]byte, 1)
	b, err := encMode.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	g.inst = g.newInstance()
	if err := g.inst.Restore(StateVersion, b); err != nil {
		t.Fatal(err)
	}
	if _, e := g.read(rpc, 1); e != eIO {
		t.Errorf("errno %d", e)
	}
	in, out, result := g.subs([]sub{readable(rpc)}), g.space(eventSize), g.space(4)
	g.want(success, "poll_oneoff", in, out, 1, result)
	if e := uint16(g.u64(out + 8)); errno(e) != eIO {
		t.Errorf("poll: errno %d", e)
	}
	g.want(success, "fd_close", rpc)
	if f := g.inst.durun; f.buffered != 0 || f.devices != 1 {
		t.Errorf("%d bytes held by %d devices", f.buffered, f.devices)
	}
}

// FuzzRequest is any request: it gets a response of the right form, and what it says is what was meant.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"id", "begin timer 5 x", "begin call a%20b\nbody", "begin spawn t a b\nin", "begin recv m", "wait +1 5 1 2", "wait 2 -", "result 1",
		"operations", "yield\nv", "checkpoint", "%69%64", "\n\n", "wait 1 0 1",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<12 {
			return
		}
		g := durunGuest(t)
		g.move = true
		g.outside = func() {
			for n := range g.co.ops {
				g.co.end(n, "r", 0)
			}
		}
		rpc := g.openDurun("rpc", openArgs{rights: readWrite})
		g.ask(rpc, "begin call f")
		got := g.ask(rpc, string(b))
		var code int
		var name string
		switch n, _ := fmt.Sscanf(got, "error %d %s\n", &code, &name); {
		case len(b) == 0:
			if got != "" {
				t.Errorf("%q", got)
			}
		case strings.HasPrefix(got, "ok\n"):
		case n != 2 || hostabi.Code(code).String() != name:
			t.Errorf("%q: %q", b, got)
		}
		if g.inst.durun.buffered != 0 {
			t.Errorf("%d bytes held", g.inst.durun.buffered)
		}
	})
}

// readable is a subscription for a descriptor's being readable.
func readable(fd uint64) sub { return sub{tag: eventFDRead, id: uint32(fd)} }
