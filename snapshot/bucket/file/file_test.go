package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

func TestConformance(t *testing.T) {
	conformance(t, Options{}, false)
	t.Run("Named", func(t *testing.T) { conformance(t, Options{}, true) })
	t.Run("NoSync", func(t *testing.T) { conformance(t, Options{NoSync: true}, false) })
}

func conformance(t *testing.T, o Options, named bool) {
	t.Helper()
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		b, err := OpenOptions(filepath.Join(t.TempDir(), "new", "store"), o)
		if err != nil {
			t.Fatal(err)
		}
		b.named.Store(named)
		t.Cleanup(func() {
			if left := temporary(t, b); left != nil {
				t.Errorf("temporary files are left: %q", left)
			}
		})
		return b
	})
}

// temporary lists a bucket's temporary files.
func temporary(t *testing.T, b *Bucket) []string {
	t.Helper()
	var names []string
	for e, err := range b.fs.ReadDir(b.path(tmpDir)) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

func read(t *testing.T, b bucket.Bucket, key string) (string, error) {
	t.Helper()
	data, err := bucket.ReadAll(t.Context(), b, key, 1<<30)
	return string(data), err
}

var errDead = errors.New("the process is dead")

var (
	first  = strings.Repeat("first commit ", 1000)
	second = strings.Repeat("second commit ", 1000)
	third  = strings.Repeat("another coroutine ", 1000)
)

// TestCrashAtEachStep kills the process before and after each step of two puts, and then, or instead, takes the power:
// whatever was not synced is there or not. What was put is there, what was being put is there whole or not at all, and
// the store works on.
func TestCrashAtEachStep(t *testing.T) {
	eachFS(t, crashAtEachStep)
}

// eachFS runs a test on a file system that has files without names, and on one that has not.
func eachFS(t *testing.T, test func(t *testing.T, newFS func() *memFS)) {
	t.Helper()
	t.Run("unnamed", func(t *testing.T) { test(t, newMemFS) })
	t.Run("named", func(t *testing.T) {
		test(t, func() *memFS {
			m := newMemFS()
			m.named = true
			return m
		})
	})
}

func crashAtEachStep(t *testing.T, newFS func() *memFS) {
	t.Helper()
	yes, no := func() bool { return true }, func() bool { return false }
	r := rand.New(rand.NewPCG(1, 2))
	some := func() bool { return r.IntN(2) == 0 }
	losses := map[string]func(*memFS) *memFS{
		"process": func(m *memFS) *memFS { return m },
		"all":     func(m *memFS) *memFS { return m.powerLoss(no, no) },
		"data":    func(m *memFS) *memFS { return m.powerLoss(yes, no) },
		"entries": func(m *memFS) *memFS { return m.powerLoss(no, yes) },
		"some":    func(m *memFS) *memFS { return m.powerLoss(some, some) },
		"some2":   func(m *memFS) *memFS { return m.powerLoss(some, some) },
	}
	steps := 0
	for name, lose := range losses {
		for step := 0; ; step++ {
			done := true
			for _, after := range []bool{false, true} {
				mem := newFS()
				b, err := open(mem, "/store")
				if err != nil {
					t.Fatal(err)
				}
				if err := bucket.PutBytes(t.Context(), b, "coroutines/p/1", []byte(first)); err != nil {
					t.Fatal(err)
				}
				var at string
				b.fs = &faultFS{fsys: mem, plan: func(n int, op, name string) fault {
					switch {
					case n < step:
						return fault{}
					case n == step && after:
						at = op + " " + name
						return fault{after: errDead}
					case n == step:
						at = op + " " + name
						return fault{before: errDead, short: op == "write"}
					default:
						return fault{before: errDead}
					}
				}}
				err2 := bucket.PutBytes(t.Context(), b, "coroutines/p/2", []byte(second))
				err3 := bucket.PutBytes(t.Context(), b, "coroutines/q/1", []byte(third))
				if at != "" {
					done, steps = false, steps+1
				}
				where := fmt.Sprintf("lost %s, step %d (%s, after %v)", name, step, at, after)

				left, err := open(lose(mem), "/store")
				if err != nil {
					t.Fatalf("%s: reopen: %v", where, err)
				}
				if got, err := read(t, left, "coroutines/p/1"); err != nil || got != first {
					t.Errorf("%s: what was put before: %d bytes, %v", where, len(got), err)
				}
				for _, o := range []struct {
					key, data string
					err       error
				}{{"coroutines/p/2", second, err2}, {"coroutines/q/1", third, err3}} {
					got, err := read(t, left, o.key)
					if !(errors.Is(err, bucket.ErrNotExist) && o.err != nil || err == nil && got == o.data) {
						t.Errorf("%s: put of %s gave %v; now it has %d bytes, %v", where, o.key, o.err, len(got), err)
					}
					err = bucket.PutBytes(t.Context(), left, o.key, []byte(o.data))
					if err != nil && !errors.Is(err, bucket.ErrExist) {
						t.Errorf("%s: put of %s again: %v", where, o.key, err)
					}
					// Put or found: from now on it is durable.
					again, openErr := open(left.fs.(*memFS).powerLoss(no, no), "/store")
					if openErr != nil {
						t.Fatal(openErr)
					}
					if got, err := read(t, again, o.key); err != nil || got != o.data {
						t.Errorf("%s: %s after it was put again: %d bytes, %v", where, o.key, len(got), err)
					}
				}
			}
			if done {
				break
			}
		}
	}
	if steps < 6*2*14 {
		t.Errorf("only %d crashes were tried", steps)
	}
}

// TestFaultAtEachStep fails each step of a put with a full disk and with an I/O error.
func TestFaultAtEachStep(t *testing.T) { eachFS(t, faultAtEachStep) }

func faultAtEachStep(t *testing.T, newFS func() *memFS) {
	t.Helper()
	for _, c := range []struct {
		err, kind error
	}{{syscall.ENOSPC, bucket.ErrFull}, {syscall.EIO, nil}, {syscall.EROFS, bucket.ErrPermission}, {syscall.EACCES, bucket.ErrPermission}} {
		if goruntime.GOOS == "windows" && !errors.Is(c.err, syscall.EIO) {
			continue // has errors of its own
		}
		for step := 0; ; step++ {
			mem := newFS()
			b, err := open(mem, "/store")
			if err != nil {
				t.Fatal(err)
			}
			if err := bucket.PutBytes(t.Context(), b, "coroutines/p/1", []byte(first)); err != nil {
				t.Fatal(err)
			}
			var at string
			b.fs = &faultFS{fsys: mem, plan: func(n int, op, _ string) fault {
				if n == step {
					at = op
					return fault{before: c.err, short: true}
				}
				return fault{}
			}}
			err = bucket.PutBytes(t.Context(), b, "coroutines/q/2", []byte(second))
			if at == "" {
				break
			}
			where := fmt.Sprintf("%v at step %d, %s", c.err, step, at)
			// The object is whole once it is linked; that its temporary name can't be removed is no failure.
			if got := err != nil; got != (at != "remove") {
				t.Errorf("%s: put gave %v", where, err)
			}
			var be *bucket.Error
			if err != nil && (!errors.Is(err, c.err) || !errors.As(err, &be) || !errors.Is(be.Kind, c.kind) || be.Key != "coroutines/q/2") {
				t.Errorf("%s: put gave %#v", where, err)
			}
			b.fs = mem
			if got, rerr := read(t, b, "coroutines/q/2"); !errors.Is(rerr, bucket.ErrNotExist) && (rerr != nil || got != second) {
				t.Errorf("%s: %d bytes, %v", where, len(got), rerr)
			}
			if left := temporary(t, b); left != nil && at != "remove" && at != "create" {
				t.Errorf("%s: temporary files are left: %q", where, left)
			}
			if err := bucket.PutBytes(t.Context(), b, "coroutines/q/2", []byte(second)); err != nil && !errors.Is(err, bucket.ErrExist) {
				t.Errorf("%s: put again: %v", where, err)
			}
			for key, want := range map[string]string{"coroutines/p/1": first, "coroutines/q/2": second} {
				if got, err := read(t, b, key); err != nil || got != want {
					t.Errorf("%s: in the end %s has %d bytes, %v", where, key, len(got), err)
				}
			}
		}
	}
}

// TestFaultyReads checks that a read error is told and is not taken for an end.
func TestFaultyReads(t *testing.T) {
	b, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.PutBytes(t.Context(), b, "k", []byte(first)); err != nil {
		t.Fatal(err)
	}
	b.fs = brokenFS{b.fs}
	var be *bucket.Error
	if got, err := read(t, b, "k"); !errors.Is(err, syscall.EIO) || !errors.As(err, &be) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

type brokenFS struct{ fsys }

func (b brokenFS) Open(name string) (handle, error) {
	h, err := b.fsys.Open(name)
	return brokenFile{h}, err
}

type brokenFile struct{ handle }

func (brokenFile) ReadAt(p []byte, _ int64) (int, error) { return len(p) / 2, syscall.EIO }

func TestStaleTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.mkdirs(tmpDir); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(tmpDir), name) }
	for _, name := range []string{"dead", "alive", "young"} {
		if err := os.WriteFile(at(name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "young" {
			if err := os.Chtimes(at(name), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	alive, err := os.OpenFile(at("alive"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	if ok, err := tryLock(alive); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no locks here")
	} else if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := bucket.PutBytes(t.Context(), b, "k", nil); err != nil {
		t.Fatal(err)
	}
	if got := temporary(t, b); !slices.Equal(got, []string{"alive", "young"}) {
		t.Errorf("left: %q", got)
	}
}

// TestWriterTakenForDead takes away a temporary file under its writer, once.
func TestWriterTakenForDead(t *testing.T) {
	mem := newMemFS()
	mem.named = true
	b, err := open(mem, "/store")
	if err != nil {
		t.Fatal(err)
	}
	taken := false
	b.fs = &faultFS{fsys: mem, plan: func(_ int, op, _ string) fault {
		if op == "link" && !taken {
			taken = true
			for _, name := range temporary(t, b) {
				if err := mem.Remove(b.path(tmpDir + "/" + name)); err != nil {
					t.Error(err)
				}
			}
		}
		return fault{}
	}}
	if err := bucket.PutBytes(t.Context(), b, "k", []byte(first)); err != nil || !taken {
		t.Fatal(err, taken)
	}
	if got, err := read(t, b, "k"); err != nil || got != first {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(plain); !errors.Is(err, bucket.ErrURL) {
		t.Errorf("a file: %v", err)
	}
	if _, err := Open(filepath.Join(plain, "below")); err == nil {
		t.Error("a folder in a file was opened")
	}
	root := filepath.Join(dir, "a b#%", "store")
	b, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(root); err != nil || goruntime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := bucket.PutBytes(t.Context(), b, "x/k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(root, "x", "k")); err != nil || goruntime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// The URL leads back.
	again, err := bucket.OpenURL(t.Context(), b.URL(), map[string]bucket.Opener{"file": OpenURL})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, again, "x/k"); got != "v" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for query, noSync := range map[string]bool{"": false, "?sync=true": false, "?sync=false": true} {
		o, err := bucket.OpenURL(t.Context(), b.URL()+query, map[string]bucket.Opener{"file": OpenURL})
		if err != nil {
			t.Fatal(err)
		}
		if got := o.(*Bucket); got.noSync != noSync || got.root != b.root {
			t.Errorf("%q: noSync %v, root %s", query, got.noSync, got.root)
		}
		if want := b.URL() + strings.TrimSuffix(query, "?sync=true"); o.URL() != want {
			t.Errorf("%q: the bucket's URL is %s, want %s", query, o.URL(), want)
		}
	}
	none := filepath.Join(dir, "none", "at-all")
	for _, query := range []string{"?create=false", "?create=false&sync=false"} {
		o, err := bucket.OpenURL(t.Context(), b.URL()+query, map[string]bucket.Opener{"file": OpenURL})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(o.URL(), "create") {
			t.Errorf("%q: the bucket's URL is %s, though the folder is there", query, o.URL())
		}
		u, err := bucket.ParseURL(none)
		if err != nil {
			t.Fatal(err)
		}
		u.RawQuery = query[1:]
		var missing *bucket.Error
		if _, err := OpenURL(t.Context(), u); !errors.Is(err, bucket.ErrNoBucket) || !errors.As(err, &missing) || missing.Key != none {
			t.Errorf("%q: a folder that isn't there: %v", query, err)
		}
	}
	if _, err := os.Stat(filepath.Dir(none)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder was made that was not to be: %v", err)
	}
	if goruntime.GOOS != "windows" {
		link := filepath.Join(dir, "link")
		if err := os.Symlink(root, link); err != nil {
			t.Fatal(err)
		}
		b, err := Open(link)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(t, b, "x/k"); got != "v" || err != nil {
			t.Errorf("through a link: %q, %v", got, err)
		}
	}
	for _, u := range []string{
		"file://host/x", "file:///x?y", "file:///x?sync", "file:///x?sync=0", "file:///x?sync=false&y", "file:///x?create", "file:///x?sync=true&sync=false", "file:///x?a;b", "file:///x#y", "file:x",
	} {
		p, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenURL(t.Context(), p); !errors.Is(err, bucket.ErrURL) {
			t.Errorf("%s: %v", u, err)
		}
	}
	// A store whose folder has gone is not an empty one.
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	for _, err := range b.List(t.Context(), bucket.ListOptions{Prefix: "x/"}) {
		if !errors.Is(err, bucket.ErrUnavailable) {
			t.Errorf("list of a folder that has gone: %v", err)
		}
	}
	if err := bucket.PutBytes(t.Context(), b, "x/k", nil); !errors.Is(err, bucket.ErrUnavailable) {
		t.Errorf("put to a folder that has gone: %v", err)
	}
}

// TestForeignFiles puts things into the folder that no bucket has.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".DS_Store", "with space", "ok/.hidden", "ok/k"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if goruntime.GOOS != "windows" {
		if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("k", filepath.Join(dir, "ok", "link")); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for e, err := range b.List(t.Context(), bucket.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Key)
	}
	if !slices.Equal(got, []string{"ok/k"}) {
		t.Errorf("listed: %q", got)
	}
	if err := bucket.PutBytes(t.Context(), b, "ok", nil); !errors.Is(err, bucket.ErrKey) {
		t.Errorf("an object where there is a folder: %v", err)
	}
	if err := bucket.PutBytes(t.Context(), b, "ok/k/below", nil); !errors.Is(err, bucket.ErrKey) {
		t.Errorf("a folder where there is an object: %v", err)
	}
}

func TestUnwritable(t *testing.T) {
	if os.Geteuid() == 0 || goruntime.GOOS == "windows" {
		t.Skip("nothing is forbidden to root")
	}
	dir := t.TempDir()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.PutBytes(t.Context(), b, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700)
	if b, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, b, "k"); got != "v" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := bucket.PutBytes(t.Context(), b, "new/k", nil); !errors.Is(err, bucket.ErrPermission) {
		t.Errorf("put: %v", err)
	}
}

// TestNoSync checks that nothing is synced, and that whoever finds an object that was put so makes it durable.
func TestNoSync(t *testing.T) {
	yes, no := func() bool { return true }, func() bool { return false }
	mem := newMemFS()
	counted := &faultFS{fsys: mem, plan: func(_ int, op, name string) fault {
		if strings.HasPrefix(op, "sync") {
			t.Errorf("%s %s", op, name)
		}
		return fault{}
	}}
	lazy, err := open(mem, "/store")
	if err != nil {
		t.Fatal(err)
	}
	lazy.fs = counted
	lazy.leaveUnsynced()
	for _, key := range []string{"coroutines/p/1", "coroutines/p/2"} {
		if err := bucket.PutBytes(t.Context(), lazy, key, []byte(first)); err != nil {
			t.Fatal(err)
		}
	}
	if err := lazy.Delete(t.Context(), "coroutines/p/2"); err != nil {
		t.Fatal(err)
	}
	torn, err := open(mem.powerLoss(yes, no), "/store")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, torn, "coroutines/p/1"); err != nil || got != "" {
		t.Fatalf("this file system keeps what was not synced, %d bytes: the test is of no use (%v)", len(got), err)
	}

	for name, find := range map[string]func(*Bucket) error{
		"put": func(b *Bucket) error {
			err := bucket.PutBytes(t.Context(), b, "coroutines/p/1", []byte(first))
			if errors.Is(err, bucket.ErrExist) {
				return nil
			}
			return fmt.Errorf("got %w, want ErrExist", err)
		},
		"sync": func(b *Bucket) error { return b.Sync(t.Context(), "coroutines/p/1") },
	} {
		durable, err := open(mem, "/store")
		if err != nil {
			t.Fatal(err)
		}
		if err := find(durable); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		after, err := open(mem.powerLoss(no, no), "/store")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(t, after, "coroutines/p/1"); err != nil || got != first {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestFolderMadeAnew empties a folder, which removes it, while another writer is between its last sync and its return.
// What is put afterwards, into a folder made anew, must not pass for durable on the strength of that sync.
func TestFolderMadeAnew(t *testing.T) {
	no := func() bool { return false }
	mem := newMemFS()
	b, err := open(mem, "/store")
	if err != nil {
		t.Fatal(err)
	}
	meanwhile := func() {
		if err := b.Delete(t.Context(), "coroutines/p/1"); err != nil {
			t.Error(err)
		}
		// Another process makes the folder, and has not synced it yet.
		if err := errors.Join(mem.Mkdir(b.path("coroutines")), mem.Mkdir(b.path("coroutines/p"))); err != nil {
			t.Error(err)
		}
	}
	b.fs = &afterSync{mem, b.path(""), meanwhile}
	if err := bucket.PutBytes(t.Context(), b, "coroutines/p/1", []byte(first)); err != nil {
		t.Fatal(err)
	}
	b.fs = mem
	if err := bucket.PutBytes(t.Context(), b, "coroutines/p/2", []byte(second)); err != nil {
		t.Fatal(err)
	}
	left, err := open(mem.powerLoss(no, no), "/store")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, left, "coroutines/p/2"); err != nil || got != second {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// afterSync does something once, after a folder was synced.
type afterSync struct {
	fsys
	name string
	do   func()
}

func (a *afterSync) SyncDir(name string) error {
	err := a.fsys.SyncDir(name)
	if do := a.do; name == a.name && do != nil {
		a.do = nil
		do()
	}
	return err
}

// TestLimits takes more than was asked for, from a folder that has folders with nothing in them.
func TestLimits(t *testing.T) {
	b, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 300 {
		key := fmt.Sprintf("f/%03d", (i*7)%300)
		switch i % 3 {
		case 0:
			err = os.MkdirAll(b.path(key), 0o700)
		case 1:
			key += "/k"
			fallthrough
		default:
			err = bucket.PutBytes(t.Context(), b, key, nil)
			want = append(want, key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	for _, limit := range []int{0, 1, 2, 7, 100, 250, 1000} {
		var got []string
		for e, err := range b.List(t.Context(), bucket.ListOptions{Prefix: "f/", Limit: limit}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %d of %d objects, or out of order", limit, len(got), len(want))
		}
		got = nil
		for e, err := range b.List(t.Context(), bucket.ListOptions{Prefix: "f/", StartAfter: want[50], Limit: limit}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Key)
		}
		if !slices.Equal(got, want[51:]) {
			t.Errorf("limit %d, after %s: %d of %d objects, or out of order", limit, want[50], len(got), len(want)-51)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), 2000)
	i := 0
	for b.Loop() {
		if err := bucket.PutBytes(b.Context(), s, fmt.Sprintf("coroutines/p/%d", i), data); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkFirst looks up the newest of 10,000 commits, for which the folder is read.
func BenchmarkFirst(b *testing.B) {
	s, err := OpenOptions(b.TempDir(), Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10_000 {
		if err := bucket.PutBytes(b.Context(), s, fmt.Sprintf("coroutines/p/%016x", ^uint64(0)-uint64(i)), nil); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, ok, err := bucket.First(b.Context(), s, bucket.ListOptions{Prefix: "coroutines/p/"}); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}

// takenFS has somebody else delete an object, with the folders that are empty then, as soon as it can be seen.
type takenFS struct {
	*memFS
	take func()
}

func (f *takenFS) SyncDir(name string) error {
	if take := f.take; take != nil {
		f.take = nil
		take()
	}
	return f.memFS.SyncDir(name)
}

// TestPutTakenAtOnce puts an object that somebody deletes before Put has returned. It was there, and is not put again.
func TestPutTakenAtOnce(t *testing.T) {
	for _, named := range []bool{false, true} {
		m := newMemFS()
		m.named = named
		f := &takenFS{memFS: m}
		b, err := open(f, "/store")
		if err != nil {
			t.Fatal(err)
		}
		other, err := open(m, "/store")
		if err != nil {
			t.Fatal(err)
		}
		f.take = func() {
			if _, err := other.Stat(t.Context(), "inbox/p/k"); err != nil {
				t.Error(err)
			}
			if err := other.Delete(t.Context(), "inbox/p/k"); err != nil {
				t.Error(err)
			}
		}
		if err := bucket.PutBytes(t.Context(), b, "inbox/p/k", []byte("x")); err != nil || f.take != nil {
			t.Errorf("put: %v", err)
		}
		if _, err := b.Stat(t.Context(), "inbox/p/k"); !errors.Is(err, bucket.ErrNotExist) {
			t.Errorf("it was put again: %v", err)
		}
		if err := bucket.PutBytes(t.Context(), b, "inbox/p/k", []byte("x")); err != nil {
			t.Errorf("the next one: %v", err)
		}
		// The whole folder may go instead.
		f.take = func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			clear(m.root.entries)
		}
		if err := bucket.PutBytes(t.Context(), b, "inbox/q/k", []byte("x")); !errors.Is(err, bucket.ErrUnavailable) {
			t.Errorf("put into a store that has gone: %v", err)
		}
	}
}

// vanishingFS has somebody else remove a folder, each time that it has just been made.
type vanishingFS struct {
	*memFS
	folder string
	times  int
}

func (f *vanishingFS) Mkdir(name string) error {
	if err := f.memFS.Mkdir(name); err != nil {
		return err
	}
	if name == f.folder && f.times > 0 {
		f.times--
		return f.Remove(name)
	}
	return nil
}

// TestFoldersVanish puts an object while others go on emptying and removing its folder: it gets there. A bucket that has gone
// itself is not waited for.
func TestFoldersVanish(t *testing.T) {
	for _, named := range []bool{false, true} {
		m := newMemFS()
		m.named = named
		f := &vanishingFS{memFS: m, folder: "/store/inbox/p", times: 10 * eagerTries}
		b, err := open(f, "/store")
		if err != nil {
			t.Fatal(err)
		}
		if err := bucket.PutBytes(t.Context(), b, "inbox/p/k", []byte("x")); err != nil || f.times != 0 {
			t.Errorf("put: %v, after %d of %d removals", err, 10*eagerTries-f.times, 10*eagerTries)
		}
		if err := b.Delete(t.Context(), "inbox/p/k"); err != nil {
			t.Error(err)
		}
		f.times = maxTries + 1
		err = bucket.PutBytes(t.Context(), b, "inbox/p/k", []byte("x"))
		if !errors.Is(err, bucket.ErrUnavailable) {
			t.Errorf("put into a folder that can't be: %v", err)
		}
		if _, err := m.Stat("/store/inbox"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after it the folder above is there: %v", err)
		}
	}
}

// TestDeleteWhileFoldersVanish holds that a deletion is durable though somebody else removes the folder that it left, and
// dies before having synced that.
func TestDeleteWhileFoldersVanish(t *testing.T) {
	m := newMemFS()
	f := &takenFS{memFS: m}
	b, err := open(f, "/store")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a/b/k", "a/b/l", "m"} {
		if err := bucket.PutBytes(t.Context(), b, key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	f.take = func() {
		for _, name := range []string{"/store/a/b/l", "/store/a/b", "/store/a"} {
			if err := m.Remove(name); err != nil {
				t.Error(err)
			}
		}
	}
	if err := b.Delete(t.Context(), "a/b/k"); err != nil || f.take != nil {
		t.Fatal(err)
	}
	no := func() bool { return false }
	after, err := open(m.powerLoss(no, no), "/store")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.Stat(t.Context(), "a/b/k"); !errors.Is(err, bucket.ErrNotExist) {
		t.Errorf("after a power cut the deleted object is there: %v", err)
	}
}

// openedFS has something happen when a file has just been opened.
type openedFS struct {
	*memFS
	then func()
}

func (f *openedFS) Open(name string) (handle, error) {
	h, err := f.memFS.Open(name)
	if then := f.then; then != nil {
		f.then = nil
		then()
	}
	return h, err
}

// TestDuplicateTakenAtOnce puts an object that is there and that somebody deletes, with its folder, before Put has returned: the
// folder is not made anew for it.
func TestDuplicateTakenAtOnce(t *testing.T) {
	m := newMemFS()
	f := &openedFS{memFS: m}
	b, err := open(f, "/store")
	if err != nil {
		t.Fatal(err)
	}
	other, err := open(m, "/store")
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.PutBytes(t.Context(), other, "inbox/p/k", []byte("x")); err != nil {
		t.Fatal(err)
	}
	f.then = func() {
		if err := other.Delete(t.Context(), "inbox/p/k"); err != nil {
			t.Error(err)
		}
	}
	if err := bucket.PutBytes(t.Context(), b, "inbox/p/k", []byte("x")); !errors.Is(err, bucket.ErrExist) || f.then != nil {
		t.Errorf("put: %v", err)
	}
	if _, err := m.Stat("/store/inbox"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
}

// noBody is a body that can't be read.
type noBody struct{}

func (noBody) ReadAt([]byte, int64) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestEmptyFolders holds that a put which fails leaves no folder that it has made, and that a folder which somebody has left who
// died goes with the next deletion of an object there.
func TestEmptyFolders(t *testing.T) {
	root := t.TempDir()
	b, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "inbox/p/k", noBody{}, 1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("put: %v", err)
	}
	gone := func(after string) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(root, "inbox")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after %s the folder is there: %v", after, err)
		}
	}
	gone("a put that failed")
	if err := os.MkdirAll(filepath.Join(root, "inbox", "p"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "inbox/p/k"); err != nil {
		t.Fatal(err)
	}
	gone("a deletion")
}
