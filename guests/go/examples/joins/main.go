// Command joins waits for several operations in all ways, and has operations end in all ways. It asks for the handlers "echo",
// which answers with its argument, "silent", which answers nothing, "fail", which fails, and "stop", which has this program
// cancelled.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/durun/durun/guests/go/durun"
)

var ctx = context.Background()

// index says which of the list an operation is.
func index(ops []*durun.Op, op *durun.Op) int { return slices.Index(ops, op) }

func timers() {
	ops := []*durun.Op{durun.Timer(time.Hour), durun.Timer(time.Millisecond), durun.Timer(-1)}
	ended, err := durun.Some(ctx, 2, ops...)
	fmt.Println("some:", len(ended), err)
	_, err = ops[0].Result()
	fmt.Println("result:", err, errors.Is(err, durun.ErrPending))
	winner, err := durun.Race(ctx, ops...)
	fmt.Println("race:", index(ops, winner), err) // two are over: the first in the list
	ops[0].Cancel()
	_, err = ops[0].Wait(ctx)
	fmt.Println("cancelled:", err, errors.Is(err, durun.ErrCancelled))
	ended, err = durun.Some(ctx, 7, ops...)
	fmt.Println("settled:", len(ended), err)
	_, err = durun.All(ctx, ops...)
	fmt.Println("all:", err)
	results, err := durun.All(ctx, ops[1:]...)
	fmt.Println("all of those that end well:", len(results), err)
}

func calls() {
	ops := []*durun.Op{durun.Call("fail", []byte("me")), durun.Call("echo", []byte("hello")), durun.Call("no such handler", nil)}
	winner, err := durun.Any(ctx, ops...)
	fmt.Println("any:", index(ops, winner), err)
	result, err := winner.Wait(ctx)
	fmt.Printf("%v: %s %v\n", winner, result, err)
	_, err = ops[0].Wait(ctx)
	fmt.Println("fail:", err, errors.Is(err, durun.ErrFailed))
	_, err = ops[2].Wait(ctx)
	fmt.Println("no such handler:", errors.Is(err, durun.ErrDenied))
	_, err = durun.Any(ctx, ops[0], ops[2])
	fmt.Println("any of failures:", errors.Is(err, durun.ErrFailed), errors.Is(err, durun.ErrDenied))

	n, err := durun.CallJSON[int](ctx, "echo", 42)
	fmt.Println("json:", n, err)
	_, err = durun.CallJSON[int](ctx, "echo", "42")
	fmt.Println("json:", err)
	nothing, err := durun.CallJSON[any](ctx, "silent", nil)
	fmt.Println("json:", nothing, err)
	large, err := durun.Call("echo", make([]byte, 1<<20)).Wait(ctx)
	fmt.Println("large:", len(large), err)
}

// mistakes waits for nothing: what is wrong from the start has ended.
func mistakes() {
	nameless := durun.Call("", nil)
	_, err := nameless.Wait(ctx)
	fmt.Println("nameless:", nameless.Number(), err, errors.Is(err, durun.ErrInvalid))
	nameless.Cancel()
	_, err = durun.Call("echo", make([]byte, 17<<20)).Wait(ctx)
	fmt.Println("too large:", errors.Is(err, durun.ErrLimit))
	_, err = durun.All(ctx)
	fmt.Println("all of none:", err)
	_, err = durun.Any(ctx)
	fmt.Println("any of none:", errors.Is(err, durun.ErrInvalid))
	_, err = durun.Race(ctx)
	fmt.Println("race of none:", errors.Is(err, durun.ErrInvalid))

	gone, cancel := context.WithCancel(ctx)
	cancel()
	fmt.Println("a context that is done:", durun.Sleep(gone, time.Hour))
}

func stop() {
	stopped := durun.Context()
	durun.Call("stop", nil)
	err := durun.Sleep(ctx, time.Hour)
	fmt.Println("sleep:", err, errors.Is(err, durun.ErrCoroutineCancelled), errors.Is(err, context.Canceled))
	fmt.Println("context:", stopped.Err(), "because", context.Cause(stopped))
	fmt.Println("sleep, in that context:", durun.Sleep(stopped, time.Hour))
	fmt.Println("sleep, to clean up:", durun.Sleep(ctx, time.Millisecond))
}

func main() {
	fmt.Printf("id: %s, parent: %q\n", durun.ID(), durun.Parent())
	timers()
	calls()
	mistakes()
	durun.Checkpoint()
	stop()
	durun.SetOutput([]byte("done"))
}
