//go:build unix

package main

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The tests here drive on a store without locks.

// testLease is short enough to be waited for, and long enough for a machine that has much else to do.
const testLease = "5s"

// noLock is the flag for the store in the folder dir, without its locks.
func noLock(dir, query string) []string {
	u := url.URL{Scheme: "nolock", Path: filepath.ToSlash(filepath.Join(dir, "store")), RawQuery: query}
	return []string{"--store", u.String()}
}

func with(verb string, flags []string, args ...string) []string {
	return append(append([]string{verb}, flags...), args...)
}

// TestPausedDriver stops a driver for longer than its lease holds. Another one waits for that, takes over and drives the
// coroutine to its end; when the first goes on, it finds that it has lost.
func TestPausedDriver(t *testing.T) {
	t.Parallel()
	for name, query := range map[string]string{"no clock": "", "clock": "clock=true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			napping(t, shortNap, func(t *testing.T, nap time.Duration) (late bool) { return pausedDriver(t, query, nap) })
		})
	}
}

func pausedDriver(t *testing.T, query string, nap time.Duration) (late bool) {
	dir := t.TempDir()
	flags := append(noLock(dir, query), "--lease", testLease)
	p := startLines(t, dir, with("run", flags, "--id", "x", guest(t, dir, "interp.wasm"), "-c", counting(nap))...)
	p.mustReach(t, "3 \n") // 2 is committed
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	next := start(t, dir, with("resume", flags, "x")...)
	code := next.end(t)
	if code == 64 && strings.Contains(next.err.String(), "has ended") {
		return true
	}
	if code != 7 {
		t.Fatalf("who took over: exit code %d, want 7; stderr:\n%s", code, next.err.String())
	}
	if got := next.err.String(); !strings.Contains(got, "durun: x: waiting for process ") || strings.Count(got, "\n") != 1 {
		t.Errorf("who took over: stderr %q", got)
	}
	if err := p.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 75 {
		t.Errorf("who was stopped: exit code %d, want 75", code)
	}
	if got := p.err.String(); !strings.Contains(got, "fenced off") || !strings.Contains(got, "durun inspect ") {
		t.Errorf("who was stopped: stderr %q", got)
	}
	if diff := cmp.Diff(countingOutput, durun(t, dir, 0, with("logs", noLock(dir, query), "x")...)); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
	noLeases(t, dir)
	return false
}

// noLeases makes sure that no lease is left in the store.
func noLeases(t *testing.T, dir string) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(dir, "store", "leases", "*", "*")); err != nil || left != nil {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestKilledHolder kills drivers with kill -9: on their own machine they are known to be dead at once.
func TestKilledHolder(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("other systems don't tell processes apart")
	}
	t.Parallel()
	napping(t, shortNap, func(t *testing.T, nap time.Duration) (late bool) {
		dir := t.TempDir()
		flags := append(noLock(dir, ""), "--lease", "1h")
		p := startLines(t, dir, with("run", flags, "--id", "x", guest(t, dir, "interp.wasm"), "-c", counting(nap))...)
		for _, until := range []string{"2 \n", "5 \n", "8 \n"} {
			if !p.reaches(t, until) {
				if code := p.end(t); code != 64 || !strings.Contains(p.err.String(), "has ended") {
					t.Fatalf("exit code %d; stderr:\n%s", code, p.err.String())
				}
				return true // as the one before had come to the end before it was killed
			}
			if err := p.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			// It need not be waited for: a zombie is dead.
			p = startLines(t, dir, with("resume", flags, "x")...)
		}
		// A process that is killed takes a moment to end, in which the next one may say that it waits.
		switch code := p.end(t); {
		case code == 64 && strings.Contains(p.err.String(), "has ended"):
			return true
		case code != 7:
			t.Errorf("exit code %d, want 7; stderr:\n%s", code, p.err.String())
		}
		noLeases(t, dir)
		return false
	})
}

// TestHolder looks at a coroutine that is being driven, and tries to drive and remove it.
func TestHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flags := noLock(dir, "clock=true")
	p := startLines(t, dir, with("run", flags, "--lease", testLease, "--id", "x", guest(t, dir, "interp.wasm"), "-c", "1 . cr 600000 sleep")...)
	p.mustReach(t, "1 \n")
	for deadline := time.Now().Add(patience); ; {
		q := start(t, dir, with("inspect", flags, "x", "-o", "json")...)
		var got struct {
			Status string
			Driver *struct {
				Host string
				PID  int
			}
		}
		if q.end(t) == 0 {
			if err := json.Unmarshal(q.out.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if host, _ := os.Hostname(); got.Status != "running" || got.Driver == nil || got.Driver.PID != p.Process.Pid || got.Driver.Host != host {
				t.Errorf("inspect: %s", q.out.Bytes())
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("x has no commit after %v", patience)
		}
	}
	if got := durun(t, dir, 0, with("ps", flags)...); !strings.Contains(got, "running") {
		t.Errorf("ps: %s", got)
	}
	for _, verb := range []string{"resume", "rm"} {
		q := start(t, dir, with(verb, flags, "x")...)
		if code := q.end(t); code != 75 {
			t.Errorf("%s: exit code %d, want 75", verb, code)
		}
		if got := q.err.String(); !strings.Contains(got, "coroutine x: coroutine is busy: process ") || !strings.Contains(got, "waiting for process ") {
			t.Errorf("%s: stderr %q", verb, got)
		}
	}
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 79 {
		t.Errorf("exit code %d, want 79; stderr:\n%s", code, p.err.String())
	}
	noLeases(t, dir)
	if got := durun(t, dir, 0, with("ps", flags)...); !strings.Contains(got, "suspended") {
		t.Errorf("ps: %s", got)
	}
	durun(t, dir, 0, with("rm", flags, "x")...)
	noLeases(t, dir)
}

// TestLostWhileComputing takes the coroutine of a driver whose guest makes no host call.
func TestLostWhileComputing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flags := append(noLock(dir, ""), "--lease", testLease)
	p := startLines(t, dir, with("run", flags, "--id", "x", guest(t, dir, "interp.wasm"), "-c", "1 . cr 20 sleep 2 . cr begin 0 until")...)
	p.mustReach(t, "2 \n") // it was written after the last commit
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	next := startLines(t, dir, with("resume", flags, "x")...)
	next.mustReach(t, "2 \n")
	if err := p.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 75 || !strings.Contains(p.err.String(), "fenced off") {
		t.Errorf("exit code %d, want 75; stderr:\n%s", code, p.err.String())
	}
	// Ctrl-C gives the lease up.
	if err := next.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := next.end(t); code != 79 {
		t.Errorf("exit code %d, want 79; stderr:\n%s", code, next.err.String())
	}
	noLeases(t, dir)
}
