package wasi

import (
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
)

// at calls a function that takes a descriptor and a path.
func (g *guest) at(e errno, name, path string, rest ...uint64) {
	g.t.Helper()
	ptr, size := g.path(path)
	if got := g.call(name, append([]uint64{3, ptr, size}, rest...)...); got != e {
		g.t.Errorf("%s %q = %d, want %d", name, path, got, e)
	}
}

// rename calls path_rename.
func (g *guest) rename(e errno, from, to string) {
	g.t.Helper()
	a, an := g.path(from)
	b, bn := g.path(to)
	if got := g.call("path_rename", 3, a, an, 3, b, bn); got != e {
		g.t.Errorf("rename %q to %q = %d, want %d", from, to, got, e)
	}
}

func (g *guest) link(e errno, from, to string) {
	g.t.Helper()
	a, an := g.path(from)
	b, bn := g.path(to)
	if got := g.call("path_link", 3, 0, a, an, 3, b, bn); got != e {
		g.t.Errorf("link %q to %q = %d, want %d", from, to, got, e)
	}
}

func (g *guest) symlink(e errno, target, name string) {
	g.t.Helper()
	a, an := g.path(target)
	b, bn := g.path(name)
	if got := g.call("path_symlink", a, an, 3, b, bn); got != e {
		g.t.Errorf("symlink %q at %q = %d, want %d", target, name, got, e)
	}
}

func (g *guest) stat(e errno, name string, flags uint64) {
	g.t.Helper()
	ptr, size := g.path(name)
	if got := g.call("path_filestat_get", 3, flags, ptr, size, g.space(filestatSize)); got != e {
		g.t.Errorf("stat %q = %d, want %d", name, got, e)
	}
}

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name, path string
		args       openArgs
		e          errno
		after      string // content of "f"
	}{
		{"read", "f", openArgs{}, 0, "text"},
		{"missing", "none", openArgs{}, eNoent, "text"},
		{"under a file", "f/x", openArgs{}, eNotdir, "text"},
		{"a file with a slash", "f/", openArgs{}, eNotdir, "text"},
		{"empty", "", openArgs{}, eInval, "text"},
		{"folder", "d", openArgs{}, 0, "text"},
		{"folder with a slash", "d/", openArgs{oflags: oflagDirectory}, 0, "text"},
		{"folder to write", "d", openArgs{rights: readWrite}, eIsdir, "text"},
		{"folder to create", "d", openArgs{oflags: oflagCreat}, eIsdir, "text"},
		{"file as a folder", "f", openArgs{oflags: oflagDirectory}, eNotdir, "text"},
		{"file as a folder, truncated", "f", openArgs{oflags: oflagDirectory | oflagTrunc}, eNotdir, "text"},
		{"create a folder", "x", openArgs{oflags: oflagDirectory | oflagCreat}, eInval, "text"},
		{"create", "new", openArgs{oflags: oflagCreat, rights: rightFDWrite}, 0, "text"},
		{"create what is there", "f", openArgs{oflags: oflagCreat, rights: rightFDWrite}, 0, "text"},
		{"create alone", "f", openArgs{oflags: oflagCreat | oflagExcl, rights: rightFDWrite}, eExist, "text"},
		{"create alone, a link", "dangling", openArgs{oflags: oflagCreat | oflagExcl, rights: rightFDWrite}, eExist, "text"},
		{"truncate", "f", openArgs{oflags: oflagTrunc, rights: rightFDWrite}, 0, ""},
		{"dots", "d/../f", openArgs{}, 0, "text"},
		{"dots through nothing", "nope/../f", openArgs{}, 0, "text"},
		{"link", "l", openArgs{}, 0, "text"},
		{"link, not followed", "l", openArgs{nofollow: true}, eLoop, "text"},
		{"link to a folder, not followed", "ld", openArgs{nofollow: true, oflags: oflagDirectory}, eNotdir, "text"},
		{"through a link", "ld/g", openArgs{nofollow: true}, 0, "text"},
		{"dangling", "dangling", openArgs{}, eNoent, "text"},
		{"loop", "loop", openArgs{}, eLoop, "text"},
		{"NUL", "f\x00", openArgs{}, eInval, "text"},
		{"not UTF-8", "f\xff", openArgs{}, eIlseq, "text"},
		{"long name", strings.Repeat("a", 300), openArgs{}, eNametoolong, "text"},
		{"long path", strings.Repeat("a/", 5000), openArgs{}, eNametoolong, "text"},
		{"not a folder", "f", openArgs{dir: 1}, eNotdir, "text"},
		{"no descriptor", "f", openArgs{dir: 99}, eBadf, "text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, dir := mounted(t, map[string]string{"f": "text", "d/g": ""})
			for name, target := range map[string]string{"l": "f", "ld": "d", "dangling": "nowhere", "loop": "loop"} {
				if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
					t.Skip(err)
				}
			}
			if _, e := g.tryOpen(c.path, c.args); e != c.e {
				t.Errorf("errno %d, want %d", e, c.e)
			}
			if s := content(t, dir+"/f"); s != c.after {
				t.Errorf("file is %q, want %q", s, c.after)
			}
		})
	}
	g, _ := mounted(t, map[string]string{"f": ""})
	ptr, size := g.path("f")
	g.want(eFault, "path_open", 3, 0, ptr, size, 0, 0, 0, 0, 1<<16-3)
	g.want(eFault, "path_open", 3, 0, 1<<16-1, 5, 0, 0, 0, 0, 64)
	g.want(eFault, "path_open", 3, 0, ptr, 1<<32-1, 0, 0, 0, 0, 64)
	if g.inst.fds.get(4) != nil {
		t.Error("a descriptor is open after EFAULT")
	}
}

