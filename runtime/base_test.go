package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

var smallMemory = wasm.Limits{Min: 16, Max: 64, HasMax: true}

// base makes a shared base of a puppet that has carried out orders, and reads it. It returns what the puppet's memory is.
func (s *stage) base(name string, orders ...order) (*snapshot.Chain, []byte) {
	s.Helper()
	a := s.started("maker", nil)
	defer a.Close()
	a.do(orders...)
	snap, err := a.Snapshot()
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.store.PutBase(s.Context(), name, snap); err != nil {
		s.Fatal(err)
	}
	chain, err := s.store.Base(s.Context(), name, s.m.Known)
	if err != nil {
		s.Fatal(err)
	}
	return chain, a.mem
}

// TestBase starts coroutines from a base, of which the module keeps the memory or not, and commits and restores them. Each has
// its own output, though it begins with the base's.
func TestBase(t *testing.T) {
	for _, pages := range []int{0, 4, fewPages + 1} {
		s := newStage(t, smallMemory)
		chain, mem := s.base("b", grow(1), fill(snapshot.WasmPageSize, pages), storeAt(3, 7), printByte('b'))
		for round := range 3 {
			id := fmt.Sprint("c", round)
			a := s.started(id, chain)
			a.mem, a.printed = slices.Clone(mem), []byte("b")
			a.check(false)
			if round == 0 { // runs on before its first commit
				a.do(printByte('x'), storeAt(4, 1))
			}
			first := a.commit()
			if first.Seq != 1 || first.Parent != nil || first.Origin != nil && first.Origin.Root != chain.RootRef {
				t.Errorf("%d pages: the first commit is %d, of %+v", pages, first.Seq, first.Origin)
			}
			a.check(true)
			a.do(storeAt(9, byte(round)), printByte('z'))
			a.commit()
			a.check(true)
			_ = a.Close()
			var out bytes.Buffer
			want := "bz"
			if round == 0 {
				want = "bxz"
			}
			if err := s.store.Logs(t.Context(), id, &out, nil); err != nil || out.String() != want {
				t.Errorf("%d pages: output %q, %v", pages, &out, err)
			}
			var err error
			if chain, err = s.store.Base(t.Context(), "b", s.m.Known); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestBaseIsNoCommit: what is a base's isn't a coroutine's, and the other way round.
func TestBaseIsNoCommit(t *testing.T) {
	s := newStage(t, smallMemory)
	base, _ := s.base("b", fill(0, 80))
	if _, err := s.m.RestoreChain(t.Context(), base, RestoreConfig{Hosts: []hostabi.Instance{&puppeteer{}}}); !errors.Is(err, ErrMismatch) {
		t.Errorf("restored: %v", err)
	}
	a := s.started("a", nil)
	defer a.Close()
	a.commit()
	chain, err := s.store.Chain(t.Context(), "a", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.m.Start(t.Context(), StartConfig{ID: "x", Hosts: []hostabi.Instance{&puppeteer{}}, Base: chain}); !errors.Is(err, ErrMismatch) {
		t.Errorf("started: %v", err)
	}
}

// TestBaseMadeAnew deletes a base and makes another of its name: what was built on the first must not be restored on that.
func TestBaseMadeAnew(t *testing.T) {
	s := newStage(t, smallMemory)
	chain, _ := s.base("b", fill(0, 80))
	a := s.started("a", chain)
	a.mem = make([]byte, smallMemory.Min*snapshot.WasmPageSize)
	a.commit()
	a.do(storeAt(5000, 1))
	a.commit()
	_ = a.Close()
	if err := s.store.Bucket().Delete(t.Context(), "bases/b"); err != nil {
		t.Fatal(err)
	}
	other, _ := s.base("b", fill(snapshot.PageSize, 80))
	if other.RootRef == chain.RootRef {
		t.Fatal("it is the same")
	}
	forgetRoots(s.m)
	_, err := s.m.RestoreFrom(t.Context(), s.store, "a", 0, RestoreConfig{Hosts: []hostabi.Instance{&puppeteer{}}})
	if !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("restored: %v", err)
	}
}

// TestForgottenRoot has the module forget a root after the chain was read without it.
func TestForgottenRoot(t *testing.T) {
	s := newStage(t, smallMemory)
	a := s.started("a", nil)
	a.do(fill(0, 80))
	a.commit()
	for i := range uint32(3) {
		a.do(storeAt(i*snapshot.PageSize, 1))
		a.commit()
	}
	_ = a.Close()
	inner := s.store.Bucket()
	_ = s.restored("a", 0).Close()
	var forgotten int
	s.store = snapshot.NewStore(buckettest.NewFaulty(inner, func(o buckettest.Op) buckettest.Fault {
		if o.Name == "get" && strings.HasSuffix(o.Key, "d") { // commit 2, which is read after the root was asked for
			s.m.images.mu.Lock()
			forgotten += s.m.images.order.Len()
			s.m.images.mu.Unlock()
			forgetRoots(s.m)
		}
		return buckettest.Fault{}
	}))
	b := s.restored("a", 0)
	defer b.Close()
	b.mem = a.mem
	b.check(true)
	if forgotten == 0 {
		t.Error("no root was known")
	}
}

// TestCloseModule closes a module twice, with a coroutine that is still there.
func TestCloseModule(t *testing.T) {
	for _, pages := range []int{0, 80} {
		s := newStage(t, smallMemory)
		a := s.started("a", nil)
		a.do(fill(0, pages))
		a.commit()
		_ = a.Close()
		b := s.restored("a", 0)
		for range 2 {
			if err := s.m.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if view, _ := b.memory.Read(0, b.memory.Size()); !bytes.Equal(view, a.mem) {
			t.Error("the memory has changed")
		}
		if _, err := s.m.Start(t.Context(), StartConfig{ID: "x", Hosts: []hostabi.Instance{&puppeteer{}}}); !errors.Is(err, ErrClosed) {
			t.Errorf("started: %v", err)
		}
		_, err := s.m.RestoreFrom(t.Context(), s.store, "a", 0, RestoreConfig{Hosts: []hostabi.Instance{&puppeteer{}}})
		if !errors.Is(err, ErrClosed) {
			t.Errorf("restored: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRootsAtOnce restores coroutines of several roots at once, more of them than the module keeps, beside others that start.
func TestRootsAtOnce(t *testing.T) {
	s := newStage(t, smallMemory)
	const roots = 4
	s.m.images.limit = 400 // four times the largest one
	var mems [roots][]byte
	for i := range roots {
		a := s.started(fmt.Sprint("c", i), nil)
		a.do(fill(uint32(i)*snapshot.PageSize, 70+10*i))
		a.commit()
		a.do(storeAt(1, byte(i)))
		a.commit()
		mems[i] = a.mem
		_ = a.Close()
	}
	base, mem := s.base("b", fill(0, 75), printByte('b'))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 20 {
				i := (g + n) % roots
				h := &puppeteer{}
				c, err := s.m.RestoreFrom(t.Context(), s.store, fmt.Sprint("c", i), 0, RestoreConfig{Hosts: []hostabi.Instance{h}})
				if err != nil {
					t.Error(err)
					return
				}
				if view, _ := c.memory.Read(0, c.memory.Size()); !bytes.Equal(view, mems[i]) {
					t.Errorf("the memory of c%d differs at %#x", i, firstDifference(view, mems[i]))
				}
				h.order = fill(0, 16)
				if _, err := c.Resume(t.Context()); err != nil {
					t.Error(err)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				d, err := s.m.Start(t.Context(), StartConfig{ID: "d", Hosts: []hostabi.Instance{&puppeteer{}}})
				if err != nil {
					t.Error(err)
					return
				}
				if view, _ := d.memory.Read(0, d.memory.Size()); !bytes.Equal(view, make([]byte, len(view))) {
					t.Error("a fresh memory isn't zero")
				}
				_ = d.Close()
				var out bytes.Buffer
				h = &puppeteer{}
				e, err := s.m.Start(t.Context(), StartConfig{ID: "e", Hosts: []hostabi.Instance{h}, Base: base, Stdout: &out})
				if err != nil {
					t.Error(err)
					return
				}
				if view, _ := e.memory.Read(0, e.memory.Size()); !bytes.Equal(view, mem) {
					t.Error("the memory of the base differs")
				}
				h.order = printByte(byte(g))
				if _, err := e.Resume(t.Context()); err != nil {
					t.Error(err)
				}
				if want := []byte{'b', byte(g)}; !bytes.Equal(out.Bytes(), want) || !bytes.Equal(e.output[0].Data, want) {
					t.Errorf("the output is %q and %q, want %q", &out, e.output[0].Data, want)
				}
				_ = e.Close()
			}
		})
	}
	wg.Wait()
	if n := s.m.images.pages; n > s.m.images.limit || n == 0 || len(s.m.images.making) > 0 {
		t.Errorf("roots of %d pages are kept, %d are being read", n, len(s.m.images.making))
	}
}

// TestRootIsReadOnce restores one root many times at once, of which the first reader fails.
func TestRootIsReadOnce(t *testing.T) {
	s := newStage(t, smallMemory)
	a := s.started("a", nil)
	a.do(fill(0, 80))
	a.commit()
	_ = a.Close()
	from := func(read func([]byte) error) *content {
		chain, err := s.store.Chain(t.Context(), "a", 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := contentOf(t.Context(), chain)
		if err != nil {
			t.Fatal(err)
		}
		whole := c.readRoot
		c.readRoot = func(mem []byte) error {
			return errors.Join(read(mem), whole(mem))
		}
		return c
	}
	begun, fail := make(chan bool), make(chan bool)
	broken := from(func([]byte) error {
		close(begun)
		<-fail
		return bucket.ErrFull
	})
	reads := 0
	good := from(func([]byte) error {
		reads++
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.m.restoreMemory(t.Context(), broken, Limits{}); !errors.Is(err, bucket.ErrFull) {
			t.Errorf("got %v", err)
		}
	})
	<-begun
	// Others aren't held up, and who waits may give up.
	_ = s.started("b", nil).Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.m.restoreMemory(ctx, good, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for range 4 {
		wg.Go(func() {
			mem, err := s.m.restoreMemory(t.Context(), good, Limits{})
			if err != nil {
				t.Error(err)
				return
			}
			if !bytes.Equal(mem.Bytes(), a.mem) {
				t.Error("the memory differs")
			}
			mem.Free()
		})
	}
	close(fail)
	wg.Wait()
	if reads != 1 {
		t.Errorf("it was read %d times", reads)
	}
}

// TestMadeUpChains restores chains that are sound, and don't fit the module.
func TestMadeUpChains(t *testing.T) {
	s := newStage(t, smallMemory)
	a := s.started("a", nil)
	defer a.Close()
	a.do(fill(0, 80))
	const wasmPage = snapshot.WasmPageSize
	for i, test := range []struct {
		name        string
		root, delta func(s *snapshot.Snapshot)
		want        error // nil: it is restored, and goes on
	}{
		{"fits", nil, nil, nil},
		{"another limit", func(s *snapshot.Snapshot) { s.Memory.Max = 0 }, func(s *snapshot.Snapshot) { s.Memory.Max = 0 }, nil},
		{"root too large", func(s *snapshot.Snapshot) { s.Memory.Max, s.Memory.Size = 0, 65*wasmPage }, func(s *snapshot.Snapshot) { s.Memory.Max, s.Memory.Size = 0, 65*wasmPage }, ErrMismatch},
		{"4 GiB", func(s *snapshot.Snapshot) { s.Memory.Max = 0 }, func(s *snapshot.Snapshot) { s.Memory.Max, s.Memory.Size = 0, snapshot.MaxMemory }, ErrMismatch},
		{"too small", func(s *snapshot.Snapshot) { s.Memory.Size = 8 * wasmPage }, func(s *snapshot.Snapshot) { s.Memory.Size = 16 * wasmPage }, ErrMismatch},
		{"no memory", func(s *snapshot.Snapshot) { s.Memory = snapshot.Memory{} }, func(s *snapshot.Snapshot) { s.Memory.Max = 0 }, ErrMismatch},
		{"no globals", nil, func(s *snapshot.Snapshot) { s.Globals = nil }, ErrMismatch},
		{"another await", nil, func(s *snapshot.Snapshot) { s.Await.Import = "puppet.print" }, ErrMismatch},
		{"another frame", nil, func(s *snapshot.Snapshot) { s.Frames[0].Offset++ }, ErrMismatch},
		{"no frames", nil, func(s *snapshot.Snapshot) { s.Frames = nil }, ErrMismatch},
		{"a host section more", nil, func(s *snapshot.Snapshot) {
			s.Host = append(s.Host, snapshot.Section{Name: "zzz"})
		}, ErrMismatch},
		{"another module", func(s *snapshot.Snapshot) { s.Module[0]++ }, func(s *snapshot.Snapshot) { s.Module[0]++ }, ErrMismatch},
	} {
		id := fmt.Sprint("m", i)
		made := func(seq uint64, change func(s *snapshot.Snapshot)) *snapshot.Snapshot {
			snap, err := a.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			snap.Coroutine, snap.Seq = id, seq
			snap.Frames, snap.Host = slices.Clone(snap.Frames), slices.Clone(snap.Host)
			if change != nil {
				change(snap)
			}
			return snap
		}
		root := made(1, test.root)
		commit := a.put(root)
		delta := made(2, test.delta)
		delta.Memory.Pages = delta.Memory.Pages[:1]
		delta.Memory.Pages[0].Data = slices.Repeat([]byte{1}, snapshot.PageSize)
		delta.Parent = commit.AsParent()
		delta.Base = &snapshot.Base{State: root, Origin: snapshot.Origin{
			Root: snapshot.Ref{Seq: 1, Hash: commit.Hash}, RootBytes: commit.Bytes, Anchor: 2,
		}}
		a.put(delta)
		mem := slices.Clone(a.mem)
		copy(mem, slices.Repeat([]byte{1}, snapshot.PageSize))
		for range 2 { // then the root is known
			h := &puppeteer{}
			c, err := s.m.RestoreFrom(t.Context(), s.store, id, 0, RestoreConfig{Hosts: []hostabi.Instance{h}})
			if err == nil && test.want != nil {
				h.order = storeAt(1, 1)
				_, err = c.Resume(t.Context())
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%s: %v", test.name, err)
			}
			if err != nil {
				continue
			}
			b := &actor{stage: s, Coroutine: c, strings: h, mem: mem}
			b.check(true)
			b.do(storeAt(70000, 3))
			b.commit()
			b.check(true)
			_ = b.Close()
		}
	}
}

// TestBaseInput starts coroutines with an input from bases that wait where the guest can read it, and where it can't.
func TestBaseInput(t *testing.T) {
	s := newStage(t, smallMemory)
	for _, name := range []string{hostabi.FuncCheckpoint, hostabi.FuncYield} {
		binary := counter(hostabi.ModuleName, name, 2)
		if name == hostabi.FuncYield {
			binary = yielder()
		}
		m, err := s.m.runtime.Compile(t.Context(), binary)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close(t.Context())
		c, err := m.Start(t.Context(), StartConfig{ID: "maker"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		snap, err := c.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.store.PutBase(t.Context(), name, snap); err != nil {
			t.Fatal(err)
		}
		chain, err := s.store.Base(t.Context(), name, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, input := range [][]byte{nil, []byte("in")} {
			d, err := m.Start(t.Context(), StartConfig{ID: "c", Base: chain, Input: input})
			if refused := name == hostabi.FuncYield && input != nil; (err != nil) != refused {
				t.Errorf("%s, input %q: %v", name, input, err)
			}
			if err == nil {
				if !bytes.Equal(d.abi.input, input) {
					t.Errorf("%s: the input is %q", name, d.abi.input)
				}
				_ = d.Close()
			}
		}
	}
}

// yielder returns a module that yields nothing, once.
func yielder() []byte {
	var body []byte
	for _, in := range []wasm.Instr{constant(0), constant(0), ins(wasm.OpCall, 0), ins(wasm.OpEnd)} {
		body = wasm.AppendInstr(body, &in)
	}
	m := &wasm.Module{
		Types: []wasm.FuncType{
			{Params: []wasm.ValueType{wasm.I32, wasm.I32}, Results: []wasm.ValueType{wasm.I32}}, {Results: []wasm.ValueType{wasm.I32}},
		},
		Imports:   []wasm.Import{{Module: hostabi.ModuleName, Name: hostabi.FuncYield, Kind: wasm.ExternFunc}},
		Functions: []uint32{1},
		Exports:   []wasm.Export{{Name: "main", Kind: wasm.ExternFunc, Index: 1}},
		Code:      []wasm.Code{wasm.NewCode(nil, body)},
	}
	return m.Encode()
}
