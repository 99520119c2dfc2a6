package symbols

import (
	"fmt"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/wasm"
)

func TestHist(t *testing.T) {
	b, _ := guests.Python()
	m, _ := wasm.Decode(b)
	r := &information{}
	for _, c := range m.Customs {
		switch c.Name {
		case ".debug_info":
			r.info = c.Data
		case ".debug_abbrev":
			r.abbrev = c.Data
		case ".debug_str":
			r.str = c.Data
		}
	}
	r.read()
	p := newProgram(m, 43, r)
	ch := chain(p.anchors(), len(p.ordered))
	p.settle(p.align(ch, 2))
	p.settle(p.align(p.settled(), 1))
	var hu, ho, hl [20]int
	var nr [20]int
	ex := 0
	for i := range p.bodies {
		if d := p.bodies[i].is; d != nil {
			rd, un, ot := reads(&p.bodies[i], d)
			hu[min(un, 19)]++
			ho[min(ot, 19)]++
			nr[min(rd, 19)]++
			l, _ := fits(&p.bodies[i], d)
			hl[l]++
			if ot > 2 && ex < 10 {
				ex++
				fmt.Println(i+43, d.name, d.variables, d.top, p.bodies[i].slots)
			}
		}
	}
	fmt.Println("read", nr, "unread", hu, "other", ho, "lost", hl)
	ans := p.align(p.settled(), 1)
	var hm [40]int
	for i, a := range ans {
		if i+43 > 8850 {
			break
		}
		if p.bodies[i].is == nil {
			if a.declaration == nil {
				hm[39]++
			} else {
				hm[min(a.margin, 38)]++
			}
		}
	}
	fmt.Println("margins", hm)
	n := 0
	for i, a := range ans {
		if p.bodies[i].is != nil || i+43 > 8800 {
			continue
		}
		n++
		if i+43 != 365 && i+43 != 4056 && i+43 != 8166 {
			continue
		}
		fmt.Print(i+43, " m ", a.margin, " ")
		if a.declaration != nil {
			fmt.Print(a.declaration.name, " ")
		}
		bb := &p.bodies[i]
		fmt.Println(bb.signature.Params, bb.frame, bb.frames, bb.slots, "rar", bb.rarity, "ment", bb.mentioned+43, "fixed", bb.fixed)
	}
}
