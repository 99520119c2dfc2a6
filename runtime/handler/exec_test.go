//go:build unix

package handler

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/durun/durun/hostabi"
)

func TestExec(t *testing.T) {
	t.Setenv("DURUN_KEY", "secret")
	t.Setenv("DURUN_KEY_FILE", "secret")
	t.Setenv("OWN", "mine")
	dir := t.TempDir()
	c := Call{Key: "job/ab/3", Coroutine: "job", Name: "x", Attempt: 2, Body: []byte("in\x00put")}
	for command, want := range map[string]string{
		"cat": "in\x00put",
		"echo $DURUN_IDEMPOTENCY_KEY $DURUN_ATTEMPT $DURUN_COROUTINE $DURUN_HANDLER": "job/ab/3 2 job x\n",
		"echo $OWN${DURUN_KEY-unset}${DURUN_KEY_FILE-unset}":                         "mineunsetunset\n",
		"pwd -P":                   "",
		"exec true; echo not this": "",
	} {
		if command == "pwd -P" {
			real, err := filepath.EvalSymlinks(dir)
			if err != nil {
				t.Fatal(err)
			}
			want = real + "\n"
		}
		if result, err := Exec(command, ExecOptions{Dir: dir})(t.Context(), c); string(result) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", command, result, err, want)
		}
	}
	result, err := Exec("echo $OWN$OTHER", ExecOptions{Env: []string{"OTHER=theirs", "PATH=" + os.Getenv("PATH")}})(t.Context(), c)
	if string(result) != "theirs\n" || err != nil {
		t.Errorf("with an environment: %q, %v", result, err)
	}
}

func TestExecFailures(t *testing.T) {
	long := strings.Repeat("x", maxText)
	for command, want := range map[string]struct {
		final, throttled bool
		message          string
	}{
		"echo why >&2; exit 1":                    {message: "exit status 1: why"},
		"exit 64":                                 {final: true, message: "exit status 64"},
		"exit 65":                                 {final: true, message: "exit status 65"},
		"echo slow down >&2; exit 75":             {throttled: true, message: "exit status 75: slow down"},
		"nosuchcommand-at-all":                    {message: "exit status 127: "},
		"kill -9 $$":                              {message: "signal: killed"},
		"echo " + long + " lost >&2; exit 1":      {message: "exit status 1: " + long[:maxTail-len(" lost\n")] + " lost"},
		"sleep 1000 & echo out; echo err >&2":     {message: "left a process behind that has its output open: err"},
		"cat > /dev/null; exit 1":                 {message: "exit status 1"},
		"exit 1 # and doesn't read its input":     {message: "exit status 1"},
		"printf 'a\\033[31m' >&2; exit 2":         {message: "exit status 2: a\ufffd[31m"},
		"echo out; echo 'only errors' >&2; false": {message: "exit status 1: only errors"},
	} {
		result, err := Exec(command, ExecOptions{})(t.Context(), Call{Body: make([]byte, 1<<20)})
		if result != nil || err == nil || !strings.Contains(text(err.Error()), want.message) {
			t.Errorf("%s: %q, error %v, want %q", command, result, err, want.message)
		}
		if final := finalEnd(err) != nil; final != want.final {
			t.Errorf("%s: final: %v", command, final)
		}
		if throttled := errors.As(err, new(*Throttled)); throttled != want.throttled {
			t.Errorf("%s: throttled: %v", command, throttled)
		}
	}
}

func TestExecWithoutItsFolder(t *testing.T) {
	_, err := Exec("true", ExecOptions{Dir: filepath.Join(t.TempDir(), "nosuch")})(t.Context(), Call{})
	if err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("error %v", err)
	}
}

// A command that writes and writes is stopped.
func TestExecTooMuch(t *testing.T) {
	_, err := Exec("cat /dev/zero", ExecOptions{})(t.Context(), Call{})
	if !errors.Is(err, &hostabi.OperationError{Code: hostabi.CodeLimit}) {
		end := (*hostabi.OperationError)(nil)
		if !errors.As(err, &end) || end.Code != hostabi.CodeLimit {
			t.Errorf("error %v", err)
		}
	}
}

// All processes of a command that is given up are killed, down to grandchildren.
func TestExecCancelled(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan int, 1)
	go func() {
		defer cancel()
		b, err := os.ReadFile(fifo)
		pid, perr := strconv.Atoi(strings.TrimSpace(string(b)))
		if err := errors.Join(err, perr); err != nil {
			t.Error(err)
		}
		started <- pid
	}()
	start := time.Now()
	_, err := Exec(`sh -c 'sleep 1000 & echo $! > fifo; wait' & wait`, ExecOptions{Dir: dir})(ctx, Call{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > 5*time.Minute {
		t.Errorf("it took %v", took)
	}
	pid := <-started
	deadline := time.Now().Add(time.Minute)
	for syscall.Kill(pid, 0) == nil && !isZombie(pid) { // until init has it
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives", pid)
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // the end of a process that is not a child has no event
	}
}

// isZombie reports whether a process is dead and nobody has asked how it died, where /proc tells.
func isZombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") Z ")
}
