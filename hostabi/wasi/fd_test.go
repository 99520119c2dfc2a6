package wasi

import (
	"fmt"
	"os"
	"testing"
)

func TestReadWrite(t *testing.T) {
	g, dir := mounted(t, map[string]string{"in": "0123456789"})
	in := g.open("in", openArgs{})
	if in != 4 {
		t.Errorf("first descriptor is %d, want 4", in)
	}
	g.wantRead(in, 4, "0123")
	if off := g.tell(in); off != 4 {
		t.Errorf("offset %d", off)
	}
	at := g.space(8)
	for _, c := range []struct {
		off    int64
		whence uint64
		want   int64
		e      errno
	}{{2, 0, 2, 0}, {3, 1, 5, 0}, {-1, 2, 9, 0}, {-1, 0, 0, eInval}, {0, 3, 0, eInval}, {0, 1<<32 - 1, 0, eInval}} {
		g.want(c.e, "fd_seek", in, uint64(c.off), c.whence, at)
		if c.e == 0 && int64(g.u64(at)) != c.want {
			t.Errorf("seek %d, %d: %d", c.off, c.whence, g.u64(at))
		}
	}
	g.want(eFault, "fd_seek", in, 0, 0, 1<<16-7)
	g.wantRead(in, 10, "9")
	g.wantRead(in, 10, "")

	// Several buffers, one of them empty.
	var b []byte
	for _, v := range [][2]uint32{{1000, 2}, {0, 0}, {2000, 3}} {
		b = le.AppendUint32(le.AppendUint32(b, v[0]), v[1])
	}
	list, n := g.put(b), g.space(4)
	g.want(success, "fd_pread", in, list, 3, 6, n)
	if x, _ := g.mem.Read(1000, 2); string(x) != "67" || g.u32(n) != 4 {
		t.Errorf("pread: %q, %d bytes", x, g.u32(n))
	}
	g.want(eInval, "fd_pread", in, list, 3, 1<<63, n)
	g.want(eBadf, "fd_write", in, list, 3, n)

	out := g.open("out", openArgs{oflags: oflagCreat, rights: rightFDWrite})
	g.mem.WriteString(1000, "ab")
	g.mem.WriteString(2000, "cde")
	g.want(success, "fd_write", out, list, 3, n)
	g.want(success, "fd_pwrite", out, list, 1, 8, n)
	if s := content(t, dir+"/out"); s != "abcde\x00\x00\x00ab" {
		t.Errorf("wrote %q", s)
	}
	g.want(eBadf, "fd_read", out, list, 1, n)
	g.want(eInval, "fd_pwrite", out, list, 1, 1<<63, n)

	// Pointers.
	g.want(eFault, "fd_write", out, 1<<16-8, 2, n)
	g.want(eFault, "fd_write", out, list, 3, 1<<16-3)
	g.want(eFault, "fd_write", out, list, 1<<29+1, n)
	bad := g.put([]byte{0, 4, 0, 0, 1, 0, 0, 0, 0, 0xff, 0, 0, 0xff, 0xff, 0, 0})
	g.want(eFault, "fd_write", out, bad, 2, n)
	if s := content(t, dir+"/out"); len(s) != 10 {
		t.Errorf("wrote before the last buffer was checked: %q", s)
	}

	for _, fd := range []uint64{9, 1 << 31, 1<<32 - 1} {
		g.want(eBadf, "fd_read", fd, list, 1, n)
		g.want(eBadf, "fd_pread", fd, list, 1, 0, n)
		g.want(eBadf, "fd_write", fd, list, 1, n)
		g.want(eBadf, "fd_pwrite", fd, list, 1, 0, n)
		g.want(eBadf, "fd_seek", fd, 0, 0, at)
		g.want(eBadf, "fd_tell", fd, at)
		g.want(eBadf, "fd_sync", fd)
		g.want(eBadf, "fd_datasync", fd)
		g.want(eBadf, "fd_close", fd)
		g.want(eBadf, "fd_advise", fd, 0, 0, 0)
		g.want(eBadf, "fd_allocate", fd, 0, 1)
		g.want(eBadf, "fd_fdstat_get", fd, at)
		g.want(eBadf, "fd_fdstat_set_flags", fd, 0)
		g.want(eBadf, "fd_filestat_get", fd, 1000)
		g.want(eBadf, "fd_filestat_set_size", fd, 0)
		g.want(eBadf, "fd_filestat_set_times", fd, 0, 0, 0)
		g.want(eBadf, "fd_readdir", fd, 1000, 100, 0, n)
		g.want(eBadf, "fd_prestat_get", fd, at)
		g.want(eBadf, "fd_prestat_dir_name", fd, at, 1)
		g.want(eBadf, "fd_renumber", fd, 20)
	}

	g.want(success, "fd_sync", out)
	g.want(success, "fd_datasync", out)
	g.want(success, "fd_close", out)
	g.want(eBadf, "fd_close", out)
	if fd := g.open("in", openArgs{}); fd != out {
		t.Errorf("lowest free descriptor is %d, got %d", out, fd)
	}
	if len(g.pending) != 0 {
		t.Error("reading a file suspends")
	}
}

