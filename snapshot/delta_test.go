package snapshot

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// chainSample is a stored chain: what was encoded and what it means.
type chainSample struct {
	id      string
	snaps   []*Snapshot // with their bases
	encoded [][]byte
	whole   []*Snapshot // as they are restored
}

func (c *chainSample) key(i int) string {
	if c.snaps[i].Coroutine != c.id {
		return baseKey(c.snaps[i].Coroutine)
	}
	return commitKey(c.id, c.snaps[i].Seq)
}

// next adds a commit, which becomes a delta if since says so.
func (c *chainSample) next(t testing.TB, l *Lineage, since Since, s *Snapshot) {
	t.Helper()
	whole := *s
	c.whole = append(c.whole, &whole)
	n := len(c.snaps)
	var base *Snapshot
	switch since {
	case SinceRoot:
		base = c.whole[0]
	case SinceParent:
		base = c.whole[n-1]
	}
	s = &whole
	if base != nil {
		delta := whole
		delta.Memory.Pages = changedPages(whole.Memory.Pages, base.Memory.Pages)
		delta.Base = l.Base(since, s.Seq, base)
		s = &delta
	}
	data := encode(t, s)
	c.snaps, c.encoded = append(c.snaps, s), append(c.encoded, data)
	l.Committed(Commit{Manifest: s.manifest(), Bytes: int64(len(data)), Hash: Digest(data)})
}

// changedPages are the pages of a delta.
func changedPages(pages, base []Page) []Page {
	var changed []Page
	for _, p := range pages {
		if i, ok := findPage(base, p.Number); !ok {
			changed = append(changed, p)
		} else if !bytes.Equal(base[i].Data, p.Data) {
			changed = append(changed, Page{Number: p.Number, Data: p.Data, Old: base[i].Data})
		}
	}
	return changed
}

// chainSamples use every feature of deltas.
func chainSamples(t testing.TB) map[string]*chainSample {
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.UTC)
	full := samples()["full"]
	full.Seq, full.Parent = 7, nil
	parent := func(c *chainSample) *Parent {
		n := len(c.snaps) - 1
		return &Parent{Seq: c.snaps[n].Seq, Hash: Digest(c.encoded[n])}
	}

	all := &chainSample{id: full.Coroutine}
	var l Lineage
	all.next(t, &l, SinceImage, full)

	// Much changes: lists become empty or full, pages are patched, replaced, zeroed, new.
	s := *full
	s.Seq, s.Parent, s.Time = 8, parent(all), at.Add(time.Second)
	s.Args, s.InStart, s.Globals, s.Tables, s.DroppedData, s.Grants = nil, false, nil, []Table{{3, []uint32{1}}}, []uint32{1}, nil
	s.Await = &Await{Import: "durun.yield", Kind: "yield", Args: []Value{{I32, 1, 0}}}
	s.Frames = append(slices.Clone(full.Frames[:1]), Frame{Function: 1, Offset: 2})
	s.Host = []Section{{"clock", 1, []byte{1}}, {"new", 1, []byte("x")}, {"wasi", 8, append(bytes.Repeat([]byte("fd"), 200), "other"...)}}
	s.Output = []Output{{1, []byte("next\n")}}
	s.Memory.Size *= 2
	patched := page(1, 1, 2, 3, 0, 0, 0, 0, 0, 9)
	patched.Data[PageSize-1] = 1
	dense := page(2, bytes.Repeat([]byte("TEXT and "), 455)...)
	s.Memory.Pages = []Page{page(0), patched, dense, page(40, 7), page(47), page(90, noise(PageSize)...)}
	all.next(t, &l, SinceRoot, &s)

	// Nothing does, but what every commit has of its own.
	same := s
	same.Seq, same.Parent, same.Output = 9, parent(all), nil
	all.next(t, &l, SinceParent, &same)

	// Frames go and come, the rest as at first.
	back := same
	back.Seq, back.Parent = 10, parent(all)
	back.Args, back.InStart, back.Globals, back.Tables, back.DroppedData, back.Grants = full.Args, true, full.Globals, nil, nil, full.Grants
	back.Host, back.Frames = full.Host, same.Frames[:1]
	all.next(t, &l, SinceParent, &back)
	deeper := back
	deeper.Seq, deeper.Parent = 11, parent(all)
	deeper.Frames = append(slices.Clone(back.Frames), withFrames(3)...)
	deeper.Memory.Pages = append(slices.Clone(back.Memory.Pages[:4]), page(46, 1), page(47), page(90, noise(PageSize)...))
	all.next(t, &l, SinceParent, &deeper)

	// An anchor once more.
	anchor := deeper
	anchor.Seq, anchor.Parent, anchor.Frames = 12, parent(all), nil
	all.next(t, &l, SinceRoot, &anchor)

	// From a shared base.
	base := *samples()["noisy"]
	base.Coroutine = "python-3"
	shared := &chainSample{id: "c1"}
	shared.next(t, &l, SinceImage, &base)
	l = FromBase(Commit{Manifest: base.manifest(), Bytes: int64(len(shared.encoded[0])), Hash: Digest(shared.encoded[0])})
	first := base
	first.Coroutine = "c1"
	first.Memory.Pages = []Page{page(3, 1, 2), base.Memory.Pages[0]}
	shared.next(t, &l, SinceRoot, &first)
	second := first
	second.Seq, second.Parent = 2, parent(shared)
	second.Memory.Pages = []Page{page(3, 1, 2, 3), base.Memory.Pages[0]}
	shared.next(t, &l, SinceParent, &second)
	return map[string]*chainSample{"all": all, "shared": shared}
}

// editPage changes a page as programs do: some words, a stretch, all of it, or back to zeros.
func editPage(r *rand.Rand, page []byte) {
	switch r.IntN(8) {
	case 0:
		for i := range page {
			page[i] = byte(r.Uint32())
		}
	case 1:
		clear(page)
	case 2:
		at := r.IntN(len(page))
		for i := at; i < min(at+200, len(page)); i++ {
			page[i] = byte(i)
		}
	default:
		for range 1 + r.IntN(20) {
			page[r.IntN(len(page))] ^= byte(1 + r.IntN(255))
		}
	}
}

func TestPatches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 2000 {
		old, page := new([PageSize]byte), new([PageSize]byte)
		editPage(r, old[:])
		*page = *old
		editPage(r, page[:])
		pages := []Page{{Number: uint32(r.IntN(100)), Data: page[:], Old: old[:]}, {Number: 200, Data: page[:]}}
		var scratch []byte
		whole, n, patches := splitPages(pages, &scratch)
		u := &unpacker{name: "patches", b: patches}
		got := u.patches(n)
		if u.err != nil {
			t.Fatalf("%d: %v", i, u.err)
		}
		for _, p := range got {
			restored := *old
			if p.Number == 200 {
				restored = [PageSize]byte{}
			}
			if p.Apply(&restored); restored != *page {
				t.Fatalf("%d: the patched page differs", i)
			}
			if len(p.words) > maxPatch {
				t.Errorf("%d: a patch of %d bytes", i, len(p.words))
			}
		}
		if unchanged := *old == *page; len(whole)+len(got) != 2 && !unchanged || unchanged && len(whole)+len(got) != 1 {
			t.Fatalf("%d: %d whole and %d patched pages", i, len(whole), len(got))
		}
	}
}
