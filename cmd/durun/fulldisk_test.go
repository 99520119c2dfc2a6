//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFullDisk runs out of space for real: the store is on a small file system of its own.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	if err := os.Mkdir(store, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", store, "tmpfs", 0, "size=400k"); err != nil {
		t.Skipf("mount a small file system: %v (TestScript/full fills a store that needs none)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(store, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	// The module takes some 60 KiB and each commit some 12 KiB of a page each; the disk is filled up to a few of them.
	module := guest(t, dir, "interp.wasm")
	durun(t, dir, 0, "run", "-d", "--id", "x", module, "-c", strings.Repeat("7 . cr 1 sleep ", 200))
	p := start(t, dir, "resume", "x")
	if code := p.end(t); code != 69 {
		t.Fatalf("exit code %d, want 69; stderr:\n%s", code, p.err.String())
	}
	for _, want := range []string{"full", "no space left", "x is suspended at commit", "make room"} {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("stderr %q, want %q in it", p.err.String(), want)
		}
	}
	// What was committed is whole, and goes elsewhere to its end.
	bundle := filepath.Join(dir, "x.durun")
	durun(t, dir, 0, "export", "x", "-o", bundle)
	other := filepath.Join(dir, "other")
	durun(t, dir, 0, "import", "--store", other, bundle)
	durun(t, dir, 0, "resume", "--store", other, "x")
	if got, want := durun(t, dir, 0, "logs", "--store", other, "x"), strings.Repeat("7 \n", 200); got != want {
		t.Errorf("logs %q, want 200 lines", got)
	}
	// Nothing more fits, and that is told; room is made by rm.
	p = start(t, dir, "run", "--id", "y", guest(t, dir, "journal.wasm"))
	if code := p.end(t); code != 69 || !strings.Contains(p.err.String(), "no space left") {
		t.Errorf("exit code %d, want 69; stderr:\n%s", code, p.err.String())
	}
	durun(t, dir, 0, "rm", "x")
	durun(t, dir, 5, "run", "--id", "y", filepath.Join(dir, "journal.wasm"))
}
