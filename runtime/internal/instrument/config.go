package instrument

import (
	"fmt"

	"github.com/durun/durun/runtime/internal/wasm"
)

// Version counts the changes of what [Transform] and [Running.Strip] emit. Caches of their output are keyed by it; snapshots don't depend
// on it.
const Version = 18

// Config says what suspends.
type Config struct {
	// Await reports whether an imported function is an await point.
	Await func(module, name string) bool
	// Choices is for tests.
	Choices Choices
}

// UnsupportedError is returned for a module that uses a feature whose suspension isn't supported.
type UnsupportedError struct {
	Function uint32 // index of the function, meaningful if HasFunction
	Name     string // its name, if the module has one for it
	Offset   int    // of the instruction, from the first byte of the function's code
	Feature  string

	HasFunction bool
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	if !e.HasFunction {
		return "not supported yet: " + e.Feature
	}
	name := ""
	if e.Name != "" {
		name = fmt.Sprintf(" (%s)", e.Name)
	}
	return fmt.Sprintf("function %d%s, offset %#x: not supported yet: %s", e.Function, name, e.Offset, e.Feature)
}

// Slot is a live value of a frame: a local, or an operand below the call's results. A snapshot has one type for all references to
// functions, [wasm.FuncRef].
type Slot struct {
	Operand bool
	Index   uint32 // of the local, parameters first; or the operand's depth, counted from the bottom of the stack
	Type    wasm.ValueType
}

// Site is a call that may suspend.
type Site struct {
	Function uint32 // index in the original module
	Offset   uint32 // of the call instruction, from the first byte of the function's code
	Slots    []Slot // what is live after the call: locals by index, then operands by depth
	Try      bool   // the call is inside a try_table
}

// Words returns how many 64-bit words the site's values take: two for a v128, one for any other.
func (s *Site) Words() int {
	n := 0
	for _, sl := range s.Slots {
		n += words(sl.Type)
	}
	return n
}

func words(t wasm.ValueType) int {
	if t == wasm.V128 {
		return 2
	}
	return 1
}
