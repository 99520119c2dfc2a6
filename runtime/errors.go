package runtime

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is. Errors about a module's bytes are *[ModuleError].
var (
	// ErrEnded is returned by operations on a coroutine that has completed, failed or been cancelled.
	ErrEnded = errors.New("the coroutine has ended")
	// ErrInUse is returned when a coroutine is used by two goroutines at once.
	ErrInUse = errors.New("the coroutine is in use by another goroutine")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("closed")
	// ErrNotSuspended is returned by [Coroutine.Snapshot] before the first Resume.
	ErrNotSuspended = errors.New("the coroutine is not suspended")
	// ErrMismatch is returned by [Module.Restore], or by the first [Coroutine.Resume] after it, for a snapshot that doesn't belong
	// to the module.
	ErrMismatch = errors.New("the snapshot doesn't fit the module")
)

// ModuleError is returned for a module that can't be run: its bytes are malformed or invalid, it imports what nobody
// provides, or it needs a feature whose suspension durun doesn't support.
type ModuleError struct {
	Msg string
	Err error // may be nil
}

// Error implements error.
func (e *ModuleError) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return fmt.Sprintf("%s: %v", e.Msg, e.Err)
}

// Unwrap returns the cause.
func (e *ModuleError) Unwrap() error { return e.Err }

// CaptureError is returned, or is what a coroutine fails with, if it waits in a state that no snapshot can hold: with a
// reference of which nobody can say what it refers to, or with tables of more than [snapshot.MaxElements].
type CaptureError struct {
	Function uint32 // index of the function that has it, if HasFunction
	Name     string // the function's name, if the module has one for it
	Offset   int    // of the call at which it is suspended, from the first byte of the function's code
	Reason   string

	HasFunction bool
}

// Error implements error.
func (e *CaptureError) Error() string {
	if !e.HasFunction {
		return "the program can't be suspended here: " + e.Reason
	}
	name := ""
	if e.Name != "" {
		name = fmt.Sprintf(" (%s)", e.Name)
	}
	return fmt.Sprintf("the program can't be suspended in the call in function %d%s at offset %#x: %s", e.Function, name, e.Offset, e.Reason)
}
