package wasm

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnsupported is wrapped by errors about a valid module that uses a part of WebAssembly which durun can't run,
// such as threads. The message names the part.
var ErrUnsupported = errors.New("unsupported WebAssembly feature")

// FormatError says where and why a module isn't one that this package accepts.
type FormatError struct {
	// Section is the section's name in the specification, "" outside any.
	Section string
	// Item says which entry of the section is meant, such as "function 3", in the terms of the index space. It may be "".
	Item string
	// Offset is in bytes from the start of the file; from [Reader] alone, from the start of the slice it reads. It is
	// -1 where a module was not decoded but built, so that there is no file.
	Offset int
	// Msg says what is wrong. It may be "" if Err says it.
	Msg string
	// Err is the cause, or nil.
	Err error
}

// Error gives the place, then the message, then the cause.
func (e *FormatError) Error() string {
	var b strings.Builder
	b.WriteString("wasm:")
	if e.Section != "" {
		b.WriteString(" " + e.Section + " section")
	}
	if e.Item != "" {
		b.WriteString(" " + e.Item)
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " at byte %#x", e.Offset)
	}
	if b.Len() > len("wasm:") {
		b.WriteByte(':')
	}
	if e.Msg != "" {
		b.WriteString(" " + e.Msg)
		if e.Err != nil {
			b.WriteByte(':')
		}
	}
	if e.Err != nil {
		b.WriteString(" " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// unsupported returns an error that names a feature which durun doesn't run.
func unsupported(feature string) error { return fmt.Errorf("%w: %s", ErrUnsupported, feature) }
