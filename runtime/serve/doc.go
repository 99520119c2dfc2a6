// Package serve offers the coroutines of a [runtime.Scheduler] over HTTP: to start them, feed them, and ask what has become of
// them. [New] returns an [http.Handler] for a Go program to mount where it likes.
//
// It asks nobody who they are. Whoever reaches it can start what it offers, and read and end every coroutine of the store, so
// the program puts its own authentication in front, as middleware.
//
//	POST /coroutines?program=NAME      start one of the programs; the body is its input
//	GET  /coroutines                   all coroutines of the store
//	GET  /coroutines/ID                one of them
//	GET  /coroutines/ID/result         what it has set with durun.output
//	GET  /coroutines/ID/output         what it has written to standard output
//	POST /coroutines/ID/messages/NAME  leave a message; the body is its data
//	POST /coroutines/ID/resume         take it on
//	POST /coroutines/ID/cancel         ask it to end
//
// A start takes id=ID (else a random one) and any number of arg=… for the program's arguments. It is answered with 201 when the
// coroutine is durable. Repeated with the same id it is answered with 409: so a client that had no answer asks again, and the
// coroutine is started once.
//
// A message may have a header Idempotency-Key: of several with one key the coroutine receives the first.
//
// GET of a coroutine or its result takes wait=DURATION, such as 30s: the answer then comes when the coroutine has ended, or
// after that time.
//
// A coroutine is a JSON object with the keys id, status (running while this scheduler drives it; suspended, completed, failed or
// cancelled), module (SHA-256), module_name, seq, waiting (kind, detail and until; null if it doesn't wait), exit_code (null until the
// end), updated and, where there is one, error. The list is an array of them.
//
// An error is a JSON object with the key error, which has code and message: 400 invalid, 404 not_found, 409 exists, busy, ended or
// not_ended, 413 too_large, 422 failed (there is no result), 500 internal, 503 unavailable.
package serve
