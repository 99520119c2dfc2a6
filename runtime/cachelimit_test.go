package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// age makes files as old as they would be if they had been used last so long ago.
func age(t *testing.T, by time.Duration, files ...string) {
	t.Helper()
	at := time.Now().Add(-by)
	for _, f := range files {
		if err := os.Chtimes(f, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// touchCache writes a file to a cache, as whoever makes something new does.
func touchCache(t *testing.T, dir string, limit int64) {
	t.Helper()
	ctx := context.Background()
	r, err := New(ctx, NewConfig().WithCacheDir(dir).WithCacheLimit(limit))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(ctx)
	r.writeResume(strings.Repeat("5e", 32), &preparedResume{})
}

// inCache writes a file below a cache folder.
func inCache(t *testing.T, dir, name string, size int) string {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCacheLimit fills a cache, and sees that what was used least recently goes.
func TestCacheLimit(t *testing.T) {
	dir := t.TempDir()
	var fill []string
	for i := range 10 {
		fill = append(fill, inCache(t, dir, fmt.Sprintf("prepared/%064x", i), 100_000))
	}
	foreign := []string{inCache(t, dir, "notes.txt", 1000), inCache(t, dir, "prepared/notes.txt", 1000), inCache(t, dir, "mine/"+strings.Repeat("a", 64), 1000)}
	runGenerator(t, dir)
	own := slices.DeleteFunc(cacheFiles(t, dir), func(f string) bool { return slices.Contains(fill, f) || slices.Contains(foreign, f) })
	size := CacheUsage(dir)
	if want := sizeOfFiles(t, append(slices.Clone(fill), own...)); size != want {
		t.Errorf("the cache has %d bytes, want %d", size, want)
	}

	// Not every write looks after the whole folder, and what is used is marked as used.
	for i, f := range fill {
		age(t, time.Duration(i+10)*time.Hour, f)
	}
	age(t, 100*time.Hour, own...)
	age(t, 100*time.Hour, foreign...)
	touchCache(t, dir, 1)
	if got := CacheUsage(dir); got < size {
		t.Fatalf("trimmed down to %d bytes soon after it was trimmed last", got)
	}
	if runGenerator(t, dir) != 0 {
		t.Fatal("the cache was not used")
	}
	age(t, time.Hour, filepath.Join(dir, trimStamp))
	limit := size - 950_000 + 100_000 // the generator's, and one and a half of the others
	touchCache(t, dir, limit)
	if got := CacheUsage(dir); got > limit || got < limit-100_000 {
		t.Errorf("trimmed to %d bytes, the limit is %d", got, limit)
	}
	for i, f := range fill {
		if _, err := os.Stat(f); errors.Is(err, fs.ErrNotExist) != (i > 0) {
			t.Errorf("file %d, used %d hours ago: %v", i, i+10, err)
		}
	}
	for _, f := range append(own, foreign...) {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}

	// No limit, and one that is too low for anything.
	age(t, time.Hour, filepath.Join(dir, trimStamp))
	touchCache(t, dir, 0)
	if CacheUsage(dir) == 0 {
		t.Error("trimmed without a limit")
	}
	touchCache(t, dir, 1)
	if got := cacheFiles(t, dir); len(got) != len(foreign) {
		t.Errorf("left: %q", got)
	}
	if runGenerator(t, dir) != 1 || runGenerator(t, dir) != 0 {
		t.Error("what was removed was not made anew")
	}
}

func sizeOfFiles(t *testing.T, files []string) int64 {
	t.Helper()
	n := int64(0)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// TestCacheUnfinished removes what a process has left behind that was killed, and nothing that may still be written.
func TestCacheUnfinished(t *testing.T) {
	dir := t.TempDir()
	var old, young []string
	for _, f := range []string{"prepared", "resume", "wazero", "wazero/index"} {
		old = append(old, inCache(t, dir, f+"/.new-1", 10))
		young = append(young, inCache(t, dir, f+"/.new-2", 10))
	}
	inCache(t, dir, "wazero/.new-3/module/x", 10)
	old = append(old, filepath.Join(dir, "wazero", ".new-3"))
	age(t, 2*unfinishedAge, old...)
	touchCache(t, dir, DefaultCacheLimit)
	for i, f := range append(old, young...) {
		if _, err := os.Stat(f); errors.Is(err, fs.ErrNotExist) != (i < len(old)) {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// TestCacheTrimmedMeanwhile takes everything from a cache again and again while others use it.
func TestCacheTrimmedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	var users, trimmers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		trimmers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					trimEntries(cacheEntries(dir), 0)
				}
			}
		})
	}
	for range 3 {
		users.Go(func() {
			for range 4 {
				runGenerator(t, dir)
			}
		})
	}
	users.Wait()
	close(done)
	trimmers.Wait()
	runGenerator(t, dir)
	if runGenerator(t, dir) != 0 {
		t.Error("the cache does not recover")
	}
}
