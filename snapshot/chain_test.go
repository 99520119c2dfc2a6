package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
)

// counting counts what is read of a bucket.
type counting struct {
	bucket.Bucket
	objects, bytes atomic.Int64
}

func (c *counting) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	o, err := c.Bucket.Get(ctx, key, offset, length)
	if err == nil {
		c.objects.Add(1)
		c.bytes.Add(o.Size)
	}
	return o, err
}

// guest is a coroutine as a driver keeps it, for tests: what it is now, and what its last commit and its root were.
type guest struct {
	r          *rand.Rand
	now        *Snapshot // complete
	last, root *Snapshot // complete
	lineage    Lineage
	commit     Commit
	largest    int64             // bytes of its largest delta
	since      func(Since) Since // overrules the lineage
	made       int
}

func newGuest(seed uint64, id string) *guest {
	s := commitOf(id, 1)
	s.Memory = Memory{Size: 4 * WasmPageSize, Max: 64 * WasmPageSize}
	s.Globals = []Global{{0, Value{I32, 1, 0}}, {4, Value{I64, 1, 0}}}
	s.Host = []Section{{"durun", 1, []byte{1}}, {"wasi", 1, bytes.Repeat([]byte("fd"), 40)}}
	g := &guest{r: rand.New(rand.NewPCG(seed, 7)), now: s}
	for range 4 + g.r.IntN(30) {
		g.edit()
	}
	return g
}

func (g *guest) edit() {
	r, m := g.r, &g.now.Memory
	n := uint32(r.IntN(int(m.Size / PageSize)))
	if r.IntN(2) == 0 {
		n %= 8 // some pages change more often
	}
	data := make([]byte, PageSize)
	i, ok := findPage(m.Pages, n)
	if ok {
		copy(data, m.Pages[i].Data)
	} else {
		m.Pages = slices.Insert(slices.Clone(m.Pages), i, Page{Number: n})
	}
	editPage(r, data)
	m.Pages = slices.Clone(m.Pages)
	m.Pages[i] = Page{Number: n, Data: data}
}

// step changes the guest as running does.
func (g *guest) step() {
	r, s := g.r, g.now
	for range r.IntN(12) {
		g.edit()
	}
	if r.IntN(10) == 0 && s.Memory.Size < s.Memory.Max {
		s.Memory.Size += WasmPageSize
	}
	switch r.IntN(4) {
	case 0:
		s.Frames = s.Frames[:r.IntN(len(s.Frames)+1)]
	case 1:
		s.Frames = append(slices.Clone(s.Frames), withFrames(1+r.IntN(5))...)
	}
	if len(s.Frames) == 0 {
		s.Frames = nil
	}
	change := func() bool { return r.IntN(4) == 0 }
	if change() {
		s.Globals = slices.Clone(s.Globals)
		s.Globals[r.IntN(2)].Value.Lo = uint64(r.IntN(1000))
	}
	if change() {
		s.Tables = []Table{{0, []uint32{r.Uint32N(9), 2}}, {2, make([]uint32, r.IntN(4)+1)}}[:r.IntN(3)]
	}
	if change() {
		s.Host = slices.Clone(s.Host)
		data := bytes.Clone(s.Host[1].Data)
		editPage(r, data)
		s.Host[1].Data = data[r.IntN(3):]
		if len(s.Host[1].Data) < 10 {
			s.Host[1].Data = bytes.Repeat([]byte("x"), 80)
		}
	}
	if change() {
		s.Host = append(slices.Clone(s.Host[:2]), []Section{{"zz", 3, []byte("more")}}[:r.IntN(2)]...)
	}
	if change() {
		s.DroppedData = []uint32{1, 2, 3}[:r.IntN(4)]
	}
	if change() {
		s.Grants = []Grant{{"dir", "/d", "/home/d", ""}, {"dir", "/e", "/home/e", "ro"}}[:r.IntN(3)]
	}
	a := *s.Await
	s.Await = &a
	if change() {
		a := s.Await
		a.Args, a.Data = []Value{{I32, uint64(r.IntN(3)), 0}}[:r.IntN(2)], []byte("await")[:r.IntN(6)]
	}
	for _, empty := range []func(){
		func() { s.Tables = orNone(s.Tables) }, func() { s.DroppedData = orNone(s.DroppedData) },
		func() { s.Grants = orNone(s.Grants) }, func() { s.Await.Args = orNone(s.Await.Args) }, func() { s.Await.Data = orNone(s.Await.Data) },
	} {
		empty()
	}
	s.Output = []Output{{1, fmt.Appendf(nil, "line %d\n", g.made)}}
}

