package instrument

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/runtime/internal/wasm"
)

// straight returns a module with a function of many calls in a row. Each takes a local and sets another; so many locals
// are live throughout.
func straight(sites, live int) *wasm.Module {
	m := base()
	m.Types = append(m.Types, wasm.FuncType{Params: []wasm.ValueType{wasm.I32}, Results: []wasm.ValueType{wasm.I32}})
	m.Functions = append(m.Functions, 1, 1)
	i32 := func(b []byte, o wasm.Opcode, index int) []byte {
		in := op(o, uint32(index))
		return wasm.AppendInstr(b, &in)
	}
	b := i32(nil, wasm.OpCall, funcCheckpoint)
	b = append(i32(b, wasm.OpLocalGet, 0), byte(wasm.OpEnd))
	m.Code = append(m.Code, wasm.NewCode(nil, b))
	b = nil
	for i := range sites {
		b = i32(b, wasm.OpLocalGet, i%live)
		b = i32(b, wasm.OpCall, 2)
		b = i32(b, wasm.OpLocalSet, (i+1)%live)
	}
	b = i32(b, wasm.OpLocalGet, 0)
	for i := range live {
		b = append(i32(b, wasm.OpLocalGet, i), byte(wasm.OpI32Add))
	}
	m.Code = append(m.Code, wasm.NewCode([]wasm.LocalGroup{{Count: uint32(live), Type: wasm.I32}}, append(b, byte(wasm.OpEnd))))
	m.Exports = []wasm.Export{{Name: "main", Kind: wasm.ExternFunc, Index: 3}}
	return m
}

// TestSegments: what the compiler does that grows with the square of something is bounded. A function with very many sites
// has no long chain of blocks that can only be reached from its start, and no branch out of very many blocks.
func TestSegments(t *testing.T) {
	size := map[int]int{}
	for _, sites := range []int{maxNest, 10000, 20000} {
		m := straight(sites, 5)
		r, err := Transform(m, Config{Await: awaits})
		if err != nil {
			t.Fatal(err)
		}
		running := accept(t, engine(t), r.Module)
		size[sites] = r.Stats.CodeAfter
		var rd wasm.Reader
		var in wasm.Instr
		tests, label, longest, chain, targets := 0, uint32(0), 0, 0, 0
		for rd.Reset(running.Code[2].Body()); ; {
			err := rd.Next(&in)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch in.Op {
			case wasm.OpBrIf:
				tests++
				chain++
				label = max(label, in.Index)
				longest = max(longest, chain)
			case wasm.OpBrTable:
				targets = len(slices.Compact(in.Labels))
			case wasm.OpBr: // behind a segment, where another begins
				chain = 0
			}
		}
		if tests != sites {
			t.Errorf("%d sites: %d tests", sites, tests)
		}
		if sites <= maxNest {
			if targets != 0 || longest != sites {
				t.Errorf("%d sites: a function that isn't large has segments", sites)
			}
			continue
		}
		if int(label) > segmentSites || longest > segmentSites || targets < sites/segmentSites {
			t.Errorf("%d sites: %d in a chain, a test branches out of %d blocks, %d segments can be entered", sites, longest, label, targets)
		}
		// A frame in the middle of it: what is left of the function is in segments as well.
		conts := continuations(r.Plan)
		c := conts[len(conts)/2]
		res, err := r.Plan.Resume(m, []Continuation{c}, c.Function, firstAwait(t, m))
		if err != nil {
			t.Fatal(err)
		}
		accept(t, engine(t), res)
	}
	if size[20000] > size[10000]*21/10 {
		t.Errorf("code of %d bytes for 10,000 sites, and %d for 20,000", size[10000], size[20000])
	}
}

// TestTooMuchLive: frames that are too much together are refused before they take the memory.
func TestTooMuchLive(t *testing.T) {
	_, err := Transform(straight(20000, 5000), Config{Await: awaits})
	var u *UnsupportedError
	if !errors.As(err, &u) || u.Function != 3 || !strings.Contains(err.Error(), "values live") {
		t.Errorf("error %v, want an UnsupportedError that names function 3", err)
	}
}

// TestLivenessInParts: where the sets of all locals don't fit the memory they may take, the result is the same.
func TestLivenessInParts(t *testing.T) {
	defer func(n int) { maxSets = n }(maxSets)
	whole, err := Transform(straight(300, 200), Config{Await: awaits})
	if err != nil {
		t.Fatal(err)
	}
	maxSets = 1
	parts, err := Transform(straight(300, 200), Config{Await: awaits})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(whole.Plan.Encode(), parts.Plan.Encode()) {
		t.Error("the plans differ")
	}
}

// TestDeepLoops: the continuation of a call inside many loops doesn't have all of a large function's code once more for each.
func TestDeepLoops(t *testing.T) {
	const depth, sites = 12, 1600
	m := straight(sites, 5)
	code := m.Code[2].Body()
	var body []byte
	for range depth {
		body = append(body, byte(wasm.OpLoop), 0x7f)
	}
	body = append(body, code[:len(code)-1]...)
	for range depth {
		// Again, as long as the local is odd.
		body = append(body, byte(wasm.OpLocalGet), 1, byte(wasm.OpI32Const), 1, byte(wasm.OpI32And), byte(wasm.OpBrIf), 0, byte(wasm.OpEnd))
	}
	m.Code[2] = wasm.NewCode(m.Code[2].Locals, append(body, byte(wasm.OpEnd)))
	if err := wasm.Validate(m); err != nil {
		t.Fatal(err)
	}
	r, err := Transform(m, Config{Await: awaits})
	if err != nil {
		t.Fatal(err)
	}
	conts := continuations(r.Plan)
	c := conts[len(conts)/2]
	size := func() int {
		res, err := r.Plan.Resume(m, []Continuation{c}, c.Function, firstAwait(t, m))
		if err != nil {
			t.Fatal(err)
		}
		if maxPeeled < 1<<30 {
			accept(t, engine(t), res)
		}
		n := 0
		for i := range res.Code {
			n += len(res.Code[i].Raw)
		}
		return n
	}
	function := len(r.Module.Code[2].Raw)
	if got := size(); got > function*11/10 {
		t.Errorf("a continuation of %d bytes, of a function of %d", got, function)
	}
	defer SetPeeled(1 << 30)()
	if got := size(); got < function*depth {
		t.Errorf("with peeled loops it has %d bytes, so there was nothing to bound", got)
	}
}
