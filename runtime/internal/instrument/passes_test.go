package instrument

import (
	"slices"
	"testing"
)

// TestPassOrder checks the table of passes against itself: what a pass builds on has run before it.
func TestPassOrder(t *testing.T) {
	var done []string
	constraints := 0
	for _, p := range passes {
		if p.name == "" || p.run == nil || slices.Contains(done, p.name) {
			t.Errorf("pass %q: no name, nothing to run, or a name that another has", p.name)
		}
		for _, a := range p.after {
			constraints++
			if !slices.Contains(done, a) {
				t.Errorf("pass %q comes after %q, which doesn't stand before it", p.name, a)
			}
		}
		done = append(done, p.name)
	}
	if len(passes) < 5 || constraints < 4 {
		t.Errorf("only %d passes with %d constraints", len(passes), constraints)
	}
}

// TestPassesLeaveOriginal checks that no pass writes to the module that it was given: the original is what frames refer
// to, and what Resume reads.
func TestPassesLeaveOriginal(t *testing.T) {
	for name, data := range modules(t) {
		m := decode(t, data)
		before := m.Encode()
		r, err := Transform(m, Config{Await: awaits})
		if err != nil {
			continue
		}
		if conts := continuations(r.Plan); len(conts) > 0 {
			if _, err := r.Plan.Resume(m, conts, conts[0].Function, firstAwait(t, m)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !slices.Equal(before, m.Encode()) {
			t.Errorf("%s: the original has changed", name)
		}
	}
}

// TestPassesAnyOrder checks that the stated constraints are all there is: in any order that keeps them, the passes give
// the same bytes.
func TestPassesAnyOrder(t *testing.T) {
	saved := slices.Clone(passes)
	defer func() { passes = saved }()
	orders := 0
	for name, data := range modules(t) {
		passes = slices.Clone(saved)
		want, err := Transform(decode(t, data), Config{Await: awaits})
		if err != nil {
			continue
		}
		// Neighbours that may change places do.
		for i := range len(saved) - 1 {
			if slices.Contains(saved[i+1].after, saved[i].name) {
				continue
			}
			passes = slices.Clone(saved)
			passes[i], passes[i+1] = passes[i+1], passes[i]
			got, err := Transform(decode(t, data), Config{Await: awaits})
			if err != nil {
				t.Fatalf("%s: %q before %q: %v", name, passes[i].name, passes[i+1].name, err)
			}
			if !slices.Equal(want.Module.Encode(), got.Module.Encode()) || !slices.Equal(want.Plan.Encode(), got.Plan.Encode()) {
				t.Errorf("%s: %q before %q gives another module, though nothing says that it may not come first", name, passes[i].name, passes[i+1].name)
			}
			orders++
		}
	}
	if orders < 30 {
		t.Errorf("only %d other orders", orders)
	}
}
