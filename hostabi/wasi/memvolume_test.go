package wasi

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero/experimental/wazerotest"

	"github.com/durun/durun/hostabi"
)

// memGuest returns a guest with a volume in memory at /.
func memGuest(t testing.TB, limit int64) *guest {
	t.Helper()
	return newGuest(t, Config{Mounts: []Mount{{Memory: true, Limit: limit}}})
}

// TestVolumeAgainstFolder does the same to a volume in memory and to a folder of the host, at random, and compares what each
// call returns and what is there in the end. The volume goes through a snapshot now and then.
func TestVolumeAgainstFolder(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("errnos of folders are the system's: the volume has Linux's")
	}
	rounds := 200
	if testing.Short() {
		rounds = 8
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			randomVolume(t, rand.New(rand.NewPCG(uint64(seed), 1)), 0)
		})
	}
}

// TestVolumeFull does so to a volume in which there is seldom space, without a folder to compare it with.
func TestVolumeFull(t *testing.T) {
	for seed := range 80 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			randomVolume(t, rand.New(rand.NewPCG(uint64(seed), 2)), 1000+int64(seed)*3000)
		})
	}
}

// randomVolume does things at random to a volume and, if that has no limit, to a folder of the host.
func randomVolume(t *testing.T, r *rand.Rand, limit int64) {
	names := []string{"a", "b", "c", "a/a", "a/b", "b/a", "a/a/a", "b/c/d", "a/", "./b/", ".", "c/../a", "..", "", "a/../../x"}
	targets := []string{"a", "b/", "a/b", "../a", "../../../x", "c", "/a"}
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	host, dir := mounted(t, nil)
	mem := memGuest(t, limit)
	both := []*guest{mem, host}
	if limit > 0 {
		both = both[:1]
	}
	for _, g := range both {
		g.mem = wazerotest.NewMemory(1 << 18)
		g.g.Memory = g.mem
	}
	var fds []uint64
	log := []string{}
	for range 300 {
		name, other := pick(names), pick(names)
		var fd uint64 = 100
		if len(fds) > 0 {
			fd = fds[r.IntN(len(fds))]
		}
		off, size := uint64(r.IntN(3*memChunkSize)), 1+r.IntN(memChunkSize+100)
		if r.IntN(2) == 0 {
			off, size = uint64(r.IntN(50)), 1+r.IntN(50)
		}
		data := bytes.Repeat([]byte{byte(1 + r.IntN(255))}, size)
		var what string
		var do func(g *guest) (errno, string)
		plain := func(name string, args func(g *guest) []uint64) func(g *guest) (errno, string) {
			return func(g *guest) (errno, string) { return g.call(name, args(g)...), "" }
		}
		at := func(g *guest, name string) (ptr, size uint64) { return g.path(name) }
		// Where a slash comes after a file or a link, os.Root has errnos of its own.
		noSlash := func(g *guest, name string) (ptr, size uint64) { return g.path(strings.TrimSuffix(name, "/")) }
		switch op := r.IntN(19); op {
		case 0, 1, 2:
			a := openArgs{
				nofollow: r.IntN(4) == 0, oflags: uint64(r.IntN(16)), rights: []uint64{rightFDRead, rightFDWrite, readWrite}[r.IntN(3)],
				fdflags: uint64(r.IntN(2)) * fdflagAppend,
			}
			what = fmt.Sprintf("open %q %+v", name, a)
			do = func(g *guest) (errno, string) {
				fd, e := g.tryOpen(name, a)
				return e, fmt.Sprint(fd)
			}
		case 3:
			what, do = fmt.Sprintf("mkdir %q", name), plain("path_create_directory", func(g *guest) []uint64 { p, n := at(g, name); return []uint64{3, p, n} })
		case 4:
			what, do = fmt.Sprintf("rmdir %q", name), plain("path_remove_directory", func(g *guest) []uint64 { p, n := at(g, name); return []uint64{3, p, n} })
		case 5:
			what, do = fmt.Sprintf("unlink %q", name), plain("path_unlink_file", func(g *guest) []uint64 { p, n := noSlash(g, name); return []uint64{3, p, n} })
		case 6, 7:
			what, do = fmt.Sprintf("rename %q %q", name, other), plain("path_rename", func(g *guest) []uint64 {
				p, n := noSlash(g, name)
				p2, n2 := noSlash(g, other)
				return []uint64{3, p, n, 3, p2, n2}
			})
		case 8:
			what, do = fmt.Sprintf("link %q %q", name, other), plain("path_link", func(g *guest) []uint64 {
				p, n := noSlash(g, name)
				p2, n2 := noSlash(g, other)
				return []uint64{3, 0, p, n, 3, p2, n2}
			})
		case 9:
			target := pick(targets)
			what, do = fmt.Sprintf("symlink %q %q", target, name), plain("path_symlink", func(g *guest) []uint64 {
				p, n := at(g, target)
				p2, n2 := at(g, name)
				return []uint64{p, n, 3, p2, n2}
			})
		case 10, 11:
			what, do = fmt.Sprintf("pwrite %d %d at %d", fd, size, off), func(g *guest) (errno, string) {
				list, buf := g.iovec(len(data))
				g.mem.Write(uint32(buf), data)
				n := g.space(4)
				e := g.call("fd_pwrite", fd, list, 1, off, n)
				return e, fmt.Sprint(g.u32(n))
			}
		case 12:
			what, do = fmt.Sprintf("write %d %d", fd, size), func(g *guest) (errno, string) {
				list, buf := g.iovec(len(data))
				g.mem.Write(uint32(buf), data)
				n := g.space(4)
				e := g.call("fd_write", fd, list, 1, n)
				return e, fmt.Sprint(g.u32(n))
			}
		case 13:
			what, do = fmt.Sprintf("read %d %d", fd, size), func(g *guest) (errno, string) {
				s, e := g.read(fd, size)
				return e, s
			}
		case 14:
			what, do = fmt.Sprintf("truncate %d %d", fd, off), plain("fd_filestat_set_size", func(*guest) []uint64 { return []uint64{fd, off} })
		case 15:
			what, do = fmt.Sprintf("seek %d %d", fd, off), func(g *guest) (errno, string) {
				n := g.space(8)
				e := g.call("fd_seek", fd, off-20, off%3, n)
				return e, fmt.Sprint(g.u64(n))
			}
		case 16:
			what, do = fmt.Sprintf("close %d", fd), plain("fd_close", func(*guest) []uint64 { return []uint64{fd} })
			fds = slices.DeleteFunc(fds, func(f uint64) bool { return f == fd })
		case 17:
			follow := uint64(r.IntN(2))
			what, do = fmt.Sprintf("stat %q %d", name, follow), func(g *guest) (errno, string) {
				p, n := at(g, name)
				b := g.space(filestatSize)
				e := g.call("path_filestat_get", 3, follow, p, n, b)
				return e, statText(g, b)
			}
		case 18:
			what, do = fmt.Sprintf("allocate %d %d", fd, off), plain("fd_allocate", func(*guest) []uint64 { return []uint64{fd, off % 100, off / 2} })
		}
		log = append(log, what)
		var got [2]string
		var failed [2]bool
		for k, g := range both {
			g.top = 64
			e, s := do(g)
			failed[k] = e != success
			got[k] = fmt.Sprintf("errno %d %s", e, s)
			var n uint64
			if g == mem && e == success && strings.HasPrefix(what, "open ") {
				_, _ = fmt.Sscan(s, &n)
				fds = append(fds, n)
			}
		}
		// Of two reasons not to make a link, or to rename, the two may find different ones first.
		either := (strings.HasPrefix(what, "link ") || strings.HasPrefix(what, "rename ")) && failed[0] && failed[1]
		if limit == 0 && got[0] != got[1] && !either {
			t.Fatalf("%s:\nvolume: %.200q\nfolder: %.200q\nafter:\n%s", what, got[0], got[1], strings.Join(log[max(0, len(log)-40):], "\n"))
		}
		if r.IntN(20) == 0 {
			mem.restore(nil)
		}
		checkVolume(t, mem.inst.volumes()[0])
		if t.Failed() {
			t.Fatal(what)
		}
	}
	if d := cmp.Diff(tree(host), tree(mem)); d != "" && limit == 0 {
		t.Errorf("%s: folder (-), volume (+):\n%s", dir, d)
	}
	for _, fd := range fds {
		mem.want(success, "fd_close", fd)
	}
	checkVolume(t, mem.inst.volumes()[0])
}

