package symbols

import (
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/wasm"
)

func TestTruth2(t *testing.T) {
	b, _ := guests.Python()
	m, _ := wasm.Decode(b)
	names := Infer(m)
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
	mem := make([]byte, 16<<20)
	cst := func(e wasm.Expr) int { var in wasm.Instr; r := wasm.NewReader(e); r.Next(&in); return int(in.Const) }
	for _, d := range m.Data {
		copy(mem[cst(d.Offset):], d.Init)
	}
	str := func(a int) string {
		if a < 1024 || a >= len(mem)-300 {
			return ""
		}
		return string(mem[a : a+max(0, strings.IndexByte(string(mem[a:a+300]), 0))])
	}
	// function starts by unit+file basename is unknown: use unit main file via name
	known := map[string]bool{}
	type fl struct {
		line uint32
		name string
	}
	byUnit := map[string][]fl{}
	for ui := range r.units {
		u := &r.units[ui]
		if !isC(u.language) {
			continue
		}
		c := &cursor{data: r.info[:u.end], at: int(u.entries)}
		a := r.entry(u, c)
		nm := ""
		for _, f := range a.attrs {
			var v value
			c.value(f, &v)
			if f.name == attrName {
				nm = r.text(f, &v)
			}
		}
		for k := u.functions[0]; k < u.functions[1]; k++ {
			f := &r.functions[k]
			if f.emitted {
				known[f.name] = true
			}
			if f.file == 1 {
				byUnit[nm] = append(byUnit[nm], fl{f.line, f.name})
			}
		}
		sort.Slice(byUnit[nm], func(i, j int) bool { return byUnit[nm][i].line < byUnit[nm][j].line })
	}
	good, bad, un := 0, 0, 0
	lg, lb, lu := 0, 0, 0
	var bads, lbads []string
	for i := range m.Code {
		var in wasm.Instr
		rd := wasm.NewReader(m.Code[i].Body())
		frames := 0
		own := map[string]bool{}
		lines := map[string]bool{}
		prev, prevOp := "", wasm.Opcode(0)
		var p2 wasm.Opcode
		for rd.Next(&in) == nil {
			if (in.Op == wasm.OpI32Sub || in.Op == wasm.OpI32Add) && prevOp == wasm.OpI32Const && p2 == wasm.OpGlobalGet {
				frames++
			}
			s := ""
			if in.Op == wasm.OpI32Const {
				s = str(int(uint32(in.Const)))
				if known[s] {
					own[s] = true
				}
				if l := byUnit[strings.TrimPrefix(prev, "./")]; l != nil && prevOp == wasm.OpI32Const && in.Const > 0 && in.Const < 30000 {
					k := sort.Search(len(l), func(i int) bool { return l[i].line > uint32(in.Const) })
					if k > 0 {
						lines[l[k-1].name] = true
					}
				}
			}
			p2 = prevOp
			prev, prevOp = s, in.Op
		}
		x := names[i+43]
		if len(own) == 1 && frames <= 1 {
			for o := range own {
				switch {
				case x == "":
					un++
				case x == o:
					good++
				default:
					bad++
					bads = append(bads, fmt.Sprint(i+43, " ", o, " named ", x))
				}
			}
		}
		if len(lines) == 1 && frames <= 1 {
			for o := range lines {
				switch {
				case x == "":
					lu++
				case x == o:
					lg++
				default:
					lb++
					lbads = append(lbads, fmt.Sprint(i+43, " ", o, " named ", x))
				}
			}
		}
	}
	for _, b := range bads {
		fmt.Println("func", b)
	}
	for _, b := range lbads {
		fmt.Println("line", b)
	}
	fmt.Println("func", good, bad, un, "line", lg, lb, lu)
}
