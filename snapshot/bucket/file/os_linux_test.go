package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestRemovedFolder looks up a folder through a descriptor, as if it had been removed between its look-up and the making
// of a file in it.
func TestRemovedFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "removed")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	f, err := createUnnamed(procPath(d))
	switch {
	case errors.Is(err, errNoUnnamed):
		t.Skip("no unnamed files here")
	case err == nil: // as some file systems have it
		defer f.Close()
		err = linkUnnamed(f, filepath.Join(dir, "name"))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestLinkUnnamed names a file in each of the ways that there are.
func TestLinkUnnamed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		f, err := createUnnamed(dir)
		if errors.Is(err, errNoUnnamed) {
			t.Skip("no unnamed files here")
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(name); err != nil {
			t.Fatal(err)
		}
		link := linkUnnamed
		if name == "b" {
			link = linkByProc
		}
		path := filepath.Join(dir, name)
		if err := link(f, path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != name {
			t.Errorf("%s has %q, %v", name, got, err)
		}
		if err := link(f, path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s again: %v", name, err)
		}
		if err := link(f, filepath.Join(dir, "gone", name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s in a folder that isn't there: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