// TestDirectoryFD does to a folder what is for files.
func TestDirectoryFD(t *testing.T) {
	g, _ := mounted(t, map[string]string{"d/f": ""})
	d := g.open("d", openArgs{oflags: oflagDirectory})
	list, n := g.put(le.AppendUint32(le.AppendUint32(nil, 1000), 4)), g.space(8)
	for _, fd := range []uint64{3, d} {
		g.want(eIsdir, "fd_read", fd, list, 1, n)
		g.want(eIsdir, "fd_pread", fd, list, 1, 0, n)
		g.want(eIsdir, "fd_write", fd, list, 1, n)
		g.want(eIsdir, "fd_pwrite", fd, list, 1, 0, n)
		g.want(eIsdir, "fd_seek", fd, 0, 0, n)
		g.want(eIsdir, "fd_tell", fd, n)
		g.want(eIsdir, "fd_filestat_set_size", fd, 0)
		g.want(eIsdir, "fd_allocate", fd, 0, 1<<20)
		g.want(success, "fd_sync", fd)
		g.want(success, "fd_filestat_set_times", fd, 0, 0, fstAtimNow|fstMtimNow)
		g.want(success, "fd_fdstat_set_flags", fd, 0)
	}
}

func TestAppend(t *testing.T) {
	g, dir := mounted(t, map[string]string{"log": "a"})
	fd := g.open("log", openArgs{rights: readWrite, fdflags: fdflagAppend})
	g.write(fd, "b")
	g.want(success, "fd_seek", fd, 0, 0, g.space(8))
	g.write(fd, "c")
	list, n := g.put(le.AppendUint32(le.AppendUint32(nil, 1000), 1)), g.space(4)
	g.mem.WriteByte(1000, 'd')
	g.want(success, "fd_pwrite", fd, list, 1, 0, n)
	if s := content(t, dir+"/log"); s != "abcd" {
		t.Errorf("appended %q", s)
	}
	g.want(success, "fd_fdstat_set_flags", fd, 0)
	g.want(success, "fd_seek", fd, 1, 0, g.space(8))
	g.write(fd, "B")
	g.want(success, "fd_fdstat_set_flags", fd, fdflagAppend)
	g.write(fd, "e")
	if s := content(t, dir+"/log"); s != "aBcde" {
		t.Errorf("then %q", s)
	}
	g.want(eInval, "fd_fdstat_set_flags", fd, fdflagSync)
	remove(t, dir+"/log")
	g.want(eNoent, "fd_fdstat_set_flags", fd, 0)
}

func TestFdstat(t *testing.T) {
	g := newGuest(t, Config{TTY: [3]bool{false, true, false}, Mounts: []Mount{{Host: files(t, map[string]string{"f": ""})}}})
	f := g.open("f", openArgs{rights: readWrite, fdflags: fdflagAppend | fdflagNonblock})
	at := g.space(fdstatSize)
	for _, c := range []struct {
		fd    uint64
		kind  byte
		flags uint16
		base  uint64
	}{
		{0, typeBlock, 0, fileRights}, // what wazero says of an io.Reader
		{1, typeCharacter, 0, fileRights &^ (rightFDSeek | rightFDTell)},
		{2, typeBlock, 0, fileRights},
		{3, typeDirectory, 0, dirRights},
		{f, typeRegular, fdflagAppend | fdflagNonblock, fileRights},
	} {
		g.want(success, "fd_fdstat_get", c.fd, at)
		b, _ := g.mem.Read(uint32(at), fdstatSize)
		if b[0] != c.kind || le.Uint16(b[2:]) != c.flags || le.Uint64(b[8:]) != c.base {
			t.Errorf("fdstat of %d: %x", c.fd, b)
		}
	}
	g.want(eFault, "fd_fdstat_get", 0, 1<<16-fdstatSize+1)
	g.want(success, "fd_filestat_get", 1, 1000)
	if g.u64(1016) != typeCharacter || g.u64(1024) != 1 {
		t.Errorf("filestat of 1: type %d, %d links", g.u64(1016), g.u64(1024))
	}
	g.want(eFault, "fd_filestat_get", 1, 1<<16-filestatSize+1)
}

