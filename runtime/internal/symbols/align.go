package symbols

import (
	"math"
	"math/bits"
	"slices"
	"sort"

	"github.com/durun/durun/runtime/internal/wasm"
)

type decl struct {
	sub      *sub
	index    int
	unit     int
	params   []slot
	result   wasm.ValueType // 0 none
	anyRes   bool
	lits     []uint32 // literals of its lines, that some function refers to
	statics  []uint32
	frameMin, frameMax int32 // -1: none
	known    bool // at -O0
	header bool
}

type slot struct {
	typ wasm.ValueType // 0 any
	loc int32
}

const dapart = math.MinInt32 / 4

type aligner struct {
	m     *wasm.Module
	r     *reader
	w     []body
	decls []decl // in order, of C
	early []decl
	users map[uint32]int32
	lists map[uint32][]int32
	freq  map[uint64]int32
	key   []uint64
	claims [][]int32
}

func class2(c byte) wasm.ValueType {
	switch c {
	case 'i', 's':
		return wasm.I32
	case 'l', 'L':
		return wasm.I64
	case 'f':
		return wasm.F32
	case 'd':
		return wasm.F64
	}
	return wasm.ValueType(0)
}

func (a *aligner) decl(i int) decl {
	s := &a.r.subs[i]
	u := &a.r.units[s.unit]
	d := decl{sub: s, index: i, unit: s.unit, frameMin: -1}
	rt := a.r.ctype(u, s.typ)
	switch rt.class {
	case 'v':
	case '?':
		d.anyRes = true
	case 's', 'L':
		if rt.size == 0 { break }
		d.params = append(d.params, slot{wasm.I32, -1})
	default:
		d.result = class2(rt.class)
	}
	for _, p := range s.params {
		t := a.r.ctype(u, p.typ)
		if t.class == 's' && t.size == 0 { continue }
		loc := p.loc
		if t.class == 's' { loc = -1 }
		d.params = append(d.params, slot{class2(t.class), loc})
		if t.class == 'L' {
			d.params[len(d.params)-1].loc = -1
			d.params = append(d.params, slot{wasm.I64, -1})
		}
		if p.loc >= 0 { d.known = true }
	}
	if s.variadic { d.params = append(d.params, slot{wasm.I32, -1}) }
	if s.top >= 0 {
		d.known = true
		d.frameMin = (s.top + 15) &^ 15
		d.frameMax = (s.top + 8 + 15) &^ 15
	} else if s.frame == 2 {
		d.known = true
	}
	return d
}

// fits says whether function w may be d, and how many parameters and results it lost.
func (a *aligner) fits(w *body, d *decl) (lost int, ok bool) {
	if len(w.typ.Params) > len(d.params) { return 0, false }
	if !d.anyRes {
		switch {
		case len(w.typ.Results) > 1: return 0, false
		case len(w.typ.Results) == 1:
			if w.typ.Results[0] != d.result { return 0, false }
		case d.result != (wasm.ValueType(0)):
			lost++
		}
	}
	if d.frameMin >= 0 {
		if w.frame < d.frameMin || w.frame > d.frameMax { return 0, false }
	}
	lost += len(d.params) - len(w.typ.Params)
	if lost > 0 && w.table { return 0, false }
	j := 0
	for i, t := range w.typ.Params {
		for ; ; j++ {
			if len(d.params)-j < len(w.typ.Params)-i { return 0, false }
			p := &d.params[j]
			if (p.typ == t || p.typ == (wasm.ValueType(0))) && (w.spills[i] < 0 || p.loc < 0 || w.spills[i] == p.loc) { j++; break }
		}
	}
	return lost, true
}

func (a *aligner) score(wi int, d *decl) int32 {
	w := &a.w[wi]
	lost, ok := a.fits(w, d)
	if !ok { return dapart }
	s := -1 + a.rarity(wi) - 3*int32(lost)
	if d.header { s -= 6 }
	s += a.evidence(w, d.lits)
	var miss, have int32
	for _, v := range d.sub.vars {
		_, ok := slices.BinarySearch(w.slots, uint16(v.loc)<<4|uint16(v.size))
		if !ok { _, ok = slices.BinarySearch(w.slots, uint16(v.loc)<<4) }
		switch {
		case ok: have++
		case v.size != 0: miss++
		}
	}
	s += min(2*have, 8)
	s -= min(3*miss, 24)
	if w.nframes <= 1 {
		for _, c := range a.claims[wi] { if c != int32(d.index) { s -= 10; break } }
	}
	return s
}

