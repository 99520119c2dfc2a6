package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// saved is the state of an abi, with its parts.
type saved struct {
	version uint32
	data    []byte
	parts   []hostabi.Part
}

func save(t testing.TB, a *abi) saved {
	t.Helper()
	version, data, err := a.Save()
	if err != nil {
		t.Fatal(err)
	}
	parts, err := a.SaveParts()
	if err != nil {
		t.Fatal(err)
	}
	return saved{version, data, parts}
}

func (s saved) equal(o saved) bool {
	return s.version == o.version && bytes.Equal(s.data, o.data) &&
		slices.EqualFunc(s.parts, o.parts, func(a, b hostabi.Part) bool { return a.Name == b.Name && bytes.Equal(a.Data, b.Data) })
}

// restore returns an abi with a state, which waits for what it says.
func (s saved) restore() (*abi, error) {
	a := newABI("x", nil)
	if err := a.RestoreParts(s.version, s.parts); err != nil {
		return nil, err
	}
	if err := a.Restore(s.version, s.data); err != nil {
		return nil, err
	}
	a.pending = func() *hostabi.Pending { return &a.restored }
	return a, nil
}

// manyOperations returns an abi with n calls of which each third has ended, and which waits for all of them.
func manyOperations(t testing.TB, n int) *abi {
	t.Helper()
	a := newABI("x", nil)
	p := &hostabi.Pending{Min: uint32(n)}
	a.pending = func() *hostabi.Pending { return p }
	for i := range n {
		op, err := a.Begin(hostabi.Call, "work", fmt.Appendf(nil, "%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if p.Ops = append(p.Ops, op); i%3 == 0 {
			a.ops.end(op, 0, "", fmt.Appendf(nil, "result %d", i))
		}
	}
	return a
}

// TestStateParts has what a commit holds follow what has changed: a part that hasn't is the same slice, also after a restore.
func TestStateParts(t *testing.T) {
	const n = 10 * groupSize
	a := manyOperations(t, n)
	before := save(t, a)
	if len(before.parts) != 10+1+1 || len(before.data) > 50 { // number 0 is none, and the last group has one
		t.Fatalf("%d parts, beside %d bytes", len(before.parts), len(before.data))
	}
	b, err := before.restore()
	if err != nil {
		t.Fatal(err)
	}
	if again := save(t, b); !again.equal(before) {
		t.Error("restored and saved again, it is another state")
	}
	for i, p := range save(t, b).parts {
		if &p.Data[0] != &before.parts[i].Data[0] {
			t.Errorf("part %s was made anew after a restore", p.Name)
		}
	}
	snap := &snapshot.Snapshot{Coroutine: "x", Host: []snapshot.Section{{Name: hostabi.ModuleName, Version: before.version, Data: before.data}}}
	for _, p := range before.parts {
		snap.Host = append(snap.Host, snapshot.Section{Name: hostabi.ModuleName + partSeparator + p.Name, Version: before.version, Data: p.Data})
	}
	if ops, err := OperationsOf(snap); err != nil || len(ops) != n || ops[n-1].Number != n {
		t.Errorf("the snapshot has %d operations, %v", len(ops), err)
	}
	for name, a := range map[string]*abi{"begun": a, "restored": b} {
		for what, change := range map[string]func(){
			"end":      func() { a.ops.end(5, 0, "", []byte("result")) },
			"fail":     func() { a.ops.end(6, hostabi.CodeFailed, "why", nil) },
			"advance":  func() { a.ops.advance(a.ops.get(8), &handler.Progress{Attempt: 1, Started: time.Now()}) },
			"drop":     func() { a.ops.drop(a.ops.get(1)) },
			"cancel":   func() { a.ops.cancel(a.ops.get(9)) },
			"two ends": func() { a.ops.end(12, 0, "", nil); a.ops.end(14, 0, "", nil) },
		} {
			before := save(t, a)
			change()
			after := save(t, a)
			var changed []string
			for i, p := range after.parts {
				if &p.Data[0] != &before.parts[i].Data[0] {
					changed = append(changed, p.Name)
				}
			}
			if !slices.Equal(changed, []string{"o000"}) || bytes.Equal(after.parts[0].Data, before.parts[0].Data) {
				t.Errorf("%s, %s: parts %v are others", name, what, changed)
			}
		}
	}
}

// TestStatePartsRandom changes operations at random, and has what was saved before never be wrong.
func TestStatePartsRandom(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		a := newABI("x", nil)
		var p hostabi.Pending
		pending := func() *hostabi.Pending { return &p }
		a.pending = pending
		if seed%2 == 1 {
			a.ops.last = groupSize*numGroups - 500 // so that groups have operations from two times round
		}
		most, parts := maxWhole+random.IntN(1000), 0
		for range 4000 {
			kind := []hostabi.OperationKind{hostabi.Call, hostabi.Timer, hostabi.Spawn, hostabi.Recv}[random.IntN(4)]
			body := nanoseconds(time.Hour)
			if kind == hostabi.Recv {
				body = nil
			}
			if len(a.ops.all) < most {
				if _, err := a.Begin(kind, "name", body); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				o := a.ops.get(a.ops.last - uint32(random.IntN(1000)))
				if o == nil {
					continue
				}
				switch random.IntN(7) {
				case 0:
					a.ops.end(o.number, 0, "", body)
				case 1:
					a.ops.end(o.number, hostabi.CodeFailed, "why", nil)
				case 2:
					a.ops.cancel(o)
				case 3:
					a.ops.drop(o)
				case 4:
					a.ops.started() // the rest is a child's cancelling then
				case 5:
					if o.kind == hostabi.Call && !o.ended {
						a.ops.advance(o, &handler.Progress{Attempt: random.IntN(9) + 1, Started: time.Unix(int64(random.IntN(1e9)), 0).UTC()})
					}
				}
			}
			if random.IntN(50) > 0 {
				continue
			}
			if random.IntN(10) == 0 {
				a.renew()
			}
			p.Ops = p.Ops[:0] // in place, as a host module might
			for n := range uint32(random.IntN(200)) {
				p.Ops = append(p.Ops, n+uint32(random.IntN(2)))
			}
			got := save(t, a)
			parts += len(got.parts)
			for _, g := range a.ops.groups {
				g.part.Data = nil
			}
			a.waited = savedWait{}
			if fresh := save(t, a); !fresh.equal(got) {
				t.Fatal("what was saved before is used, and is not the state")
			}
			b, err := got.restore()
			if err != nil {
				t.Fatal(err)
			}
			if again := save(t, b); !again.equal(got) || !slices.IsSorted(b.Operations()) {
				t.Fatal("restored and saved again, it is another state")
			}
			if random.IntN(3) == 0 {
				a, a.pending = b, pending
			}
		}
		if parts == 0 {
			t.Error("the state never had parts")
		}
	}
}

