package runtime

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/snapshot"
)

// otherChoices is what a version of the transform that chooses otherwise would do.
var otherChoices = instrument.Choices{AllLive: true, Spill: true, Narrow: true}

// TestVersionsRandom runs generated programs that change at each await from one build of the transform to another, which
// puts other values into its frames and finds them elsewhere, and back. TestGuests does the same with guests.
func TestVersionsRandom(t *testing.T) {
	seeds := 300
	if testing.Short() || guests.RaceEnabled {
		seeds = 40
	}
	b, back := borrow(t)
	defer back()
	moves, differ := 0, 0
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			binary := generated(randomBytes(seed))
			keep(t, binary)
			want := b.original(t, b.interpreter, binary, "main")
			for _, first := range []*Runtime{b.runtime, b.other} {
				second := b.other
				if first == b.other {
					second = b.runtime
				}
				var both [2]*Module
				for i, r := range []*Runtime{first, second} {
					m, err := r.Compile(context.Background(), binary)
					if err != nil {
						t.Fatal(err)
					}
					defer m.Close(context.Background())
					both[i] = m
				}
				n := 0
				got := b.run(t, both[0], "main", func(c *Coroutine) *Coroutine {
					if n++; n > maxHops {
						return c
					}
					if framesDiffer(t, c, both[n%2]) {
						differ++
					}
					moves++
					return b.hop(t, both[n%2], c)
				})
				if d := want.difference(&got); d != "" {
					t.Fatalf("moved between builds: %s", d)
				}
			}
		})
	}
	t.Logf("%d programs, %d moves between builds, %d with frames of which the other build has others", seeds, moves, differ)
	if moves < 5*seeds || differ < moves/2 {
		t.Error("the builds differ too little")
	}
}

// framesDiffer reports whether a build would have saved other slots in the place of a coroutine's frames.
func framesDiffer(t *testing.T, c *Coroutine, m *Module) bool {
	t.Helper()
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Frames {
		i := slices.IndexFunc(m.plan.Sites, func(s instrument.Site) bool { return s.Function == f.Function && s.Offset == f.Offset })
		if i < 0 {
			t.Fatalf("the other build has no site in function %d at %#x", f.Function, f.Offset)
		}
		if !slices.EqualFunc(m.plan.Sites[i].Slots, f.Slots, func(a instrument.Slot, b snapshot.Slot) bool {
			return a.Operand == b.Operand && a.Index == b.Index
		}) {
			return true
		}
	}
	return false
}
