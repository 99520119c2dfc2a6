package command

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// grace is how long a command that was told to stop may take. The compilation of a module doesn't notice, nor does a file that
// never answers; leaving it behind is safe, because all that counts is in the store.
const grace = time.Second

// commitGrace is how much longer it may take while it makes a commit, whose outcome nobody would know otherwise.
const commitGrace = 6 * time.Second

// interruptError is the cause of a context that a signal has cancelled.
type interruptError struct{ signal os.Signal }

func (e *interruptError) Error() string { return fmt.Sprintf("stopped by signal: %v", e.signal) }

// exitCode is the shell's convention for a process that a signal ended.
func (e *interruptError) exitCode() int {
	if s, ok := e.signal.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return exitInterrupted
}

// listen cancels the context it returns, with an *interruptError as cause, at the first SIGINT or SIGTERM. again is
// closed when the command should not be waited for any longer: at the second, or after the grace period, which is longer if
// the command is committing then.
//
// It also makes a write to a closed standard output an error (EPIPE) rather than the process's end, so that a coroutine
// whose reader has gone can say where it stands.
func listen(parent context.Context, committing func() bool) (ctx context.Context, again <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals, pipe := make(chan os.Signal, 2), make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		if !signal.Ignored(s) { // as it is for a background job of a shell script, and under nohup
			signal.Notify(signals, s)
		}
	}
	signal.Notify(pipe, syscall.SIGPIPE)

	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(&interruptError{s})
		case <-done:
			return
		}
		late := time.NewTimer(grace)
		defer late.Stop()
		for extended := false; ; extended = true {
			select {
			case <-late.C:
				if !extended && committing() {
					late.Reset(commitGrace)
					continue
				}
			case <-signals:
			case <-done:
				return
			}
			close(over)
			return
		}
	}()
	return ctx, over, func() {
		signal.Stop(signals)
		signal.Stop(pipe)
		close(done)
		cancel(nil)
	}
}
