package runtime

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/durun/durun/snapshot"
)

// runGenerator compiles the generator with a cache folder and runs it to its end, moved once.
func runGenerator(t *testing.T, dir string) {
	t.Helper()
	ctx := context.Background()
	r, err := New(ctx, NewConfig().WithCacheDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(ctx)
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "wat", "generator.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Compile(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Start(ctx, StartConfig{ID: "g"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if c, err = m.Restore(ctx, s, RestoreConfig{}); err != nil {
		t.Fatal(err)
	}
	for {
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Ended() {
			if status != snapshot.Completed || c.Results()[0] != 6 {
				t.Fatalf("ended %s with %v, %v", status, c.Results(), c.Err())
			}
			return
		}
	}
}

func cacheFiles(t *testing.T, dir string) []string {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestCacheDamage damages each file of the cache: it must be as good as none.
func TestCacheDamage(t *testing.T) {
	dir := t.TempDir()
	runGenerator(t, dir)
	files := cacheFiles(t, dir)
	if len(files) < 5 { // the transform; code and index of the running form and of a resume module
		t.Fatalf("the cache has only %q", files)
	}
	for _, name := range files {
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		flip := func(at int) []byte {
			b := bytes.Clone(good)
			b[at] ^= 0x10
			return b
		}
		for how, bad := range map[string][]byte{
			"flipped": flip(len(good) - 5), "flipped in front": flip(30), "cut": good[:len(good)/2], "empty": {},
		} {
			t.Run(filepath.Base(filepath.Dir(name))+" "+how, func(t *testing.T) {
				if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, bad, 0o600); err != nil {
					t.Fatal(err)
				}
				runGenerator(t, dir)
				runGenerator(t, dir) // what was damaged has been made anew
			})
		}
	}
}

// TestCacheUnwritable takes the folders away from under a runtime: it must do without.
func TestCacheUnwritable(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	r, err := New(ctx, NewConfig().WithCacheDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(ctx)
	folders, err := filepath.Glob(filepath.Join(dir, "wazero", "*"))
	if err != nil || len(folders) != 1 {
		t.Fatal(folders, err)
	}
	if err := os.RemoveAll(folders[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "transform"), nil, 0o600); err != nil { // a file where a folder should be
		t.Fatal(err)
	}
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "wat", "generator.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Compile(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Start(ctx, StartConfig{ID: "g"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if status, err := c.Resume(ctx); err != nil || status != snapshot.Suspended {
		t.Fatal(status, err)
	}
}
