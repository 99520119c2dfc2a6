package durun

import (
	"context"
	"os"
)

// ID returns the coroutine's id, to which others send messages.
func ID() string { return string(sized(abiID)) }

// Parent returns the id of the coroutine that has spawned this one; empty for one that was started otherwise.
func Parent() string { return os.Getenv("DURUN_PARENT") }

// Input returns the coroutine's input, or, after a [Yield], the value that it has received. It is empty if there is none.
func Input() []byte { return sized(abiInput) }

// SetOutput sets the coroutine's result to a copy of value. The last one counts, when the program has ended.
func SetOutput(value []byte) { abiOutput(value) }

// Yield hands a value to whoever drives the coroutine, and waits for one in return: empty if there is nothing to say. The
// command prints the value as a line. All goroutines stop meanwhile.
func Yield(value []byte) []byte {
	abiYield(value)
	return Input()
}

// Checkpoint waits until all that the program has done is durable. All goroutines stop meanwhile.
func Checkpoint() { abiCheckpoint() }

// Context returns a context that is cancelled when the coroutine is to be cancelled, with the cause [ErrCoroutineCancelled]. Once
// it was asked for, the coroutine need not wait for an operation to hear of it.
func Context() context.Context { return operations.useContext() }

// sized reads a value of a length that the host knows.
func sized(read func(buf []byte) int32) []byte {
	var buf []byte
	for {
		n := int(read(buf))
		if n <= len(buf) {
			return buf[:n]
		}
		buf = make([]byte, n)
	}
}
