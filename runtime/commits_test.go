package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// A puppet is a guest that does as it is told: one order at each await.
type order uint64

const (
	orderStore = 1 + iota // a byte at an address
	orderGrow             // by so many pages
	orderFill             // so many pages of 4 KiB with what can't be compressed
	orderPrint            // a byte
	orderEnd
	orderDeeper // another function takes the orders, inside a try_table
	orderBack   // from there
)

func storeAt(address uint32, b byte) order { return orderStore | order(address)<<8 | order(b)<<40 }
func grow(pages int) order                 { return orderGrow | order(pages)<<40 }
func fill(address uint32, pages int) order { return orderFill | order(address)<<8 | order(pages)<<40 }
func printByte(b byte) order               { return orderPrint | order(b)<<40 }

// puppeteer is the puppet's host module. Its state is the last order.
type puppeteer struct{ order order }

var puppetModule = &hostabi.Module{Name: "puppet", Functions: []hostabi.Function{
	{
		Name: "next", Results: []api.ValueType{api.ValueTypeI64},
		Await: func(_ context.Context, _ *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
			if p == nil {
				return &hostabi.Pending{Kind: hostabi.KindYield}
			}
			stack[0] = uint64(i.(*puppeteer).order)
			return nil
		},
	},
	{
		Name: "print", Params: []api.ValueType{api.ValueTypeI32},
		Call: func(_ context.Context, g *hostabi.Guest, _ hostabi.Instance, stack []uint64) {
			_ = g.Output(1, []byte{byte(stack[0])})
		},
	},
	{
		Name: "fill", Params: []api.ValueType{api.ValueTypeI32, api.ValueTypeI32},
		Call: func(_ context.Context, g *hostabi.Guest, _ hostabi.Instance, stack []uint64) {
			if view, ok := g.Memory.Read(uint32(stack[0]), uint32(stack[1])*snapshot.PageSize); ok {
				scribble(view, uint32(stack[0]))
			}
		},
	},
}}

// scribble fills mem with bytes that follow from a seed.
func scribble(mem []byte, seed uint32) {
	_, _ = rand.NewChaCha8([32]byte{byte(seed >> 12), byte(seed >> 20), byte(len(mem) >> 12)}).Read(mem)
}

func (*puppeteer) Module() *hostabi.Module { return puppetModule }
func (s *puppeteer) Save() (uint32, []byte, error) {
	return 1, fmt.Appendf(nil, "order %d", s.order), nil
}

func (s *puppeteer) Restore(_ uint32, data []byte) error {
	_, err := fmt.Sscanf(string(data), "order %d", &s.order)
	return err
}
func (*puppeteer) Wait(context.Context, *hostabi.Pending) error { return nil }
func (*puppeteer) Close() error                                 { return nil }

