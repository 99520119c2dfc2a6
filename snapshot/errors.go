package snapshot

import (
	"errors"
	"fmt"
	"strings"
)

// Errors about bytes and snapshots, to be asked for with errors.Is. A [FormatError] carries the details.
var (
	// ErrCorrupt is returned for bytes that are no encoding of a snapshot, module or bundle: damaged, truncated, hostile or
	// something else altogether.
	ErrCorrupt = errors.New("corrupt data")
	// ErrVersion is returned for data that a newer durun wrote, in a version of the format that this one doesn't know.
	ErrVersion = errors.New("newer format version")
	// ErrKey is returned for what is encrypted under a key that isn't there. A [KeyError] names the keys.
	ErrKey = errors.New("no key for it")
	// ErrInvalid is returned by Encode, and whatever encodes, for a snapshot that breaks a rule of the format.
	ErrInvalid = errors.New("invalid snapshot")
)

// Errors of a store, to be asked for with errors.Is. Those of package bucket come through it too: [bucket.ErrPermission],
// [bucket.ErrFull], [bucket.ErrUnavailable].
var (
	// ErrNotFound is returned for a coroutine, commit or module that the store doesn't have.
	ErrNotFound = errors.New("not found")
	// ErrExist is returned for a coroutine that the store has already.
	ErrExist = errors.New("coroutine exists")
	// ErrFenced is returned for a commit whose sequence number somebody else has committed: another driver is ahead, and
	// this one must stop.
	ErrFenced = errors.New("fenced off")
	// ErrBusy is returned if somebody else drives the coroutine.
	ErrBusy = errors.New("coroutine is busy")
	// ErrAmbiguous is returned if a prefix fits several coroutines. An [AmbiguousError] names them.
	ErrAmbiguous = errors.New("ambiguous id")
	// ErrEnded is returned for a coroutine that has ended, where only one that hasn't will do.
	ErrEnded = errors.New("coroutine has ended")
	// ErrInUse is returned if a shared base can't be deleted because coroutines need it. An [InUseError] names them.
	ErrInUse = errors.New("in use")
	// ErrID is returned for a coroutine id that [ValidID] refuses.
	ErrID = errors.New("invalid id")
)

// FormatError says what is wrong with a snapshot or its bytes, and where.
type FormatError struct {
	// Section is the part that is wrong: header, manifest, output, state, memory, digest, module, log, commit, data, or a part of
	// the state: frames, globals and so on.
	Section string
	// Offset is the byte in the section's decoded content at which it was noticed; for header, manifest and digest from the
	// start of the data. -1 where there is none.
	Offset int64
	Msg    string // what is wrong
	Err    error  // ErrCorrupt, ErrVersion or ErrInvalid
}

// Error implements error.
func (e *FormatError) Error() string {
	var b strings.Builder
	if e.Err != nil {
		b.WriteString(e.Err.Error())
		b.WriteString(": ")
	}
	b.WriteString(e.Section)
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " at byte %d", e.Offset)
	}
	b.WriteString(": ")
	b.WriteString(e.Msg)
	return b.String()
}

// Unwrap returns Err.
func (e *FormatError) Unwrap() error { return e.Err }

// AmbiguousError is the error of [Store.Resolve] for a prefix that fits several coroutines. It is [ErrAmbiguous].
type AmbiguousError struct {
	Prefix string
	IDs    []string // some of those that fit, ascending; at most 10
	More   bool     // there are others
}

// Error implements error.
func (e *AmbiguousError) Error() string {
	more := ""
	if e.More {
		more = ", …"
	}
	return fmt.Sprintf("%v: %q fits %s%s", ErrAmbiguous, e.Prefix, strings.Join(e.IDs, ", "), more)
}

// Unwrap returns [ErrAmbiguous].
func (e *AmbiguousError) Unwrap() error { return ErrAmbiguous }

// InUseError is the error of [Store.DeleteBase] for a base that is needed. It is [ErrInUse].
type InUseError struct {
	Name       string   // the base's
	Coroutines []string // ids of those that need it, ascending; none if one is about to be started from it
}

// Error implements error.
func (e *InUseError) Error() string {
	const some = 10
	switch n := len(e.Coroutines); {
	case n == 0:
		return fmt.Sprintf("%v: a coroutine is being started from it", ErrInUse)
	case n > some:
		return fmt.Sprintf("%v: %d coroutines need it, among them %s", ErrInUse, n, strings.Join(e.Coroutines[:some], ", "))
	default:
		return fmt.Sprintf("%v: needed by %s", ErrInUse, strings.Join(e.Coroutines, ", "))
	}
}

// Unwrap returns [ErrInUse].
func (e *InUseError) Unwrap() error { return ErrInUse }

func corrupt(section string, offset int, format string, args ...any) *FormatError {
	return &FormatError{Section: section, Offset: int64(offset), Msg: fmt.Sprintf(format, args...), Err: ErrCorrupt}
}
