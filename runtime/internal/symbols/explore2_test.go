package symbols

import (
	"fmt"
	"testing"
	"time"
	"sort"
)

func TestAnchors(t *testing.T) {
	m, r := load(t)
	t0 := time.Now()
	bs := bodies(m, 1024, 20<<20)
	fmt.Println("bodies", time.Since(t0))
	imported := 43
	fr, sp, np := 0, 0, 0
	for i := range bs { if bs[i].frame >= 0 { fr++ }; for _, s := range bs[i].spills { np++; if s >= 0 { sp++ } } }
	fmt.Println("frames", fr, "params", np, "spilled", sp)
	// tombstones
	var rng []byte
	for _, c := range m.Customs { if c.Name == ".debug_ranges" { rng = c.Data } }
	live, dead, mism := 0, 0, 0
	for i := range r.units {
		u := &r.units[i]
		n := 0
		for _, s := range r.subs[u.subs[0]:u.subs[1]] { if s.hasPC { n++ } }
		if !u.hasRanges { live++; continue }
		c := cur{b: rng, at: int(u.ranges)}
		k := 0
		for !c.bad {
			a, b := c.u32(), c.u32()
			if a == 0 && b == 0 { break }
			if a == 0 && b == 1 { live++ } else { dead++; if dead < 5 { fmt.Println(u.name, a, b) } }
			k++
		}
		if k != n { mism++; fmt.Println("mismatch", u.name, n, k) }
	}
	fmt.Println("live", live, "dead", dead, "mism", mism)
	// address owner: unique sub statics
	owner := map[uint32]int{}
	for _, o := range r.objects { if o.sub >= 0 { if _, ok := owner[o.addr]; ok { owner[o.addr] = -2 } else { owner[o.addr] = o.sub } } }
	users := map[uint32][]int{}
	for i := range bs { for _, a := range bs[i].refs { if _, ok := owner[a]; ok { users[a] = append(users[a], i) } } }
	n1, n2 := 0, 0
	type pair struct{ w, d int }
	var pairs []pair
	for a, o := range owner { if o < 0 { continue }; if len(users[a]) == 1 { n1++; pairs = append(pairs, pair{users[a][0], o}) } else if len(users[a]) > 1 { n2++ } }
	fmt.Println("static users 1:", n1, "more:", n2, "of", len(owner))
	sort.Slice(pairs, func(i, j int) bool { return pairs[i].d < pairs[j].d || pairs[i].d == pairs[j].d && pairs[i].w < pairs[j].w })
	last := pair{}
	for i, p := range pairs { if p == last { continue }; last = p; if i < 600 { s := &r.subs[p.d]; fmt.Println(p.w+imported, p.d, r.units[s.unit].name, s.name, s.top, bs[p.w].frame, len(s.params), bs[p.w].spills, s.params) } }
}