func (a *aligner) evidence(w *body, lits []uint32) int32 {
	var plus, minus int32
	for _, l := range lits {
		if _, ok := slices.BinarySearch(w.refs, l); ok {
			if w.nframes <= 1 {
				plus += min(8, a.bits(a.users[l]))
			} else { plus += 1 }
		} else { minus += 8 }
	}
	return min(plus, 32) - min(minus, 32)
}

func (a *aligner) bits(n int32) int32 {
	if n <= 0 { return 0 }
	return int32(bits.Len(uint(len(a.w))/uint(n)))
}

func (a *aligner) rarity(wi int) int32 { return a.bits(a.freq[a.key[wi]]) }

func hashKey(b *body) uint64 {
	h := uint64(14695981039346656037)
	add := func(v uint64) { h ^= v; h *= 1099511628211; h ^= h>>29 }
	add(uint64(b.frame)+1)
	for i, p := range b.typ.Params { _ = p; add(uint64(i)+7); add(uint64(b.spills[i]+2)) }
	add(uint64(len(b.typ.Results))+100)
	return h
}

func (a *aligner) prepare() {
	r := a.r
	objs := map[uint32]bool{}
	for i := range r.objects { objs[r.objects[i].addr] = true }
	a.users = map[uint32]int32{}
	a.lists = map[uint32][]int32{}
	for i := range a.w {
		for _, x := range a.w[i].refs {
			if objs[x] { a.users[x]++; a.lists[x] = append(a.lists[x], int32(i)) }
		}
	}
	a.freq = map[uint64]int32{}
	a.key = make([]uint64, len(a.w))
	for i := range a.w { a.key[i] = hashKey(&a.w[i]); a.freq[a.key[i]]++ }
	statics := map[int][]uint32{}
	for _, o := range r.objects {
		if o.sub >= 0 { statics[o.sub] = append(statics[o.sub], o.addr) }
	}
	// literals
	type mark struct { file, line uint32; sub int }
	objAt := 0
	lits := map[int][]uint32{}
	a.claims = make([][]int32, len(a.w))
	type place struct { name string; line uint32 }
	seen := map[place]int{}
	for i := range r.subs { if isC(r.units[r.subs[i].unit].lang) { s := &r.subs[i]; if s.hasPC { p := place{s.name, s.line}; if o, ok := seen[p]; !ok { seen[p] = s.unit } else if o != s.unit { seen[p] = -1 } } } }
	for ui := range r.units {
		u := &r.units[ui]
		from := objAt
		for objAt < len(r.objects) && r.objects[objAt].unit == ui { objAt++ }
		if !isC(u.lang) { continue }
		var marks []mark
		for i := u.subs[0]; i < u.subs[1]; i++ { marks = append(marks, mark{r.subs[i].file, r.subs[i].line, i}) }
		for _, o := range r.objects[from:objAt] { if o.name != "" && o.sub < 0 { marks = append(marks, mark{o.file, o.line, -1}) } }
		sort.SliceStable(marks, func(i, j int) bool { return marks[i].file < marks[j].file || marks[i].file == marks[j].file && marks[i].line < marks[j].line })
		for _, o := range r.objects[from:objAt] {
			if o.name != "" || o.sub >= 0 || a.users[o.addr] == 0 { continue }
			k := sort.Search(len(marks), func(i int) bool { return marks[i].file > o.file || marks[i].file == o.file && marks[i].line > o.line })
			if k > 0 && marks[k-1].file == o.file && marks[k-1].sub >= 0 {
				if k > 1 && marks[k-2].file == o.file && marks[k-2].line == marks[k-1].line { continue }
				lits[marks[k-1].sub] = append(lits[marks[k-1].sub], o.addr)
			}
		}
		// dead ones
		for i := u.subs[0]; i < u.subs[1]; i++ {
			if !r.subs[i].hasPC { continue }
			d := a.decl(i)
			d.lits = lits[i]
			d.header = seen[place{r.subs[i].name, r.subs[i].line}] == -1
			for _, l := range append(slices.Clone(lits[i]), statics[i]...) { if a.users[l] == 1 { w := a.lists[l][0]; a.claims[w] = append(a.claims[w], int32(i)) } }
			slices.Sort(d.lits)
			d.lits = slices.Compact(d.lits)
			if st := statics[i]; st != nil {
				for _, x := range st { if a.users[x] > 0 { d.statics = append(d.statics, x) } }
				a.early = append(a.early, d)
			} else { a.decls = append(a.decls, d) }
		}
	}
}

func isC(lang uint16) bool {
	switch lang { case 1, 2, 0xc, 0x1d, 0x2c: return true }
	return false
}

type pair struct { w, d int; s int32 }

