package wasi

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/hostabi"
)

func TestRestoreStrings(t *testing.T) {
	g := newGuest(t, Config{Args: []string{"prog", "\xff"}, Env: []string{"K=V"}, TTY: [3]bool{true, false, true}, CheckpointOnYield: true})
	before := g.inst
	g.restore(func() { g.config = Config{Clock: g.clock, Args: []string{"other"}} })
	type view struct {
		Args, Env []string
		TTY       [3]bool
		Yield     bool
	}
	of := func(i *Instance) view { return view{i.args, i.env, i.tty, i.checkpointOnYield} }
	if d := cmp.Diff(of(before), of(g.inst)); d != "" {
		t.Error(d)
	}
	g.want(success, "fd_fdstat_get", 2, 1000)
	if g.u64(1000)&0xff != typeCharacter {
		t.Error("standard error is no terminal any more")
	}
}

func TestRestoreFiles(t *testing.T) {
	g, dir := mounted(t, map[string]string{"in": "0123456789", "d/rel": "relative", "log": "L"})
	in := g.open("in", openArgs{})
	g.wantRead(in, 4, "0123")
	d := g.open("d", openArgs{oflags: oflagDirectory})
	out := g.open("out", openArgs{oflags: oflagCreat | oflagExcl | oflagTrunc, rights: rightFDWrite})
	g.write(out, "before ")
	log := g.open("log", openArgs{rights: readWrite, fdflags: fdflagAppend | fdflagNonblock | fdflagSync})
	plain := g.open("log", openArgs{rights: readWrite})
	g.want(success, "fd_fdstat_set_flags", plain, fdflagAppend)
	g.want(success, "fd_close", 2)
	low := g.open("in", openArgs{}) // takes 2
	if low != 2 {
		t.Fatalf("descriptor %d", low)
	}
	g.wantRead(low, 1, "0")
	first := g.save()

	for range 3 { // a chain of restores, and nothing changes
		g.restore(nil)
	}
	var a, b state
	if err := errors.Join(decMode.Unmarshal(first, &a), decMode.Unmarshal(g.save(), &b)); err != nil {
		t.Fatal(err)
	}
	a.Mono, a.Wall, b.Mono, b.Wall = 0, 0, 0, 0
	if d := cmp.Diff(a, b); d != "" {
		t.Error("state changed on the way:\n", d)
	}

	g.wantRead(in, 3, "456")
	if s := content(t, dir+"/out"); s != "before " {
		t.Errorf("restore changed out to %q", s)
	}
	g.write(out, "after")
	if s := content(t, dir+"/out"); s != "before after" {
		t.Errorf("out is %q", s)
	}
	g.write(log, "M")
	g.write(plain, "N")
	if s := content(t, dir+"/log"); s != "LMN" {
		t.Errorf("log is %q", s)
	}
	at := g.space(fdstatSize)
	g.want(success, "fd_fdstat_get", log, at)
	if f := g.u32(at) >> 16; f != fdflagAppend|fdflagNonblock {
		t.Errorf("flags %x", f)
	}
	g.wantRead(g.open("rel", openArgs{dir: d}), 20, "relative")
	g.wantRead(low, 1, "1")
	if fd := g.open("in", openArgs{}); fd != log+3 {
		t.Errorf("next descriptor %d", fd)
	}
}

// TestRestoreOlder goes back behind what was written after the capture.
func TestRestoreOlder(t *testing.T) {
	g, dir := mounted(t, nil)
	out := g.open("out", openArgs{oflags: oflagCreat, rights: readWrite})
	g.write(out, "one ")
	data := g.save()
	g.write(out, "two")
	g.want(success, "fd_filestat_set_size", out, 0) // shorter than the captured offset, but the guest may write it
	g.inst.Close()
	g.inst = g.newInstance()
	if err := g.inst.Restore(StateVersion, data); err != nil {
		t.Fatal(err)
	}
	if off := g.tell(out); off != 4 {
		t.Errorf("offset %d", off)
	}
	g.write(out, "two")
	if s := content(t, dir+"/out"); s != "\x00\x00\x00\x00two" {
		t.Errorf("out is %q", s)
	}
}

