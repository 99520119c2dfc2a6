package snapshot

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
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

// root returns the chain of the first snapshot alone.
func (c *chainSample) root(t testing.TB) *Chain {
	t.Helper()
	st, err := readBytes(c.encoded[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := st.full()
	if err != nil {
		t.Fatal(err)
	}
	return &Chain{Commit: st.commit(), Root: root, root: st.pages}
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
		whole, n, patches := splitPages(pages, maxPatch, &scratch)
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

// TestHostileDeltas decodes and applies deltas whose checksums match and whose contents don't.
func TestHostileDeltas(t *testing.T) {
	c := chainSamples(t)["all"]
	base, good := c.whole[0], c.snaps[1]
	manifest := func(f func(*wireManifest)) func(*wireManifest, *wireState) {
		return func(m *wireManifest, _ *wireState) { f(m) }
	}
	state := func(f func(*wireState)) func(*wireManifest, *wireState) {
		return func(_ *wireManifest, s *wireState) { f(s) }
	}
	for name, change := range map[string]func(*wireManifest, *wireState){
		"no chain":             manifest(func(m *wireManifest) { m.Origin = nil }),
		"root is itself":       manifest(func(m *wireManifest) { m.Origin.Seq = m.Seq }),
		"root behind":          manifest(func(m *wireManifest) { m.Origin.Seq = m.Origin.Anchor + 1 }),
		"anchor behind":        manifest(func(m *wireManifest) { m.Origin.Anchor = m.Seq + 1 }),
		"anchor is the root":   manifest(func(m *wireManifest) { m.Origin.Anchor = m.Origin.Seq }),
		"long chain":           manifest(func(m *wireManifest) { m.Seq, m.Parent.Seq = m.Seq+MaxChain+1, m.Seq+MaxChain }),
		"two roots":            manifest(func(m *wireManifest) { m.Origin.Name = "py" }),
		"no root":              manifest(func(m *wireManifest) { m.Origin.Seq = 0 }),
		"root's name":          manifest(func(m *wireManifest) { m.Origin.Seq, m.Origin.Name = 0, "../x" }),
		"root's digest":        manifest(func(m *wireManifest) { m.Origin.Hash = m.Origin.Hash[1:] }),
		"root of 0 bytes":      manifest(func(m *wireManifest) { m.Origin.Bytes = 0 }),
		"root of many bytes":   manifest(func(m *wireManifest) { m.Origin.Bytes = math.MaxUint64 }),
		"parent, not the root": manifest(func(m *wireManifest) { m.Parent.Hash = make([]byte, 32) }),
		"no parent":            manifest(func(m *wireManifest) { m.Parent = nil }),
		"ended":                manifest(func(m *wireManifest) { m.Status, m.Await, m.Frames = 2, nil, 0 }),
		"other module":         manifest(func(m *wireManifest) { m.Module = make([]byte, 32) }),
		"memory shrinks":       manifest(func(m *wireManifest) { m.MemorySize = WasmPageSize }),
		"memory's limit":       manifest(func(m *wireManifest) { m.MemoryMax = 0 }),
		"fewer patches":        manifest(func(m *wireManifest) { m.Patches-- }),
		"more patches":         manifest(func(m *wireManifest) { m.Patches++ }),
		"many patches":         manifest(func(m *wireManifest) { m.Patches = math.MaxUint32 }),
		"more pages":           manifest(func(m *wireManifest) { m.Pages++ }),
		"frames":               manifest(func(m *wireManifest) { m.Frames++ }),
		"results":              state(func(s *wireState) { s.Results = []byte{} }),
		"no frames":            state(func(s *wireState) { s.Frames = []byte{} }),
		"frames kept":          state(func(s *wireState) { s.Frames = []byte{4} }),
		"many frames kept":     state(func(s *wireState) { s.Frames = []byte{0xff, 0xff, 0xff, 0xff, 0x0f} }),
		"no pages":             state(func(s *wireState) { s.Runs = nil }),
		"host section":         state(func(s *wireState) { s.Host = []wireSection{{Index: 3, Same: true}} }),
		"host section twice":   state(func(s *wireState) { s.Host = []wireSection{{Same: true}, {Same: true}} }),
		"host section's order": state(func(s *wireState) { s.Host = []wireSection{{Index: 1, Same: true}, {Same: true}} }),
		"host section's ends":  state(func(s *wireState) { s.Host = []wireSection{{Index: 2, Prefix: 500, Suffix: 101}} }),
		"host section's start": state(func(s *wireState) { s.Host = []wireSection{{Index: 2, Prefix: math.MaxUint32, Suffix: 1}} }),
		"globals":              state(func(s *wireState) { s.Globals = []byte{0} }),
	} {
		t.Run(name, func(t *testing.T) {
			data := forge(t, good, change)
			d, err := DecodeDelta(data)
			if err == nil {
				_, err = d.State(base)
			}
			var fe *FormatError
			if !errors.Is(err, ErrCorrupt) || !errors.As(err, &fe) {
				t.Errorf("got %v", err)
			}
		})
	}
	if data := forge(t, good, func(*wireManifest, *wireState) {}); !bytes.Equal(data, c.encoded[1]) {
		t.Error("unchanged, it is not what Encode gives")
	}
	if _, err := Decode(c.encoded[1]); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "delta") {
		t.Errorf("a delta as a full snapshot: %v", err)
	}
	if _, err := DecodeDelta(c.encoded[0]); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "full") {
		t.Errorf("a full snapshot as a delta: %v", err)
	}
}

// TestHostilePatches decodes patches that the format doesn't allow.
func TestHostilePatches(t *testing.T) {
	for name, b := range map[string][]byte{
		"cut":              {2, 0x10, 5},
		"cut in a word":    {2, 0x30, 5},
		"nothing":          {2, 0},
		"no mask":          {2, 1, 0x10, 5, 0},
		"byte 0":           {2, 0x10, 0, 0},
		"word beyond":      {2, 0x1f, 0xf1, 7, 5, 0},
		"word far beyond":  {2, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 5, 0},
		"second beyond":    {2, 0x1f, 0xf0, 7, 5, 0x10, 5, 0},
		"page beyond":      {0x80, 0x80, 0x80, 1, 0x10, 5, 0},
		"not shortest":     {0x82, 0, 0x10, 5, 0},
		"gap not shortest": {2, 0x1f, 0x80, 0, 5, 0},
		"two":              {2, 0x10, 5, 0, 0, 0x10, 5, 0},
		"none":             {},
	} {
		u := &unpacker{name: "patches", b: b}
		if list := u.patches(1); !errors.Is(u.err, ErrCorrupt) {
			t.Errorf("%s: %v, %v", name, list, u.err)
		}
	}
}

// TestPatchEncoding patches the words at a page's ends, and what is just near enough and just too far for one byte.
func TestPatchEncoding(t *testing.T) {
	old, page := new([PageSize]byte), new([PageSize]byte)
	old[0], page[3] = 0xf0, 1         // word 0: bytes 0 and 3
	page[15*4+1], page[31*4+2] = 2, 3 // after gaps of 14 and 15
	page[PageSize-1] = 4              // after a gap of 991
	want := []byte{0x90, 0xf0, 1, 0x2e, 2, 0x4f, 0, 3, 0x8f, 0xd0, 7, 4, 0}
	got := appendPatch(nil, old, page, maxPatch)
	if !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	if got := appendPatch(nil, old, page, len(want)-1); !bytes.Equal(got, want) {
		t.Errorf("with the limit that it just keeps: % x", got)
	}
	if got := appendPatch([]byte{9}, old, page, len(want)-2); len(got) != 1 {
		t.Errorf("with a lower limit: % x", got)
	}
	u := &unpacker{name: "patches", b: append([]byte{14}, want...)}
	list := u.patches(1)
	if u.err != nil || list[0].Number != 7 || list[0].Zero {
		t.Fatal(list, u.err)
	}
	if list[0].Apply(old); *old != *page {
		t.Error("the patched page differs")
	}
}

// TestHostileChain folds deltas that don't belong together.
func TestHostileChain(t *testing.T) {
	c := chainSamples(t)["all"]
	chain := func() *Chain {
		chain := c.root(t)
		for _, data := range c.encoded[1:5] {
			d, err := DecodeDelta(data)
			if err != nil {
				t.Fatal(err)
			}
			chain.Deltas = append(chain.Deltas, d)
		}
		chain.Commit = chain.Deltas[3].Commit
		return chain
	}
	good := chain()
	snap, err := good.Snapshot(t.Context())
	if err = errors.Join(err, good.check()); err != nil {
		t.Fatal(err)
	}
	equal(t, "folded", snap, c.whole[4])
	for name, change := range map[string]func(c *Chain){
		"another chain":  func(c *Chain) { c.Deltas[1].Origin.Anchor-- },
		"another root":   func(c *Chain) { c.Deltas[0].Origin.Root.Hash[0]++ },
		"another parent": func(c *Chain) { c.Deltas[2].Parent.Hash[0]++ },
		"page not there": func(c *Chain) { c.Deltas[3].pages.patches[0].Number, c.Deltas[3].pages.patches[0].Zero = 70, false },
		"root has ended": func(c *Chain) { ended := *c.Root; ended.Status = Completed; c.Root = &ended },
	} {
		c := chain()
		change(c)
		err := c.check()
		if err == nil {
			_, err = c.Snapshot(t.Context())
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalidDeltas(t *testing.T) {
	c := chainSamples(t)["all"]
	for name, change := range map[string]func(*Snapshot){
		"base has ended": func(s *Snapshot) { b := *s.Base.State; b.Status, b.Await = Completed, nil; s.Base.State = &b },
		"other module":   func(s *Snapshot) { b := *s.Base.State; b.Module = Hash{}; s.Base.State = &b },
		"memory shrinks": func(s *Snapshot) { b := *s.Base.State; b.Memory.Size = MaxMemory; s.Base.State = &b },
		"old page":       func(s *Snapshot) { s.Memory.Pages[0].Old = []byte{1} },
		"anchor":         func(s *Snapshot) { s.Base.Anchor++ },
		"no root":        func(s *Snapshot) { s.Base.Root = Ref{} },
		"ended":          func(s *Snapshot) { s.Status, s.Await, s.Frames = Completed, nil, nil },
	} {
		s := *c.snaps[1]
		s.Memory.Pages = slices.Clone(s.Memory.Pages)
		b := *s.Base
		s.Base = &b
		change(&s)
		if _, err := Encode(&s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