// puppet returns the program, whose memory has these limits.
func puppet(limits wasm.Limits) []byte {
	const next, output, fill, step, deeper = 0, 1, 2, 3, 4
	address := []wasm.Instr{ins(wasm.OpLocalGet, 0), {Op: wasm.OpI64Const, Const: 8}, ins(wasm.OpI64ShrU), ins(wasm.OpI32WrapI64)}
	value := []wasm.Instr{ins(wasm.OpLocalGet, 0), {Op: wasm.OpI64Const, Const: 40}, ins(wasm.OpI64ShrU), ins(wasm.OpI32WrapI64)}
	is := func(what int32) []wasm.Instr {
		return []wasm.Instr{ins(wasm.OpLocalGet, 1), constant(what), ins(wasm.OpI32Eq), ins(wasm.OpIf)}
	}
	end := []wasm.Instr{ins(wasm.OpEnd)}
	code := func(locals []wasm.LocalGroup, parts ...[]wasm.Instr) wasm.Code {
		var body []byte
		for _, in := range slices.Concat(append(parts, end)...) {
			body = wasm.AppendInstr(body, &in)
		}
		return wasm.NewCode(locals, body)
	}
	m := &wasm.Module{
		Types: []wasm.FuncType{
			{Results: []wasm.ValueType{wasm.I64}},
			{Params: []wasm.ValueType{wasm.I32}},
			{Results: []wasm.ValueType{wasm.I32}},
			{},
			{Params: []wasm.ValueType{wasm.I32, wasm.I32}},
		},
		Imports: []wasm.Import{
			{Module: puppetModule.Name, Name: "next", Kind: wasm.ExternFunc, Type: 0},
			{Module: puppetModule.Name, Name: "print", Kind: wasm.ExternFunc, Type: 1},
			{Module: puppetModule.Name, Name: "fill", Kind: wasm.ExternFunc, Type: 4},
		},
		Functions: []uint32{2, 3, 3},
		Globals: []wasm.Global{{
			Type: wasm.GlobalType{Type: wasm.I64, Mutable: true}, Init: wasm.Expr{byte(wasm.OpI64Const), 0, byte(wasm.OpEnd)},
		}},
		Memories: []wasm.Limits{limits},
		Exports:  []wasm.Export{{Name: "main", Kind: wasm.ExternFunc, Index: 5}},
	}
	m.Code = []wasm.Code{
		code(
			[]wasm.LocalGroup{{Count: 1, Type: wasm.I64}, {Count: 1, Type: wasm.I32}},
			[]wasm.Instr{
				ins(wasm.OpCall, next), ins(wasm.OpLocalTee, 0), ins(wasm.OpGlobalSet, 0),
				ins(wasm.OpLocalGet, 0), ins(wasm.OpI32WrapI64), constant(255), ins(wasm.OpI32And), ins(wasm.OpLocalSet, 1),
			},
			is(orderStore), address, value, []wasm.Instr{ins(wasm.OpI32Store8)}, end,
			is(orderGrow), value, []wasm.Instr{ins(wasm.OpMemoryGrow), ins(wasm.OpDrop)}, end,
			is(orderFill), address, value, []wasm.Instr{ins(wasm.OpCall, fill)}, end,
			is(orderPrint), value, []wasm.Instr{ins(wasm.OpCall, output)}, end,
			[]wasm.Instr{ins(wasm.OpLocalGet, 1)},
		),
		code([]wasm.LocalGroup{{Count: 2, Type: wasm.I32}}, []wasm.Instr{
			ins(wasm.OpLoop), ins(wasm.OpBlock),
			{Op: wasm.OpTryTable, Catches: []wasm.Catch{{Kind: wasm.CatchAll, Label: 0}}},
			ins(wasm.OpCall, step), ins(wasm.OpLocalSet, 1), ins(wasm.OpEnd), ins(wasm.OpEnd),
			ins(wasm.OpLocalGet, 1), constant(orderBack), ins(wasm.OpI32Ne), ins(wasm.OpBrIf, 0),
			ins(wasm.OpEnd),
		}),
		code([]wasm.LocalGroup{{Count: 2, Type: wasm.I32}}, []wasm.Instr{
			ins(wasm.OpLoop),
			ins(wasm.OpCall, step), ins(wasm.OpLocalTee, 1), constant(orderDeeper), ins(wasm.OpI32Eq), ins(wasm.OpIf), ins(wasm.OpCall, deeper), ins(wasm.OpEnd),
			ins(wasm.OpLocalGet, 1), constant(orderEnd), ins(wasm.OpI32Ne), ins(wasm.OpBrIf, 0),
			ins(wasm.OpEnd),
		}),
	}
	if err := wasm.Validate(m); err != nil {
		panic(err)
	}
	return m.Encode()
}

// stage is where puppets play.
type stage struct {
	*testing.T
	m     *Module
	store *snapshot.Store
}

func newStage(t *testing.T, limits wasm.Limits) *stage {
	t.Helper()
	ctx := context.Background()
	r, err := New(ctx, NewConfig().WithModules(puppetModule))
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Compile(ctx, puppet(limits))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Close(ctx), r.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return &stage{t, m, snapshot.NewStore(bucket.NewMem())}
}

// actor is a puppet and what it should be.
type actor struct {
	*stage
	*Coroutine
	strings *puppeteer
	mem     []byte // what its memory should be
	printed []byte // since the last commit
}

