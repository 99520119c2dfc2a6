package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/durun/durun/hostabi"
)

// ExecOptions are what a command may have beside its text.
type ExecOptions struct {
	// Dir is the folder that the command runs in, the process's own if empty.
	Dir string
	// Env is its environment, beside the variables of the call. nil stands for the process's own, without DURUN_KEY and
	// DURUN_KEY_FILE: what is encrypted in a store is nothing to handlers.
	Env []string
}

// The exit codes of a command that mean something, from sysexits.h.
const (
	exitUsage    = 64 // EX_USAGE
	exitData     = 65 // EX_DATAERR
	exitTempFail = 75 // EX_TEMPFAIL
)

// leftBehind is how long a command's output may stay open after its end, because another process has it.
const leftBehind = 2 * time.Second

// Exec returns a handler that runs a command: `sh -c COMMAND`, on Windows `cmd /c COMMAND`. The call's body is its standard
// input, and what it writes to standard output is the result. It has the environment variables
//
//	DURUN_IDEMPOTENCY_KEY  [Call.Key]
//	DURUN_ATTEMPT          [Call.Attempt]
//	DURUN_COROUTINE        [Call.Coroutine]
//	DURUN_HANDLER          [Call.Name]
//
// Its exit code decides:
//
//	0       the output is the result
//	64, 65  final (EX_USAGE, EX_DATAERR)
//	75      throttled (EX_TEMPFAIL)
//	other   the attempt is repeated
//
// The end of what it writes to standard error goes into the message. When an attempt is given up the command is killed, with
// all processes of its group (on Windows: of its job). If durun itself is killed, it is not, and may run on beside the next attempt.
func Exec(command string, o ExecOptions) Func {
	return func(ctx context.Context, c Call) ([]byte, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stdout := &limitedBuffer{full: func() { cancel(tooLarge()) }}
		var stderr tail
		cmd := shell(ctx, command)
		cmd.Dir = o.Dir
		cmd.Env = append(o.environment(),
			"DURUN_IDEMPOTENCY_KEY="+c.Key, "DURUN_ATTEMPT="+strconv.Itoa(c.Attempt), "DURUN_COROUTINE="+c.Coroutine, "DURUN_HANDLER="+c.Name)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Body), stdout, &stderr
		cmd.WaitDelay = leftBehind
		err := run(cmd)
		if stdout.over {
			return nil, tooLarge()
		}
		if err == nil {
			return stdout.kept.Bytes(), nil
		}
		if ctx.Err() != nil {
			err = ctx.Err() // and not that it was killed
		}
		if errors.Is(err, exec.ErrWaitDelay) {
			err = errors.New("it has ended, but left a process behind that has its output open")
		}
		if said := stderr.String(); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		exit := (*exec.ExitError)(nil)
		if !errors.As(err, &exit) {
			if _, missing := os.Stat(o.Dir); o.Dir != "" && missing != nil { // which reads as if it were the shell
				err = fmt.Errorf("its folder: %w", missing)
			}
			return nil, err
		}
		switch exit.ExitCode() {
		case exitUsage, exitData:
			return nil, Final(err)
		case exitTempFail:
			return nil, &Throttled{Err: err}
		}
		return nil, err
	}
}

// environment returns a copy of the command's environment.
func (o *ExecOptions) environment() []string {
	if o.Env != nil {
		return append([]string(nil), o.Env...)
	}
	var env []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != "DURUN_KEY" && name != "DURUN_KEY_FILE" {
			env = append(env, v)
		}
	}
	return env
}

// limitedBuffer keeps what is written to it, up to the size of a result.
type limitedBuffer struct {
	kept bytes.Buffer
	over bool
	full func() // called when there is more
}

// Write implements io.Writer. It takes all, since a writer that fails would look like the command's own failure.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.over {
		return len(p), nil
	}
	if b.kept.Len()+len(p) > hostabi.MaxPayload {
		b.over = true
		b.full()
		return len(p), nil
	}
	return b.kept.Write(p)
}

// tail keeps the last of what is written to it.
type tail struct{ b []byte }

// maxTail leaves room in a message for what stands before: that is cut at its end.
const maxTail = maxText - 128

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-maxTail):]...)
	if extra := len(t.b) - maxTail; extra > 0 {
		t.b = append(t.b[:0], t.b[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return text(string(t.b)) }