func TestPaths(t *testing.T) {
	g, dir := mounted(t, map[string]string{"f": "f", "full/x": "", "g": "g"})

	g.at(success, "path_create_directory", "new")
	g.at(success, "path_create_directory", "new/sub/")
	g.at(eExist, "path_create_directory", "new")
	g.at(eNoent, "path_create_directory", "none/sub")
	g.at(eNotdir, "path_create_directory", "f/sub")

	g.at(eNotempty, "path_remove_directory", "full")
	g.at(eNotdir, "path_remove_directory", "f")
	g.at(eNoent, "path_remove_directory", "none")
	g.at(eBusy, "path_remove_directory", ".")
	g.at(success, "path_remove_directory", "new/sub/")

	g.at(eIsdir, "path_unlink_file", "full")
	g.at(eNoent, "path_unlink_file", "none")
	g.at(eNotdir, "path_unlink_file", "g/")
	g.at(success, "path_unlink_file", "g")

	g.rename(success, "f", "f2")
	g.rename(eNoent, "f", "f3")
	g.rename(eIsdir, "f2", "full")
	g.rename(eNotdir, "full", "f2")
	g.rename(eNotempty, "new", "full")
	g.rename(eInval, "full", "full/in")
	g.at(success, "path_create_directory", "full/in")
	g.rename(eInval, "full", "full/in")
	g.rename(eNotempty, "full/in", "full")
	g.rename(success, "f2", "f2")
	g.rename(success, "full", "new") // over an empty folder
	g.rename(eBusy, ".", "x")
	g.rename(eBusy, "new", ".")
	if _, err := os.Stat(dir + "/new/x"); err != nil {
		t.Error(err)
	}

	g.link(success, "f2", "f3")
	g.link(eExist, "f2", "f3")
	g.link(eNoent, "none", "f4")
	g.symlink(success, "f2", "l")
	g.symlink(eExist, "f2", "l")
	g.symlink(ePerm, "/etc/passwd", "l2")
	g.symlink(eInval, "", "l2")
	g.stat(success, "l", 0)
	if typ := g.u64(uint64(g.top) - 72 + 16); typ != typeSymlink {
		t.Errorf("type of the link: %d", typ)
	}
	g.stat(success, "l", lookupSymlinkFollow)
	if typ := g.u64(uint64(g.top) - 72 + 16); typ != typeRegular {
		t.Errorf("type of its target: %d", typ)
	}
	g.stat(eNoent, "none", 0)

	buf, n := g.space(16), g.space(4)
	g.at(success, "path_readlink", "l", buf, 16, n)
	if b, _ := g.mem.Read(uint32(buf), g.u32(n)); string(b) != "f2" {
		t.Errorf("readlink: %q", b)
	}
	g.at(eRange, "path_readlink", "l", buf, 1, n)
	g.at(eInval, "path_readlink", "l", buf, 0, n)
	g.at(eInval, "path_readlink", "f2", buf, 16, n)
	g.at(eFault, "path_readlink", "l", 1<<16-4, 16, n)
	g.at(eFault, "path_readlink", "l", buf, 16, 1<<16-2)

	ptr, size := g.path("l")
	to, toSize := g.path("l3")
	g.want(eNotsup, "path_filestat_set_times", 3, 0, ptr, size, 1, 1, fstMtim)
	g.want(success, "path_filestat_set_times", 3, lookupSymlinkFollow, ptr, size, 1, 1, fstMtim)
	g.want(eInval, "path_link", 3, lookupSymlinkFollow, ptr, size, 3, to, toSize)
	g.want(success, "path_link", 3, 0, ptr, size, 3, to, toSize)
}