// started starts a puppet, from a base if there is one.
func (s *stage) started(id string, base *snapshot.Chain) *actor {
	s.Helper()
	a := &actor{stage: s, strings: &puppeteer{}}
	var err error
	a.Coroutine, err = s.m.Start(s.Context(), StartConfig{ID: id, Hosts: []hostabi.Instance{a.strings}, Base: base})
	if err != nil {
		s.Fatal(err)
	}
	if base == nil {
		a.mem = make([]byte, s.m.env.Memories[0].Min*snapshot.WasmPageSize)
		a.resume()
	}
	return a
}

// restored restores a commit.
func (s *stage) restored(id string, seq uint64) *actor {
	s.Helper()
	a := &actor{stage: s, strings: &puppeteer{}}
	var err error
	a.Coroutine, err = s.m.RestoreFrom(s.Context(), s.store, id, seq, RestoreConfig{Hosts: []hostabi.Instance{a.strings}})
	if err != nil {
		s.Fatal(err)
	}
	return a
}

func (a *actor) resume() {
	a.Helper()
	if _, err := a.Resume(a.Context()); err != nil {
		a.Fatal(err)
	}
}

// do carries out orders.
func (a *actor) do(orders ...order) {
	a.Helper()
	for _, o := range orders {
		address, value := uint32(o>>8), int(o>>40)
		switch o & 0xff {
		case orderStore:
			a.mem[address] = byte(value)
		case orderGrow:
			if to := len(a.mem) + value*snapshot.WasmPageSize; a.m.memoryMax() == 0 || to <= int(a.m.memoryMax()) {
				a.mem = append(a.mem, make([]byte, to-len(a.mem))...)
			}
		case orderFill:
			scribble(a.mem[address:int(address)+value*snapshot.PageSize], address)
		case orderPrint:
			a.printed = append(a.printed, byte(value))
		}
		a.strings.order = o
		a.resume()
	}
}

// capture captures it as its next commit.
func (a *actor) capture() *snapshot.Snapshot {
	a.Helper()
	s, err := a.Capture()
	if err != nil {
		a.Fatal(err)
	}
	return s
}

// put commits a snapshot, and doesn't tell it.
func (a *actor) put(s *snapshot.Snapshot) snapshot.Commit {
	a.Helper()
	c, err := a.store.Commit(a.Context(), s)
	if err != nil {
		a.Fatal(err)
	}
	return c
}

// commit commits it as it is.
func (a *actor) commit() snapshot.Commit {
	a.Helper()
	c := a.put(a.capture())
	a.Committed(c)
	a.printed = nil
	return c
}

// check compares the memory and the output with what they should be, and those of the newest commit if it is of now.
func (a *actor) check(committed bool) {
	a.Helper()
	view, _ := a.memory.Read(0, a.memory.Size())
	if at := firstDifference(view, a.mem); at >= 0 {
		a.Fatalf("its memory of %d bytes differs at %#x, of %d", len(view), at, len(a.mem))
	}
	var out []byte
	for _, o := range a.output {
		out = append(out, o.Data...)
	}
	if !bytes.Equal(out, a.printed) || a.written != len(out) {
		a.Fatalf("output %q, %d bytes, want %q", out, a.written, a.printed)
	}
	if !committed {
		return
	}
	b := a.restored(a.ID(), 0)
	defer b.Close()
	if at := firstDifference(b.linear.Bytes(), a.mem); at >= 0 {
		a.Fatalf("the memory restored from commit %d differs at %#x", b.parent.Seq, at)
	}
	if b.strings.order != a.strings.order {
		a.Fatalf("the order restored is %x, not %x", b.strings.order, a.strings.order)
	}
	x, err := a.Snapshot()
	if err != nil {
		a.Fatal(err)
	}
	y, err := b.Snapshot()
	if err != nil {
		a.Fatal(err)
	}
	x.Time = y.Time
	if d1, err := snapshot.Encode(x); err != nil {
		a.Fatal(err)
	} else if d2, err := snapshot.Encode(y); err != nil || !bytes.Equal(d1, d2) {
		a.Fatalf("the snapshot restored from commit %d differs, %v", b.parent.Seq, err)
	}
}

