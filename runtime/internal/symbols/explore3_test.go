package symbols

import (
	"fmt"
	"testing"
	"time"
)

func TestChain(t *testing.T) {
	m, r := load(t)
	t0 := time.Now()
	a := &aligner{m: m, r: r, w: bodies(m, 1024, 20<<20)}
	a.prepare()
	fmt.Println("prepare", time.Since(t0), len(a.decls), len(a.early))
	t0 = time.Now()
	an := a.anchors()
	ch := chain(an)
	fmt.Println("anchors", len(an), "chain", len(ch), time.Since(t0))
	in := map[pair]bool{}
	for _, p := range ch { in[p] = true }
	for _, p := range an { if !in[p] { d := &a.decls[p.d]; fmt.Println("out", p.w+43, p.d, p.s, r.units[d.unit].name, d.sub.name, len(d.lits)) } }
	mf := 0
	for i := range a.w { if a.w[i].nframes > 1 { mf++ } }
	fmt.Println("multiframe", mf)
	last := pair{}
	gaps := 0
	for _, p := range ch {
		gw, gd := p.w-last.w, p.d-last.d
		if gw > gd && a.decls[p.d].unit == a.decls[last.d].unit { fmt.Println("tight", last.w+43, p.w+43, gw, gd, a.decls[p.d].sub.name, r.units[a.decls[p.d].unit].name) }
		gaps += gw*gd
		last = p
	}
	fmt.Println("cells", gaps)
}
