package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// recursion returns a program whose main(n) calls itself n times, suspends, and returns 1 xor 2 xor … n. Each frame has so many
// operands below its call, and so many locals.
func recursion(t *testing.T, operands int) []byte {
	code := []wasm.Instr{
		ins(wasm.OpLocalGet, 0), ins(wasm.OpI32Eqz), {Op: wasm.OpIf}, ins(wasm.OpCall, fnCheckpoint), constant(0), ins(wasm.OpReturn), ins(wasm.OpEnd),
	}
	for i := range operands {
		code = append(code, ins(wasm.OpLocalGet, 0), constant(int32(i+3)), ins(wasm.OpI32Mul))
	}
	code = append(code, ins(wasm.OpLocalGet, 0), constant(1), ins(wasm.OpI32Sub), ins(wasm.OpCall, fnFirst))
	for i := range operands {
		// The operands cancel out: each is taken away from itself, made anew.
		code = append(code, ins(wasm.OpI32Xor), ins(wasm.OpLocalGet, 0), constant(int32(operands-i+2)), ins(wasm.OpI32Mul), ins(wasm.OpI32Xor))
	}
	code = append(code, ins(wasm.OpLocalGet, 0), ins(wasm.OpI32Xor))
	i32 := []wasm.ValueType{wasm.I32}
	return assemble(t, nil,
		fn{params: i32, results: i32, code: code},
		fn{params: i32, results: i32, code: []wasm.Instr{ins(wasm.OpLocalGet, 0), ins(wasm.OpCall, fnFirst)}},
	)
}

func xorTo(n int32) (x int32) {
	for i := range n {
		x ^= i + 1
	}
	return x
}

// TestDeepStacks suspends recursions of many frames at the bottom, and goes on from their snapshots.
func TestDeepStacks(t *testing.T) {
	withoutRace(t)
	r := thingsRuntime(t)
	for _, c := range []struct{ depth, operands int32 }{{20_000, 0}, {20_000, 20}, {1_000_000, 0}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			co := start(t, r, recursion(t, int(c.operands)), StartConfig{Args: []uint64{uint64(c.depth)}, Hosts: []hostabi.Instance{quiet{thingsModule}}})
			co, awaits := toEnd(t, co)
			if co.Err() != nil || awaits != 1 || int32(co.Results()[0]) != xorTo(c.depth) {
				t.Errorf("%d awaits, results %v, error %v; want %d", awaits, co.Results(), co.Err(), xorTo(c.depth))
			}
		})
	}
}

// TestDeepestStack suspends at the largest depth at which the engine has stack enough. To rebuild such a stack may take more than
// there is: that must be an error, and no failure of the guest.
func TestDeepestStack(t *testing.T) {
	withoutRace(t)
	ctx := context.Background()
	m, err := thingsRuntime(t).Compile(ctx, recursion(t, 12))
	if err != nil {
		t.Fatal(err)
	}
	suspend := func(depth int) (*Coroutine, snapshot.Status) {
		c, err := m.Start(ctx, StartConfig{ID: "test", Args: []uint64{uint64(depth)}, Hosts: []hostabi.Instance{quiet{thingsModule}}})
		if err != nil {
			t.Fatal(err)
		}
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status == snapshot.Failed && !strings.Contains(c.Err().Error(), "stack overflow") {
			t.Fatal(c.Err())
		}
		return c, status
	}
	low, high := 20_000, 4_000_000
	for high-low > 20_000 {
		middle := (low + high) / 2
		c, status := suspend(middle)
		if status == snapshot.Suspended {
			low = middle
		} else {
			high = middle
		}
		_ = c.Close()
	}
	var outcomes []string
	for _, depth := range []int{low, low * 3 / 4, low / 2} {
		c, status := suspend(depth)
		if status != snapshot.Suspended {
			t.Fatalf("%d frames: %s", depth, status)
		}
		c.limit = 1 // rebuild
		status, err := c.Resume(ctx)
		switch {
		case err != nil && strings.Contains(err.Error(), "take more than the engine's stack holds"):
			if c.Status().Ended() {
				t.Errorf("%d frames: an error, and status %s", depth, c.Status())
			}
			outcomes = append(outcomes, "refused")
		case err == nil && status == snapshot.Completed && int32(c.Results()[0]) == xorTo(int32(depth)):
			outcomes = append(outcomes, "rebuilt")
		default:
			t.Errorf("%d frames: status %s, error %v, guest's error %v", depth, status, err, c.Err())
		}
		_ = c.Close()
	}
	t.Logf("the deepest stack that suspends has about %d frames; rebuilding it, 3/4 and 1/2 of it: %v", low, outcomes)
	if !slices.Contains(outcomes, "rebuilt") {
		t.Error("no stack could be rebuilt")
	}
}
