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
	patience time.Duration

	pipe  *os.File // its standard output, if startLines began it
	lines *bufio.Reader
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
	p := &process{Cmd: exec.Command(exe, args...), patience: patience}
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
func startLines(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := prepare(t, dir, args...)
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.pipe = out.(*os.File)
	p.lines = bufio.NewReader(out)
	p.begin(t)
	return p
}

// line waits for a line of a process that startLines began, and returns "" at the end of the output.
func (p *process) line(t *testing.T) string {
	t.Helper()
	if err := p.pipe.SetReadDeadline(time.Now().Add(p.patience)); err != nil {
		t.Fatal(err)
	}
	s, err := p.lines.ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.quit()
		err := p.Wait() // then its standard error is whole
		t.Fatalf("durun %s wrote no line in %v: %v; stderr:\n%s", strings.Join(p.Args[1:], " "), p.patience, err, p.err.String())
	}
	if err != nil && (s != "" || !errors.Is(err, io.EOF)) {
		t.Fatalf("a line of output: %q, %v", s, err)
	}
	return s
}

// reaches waits until a process that startLines began has written a line, and reports whether it did before its output ended.
func (p *process) reaches(t *testing.T, line string) bool {
	t.Helper()
	for {
		switch p.line(t) {
		case line:
			return true
		case "":
			return false
		}
	}
}

// mustReach waits until a process has written a line.
func (p *process) mustReach(t *testing.T, line string) {
	t.Helper()
	if !p.reaches(t, line) {
		t.Fatalf("durun %s ended, with exit code %d, before it wrote %q; stderr:\n%s", strings.Join(p.Args[1:], " "), p.end(t), line, p.err.String())
	}
}

func (p *process) begin(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_, _ = p.Process.Wait() // until then it may write to the test's folder
	})
}

// quit has the process write where each of its goroutines stands, and end.
func (p *process) quit() {
	_ = p.Process.Signal(syscall.SIGQUIT)
	_ = p.Process.Signal(syscall.SIGCONT) // it may be paused
}

// end waits for the process and returns its exit code, -1 if a signal ended it.
func (p *process) end(t *testing.T) int {
	t.Helper()
	late := time.AfterFunc(p.patience, p.quit)
	err := p.Wait()
	if !late.Stop() {
		t.Fatalf("durun %s was still there after %v: %v; stderr:\n%s", strings.Join(p.Args[1:], " "), p.patience, err, p.err.String())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
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
	for deadline := time.Now().Add(patience); ; {
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
			t.Fatalf("%s has no commit %d after %v", id, seq, patience)
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

// counting returns a program for the guest interp: it prints 1 to 9 with a nap after each, and leaves seven values on its stack,
// which is its exit code.
func counting(nap time.Duration) string {
	return fmt.Sprintf(`0 !i begin @i 1 + !i @i . cr %d sleep @i 9 = until 1 1 1 1 1 1 1`, nap.Milliseconds())
}

const countingOutput = "1 \n2 \n3 \n4 \n5 \n6 \n7 \n8 \n9 \n"

// shortNap is long enough, mostly, to do something to a driver in.
const shortNap = 100 * time.Millisecond

// napping runs a test that has to do something to a driver before its program, which naps, has come to its end. Where that was
// too late, because the machine has much else to do, the test runs again, with longer naps.
func napping(t *testing.T, nap time.Duration, test func(t *testing.T, nap time.Duration) (late bool)) {
	t.Helper()
	for range 5 {
		if !test(t, nap) {
			return
		}
		t.Logf("too late, with naps of %v", nap)
		nap *= 4
	}
	t.Fatal("it was always too late")
}

// killed waits for a process that was killed, and reports whether that was before it ended with this code.
func (p *process) killed(t *testing.T, code int) bool {
	t.Helper()
	got := p.end(t)
	if got != -1 && got != code {
		t.Fatalf("it had ended before it was killed, with exit code %d; stderr:\n%s", got, p.err.String())
	}
	return got == -1
}

// TestKill kills drivers with kill -9 and resumes in new processes, with the module's file gone.
func TestKill(t *testing.T) {
	t.Parallel()
	napping(t, shortNap, func(t *testing.T, nap time.Duration) (late bool) {
		dir := t.TempDir()
		module := guest(t, dir, "interp.wasm")
		p := startLines(t, dir, "run", "--id", "k", module, "-c", counting(nap))
		for _, until := range []string{"2 \n", "4 \n", "6 \n", "8 \n"} {
			p.mustReach(t, until) // the line before is committed
			if err := p.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if !p.killed(t, 7) {
				return true
			}
			if until == "2 \n" {
				if err := os.Remove(module); err != nil {
					t.Fatal(err)
				}
			}
			p = startLines(t, dir, "resume", "k")
		}
		p.mustReach(t, "9 \n")
		if code := p.end(t); code != 7 {
			t.Errorf("exit code %d, want 7; stderr:\n%s", code, p.err.String())
		}
		if diff := cmp.Diff(countingOutput, durun(t, dir, 0, "logs", "k")); diff != "" {
			t.Errorf("logs (-want +got):\n%s", diff)
		}
		return false
	})
}

// TestKillWhileDropping kills drivers that drop old commits, at any moment: the output stays whole, and the store sound.
func TestKillWhileDropping(t *testing.T) {
	t.Parallel()
	napping(t, time.Millisecond, killWhileDropping)
}

func killWhileDropping(t *testing.T, nap time.Duration) (late bool) {
	const naps = 600
	dir := t.TempDir()
	module := guest(t, dir, "interp.wasm")
	program := fmt.Sprintf("0 !i begin @i 1 + !i @i . cr %d sleep @i %d = until", nap.Milliseconds(), naps)
	p := startLines(t, dir, "run", "--id", "k", "--keep", "2", module, "-c", program)
	for kills := range 6 {
		p.mustReach(t, fmt.Sprintf("%d \n", 80*(kills+1)+rand.IntN(20)))
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if !p.killed(t, 0) {
			return true
		}
		durun(t, dir, 0, "check")
		p = startLines(t, dir, "resume", "--keep", "2", "k")
	}
	p.mustReach(t, fmt.Sprintf("%d \n", naps))
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
	return false
}

// TestSignals stops drivers in the ways that a person or a supervisor does.
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
			p := startLines(t, dir, "run", "--id", "x", guest(t, dir, "interp.wasm"), "-c", test.program)
			p.mustReach(t, "1 \n")
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
	module := guest(t, dir, "interp.wasm")
	napping(t, shortNap, func(t *testing.T, nap time.Duration) (late bool) {
		id := fmt.Sprint("x", nap.Milliseconds())
		p := startLines(t, dir, "run", "--id", id, module, "-c", counting(nap))
		p.mustReach(t, "1 \n")
		if err := p.pipe.Close(); err != nil {
			t.Fatal(err)
		}
		switch code := p.end(t); code {
		case 7:
			return true
		case 79:
		default:
			t.Errorf("exit code %d, want 79", code)
		}
		if got := p.err.String(); !strings.Contains(got, "standard output") || !strings.Contains(got, "resume with: durun resume "+id+"\n") {
			t.Errorf("stderr %q names neither standard output nor what to do", got)
		}
		durun(t, dir, 7, "resume", id)
		if diff := cmp.Diff(countingOutput, durun(t, dir, 0, "logs", id)); diff != "" {
			t.Errorf("logs (-want +got):\n%s", diff)
		}
		return false
	})

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