func TestTwoMounts(t *testing.T) {
	a, b := files(t, map[string]string{"f": "a"}), files(t, map[string]string{"f": "b"})
	g := newGuest(t, Config{Mounts: []Mount{{Host: a, Guest: "/a"}, {Host: b, Guest: "/b"}}})
	ptr, size := g.path("f")
	g.want(eXdev, "path_rename", 3, ptr, size, 4, ptr, size)
	g.want(eXdev, "path_link", 3, 0, ptr, size, 4, ptr, size)
	g.wantRead(g.open("f", openArgs{dir: 4}), 9, "b")
}

// TestEscape tries to leave the mount, by each function that takes a path.
func TestEscape(t *testing.T) {
	top := files(t, map[string]string{"outside/secret": "secret", "in/f": "", "in/d/f": ""})
	secret := filepath.Join(top, "outside", "secret")
	for name, target := range map[string]string{
		"up": "../outside", "d/up2": "../../outside", "abs": filepath.Join(top, "outside"), "file": "../outside/secret",
		"absfile": secret, "chain": "up", "top": "..", "inside": "d/f", "back": "d/../../in/f", "newout": "../outside/new",
	} {
		if err := os.Symlink(target, filepath.Join(top, "in", name)); err != nil {
			t.Skip(err)
		}
	}
	g := newGuest(t, Config{Mounts: []Mount{{Host: filepath.Join(top, "in")}}})
	d := g.open("d", openArgs{oflags: oflagDirectory})

	if fd, e := g.tryOpen("inside", openArgs{}); e != success {
		t.Errorf("a link within the mount: errno %d", e)
	} else {
		g.call("fd_close", fd)
	}
	if _, e := g.tryOpen("../f", openArgs{dir: d}); e != ePerm {
		t.Errorf("out of a folder that is open: errno %d", e)
	}

	bad := []string{
		"..", "../outside/secret", "d/../../outside/secret", "/", secret, "up/secret", "d/up2/secret", "abs/secret",
		"chain/secret", "top/outside/secret", "back/../../outside/secret",
	}
	if goruntime.GOOS == "windows" {
		bad = append(bad, `..\outside\secret`, `d\..\..\outside`, `C:\`, `f:stream`)
	}
	for _, name := range append([]string{"file", "absfile", "back", "newout"}, bad...) {
		for _, a := range []openArgs{
			{},
			{rights: readWrite},
			{oflags: oflagCreat, rights: readWrite},
			{oflags: oflagTrunc, rights: rightFDWrite},
			{oflags: oflagDirectory},
			{fdflags: fdflagAppend, rights: readWrite},
		} {
			if fd, e := g.tryOpen(name, a); e == success {
				t.Errorf("opened %s as %d", name, fd)
			} else if e != ePerm && e != eNotdir && e != eNoent {
				t.Errorf("open %s: errno %d", name, e)
			}
			g.top = 64
		}
		g.stat(ePerm, name, lookupSymlinkFollow)
		if t.Failed() {
			t.Log(name)
		}
	}
	for _, name := range bad {
		buf, n := g.space(64), g.space(4)
		g.stat(ePerm, name, 0)
		g.at(ePerm, "path_create_directory", name)
		g.at(ePerm, "path_remove_directory", name)
		g.at(ePerm, "path_unlink_file", name)
		g.at(ePerm, "path_readlink", name, buf, 64, n)
		g.rename(ePerm, name, "x")
		g.rename(ePerm, "f", name)
		g.link(ePerm, name, "x")
		g.link(ePerm, "f", name)
		g.symlink(ePerm, "f", name)
		ptr, size := g.path(name)
		g.want(ePerm, "path_filestat_set_times", 3, lookupSymlinkFollow, ptr, size, 1, 1, fstMtim)
		g.top = 64
	}
	// ".." is taken in the text, so that this is a name within the mount.
	g.stat(eNoent, "up/../outside/secret", lookupSymlinkFollow)
	// A link that the guest makes is of no more use.
	g.symlink(success, "../outside", "mine")
	if _, e := g.tryOpen("mine/secret", openArgs{}); e != ePerm {
		t.Errorf("through the guest's own link: errno %d", e)
	}
	// The links themselves are inside.
	g.at(success, "path_unlink_file", "file")
	g.rename(success, "absfile", "x")

	if s := content(t, secret); s != "secret" {
		t.Errorf("the secret is %q", s)
	}
	for name, n := range map[string]int{top: 2, filepath.Join(top, "outside"): 1} {
		if list, _ := os.ReadDir(name); len(list) != n {
			t.Errorf("%s: %v", name, list)
		}
	}
}

func TestReadOnly(t *testing.T) {
	dir := files(t, map[string]string{"f": "text", "d/x": ""})
	before, err := os.Stat(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, Config{Mounts: []Mount{{Host: dir, ReadOnly: true}}})
	for _, c := range []struct {
		name string
		args openArgs
		e    errno
	}{
		{"f", openArgs{}, 0},
		{"f", openArgs{oflags: oflagCreat}, 0},
		{"d", openArgs{oflags: oflagDirectory}, 0},
		{"f", openArgs{rights: readWrite}, eRofs},
		{"f", openArgs{rights: rightFDWrite}, eRofs},
		{"f", openArgs{oflags: oflagTrunc}, eRofs}, // without write access it would still truncate
		{"f", openArgs{oflags: oflagTrunc, rights: readWrite}, eRofs},
		{"f", openArgs{oflags: oflagCreat | oflagExcl}, eExist},
		{"f", openArgs{fdflags: fdflagAppend, rights: rightPathOpen}, eRofs},
		{"new", openArgs{oflags: oflagCreat}, eRofs},
		{"new", openArgs{oflags: oflagCreat, rights: readWrite}, eRofs},
		{"new", openArgs{}, eNoent},
		{"d", openArgs{rights: readWrite}, eIsdir},
	} {
		if _, e := g.tryOpen(c.name, c.args); e != c.e {
			t.Errorf("open %s %+v: errno %d, want %d", c.name, c.args, e, c.e)
		}
	}
	fd := g.open("f", openArgs{})
	g.want(eInval, "fd_filestat_set_size", fd, 0)
	g.want(eRofs, "fd_filestat_set_times", fd, 1, 1, fstMtim)
	g.want(eRofs, "fd_filestat_set_times", 3, 1, 1, fstMtim)
	if e := g.write(fd, "x"); e != eBadf {
		t.Errorf("write: errno %d", e)
	}
	g.at(eRofs, "path_create_directory", "n")
	g.at(eRofs, "path_remove_directory", "d")
	g.at(eRofs, "path_unlink_file", "f")
	g.rename(eRofs, "f", "g")
	g.link(eRofs, "f", "g")
	g.symlink(eRofs, "f", "g")
	ptr, size := g.path("f")
	g.want(eRofs, "path_filestat_set_times", 3, lookupSymlinkFollow, ptr, size, 1, 1, fstMtim)
	g.wantRead(fd, 9, "text")
	after, err := os.Stat(dir + "/f")
	if err != nil || after.ModTime() != before.ModTime() || after.Size() != 4 {
		t.Errorf("file changed: %v, %v", after, err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("folder changed: %v", list)
	}
}
