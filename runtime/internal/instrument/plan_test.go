package instrument

import (
	"bytes"
	"errors"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/runtime/internal/wasm"
)

// FuzzDecodePlan: hostile bytes are an error, or a plan that encodes to bytes which decode to the same. They don't make
// the decoder allocate what a length alone claims, and don't make Resume panic.
func FuzzDecodePlan(f *testing.F) {
	all := modules(f)
	var m *wasm.Module
	for _, name := range []string{"golden/segments.wasm", "golden/blocks.wasm", "golden/operands.wasm"} {
		m = decode(f, all[name])
		r, err := Transform(m, Config{Await: awaits})
		if err != nil {
			f.Fatal(err)
		}
		plan := r.Plan.Encode()
		f.Add(plan)
		f.Add(plan[:len(plan)/2])
	}
	f.Add([]byte(planMagic))
	// All eight functions may suspend, and nothing says where the sites of any begin.
	f.Add([]byte(planMagic + "\x08\xff\x00\x00\x00\x00\x00"))
	// As many sites, and slots, as there are bits behind.
	f.Add([]byte(planMagic + "\x00\x00\x00\x00\x80\x80\x02" + strings.Repeat("\x00", 4096)))
	f.Add([]byte(planMagic + "\x00\x00\x00\x00\x00\x80\x80\x02" + strings.Repeat("\x00", 4096)))
	f.Add([]byte(planMagic + "\x00\x00\x00\x80\x80\x02" + strings.Repeat("\x00", 4096)))
	for _, n := range []string{"\xff\xff\xff\xff\x0f", "\x80\x80\x80\x80\x01", "\x80\x80\x04"} {
		for zeros := range 7 {
			f.Add([]byte(planMagic + strings.Repeat("\x00", zeros) + n + strings.Repeat("\x00", 64)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		p, err := DecodePlan(data)
		goruntime.ReadMemStats(&after)
		// A plan is at most as large, compared with its bytes, as sites without slots: 32 bytes for 3.
		if n, most := after.TotalAlloc-before.TotalAlloc, uint64(64*len(data)+64<<10); n > most {
			t.Errorf("%d bytes made the decoder allocate %d", len(data), n)
		}
		if err != nil {
			return
		}
		again := p.Encode()
		if q, err := DecodePlan(again); err != nil {
			t.Errorf("what a decoded plan encodes to doesn't decode: %v", err)
		} else if !bytes.Equal(q.Encode(), again) {
			t.Error("two round trips differ")
		}
		_ = p.MaySuspend(0)
		for f := range uint32(8) {
			// Any result will do: the plan may be another module's.
			_, _ = p.Resume(m, []Continuation{{Function: f, Offset: 11}}, f, 0)
		}
		for i := range min(len(p.Sites), 8) {
			_, _ = p.Resume(m, []Continuation{{Function: p.Sites[i].Function, Offset: p.Sites[i].Offset, Slots: slices.Clone(p.Sites[i].Slots)}}, 0, 0)
			_ = p.Sites[i].Words()
		}
	})
}

// TestDecodePlanDamaged: a plan that ends early or goes on is refused.
func TestDecodePlanDamaged(t *testing.T) {
	m := decode(t, modules(t)["golden/segments.wasm"])
	r, err := Transform(m, Config{Await: awaits})
	if err != nil {
		t.Fatal(err)
	}
	plan := r.Plan.Encode()
	for n := range plan {
		if _, err := DecodePlan(plan[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken for a plan", n, len(plan))
		}
	}
	if _, err := DecodePlan(append(slices.Clone(plan), 0)); err == nil {
		t.Error("a plan with a byte behind it is taken for one")
	}
}

// TestResumeMismatch: frames that don't fit the module are errors that say so.
func TestResumeMismatch(t *testing.T) {
	m := decode(t, modules(t)["golden/operands.wasm"])
	r, err := Transform(m, Config{Await: awaits})
	if err != nil {
		t.Fatal(err)
	}
	// Site 0 of the golden: func 1 at 0xb: local1:f32 operand0:i64 operand1:i64 operand2:i64.
	good := continuations(r.Plan)[0]
	if len(good.Slots) != 4 || good.Slots[0].Operand || !good.Slots[1].Operand {
		t.Fatalf("the first site is another: %+v", good)
	}
	change := func(f func(c *Continuation)) Continuation {
		c := good
		c.Slots = slices.Clone(good.Slots)
		f(&c)
		return c
	}
	for _, tt := range []struct {
		name         string
		cont         Continuation
		outer, await uint32
		want         string
	}{
		{"imported function", change(func(c *Continuation) { c.Function = 0 }), 1, 0, "no such function"},
		{"function beyond the last", change(func(c *Continuation) { c.Function = 4 }), 1, 0, "no such function"},
		{"function 2^32-1", change(func(c *Continuation) { c.Function = 1<<32 - 1 }), 1, 0, "no such function"},
		{"offset before", change(func(c *Continuation) { c.Offset-- }), 1, 0, "no call"},
		{"offset 0", change(func(c *Continuation) { c.Offset = 0 }), 1, 0, "no call"},
		{"offset 2^32-1", change(func(c *Continuation) { c.Offset = 1<<32 - 1 }), 1, 0, "no call"},
		{"operand missing", change(func(c *Continuation) { c.Slots = c.Slots[:3] }), 1, 0, "2 operands"},
		{"operands missing", change(func(c *Continuation) { c.Slots = nil }), 1, 0, "0 operands"},
		{"operand more", change(func(c *Continuation) { c.Slots = append(c.Slots, Slot{true, 3, wasm.I32}) }), 1, 0, "operand 3"},
		{"operand twice", change(func(c *Continuation) { c.Slots[2].Index = 0 }), 1, 0, "operand 0"},
		{"operand of another type", change(func(c *Continuation) { c.Slots[3].Type = wasm.V128 }), 1, 0, "operand 2"},
		{"local of another type", change(func(c *Continuation) { c.Slots[0].Type = wasm.I32 }), 1, 0, "local 1"},
		{"local of no type", change(func(c *Continuation) { c.Slots[0].Type = 0 }), 1, 0, "local 1"},
		{"local beyond the last", change(func(c *Continuation) { c.Slots[0].Index = 2 }), 1, 0, "local 2"},
		{"local 2^32-1", change(func(c *Continuation) { c.Slots[0].Index = 1<<32 - 1 }), 1, 0, "local 4294967295"},
		{"local behind an operand", change(func(c *Continuation) { c.Slots[0], c.Slots[1] = c.Slots[1], c.Slots[0] }), 1, 0, "local 1"},
		{"local twice", change(func(c *Continuation) { c.Slots = slices.Insert(c.Slots, 0, c.Slots[0]) }), 1, 0, "local 1"},
		{"locals out of order", change(func(c *Continuation) { c.Slots = slices.Insert(c.Slots, 1, Slot{false, 0, wasm.I64}) }), 1, 0, "local 0"},
		{"await that is defined here", good, 1, 1, "no such function"},
		{"await beyond the last", good, 1, 1<<32 - 1, "no such function"},
		{"outer beyond the last", good, 4, 0, "no such function"},
	} {
		_, err := r.Plan.Resume(m, []Continuation{tt.cont}, tt.outer, tt.await)
		if e := (*MismatchError)(nil); !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v (%v), want a MismatchError about %q", tt.name, err, e, tt.want)
		}
	}
	// What fits: with the local that isn't live, without the one that is.
	for _, c := range []Continuation{
		good,
		change(func(c *Continuation) { c.Slots = slices.Insert(c.Slots, 0, Slot{false, 0, wasm.I64}) }),
		change(func(c *Continuation) { c.Slots = c.Slots[1:] }),
	} {
		res, err := r.Plan.Resume(m, []Continuation{c}, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		accept(t, engine(t), res)
	}
}
