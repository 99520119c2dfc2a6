package linmem

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// tracking is how memories lie and how writes are known.
type tracking int

const (
	auto        tracking = iota
	userfaultfd          // mapped, and the kernel says what was written
	compare              // mapped; all pages that take memory are compared
	heap                 // on Go's heap; all pages are compared
)

var trackings = map[tracking]string{userfaultfd: "userfaultfd", compare: "compare", heap: "heap"}

func (t tracking) String() string { return trackings[t] }

// trackingVariable is the environment variable that makes do with less than the platform has: "compare" or "heap". Anything
// else is as if it weren't set.
const trackingVariable = "DURUN_TRACKING"

// Tracking says how the memories of this process know what was written, and why not better:
//
//	userfaultfd  the kernel tells. The error is nil
//	compare      memories are mapped, and all pages that the guest has ever written are compared
//	heap         memories are on Go's heap, and all pages are compared
//
// The environment variable DURUN_TRACKING, set to "compare" or "heap", has the process use that. The answer stays the same
// for the life of the process.
func Tracking() (string, error) {
	c := choose()
	return c.tracking.String(), c.reason
}

func mode() tracking { return choose().tracking }

type choice struct {
	tracking tracking
	reason   error
}

var choose = sync.OnceValue(func() choice {
	asked := fmt.Errorf("%s is set", trackingVariable)
	switch v := os.Getenv(trackingVariable); {
	case !canMap:
		return choice{heap, fmt.Errorf("linmem: memories aren't mapped on this platform: %w", errors.ErrUnsupported)}
	case v == heap.String():
		return choice{heap, asked}
	case v == compare.String():
		return choice{compare, asked}
	}
	if err := probe(); err != nil {
		return choice{compare, err}
	}
	return choice{userfaultfd, nil}
})
