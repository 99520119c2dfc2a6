//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// process is a durun in a process of its own, on a store of the test's.
type process struct {
	*exec.Cmd
	out, err bytes.Buffer
	patience time.Duration // how long end waits
}

// prepare readies durun with args, with its store in the folder dir, or with the store dir if that is a URL.
func prepare(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	store := dir
	if !strings.Contains(dir, "://") {
		store = filepath.Join(dir, "store")
	}
	p := &process{Cmd: exec.Command(exe, args...), patience: 30 * time.Second}
	p.Env = append(os.Environ(), asDurun+"=1", "DURUN_STORE="+store, "DURUN_CACHE="+cacheFolder, "GORACE="+noRaceSleep)
	p.Stderr = &p.err
	return p
}

// start begins durun and gathers its standard output.
func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := prepare(t, dir, args...)
	p.Stdout = &p.out
	p.begin(t)
	return p
}

// startLines begins durun and gives its standard output line by line.
func startLines(t *testing.T, dir string, args ...string) (p *process, out io.ReadCloser, line func() string) {
	t.Helper()
	p = prepare(t, dir, args...)
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.begin(t)
	lines := bufio.NewReader(out)
	return p, out, func() string {
		t.Helper()
		s, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("no line of output: %v; stderr:\n%s", err, p.err.String())
		}
		return s
	}
}

func (p *process) begin(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
}

// end waits for the process and returns its exit code, -1 if a signal ended it.
func (p *process) end(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.Wait() }()
	select {
	case err := <-done:
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
	case <-time.After(p.patience):
		_ = p.Process.Signal(syscall.SIGQUIT)
		err := <-done // then its standard error is whole
		t.Fatalf("durun %s was still there after %v: %v; stderr:\n%s", strings.Join(p.Args[1:], " "), p.patience, err, p.err.String())
	}
	return p.ProcessState.ExitCode()
}

// durun runs a command to its end and returns its standard output.
func durun(t *testing.T, dir string, want int, args ...string) string {
	t.Helper()
	p := start(t, dir, args...)
	if got := p.end(t); got != want {
		t.Fatalf("durun %s: exit code %d, want %d; stderr:\n%s", strings.Join(args, " "), got, want, p.err.String())
	}
	return p.out.String()
}