// TestStatePartsSparse has few operations of a long life be in no more parts than a snapshot can have.
func TestStatePartsSparse(t *testing.T) {
	a := newABI("x", nil)
	for range hostabi.MaxOperations {
		a.ops.last += groupSize
		if _, err := a.Begin(hostabi.Call, "work", nil); err != nil {
			t.Fatal(err)
		}
	}
	s := save(t, a)
	if len(s.parts) > numGroups {
		t.Errorf("%d parts", len(s.parts))
	}
	b, err := s.restore()
	if err != nil {
		t.Fatal(err)
	}
	if again := save(t, b); !again.equal(s) || len(b.Operations()) != hostabi.MaxOperations {
		t.Error("restored and saved again, it is another state")
	}
}

// TestStatePartsHostile has made-up parts refused.
func TestStatePartsHostile(t *testing.T) {
	const n = 3 * groupSize
	good := save(t, manyOperations(t, n))
	few := save(t, manyOperations(t, 3))
	plain := save(t, newABI("x", []byte("input")))
	part := func(s saved, name string) hostabi.Part {
		return s.parts[slices.IndexFunc(s.parts, func(p hostabi.Part) bool { return p.Name == name })]
	}
	with := func(s saved, parts ...hostabi.Part) saved {
		s.parts = append(slices.Clone(s.parts), parts...)
		slices.SortStableFunc(s.parts, func(a, b hostabi.Part) int { return strings.Compare(a.Name, b.Name) })
		return s
	}
	without := func(s saved, name string) saved {
		s.parts = slices.DeleteFunc(slices.Clone(s.parts), func(p hostabi.Part) bool { return p.Name == name })
		return s
	}
	but := func(name string, data []byte) saved {
		return with(without(good, name), hostabi.Part{Name: name, Data: data})
	}
	o1 := part(good, "o001")
	reversed := good
	reversed.parts = slices.Clone(good.parts)
	slices.Reverse(reversed.parts)
	for name, s := range map[string]saved{
		"a group is missing":         without(good, "o001"),
		"no groups":                  {good.version, good.data, []hostabi.Part{part(good, partWait)}},
		"no wait":                    without(good, partWait),
		"a group twice":              with(good, o1),
		"a group under another name": with(good, hostabi.Part{Name: "o005", Data: o1.Data}),
		"a group is another":         but("o001", part(good, "o002").Data),
		"a group and more":           but("o001", slices.Concat(o1.Data, []byte{0})),
		"a group, cut":               but("o001", o1.Data[:len(o1.Data)-1]),
		"an empty group":             with(good, hostabi.Part{Name: "o004"}),
		"a name in capitals":         with(without(good, "o001"), hostabi.Part{Name: "O001", Data: o1.Data}),
		"a name that is short":       with(without(good, "o001"), hostabi.Part{Name: "o1", Data: o1.Data}),
		"a name beyond":              with(good, hostabi.Part{Name: "o400", Data: o1.Data}),
		"no name":                    with(good, hostabi.Part{Data: o1.Data}),
		"another name":               with(good, hostabi.Part{Name: "x", Data: o1.Data}),
		"out of order":               reversed,
		"wait, cut":                  but(partWait, part(good, partWait).Data[:n]),
		"wait and more":              but(partWait, slices.Concat(part(good, partWait).Data, []byte{1})),
		"wait with a long number":    but(partWait, append(slices.Clone(part(good, partWait).Data[1:]), 0x80, 0)),
		"parts of few":               with(few, o1),
		"wait of few":                with(few, part(good, partWait)),
		"parts without operations":   with(plain, o1),
		"parts of plain state":       {abiVersionPlain, plain.data, good.parts},
	} {
		if _, err := s.restore(); !errors.Is(err, hostabi.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (saved{abiVersion + 1, good.data, good.parts}).restore(); !errors.Is(err, hostabi.ErrStateVersion) {
		t.Errorf("of a later version: %v", err)
	}
	for _, s := range []saved{good, few, plain} {
		if _, err := s.restore(); err != nil {
			t.Error(err)
		}
	}
}