func orNone[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

// put commits what the guest is now.
func (g *guest) put(t testing.TB, s *Store) {
	t.Helper()
	if g.commit.Seq > 0 {
		g.now.Seq, g.now.Parent = g.commit.Seq+1, g.commit.AsParent()
	}
	g.now.Time = g.now.Time.Add(1)
	whole := *g.now
	since := g.lineage.Next()
	if g.since != nil {
		since = g.since(since)
	}
	snap := whole
	switch since {
	case SinceRoot:
		snap.Memory.Pages = changedPages(whole.Memory.Pages, g.root.Memory.Pages)
		snap.Base = g.lineage.Base(since, snap.Seq, g.root)
	case SinceParent:
		snap.Memory.Pages = changedPages(whole.Memory.Pages, g.last.Memory.Pages)
		snap.Base = g.lineage.Base(since, snap.Seq, g.last)
	}
	c, err := s.Commit(context.Background(), &snap)
	if err != nil {
		t.Fatal(err)
	}
	g.commit, g.last = c, &whole
	g.lineage.Committed(c)
	if since == SinceImage {
		g.root = &whole
	} else {
		g.largest = max(g.largest, c.Bytes)
	}
	g.made++
}

// reload restores the guest from the store, as another process would.
func (g *guest) reload(t testing.TB, s *Store) {
	t.Helper()
	c, err := s.Chain(context.Background(), g.now.Coroutine, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := c.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "reloaded", snap, g.last)
	if got := c.Lineage(); got != g.lineage {
		t.Errorf("the chain's lineage is %+v, want %+v", got, g.lineage)
	}
	g.lineage, g.commit, g.last = c.Lineage(), c.Commit, snap
	root := *c.Root
	root.Memory.Pages, err = c.root.all(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	g.root = &root
	now := *snap
	g.now = &now
}

// dropUnneeded deletes some of the commits that the newest one doesn't need, as retention does.
func (g *guest) dropUnneeded(t testing.TB, s *Store, kept map[uint64]*Snapshot) {
	t.Helper()
	needed := map[uint64]bool{g.commit.Seq: true}
	if o := g.commit.Origin; o != nil {
		needed[o.Root.Seq] = true
		for seq := o.Anchor; seq < g.commit.Seq; seq++ {
			needed[seq] = true
		}
	}
	seqs := make([]uint64, 0, len(kept))
	for seq := range kept {
		if !needed[seq] {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	for _, seq := range slices.Backward(seqs) {
		if err := s.b.Delete(context.Background(), commitKey(g.now.Coroutine, seq)); err != nil {
			t.Fatal(err)
		}
		delete(kept, seq)
	}
}

// TestChains commits, compacts, drops and restores at random: what is restored is exactly what was committed, from a bounded
// number of objects and bytes.
func TestChains(t *testing.T) {
	for seed := range uint64(many(12, 2)) {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			b := &counting{Bucket: bucket.NewMem()}
			s := NewStore(b)
			objects := int64(MaxDeltas + 2)
			if seed%2 == 1 { // as if all were large
				s.inMemory, s.large, objects = 0, 0, 4*objects
			}
			g := newGuest(seed, "c")
			r := g.r
			if seed%3 == 1 { // compact at other times than the rule says
				g.since = func(next Since) Since {
					switch {
					case next != SinceParent:
						return next
					case r.IntN(8) == 0:
						return SinceRoot
					case r.IntN(30) == 0:
						return SinceImage
					}
					return next
				}
			}
			if seed%3 == 2 { // start from a shared base
				base := *g.now
				c, err := s.PutBase(ctx, "shared", &base)
				if err != nil {
					t.Fatal(err)
				}
				chain, err := s.Base(ctx, "shared", nil)
				if err != nil {
					t.Fatal(err)
				}
				if g.root, err = chain.Snapshot(ctx); err != nil {
					t.Fatal(err)
				}
				g.lineage = FromBase(c)
				g.step()
			}
			kept := map[uint64]*Snapshot{}
			kinds := map[Kind]int{}
			for range 250 {
				g.put(t, s)
				kept[g.commit.Seq] = g.last
				kinds[g.commit.Kind]++
				b.objects.Store(0)
				b.bytes.Store(0)
				snap, c, err := s.Latest(ctx, "c")
				if err != nil {
					t.Fatalf("commit %d: %v", g.commit.Seq, err)
				}
				equal(t, fmt.Sprintf("commit %d", c.Seq), snap, g.last)
				if t.Failed() {
					return
				}
				if n := b.objects.Load(); n > objects {
					t.Errorf("commit %d: %d objects were read", c.Seq, n)
				}
				root := g.lineage.origin.RootBytes
				if n := b.bytes.Load(); s.inMemory > 0 && n > root+2*(root/2+slack+g.largest) {
					t.Errorf("commit %d: %d bytes were read, of a root of %d and deltas of at most %d", c.Seq, n, root, g.largest)
				}
				if r.IntN(8) == 0 {
					checkMemory(t, s, g)
				}
				switch r.IntN(10) {
				case 0:
					g.reload(t, s)
				case 1:
					g.dropUnneeded(t, s, kept)
				case 2:
					for seq, want := range kept {
						snap, _, err := s.At(ctx, "c", seq)
						if err != nil {
							t.Fatalf("commit %d at %d: %v", seq, g.commit.Seq, err)
						}
						equal(t, fmt.Sprintf("commit %d at %d", seq, g.commit.Seq), snap, want)
						break
					}
				}
				g.step()
			}
			if kinds[KindDelta] < 150 {
				t.Errorf("%v", kinds)
			}
		})
	}
}

// checkMemory restores the guest's last commit into memory.
func checkMemory(t *testing.T, s *Store, g *guest) {
	t.Helper()
	chain, err := s.Chain(t.Context(), g.now.Coroutine, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	mem, want := make([]byte, g.last.Memory.Size), make([]byte, g.last.Memory.Size)
	if err := errors.Join(chain.ReadRoot(t.Context(), mem), chain.ReadDeltas(t.Context(), mem), ApplyPages(want, g.last.Memory.Pages)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mem, want) {
		t.Errorf("commit %d: the memory differs", g.commit.Seq)
	}
	listed := append(chain.RootPages(), chain.DeltaPages()...)
	slices.Sort(listed)
	var numbers []uint32
	for _, p := range g.last.Memory.Pages {
		numbers = append(numbers, p.Number)
	}
	if listed = slices.Compact(listed); !slices.Equal(listed, numbers) {
		t.Errorf("commit %d: pages %v, want %v", g.commit.Seq, listed, numbers)
	}
}

// chainOf returns a store with a coroutine c, whose newest commit has a chain of a root, an anchor and two deltas.
func chainOf(t testing.TB) (*Store, *guest) {
	t.Helper()
	s := NewStore(bucket.NewMem())
	if _, err := s.PutModule(context.Background(), wasm); err != nil {
		t.Fatal(err)
	}
	g := newGuest(3, "c")
	for i := range 5 {
		if i == 2 {
			g.since = func(Since) Since { return SinceRoot }
		} else {
			g.since = nil
		}
		g.put(t, s)
		g.step()
	}
	if o := g.commit.Origin; o == nil || o.Root.Seq != 1 || o.Anchor != 3 {
		t.Fatalf("chain %+v", o)
	}
	return s, g
}

// TestChainDamage damages, removes and swaps each object of a chain: the error names it and the commit.
func TestChainDamage(t *testing.T) {
	ctx := t.Context()
	for _, seq := range []uint64{1, 3, 4, 5} {
		for name, change := range map[string]func(s *Store, key string, data []byte) []byte{
			"damaged": func(_ *Store, _ string, data []byte) []byte { data[len(data)/2] ^= 1; return data },
			"removed": func(*Store, string, []byte) []byte { return nil },
			"another": func(_ *Store, _ string, _ []byte) []byte {
				other, _ := chainOf(t) // the same, but for what it is made of
				snap, _, err := other.At(ctx, "c", seq)
				if err != nil {
					t.Fatal(err)
				}
				snap.ModuleName = "other.wasm"
				return encode(t, snap)
			},
			"moved": func(s *Store, _ string, _ []byte) []byte {
				data, err := bucket.ReadAll(ctx, s.b, commitKey("c", 2), 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				return data
			},
		} {
			for _, inMemory := range []int64{0, inMemory} {
				s, _ := chainOf(t)
				s.inMemory = inMemory
				key := commitKey("c", seq)
				data, err := bucket.ReadAll(ctx, s.b, key, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.b.Delete(ctx, key); err != nil {
					t.Fatal(err)
				}
				if data = change(s, key, bytes.Clone(data)); data != nil {
					if err := bucket.PutBytes(ctx, s.b, key, data); err != nil {
						t.Fatal(err)
					}
				}
				_, _, err = s.At(ctx, "c", 5)
				switch {
				case name == "removed" && seq == 5:
					if !errors.Is(err, ErrNotFound) {
						t.Errorf("%s %d: got %v", name, seq, err)
					}
				case name == "another" && seq == 5:
					if err != nil { // a full snapshot needs none
						t.Errorf("%s %d: got %v", name, seq, err)
					}
				case !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), fmt.Sprintf("commit %d", seq)) ||
					!strings.Contains(err.Error(), "commit 5 of coroutine c"):
					t.Errorf("%s %d: got %v", name, seq, err)
				}
				// What doesn't need it can still be read.
				if seq > 1 {
					if _, _, err := s.At(ctx, "c", 2); err != nil {
						t.Errorf("%s %d: commit 2: %v", name, seq, err)
					}
				}
			}
		}
	}
}

// TestChainWhileDropping reads the newest commit while a driver commits and retention drops what it no longer needs.
func TestChainWhileDropping(t *testing.T) {
	onBuckets(t, func(t *testing.T, b bucket.Bucket) {
		s := NewStore(b)
		if b.URL() == "mem://" {
			s.inMemory = 0
		}
		g := newGuest(9, "c")
		g.put(t, s)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var frames sync.Map // of each commit
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					snap, _, err := s.Latest(context.Background(), "c")
					if err != nil {
						t.Errorf("%v", err)
						return
					}
					frames.Range(func(seq, n any) bool {
						if seq == snap.Seq && n != len(snap.Frames) {
							t.Errorf("commit %d with %d frames instead of %d", seq, len(snap.Frames), n)
						}
						return true
					})
				}
			})
		}
		g.since = func(next Since) Since {
			if g.r.IntN(4) == 0 {
				return SinceImage
			}
			return next
		}
		for range 60 {
			g.step()
			g.put(t, s)
			frames.Store(g.commit.Seq, len(g.last.Frames))
			if _, err := s.Retain(t.Context(), "c", Policy{Keep: 1}); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		wg.Wait()
	})
}