// committed waits until a coroutine has a commit of at least that number.
func committed(t *testing.T, dir, id string, seq int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		p := start(t, dir, "history", id, "-o", "json")
		var commits []struct{ Seq int }
		if p.end(t) == 0 {
			if err := json.Unmarshal(p.out.Bytes(), &commits); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(commits); n > 0 && commits[n-1].Seq >= seq {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has no commit %d after 20 s", id, seq)
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // another process is at work
	}
}

// guest copies a guest of the repository, so that a test may delete it.
func guest(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../testdata/guests", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// counting is a program for the guest interp: it prints 1 to 9 with a sleep after each, and leaves seven values on its
// stack, which is its exit code.
const counting = `0 !i begin @i 1 + !i @i . cr 120 sleep @i 9 = until 1 1 1 1 1 1 1`

const countingOutput = "1 \n2 \n3 \n4 \n5 \n6 \n7 \n8 \n9 \n"

// TestKill kills drivers with kill -9 and resumes in new processes, with the module's file gone.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	module := guest(t, dir, "interp.wasm")
	p, _, line := startLines(t, dir, "run", "--id", "k", module, "-c", counting)
	for _, until := range []string{"2 \n", "4 \n", "6 \n", "8 \n"} {
		for line() != until { // the line before is committed
		}
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if code := p.end(t); code != -1 {
			t.Fatalf("it had ended before it was killed, with exit code %d; stderr:\n%s", code, p.err.String())
		}
		if until == "2 \n" {
			if err := os.Remove(module); err != nil {
				t.Fatal(err)
			}
		}
		p, _, line = startLines(t, dir, "resume", "k")
	}
	for line() != "9 \n" {
	}
	if code := p.end(t); code != 7 {
		t.Errorf("exit code %d, want 7; stderr:\n%s", code, p.err.String())
	}
	if diff := cmp.Diff(countingOutput, durun(t, dir, 0, "logs", "k")); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
}

// TestSignals stops drivers in the ways that a person or a supervisor does.
// TestKillWhileDropping kills drivers that drop old commits, at any moment: the output stays whole, and the store sound.
func TestKillWhileDropping(t *testing.T) {
	t.Parallel()
	const naps = 600
	dir := t.TempDir()
	module := guest(t, dir, "interp.wasm")
	program := fmt.Sprintf("0 !i begin @i 1 + !i @i . cr 1 sleep @i %d = until", naps)
	p, _, line := startLines(t, dir, "run", "--id", "k", "--keep", "2", module, "-c", program)
	for kills := range 6 {
		for until := fmt.Sprintf("%d \n", 80*(kills+1)+rand.IntN(20)); line() != until; {
		}
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if code := p.end(t); code != -1 {
			t.Fatalf("it had ended before it was killed, with exit code %d; stderr:\n%s", code, p.err.String())
		}
		durun(t, dir, 0, "check")
		p, _, line = startLines(t, dir, "resume", "--keep", "2", "k")
	}
	for line() != fmt.Sprintf("%d \n", naps) {
	}
	if code := p.end(t); code != 0 || p.err.String() != "" {
		t.Errorf("exit code %d; stderr:\n%s", code, p.err.String())
	}
	want := ""
	for i := range naps {
		want += fmt.Sprintf("%d \n", i+1)
	}
	if diff := cmp.Diff(want, durun(t, dir, 0, "logs", "k")); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
	if lines := strings.Count(durun(t, dir, 0, "history", "k"), "\n"); lines != 3 { // with the titles
		t.Errorf("history:\n%s", durun(t, dir, 0, "history", "k"))
	}
	durun(t, dir, 0, "check")
	durun(t, dir, 0, "rm", "k")
	durun(t, dir, 0, "gc", "--grace", "0")
	if out := durun(t, dir, 0, "check"); out != "checked 0 objects, 0 B\n" {
		t.Errorf("left:\n%s", out)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		program string
		seq     int // wait for this commit; 0: for the guest's output
		signals []os.Signal
		code    int
		stderr  string
	}{
		{"sleeping", "1 . cr 20 sleep 2 . cr 600000 sleep", 2, []os.Signal{os.Interrupt}, 79, "x is suspended at commit 2"},
		{"terminated", "1 . cr 600000 sleep", 1, []os.Signal{syscall.SIGTERM}, 79, "x is suspended at commit 1"},
		{"computing", "1 . cr 20 sleep 2 . cr begin 0 until", 1, []os.Signal{os.Interrupt}, 79, "x is suspended at commit 1"},
		{"twice", "1 . cr 20 sleep begin 0 until", 1, []os.Signal{os.Interrupt, os.Interrupt}, 79, "x is suspended at commit 1"},
		{"too early", "1 . cr begin 0 until", 0, []os.Signal{os.Interrupt}, 130, "nothing of coroutine x has been committed"},
		{"too early, terminated", "1 . cr begin 0 until", 0, []os.Signal{syscall.SIGTERM}, 143, "nothing of coroutine x has been committed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p, _, line := startLines(t, dir, "run", "--id", "x", guest(t, dir, "interp.wasm"), "-c", test.program)
			line()
			if test.seq > 0 {
				committed(t, dir, "x", test.seq)
			}
			for _, s := range test.signals {
				if err := p.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			if code := p.end(t); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if got := p.err.String(); !strings.Contains(got, test.stderr) {
				t.Errorf("stderr %q, want %q in it", got, test.stderr)
			}
			if hint := "resume with: durun resume x\n"; test.code == 79 && !strings.Contains(p.err.String(), hint) {
				t.Errorf("stderr %q, want %q in it", p.err.String(), hint)
			}
		})
	}
}

// TestClosedOutput takes the reader of a run's standard output away.
func TestClosedOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, out, line := startLines(t, dir, "run", "--id", "x", guest(t, dir, "interp.wasm"), "-c", counting)
	line()
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 79 {
		t.Errorf("exit code %d, want 79", code)
	}
	if got := p.err.String(); !strings.Contains(got, "standard output") || !strings.Contains(got, "resume with: durun resume x\n") {
		t.Errorf("stderr %q names neither standard output nor what to do", got)
	}
	durun(t, dir, 7, "resume", "x")
	if diff := cmp.Diff(countingOutput, durun(t, dir, 0, "logs", "x")); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}

	// A listing whose reader goes away just ends.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	list := prepare(t, dir, "ps", "-a")
	list.Stdout = w
	list.begin(t)
	w.Close()
	if code := list.end(t); code != 141 || list.err.Len() > 0 {
		t.Errorf("exit code %d, stderr %q; want 141 and nothing", code, list.err.String())
	}
}

// TestModuleReplaced puts another module in the place of the one that a coroutine was started with.
func TestModuleReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	durun(t, dir, 0, "run", "-d", "--id", "x", guest(t, dir, "exit.wasm"))
	var list []struct{ Module string }
	if err := json.Unmarshal([]byte(durun(t, dir, 0, "ps", "-o", "json")), &list); err != nil || len(list) != 1 {
		t.Fatalf("ps: %v, %v", list, err)
	}
	other, err := os.ReadFile(guest(t, dir, "stdin.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "store", "modules", list[0].Module)
	if err := errors.Join(os.Chmod(kept, 0o666), os.WriteFile(kept, other, 0o666)); err != nil {
		t.Fatal(err)
	}
	// With a cache, what was made of the module is enough to resume.
	for _, args := range [][]string{{"resume", "--no-cache", "x"}, {"stack", "x"}} {
		p := start(t, dir, args...)
		if code := p.end(t); code != 65 || !strings.Contains(p.err.String(), list[0].Module) {
			t.Errorf("%s: exit code %d, want 65 and the module's hash in stderr %q", args, code, p.err.String())
		}
	}
}
