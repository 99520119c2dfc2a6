//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// An interrupt ends the commands that handlers run, and the call is made again by resume.
func TestInterruptedCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	started := filepath.Join(dir, "started")
	if err := unix.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, "run", "--id", "x", "--handler", "greet=exec:echo $$ >"+started+"; exec sleep 1000", filepath.Join(data, "call.wasm"))
	text, err := os.ReadFile(started)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 79 {
		t.Errorf("exit code %d; stderr:\n%s", code, p.err.String())
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("process %d is still there", pid)
	}
	if got := durun(t, dir, 0, "resume", "--handler", "greet=exec:echo done", "x"); got != "done\n\n" {
		t.Errorf("resume prints %q", got)
	}
}
