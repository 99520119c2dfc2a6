package instrument

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/durun/durun/runtime/internal/wasm"
)

// callingModule returns a module with a void function for each list of calls, which makes them one after the other.
func callingModule(calls [][]testCall) *wasm.Module {
	m := &wasm.Module{
		Types:  []wasm.FuncType{{}, {Params: []wasm.ValueType{wasm.I32}}},
		Tables: []wasm.Table{{Type: wasm.TableType{Elem: wasm.FuncRef, Limits: wasm.Limits{Min: 100}}}},
	}
	taken := wasm.Element{Mode: wasm.Active, Type: wasm.FuncRef, Offset: wasm.Expr{byte(wasm.OpI32Const), 0, byte(wasm.OpEnd)}}
	for f, list := range calls {
		typ := uint32(f % 2)
		m.Functions = append(m.Functions, typ)
		if f%3 > 0 {
			taken.Funcs = append(taken.Funcs, uint32(f))
		}
		var body []byte
		for _, c := range list {
			if c.inLoop {
				body = append(body, byte(wasm.OpLoop), 0x40)
			}
			t := c.to % 2
			if t == 1 {
				body = append(body, byte(wasm.OpI32Const), 0)
			}
			if c.indirect {
				body = wasm.AppendInstr(append(body, byte(wasm.OpI32Const), 0), &wasm.Instr{Op: wasm.OpCallIndirect, Index: t})
			} else {
				body = wasm.AppendU32(append(body, byte(wasm.OpCall)), c.to)
			}
			for range c.padding {
				body = append(body, byte(wasm.OpNop))
			}
			if c.inLoop {
				body = append(body, byte(wasm.OpEnd))
			}
		}
		m.Code = append(m.Code, wasm.NewCode(nil, append(body, byte(wasm.OpEnd))))
	}
	m.Elements = []wasm.Element{taken}
	return m
}

type testCall struct {
	to               uint32
	indirect, inLoop bool // indirect: of any function whose type is that of to
	padding          int  // bytes of code
}

// countingOf runs the pass on a module.
func countingOf(t *testing.T, m *wasm.Module) []bool {
	t.Helper()
	if err := wasm.Validate(m); err != nil {
		t.Fatal(err)
	}
	r := &running{original: m}
	for _, pass := range []func() error{r.scan, r.findCounting} {
		if err := pass(); err != nil {
			t.Fatal(err)
		}
	}
	return r.counts
}

// TestCountingBreaksCycles holds, for random modules, what [running.findCounting] promises: a chain of calls that no loop and no entry
// counts is finite, and runs a bounded amount of code.
func TestCountingBreaksCycles(t *testing.T) {
	counting, left := 0, 0 // functions
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		n := 1 + rnd.IntN(30)
		calls := make([][]testCall, n)
		for f := range calls {
			for range rnd.IntN(5) {
				calls[f] = append(calls[f], testCall{
					to: uint32(rnd.IntN(n)), indirect: rnd.IntN(4) == 0, inLoop: rnd.IntN(3) == 0, padding: rnd.IntN(maxUncounted / 8),
				})
			}
		}
		m := callingModule(calls)
		counts := countingOf(t, m)

		// The longest run of code without a count, as an execution could come by it: computed anew, from the calls themselves.
		targets := func(c testCall) (list []uint32) {
			if !c.indirect {
				return []uint32{c.to}
			}
			for f := c.to % 2; f < uint32(n); f += 2 {
				if f%3 > 0 {
					list = append(list, f)
				}
			}
			return list
		}
		const visiting = -1
		cost := make([]int, n) // 0: not yet known
		var visit func(f uint32) int
		visit = func(f uint32) int {
			switch {
			case counts[f]:
				return 0
			case cost[f] == visiting:
				t.Fatalf("seed %d: function %d calls itself, and nothing counts on the way: %v", seed, f, calls)
			case cost[f] > 0:
				return cost[f]
			}
			cost[f] = visiting
			total := len(m.Code[f].Body())
			for _, c := range calls[f] {
				if c.inLoop {
					continue // counts, before the call
				}
				most := 0
				for _, to := range targets(c) {
					most = max(most, visit(to))
				}
				total += most
			}
			cost[f] = total
			return total
		}
		for f := range uint32(n) {
			if got := visit(f); got > maxUncounted {
				t.Fatalf("seed %d: function %d runs %d bytes of code without a count, more than %d", seed, f, got, maxUncounted)
			}
			if counts[f] {
				counting++
			} else {
				left++
			}
		}
	}
	if counting < 200 || left < 2000 {
		t.Errorf("%d functions count, and %d don't: that says little", counting, left)
	}
}

// TestCountingOfChains has calls that are nested as deep as a module allows, and such that there are very many paths.
func TestCountingOfChains(t *testing.T) {
	const n = 200_000
	chain := make([][]testCall, n)
	for f := range n - 1 {
		chain[f] = []testCall{{to: uint32(f + 1)}}
	}
	counts := countingOf(t, callingModule(chain))
	if some := slices.Index(counts, true); some < 0 {
		t.Errorf("nothing counts in a chain of %d calls", n)
	}
	tree := make([][]testCall, 64)
	for f := range len(tree) - 1 {
		tree[f] = slices.Repeat([]testCall{{to: uint32(f + 1)}}, 2)
	}
	counts = countingOf(t, callingModule(tree))
	if n := len(slices.DeleteFunc(counts, func(c bool) bool { return !c })); n < 3 || n > 16 {
		t.Errorf("%d functions count in a tree of 2^64 calls", n)
	}
}