// statText is what a filestat says that doesn't depend on where the file is.
func statText(g *guest, at uint64) string {
	size := g.u64(at + 32)
	if g.u64(at+16) == typeDirectory {
		size = 0 // the host's own way
	}
	return fmt.Sprintf("type %d links %d size %d", g.u64(at+16), g.u64(at+24), size)
}

// tree describes all that there is below descriptor 3.
func tree(g *guest) []string {
	var list []string
	var visit func(dir string)
	visit = func(dir string) {
		g.top = 64
		fd, e := g.tryOpen(dir, openArgs{oflags: oflagDirectory})
		if e != success {
			list = append(list, fmt.Sprintf("%s: errno %d", dir, e))
			return
		}
		d := g.inst.fds.get(int32(fd))
		entries, _ := d.readAll()
		g.want(success, "fd_close", fd)
		for _, entry := range entries {
			name := strings.TrimPrefix(dir+"/"+entry.Name, "./")
			g.top = 64
			p, n := g.path(name)
			b := g.space(filestatSize)
			g.want(success, "path_filestat_get", 3, 0, p, n, b)
			text := name + ": " + statText(g, b)
			switch g.u64(b + 16) {
			case typeDirectory:
				defer visit(name)
			case typeSymlink:
				target, used := g.space(100), g.space(4)
				g.want(success, "path_readlink", 3, p, n, target, 100, used)
				b, _ := g.mem.Read(uint32(target), g.u32(used))
				text += " " + string(b)
			default:
				f := g.open(name, openArgs{})
				for {
					s, e := g.read(f, 10000)
					if e != success || s == "" {
						break
					}
					text += fmt.Sprintf(" %d/%x", len(s), s[:min(3, len(s))])
				}
				g.want(success, "fd_close", f)
			}
			list = append(list, text)
		}
	}
	visit(".")
	return list
}