func (a *aligner) anchors() []pair {
	best := map[int]pair{}
	ambiguous := map[int]bool{}
	for di := range a.decls {
		d := &a.decls[di]
		seen := map[int32]bool{}
		var b pair
		b.s = -1
		tie := false
		for _, l := range d.lits {
			if a.users[l] > 8 { continue }
			for _, w := range a.lists[l] {
				if seen[w] { continue }
				seen[w] = true
				if a.w[w].nframes > 1 { continue }
				s := a.score(int(w), d)
				if s < 12 { continue }
				if s > b.s { b = pair{int(w), di, s}; tie = false } else if s == b.s { tie = true }
			}
		}
		if b.s >= 0 && !tie {
			if o, ok := best[b.w]; ok {
				if o.s == b.s { ambiguous[b.w] = true } else if b.s > o.s { best[b.w] = b; delete(ambiguous, b.w) }
			} else { best[b.w] = b }
		}
	}
	var list []pair
	for w, p := range best { if !ambiguous[w] { list = append(list, p) } }
	sort.Slice(list, func(i, j int) bool { return list[i].w < list[j].w })
	return list
}

// chain is the heaviest increasing subsequence.
func chain(list []pair) []pair {
	n := len(list)
	if n == 0 { return nil }
	ds := make([]int, n)
	for i, p := range list { ds[i] = p.d }
	sorted := slices.Clone(ds); slices.Sort(sorted); sorted = slices.Compact(sorted)
	// Fenwick of best
	tree := make([]int, len(sorted)+1) // index+1 of best pair
	val := make([]int64, n)
	prev := make([]int, n)
	bestEnd := 0
	for i, p := range list {
		pos, _ := slices.BinarySearch(sorted, p.d)
		b := 0
		for k := pos; k > 0; k -= k & -k { if tree[k] != 0 && (b == 0 || val[tree[k]-1] > val[b-1]) { b = tree[k] } }
		val[i] = int64(p.s); prev[i] = -1
		if b > 0 { val[i] += val[b-1]; prev[i] = b-1 }
		for k := pos+1; k < len(tree); k += k & -k { if tree[k] == 0 || val[tree[k]-1] < val[i] { tree[k] = i+1 } }
		if val[i] > val[bestEnd] { bestEnd = i }
	}
	var out []pair
	for i := bestEnd; i >= 0; i = prev[i] { out = append(out, list[i]) }
	slices.Reverse(out)
	return out
}

type match struct {
	d *decl
	margin int32
	early bool
}

const (
	skipD = 1
	none = int32(math.MinInt32 / 4)
)