func TestFilestat(t *testing.T) {
	g, dir := mounted(t, map[string]string{"f": "12345"})
	st, err := os.Stat(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	f := g.open("f", openArgs{rights: readWrite})
	at := g.space(filestatSize)
	ptr, size := g.path("f")
	check := func(name string, args ...uint64) {
		t.Helper()
		g.want(success, name, args...)
		if g.u64(at+16) != typeRegular || g.u64(at+32) != 5 || int64(g.u64(at+48)) != st.ModTime().UnixNano() {
			t.Errorf("%s: type %d, size %d, mtime %d", name, g.u64(at+16), g.u64(at+32), g.u64(at+48))
		}
	}
	check("fd_filestat_get", f, at)
	check("path_filestat_get", 3, 0, ptr, size, at)
	check("path_filestat_get", 3, lookupSymlinkFollow, ptr, size, at)
	g.want(eFault, "path_filestat_get", 3, 0, ptr, size, 1<<16-1)

	const when = 1_000_000_000_123_456_700
	for _, c := range []struct {
		flags      uint64
		e          errno
		atim, mtim int64
	}{
		{fstAtim | fstMtim, 0, when, when + 100},
		{fstMtimNow, 0, when, g.clock.wall},
		{fstAtimNow, 0, g.clock.wall, g.clock.wall},
		{fstMtim, 0, g.clock.wall, when + 100},
		{0, 0, g.clock.wall, when + 100},
		{fstAtim | fstAtimNow, eInval, g.clock.wall, when + 100},
		{fstMtim | fstMtimNow, eInval, g.clock.wall, when + 100},
	} {
		for _, byPath := range []bool{false, true} {
			if byPath {
				g.want(c.e, "path_filestat_set_times", 3, lookupSymlinkFollow, ptr, size, when, when+100, c.flags)
			} else {
				g.want(c.e, "fd_filestat_set_times", f, when, when+100, c.flags)
			}
			g.want(success, "fd_filestat_get", f, at)
			if int64(g.u64(at+40)) != c.atim || int64(g.u64(at+48)) != c.mtim {
				t.Errorf("flags %d, by path %v: atim %d, mtim %d; want %d, %d", c.flags, byPath, g.u64(at+40), g.u64(at+48), c.atim, c.mtim)
			}
		}
	}

	g.want(success, "fd_filestat_set_size", f, 2)
	g.want(eInval, "fd_filestat_set_size", f, 1<<63)
	g.want(success, "fd_allocate", f, 1, 3)
	g.want(success, "fd_allocate", f, 0, 1)
	g.want(eInval, "fd_allocate", f, 1<<62, 1<<62)
	g.want(eInval, "fd_allocate", f, 1<<63, 1<<63)
	if s := content(t, dir+"/f"); s != "12\x00\x00" {
		t.Errorf("then the file is %q", s)
	}
	g.want(success, "fd_advise", f, 0, 0, 5)
	g.want(eInval, "fd_advise", f, 0, 0, 6)
}

func TestPrestat(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	g := newGuest(t, Config{Mounts: []Mount{{Host: a}, {Host: b, Guest: "/data/"}}})
	at := g.space(64)
	for n, name := range []string{"/", "/data"} {
		g.want(success, "fd_prestat_get", uint64(3+n), at)
		if g.u32(at) != 0 || int(g.u32(at+4)) != len(name) {
			t.Errorf("prestat %d: %x", n, g.u64(at))
		}
		g.want(success, "fd_prestat_dir_name", uint64(3+n), at, uint64(len(name)))
		if s, _ := g.mem.Read(uint32(at), uint32(len(name))); string(s) != name {
			t.Errorf("name %q", s)
		}
	}
	g.want(eNametoolong, "fd_prestat_dir_name", 3, at, 2)
	g.want(eFault, "fd_prestat_dir_name", 4, 1<<16-2, 5)
	g.want(eFault, "fd_prestat_get", 4, 1<<16-7)
	for _, fd := range []uint64{0, 1, 2, 5} {
		g.want(eBadf, "fd_prestat_get", fd, at)
	}
}

func TestRenumber(t *testing.T) {
	g, _ := mounted(t, map[string]string{"a": "aaa", "b": "bbb"})
	a, b := g.open("a", openArgs{}), g.open("b", openArgs{})
	g.want(success, "fd_renumber", a, a)
	g.want(success, "fd_renumber", a, b)
	g.wantRead(b, 1, "a")
	g.want(eBadf, "fd_close", a)
	g.want(success, "fd_renumber", b, 100)
	g.wantRead(100, 1, "a")
	if fd := g.open("b", openArgs{}); fd != a {
		t.Errorf("opened as %d, want %d", fd, a)
	}
	g.want(eNotsup, "fd_renumber", 100, 1)
	g.want(eNotsup, "fd_renumber", 100, 3)
	g.want(eNotsup, "fd_renumber", 3, 100)
	g.want(eBadf, "fd_renumber", 100, maxFDs)
	g.want(eBadf, "fd_renumber", 100, 1<<31-1)
	g.want(eBadf, "fd_renumber", 100, 1<<32-1)
	g.restore(nil)
	g.wantRead(100, 1, "a")
}

func TestTooManyFiles(t *testing.T) {
	g, _ := mounted(t, map[string]string{"a": ""})
	for fd := range maxFDs {
		if g.inst.fds.get(int32(fd)) == nil {
			g.inst.fds.set(int32(fd), newStdio(kindStdin, false))
		}
	}
	if _, e := g.tryOpen("new", openArgs{oflags: oflagCreat}); e != eMfile {
		t.Errorf("errno %d, want EMFILE", e)
	}
	if _, e := g.tryOpen("new", openArgs{}); e != eMfile {
		t.Errorf("errno %d, want EMFILE", e)
	}
	g.want(success, "fd_close", 50)
	if fd, e := g.tryOpen("new", openArgs{}); e != eNoent {
		t.Errorf("descriptor %d, errno %d; want ENOENT: the file must not have been created before", fd, e)
	}
}

func TestOutput(t *testing.T) {
	g := newGuest(t, Config{})
	g.write(1, "out")
	g.write(2, "err")
	g.write(1, "put")
	if g.out[1].String() != "output" || g.out[2].String() != "err" {
		t.Errorf("output %q, %q", &g.out[1], &g.out[2])
	}
	list, _ := g.iovec(1)
	g.want(eBadf, "fd_read", 1, list, 1, 64)
	g.want(success, "fd_sync", 1)
	g.g.Output = func(uint8, []byte) error { return errTest }
	if e := g.write(1, "x"); e != eIO {
		t.Errorf("failing output: errno %d", e)
	}
	g.g.Output = nil
	if e := g.write(1, "x"); e != success {
		t.Errorf("no output: errno %d", e)
	}
	g.want(success, "fd_close", 1)
	g.want(eBadf, "fd_write", 1, list, 1, 64)
}

func (g *guest) readdir(fd uint64, size int, cookie uint64) (names []string, next uint64, more bool) {
	g.t.Helper()
	defer func(top uint32) { g.top = top }(g.top)
	buf, used := g.space(size), g.space(4)
	g.want(success, "fd_readdir", fd, buf, uint64(size), cookie, used)
	b, _ := g.mem.Read(uint32(buf), g.u32(used))
	next = cookie
	for len(b) >= direntSize {
		n := int(le.Uint32(b[16:]))
		if len(b) < direntSize+n {
			return names, next, true
		}
		names = append(names, fmt.Sprintf("%s:%d", b[direntSize:direntSize+n], b[20]))
		next = le.Uint64(b)
		b = b[direntSize+n:]
	}
	return names, next, int(g.u32(used)) == size
}

func TestReaddir(t *testing.T) {
	g, dir := mounted(t, map[string]string{"b": "", "a/x": "", "c": ""})
	if err := os.Symlink("b", dir+"/l"); err != nil {
		t.Skip(err)
	}
	want := "[.:3 ..:3 a:3 b:4 c:4 l:7]"
	for _, size := range []int{49, 60, 100, 1000} {
		var all []string
		for cookie, more := uint64(0), true; more; {
			var names []string
			names, cookie, more = g.readdir(3, size, cookie)
			all = append(all, names...)
			if more && len(names) == 0 {
				t.Fatalf("buffer of %d: no progress after %v", size, all)
			}
		}
		if fmt.Sprint(all) != want {
			t.Errorf("buffer of %d: %v, want %v", size, all, want)
		}
	}
	// Any cookie that was given is good again.
	if names, _, _ := g.readdir(3, 1000, 4); fmt.Sprint(names) != "[c:4 l:7]" {
		t.Errorf("from cookie 4: %v", names)
	}
	if names, _, _ := g.readdir(3, 1000, 6); names != nil {
		t.Errorf("from the end: %v", names)
	}
	n := g.space(4)
	g.want(eNoent, "fd_readdir", 3, 1000, 100, 7, n)
	g.want(eNoent, "fd_readdir", 3, 1000, 100, 1<<63, n)
	g.want(eInval, "fd_readdir", 3, 1000, 23, 0, n)
	g.want(eFault, "fd_readdir", 3, 1<<16-50, 100, 0, n)
	g.want(eFault, "fd_readdir", 3, 1000, 100, 0, 1<<16-3)
	g.want(eNoent, "fd_readdir", g.open("a", openArgs{}), 1000, 100, 1, n)
	g.want(eBadf, "fd_readdir", g.open("b", openArgs{}), 1000, 100, 0, n)
	g.want(eBadf, "fd_readdir", 0, 1000, 100, 0, n)
	// From the start it sees what is new.
	create(t, dir+"/aa")
	if names, _, _ := g.readdir(3, 1000, 0); len(names) != 7 {
		t.Errorf("rewound: %v", names)
	}
}

// TestReaddirContinued lists with a restore after each call, and checks that no name is lost or doubled, whatever the
// buffer, and also when the folder changes meanwhile.
func TestReaddirContinued(t *testing.T) {
	want := []string{".:3", "..:3"}
	all := map[string]string{}
	for n := range 20 {
		name := fmt.Sprintf("name%02d", n)
		all["d/"+name] = ""
		want = append(want, name+":4")
	}
	all["d/!first"] = "" // sorts before "."
	want = append(want[:2], append([]string{"!first:4"}, want[2:]...)...)
	for size := direntSize + 10; size < 300; size += 13 {
		g, dir := mounted(t, all)
		d := g.open("d", openArgs{oflags: oflagDirectory})
		var got []string
		calls := 0
		for cookie, more := uint64(0), true; more; calls++ {
			var names []string
			names, cookie, more = g.readdir(d, size, cookie)
			got = append(got, names...)
			g.restore(func() {
				if calls == 1 {
					remove(t, dir+"/d/name00") // it was told, or is not any more
					create(t, dir+"/d/!before")
				}
			})
		}
		// The buffer may have held all before the folder changed.
		told := fmt.Sprint(got)
		without := fmt.Sprint(append(append([]string(nil), want[:3]...), want[4:]...))
		if told != fmt.Sprint(want) && told != without {
			t.Errorf("buffer of %d: %v", size, got)
		}
		g.inst.Close()
	}
}

// TestReaddirLarge gives a guest more entries in one call than are captured.
func TestReaddirLarge(t *testing.T) {
	const n = maxBatch + 100
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprintf("f%05d", i)] = ""
	}
	g, _ := mounted(t, all)
	names, next, more := g.readdir(3, n*(direntSize+6), 0)
	if !more || len(names) < maxBatch+50 {
		t.Fatalf("%d entries at once", len(names))
	}
	g.restore(nil)
	rest, _, _ := g.readdir(3, n*(direntSize+6), next)
	if got := len(names) + len(rest); got != n+2 || rest[0] <= names[len(names)-1] {
		t.Errorf("%d and %d entries, %s then %s", len(names), len(rest), names[len(names)-1], rest[0])
	}
	g.want(eNoent, "fd_readdir", 3, 64, 1000, 1, 64)
}