// TestChainKnownRoot reads a chain whose root the caller has.
func TestChainKnownRoot(t *testing.T) {
	ctx := t.Context()
	s, g := chainOf(t)
	b := &counting{Bucket: s.b}
	s = NewStore(b)
	c, err := s.Chain(ctx, "c", 0, func(h Hash) *Snapshot {
		if h != g.lineage.origin.Root.Hash {
			t.Errorf("asked for %v", h)
		}
		without := *g.root
		without.Memory.Pages = nil
		return &without
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := b.objects.Load(); n != 3 {
		t.Errorf("%d objects were read", n)
	}
	state, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	want := *g.last
	want.Memory.Pages = nil
	equal(t, "state", state, &want)
	mem, mem2 := make([]byte, g.last.Memory.Size), make([]byte, g.last.Memory.Size)
	if err := ApplyPages(mem, g.root.Memory.Pages); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadDeltas(ctx, mem); err != nil {
		t.Fatal(err)
	}
	if err := ApplyPages(mem2, g.last.Memory.Pages); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mem, mem2) {
		t.Error("the memory differs")
	}
	if _, err := c.Snapshot(ctx); err == nil {
		t.Error("pages that were not read")
	}
	if err := c.ReadRoot(ctx, mem); err == nil {
		t.Error("a root that was not read")
	}
	if c, err := s.Chain(ctx, "c", 0, func(Hash) *Snapshot { return nil }); err != nil || len(c.RootPages()) != len(g.root.Memory.Pages) {
		t.Errorf("not known: %v", err)
	}
}

// TestDeltasInStore lists, exports, imports and deletes a coroutine whose commits are deltas.
func TestDeltasInStore(t *testing.T) {
	ctx := t.Context()
	s, g := chainOf(t)
	history, err := s.History(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, c := range history {
		kinds = append(kinds, c.Kind.String())
		if base := c.Base(); c.Kind == KindDelta && (base.Seq != c.Seq-1 && c.Seq != 3 || base.Seq != 1 && c.Seq == 3 || base.Hash.IsZero()) {
			t.Errorf("commit %d has base %+v", c.Seq, base)
		}
	}
	if got := strings.Join(kinds, " "); got != "full delta delta delta delta" {
		t.Errorf("history: %s", got)
	}
	if head, err := s.Head(ctx, "c"); err != nil || head.Kind != KindDelta || head.Frames != len(g.last.Frames) || head.Pages != g.commit.Pages {
		t.Errorf("head %+v, %v", head, err)
	}
	var bundle bytes.Buffer
	if err := s.Export(ctx, "c", 0, &bundle); err != nil {
		t.Fatal(err)
	}
	to := NewStore(bucket.NewMem())
	if _, err := to.Import(ctx, bytes.NewReader(bundle.Bytes()), ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	got, c, err := to.Latest(ctx, "c")
	if err != nil || c.Kind != KindFull {
		t.Fatal(c, err)
	}
	want := *g.last
	want.Grants = nil
	equal(t, "imported", got, &want)
	if a, b := logsOf(t, s, "c"), logsOf(t, to, "c"); a != b || !strings.Contains(a, "line 4") {
		t.Errorf("output %q and %q", a, b)
	}
	if err := s.Delete(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Latest(ctx, "c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// TestBases keeps shared bases.
func TestBases(t *testing.T) {
	onBuckets(t, func(t *testing.T, b bucket.Bucket) {
		ctx := t.Context()
		s := NewStore(b)
		g := newGuest(5, "origin")
		g.now.Grants = []Grant{{"dir", "/d", "/home/d", ""}}
		c, err := s.PutBase(ctx, "py", g.now)
		if err != nil || c.Coroutine != "py" || c.Seq != 1 || c.Hash.IsZero() {
			t.Fatal(c, err)
		}
		if again, err := s.PutBase(ctx, "py", g.now); err != nil || again.Hash != c.Hash {
			t.Errorf("again: %v", err)
		}
		got, err := s.Base(ctx, "py", nil)
		if err != nil || got.Commit.Hash != c.Hash || got.Commit.Bytes != c.Bytes {
			t.Fatal(got, err)
		}
		snap, err := got.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := *g.now
		want.Coroutine, want.Grants = "py", nil
		equal(t, "base", snap, &want)
		asked := false
		got, err = s.Base(ctx, "py", func(h Hash) *Snapshot { asked = h == c.Hash; return snap })
		if err != nil || got.Root != snap || !asked || got.Commit.Hash != c.Hash || got.Commit.Bytes != c.Bytes {
			t.Errorf("known: %v, %v", got, err)
		}
		if got, err := s.Base(ctx, "py", func(Hash) *Snapshot { return nil }); err != nil || len(got.RootPages()) == 0 {
			t.Errorf("not known: %v", err)
		}
		g.step()
		if _, err := s.PutBase(ctx, "py", g.now); !errors.Is(err, ErrExist) {
			t.Errorf("another of that name: %v", err)
		}
		if _, err := s.PutBase(ctx, "../x", g.now); !errors.Is(err, ErrID) {
			t.Errorf("name: %v", err)
		}
		ended := *g.now
		ended.Status, ended.Await, ended.Frames = Completed, nil, nil
		if _, err := s.PutBase(ctx, "ended", &ended); !errors.Is(err, ErrInvalid) {
			t.Errorf("ended: %v", err)
		}
		if _, err := s.Base(ctx, "no", nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("missing: %v", err)
		}
		if err := bucket.PutBytes(ctx, b, baseKey("damaged"), []byte("\x89durun\r\nand so on")); err != nil {
			t.Fatal(err)
		}
		var list []string
		for c, err := range s.Bases(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, fmt.Sprint(c.Coroutine, " ", c.Hash.IsZero(), " ", errors.Is(c.Err, ErrCorrupt)))
		}
		if want := []string{"damaged true true", "py false false"}; !slices.Equal(list, want) {
			t.Errorf("listed %q", list)
		}
	})
}
