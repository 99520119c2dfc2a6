package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// TestExitCodes holds the classes of errors to the documented codes, through wrapping.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		code int
	}{
		{usageError("x"), 64},
		{exitStatus(42), 42},
		{&runtime.ModuleError{Msg: "x"}, 65},
		{&runtime.ModuleError{Msg: "x", Err: &fs.PathError{Op: "write", Path: "cache", Err: syscall.ENOSPC}}, 69},
		{&runtime.CaptureError{Reason: "x"}, 65},
		{runtime.ErrMismatch, 65},
		{&snapshot.FormatError{Section: "header", Err: snapshot.ErrCorrupt}, 65},
		{snapshot.ErrVersion, 65},
		{fmt.Errorf("operations: %w: 9", hostabi.ErrStateVersion), 65},
		{&snapshot.KeyError{}, 64},
		{snapshot.ErrNotFound, 66},
		{snapshot.ErrID, 64},
		{&snapshot.AmbiguousError{}, 64},
		{snapshot.ErrExist, 64},
		{runtime.ErrEnded, 64},
		{snapshot.ErrEnded, 64},
		{snapshot.ErrMessage, 64},
		{&wasi.MissingMountError{Guests: []string{"/d"}}, 64},
		{&bucket.Error{Op: "put", Kind: bucket.ErrFull, Err: syscall.ENOSPC}, 69},
		{&bucket.Error{Op: "open", Kind: bucket.ErrPermission, Err: fs.ErrPermission}, 69},
		{&bucket.Error{Op: "get"}, 69},
		{snapshot.ErrBusy, 75},
		{snapshot.ErrFenced, 75},
		{&interruptError{syscall.SIGINT}, 130},
		{&interruptError{syscall.SIGTERM}, 143},
		{syscall.EPIPE, 141},
		{errors.New("nobody expected this"), 70},
	} {
		if got := new(app).classify(fmt.Errorf("do this: %w", test.err)).code; got != test.code {
			t.Errorf("%T %v: exit code %d, want %d", test.err, test.err, got, test.code)
		}
	}
}

func TestGuestExit(t *testing.T) {
	t.Parallel()
	for code, want := range map[uint32]int{0: 0, 1: 1, 255: 255, 256: 1, 257: 1, 0xffffffff: 255} {
		if got := guestExit(code); got != want {
			t.Errorf("guestExit(%d) = %d, want %d", code, got, want)
		}
	}
}

// TestInterrupted stops commands at different points.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	interrupt := &interruptError{syscall.SIGINT}
	for _, test := range []struct {
		name    string
		cause   error
		driving position
		code    int
		stderr  string
	}{
		{"not driving", interrupt, position{}, 130, "durun: stopped by signal: interrupt\n"},
		{"before a commit", interrupt, position{id: "x"}, 130, "durun: stopped by signal: interrupt; nothing of coroutine x has been committed\n"},
		{
			"within the first", interrupt,
			position{id: "x", try: 1},
			130,
			"durun: stopped by signal: interrupt; the first commit of coroutine x may have been made: see durun ps --store '/a b'\n",
		},
		{
			"after one", interrupt,
			position{id: "x", seq: 12, try: 13},
			79,
			"durun: stopped by signal: interrupt; x is suspended at commit 12\n  resume with: durun resume --store '/a b' x\n",
		},
		{"no reader, before a commit", syscall.EPIPE, position{id: "x"}, 141, "durun: broken pipe; nothing of coroutine x has been committed\n"},
		{
			"no reader", syscall.EPIPE,
			position{id: "x", seq: 1, try: 1},
			79,
			"durun: broken pipe; x is suspended at commit 1\n  resume with: durun resume --store '/a b' x\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// What stops may tell of the context's error, or of its cause.
			for _, reason := range []func(context.Context) error{context.Context.Err, context.Cause} {
				ctx, cancel := context.WithCancelCause(context.Background())
				cancel(test.cause)
				var stderr bytes.Buffer
				a := &app{Config: Config{Stderr: &stderr}, storeURL: "/a b", driving: test.driving}
				code := a.execute(ctx, &cobra.Command{
					SilenceErrors: true, SilenceUsage: true,
					RunE: func(cmd *cobra.Command, _ []string) error { return fmt.Errorf("do this: %w", reason(cmd.Context())) },
				}, []string{})
				if code != test.code || stderr.String() != test.stderr {
					t.Errorf("exit code %d, want %d; stderr %q, want %q", code, test.code, stderr.String(), test.stderr)
				}
			}
		})
	}
}

// TestOneReport has a command fail while the process is leaving it behind, as one does that notices that its lease was
// given up: only the first of the two says why.
func TestOneReport(t *testing.T) {
	t.Parallel()
	for _, leaving := range []bool{false, true} {
		var stderr bytes.Buffer
		a := &app{Config: Config{Stderr: &stderr}}
		if leaving && !a.end() {
			t.Fatal("somebody has ended it before")
		}
		a.execute(context.Background(), &cobra.Command{
			SilenceErrors: true, SilenceUsage: true,
			RunE: func(*cobra.Command, []string) error { return snapshot.ErrFenced },
		}, []string{})
		if reported := stderr.Len() > 0; reported == leaving {
			t.Errorf("leaving: %v; stderr %q", leaving, stderr.String())
		}
		if a.end() {
			t.Errorf("leaving: %v; it ends twice", leaving)
		}
	}
}

func TestQuoted(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "''", "file:///a/b-c": "file:///a/b-c", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'"} {
		if got := quoted(in); got != want {
			t.Errorf("quoted(%q) = %s, want %s", in, got, want)
		}
	}
}

// TestPanic has a command panic: it is reported as a bug, and the stack is shown on request only.
func TestPanic(t *testing.T) {
	for _, debug := range []string{"", "1"} {
		t.Setenv("DURUN_DEBUG", debug)
		var stderr bytes.Buffer
		a := &app{Config: Config{Stderr: &stderr}}
		code := a.execute(context.Background(), &cobra.Command{Run: func(*cobra.Command, []string) { panic("wires crossed") }}, []string{})
		got := stderr.String()
		if code != exitBug || !strings.Contains(got, "durun: panic: wires crossed\n") || !strings.Contains(got, "report") {
			t.Errorf("DURUN_DEBUG=%q: exit code %d, stderr %q", debug, code, got)
		}
		if stack := strings.Contains(got, "root_test.go"); stack != (debug != "") {
			t.Errorf("DURUN_DEBUG=%q: a stack is shown: %v; stderr %q", debug, stack, got)
		}
	}
}

// TestHelp holds every command to a complete help.
func TestHelp(t *testing.T) {
	t.Parallel()
	root := newRoot(&app{})
	if strings.Contains(root.UsageTemplate(), "FlagUsages ") {
		t.Error("flags are not wrapped")
	}
	commands := append(root.Commands(), root)
	for i := 0; i < len(commands); i++ {
		c := commands[i]
		if c.Name() == "help" {
			continue
		}
		commands = append(commands, c.Commands()...)
		if c.Short == "" || c.Long == "" || c.Example == "" || c.RunE == nil || c.Args == nil {
			t.Errorf("%s lacks a help text, an example or a check of its arguments", c.CommandPath())
		}
		for _, line := range strings.Split(c.Long+"\n"+c.UsageString(), "\n") {
			if len(line) > helpWidth {
				t.Errorf("%s: a line of %d characters: %s", c.CommandPath(), len(line), line)
			}
		}
	}
}
