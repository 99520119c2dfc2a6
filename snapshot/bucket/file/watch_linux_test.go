package file

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/durun/durun/snapshot/bucket"
)

// TestWatchOverflow loses events, as the kernel does when there are too many, and says so.
func TestWatchOverflow(t *testing.T) {
	b, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 100)
	watching, err := b.Watch(func(folder string) { told <- folder })
	if err != nil {
		t.Fatal(err)
	}
	defer watching.Close()
	w := watching.(*watch)
	if err := w.Add("a/b/"); err != nil {
		t.Fatal(err)
	}
	event := func(mask uint32) []byte {
		e := make([]byte, unix.SizeofInotifyEvent)
		binary.NativeEndian.PutUint32(e, ^uint32(0)) // of no watch
		binary.NativeEndian.PutUint32(e[4:], mask)
		return e
	}
	w.mu.Lock()
	// The folder that it knows of has gone, and another one come, unnoticed.
	w.numbers["a"] = 1 << 20
	if got := w.events(event(unix.IN_Q_OVERFLOW)); len(got) != 1 || got[0] != "" {
		t.Errorf("told %q", got)
	}
	if n, ok := w.numbers["a"]; ok {
		t.Errorf("a folder that isn't there is watched: %d", n)
	}
	if got := w.events(event(unix.IN_CREATE)); len(got) != 0 {
		t.Errorf("told %q", got)
	}
	w.mu.Unlock()
	if err := bucket.PutBytes(t.Context(), b, "a/b/c", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case folder := <-told:
		if folder != "a/b/" {
			t.Errorf("told of %q", folder)
		}
	case <-time.After(time.Minute):
		t.Fatal("not told")
	}
}

// TestWatchFails says when not all can be watched any more.
func TestWatchFails(t *testing.T) {
	b, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.PutBytes(t.Context(), b, "a/b", nil); err != nil {
		t.Fatal(err)
	}
	watching, err := b.Watch(func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	w := watching.(*watch)
	for _, folder := range []string{"", "a", "../", "a//", "/"} {
		if err := w.Add(folder); !errors.Is(err, bucket.ErrKey) {
			t.Errorf("add %q: %v", folder, err)
		}
	}
	if w.Err() != nil {
		t.Error(w.Err())
	}
	w.mu.Lock()
	fd := w.fd
	w.fd = -1 // as good as a limit of the system's
	w.mu.Unlock()
	if err := w.Add("a/"); !errors.Is(err, bucket.ErrUnavailable) || w.Err() == nil {
		t.Errorf("add: %v; then %v", err, w.Err())
	}
	w.mu.Lock()
	w.fd = fd
	w.mu.Unlock()
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := w.Add("c/"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("add to a watch that was closed: %v", err)
	}
	if w, err := (&Bucket{root: b.root, fs: newMemFS()}).Watch(func(string) {}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("in a file system of its own: %v, %v", w, err)
	}
}
