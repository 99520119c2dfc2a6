package linmem

import (
	"bytes"
	"slices"
)

// Change is a page that differs from what it was.
type Change struct {
	// Number is the page's: its offset in the memory, divided by PageSize.
	Number uint32

	// Data is the page as it is. It is the memory itself.
	Data []byte

	// Old is the page as it was. It is nil if the snapshot of that time doesn't list the page, and where the old content isn't
	// known any more for want of room; Data then stands for itself. It must not be written.
	Old []byte
}

// history is what a memory knows of its past.
//
// The content of a page at the last commit is that of the image, or in a shadow. At the root it is the same, but for the pages
// in changed: theirs at the root is that of the image, or in a shadow of its own.
type history struct {
	dirty      pageSet // pages that differ from the last commit, as of the last refresh
	changed    pageSet // pages that may have differed from the root at the last commit
	listed     pageSet // pages that the last commit lists, as its chain gives it
	rootListed pageSet // pages that the root lists

	past    []past // by page; pages beyond its end are as in the image
	shadow  shadows
	unknown int    // how many pages are unknown as of the last commit
	rooted  int    // how many shadows are of the root
	hand    uint32 // where evict goes on

	begun   bool // listed and rootListed have those of the image
	tracked bool // dirty is exact, but for pages of equal content; else it has all pages that it can't rule out

	told    telling  // what Committed means
	changes []Change // reused
	scratch pageSet  // reused
}

// past is where the content of a page is to be found.
type past struct {
	last slot
	root slot // if the page is in changed
}

// telling is what was told last.
type telling int

const (
	nothing telling = iota
	delta
	anchor
	full
)

// Delta tells the pages whose content differs from that at the last commit, or where there was none, at the start, in ascending
// order. The slice is good until the next call. It returns false if it doesn't know any more what the memory was, and a page can't
// be ruled out: only a full commit will do then. That is never so where the kernel tracks writes.
func (m *Memory) Delta() ([]Change, bool) {
	m.refresh()
	m.tellOf(delta, m.dirty)
	for p := range m.dirty.all() {
		if !m.tell(p, m.lastPage(p), &m.listed) {
			return nil, false
		}
	}
	return m.changes, true
}

// Anchor tells the pages whose content differs from that at the root of the chain: of the last full commit, or of the snapshot
// that the memory was restored to start with. Otherwise it is as Delta.
func (m *Memory) Anchor() ([]Change, bool) {
	m.refresh()
	m.scratch.assign(m.dirty)
	m.scratch.union(m.changed)
	m.tellOf(anchor, m.scratch)
	for p := range m.scratch.all() {
		old := m.rootPage(p)
		if old != nil && bytes.Equal(old, pageOf(m.mem, p)) {
			continue
		}
		if m.changed.has(p) && old == nil {
			// It did change, so that it may be told whether it still differs or not.
			m.changes = append(m.changes, Change{Number: p, Data: pageOf(m.mem, p)})
			continue
		}
		if !m.tell(p, old, &m.rootListed) {
			return nil, false
		}
	}
	return m.changes, true
}

// Full tells the pages whose content differs from that of the module's initial image, in ascending order, with no old content.
// The slice is good until the next call.
func (m *Memory) Full() []Change {
	m.refresh()
	m.scratch.assign(m.dirty)
	m.differing(&m.scratch)
	if m.image != nil {
		m.scratch.union(m.image.listed)
	}
	m.tellOf(full, m.scratch)
	for p := range m.scratch.all() {
		if now := pageOf(m.mem, p); !bytes.Equal(m.initialPage(p), now) {
			m.changes = append(m.changes, Change{Number: p, Data: now})
		}
	}
	return m.changes
}

// tellOf begins to tell, of so many pages at most.
func (m *Memory) tellOf(what telling, candidates pageSet) {
	m.told, m.changes = what, slices.Grow(m.changes[:0], candidates.count())
}

// tell adds a page, with its old content if listed has it. It returns false, and forgets what was told, if that content is
// unknown and the page may not have changed at all.
func (m *Memory) tell(p uint32, old []byte, listed *pageSet) bool {
	if old == nil && !m.tracked {
		m.told, m.changes = nothing, m.changes[:0]
		return false
	}
	if !listed.has(p) {
		old = nil
	}
	m.changes = append(m.changes, Change{Number: p, Data: pageOf(m.mem, p), Old: old})
	return true
}

// Committed says that what Delta, Anchor or Full told last has become the last commit, and in the case of Full the root. The
// guest must not have run since, and nobody written to the memory. It costs a copy of each page that differs from the commit
// before.
func (m *Memory) Committed() {
	switch m.told {
	case nothing:
		panic("linmem: Committed without changes that were told")
	case delta:
		m.keep(false)
	case anchor:
		m.keep(false)
		m.listed.assign(m.rootListed)
		m.scratch = m.scratch[:0]
		for _, c := range m.changes {
			m.scratch.add(c.Number)
		}
		for p := range m.changed.all() {
			if !m.scratch.has(p) { // it is as at the root again
				m.setRoot(p, asImage)
				m.changed.remove(p)
			}
		}
	case full:
		m.forgetRoot()
		m.keep(true)
		m.listed, m.rootListed = m.listed[:0], m.rootListed[:0]
	}
	for _, c := range m.changes {
		m.listed.add(c.Number)
	}
	if m.told == full {
		m.rootListed.assign(m.listed)
	}
	m.settle()
}

