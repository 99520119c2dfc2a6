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
	seeds := 120
	if testing.Short() || guests.RaceEnabled {
		seeds = 30
	}
	b, back := borrow(t)
	defer back()
	moves, differ := 0, 0
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			binary := generated(randomBytes(seed))
			keep(t, binary)
			m, d := b.betweenBuilds(t, binary, "main", b.original(t, b.interpreter, binary, "main"))
			moves += m
			differ += d
		})
	}
	t.Logf("%d programs, %d moves between builds, %d with frames of which the other build has others", seeds, moves, differ)
	if moves < 5*seeds || differ < moves/2 {
		t.Error("the builds differ too little")
	}
}

// betweenBuilds compares a program that moves to another build at each await, first from the one, then from the other, with
// what plain wazero did. It returns the number of moves, and of those after which the build has frames other than its own.
func (b *bench) betweenBuilds(t *testing.T, binary []byte, entry string, want aftermath) (moves, differ int) {
	t.Helper()
	var builds [2]*Module
	for i, r := range []*Runtime{b.runtime, b.other} {
		m, err := r.Compile(context.Background(), binary)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close(context.Background())
		builds[i] = m
	}
	for first := range builds {
		n := 0
		got := b.run(t, builds[first], entry, func(c *Coroutine) *Coroutine {
			if n++; n > maxHops {
				return c
			}
			to := builds[(first+n)%2]
			if framesDiffer(t, c, to) {
				differ++
			}
			moves++
			return b.hop(t, to, c)
		})
		if d := want.difference(&got); d != "" {
			t.Fatalf("moved between builds: %s", d)
		}
	}
	return moves, differ
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
