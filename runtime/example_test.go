package runtime_test

import (
	"context"
	"fmt"
	"os"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

// The generator of the field's textbook yields 1, 2 and 3. It is run to the first, captured as bytes, and restored from
// them in a second runtime, which might be another machine's.
func Example() {
	ctx := context.Background()
	binary, err := os.ReadFile("../testdata/wat/generator.wasm")
	if err != nil {
		panic(err)
	}
	first, err := runtime.New(ctx, runtime.NewConfig())
	if err != nil {
		panic(err)
	}
	module, err := first.Compile(ctx, binary)
	if err != nil {
		panic(err)
	}
	generator, err := module.Start(ctx, runtime.StartConfig{ID: "generator"})
	if err != nil {
		panic(err)
	}
	if _, err := generator.Resume(ctx); err != nil {
		panic(err)
	}
	value, _ := generator.Yielded()
	fmt.Printf("first runtime: %s\n", value)

	s, err := generator.Snapshot()
	if err != nil {
		panic(err)
	}
	data, err := snapshot.Encode(s)
	if err != nil {
		panic(err)
	}
	_ = first.Close(ctx)

	second, err := runtime.New(ctx, runtime.NewConfig())
	if err != nil {
		panic(err)
	}
	defer second.Close(ctx)
	if module, err = second.Compile(ctx, binary); err != nil {
		panic(err)
	}
	if s, err = snapshot.Decode(data); err != nil {
		panic(err)
	}
	if generator, err = module.Restore(ctx, s, runtime.RestoreConfig{}); err != nil {
		panic(err)
	}
	for {
		status, err := generator.Resume(ctx)
		if err != nil {
			panic(err)
		}
		if status.Ended() {
			fmt.Println(status, generator.Results())
			return
		}
		value, _ := generator.Yielded()
		fmt.Printf("second runtime: %s\n", value)
	}

	// Output:
	// first runtime: 1
	// second runtime: 2
	// second runtime: 3
	// completed [6]
}
