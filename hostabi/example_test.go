package hostabi_test

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
)

// sorting is a host module with one function: sort(at, n) sorts n bytes of the guest's memory, by the order that the guest
// exports as before(a, b).
var sorting = &hostabi.Module{Name: "env", Functions: []hostabi.Function{{
	Name:   "sort",
	Params: []api.ValueType{api.ValueTypeI32, api.ValueTypeI32},
	Call: func(ctx context.Context, g *hostabi.Guest, _ hostabi.Instance, stack []uint64) {
		at, n := api.DecodeU32(stack[0]), api.DecodeU32(stack[1])
		view, ok := g.Memory.Read(at, n)
		if !ok {
			panic(fmt.Errorf("sort: %d bytes at %d are not in memory", n, at)) // the guest traps with it
		}
		sorted := slices.Clone(view) // the memory is elsewhere if the guest lets it grow
		before := func(a, b byte) bool {
			results, err := g.Call(ctx, "before", uint64(a), uint64(b))
			if err != nil {
				panic(err)
			}
			return api.DecodeU32(results[0]) != 0
		}
		slices.SortFunc(sorted, func(a, b byte) int {
			switch {
			case before(a, b):
				return -1
			case before(b, a):
				return 1
			}
			return 0
		})
		g.Memory.Write(at, sorted)
		fmt.Println("sorted:", sorted)
	},
}}}

// sorter is its instance, which has no state.
type sorter struct{}

func (sorter) Module() *hostabi.Module                            { return sorting }
func (sorter) Save() (version uint32, data []byte, err error)     { return 1, nil, nil }
func (sorter) Restore(version uint32, data []byte) error          { return nil }
func (sorter) Wait(ctx context.Context, _ *hostabi.Pending) error { return ctx.Err() }
func (sorter) Close() error                                       { return nil }

// A host function calls back the guest that has called it.
func ExampleGuest_call() {
	ctx := context.Background()
	r, err := runtime.New(ctx, runtime.NewConfig().WithModules(sorting))
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx)
	code, err := os.ReadFile("testdata/sort.wasm")
	if err != nil {
		panic(err)
	}
	module, err := r.Compile(ctx, code)
	if err != nil {
		panic(err)
	}
	c, err := module.Start(ctx, runtime.StartConfig{ID: "sort", Hosts: []hostabi.Instance{sorter{}}})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	status, err := c.Resume(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(status)

	// Output:
	// sorted: [2 8 1 5 7]
	// completed
}
