package symbols

import (
	"fmt"
	"testing"
)

func TestWin(t *testing.T) {
	m, r := load(t)
	a := &aligner{m: m, r: r, w: bodies(m, 1024, 20<<20)}
	a.prepare()
	res := a.align(chain(a.anchors()), 2)
	tr := map[int]string{}
	for _, q := range truths(m, r) { tr[q.w] += q.name + "," }
	show := func(w0, w1 int) {
		d0, d1 := 1<<30, 0
		for i := w0; i < w1; i++ { if x := res[i-43]; x.d != nil && !x.early { for k := range a.decls { if &a.decls[k] == x.d { d0 = min(d0, k); d1 = max(d1, k) } } } }
		for i := d0-1; i <= d1+1; i++ { d := &a.decls[i]; fmt.Printf("d %d die %x %s line %d:%d ext %v params %v frame %d-%d vars %v lits %v\n", i, d.sub.die, d.sub.name, d.sub.file, d.sub.line, d.sub.external, d.params, d.frameMin, d.frameMax, d.sub.vars, d.lits) }
		for i := w0-43; i < w1-43; i++ { w := &a.w[i]; nm := ""; if res[i].d != nil { nm = res[i].d.sub.name }; fmt.Printf("w %d [%s] <%s> m %d %v->%v frame %d n %d spills %v size %d calls %v claims %v slots %v\n", i+43, tr[i+43], nm, res[i].margin, w.typ.Params, w.typ.Results, w.frame, w.nframes, w.spills,  w.size, w.calls, a.claims[i], w.slots) }
	}
	show(4903, 4914)
	show(5468, 5478)
	show(4450, 4458)
	show(7276, 7283)
	show(1216, 1224)
	show(2490, 2499)
}
