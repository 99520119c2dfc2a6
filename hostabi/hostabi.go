package hostabi

import (
	"context"
	"errors"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// Module describes an import module that the host provides: its name, functions and globals. It is the same for all
// coroutines; what belongs to one of them is in its [Instance], which a module without functions has no use for.
//
// Memories, tables and tags are not offered: a guest that imports one gets its own.
type Module struct {
	Name      string // as the guest imports it, for example "wasi_snapshot_preview1"
	Functions []Function
	Globals   []Global
}

// Global is a global that a guest may import, with this type and mutability, and what it starts with. Each coroutine has
// its own. A mutable one is in snapshots; one that isn't is part of the program, so it should have the same value in every
// process that goes on with a coroutine.
type Global struct {
	Name    string
	Type    api.ValueType // a number's, or 0x7b for a v128
	Mutable bool
	Value   uint64 // as bits; the lower half of a v128
	High    uint64 // the upper half of a v128
}

// Function is one host function. Exactly one of Call and Await is set.
//
// Both find their arguments in stack and leave their results there from index 0, as wazero's [api.GoModuleFunc]; stack
// has room for the larger of the two. They run on the guest's goroutine, and only one runs at a time for each coroutine.
// They may panic with an error: the guest traps with it; [sys.ExitError] (of wazero's sys package) ends the guest
// with that exit code.
type Function struct {
	Name            string
	Params, Results []api.ValueType

	// Call runs a function that never suspends.
	Call func(ctx context.Context, g *Guest, i Instance, stack []uint64)

	// Await runs a function that may suspend: an await point.
	//
	// The guest's call arrives with p nil. The function either completes (results in stack, return nil), or returns
	// what it waits for; then it must have left the guest's memory and its own state as they were, but for what makes
	// a repetition of the call harmless. The runtime captures the coroutine, and perhaps takes it elsewhere. When it is
	// driven on, Await is called again, with the same arguments and the Pending it returned, until it completes.
	// It doesn't block: waiting is [Instance.Wait]'s.
	Await func(ctx context.Context, g *Guest, i Instance, stack []uint64, p *Pending) *Pending
}

// Guest is what a host function sees of the coroutine that calls it.
type Guest struct {
	// Memory is the guest's linear memory, nil if it has none. It must not be kept over calls.
	Memory api.Memory
	// Output takes what the guest writes to standard output (stream 1) or error (2). The runtime keeps it until the next
	// commit, which stores it, and passes it on to whoever watches. p is not kept.
	Output func(stream uint8, p []byte) error
	// Coroutine is the coroutine itself: its operations, input and result.
	Coroutine Coroutine
	// Call calls a function that the guest exports, with arguments and results as bits. Only a host function may use it, on
	// the goroutine on which it runs and while it does, be it a Call or an Await. The guest may call host functions in turn,
	// which may call the guest. Afterwards views of Memory have to be read again, as the guest may have grown it.
	//
	// The function can't suspend: an Await in it has to complete at once. If one can't, Call returns a *[ReentryError].
	// Other errors are a trap's, with the guest's stack; one that wraps wazero's *[sys.ExitError] if the guest has called
	// exit; and ctx's, when that is done, or the coroutine is to be stopped, and the guest calls a host function or computes for
	// long. The guest stays usable, so the host function may go on; or it panics with the error, and its caller traps, exits or
	// is stopped.
	Call func(ctx context.Context, export string, args ...uint64) ([]uint64, error)
}

// Pending is what a suspended call waits for. It travels in the snapshot.
type Pending struct {
	Kind   string    // "timer", "stdin", "yield", "checkpoint", "operations"
	Until  time.Time // when the wait is over at the latest; zero if only an event ends it
	Detail string    // for people, for example "sleep" or "input from fd 0"; empty stands for what Ops are
	Data   []byte    // the function's own, opaque to the runtime
	// Quiet says that nothing leaves the program with this wait and nothing enters it when it is over, but that time
	// has passed. Whoever drives the coroutine may go without a commit there. It does not travel.
	Quiet bool

	// Ops, if not empty, are operations of the coroutine, and the call may complete when they have ended as Min and Success
	// say, see [Wait]. They are beside what [Instance.Wait] waits for, which is not called if there is nothing else: if Kind
	// is [KindOperations].
	Ops     []uint32
	Min     uint32
	Success bool
	// Cancellable says that the call can tell the guest that the coroutine is to be cancelled. Where it isn't set, a
	// coroutine that is cancelled ends there and then.
	Cancellable bool
}

// The kinds of [Pending] that durun knows.
const (
	KindTimer      = "timer"
	KindStdin      = "stdin"
	KindYield      = "yield"
	KindCheckpoint = "checkpoint"
	KindOperations = "operations" // [Pending].Ops and Until, and nothing else
)

// ErrStateVersion is returned by [Instance].Restore for a state of a version that it doesn't know: a newer durun has saved it.
var ErrStateVersion = errors.New("state of a newer version")

// ErrState is returned by [Instance].Restore for bytes that are no state: they are damaged, or made up.
var ErrState = errors.New("damaged state of a host module")

// Instance is the state of a [Module] for one coroutine. The runtime calls it from one goroutine at a time, except for
// Wait, which may run beside nothing else but Close.
type Instance interface {
	// Module returns the description, the same value each time.
	Module() *Module
	// Save returns the state as bytes, the same bytes for the same state. It is called while the coroutine is
	// suspended, and changes nothing. version is the encoding's.
	Save() (version uint32, data []byte, err error)
	// Restore takes over a saved state, in a fresh instance, before the guest runs. Bytes that don't decode are [ErrState]; a
	// version that a later build of the module has saved, and this one doesn't know, is [ErrStateVersion].
	Restore(version uint32, data []byte) error
	// Wait blocks until p, returned by one of the module's functions, may complete, or ctx is done; then it returns
	// ctx's error. It may return early.
	Wait(ctx context.Context, p *Pending) error
	// Close releases what the instance holds outside the guest. The coroutine does not run any more.
	Close() error
}

// PartedInstance is an [Instance] that keeps some of its state in parts, beside what Save returns. Each is stored by itself:
// a commit holds those that have changed since the one before. So it is for state that is large, and changes here and there.
type PartedInstance interface {
	Instance
	// SaveParts returns the parts, by name ascending; it is called after Save, but not when the guest has ended. The slices
	// stay the caller's, and their content must not change afterwards: an instance that goes on writing makes a copy first. A
	// part that has not changed since the last call is best returned as the same slice: then nobody has to look into it.
	SaveParts() ([]Part, error)
	// RestoreParts takes over saved parts, some or none, before Restore is called, with the version that Save returned. They
	// are the caller's, and must not be changed.
	RestoreParts(version uint32, parts []Part) error
}

// ProgramInstance is an [Instance] that gives the program its arguments and environment, which a child of the coroutine takes over.
type ProgramInstance interface {
	Instance
	// Program returns the arguments, the program's name first, and the environment, NAME=VALUE each. They must not be changed.
	Program() (args, env []string)
}

// Part is one part of the state of a [PartedInstance].
type Part struct {
	Name string // printable, not empty; in a snapshot it stands after the module's name and a "#"
	Data []byte
}