func (a *aligner) align(ch []pair, k int) []match {
	n, m := len(a.w), len(a.decls)
	A := append([]pair{{-1, -1, 0}}, ch...)
	A = append(A, pair{n, m, 0})
	at := func(i int) pair { if i < 0 { i = 0 }; if i >= len(A) { i = len(A)-1 }; return A[i] }
	lo, hi := make([]int, n+1), make([]int, n+1)
	off := make([]int, n+2)
	p := 0
	for i := 0; i <= n; i++ {
		for A[p+1].w < i && p+1 < len(A)-1 { p++ }
		lo[i], hi[i] = at(p-k+1).d+1, at(p+k).d
		off[i+1] = off[i] + hi[i]-lo[i]+1
	}
	// early ones
	earlyOf := make([]int32, n) // index+1 into early
	earlyScore := make([]int32, n)
	earlyMargin := make([]int32, n)
	for ei := range a.early {
		e := &a.early[ei]
		var b, b2 int32 = none, none
		bw := -1
		seen := map[int32]bool{}
		for _, x := range e.statics {
			for _, w := range a.lists[x] {
				if seen[w] { continue }
				seen[w] = true
				s := a.score(int(w), e)
				if s == none { continue }
				s += a.evidence(&a.w[w], e.statics)
				if s > b { b2 = b; b, bw = s, int(w) } else if s > b2 { b2 = s }
			}
		}
		if bw >= 0 && b > 0 {
			mg := b - max(b2, 0)
			if earlyOf[bw] != 0 {
				if b > earlyScore[bw] { earlyMargin[bw] = min(mg, b-earlyScore[bw]); earlyScore[bw] = b; earlyOf[bw] = int32(ei)+1 } else { earlyMargin[bw] = min(earlyMargin[bw], earlyScore[bw]-b) }
				continue
			}
			earlyOf[bw], earlyScore[bw], earlyMargin[bw] = int32(ei)+1, b, mg
		}
	}
	called := a.calledBefore()
	// the units that w may be in
	firstOf, lastOf := map[int]int{}, map[int]int{}
	for j := range a.decls { u := a.decls[j].unit; if _, ok := firstOf[u]; !ok { firstOf[u] = j }; lastOf[u] = j+1 }
	freeScore := make([]int32, n)
	freeUnit := make([]int, n)
	p = 0
	for i := 0; i < n; i++ {
		freeUnit[i] = -1
		for A[p+1].w < i && p+1 < len(A)-1 { p++ }
		if !called[i] || p == 0 || p+1 == len(A)-1 { continue }
		u1 := a.decls[A[p].d].unit
		q := A[p+1]; if q.w == i { /* anchor */ }
		u2 := a.decls[q.d].unit
		if u1 != u2 { continue }
		best := int32(-2)
		for j := firstOf[u1]; j < lastOf[u1]; j++ { if s := a.score(i, &a.decls[j]); s > best { best = s } }
		freeScore[i], freeUnit[i] = best, u1
	}
	skip := func(i, j int) int32 {
		boundary := j == 0 || j == m || a.decls[j-1].unit != a.decls[j].unit
		if e := earlyOf[i]; e != 0 {
			u := a.early[e-1].unit
			if j > 0 && a.decls[j-1].unit == u || j < m && a.decls[j].unit == u { return earlyScore[i] }
		}
		if u := freeUnit[i]; u >= 0 && (j > 0 && a.decls[j-1].unit == u || j < m && a.decls[j].unit == u) {
			return freeScore[i] - 2
		}
		switch {
		case boundary: return -1
		case called[i]: return -4
		}
		return -10
	}
	F := make([]int32, off[n+1])
	B := make([]int32, off[n+1])
	S := make([]int32, off[n+1]) // of the match of w[i] and d[j]
	for i := range F { F[i] = none; B[i] = none; S[i] = none }
	F[0-lo[0]] = 0
	for i := 0; i <= n; i++ {
		row := F[off[i]:off[i+1]]
		for j := lo[i]; j <= hi[i]; j++ {
			v := row[j-lo[i]]
			if v == none { continue }
			if j < hi[i] { if x := v - skipD; x > row[j+1-lo[i]] { row[j+1-lo[i]] = x } }
			if i == n { continue }
			nx := F[off[i+1]:off[i+2]]
			if j >= lo[i+1] && j <= hi[i+1] {
				if x := v + skip(i, j); x > nx[j-lo[i+1]] { nx[j-lo[i+1]] = x }
			}
			if j+1 >= lo[i+1] && j+1 <= hi[i+1] && j < m {
				s := a.score(i, &a.decls[j])
				S[off[i]+j-lo[i]] = s
				if s != none { if x := v + s; x > nx[j+1-lo[i+1]] { nx[j+1-lo[i+1]] = x } }
			}
		}
	}
	B[off[n]+m-lo[n]] = 0
	res := make([]match, n)
	for i := n; i >= 0; i-- {
		row := B[off[i]:off[i+1]]
		var best, second, bestJ = none, none, -2
		consider := func(v int32, j int) {
			if v <= none { return }
			if v > best { if bestJ != j { second = best }; best, bestJ = v, j } else if j != bestJ && v > second { second = v }
		}
		for j := hi[i]; j >= lo[i]; j-- {
			v := row[j-lo[i]]
			if j < hi[i] { if x := row[j+1-lo[i]]; x != none && x - skipD > v { v = x - skipD } }
			f := F[off[i]+j-lo[i]]
			if i < n {
				nx := B[off[i+1]:off[i+2]]
				if j >= lo[i+1] && j <= hi[i+1] && nx[j-lo[i+1]] != none {
					x := nx[j-lo[i+1]] + skip(i, j)
					if x > v { v = x }
					if f != none { consider(f+x, -1) }
				}
				if s := S[off[i]+j-lo[i]]; s != none && nx[j+1-lo[i+1]] != none {
					x := nx[j+1-lo[i+1]] + s
					if x > v { v = x }
					if f != none { consider(f+x, j) }
				}
			}
			row[j-lo[i]] = v
		}
		if i < n && bestJ >= 0 {
			res[i] = match{&a.decls[bestJ], best-max(second, none/2), false}
		} else if i < n && bestJ == -1 && earlyOf[i] != 0 {
			res[i] = match{&a.early[earlyOf[i]-1], min(best-max(second, none/2), earlyMargin[i]), true}
		}
	}
	return res
}

func (a *aligner) calledBefore() []bool {
	imported := len(a.m.FunctionNames()) - len(a.w)
	out := make([]bool, len(a.w))
	for i := range a.w {
		for _, c := range a.w[i].calls {
			if k := int(c) - imported; k > i { out[k] = true }
		}
	}
	return out
}
