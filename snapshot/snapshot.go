package snapshot

import (
	"bytes"
	"slices"
	"time"
)

// PageSize is the unit in which memory is compared and stored, in bytes. A WebAssembly page is [WasmPageSize].
const PageSize = 4096

// WasmPageSize is the size of a WebAssembly page in bytes.
const WasmPageSize = 65536

// Hash is a SHA-256.
type Hash [32]byte

// Status says where a coroutine is in its life.
type Status string

// The states of a coroutine. Running is never stored: it is what a store's reader sees of a suspended coroutine that
// somebody drives.
const (
	Running   Status = "running"
	Suspended Status = "suspended"
	Completed Status = "completed"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Ended reports whether a coroutine in state s never runs again.
func (s Status) Ended() bool { return s == Completed || s == Failed || s == Cancelled }

// Snapshot is all that is needed to go on with a coroutine: one commit of it. It speaks WebAssembly, not durun: frames
// are call sites of the original module, values are by local index and operand depth.
type Snapshot struct {
	Module     Hash      // SHA-256 of the original module's bytes
	ModuleName string    // file name the module had, for people; may be empty
	Coroutine  string    // id
	Seq        uint64    // sequence number of this commit, from 1
	Parent     *Parent   // nil for the first commit
	Time       time.Time // wall time of the capture, UTC, to the nanosecond
	Status     Status
	Entry      string   // name of the export that was started
	Args       []Value  // its arguments
	InStart    bool     // the module's start function is still on the stack; Entry has not been called yet
	Await      *Await   // what a suspended coroutine waits for; nil once it has ended
	Frames     []Frame  // the call stack, outermost first; empty once it has ended
	Results    []Value  // the entry's results (Completed)
	ExitCode   uint32   // the guest's exit code, once ended
	Error      string   // why it failed (Failed): the trap with its stack
	Globals    []Global // the mutable globals
	Tables     []Table  // the tables that the module can change
	// DroppedData and DroppedElements are the segments that the guest has dropped, ascending.
	DroppedData, DroppedElements []uint32
	Memory                       Memory
	Host                         []Section // state of the host's modules, by name ascending
	Output                       []Output  // what the guest wrote since the parent commit
	Grants                       []Grant   // what the run was given outside; never leaves its store
	// Base is nil for a snapshot that is complete in itself. Else [Encode] makes a delta against it, and Memory.Pages are
	// the pages that have changed since, or are beyond its memory's end.
	Base *Base
}

// Parent names the commit before this one.
type Parent struct {
	Seq  uint64
	Hash Hash // the digest of the parent's encoded bytes, see [Digest]
}

// ValueType is a WebAssembly value type's code in the binary format: 0x7f i32, 0x7e i64, 0x7d f32, 0x7c f64, 0x7b v128,
// 0x70 funcref (as function index + 1, 0 for null).
type ValueType byte

// The value types that a snapshot can hold.
const (
	I32     ValueType = 0x7f
	I64     ValueType = 0x7e
	F32     ValueType = 0x7d
	F64     ValueType = 0x7c
	V128    ValueType = 0x7b
	FuncRef ValueType = 0x70
)

// Value is a typed value as bits: i32 and f32 in the low half of Lo, v128 in Lo and Hi.
type Value struct {
	Type   ValueType
	Lo, Hi uint64
}

// Frame is one activation of a function, suspended at a call.
type Frame struct {
	Function uint32 // index in the original module
	Offset   uint32 // of the call instruction, from the first byte of the function's code (its locals declaration)
	Slots    []Slot // what is live after the call: locals by index, then operands by depth
}

// Slot is a live local or operand of a frame.
type Slot struct {
	Operand bool   // an operand-stack slot rather than a local
	Index   uint32 // local index (parameters first), or depth from the bottom of the function's operand stack
	Value   Value
}

// Await is the host call at which a coroutine is suspended.
type Await struct {
	Import string    // "module.name" of the host function
	Args   []Value   // its arguments
	Kind   string    // what is waited for: "timer", "stdin", "yield", "checkpoint"
	Until  time.Time // when it is over at the latest, zero if only an event ends it
	Detail string    // for people: "sleep", "line of standard input"
	Data   []byte    // what the host function needs to complete the call, opaque here
}

// Global is the value of a mutable global, by index in the original module.
type Global struct {
	Index uint32
	Value Value
}

// Table is the contents of a table: function index + 1 for each element, 0 for null.
type Table struct {
	Index    uint32
	Elements []uint32
}

// Memory is linear memory as its size and the pages that differ from a base. Pages that are not listed equal the
// module's initial image, or are zero beyond it.
type Memory struct {
	Size  uint64 // bytes, a multiple of WasmPageSize; 0 where the module has no memory
	Max   uint64 // limit in bytes, as declared or given; 0 for none
	Pages []Page // by number, ascending
}

// Page is PageSize bytes of memory at Number*PageSize.
type Page struct {
	Number uint32
	Data   []byte
	// Old is what the page was in the base of a delta that is to be encoded; nil where the base doesn't list it.
	Old []byte
}

// Section is the state of one host module.
type Section struct {
	Name    string
	Version uint32
	Data    []byte
}

// Output is a stretch of what the guest wrote to one of its streams.
type Output struct {
	Stream uint8 // 1 stdout, 2 stderr
	Data   []byte
}

// Grant is something that the run was given: a mounted folder, or what the runtime and the command have beside it. Of the kind
// [GrantModule] it is a module in the store, which is kept as long as a commit has the grant.
type Grant struct {
	Kind  string // "dir", [GrantModule] and others
	Name  string // the guest's name for it: of a folder, its path
	Value string // what it is: of a folder, the host's path
	Flags string // of a folder, "ro"
}

// GrantModule is the kind of a grant that is a module, from which children may be started: its Name is what a spawn calls it, its
// Value the module's hash.
const GrantModule = "module"

// grantedModules returns the hashes of the modules that the snapshot's grants name, ascending.
func (s *Snapshot) grantedModules() []Hash {
	var hashes []Hash
	for _, g := range s.Grants {
		if g.Kind == GrantModule {
			if h, err := ParseHash(g.Value); err == nil {
				hashes = append(hashes, h)
			}
		}
	}
	slices.SortFunc(hashes, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(hashes)
}