// checkVolume compares the books of a volume with what there is.
func checkVolume(t testing.TB, v *memVolume) {
	t.Helper()
	used := int64(-memNodeCost) // the root is free
	for ino, n := range v.nodes {
		used += memNodeCost + int64(len(n.target)) + n.cost()
		for _, m := range n.names {
			used += nameCost(m.name)
			if m.dir.entries[m.name] != n {
				t.Errorf("inode %d is not in its folder as %q", ino, m.name)
			}
		}
		if n.ino != ino || n != v.root && len(n.names) == 0 && n.opens == 0 {
			t.Errorf("inode %d should be free: %+v", ino, n)
		}
		for index, c := range n.chunks {
			if int64(index)*memChunkSize+int64(len(c.data)) > n.size || len(c.data) == 0 {
				t.Errorf("inode %d: chunk %d of %d bytes in a file of %d", ino, index, len(c.data), n.size)
			}
		}
	}
	if used != v.used {
		t.Errorf("%d bytes are used, and counted %d", used, v.used)
	}
	if len(v.nodes)+len(v.free) != int(v.next)-memRoot {
		t.Errorf("%d inodes, %d free ones, %d numbers", len(v.nodes), len(v.free), v.next-memRoot)
	}
}

// TestRenameIntoItself moves a folder into itself through a symbolic link, over another folder, which stays.
func TestRenameIntoItself(t *testing.T) {
	host, _ := mounted(t, nil)
	for name, g := range map[string]*guest{"folder": host, "volume": memGuest(t, 0)} {
		for _, dir := range []string{"a", "a/a"} {
			p, n := g.path(dir)
			g.want(success, "path_create_directory", 3, p, n)
		}
		target, targetLen := g.path("a")
		link, linkLen := g.path("link")
		g.want(success, "path_symlink", target, targetLen, 3, link, linkLen)
		to, toLen := g.path("link/a")
		if e := g.call("path_rename", 3, target, targetLen, 3, to, toLen); e != eInval {
			t.Errorf("%s: errno %d", name, e)
		}
		g.open("a/a", openArgs{oflags: oflagDirectory})
	}
}

// TestVolumeUnlinked has files that stay open without a name, also across a suspension.
func TestVolumeUnlinked(t *testing.T) {
	g := memGuest(t, 0)
	fd := g.open("gone", openArgs{oflags: oflagCreat, rights: readWrite})
	g.write(fd, "still here")
	p, n := g.path("gone")
	g.want(success, "path_unlink_file", 3, p, n)
	over := g.open("over", openArgs{oflags: oflagCreat, rights: readWrite})
	g.write(over, "old")
	g.write(g.open("new", openArgs{oflags: oflagCreat, rights: readWrite}), "new")
	from, fromLen := g.path("new")
	to, toLen := g.path("over")
	g.want(success, "path_rename", 3, from, fromLen, 3, to, toLen)
	p, n = g.path("dir")
	g.want(success, "path_create_directory", 3, p, n)
	dir := g.open("dir", openArgs{oflags: oflagDirectory})
	g.want(success, "path_remove_directory", 3, p, n)
	for range 2 {
		g.restore(nil)
		if e := g.call("fd_seek", fd, 0, io.SeekStart, 1000); e != success {
			t.Fatal(e)
		}
		g.wantRead(fd, 20, "still here")
		g.want(success, "fd_seek", over, 0, io.SeekStart, 1000)
		g.wantRead(over, 20, "old")
		g.wantRead(g.open("over", openArgs{}), 20, "new")
		if _, e := g.tryOpen("gone", openArgs{}); e != eNoent {
			t.Errorf("open of a name that is gone: %d", e)
		}
		b, used := g.space(200), g.space(4)
		g.want(success, "fd_readdir", dir, b, 200, 0, used)
	}
	v := g.inst.volumes()[0]
	before := len(v.nodes)
	for _, fd := range []uint64{fd, over, dir} {
		g.want(success, "fd_close", fd)
	}
	if len(v.nodes) != before-3 {
		t.Errorf("%d inodes, then %d", before, len(v.nodes))
	}
	checkVolume(t, v)
}

