package buckettest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// heard collects what a watch tells.
type heard struct {
	mu      sync.Mutex
	folders []string
	more    chan struct{}
}

func (h *heard) notify(folder string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.folders = append(h.folders, folder)
	select {
	case h.more <- struct{}{}:
	default:
	}
}

// take returns what was told since the last time.
func (h *heard) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := h.folders
	h.folders = nil
	return told
}

// expect waits until a folder was told of.
func (h *heard) expect(t *testing.T, folder string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		if told := h.take(); slices.Contains(told, folder) || slices.Contains(told, "") {
			return
		}
		select {
		case <-h.more:
		case <-timeout:
			t.Fatalf("not told of %s", folder)
		}
	}
}

func testWatch(t *testing.T, b bucket.Bucket) {
	watcher, ok := b.(bucket.Watcher)
	if !ok {
		t.Skip("it can't watch")
	}
	h := &heard{more: make(chan struct{}, 1)}
	w, err := watcher.Watch(h.notify)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("it can't watch here")
	}
	if err != nil {
		t.Fatal(err)
	}
	add := func(folder string) {
		t.Helper()
		if err := w.Add(folder); err != nil {
			t.Fatal(err)
		}
	}
	// A folder that isn't there, and comes to be with what is above it; that goes, and comes again.
	add("w/1/")
	add("w/1/")
	for i := range 50 {
		key := fmt.Sprintf("w/1/k%d", i%2)
		mustPut(t, b, key, "data")
		h.expect(t, "w/1/")
		if i%3 == 0 {
			mustPut(t, b, "w/1/more", "data")
			h.expect(t, "w/1/")
			if err := b.Delete(ctx(t), "w/1/more"); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Delete(ctx(t), key); err != nil {
			t.Fatal(err)
		}
	}
	// One that is there, and one in it.
	mustPut(t, b, "w/2/x", "data")
	add("w/2/")
	add("w/2/deep/er/")
	mustPut(t, b, "w/2/y", "data")
	h.expect(t, "w/2/")
	mustPut(t, b, "w/2/deep/er/x", "data")
	h.expect(t, "w/2/deep/er/")
	// Others are none of its business. What is put later, and is, shows when all before has been told.
	w.Remove("w/1/")
	w.Remove("w/2/deep/er/")
	w.Remove("w/never/")
	h.take()
	for _, key := range []string{"w/1/x", "w/2/deep/er/y", "w/2/deep/x", "w/x", "x"} {
		mustPut(t, b, key, "data")
	}
	if err := bucket.PutBytes(ctx(t), b, "w/2/x", nil); !errors.Is(err, bucket.ErrExist) {
		t.Errorf("put again: %v", err)
	}
	add("w/3/")
	mustPut(t, b, "w/3/x", "data")
	h.expect(t, "w/3/")
	// Many at once, from many goroutines.
	const folders = 40
	for i := range folders {
		add(fmt.Sprintf("many/%d/", i))
	}
	parallel(t, 8, func(g int) {
		for i := g; i < folders; i += 8 {
			if err := bucket.PutBytes(ctx(t), b, fmt.Sprintf("many/%d/x", i), nil); err != nil {
				t.Errorf("put: %v", err)
			}
		}
	})
	left := map[string]bool{}
	for i := range folders {
		left[fmt.Sprintf("many/%d/", i)] = true
	}
	for timeout := time.After(10 * time.Second); len(left) > 0; {
		for _, folder := range h.take() {
			switch {
			case left[folder]:
				delete(left, folder)
			case folder == "":
				clear(left)
			case folder != "w/3/" && folder != "w/2/" && !slices.Contains([]string{"many/"}, folder[:min(5, len(folder))]):
				t.Errorf("told of %s", folder)
			}
		}
		if len(left) == 0 {
			break
		}
		select {
		case <-h.more:
		case <-timeout:
			t.Fatalf("not told of %d folders", len(left))
		}
	}
	if err := w.Err(); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	h.take()
	mustPut(t, b, "w/3/y", "data")
	if told := h.take(); len(told) > 0 {
		t.Errorf("told of %q after the end", told)
	}
	w.Remove("w/3/")
}
