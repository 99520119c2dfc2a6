package runtime

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
)

func TestDevFrames(t *testing.T) {
	data, err := os.ReadFile("/tmp/keep/shrunk.wasm")
	if err != nil {
		t.Skip()
	}
	b := newBench(t)
	m, err := b.runtime.Compile(context.Background(), data)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := m.Start(context.Background(), StartConfig{ID: "a", Entry: "main", Hosts: []hostabi.Instance{&lab{}}})
	c.Resume(context.Background())
	s, _ := c.Snapshot()
	fmt.Printf("%+v\n", s.Frames)
	var conts []instrument.Continuation
	for _, x := range m.plan.Sites {
		conts = append(conts, instrument.Continuation(x))
	}
	mod, _ := m.plan.Resume(m.original, conts[:1], conts[0].Function, 0)
	d, _ := wasm.Decode(mod.Encode())
	fmt.Println(text(d))
	r, _ := instrument.Transform(m.original, instrument.Config{Await: b.runtime.isAwait})
	d, _ = wasm.Decode(r.Module.Encode())
	fmt.Println(text(d))
	}
