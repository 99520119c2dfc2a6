package snapshot

import (
	"encoding/binary"
	"math/bits"
)

// Patch changes a page of [PageSize] bytes: some words of 4 bytes, each XORed. It is made by [DecodeDelta], which has
// found it sound.
type Patch struct {
	Number uint32 // of the page
	// Zero says that the patch is over zeros: the page's old content doesn't matter.
	Zero  bool
	words []byte
}

// Pages whose patches have more bytes are better stored whole, where they can be compressed.
const (
	maxPatch     = PageSize / 2 // of deltas
	maxZeroPatch = PageSize / 8 // of full snapshots, whose pages differ from zeros everywhere

	// maxPatches is how many bytes of patches there may be when another one is made: they are held in memory.
	maxPatches = 16 << 20
)

const (
	wordSize  = 4 // bytes; a WebAssembly program's pointers and most of its numbers have as many
	pageWords = PageSize / wordSize
	longGap   = 15 // a gap of so many words or more doesn't fit into the byte of the mask
)

// Apply patches a page in place.
func (p Patch) Apply(page *[PageSize]byte) {
	if p.Zero {
		clear(page[:])
	}
	at := 0
	for b := p.words; len(b) > 0; {
		mask, gap, n := b[0]>>4, int(b[0]&15), 1
		if gap == longGap {
			more, k := binary.Uvarint(b[1:])
			gap, n = gap+int(more), 1+k
		}
		b = b[n:]
		at += gap
		word := page[at*wordSize : (at+1)*wordSize]
		for ; mask != 0; mask &= mask - 1 {
			word[bits.TrailingZeros8(mask)] ^= b[0]
			b = b[1:]
		}
		at++
	}
}

// appendPatch appends the patch that makes page of old, or of zeros if old is nil, without its number. It gives up, and
// returns b, if the words take more than limit bytes. FORMAT.md specifies it.
func appendPatch(b []byte, old, page *[PageSize]byte, limit int) []byte {
	if old == nil {
		old = &zeroPage
	}
	start := len(b)
	next := 0 // the word after the last one that changed
	for at := 0; at < PageSize; at += 32 {
		was, is := (*[32]byte)(old[at:]), (*[32]byte)(page[at:])
		if *was == *is {
			continue
		}
		for i := 0; i < 32; i += wordSize {
			x := binary.LittleEndian.Uint32(was[i:]) ^ binary.LittleEndian.Uint32(is[i:])
			if x == 0 {
				continue
			}
			word := (at + i) / wordSize
			head := len(b)
			if gap := word - next; gap < longGap {
				b = append(b, byte(gap))
			} else {
				b = binary.AppendUvarint(append(b, longGap), uint64(gap-longGap))
			}
			next = word + 1
			for x != 0 {
				k := bits.TrailingZeros32(x) / 8
				b[head] |= 16 << k
				b = append(b, byte(x>>(8*k)))
				x &^= 0xff << (8 * k)
			}
		}
		if len(b)-start > limit {
			return b[:start]
		}
	}
	return append(b, 0)
}

// patches reads patches to the end of the content, which they alias, and checks them.
func (u *unpacker) patches(count int) []Patch {
	var list []Patch
	next := uint64(0)
	for u.more() {
		if len(list) == count {
			u.fail("more than %d patches", count)
			return nil
		}
		head := u.uvarint(2*(MaxMemory/PageSize) + 1)
		p := Patch{Zero: head&1 != 0}
		number := next + head>>1
		if number >= MaxMemory/PageSize {
			u.fail("page %d is beyond any memory", number)
		}
		p.Number, next = uint32(number), number+1
		start, at := u.at, uint64(0)
		for {
			head := u.byte()
			if head == 0 {
				break
			}
			mask := head >> 4
			if at += uint64(head & 15); head&15 == longGap {
				at += u.uvarint(pageWords)
			}
			switch {
			case mask == 0:
				u.fail("page %d: a word that doesn't change", number)
			case at >= pageWords:
				u.fail("page %d: a word beyond its end", number)
			}
			at++
			for _, x := range u.bytes(bits.OnesCount8(mask)) {
				if x == 0 {
					u.fail("page %d: a byte that doesn't change", number)
				}
			}
		}
		if u.err != nil {
			return nil
		}
		if p.words = u.b[start : u.at-1 : u.at-1]; len(p.words) == 0 && !p.Zero {
			u.fail("page %d: nothing changes", number)
		}
		list = append(list, p)
	}
	if u.err == nil && len(list) != count {
		u.fail("%d patches instead of %d", len(list), count)
	}
	return list
}

// splitPages appends to the scratch buffer the patches of those pages for which one is short, and returns the other pages,
// how many are patched, and the patches. A page that equals its old content is left out.
func splitPages(pages []Page, limit int, scratch *[]byte) (whole []Page, patched int, patches []byte) {
	b := *scratch
	start := len(b)
	next := uint32(0)
	for i := range pages {
		p := &pages[i]
		page := (*[PageSize]byte)(p.Data)
		before := len(b)
		// try appends the patch over old, nil for zeros, and reports whether it is short.
		try := func(old *[PageSize]byte) bool {
			zero := uint64(0)
			if old == nil {
				zero = 1
			}
			b = binary.AppendUvarint(b[:before], uint64(p.Number-next)<<1|zero)
			at := len(b)
			b = appendPatch(b, old, page, limit)
			return len(b) > at
		}
		ok := false
		if p.Old != nil {
			old := (*[PageSize]byte)(p.Old)
			if *old == *page {
				continue
			}
			ok = before-start <= maxPatches && try(old)
		}
		if ok = ok || before-start <= maxPatches && try(nil); ok {
			patched++
			next = p.Number + 1
			continue
		}
		b = b[:before]
		if whole == nil {
			whole = make([]Page, 0, len(pages)-i)
		}
		whole = append(whole, *p)
	}
	*scratch = b
	return whole, patched, b[start:len(b):len(b)]
}
