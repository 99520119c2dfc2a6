package symbols

import (
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/wasm"
)

type truth struct {
	w          int
	name, kind string
}

func truths(m *wasm.Module) []truth {
	mem := make([]byte, 16<<20)
	cst := func(e wasm.Expr) int { var in wasm.Instr; r := wasm.NewReader(e); r.Next(&in); return int(in.Const) }
	for _, d := range m.Data {
		copy(mem[cst(d.Offset):], d.Init)
	}
	tab := functionTable(m)
	u32 := func(a int) int { return int(mem[a]) | int(mem[a+1])<<8 | int(mem[a+2])<<16 | int(mem[a+3])<<24 }
	str := func(a int) string {
		if a < 1024 || a >= len(mem) {
			return ""
		}
		e := a
		for e < len(mem) && mem[e] != 0 && e-a < 64 {
			c := mem[e]
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= '0' && c <= '9') {
				return ""
			}
			e++
		}
		return string(mem[a:e])
	}
	fn := func(f int) int {
		if f > 0 && f < len(tab) {
			return int(tab[f])
		}
		return -1
	}
	var out []truth
	for x := range tabs {
		o := &tabs[x]
		for a := o.a; a < o.a+o.n; a += o.stride {
			n := str(u32(a))
			if n == "" {
				continue
			}
			if f := fn(u32(a + 4)); f > 0 {
				out = append(out, truth{f, n, "m"})
			}
			if o.stride == 20 {
				if f := fn(u32(a + 8)); f > 0 {
					out = append(out, truth{f, n, "set"})
				}
			}
		}
	}
	return out
}

var tabs []struct{ a, n, stride int }

func collect(r *information) {
	// named tables
	tabs = nil
	for ui := range r.units {
		u := &r.units[ui]
		c := &cursor{data: r.info[:u.end], at: int(u.entries)}
		for !c.bad && c.at < len(c.data) {
			a := r.entry(u, c)
			if a == nil {
				continue
			}
			var v value
			var name string
			var addr, typ uint32
			for _, f := range a.attrs {
				c.value(f, &v)
				switch f.name {
				case attrName:
					name = strings.ToLower(r.text(f, &v))
				case attrLocation:
					if x, _ := location(v.block); x != 0 {
						addr = x
					}
				case attrType:
					typ = u.reference(f, &v)
				}
			}
			if a.tag == tagVariable && addr != 0 {
				n := int(r.ctype(u, typ).size)
				if strings.Contains(name, "method") && n%16 == 0 {
					tabs = append(tabs, struct{ a, n, stride int }{int(addr), n, 16})
				}
				if strings.Contains(name, "getset") && n%20 == 0 {
					tabs = append(tabs, struct{ a, n, stride int }{int(addr), n, 20})
				}
			}
		}
	}
}

func TestExplore(t *testing.T) {
	b, err := guests.Python()
	if err != nil {
		t.Fatal(err)
	}
	t0 := time.Now()
	m, _ := wasm.Decode(b)
	fmt.Println("decode", time.Since(t0))
	t0 = time.Now()
	for range 3 {
		t0 = time.Now()
		Infer(m)
		fmt.Println("infer", time.Since(t0))
	}
	t0 = time.Now()
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
	fmt.Println("dwarf", time.Since(t0), r.located, r.work, len(r.info))
	t0 = time.Now()
	p := newProgram(m, 43, r)
	fmt.Println("program", time.Since(t0))
	t0 = time.Now()
	an := p.anchors()
	ch := chain(an, len(p.ordered))
	fmt.Println("anchors", len(an), len(ch), time.Since(t0))
	t0 = time.Now()
	a := &alignment{program: p}
	a.band(ch, 2)
	fmt.Println("band", a.at[len(a.at)-1], time.Since(t0))
	t0 = time.Now()
	a.search(ch)
	fmt.Println("search", time.Since(t0))
	t0 = time.Now()
	a.forward()
	fmt.Println("forward", time.Since(t0))
	t0 = time.Now()
	names := Infer(m)[43:]
	fmt.Println("backward", time.Since(t0))
	t0 = time.Now()
	n := 0
	for _, x := range names {
		if x != "" {
			n++
		}
	}
	fmt.Println("named", n)
	r.work = 1 << 40
	collect(r)
	tr := truths(m)
	byw := map[int][]string{}
	for _, q := range tr {
		byw[q.w] = append(byw[q.w], q.name)
	}
	norm := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "") }
	good, bad, un := 0, 0, 0
	var l []string
	for w, qs := range byw {
		x := names[w-43]
		if x == "" {
			un++
			continue
		}
		ok := false
		for _, q := range qs {
			if strings.Contains(norm(x), norm(q)) {
				ok = true
			}
		}
		if ok {
			good++
		} else {
			bad++
			l = append(l, fmt.Sprint(w, qs, x))
		}
	}
	sort.Strings(l)
	for _, x := range l {
		fmt.Println(x)
	}
	fmt.Println("good", good, "bad", bad, "unnamed", un)
	for _, w := range []int{43, 3283, 3284, 4393, 4394, 4395, 4396, 4397} {
		fmt.Println(w, names[w-43])
	}
}
