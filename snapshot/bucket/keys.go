package bucket

import (
	"iter"
	"slices"
	"strings"
)

// keySet is an ordered set of keys. It keeps them in chunks, so that to insert or remove one moves a few hundred
// others at most, and one chunk in a few hundred times: a B-tree of two levels, which serves up to some millions of keys.
type keySet struct {
	chunks [][]string // none is empty; the keys of each are sorted, and come before those of the next
}

// maxChunk is how many keys a chunk has before it is split.
const maxChunk = 512

// find returns where the first key is that is not less than key, and whether it is key. The chunk is len(s.chunks) if
// there is none.
func (s *keySet) find(key string) (chunk, i int, found bool) {
	chunk, found = slices.BinarySearchFunc(s.chunks, key, func(c []string, key string) int {
		return strings.Compare(c[len(c)-1], key)
	})
	if found {
		return chunk, len(s.chunks[chunk]) - 1, true
	}
	if chunk < len(s.chunks) {
		i, found = slices.BinarySearch(s.chunks[chunk], key)
	}
	return chunk, i, found
}

// insert adds a key, if it isn't there.
func (s *keySet) insert(key string) {
	n, i, found := s.find(key)
	switch {
	case found:
		return
	case len(s.chunks) == 0:
		s.chunks = [][]string{{key}}
		return
	case n == len(s.chunks): // after all others
		n--
		i = len(s.chunks[n])
	}
	c := slices.Insert(s.chunks[n], i, key)
	if s.chunks[n] = c; len(c) < maxChunk {
		return
	}
	half := slices.Clone(c[maxChunk/2:])
	clear(c[maxChunk/2:])
	s.chunks[n] = c[:maxChunk/2]
	s.chunks = slices.Insert(s.chunks, n+1, half)
}

// remove takes a key away, if it is there.
func (s *keySet) remove(key string) {
	n, i, found := s.find(key)
	if !found {
		return
	}
	if s.chunks[n] = slices.Delete(s.chunks[n], i, i+1); len(s.chunks[n]) == 0 {
		s.chunks = slices.Delete(s.chunks, n, n+1)
	}
}

// from iterates over the keys that are not less than key, in order.
func (s *keySet) from(key string) iter.Seq[string] {
	return func(yield func(string) bool) {
		n, i, _ := s.find(key)
		for ; n < len(s.chunks); n, i = n+1, 0 {
			for _, k := range s.chunks[n][i:] {
				if !yield(k) {
					return
				}
			}
		}
	}
}
