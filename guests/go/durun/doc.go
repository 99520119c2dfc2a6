// Package durun is for Go programs that run under durun: compiled with GOOS=wasip1 GOARCH=wasm, suspended where they wait,
// and gone on with elsewhere. A program needs none of it to be durable, time.Sleep and files are so by themselves. What it
// adds is something else to wait for: calls of handlers on the host, messages, timers, and children.
//
//	for i, to := range emails {
//		wg.Go(func() { receipts[i], errs[i] = durun.CallJSON[Receipt](ctx, "send_email", Mail{To: to}) })
//	}
//	wg.Wait()
//
// # Operations
//
// [Call], [Timer], [Recv] and [Spawn] begin an operation and return it as an [Op] at once. It leaves with the next
// commit, so the next time that the program waits; then it happens at least once, however often the machine dies, and
// the program sees its end exactly once. A handler gets an idempotency key, the same at each attempt.
//
// An Op has a [Op.Done] channel for select, and [Op.Wait]. [All], [Any], [Race] and [Some] wait for several. A goroutine that
// waits lets the others go on: timers of Go, and other operations. So goroutines and a sync.WaitGroup are as good a way
// to do things in parallel as any.
//
// # Cancellation
//
// A coroutine can be asked to end ("durun cancel"; or its parent has ended). Then [Context] is cancelled, and each Wait that is
// under way, whatever its context, returns [ErrCoroutineCancelled]. The program may clean up, for which it can begin and wait as
// ever, and ends. Waits that start afterwards are not disturbed. There are no signals: signal.Notify has Go's scheduler spin, so that
// waits don't end.
//
// # TinyGo
//
// The package has a variant for TinyGo (target wasip1); its tests have stock Go compile that. Waiting stops all goroutines there,
// as soon as all have had their turn and none has begun anything. So they wait for operations together; but time.Sleep, and
// contexts with a time-out, don't go on meanwhile: use [Sleep] and [Timer].
//
// # Where it runs
//
// Beside the import module "durun", it reads the file /durun/events, which the command offers, and a program that embeds durun if
// it asks for that (wasi.Config.Durun). With TinyGo the module is enough. On other platforms the package compiles, for the sake
// of tools, and panics.
package durun
