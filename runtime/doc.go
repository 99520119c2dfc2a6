// Package runtime runs WebAssembly programs as durable coroutines.
//
// A [Runtime] holds compiled code and the host's modules. [Runtime.Compile] makes a program suspendable, whatever
// compiler it came from, and compiles it. [Module.Start] begins a [Coroutine]; [Coroutine.Resume] drives it to its next
// await point, a host call that has to wait. There [Coroutine.Snapshot] captures all of it, and [Module.Restore] goes on
// from a snapshot, in this process or another, on this machine or another. A [Driver] does these in a loop, committing to
// a [snapshot.Store] at each await point; it captures what has changed since the last commit ([Coroutine.Capture]), and
// goes on from a chain of such commits ([Module.RestoreChain]).
//
// A [Scheduler] does the same for very many coroutines on few threads, and for their children; package serve offers that over
// HTTP. What coroutines wait for comes from outside: results of calls, which handlers carry out (package handler), messages
// ([snapshot.Store.Send]), and results of children. A [Driver] has these as its [Outside], a Scheduler brings them along.
//
// A coroutine is used by one goroutine at a time; many run in parallel.
package runtime
