package bucket

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestKeySet compares a set with a map, while it grows to several chunks and shrinks to nothing.
func TestKeySet(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var s keySet
	model := map[string]bool{}
	check := func() {
		t.Helper()
		want := slices.Sorted(maps.Keys(model))
		if got := slices.Collect(s.from("")); !slices.Equal(got, want) {
			t.Fatalf("%d keys, want %d, or out of order", len(got), len(want))
		}
		for range 20 {
			start := fmt.Sprint(r.IntN(20_000))
			i, found := slices.BinarySearch(want, start)
			if got := slices.Collect(s.from(start)); !slices.Equal(got, want[i:]) {
				t.Fatalf("from %s: %d keys, want %d", start, len(got), len(want)-i)
			}
			if _, _, got := s.find(start); got != found {
				t.Fatalf("%s is found: %v, want %v", start, got, found)
			}
		}
		for _, c := range s.chunks {
			if len(c) == 0 || len(c) >= maxChunk {
				t.Fatalf("a chunk of %d keys", len(c))
			}
		}
	}
	for i, odds := range []int{9, 5, 1, 0} { // of ten operations so many insert
		for range 20_000 {
			key := fmt.Sprint(r.IntN(20_000))
			if r.IntN(10) < odds {
				s.insert(key)
				model[key] = true
			} else {
				s.remove(key)
				delete(model, key)
			}
		}
		if check(); i == 0 && len(s.chunks) < 10 {
			t.Fatalf("only %d chunks", len(s.chunks))
		}
	}
	for key := range model {
		s.remove(key)
		delete(model, key)
	}
	if check(); len(s.chunks) != 0 {
		t.Errorf("%d chunks are left of nothing", len(s.chunks))
	}
}
