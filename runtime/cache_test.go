package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// generatorBinary is the guest that these tests run.
func generatorBinary(t *testing.T) []byte {
	t.Helper()
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "wat", "generator.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// runGenerator opens the generator with a cache folder and runs it to its end, moved once. It returns how often the module
// was fetched.
func runGenerator(t *testing.T, dir string) int {
	t.Helper()
	ctx := context.Background()
	r, err := New(ctx, NewConfig().WithCacheDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(ctx)
	binary := generatorBinary(t)
	fetched := 0
	m, err := r.Open(ctx, snapshot.HashOf(binary), func(context.Context) ([]byte, error) {
		fetched++
		return binary, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	moveGenerator(t, m)
	return fetched
}

// moveGenerator runs the generator to its end, moved once.
func moveGenerator(t *testing.T, m *Module) {
	t.Helper()
	ctx := context.Background()
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
		if err == nil && d.Type().IsRegular() && d.Name() != trimStamp {
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
	if len(files) != 6 { // what is prepared, its code and the index of that, of the module and of a resume module
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
				if runGenerator(t, dir) == 0 {
					t.Error("what is damaged was taken for good")
				}
				if runGenerator(t, dir) != 0 {
					t.Error("what was damaged has not been made anew")
				}
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
	if err := os.WriteFile(filepath.Join(dir, "prepared"), nil, 0o600); err != nil { // a file where a folder should be
		t.Fatal(err)
	}
	m, err := r.Compile(ctx, generatorBinary(t))
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

// TestCacheForeign puts each file of the cache in the place of another of its kind, and gives each another version: they must
// be as good as none.
func TestCacheForeign(t *testing.T) {
	ctx := context.Background()
	dir, other := t.TempDir(), t.TempDir()
	runGenerator(t, dir)
	r, err := New(ctx, NewConfig().WithCacheDir(other))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(ctx)
	// A module that differs from the generator in its code alone.
	decoded, err := wasm.Decode(generatorBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range decoded.Code {
		c := &decoded.Code[i]
		more := []byte{byte(wasm.OpI32Const), 0, byte(wasm.OpIf), 0x40, byte(wasm.OpUnreachable), byte(wasm.OpEnd), byte(wasm.OpEnd)}
		*c = wasm.Code{Raw: append(bytes.Clone(c.Raw[:len(c.Raw)-1]), more...), BodyOffset: c.BodyOffset}
	}
	m, err := r.Compile(ctx, decoded.Encode())
	if err != nil {
		t.Fatal(err)
	}
	moveGenerator(t, m)
	for _, folder := range []string{"prepared", "resume", "wazero/index", "wazero/wazero-*"} {
		own, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(folder), "*"))
		if err != nil || len(own) == 0 {
			t.Fatalf("%s: %q, %v", folder, own, err)
		}
		others, err := filepath.Glob(filepath.Join(other, filepath.FromSlash(folder), "*"))
		if err != nil || len(others) != len(own) {
			t.Fatalf("%s: %q, %v", folder, others, err)
		}
		for _, name := range own {
			good, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range others {
				foreign, err := os.ReadFile(o)
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Equal(foreign, good) {
					t.Fatalf("%s: the same in both", folder)
				}
				if err := os.WriteFile(name, foreign, 0o600); err != nil {
					t.Fatal(err)
				}
				if runGenerator(t, dir) == 0 {
					t.Errorf("%s: another module's was taken", folder)
				}
			}
			version := bytes.Replace(good, []byte(" 1\n"), []byte(" 9\n"), 1)
			if bytes.Equal(version, good) {
				continue // of wazero, or the index
			}
			binary.LittleEndian.PutUint32(version[len(version)-4:], crc32.Checksum(version[:len(version)-4], castagnoli))
			if err := os.WriteFile(name, version, 0o600); err != nil {
				t.Fatal(err)
			}
			if runGenerator(t, dir) == 0 {
				t.Errorf("%s: another version's was taken", folder)
			}
		}
	}
}

// TestShellNotCompiled gives wazero a file of code that it doesn't accept though the index does: then it compiles the
// shell, of which nothing may be run.
func TestShellNotCompiled(t *testing.T) {
	dir := t.TempDir()
	runGenerator(t, dir)
	indexed, err := filepath.Glob(filepath.Join(dir, "wazero", "index", "*"))
	if err != nil || len(indexed) != 2 {
		t.Fatal(indexed, err)
	}
	for _, index := range indexed {
		line, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(line))
		file := filepath.Join(dir, "wazero", filepath.FromSlash(fields[1]))
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code[7] ^= 1 // behind the magic number and the length of the version: the version
		sum, err := checksum(bytes.NewReader(code))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, code, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(index, []byte(fields[0]+" "+fields[1]+" "+sum+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if runGenerator(t, dir) == 0 {
			t.Error("another version's code was taken")
		}
		if runGenerator(t, dir) != 0 {
			t.Error("the code has not been made anew")
		}
	}
}

// TestOpenWithoutModule restores where nobody has the module any more, but the cache what was made of it; and gets the
// fetch's error where it is needed.
func TestOpenWithoutModule(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	hash := snapshot.HashOf(generatorBinary(t))
	gone := errors.New("the module is gone")
	open := func(fetch func(context.Context) ([]byte, error)) (*Module, error) {
		r, err := New(ctx, NewConfig().WithCacheDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close(ctx) })
		return r.Open(ctx, hash, fetch)
	}
	fails := func(context.Context) ([]byte, error) { return nil, gone }
	if _, err := open(fails); !errors.Is(err, gone) {
		t.Errorf("nothing in the cache: error %v", err)
	}
	if _, err := open(func(context.Context) ([]byte, error) { return []byte("\x00asm\x01\x00\x00\x00"), nil }); err == nil {
		t.Error("another module was taken")
	}
	runGenerator(t, dir)
	m, err := open(fails)
	if err != nil {
		t.Fatal(err)
	}
	moveGenerator(t, m)
	// At another await point the stack is another.
	if err := os.RemoveAll(filepath.Join(dir, "resume")); err != nil {
		t.Fatal(err)
	}
	if m, err = open(fails); err != nil {
		t.Fatal(err)
	}
	c, err := m.Start(ctx, StartConfig{ID: "g"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Restore(ctx, s, RestoreConfig{}); !errors.Is(err, gone) {
		t.Errorf("restored without continuations: error %v", err)
	}
}

// TestCacheConcurrent has runtimes of their own, as several processes would, use one folder at once, cold and damaged.
func TestCacheConcurrent(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { runGenerator(t, dir) })
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		files := cacheFiles(t, dir)
		if err := os.Truncate(files[round%len(files)], 10); err != nil {
			t.Fatal(err)
		}
	}
	runGenerator(t, dir)
	if runGenerator(t, dir) != 0 {
		t.Error("the module was fetched with a cache that is whole")
	}
}
