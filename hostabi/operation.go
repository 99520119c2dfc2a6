package hostabi

import (
	"fmt"
	"time"
)

// OperationKind is what an operation does. The numbers are the ABI's.
type OperationKind uint32

// The kinds of operations.
const (
	Timer OperationKind = 1 // ends after a time. Body: nanoseconds, 8 bytes, little-endian
	Call  OperationKind = 2 // a named handler on the host. Body and result are between guest and handler
	Spawn OperationKind = 3 // a child coroutine. Name: see [SpawnName]; body: its input; result: its output
	Recv  OperationKind = 4 // the next message of that name from outside, its data is the result
)

// String returns the kind's name: "timer", "call", "spawn", "recv".
func (k OperationKind) String() string {
	switch k {
	case Timer:
		return "timer"
	case Call:
		return "call"
	case Spawn:
		return "spawn"
	case Recv:
		return "recv"
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// Code says what is wrong, as the ABI's functions return it, negated.
type Code int32

// The codes. Those up to CodeLimit are about a call of the ABI, those from CodeDenied on are how an operation ended.
const (
	CodePending   Code = 1 // the operation has not ended
	CodeUnknown   Code = 2 // there is no such operation, or it was dropped
	CodeInvalid   Code = 3 // the arguments make no sense
	CodeLimit     Code = 4 // too many or too large
	CodeDenied    Code = 5 // the run was given nothing of that name
	CodeFailed    Code = 6 // the handler, or the child, has failed for good
	CodeTimeout   Code = 7 // the handler's time was up
	CodeCancelled Code = 8 // it was cancelled; of wait: the coroutine is to be
	CodeExhausted Code = 9 // all attempts of the handler failed
)

// String returns the code's name, as /durun files and SDKs show it.
func (c Code) String() string {
	switch c {
	case 0:
		return "ok"
	case CodePending:
		return "pending"
	case CodeUnknown:
		return "unknown"
	case CodeInvalid:
		return "invalid"
	case CodeLimit:
		return "limit"
	case CodeDenied:
		return "denied"
	case CodeFailed:
		return "failed"
	case CodeTimeout:
		return "timeout"
	case CodeCancelled:
		return "cancelled"
	case CodeExhausted:
		return "exhausted"
	}
	return fmt.Sprintf("code %d", int32(c))
}

// OperationError is why an operation failed, or why there is no result of it.
type OperationError struct {
	Code    Code
	Message string // for people; the handler's own where it gave one
}

// Error implements error.
func (e *OperationError) Error() string {
	if e.Message == "" {
		return e.Code.String()
	}
	return e.Code.String() + ": " + e.Message
}

// Is makes errors of one code equal, whatever their messages.
func (e *OperationError) Is(target error) bool {
	t, ok := target.(*OperationError)
	return ok && t.Code == e.Code && t.Message == ""
}

// Wait says what a coroutine waits for.
type Wait struct {
	Ops []uint32
	// Min is how many of Ops have to end. More than there are stands for all.
	Min uint32
	// Success counts only those that end well; then the wait is over, too, when so many have failed that there can't be Min
	// of them. So Min 1 is the first success, and Min len(Ops) is all, or the first failure.
	Success bool
	// Timeout ends the wait in any case; negative for none. With 0 it is over at once, after a commit if there are
	// operations that need one to be started.
	Timeout time.Duration
}

// Coroutine is what a host module may do for the guest that calls it, beyond memory and output: all that the import
// module "durun" offers. It is [Guest.Coroutine], for the time of the call. Errors are [*OperationError].
type Coroutine interface {
	// ID returns the coroutine's id.
	ID() string
	// Input returns the current value, see ABI.md. It must not be changed.
	Input() []byte
	// SetOutput sets the coroutine's result. The bytes stay the caller's, who sets it again after having changed them: so to write a
	// long result in small pieces copies none of it.
	SetOutput(value []byte)

	// Begin begins an operation and returns its number, from 1. It starts after the next commit. body is copied.
	// Errors: [CodeInvalid], [CodeLimit].
	Begin(kind OperationKind, name string, body []byte) (op uint32, err error)
	// Result returns how an operation ended, which may be an error. [CodePending] says that it has not, [CodeUnknown] that
	// there is none of that number. The result must not be changed.
	Result(op uint32) ([]byte, error)
	// Cancel gives an operation up. A child is asked to end, and the operation ends when it has; others end at once, with
	// [CodeCancelled]. One that has ended stays as it is. Error: [CodeUnknown].
	Cancel(op uint32) error
	// Drop cancels an operation and forgets it. Error: [CodeUnknown].
	Drop(op uint32) error
	// Operations returns the numbers of those that were not dropped, ascending.
	Operations() []uint32

	// Await waits, for an Await function: it is called with what that was called with, and returns the operations of w
	// that have ended, in the order of w; or a Pending, which the Await function is to return as it is, but for Data, which is
	// the function's own. w has to be the same each time. Errors: [CodeCancelled] once, when the coroutine is to be cancelled;
	// [CodeUnknown] for an operation that there isn't.
	Await(w Wait, p *Pending) (ended []uint32, pending *Pending, err error)
	// Yield hands a value to the driver and returns the one received, in the same way.
	Yield(value []byte, p *Pending) (received []byte, pending *Pending)
}
