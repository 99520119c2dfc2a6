package linmem

import (
	"iter"
	"math/bits"
)

// pageSet is a set of page numbers, as a bitmap. The zero value is empty.
type pageSet []uint64

// grow makes room for the pages below n, so that add doesn't allocate.
func (s *pageSet) grow(n uint32) {
	if words := int((uint64(n) + 63) / 64); words > len(*s) {
		*s = append(*s, make([]uint64, words-len(*s))...)
	}
}

func (s *pageSet) add(page uint32) {
	s.grow(page + 1)
	(*s)[page/64] |= 1 << (page % 64)
}

// addRange adds the pages from start up to, but not including, end.
func (s *pageSet) addRange(start, end uint32) {
	if start >= end {
		return
	}
	s.grow(end)
	first, last := start/64, (end-1)/64
	head, tail := ^uint64(0)<<(start%64), ^uint64(0)>>(63-(end-1)%64)
	if first == last {
		(*s)[first] |= head & tail
		return
	}
	(*s)[first] |= head
	for i := first + 1; i < last; i++ {
		(*s)[i] = ^uint64(0)
	}
	(*s)[last] |= tail
}

func (s pageSet) remove(page uint32) {
	if i := int(page / 64); i < len(s) {
		s[i] &^= 1 << (page % 64)
	}
}

func (s pageSet) has(page uint32) bool {
	i := int(page / 64)
	return i < len(s) && s[i]&(1<<(page%64)) != 0
}

func (s pageSet) count() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// assign makes s equal to t.
func (s *pageSet) assign(t pageSet) { *s = append((*s)[:0], t...) }

// union adds what is in t.
func (s *pageSet) union(t pageSet) {
	if len(t) > len(*s) {
		*s = append(*s, make([]uint64, len(t)-len(*s))...)
	}
	for i, w := range t {
		(*s)[i] |= w
	}
}

// all yields the pages in ascending order. The page that is yielded may be removed meanwhile.
func (s pageSet) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(uint32(i*64 + bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}
