// Package instrument makes a WebAssembly module suspendable.
//
// [Transform] rewrites a module into its running form: every call that may lead to an await point is followed by one
// test, and code out of the way stores the frame when the test says that the stack is being unwound. [Resume] builds,
// for the frames of one snapshot, a second small module whose functions are the continuations of exactly those calls;
// it shares memory, globals, tables and functions with an instance of the running form. Calling its entry rebuilds the
// stack.
//
// Frames leave the package in the original module's terms: function index, offset of the call in the function's code,
// values by local index and operand depth. DESIGN.md explains the algorithm and its invariants.
//
// The package knows [wasm] and nothing of the engine, the snapshot format or the host. Its output is deterministic.
package instrument
