package handler

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/durun/durun/hostabi"
)

// Final says that it is of no use to repeat a call that failed with err: it ends with [hostabi.CodeFailed] and err's text.
// A handler's [*hostabi.OperationError] is final too, with its own code.
func Final(err error) error { return &finalError{err} }

type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// Throttled is a handler's error that says: too much at once. The attempt doesn't count, and no call of that name is
// tried before RetryAfter has passed; from then on fewer attempts are started than before, and soon again more.
type Throttled struct {
	// RetryAfter is the time until the next attempt, at most [MaxRetryAfter]; 0 or less for one of the [Policy]'s choice, which
	// grows while nothing succeeds.
	RetryAfter time.Duration
	Err        error // what there is to say about it, may be nil
}

// MaxRetryAfter is the longest pause that a handler is given when it asks for one.
const MaxRetryAfter = 24 * time.Hour

// Error implements error.
func (e *Throttled) Error() string {
	if e.Err == nil {
		return "throttled"
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *Throttled) Unwrap() error { return e.Err }

// PanicError is the error of an attempt in which a handler panicked. The attempt is repeated as after any other error:
// so a program outlives the bug, and goes on when the handler's next version is there.
type PanicError struct {
	Value any    // the panic's
	Stack []byte // of the goroutine; not part of the message, which the guest sees
}

// Error implements error.
func (e *PanicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.Value) }

// maxText is how much of a handler's own words gets into a message, in bytes.
const maxText = 4 << 10

// operationError is how an operation ends.
func operationError(code hostabi.Code, format string, args ...any) *hostabi.OperationError {
	return &hostabi.OperationError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// tooLarge is the end of an operation whose result is longer than a guest takes.
func tooLarge() error {
	return operationError(hostabi.CodeLimit, "the result has more than %d bytes", hostabi.MaxPayload)
}

// finalEnd returns how an operation ends after err, if that is final, else nil.
func finalEnd(err error) *hostabi.OperationError {
	if end := (*hostabi.OperationError)(nil); errors.As(err, &end) {
		code := end.Code
		if code < hostabi.CodeLimit { // not a way to end
			code = hostabi.CodeFailed
		}
		return operationError(code, "%s", text(end.Message))
	}
	if final := (*finalError)(nil); errors.As(err, &final) {
		return operationError(hostabi.CodeFailed, "%s", text(final.Error()))
	}
	return nil
}

// text is what a handler says, as it may be shown to anybody: valid UTF-8 without control characters but for newlines,
// without white space at its ends, and at most maxText bytes.
func text(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			return r
		case r == '\t':
			return ' '
		case r == '\r':
			return -1
		}
		return utf8.RuneError
	}, strings.ToValidUTF8(s[:min(len(s), 2*maxText)], string(utf8.RuneError)))
	if s = strings.TrimSpace(s); len(s) <= maxText {
		return s
	}
	end := maxText
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.TrimSpace(s[:end])
}

// line is text as one line of at most MaxProgressErr bytes.
func line(s string) string {
	s = strings.Join(strings.Fields(text(s)), " ")
	if len(s) <= MaxProgressErr {
		return s
	}
	const more = "…"
	end := MaxProgressErr - len(more)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.TrimSpace(s[:end]) + more
}