// TestVolumeLimit fills a volume, and sees that what it gives back can be used again.
func TestVolumeLimit(t *testing.T) {
	g := memGuest(t, 100_000)
	for range 3 {
		fd := g.open("f", openArgs{oflags: oflagCreat | oflagTrunc, rights: readWrite})
		g.want(eNospc, "fd_allocate", fd, 0, 100_000) // for the first chunk there is space
		checkVolume(t, g.inst.volumes()[0])
		total := 0
		list, _ := g.iovec(5000)
		n := g.space(4)
		e := success
		for range 100 {
			if e = g.call("fd_write", fd, list, 1, n); e != success {
				break
			}
			total += int(g.u32(n))
		}
		if e != eNospc || total < 80_000 || total > 100_000 {
			t.Errorf("wrote %d bytes, then errno %d", total, e)
		}
		g.want(eNospc, "fd_allocate", fd, 0, 1<<30)
		g.want(eFbig, "fd_filestat_set_size", fd, maxMemSize+1)
		g.want(success, "fd_filestat_set_size", fd, maxMemSize) // a hole
		g.want(success, "fd_close", fd)
		g.restore(nil)
		made := 0
		for ; ; made++ {
			p, size := g.path(fmt.Sprintf("d%d", made))
			if e = g.call("path_create_directory", 3, p, size); e != success {
				break
			}
			g.top = 64
		}
		if e != eNospc || made == 0 || made > 400 {
			t.Errorf("made %d folders, then errno %d", made, e)
		}
		for ; made > 0; made-- {
			p, size := g.path(fmt.Sprintf("d%d", made-1))
			g.want(success, "path_remove_directory", 3, p, size)
			g.top = 64
		}
		p, size := g.path("f")
		g.want(success, "path_unlink_file", 3, p, size)
		checkVolume(t, g.inst.volumes()[0])
		if used := g.inst.volumes()[0].used; used != 0 {
			t.Errorf("%d bytes are used by nothing", used)
		}
	}
}

// TestVolumeParts sees that a small change changes few parts, and that saved parts don't change any more.
func TestVolumeParts(t *testing.T) {
	g := memGuest(t, 0)
	fd := g.open("big", openArgs{oflags: oflagCreat, rights: readWrite})
	log := g.open("log", openArgs{oflags: oflagCreat, rights: readWrite, fdflags: fdflagAppend})
	g.write(log, strings.Repeat("x", 9999))
	for n := range 10 {
		list, _ := g.iovec(1000)
		g.want(success, "fd_pwrite", fd, list, 1, uint64(n)*memChunkSize+5000, g.space(4))
	}
	parts := func() []hostabi.Part {
		t.Helper()
		g.save()
		list, err := g.inst.SaveParts()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	before := parts()
	copies := make([][]byte, len(before))
	for k, p := range before {
		copies[k] = bytes.Clone(p.Data)
	}
	changed := func(list []hostabi.Part) (n int) {
		t.Helper()
		for k, p := range list {
			if k >= len(before) || !bytes.Equal(p.Data, before[k].Data) {
				n++
			}
		}
		for k, p := range before {
			if !bytes.Equal(p.Data, copies[k]) {
				t.Errorf("part %s was changed", p.Name)
			}
		}
		return n
	}
	if n := changed(parts()); n != 0 || len(before) != 12 {
		t.Errorf("%d of %d parts changed by nothing", n, len(before))
	}
	g.clock.advance(1)
	list, buf := g.iovec(1)
	g.mem.WriteByte(uint32(buf), 1)
	g.want(success, "fd_pwrite", fd, list, 1, 5*memChunkSize+5100, g.space(4))
	g.write(log, "more")
	if n := changed(parts()); n != 3 { // two chunks and the inodes
		t.Errorf("%d parts changed", n)
	}
	g.want(success, "fd_filestat_set_size", fd, 5500)
	g.want(success, "fd_filestat_set_size", log, 10)
	g.want(success, "fd_filestat_set_size", log, 10000)
	g.write(log, "again")
	changed(parts())
	g.restore(nil)
	g.wantRead(g.open("log", openArgs{}), 20, strings.Repeat("x", 10)+strings.Repeat("\x00", 10))
}
