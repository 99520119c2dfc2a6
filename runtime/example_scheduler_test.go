package runtime_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// compiled compiles the guests of testdata/wat/coroutines.wat, each of which is an export.
func compiled(ctx context.Context) (*runtime.Runtime, *runtime.Module) {
	r, err := runtime.New(ctx, runtime.NewConfig())
	if err != nil {
		panic(err)
	}
	code, err := os.ReadFile("../testdata/wat/coroutines.wasm")
	if err != nil {
		panic(err)
	}
	module, err := r.Compile(ctx, code)
	if err != nil {
		panic(err)
	}
	return r, module
}

// A coroutine makes ten calls at once, which a Go function carries out, and adds the answers up.
func ExampleScheduler() {
	ctx := context.Background()
	r, module := compiled(ctx)
	defer r.Close(ctx)

	var handlers handler.Set
	handlers.Handle("echo", func(_ context.Context, c handler.Call) ([]byte, error) {
		return c.Body, nil // c.Key is the same each time that this call is made
	}, handler.Policy{Rate: 1000, Concurrency: 4})

	s := runtime.NewScheduler(r, runtime.SchedulerConfig{
		Store:    snapshot.NewStore(bucket.NewMem()),
		Handlers: &handlers,
	})
	defer s.Close(ctx)
	input := binary.LittleEndian.AppendUint32(nil, 10)
	id, err := s.Start(ctx, runtime.Program{Module: module, Entry: "fan", Input: input})
	if err != nil {
		panic(err)
	}
	outcome, err := s.Wait(ctx, id)
	if err != nil {
		panic(err)
	}
	fmt.Println(outcome.Status, binary.LittleEndian.Uint32(outcome.Result))

	// Output:
	// completed 45
}

// A coroutine waits for a message. The process ends, another one goes on with all that the store has.
func ExampleScheduler_Send() {
	ctx := context.Background()
	r, module := compiled(ctx)
	defer r.Close(ctx)
	store := snapshot.NewStore(bucket.NewMem()) // or a folder, or a bucket

	first := runtime.NewScheduler(r, runtime.SchedulerConfig{Store: store})
	forEver := binary.LittleEndian.AppendUint64(nil, 1<<64-1)
	if _, err := first.Start(ctx, runtime.Program{ID: "order-7", Module: module, Entry: "approve", Input: forEver}); err != nil {
		panic(err)
	}
	if err := first.Close(ctx); err != nil {
		panic(err)
	}

	second := runtime.NewScheduler(r, runtime.SchedulerConfig{Store: store})
	defer second.Close(ctx)
	n, err := second.ResumeAll(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(n, "resumed")
	if _, err := second.Send(ctx, "order-7", snapshot.Message{Name: "approval", Data: []byte("granted")}); err != nil {
		panic(err)
	}
	outcome, err := second.Wait(ctx, "order-7")
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s: %s\n", outcome.Status, outcome.Result)

	// Output:
	// 1 resumed
	// completed: granted
}

// A coroutine starts three others, and adds up what they return.
func ExampleScheduler_children() {
	ctx := context.Background()
	r, module := compiled(ctx)
	defer r.Close(ctx)
	s := runtime.NewScheduler(r, runtime.SchedulerConfig{Store: snapshot.NewStore(bucket.NewMem())})
	defer s.Close(ctx)
	input := binary.LittleEndian.AppendUint32(nil, 3)
	if _, err := s.Start(ctx, runtime.Program{ID: "sum", Module: module, Entry: "parent", Input: input}); err != nil {
		panic(err)
	}
	outcome, err := s.Wait(ctx, "sum")
	if err != nil {
		panic(err)
	}
	child, err := s.Outcome(ctx, runtime.ChildID("sum", 3))
	if err != nil {
		panic(err)
	}
	fmt.Println(binary.LittleEndian.Uint32(outcome.Result), binary.LittleEndian.Uint32(child.Result))

	// Output:
	// 6 4
}
