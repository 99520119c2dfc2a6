package wasi_test

import (
	"fmt"

	"github.com/durun/durun/hostabi/wasi"
)

// The runtime offers Module to its guests, and holds an Instance for each. This is what it does with the state.
func ExampleInstance() {
	first, err := wasi.New(wasi.Config{Args: []string{"prog"}})
	if err != nil {
		panic(err)
	}
	defer first.Close()
	version, state, err := first.Save()
	if err != nil {
		panic(err)
	}

	// In another process, perhaps on another machine.
	second, err := wasi.New(wasi.Config{})
	if err != nil {
		panic(err)
	}
	defer second.Close()
	if err := second.Restore(version, state); err != nil {
		panic(err)
	}
	fmt.Println(second.Module().Name, "state version", version)
	// Output: wasi_snapshot_preview1 state version 2
}
