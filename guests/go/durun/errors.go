package durun

import (
	"context"
	"fmt"
)

// Code says why an operation failed, or can't be.
type Code int32

// The codes, as in ABI.md. Later versions of durun may have more; take one that you don't know for a failure.
const (
	Pending   Code = 1 // it has not ended
	Unknown   Code = 2 // there is no such operation
	Invalid   Code = 3 // kind, name or body make no sense
	Limit     Code = 4 // too many operations, or too much data
	Denied    Code = 5 // the run was given no handler or module of that name
	Failed    Code = 6 // the handler says that it is of no use to try again; the child failed
	Timeout   Code = 7 // the handler's time was up
	Cancelled Code = 8 // the operation was cancelled
	Exhausted Code = 9 // all attempts of the handler failed
)

// String returns the code's name: "denied".
func (c Code) String() string {
	names := [...]string{"ok", "pending", "unknown", "invalid", "limit", "denied", "failed", "timeout", "cancelled", "exhausted"}
	if c < 0 || int(c) >= len(names) {
		return fmt.Sprintf("code %d", int32(c))
	}
	return names[c]
}

// Error is how an operation failed.
type Error struct {
	Code    Code
	Op      string // which one: "call send_email"
	Message string // for people; the handler's own where it gave one
}

// Errors to compare with by errors.Is, whatever the operation and the message.
var (
	ErrPending   = &Error{Code: Pending}
	ErrInvalid   = &Error{Code: Invalid}
	ErrLimit     = &Error{Code: Limit}
	ErrDenied    = &Error{Code: Denied}
	ErrFailed    = &Error{Code: Failed}
	ErrTimeout   = &Error{Code: Timeout}
	ErrCancelled = &Error{Code: Cancelled}
	ErrExhausted = &Error{Code: Exhausted}
)

// Error implements error: "call send_email: failed: no such mailbox".
func (e *Error) Error() string {
	s := e.Code.String()
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Is says whether the target is the error of that code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && *t == Error{Code: e.Code}
}

// ErrCoroutineCancelled is what waiting returns when the coroutine is to end, and the cause of [Context]'s end. It is a
// context.Canceled, too.
var ErrCoroutineCancelled error = coroutineCancelled{}

type coroutineCancelled struct{}

func (coroutineCancelled) Error() string { return "the coroutine is to be cancelled" }

func (coroutineCancelled) Is(target error) bool { return target == context.Canceled }