// AdoptRoot says that the memory is as the root of a chain has it, which is also the last commit: a restore has written these
// pages, the ones that it lists, over the module's initial image, which must be the memory's. Call it before the guest runs and
// before Adopt.
func (m *Memory) AdoptRoot(listed []uint32) {
	m.begin()
	for _, p := range listed {
		m.dirty.add(p)
		m.listed.add(p)
		m.rootListed.add(p)
	}
	m.keep(true)
	m.settle()
}

// Adopt says that the memory is as the last commit has it: a restore has written these pages over the root's, which is the
// memory's image or was named by AdoptRoot. Call it before the guest runs.
func (m *Memory) Adopt(changed []uint32) {
	m.begin()
	for _, p := range changed {
		m.dirty.add(p)
		m.listed.add(p)
	}
	m.keep(false)
	m.settle()
}

// begin is what happens once, before the first refresh.
func (m *Memory) begin() {
	if m.begun {
		return
	}
	m.begun = true
	if m.image != nil {
		m.listed.assign(m.image.listed)
		m.rootListed.assign(m.image.listed)
	}
}

// refresh adds to dirty what was written, and removes what has the content of the last commit.
func (m *Memory) refresh() {
	m.begin()
	m.tracked = m.space.written(uint64(len(m.mem)), &m.dirty)
	for p := range m.dirty.all() {
		if old := m.lastPage(p); old != nil && bytes.Equal(old, pageOf(m.mem, p)) {
			m.dirty.remove(p)
		}
	}
}

// keep makes the content of the dirty pages that of the last commit, and keeps what they were at the root unless that is
// the same commit.
func (m *Memory) keep(isRoot bool) {
	m.growPast()
	// Where so much was written that its shadows would leave no room for others, it is better to wait for what is written again.
	room := uint64(m.dirty.count())*PageSize <= m.limit()
	for p := range m.dirty.all() {
		was := m.past[p].last
		if !isRoot && !m.changed.has(p) {
			m.changed.add(p)
			m.past[p].last = asImage // where it was is the root's now
			m.setRoot(p, was)
			m.unknown -= btoi(was == unknown)
			was = asImage
		}
		is := was
		if is < firstShadow {
			is, room = m.take(room)
		}
		if is >= firstShadow {
			copy(m.shadow.page(is), pageOf(m.mem, p))
		}
		m.unknown += btoi(is == unknown) - btoi(was == unknown)
		m.past[p].last = is
	}
}

// growPast gives each page of the memory a past.
func (m *Memory) growPast() {
	if n := len(m.mem)/PageSize - len(m.past); n > 0 {
		m.past = append(m.past, make([]past, n)...)
	}
}

// maxReused bounds what is kept for the next commit: the list of all pages of 2 GiB takes 28 MiB.
const maxReused = 16 << 10

// settle ends a commit.
func (m *Memory) settle() {
	m.told = nothing
	clear(m.dirty)
	if cap(m.changes) > maxReused {
		m.changes = nil
	}
	if m.unknown > 0 {
		m.space.mark(uint64(len(m.mem)))
	}
}

// limit returns how much memory shadows may take, in bytes.
func (m *Memory) limit() uint64 {
	if m.shadows > 0 {
		return m.shadows
	}
	return max(64<<20, 16<<20+uint64(len(m.mem))/8)
}

// take returns a shadow if there is room, which it makes by forgetting another if need be. It returns whether there still is.
func (m *Memory) take(room bool) (slot, bool) {
	if room && uint64(m.shadow.used+1)*PageSize > m.limit() {
		room = m.evict()
	}
	if !room {
		return unknown, false
	}
	s := m.shadow.take()
	return s, s != unknown
}

// evict gives up one shadow: the root's, which only anchors need, before those of the last commit. It returns false if there is
// none but those of dirty pages.
func (m *Memory) evict() bool {
	for range m.past {
		m.hand = (m.hand + 1) % uint32(len(m.past))
		p := &m.past[m.hand]
		switch {
		case m.rooted > 0:
			if p.root >= firstShadow {
				m.setRoot(m.hand, unknown)
				return true
			}
		case p.last >= firstShadow && !m.dirty.has(m.hand):
			m.shadow.give(p.last)
			p.last = unknown
			m.unknown++
			return true
		}
	}
	return false
}

// setRoot says where the content of a page at the root is, and gives up the shadow where it was.
func (m *Memory) setRoot(p uint32, s slot) {
	old := &m.past[p].root
	m.shadow.give(*old)
	m.rooted += btoi(s >= firstShadow) - btoi(*old >= firstShadow)
	*old = s
}

// forgetRoot makes the last commit the root.
func (m *Memory) forgetRoot() {
	for p := range m.changed.all() {
		m.setRoot(p, asImage)
	}
	clear(m.changed)
}

// lastPage returns the content of a page at the last commit, nil if it isn't known.
func (m *Memory) lastPage(p uint32) []byte {
	if uint64(p) >= uint64(len(m.past)) {
		return m.imagePage(p)
	}
	return m.find(p, m.past[p].last)
}

// rootPage returns the content of a page at the root, nil if it isn't known.
func (m *Memory) rootPage(p uint32) []byte {
	if !m.changed.has(p) {
		return m.lastPage(p)
	}
	return m.find(p, m.past[p].root)
}

func (m *Memory) find(p uint32, s slot) []byte {
	switch s {
	case asImage:
		return m.imagePage(p)
	case unknown:
		return nil
	}
	return m.shadow.page(s)
}

// differing adds the pages which, as far as is known without asking the space, may differ from the image.
func (m *Memory) differing(set *pageSet) {
	set.union(m.dirty)
	for p := range m.past {
		if m.past[p].last != asImage {
			set.add(uint32(p))
		}
	}
}

func (h *history) free() {
	h.shadow.free()
	*h = history{}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