func TestRestoreBroken(t *testing.T) {
	// change does something to the file "f" or the folder "d" while nothing runs.
	for _, c := range []struct {
		name   string
		before func(g *guest, dir string) // while it is open
		change func(dir string) error
		file   string
		args   openArgs
		ok     bool
	}{
		{name: "untouched", file: "f", ok: true},
		{name: "gone", file: "f", change: func(dir string) error { return os.Remove(dir + "/f") }},
		{name: "its folder is gone", file: "d/g", change: func(dir string) error { return os.RemoveAll(dir + "/d") }},
		{name: "folder gone", file: "d", change: func(dir string) error { return os.RemoveAll(dir + "/d") }},
		{
			name: "now a folder", file: "f",
			change: func(dir string) error { return errors.Join(os.Remove(dir+"/f"), os.Mkdir(dir+"/f", 0o755)) },
		},
		{
			name: "folder now a file", file: "d",
			change: func(dir string) error {
				return errors.Join(os.RemoveAll(dir+"/d"), os.WriteFile(dir+"/d", []byte("text"), 0o600))
			},
		},
		{
			name: "now a link out", file: "f",
			change: func(dir string) error {
				return errors.Join(os.Rename(dir+"/f", dir+"/../stolen"), os.Symlink("../stolen", dir+"/f"))
			},
		},
		{name: "longer", file: "f", ok: true, change: func(dir string) error { return os.WriteFile(dir+"/f", []byte("text and more"), 0o600) }},
		{name: "shorter than was read", file: "f", change: func(dir string) error { return os.Truncate(dir+"/f", 1) }},
		{name: "shorter, but writable", file: "f", args: openArgs{rights: readWrite}, ok: true, change: func(dir string) error { return os.Truncate(dir+"/f", 1) }},
		{
			name: "another of the same kind", file: "f", ok: true, // on another node it is never the same file
			change: func(dir string) error {
				return errors.Join(os.Remove(dir+"/f"), os.WriteFile(dir+"/f", []byte("text"), 0o600))
			},
		},
		{name: "unlinked while open", file: "f", before: func(g *guest, _ string) { g.at(success, "path_unlink_file", "f") }},
		{
			name: "unlinked while open, and made anew", file: "f",
			before: func(g *guest, dir string) {
				g.at(success, "path_unlink_file", "f")
				create(t, dir+"/f")
			},
		},
		{name: "renamed by the guest", file: "f", ok: true, before: func(g *guest, _ string) { g.rename(success, "f", "d/f2") }},
		{name: "its folder renamed by the guest", file: "d/g", ok: true, before: func(g *guest, _ string) { g.rename(success, "d", "d2") }},
		{name: "neighbour renamed", file: "d/g", ok: true, before: func(g *guest, _ string) { g.rename(success, "dd", "d2") }},
		{name: "renamed over", file: "f", before: func(g *guest, _ string) { g.rename(success, "d/g", "f") }},
		{name: "no right to read", file: "f", change: func(dir string) error {
			if os.Getuid() == 0 {
				return os.Remove(dir + "/f") // rights don't bind root
			}
			return os.Chmod(dir+"/f", 0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(files(t, map[string]string{"m/f": "text", "m/d/g": "text", "m/dd/x": ""}), "m")
			g := newGuest(t, Config{Mounts: []Mount{{Host: dir}}})
			fd := g.open(c.file, c.args)
			isDir := c.file == "d"
			if !isDir {
				g.wantRead(fd, 2, "te")
			}
			if c.before != nil {
				c.before(g, dir)
			}
			if !isDir && c.change == nil {
				g.wantRead(fd, 1, "x") // here it still works
				g.want(success, "fd_seek", fd, 2, 0, g.space(8))
			}
			g.restore(func() {
				if c.change != nil {
					if err := c.change(dir); err != nil {
						t.Fatal(err)
					}
				}
			})
			if c.ok {
				want := "xt"
				if strings.HasPrefix(c.name, "shorter") {
					want = ""
				}
				g.wantRead(fd, 2, want)
				return
			}
			check := func() {
				t.Helper()
				list, _ := g.iovec(4)
				n := g.space(64)
				g.want(eIO, "fd_read", fd, list, 1, n)
				g.want(eIO, "fd_pread", fd, list, 1, 0, n)
				g.want(eIO, "fd_write", fd, list, 1, n)
				g.want(eIO, "fd_pwrite", fd, list, 1, 0, n)
				g.want(eIO, "fd_seek", fd, 0, 0, n)
				g.want(eIO, "fd_tell", fd, n)
				g.want(eIO, "fd_sync", fd)
				g.want(eIO, "fd_allocate", fd, 0, 1)
				g.want(eIO, "fd_fdstat_get", fd, n)
				g.want(eIO, "fd_fdstat_set_flags", fd, 0)
				g.want(eIO, "fd_filestat_get", fd, n)
				g.want(eIO, "fd_filestat_set_size", fd, 0)
				g.want(eIO, "fd_filestat_set_times", fd, 1, 1, fstMtim)
				g.want(eIO, "fd_readdir", fd, 1000, 100, 0, n)
				if _, e := g.tryOpen("x", openArgs{dir: fd}); e != eIO {
					t.Errorf("path_open below it: errno %d", e)
				}
				g.poll(sub{tag: eventFDRead, id: uint32(fd)})
			}
			check()
			g.restore(nil)
			check()
			g.want(success, "fd_close", fd)
			g.want(eBadf, "fd_close", fd)
		})
	}
}

// TestRestoreComesBack has the file on another node again.
func TestRestoreComesBack(t *testing.T) {
	g, dir := mounted(t, map[string]string{"f": "text"})
	fd := g.open("f", openArgs{})
	g.wantRead(fd, 2, "te")
	g.restore(func() { rename(t, dir+"/f", dir+"/away") })
	if _, e := g.read(fd, 2); e != eIO {
		t.Errorf("errno %d", e)
	}
	g.restore(func() { rename(t, dir+"/away", dir+"/f") })
	g.wantRead(fd, 2, "xt")
}

func TestRestoreMounts(t *testing.T) {
	dir := files(t, map[string]string{"a/f": "A", "b/f": "B", "c/f": "C"})
	m := []Mount{{Host: dir + "/a", Guest: "/a"}, {Host: dir + "/b", Guest: "/b"}, {Host: dir + "/c", Guest: "/c"}}
	g := newGuest(t, Config{Mounts: m})
	fd := g.open("f", openArgs{dir: 4})
	g.want(success, "fd_close", 5) // so /c is not needed
	data := g.save()

	for _, c := range []struct {
		mounts []Mount
		want   []string
	}{
		{nil, []string{"/a", "/b"}},
		{m[:1], []string{"/b"}},
		{m[1:], []string{"/a"}},
	} {
		g.config.Mounts = c.mounts
		var missing *MissingMountError
		if err := g.newInstance().Restore(StateVersion, data); !errors.As(err, &missing) || !slices.Equal(missing.Guests, c.want) {
			t.Errorf("with %v: %v, want %v", c.mounts, err, c.want)
		} else {
			contains(t, err.Error(), strings.Join(c.want, ", "))
		}
	}
	// In another order, from other places, with one more: descriptors keep their meaning.
	other := files(t, map[string]string{"f": "elsewhere"})
	g.config.Mounts = []Mount{{Host: other, Guest: "/x"}, {Host: other, Guest: "/b/"}, {Host: dir + "/a", Guest: "/a"}}
	g.inst = g.newInstance()
	if err := g.inst.Restore(StateVersion, data); err != nil {
		t.Fatal(err)
	}
	g.wantRead(fd, 20, "elsewhere")
	g.wantRead(g.open("f", openArgs{dir: 3}), 20, "A")
	g.want(eBadf, "fd_prestat_get", 5, 64)
	// A writable file under a mount that is read-only now.
	fd = g.open("f", openArgs{dir: 4, rights: readWrite})
	g.restore(func() { g.config.Mounts[1].ReadOnly = true })
	if e := g.write(fd, "x"); e != eIO {
		t.Errorf("write: errno %d", e)
	}
}

func TestRestoreBad(t *testing.T) {
	g, _ := mounted(t, map[string]string{"f": "text"})
	g.open("f", openArgs{})
	data := g.save()
	if err := g.newInstance().Restore(StateVersion+1, data); !errors.Is(err, hostabi.ErrStateVersion) {
		t.Errorf("unknown version: %v", err)
	}
	for n := range data {
		if err := g.newInstance().Restore(StateVersion, data[:n]); !errors.Is(err, hostabi.ErrState) {
			t.Fatalf("first %d bytes of %d: %v", n, len(data), err)
		}
	}
	if err := g.newInstance().Restore(StateVersion, append(bytes.Clone(data), 0)); err == nil {
		t.Error("one more byte: no error")
	}
	edit := func(f func(*state)) []byte {
		var s state
		if err := decMode.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		f(&s)
		b, err := encMode.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		want string
		f    func(*state)
	}{
		{"NUL", func(s *state) { s.Args = [][]byte{{0}} }},
		{"KEY=VALUE", func(s *state) { s.Env = [][]byte{{'x'}} }},
		{"terminals", func(s *state) { s.TTY = 8 }},
		{"monotonic", func(s *state) { s.Mono = -1 }},
		{"out of order", func(s *state) { s.FDs[1].FD = 0 }},
		{"out of order", func(s *state) { s.FDs[0].FD = -1 }},
		{"range", func(s *state) { s.FDs[4].FD = maxFDs }},
		{fmt.Sprint("kind ", kindEnd), func(s *state) { s.FDs[4].Kind = kindEnd }},
		{"mount 1 of 1", func(s *state) { s.FDs[4].Mount = 1 }},
		{"flags", func(s *state) { s.FDs[4].Flags = 1 << 15 }},
		{"negative", func(s *state) { s.FDs[4].Offset = -1 }},
		{"negative", func(s *state) { s.FDs[4].Size = -1 }},
		{"path", func(s *state) { s.FDs[4].Path = []byte("../f") }},
		{"path", func(s *state) { s.FDs[4].Path = []byte("/f") }},
		{"path", func(s *state) { s.FDs[4].Path = nil }},
		{"path", func(s *state) { s.FDs[4].Path = []byte("a/../f") }},
		{"folder", func(s *state) { s.FDs[4].Dir = &dirState{} }},
		{"cookie", func(s *state) { s.FDs[3].Dir = &dirState{Cookie: 1 << 63} }},
	} {
		i := g.newInstance()
		err := i.Restore(StateVersion, edit(c.f))
		if err == nil {
			t.Errorf("no error, want %q", c.want)
			continue
		}
		contains(t, err.Error(), c.want)
	}
}

// TestStateGolden holds that this version's bytes stay readable and the same.
func TestStateGolden(t *testing.T) {
	g := newGuest(t, Config{Args: []string{"prog", "x"}, Env: []string{"A=1"}, TTY: [3]bool{false, true, true}, Mounts: []Mount{{
		Host: files(t, map[string]string{"f": "0123456789", "d/a": "", "d/b": ""}), Guest: "/data",
	}}})
	g.wantRead(g.open("f", openArgs{}), 4, "0123")
	d := g.open("d", openArgs{oflags: oflagDirectory})
	g.readdir(d, 60, 0)
	g.readdir(d, 30, 2)
	g.open("new", openArgs{oflags: oflagCreat, rights: readWrite, fdflags: fdflagAppend | fdflagDsync})
	got := g.save()
	name := filepath.Join("testdata", "state-v1.cbor")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := content(t, name); string(got) != want {
		t.Errorf("the encoding changed: a new version is due.\n got %x\nwant %x", got, want)
	}
	c, err := Program(StateVersion, got)
	if err != nil || !slices.Equal(c.Args, []string{"prog", "x"}) || !slices.Equal(c.Env, []string{"A=1"}) {
		t.Errorf("the program's arguments are %q, its environment %q, %v", c.Args, c.Env, err)
	}
	if _, err := Program(StateVersion, got[:len(got)-1]); err == nil {
		t.Error("half a state is taken for one")
	}
	g.restore(nil)
	if names, _, _ := g.readdir(d, 60, 3); len(names) != 1 || names[0] != "b:4" {
		t.Errorf("listing goes on with %v", names)
	}
}

// TestStateGoldenVolume is TestStateGolden for what is new in version 2: volumes in memory, standard input.
func TestStateGoldenVolume(t *testing.T) {
	g := newGuest(t, Config{
		Args: []string{"prog"}, StdinMessages: true, Mounts: []Mount{{Memory: true, Guest: "/tmp", Limit: 1 << 20}},
	})
	m := &mailbox{ops: map[uint32][]byte{}, messages: []string{"message"}}
	g.g.Coroutine = m
	list, _ := g.iovec(3)
	_, p := g.start("fd_read", nil, 0, list, 1, 64)
	m.deliver(p.Ops[0])
	g.want(success, "fd_read", 0, list, 1, 64)
	ptr, n := g.path("d")
	g.want(success, "path_create_directory", 3, ptr, n)
	g.write(g.open("d/f", openArgs{oflags: oflagCreat, rights: readWrite}), strings.Repeat("x", 5000))
	gone := g.open("gone", openArgs{oflags: oflagCreat, rights: readWrite, fdflags: fdflagAppend})
	g.write(gone, "nameless")
	gonePtr, goneLen := g.path("gone")
	g.want(success, "path_unlink_file", 3, gonePtr, goneLen)
	to, toLen := g.path("link")
	g.want(success, "path_symlink", ptr, n, 3, to, toLen)

	state := g.save()
	parts, err := g.inst.SaveParts()
	if err != nil {
		t.Fatal(err)
	}
	got := bytesOf(append([]hostabi.Part{{Name: "", Data: state}}, parts...))
	name := filepath.Join("testdata", "state-v2.bin")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []byte(content(t, name))
	if !bytes.Equal(got, want) {
		t.Errorf("the encoding changed: a new version is due.\n got %x\nwant %x", got, want)
	}
	saved := partsOf(want)
	g.inst = g.newInstance()
	if err := errors.Join(g.inst.RestoreParts(2, saved[1:]), g.inst.Restore(2, saved[0].Data)); err != nil {
		t.Fatal(err)
	}
	g.wantRead(0, 10, "sage")
	g.wantRead(g.open("link/f", openArgs{}), 3, "xxx")
	g.want(success, "fd_seek", gone, 0, 0, 64)
	g.wantRead(gone, 20, "nameless")

	c, err := Program(2, saved[0].Data)
	if want := []Mount{{Memory: true, Guest: "/tmp", Limit: 1 << 20}}; err != nil || !c.StdinMessages || !slices.Equal(c.Mounts, want) {
		t.Errorf("%+v, %v", c, err)
	}
	// A folder where the volume is.
	g.config.Mounts = []Mount{{Host: t.TempDir(), Guest: "/tmp"}}
	g.inst = g.newInstance()
	err = errors.Join(g.inst.RestoreParts(2, saved[1:]), g.inst.Restore(2, saved[0].Data))
	if mount := (*VolumeMountError)(nil); !errors.As(err, &mount) || mount.Guest != "/tmp" {
		t.Errorf("a folder over a volume: %v", err)
	}
}