func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// TestCommits has puppets do all kinds of things, which are committed in all kinds of ways, and looks whether what is stored is
// what they are.
func TestCommits(t *testing.T) {
	withoutRace(t)
	for _, limits := range []wasm.Limits{
		{Min: 0, Max: 12, HasMax: true}, {Min: 1, Max: 40, HasMax: true}, {Min: 20, Max: 300, HasMax: true}, {Min: 2},
	} {
		t.Run(fmt.Sprint(limits.Min), func(t *testing.T) {
			for seed := range uint64(2) {
				testCommits(newStage(t, limits), rand.New(rand.NewPCG(limits.Min, seed)))
			}
		})
	}
}

func testCommits(s *stage, r *rand.Rand) {
	s.m.images.limit = 2000
	a := s.started("a", nil)
	defer func() { _ = a.Close() }()
	deeper := false
	sums := map[uint64]snapshot.Hash{} // of the memory, by commit
	for range 300 {
		committed := false
		switch what := r.IntN(20); what {
		case 0:
			a.do(grow(r.IntN(8)))
		case 1:
			if pages := len(a.mem) / snapshot.PageSize; pages > 0 {
				n := 1 + r.IntN(min(pages, 200))
				a.do(fill(uint32(r.IntN(pages-n+1)*snapshot.PageSize), n))
			}
		case 2:
			if deeper = !deeper; deeper {
				a.do(orderDeeper)
			} else {
				a.do(orderBack)
			}
		case 3:
			a.do(printByte(byte(r.IntN(256))))
		case 4, 5, 6, 7, 8:
			a.commit()
			committed = true
		case 9: // the answer is lost, and the guest runs on
			commit := a.put(a.capture())
			n := len(a.printed)
			a.do(printByte(1))
			a.Committed(commit)
			a.printed = a.printed[n:]
		case 10: // a complete snapshot in between
			commit := a.put(a.capture())
			if _, err := a.Snapshot(); err != nil {
				s.Fatal(err)
			}
			a.Committed(commit)
			a.printed, committed = nil, true
		case 11: // captured twice
			first := a.capture()
			a.capture()
			a.Committed(a.put(first))
			a.printed, committed = nil, true
		case 12: // captured, and given up
			a.capture()
		case 13: // put twice, and told twice
			snap := a.capture()
			a.put(snap)
			commit := a.put(snap)
			a.Committed(commit)
			a.printed, committed = nil, true
			a.check(committed)
			if r.IntN(2) == 0 {
				a.do(printByte(2))
				committed = false
			}
			lineage := a.lineage
			if a.Committed(commit); a.lineage != lineage {
				s.Error("what is told twice isn't nothing")
			}
		case 14:
			a.commit()
			b := a.restored("a", 0)
			_ = a.Close()
			b.mem = a.mem
			a, committed = b, true
		case 15:
			a.limit = 1 + r.IntN(3)
		default:
			if len(a.mem) > 0 {
				a.do(storeAt(uint32(r.IntN(len(a.mem))), byte(r.IntN(256))))
			}
		}
		if a.check(committed); committed {
			sums[a.parent.Seq] = snapshot.HashOf(a.mem)
		}
	}
	for seq, want := range sums {
		b := s.restored("a", seq)
		if view, _ := b.memory.Read(0, b.memory.Size()); snapshot.HashOf(view) != want {
			s.Errorf("the memory restored from commit %d is another", seq)
		}
		_ = b.Close()
	}
}

// TestGrownAlone has a puppet grow a memory that the engine, from some moment on, grows on its own, and end before anybody
// looks at it. The next puppet's memory must be zero there.
func TestGrownAlone(t *testing.T) {
	for _, min := range []uint64{1, 20} {
		s := newStage(t, wasm.Limits{Min: min, Max: 100, HasMax: true})
		end := uint32(min * snapshot.WasmPageSize)
		a := s.started("a", nil)
		a.commit()
		_ = a.Close()
		b := s.restored("a", 0)
		b.mem = a.mem
		b.do(orderDeeper, orderBack, orderDeeper) // other shapes of the stack: instances come and go
		b.do(grow(20), fill(end, 320))
		b.check(false)
		_ = b.Close()
		c := s.started("c", nil)
		c.do(grow(30))
		c.check(false)
		c.commit()
		c.check(true)
		_ = c.Close()
	}
}
