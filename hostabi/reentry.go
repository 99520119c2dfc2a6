package hostabi

import (
	"fmt"
	"strings"
)

// ReentryError is returned by [Guest.Call] when the function called can't go on without suspending: a host function that is
// in the middle of the stack can't be captured. The guest is as after a trap in that function: what it had written stays
// written. It can be called again, and may suspend once the host function has returned.
type ReentryError struct {
	Host  string // the host function in the middle, for example "env.sort"
	Await string // the host function that would have suspended, for example "wasi_snapshot_preview1.poll_oneoff"
	For   string // what it would have waited for; may be empty

	// Function is the guest's function that called Await, as an index in the original module, Name its name if the module
	// has one for it, and Offset that of the call, from the first byte of the function's code. HasFunction is false if Await
	// itself was called by the host.
	Function    uint32
	Name        string
	Offset      uint32
	HasFunction bool
}

// Error implements error.
func (e *ReentryError) Error() string {
	var b strings.Builder
	if e.HasFunction {
		fmt.Fprintf(&b, "function %d", e.Function)
		if e.Name != "" {
			fmt.Fprintf(&b, " (%s)", e.Name)
		}
		fmt.Fprintf(&b, ", offset %#x: ", e.Offset)
	}
	fmt.Fprintf(&b, "can't suspend in %s", e.Await)
	if e.For != "" {
		fmt.Fprintf(&b, " (%s)", e.For)
	}
	fmt.Fprintf(&b, ": the host function %s is on the stack, and can't be captured", e.Host)
	return b.String()
}
