package symbols

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/wasm"
)

func TestLook(t *testing.T) {
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
	names := Infer(m)[43:]
	show := func(d *declaration, tag string) {
		fmt.Printf("%s %s unit %d params %v res %v frame %v vars %v objects %v shared %v\n", tag, d.name, d.unit, d.parameters, d.result, d.frame, d.variables, d.objects, d.shared)
	}
	for _, q := range strings.Split(os.Getenv("LOOK"), ",") {
		if len(q) == 0 {
			continue
		}
		if q[0] >= '0' && q[0] <= '9' {
			var lo, hi int
			fmt.Sscanf(q, "%d-%d", &lo, &hi)
			for i := lo; i <= hi; i++ {
				b := &p.bodies[i-43]
				fmt.Printf("w %d <%s> %v->%v frame %d/%d stored %v slots %v objs %v fixed %v ment %d claims %d size %d\n", i, names[i-43], b.signature.Params, b.signature.Results, b.frame, b.frames, b.stored, b.slots, b.objects, b.fixed, b.mentioned+43, len(p.claims[i-43]), len(m.Code[i-43].Raw))
			}
			continue
		}
		for k := range p.ordered {
			if p.ordered[k].name == q {
				for z := max(0, k-4); z < k+5; z++ {
					show(&p.ordered[z], fmt.Sprint(z))
				}
			}
		}
		for k := range p.anywhere {
			if p.anywhere[k].name == q {
				show(&p.anywhere[k], "anywhere")
			}
		}
	}
}
