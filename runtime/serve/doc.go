// Package serve offers the coroutines of a [runtime.Scheduler] over HTTP: to start them, feed them, and ask what has become of
// them. [New] returns an [http.Handler] for a Go program to mount where it likes.
//
// It asks nobody who they are. Whoever reaches it can start what it offers, and read, end and remove every coroutine of the
// store, so the program puts its own authentication in front, as middleware.
//
//	POST   /coroutines?program=NAME      start one of the programs; the body is its input     201
//	GET    /coroutines                   all coroutines of the store                          200
//	GET    /coroutines/ID                one of them                                          200
//	DELETE /coroutines/ID                remove one that has ended, with its children         204
//	GET    /coroutines/ID/result         what it has set with durun.output                    200
//	GET    /coroutines/ID/output         what it has written to standard output               200
//	POST   /coroutines/ID/messages/NAME  leave a message; the body is its data                202
//	POST   /coroutines/ID/resume         take it on                                           202
//	POST   /coroutines/ID/cancel         ask it to end                                        202
//
// # Requests
//
//	start        id=ID                its id; else a random one. Repeated with the same id it is answered with 409: so a
//	                                  client that had no answer asks again, and the coroutine is started once
//	             arg=…                an argument of the program; any number
//	list         status=STATUS        only those of that status; any number
//	             limit=N              a page of at most 1000; the header Link has the next one, with rel="next", if there is more
//	             after=ID             what comes in the list after that coroutine, which may have been removed since
//	get, result  wait=DURATION        such as 30s: the answer comes when the coroutine has ended, whoever drives it, or after that
//	                                  time, which is cut off at [Config].MaxWait. A result is then 409 not_ended
//	             If-None-Match        the ETag of an earlier answer: 304 if nothing has changed; also for a page of the list
//	result       Accept               with application/json a result that is JSON comes as that; else bytes are bytes
//	output       stream=STREAM        stdout, stderr or all. What is damaged or missing in the store is left out; the answer is then
//	                                  cut off at its end, in a way that HTTP shows
//	message      Idempotency-Key      of several with one key the coroutine receives the first; the answer has key and duplicate
//
// What takes GET takes HEAD as well. A start is answered when the coroutine is durable, and its header Location is where it
// is; a message is, when it lies in the store; the request to end is a message, so the coroutine may go on for a while. One
// that has not ended is not removed: cancel it, wait, then remove it. One whose last commit is damaged is, since nobody can go
// on with it.
//
// # Answers
//
// A coroutine is a JSON object. A list is an array of them; without a limit it comes as it is read, however long, and is cut off
// in a way that HTTP shows if something fails on the way.
//
//	id           its id
//	status       running while this scheduler drives it; suspended, completed, failed or cancelled; unreadable, in a list only, if
//	             its last commit is damaged
//	module       the SHA-256 of its module
//	module_name  the module's name
//	seq          the number of its last commit
//	waiting      what it waits for: an object with kind, detail and until (null if only an event ends it); null if it doesn't wait
//	exit_code    null until the end
//	updated      when the last commit was made
//	error        why it failed; left out if it didn't
//
// Results and output are bytes: application/octet-stream and text/plain.
//
// An error is a JSON object with the key error, an object with code and message:
//
//	400  invalid             the request makes no sense: its query, a parameter, an id, a message's name
//	404  not_found           there is no such coroutine, or nothing at this path
//	405  method_not_allowed  see the header Allow
//	409  exists              a coroutine of that id
//	409  ended               it can't be sent to, resumed or cancelled any more
//	409  not_ended           it, or a child of it, can't be removed yet; it has no result yet
//	409  awaited             it can't be removed, as its parent has not ended, and may wait for it
//	409  busy                somebody else holds it for a moment
//	413  too_large           the body has more than [Config].MaxBody bytes
//	422  failed              there is no result, as it has failed or was cancelled
//	500  internal            see [Config].OnError
//	503  unavailable         the store can't be reached, or the scheduler is closed
//
// Who gets 503 or busy may repeat the request after the time that the header Retry-After says.
package serve
