// Package handler carries out the calls of coroutines: the operations of kind [hostabi.Call], by name.
//
// A [Set] has a handler for each name: a Go function, an HTTP endpoint ([HTTP]) or a command ([Exec]), and a [Policy] that
// says how often and for how long a call is tried, how many attempts may start in a second, and how many may run at once.
// [Set.Do] makes all attempts of one call.
//
// A call is carried out at least once. The process may die when a handler has done its work and before that is known, and
// then the call is made again, by another process perhaps, under the same [Call.Key]: a receiver that remembers keys makes
// it exactly once.
//
// How far a call has come that has not ended is its [Progress]. Whoever keeps that has the call go on from there in another
// process: with the number of the attempt, and after what is left of the pause.
//
// What a handler returns decides what becomes of the call:
//
//	a result           the operation ends with it
//	[Final]            the operation ends with [hostabi.CodeFailed]: to try again is of no use
//	[*Throttled]       the attempt doesn't count; all calls of that name pause, and go on more slowly
//	any other error    the attempt is repeated, after a pause that grows
//
// The package knows nothing of coroutines, snapshots or the engine; [github.com/durun/durun/runtime] starts calls when
// the commit that has them is durable, and keeps how they end.
package handler
