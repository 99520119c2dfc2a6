package command

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// The exit codes, from sysexits.h where it has one. They are part of the command's contract, see exitCodesHelp.
const (
	exitOK          = 0
	exitUsage       = 64  // EX_USAGE
	exitData        = 65  // EX_DATAERR
	exitNoInput     = 66  // EX_NOINPUT
	exitUnavailable = 69  // EX_UNAVAILABLE
	exitBug         = 70  // EX_SOFTWARE
	exitBusy        = 75  // EX_TEMPFAIL
	exitSuspended   = 79  // the first number after sysexits.h
	exitInterrupted = 130 // 128 + SIGINT
	exitTrap        = 134 // 128 + SIGABRT, as for a native program that aborts
	exitPipe        = 141 // 128 + SIGPIPE
)

const exitCodesHelp = `Exit codes:
  0-255  run, resume: the guest's own exit code, once it has ended; 134 for a
         trap, 143 for one that was cancelled where it could not be told
  64     usage: an unknown command, flag or argument; an id that is taken; a
         folder or a handler that the program needs and nobody gave; a key that
         something is encrypted under and nobody gave; a coroutine that has
         ended, to resume, to send to or to cancel
  65     a bad module, snapshot or bundle, or one that doesn't fit the other;
         damage in the store; a program that waits in a state that no snapshot
         can hold
  66     no such coroutine or commit, or a file that can't be read
  69     the store, the cache or an output file can't be reached or written: no
         access, a full disk
  70     a bug in durun
  75     somebody else drives the coroutine, or has taken it over: try again
         later; a shared base that coroutines build on, to remove
  79     the coroutine is suspended (by Ctrl-C, for example): resume goes on
  130    interrupted before anything was committed (by SIGTERM: 143)
  141    the reader of standard output went away`

// exitError is an error with the exit code it ends the command with, and perhaps advice, on a line of its own.
type exitError struct {
	code   int
	err    error  // nil: nothing is printed
	advice string // may be empty
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError says that the command line is wrong.
func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// dataError says that bytes are bad.
func dataError(err error, advice string) error {
	return &exitError{code: exitData, err: err, advice: advice}
}

// inputError says that something to be read is not there.
func inputError(err error, advice string) error {
	return &exitError{code: exitNoInput, err: err, advice: advice}
}

// outputError says that something can't be written.
func outputError(err error, advice string) error {
	return &exitError{code: exitUnavailable, err: err, advice: advice}
}

// exitStatus ends the command with a code and without a message.
func exitStatus(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

// guestExit is the command's exit code for a guest's: its low byte, as a native exit gives, but never 0 for a failure.
func guestExit(code uint32) int {
	if code != 0 && code&0xff == 0 {
		return 1
	}
	return int(code & 0xff)
}

// classify gives any error an exit code, and advice where the reader may not know what to do. An error that fits no
// class is one that nobody expected: a bug.
func (a *app) classify(err error) *exitError {
	e := &exitError{err: err}
	if known := (*exitError)(nil); errors.As(err, &known) {
		e.code, e.advice = known.code, known.advice
		if known.err == nil {
			e.err = nil
		}
		return e
	}
	var (
		interrupt *interruptError
		module    *runtime.ModuleError
		capture   *runtime.CaptureError
		missing   *wasi.MissingMountError
		storage   *bucket.Error
		path      *fs.PathError
		noStore   *missingStoreError
	)
	switch {
	case errors.As(err, &interrupt):
		e.code = interrupt.exitCode()
	case isBrokenPipe(err):
		e.code, e.err = exitPipe, nil
	case errors.Is(err, snapshot.ErrBusy), errors.Is(err, snapshot.ErrFenced), errors.Is(err, bucket.ErrLocked):
		e.code = exitBusy
		e.advice = "a coroutine has one driver at a time; try again when that one has stopped"
	case errors.Is(err, snapshot.ErrInUse):
		e.code = exitBusy
		e.advice = "a base stays as long as a coroutine builds on it"
	case errors.Is(err, snapshot.ErrKey):
		e.code = exitUsage
		e.advice = "give the file that has the key: --key-file FILE, or set " + keyFileVariable
	case errors.Is(err, snapshot.ErrVersion), errors.Is(err, hostabi.ErrStateVersion):
		e.code = exitData
		e.advice = "a newer durun wrote it; use that one, or a newer one still"
	case errors.As(err, &module) && errors.As(err, &path):
		// Not the module is bad, but the cache that its prepared form comes from or goes to.
		e.code, e.advice = exitUnavailable, "go on without the cache of prepared modules: --no-cache, or set "+cacheVariable+" to another folder"
	case errors.As(err, &capture):
		e.code, e.advice = exitData, captureAdvice
	case errors.As(err, &module), errors.Is(err, runtime.ErrMismatch),
		errors.Is(err, snapshot.ErrCorrupt), errors.Is(err, snapshot.ErrInvalid):
		e.code = exitData
	case errors.Is(err, snapshot.ErrID), errors.Is(err, snapshot.ErrAmbiguous), errors.Is(err, snapshot.ErrExist),
		errors.Is(err, runtime.ErrEnded), errors.Is(err, snapshot.ErrEnded), errors.Is(err, snapshot.ErrMessage), errors.As(err, &missing):
		e.code = exitUsage
	case errors.Is(err, snapshot.ErrNotFound):
		e.code = exitNoInput
	case errors.As(err, &noStore):
		e.code, e.advice = exitUnavailable, missingStoreAdvice
	case errors.As(err, &storage):
		e.code = exitUnavailable
		switch {
		case errors.Is(err, bucket.ErrFull):
			e.advice = "what was committed before is safe; make room and repeat the command"
		default:
			e.advice = `"` + a.commandLine("doctor") + `" checks the store`
		}
	case errors.As(err, &path):
		e.code = exitUnavailable
	default:
		e.code, e.advice = exitBug, bugAdvice
	}
	return e
}
