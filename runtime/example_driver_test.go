package runtime_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// A driver commits the generator of the field's textbook at each value, and is stopped after the second. Another one goes on from
// the last commit. It hands out the second value again, as it can't know that the first one has.
func ExampleDriver() {
	ctx := context.Background()
	code, err := os.ReadFile("../testdata/wat/generator.wasm")
	if err != nil {
		panic(err)
	}
	r, err := runtime.New(ctx, runtime.NewConfig())
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx)
	module, err := r.Compile(ctx, code)
	if err != nil {
		panic(err)
	}
	store := snapshot.NewStore(bucket.NewMem()) // or a folder, or a bucket
	if _, err := store.PutModule(ctx, code); err != nil {
		panic(err)
	}

	// drive goes on with the coroutine, or starts it, until it ends or ctx is done.
	drive := func(ctx context.Context, value func(string)) {
		lease, err := store.Acquire(ctx, "numbers", snapshot.LeaseOptions{})
		if err != nil {
			panic(err)
		}
		defer lease.Release()
		c, err := module.RestoreFrom(ctx, store, "numbers", 0, runtime.RestoreConfig{})
		if errors.Is(err, snapshot.ErrNotFound) {
			c, err = module.Start(ctx, runtime.StartConfig{ID: "numbers"})
		}
		if err != nil {
			panic(err)
		}
		defer c.Close()
		driver := runtime.Driver{
			Store: store, Lease: lease,
			OnCommit: func(commit snapshot.Commit) { fmt.Println("commit", commit.Seq, commit.Status) },
			OnYield: func(v []byte) []byte {
				value(string(v))
				return nil
			},
		}
		status, err := driver.Drive(ctx, c)
		fmt.Println(status, errors.Is(err, context.Canceled))
	}

	first, stop := context.WithCancel(ctx)
	drive(first, func(v string) {
		fmt.Println("value", v)
		if v == "2" {
			stop()
		}
	})
	drive(ctx, func(v string) { fmt.Println("value", v) })

	// Output:
	// commit 1 suspended
	// value 1
	// commit 2 suspended
	// value 2
	// suspended true
	// value 2
	// commit 3 suspended
	// value 3
	// commit 4 completed
	// completed false
}

// The call stack of a coroutine that isn't running anywhere.
func ExampleSymbols() {
	ctx := context.Background()
	r, module := compiled(ctx)
	defer r.Close(ctx)
	input := binary.LittleEndian.AppendUint32(nil, 10)
	c, err := module.Start(ctx, runtime.StartConfig{ID: "ten-calls", Entry: "fan", Input: input})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if _, err := c.Resume(ctx); err != nil {
		panic(err)
	}
	s, err := c.Snapshot()
	if err != nil {
		panic(err)
	}

	code, err := os.ReadFile("../testdata/wat/coroutines.wasm")
	if err != nil {
		panic(err)
	}
	symbols, err := runtime.NewSymbols(code)
	if err != nil {
		panic(err)
	}
	fmt.Println("in", s.Await.Import)
	for i := len(s.Frames) - 1; i >= 0; i-- { // the innermost first
		frame := s.Frames[i]
		fmt.Printf("%s +%#x\n", symbols.Locate(frame.Function, frame.Offset).Function, frame.Offset)
	}

	// Output:
	// in durun.wait
	// join +0xc
	// all +0x36
	// fan +0x8
}
