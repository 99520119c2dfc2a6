package file

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
)

// crowdedFS is a file system without room for another file, once it is full.
type crowdedFS struct {
	osFS
	full *bool
}

func (c crowdedFS) Lock(name string) (lockFile, error) {
	if _, err := os.Lstat(name); *c.full && errors.Is(err, fs.ErrNotExist) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return c.osFS.Lock(name)
}

// TestLockWithoutRoom takes locks where there is no room for their files: one at a time can be had, as what removes coroutines,
// and so makes room, needs it.
func TestLockWithoutRoom(t *testing.T) {
	if !full(syscall.ENOSPC) {
		t.Skip("a full disk has no error of its own here")
	}
	isFull := true
	open := func(root string) *Bucket {
		b, err := open(crowdedFS{full: &isFull}, root)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	lock := func(b *Bucket, key string, want error) func() error {
		t.Helper()
		release, err := b.TryLock(t.Context(), key)
		if !errors.Is(err, want) {
			t.Fatalf("lock %s: %v, want %v", key, err, want)
		}
		return release
	}
	release := func(f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Error(err)
		}
	}
	root := t.TempDir()
	lock(open(root), "leases/a", bucket.ErrFull) // nobody has ever locked anything there

	isFull = false
	b, other := open(root), open(root)
	early := lock(b, "leases/early", nil)
	isFull = true
	for range 2 {
		a := lock(b, "leases/a", nil)
		if err := b.SetNote("leases/a", []byte("mine")); err != nil {
			t.Error(err)
		}
		if note, err := other.Note("leases/a", 100); string(note) != "mine" || err != nil {
			t.Errorf("note %q, %v", note, err)
		}
		lock(other, "leases/a", bucket.ErrLocked)
		lock(other, "leases/b", bucket.ErrLocked) // it is the same file
		lock(other, "leases/early", bucket.ErrLocked)
		release(a)
		after := lock(other, "leases/b", nil)
		if note, err := b.Note("leases/b", 100); len(note) > 0 || err != nil {
			t.Errorf("the note of another lock: %q, %v", note, err)
		}
		release(after)
	}
	a := lock(b, "leases/a", nil)
	isFull = false
	lock(other, "leases/a", bucket.ErrLocked) // whatever room there is now
	release(lock(other, "leases/b", nil))
	release(a)
	release(early)
	entries, err := os.ReadDir(b.path(lockDir))
	if err != nil || !slices.Equal(namesOf(entries), []string{".spare"}) {
		t.Errorf("left: %v, %v", namesOf(entries), err)
	}
}

func namesOf(entries []os.DirEntry) []string {
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
