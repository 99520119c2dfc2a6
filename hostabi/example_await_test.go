package hostabi_test

import (
	"context"
	"fmt"
	"os"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

// door is a host module with one function, an await point: visitor() waits for a visitor, and returns its number.
var door = &hostabi.Module{Name: "door", Functions: []hostabi.Function{{
	Name:    "visitor",
	Results: []api.ValueType{api.ValueTypeI32},
	Await: func(_ context.Context, _ *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
		hall := i.(*hall)
		if len(hall.visitors) == 0 {
			return &hostabi.Pending{Kind: "visitor", Detail: "the doorbell"} // it is called again after Wait
		}
		stack[0] = api.EncodeU32(<-hall.visitors)
		return nil
	},
}}}

// hall is its instance for one coroutine. Who waits in it belongs to the process, so it has nothing to save.
type hall struct {
	visitors chan uint32   // each is seen by the one coroutine
	bell     chan struct{} // rings for each of them
}

func newHall() *hall { return &hall{make(chan uint32, 10), make(chan struct{}, 10)} }

func (h *hall) enter(number uint32) {
	h.visitors <- number
	h.bell <- struct{}{}
}

func (h *hall) Module() *hostabi.Module                        { return door }
func (h *hall) Save() (version uint32, data []byte, err error) { return 1, nil, nil }
func (h *hall) Restore(version uint32, data []byte) error      { return nil }
func (h *hall) Close() error                                   { return nil }

func (h *hall) Wait(ctx context.Context, _ *hostabi.Pending) error {
	select {
	case <-h.bell:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A host function waits. Its guest is captured there, and goes on in another runtime, where somebody comes.
func ExampleFunction_await() {
	ctx := context.Background()
	code, err := os.ReadFile("testdata/visitor.wasm")
	if err != nil {
		panic(err)
	}
	open := func() (*runtime.Runtime, *runtime.Module) {
		r, err := runtime.New(ctx, runtime.NewConfig().WithModules(door))
		if err != nil {
			panic(err)
		}
		module, err := r.Compile(ctx, code)
		if err != nil {
			panic(err)
		}
		return r, module
	}

	first, module := open()
	here := newHall()
	c, err := module.Start(ctx, runtime.StartConfig{ID: "porter", Hosts: []hostabi.Instance{here}})
	if err != nil {
		panic(err)
	}
	here.enter(40)
	status, err := c.Resume(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(status, "waiting for", c.Pending().Detail)
	s, err := c.Snapshot()
	if err != nil {
		panic(err)
	}
	encoded, err := snapshot.Encode(s)
	if err != nil {
		panic(err)
	}
	_ = first.Close(ctx) // the process ends

	second, module := open()
	defer second.Close(ctx)
	if s, err = snapshot.Decode(encoded); err != nil {
		panic(err)
	}
	there := newHall()
	if c, err = module.Restore(ctx, s, runtime.RestoreConfig{Hosts: []hostabi.Instance{there}}); err != nil {
		panic(err)
	}
	there.enter(2)
	if err := c.Wait(ctx); err != nil {
		panic(err)
	}
	if status, err = c.Resume(ctx); err != nil {
		panic(err)
	}
	fmt.Println(status, c.Results())

	// Output:
	// suspended waiting for the doorbell
	// completed [42]
}
