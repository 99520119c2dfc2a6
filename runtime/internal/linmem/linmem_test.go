package linmem

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero/experimental"
)

var _ experimental.LinearMemory = (*Memory)(nil)

// eachTracking runs a test in each of the ways that this machine has.
func eachTracking(t *testing.T, f func(t *testing.T, mode tracking)) {
	for _, mode := range []tracking{userfaultfd, compare, heap} {
		t.Run(mode.String(), func(t *testing.T) {
			if mode != heap && !canMap {
				t.Skip("memories aren't mapped on this platform")
			}
			if mode == userfaultfd {
				if err := probe(); err != nil {
					t.Skip(err)
				}
			}
			f(t, mode)
		})
	}
}

// fromEnv returns how often to do something.
func fromEnv(t *testing.T, variable string, n int) int {
	t.Helper()
	if s := os.Getenv(variable); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func makeImage(t testing.TB, mode tracking, size uint64, fill func(mem []byte)) *Image {
	t.Helper()
	i, err := newImage(mode, size, nil, func(mem []byte) error { fill(mem); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func makeMemory(t testing.TB, c Config) *Memory {
	t.Helper()
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// model is a memory and what it was, whole.
type model struct {
	t    *testing.T
	mode tracking
	rand *rand.Rand

	m                       *Memory
	initialImage, rootImage *Image // rootImage is made when it is asked for
	initial, root, last     []byte
	rootList, lastList      map[uint32]bool
	max                     uint64
	limited                 bool // shadows are
}

// like returns b, and zeros up to the size of the memory.
func (d *model) like(b []byte) []byte {
	if len(b) == len(d.m.Bytes()) {
		return b
	}
	return append(slices.Clone(b), make([]byte, len(d.m.Bytes())-len(b))...)
}

// want returns what has to be told: the pages that differ from old, with their old content if it is listed.
func (d *model) want(old []byte, listed map[uint32]bool) []Change {
	var cs []Change
	old = d.like(old)
	now := d.m.Bytes()
	for p := range uint32(len(now) / PageSize) {
		if bytes.Equal(pageOf(old, p), pageOf(now, p)) {
			continue
		}
		c := Change{Number: p, Data: pageOf(now, p)}
		if listed[p] {
			c.Old = pageOf(old, p)
		}
		cs = append(cs, c)
	}
	return cs
}

// check compares what is told with what has to be. Without shadows a page may be told in vain, and whole.
func (d *model) check(what string, got, want []Change) {
	d.t.Helper()
	if d.limited {
		for _, g := range got {
			if !bytes.Equal(g.Data, pageOf(d.m.Bytes(), g.Number)) {
				d.t.Fatalf("%s: page %d isn't told as it is", what, g.Number)
			}
		}
		got, want = whole(got, want)
	}
	if len(got) != len(want) {
		d.t.Fatalf("%s: got %v, want %v", what, numbers(got), numbers(want))
	}
	for i, g := range got {
		w := want[i]
		if g.Number != w.Number || !bytes.Equal(g.Data, w.Data) || (g.Old == nil) != (w.Old == nil) || !bytes.Equal(g.Old, w.Old) {
			d.t.Fatalf("%s: change %d is of page %d (old content: %t), want page %d (%t)", what, i, g.Number, g.Old != nil, w.Number, w.Old != nil)
		}
	}
}

// whole takes away what may be told for want of shadows: pages that haven't changed, and it takes the old content from what is
// wanted where it isn't told.
func whole(got, want []Change) (_, _ []Change) {
	told := map[uint32]Change{}
	for _, g := range got {
		told[g.Number] = g
	}
	wanted := map[uint32]bool{}
	for i := range want {
		wanted[want[i].Number] = true
		if g, ok := told[want[i].Number]; ok && g.Old == nil {
			want[i].Old = nil
		}
	}
	return slices.DeleteFunc(slices.Clone(got), func(g Change) bool { return g.Old == nil && !wanted[g.Number] }), want
}

func numbers(cs []Change) []uint32 {
	var ns []uint32
	for _, c := range cs {
		ns = append(ns, c.Number)
	}
	return ns
}

func list(cs []Change) map[uint32]bool {
	l := map[uint32]bool{}
	for _, c := range cs {
		l[c.Number] = true
	}
	return l
}

// scribble is the guest: it writes here and there, often where it has been, sometimes what is there already.
func (d *model) scribble(mem []byte) {
	if len(mem) == 0 {
		return
	}
	for range d.rand.IntN(12) {
		p := d.rand.Uint32N(uint32(len(mem) / PageSize))
		if d.rand.IntN(2) == 0 {
			p %= 8
		}
		page := pageOf(mem, p)
		switch d.rand.IntN(5) {
		case 0:
			clear(page)
		case 1:
			if len(d.initial) >= int(p+1)*PageSize {
				copy(page, pageOf(d.initial, p))
			}
		case 2:
			if len(d.root) >= int(p+1)*PageSize {
				copy(page, pageOf(d.root, p))
			}
		default:
			page[d.rand.IntN(PageSize)] = byte(d.rand.IntN(4))
		}
	}
}

// commit is one of the three kinds, or a look at what it would be.
func (d *model) commit() {
	var got []Change
	var ok bool
	kind := d.rand.IntN(8)
	switch {
	case kind < 4:
		got, ok = d.m.Delta()
		if !ok {
			d.refused()
			return
		}
		d.check("delta", got, d.want(d.last, d.lastList))
	case kind < 6:
		got, ok = d.m.Anchor()
		if !ok {
			d.refused()
			return
		}
		d.check("anchor", got, d.want(d.root, d.rootList))
	default:
		got = d.m.Full()
		d.check("full", got, d.want(d.initial, nil))
	}
	if d.rand.IntN(4) == 0 {
		return
	}
	l, now := list(got), slices.Clone(d.m.Bytes())
	d.m.Committed()
	d.last = now
	switch {
	case kind < 4:
		maps.Copy(d.lastList, l)
	case kind < 6:
		d.lastList = maps.Clone(d.rootList)
		maps.Copy(d.lastList, l)
	default:
		d.root, d.rootList, d.lastList = now, maps.Clone(l), l
		d.dropRootImage()
	}
}

// refused is what happens when Delta and Anchor don't know.
func (d *model) refused() {
	if !d.limited || d.m.tracked {
		d.t.Fatal("changes aren't known")
	}
}

// restore goes on with another memory, which is made from an image of the root, or has the root written over the initial image.
func (d *model) restore() {
	d.m.Free()
	d.m.Free()
	listed := slices.Sorted(maps.Keys(d.rootList))
	write := func(mem, from []byte, pages []uint32) {
		for _, p := range pages {
			copy(pageOf(mem, p), pageOf(from, p))
		}
	}
	from := d.initialImage
	if d.rand.IntN(3) > 0 {
		if d.rootImage == nil {
			var err error
			if d.rootImage, err = d.initialImage.derive(d.mode, uint64(len(d.root)), listed, func(mem []byte) error {
				write(mem, d.root, listed)
				return nil
			}); err != nil {
				d.t.Fatal(err)
			}
		}
		from = d.rootImage
	}
	d.start(from, uint64(len(d.last)))
	if from == d.initialImage {
		write(d.m.Bytes(), d.root, listed)
		d.m.AdoptRoot(listed)
	}
	var changed []uint32
	root := d.like(d.root)
	for p := range d.lastList {
		if !d.rootList[p] || !bytes.Equal(pageOf(root, p), pageOf(d.last, p)) || d.rand.IntN(4) == 0 {
			changed = append(changed, p)
		}
	}
	slices.Sort(changed)
	write(d.m.Bytes(), d.last, changed)
	d.m.Adopt(changed)
	if !bytes.Equal(d.m.Bytes(), d.last) {
		d.t.Fatal("the memory isn't what was restored")
	}
}

// start makes the memory, which must have the content of its image.
func (d *model) start(from *Image, size uint64) {
	c := Config{Image: from, Size: size, Max: d.max, tracking: d.mode}
	if d.limited {
		c.Shadows = 6 * PageSize
	}
	d.m = makeMemory(d.t, c)
	if !bytes.Equal(d.m.Bytes(), d.like(from.Bytes())) {
		d.t.Fatal("the memory doesn't have the content of its image")
	}
}

// dropRootImage is for when the root is another.
func (d *model) dropRootImage() {
	if d.rootImage != nil {
		d.rootImage.Release()
		d.rootImage = nil
	}
}

func (d *model) run(steps int) {
	for range steps {
		switch n := d.rand.IntN(20); {
		case n < 10:
			d.scribble(d.m.Bytes())
		case n < 18:
			d.commit()
		case n < 19:
			grown := d.m.Reallocate(min(uint64(len(d.m.Bytes()))+uint64(d.rand.IntN(4))*wasmPageSize, d.max))
			if grown == nil {
				d.t.Fatal("the memory doesn't grow")
			}
		default:
			d.restore()
		}
	}
	d.m.Free()
	d.dropRootImage()
	d.initialImage.Release()
}

// TestModel has a guest do whatever it likes, and compares what a memory tells with what differs. DURUN_SEEDS says how often.
func TestModel(t *testing.T) {
	seeds := fromEnv(t, "DURUN_SEEDS", 4)
	eachTracking(t, func(t *testing.T, mode tracking) {
		for _, size := range []uint64{0, 1, 4, 5, 9} { // WebAssembly pages; the first ones are small, and may grow out of it
			for _, limited := range []bool{false, true} {
				t.Run(fmt.Sprintf("size=%d,limited=%t", size, limited), func(t *testing.T) {
					for seed := range uint64(seeds) {
						d := &model{t: t, mode: mode, rand: rand.New(rand.NewPCG(seed, size)), limited: limited}
						d.max = (size + 6) * wasmPageSize
						d.initialImage = makeImage(t, mode, size*wasmPageSize, d.scribble)
						d.initial = slices.Clone(d.initialImage.Bytes())
						d.root, d.last = d.initial, d.initial
						d.rootList, d.lastList = map[uint32]bool{}, map[uint32]bool{}
						d.start(d.initialImage, size*wasmPageSize)
						d.m.Reallocate(max(1, size) * wasmPageSize)
						d.run(150)
					}
				})
			}
		}
	})
}

func TestReallocate(t *testing.T) {
	eachTracking(t, func(t *testing.T, mode tracking) {
		image := makeImage(t, mode, 10*wasmPageSize, func(mem []byte) { mem[9*wasmPageSize+5] = 7 })
		defer image.Release()
		const size, most = 12 * wasmPageSize, 100 * wasmPageSize
		m := makeMemory(t, Config{Image: image, Size: size, Max: most, tracking: mode})
		defer m.Free()
		if mem := m.Reallocate(wasmPageSize); len(mem) != size {
			t.Fatalf("a memory that is asked for less has %d bytes, not %d", len(mem), size)
		}
		first := &m.Bytes()[0]
		for n := uint64(size); n < most; n += wasmPageSize {
			m.Bytes()[n-1] = 9
			mem := m.Reallocate(n + wasmPageSize)
			if uint64(len(mem)) != n+wasmPageSize || mem[n-1] != 9 || mem[9*wasmPageSize+5] != 7 {
				t.Fatalf("at %d bytes the memory doesn't grow, or loses its content", n)
			}
			if !bytes.Equal(mem[n:], make([]byte, wasmPageSize)) {
				t.Fatalf("what is new at %d bytes isn't zeros", n)
			}
			if mode != heap && &mem[0] != first {
				t.Fatalf("at %d bytes the memory moves", n)
			}
		}
		for _, n := range []uint64{most + wasmPageSize, maxSize, most + 1, 1 << 40} {
			if m.Reallocate(n) != nil {
				t.Errorf("the memory grows to %d bytes, beyond its maximum", n)
			}
		}
		if len(m.Bytes()) != most {
			t.Errorf("after it couldn't grow the memory has %d bytes", len(m.Bytes()))
		}
		m.Free()
		if m.Reallocate(wasmPageSize) != nil || m.Bytes() != nil {
			t.Error("there is a memory after Free")
		}
		m.Free()
	})
}

func TestNewRefuses(t *testing.T) {
	eachTracking(t, func(t *testing.T, mode tracking) {
		image := makeImage(t, mode, 2*wasmPageSize, func([]byte) {})
		defer image.Release()
		for _, c := range []Config{
			{Size: 1},
			{Size: wasmPageSize, Max: wasmPageSize + 4096},
			{Size: maxSize + wasmPageSize},
			{Max: maxSize + wasmPageSize},
			{Image: image, Size: wasmPageSize, Max: maxSize},
		} {
			c.tracking = mode
			if m, err := New(c); err == nil {
				m.Free()
				t.Errorf("there is a memory of %d to %d bytes", c.Size, c.Max)
			}
		}
		m := makeMemory(t, Config{tracking: mode})
		if len(m.Bytes()) != 0 || m.Reallocate(wasmPageSize) != nil {
			t.Error("a memory without a page has one")
		}
		if changes, ok := m.Delta(); len(changes) != 0 || !ok {
			t.Error("a memory without a page has changed")
		}
		m.Free()
	})
}

// TestWithoutShadows has more pages change than there is room for shadows.
func TestWithoutShadows(t *testing.T) {
	eachTracking(t, func(t *testing.T, mode tracking) {
		const size = 16 * wasmPageSize
		m := makeMemory(t, Config{Size: size, Max: size, Shadows: 4 * PageSize, tracking: mode})
		defer m.Free()
		mem := m.Bytes()
		for p := range 20 {
			mem[p*PageSize] = 1
		}
		if n := len(m.Full()); n != 20 {
			t.Fatalf("a full commit has %d pages, not 20", n)
		}
		m.Committed()
		mem[3*PageSize] = 2
		changes, ok := m.Delta()
		if mode != userfaultfd {
			// Any of the 20 pages may have changed.
			if ok {
				t.Fatalf("changes are told that can't be known: %v", numbers(changes))
			}
			if n := len(m.Full()); n != 20 {
				t.Fatalf("a full commit after that has %d pages, not 20", n)
			}
			m.Committed()
			return
		}
		if !ok || len(changes) != 1 || changes[0].Number != 3 || changes[0].Old != nil || changes[0].Data[0] != 2 {
			t.Fatalf("got %v, %t, want page 3, whole", numbers(changes), ok)
		}
		m.Committed()
		mem[3*PageSize] = 3
		if changes, _ = m.Delta(); len(changes) != 1 || changes[0].Number != 3 || changes[0].Old == nil || changes[0].Old[0] != 2 {
			t.Fatalf("the second time got %v, want page 3 and what it was", numbers(changes))
		}
		m.Committed()
		mem[3*PageSize] = 1
		if changes, _ = m.Anchor(); len(changes) != 1 || changes[0].Number != 3 || changes[0].Old != nil {
			t.Fatalf("the anchor has %v, want page 3, whole", numbers(changes))
		}
		if used := m.shadow.used * PageSize; used > 4*PageSize {
			t.Errorf("shadows take %d bytes", used)
		}
	})
}

func TestCommittedWithoutChanges(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("nothing was told, and has become a commit")
		}
	}()
	m := makeMemory(t, Config{Size: wasmPageSize})
	defer m.Free()
	m.Committed()
}

// TestParallel has many guests start from one image, run, commit and end at once.
func TestParallel(t *testing.T) {
	eachTracking(t, func(t *testing.T, mode tracking) {
		for _, size := range []uint64{2 * wasmPageSize, 12 * wasmPageSize} {
			image := makeImage(t, mode, size, func(mem []byte) {
				for p := range uint32(len(mem) / PageSize) {
					pageOf(mem, p)[0] = byte(p) | 1
				}
			})
			var wg sync.WaitGroup
			for guest := range byte(8) {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(uint64(guest), 0))
					for range 40 {
						m, err := New(Config{Image: image, Size: size, Max: 2 * size, tracking: mode})
						if err != nil {
							t.Error(err)
							return
						}
						if !bytes.Equal(m.Bytes(), image.Bytes()) {
							t.Error("a memory starts with what another guest has written")
						}
						for range 5 {
							p := r.Uint32N(uint32(size / PageSize))
							page := pageOf(m.Bytes(), p)
							page[9], page[10] = guest+1, page[10]+1
							if changes, ok := m.Delta(); !ok || len(changes) != 1 || changes[0].Number != p {
								t.Errorf("got %v, want page %d", numbers(changes), p)
							}
							m.Committed()
						}
						m.Free()
					}
				})
			}
			wg.Wait()
			image.Release()
		}
	})
}
