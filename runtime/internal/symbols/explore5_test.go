package symbols

import (
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/runtime/internal/wasm"
)

type truth struct { w int; name, kind string }

func image(m *wasm.Module) ([]byte, []int) {
	mem := make([]byte, 16<<20)
	cst := func(e wasm.Expr) int {
		var in wasm.Instr
		r := wasm.NewReader(e); r.Next(&in); return int(in.Const)
	}
	for _, d := range m.Data { copy(mem[cst(d.Offset):], d.Init) }
	var tab []int
	for _, e := range m.Elements {
		o := cst(e.Offset)
		for len(tab) < o + len(e.Funcs) { tab = append(tab, -1) }
		for i, f := range e.Funcs { tab[o+i] = int(f) }
	}
	return mem, tab
}

func truths(m *wasm.Module, r *reader) []truth {
	mem, tab := image(m)
	u32 := func(a int) int { return int(mem[a]) | int(mem[a+1])<<8 | int(mem[a+2])<<16 | int(mem[a+3])<<24 }
	str := func(a int) string {
		if a < 1024 || a >= len(mem) { return "" }
		e := a
		for e < len(mem) && mem[e] != 0 && e-a < 64 { c := mem[e]; if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= '0' && c <= '9') { return "" }; e++ }
		return string(mem[a:e])
	}
	var out []truth
	fn := func(f int) int { if f > 0 && f < len(tab) { return tab[f] }; return -1 }
	done := map[uint32]bool{}
	for _, o := range r.objects {
		if done[o.addr] { continue }
		done[o.addr] = true
		l := strings.ToLower(o.name)
		switch {
		case strings.Contains(l, "method") && o.size % 16 == 0:
			for x := int(o.addr); x < int(o.addr+o.size); x += 16 {
				if n, f := str(u32(x)), fn(u32(x+4)); n != "" && f >= 0 { out = append(out, truth{f, n, "method"}) }
			}
		case strings.Contains(l, "getset") && o.size % 20 == 0:
			for x := int(o.addr); x < int(o.addr+o.size); x += 20 {
				n := str(u32(x))
				if n == "" { continue }
				if f := fn(u32(x+4)); f >= 0 { out = append(out, truth{f, n, "get"}) }
				if f := fn(u32(x+8)); f >= 0 { out = append(out, truth{f, n, "set"}) }
			}
		}
	}
	return out
}

func TestAlign(t *testing.T) {
	m, r := load(t)
	t0 := time.Now()
	a := &aligner{m: m, r: r, w: bodies(m, 1024, 20<<20)}
	a.prepare()
	fmt.Println("prepare", time.Since(t0))
	t0 = time.Now()
	ch := chain(a.anchors())
	fmt.Println("chain", len(ch), time.Since(t0))
	tr := truths(m, r)
	fmt.Println("truths", len(tr))
	for k := 1; k <= 2; k++ {
		t0 = time.Now()
		res := a.align(ch, k)
		fmt.Println("align", k, time.Since(t0))
		for _, M := range []int32{1, 4, 8, 12, 16} {
			n, e := 0, 0
			for _, x := range res { if x.d != nil && x.margin >= M { n++; if x.early { e++ } } }
			good, bad, un := 0, 0, 0
			bads := map[string]bool{}
			byw := map[int][]truth{}
			for _, q := range tr { byw[q.w] = append(byw[q.w], q) }
			norm := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "") }
			for w, qs := range byw {
				x := res[w-43]
				if x.d == nil || x.margin < M { un++; continue }
				ok := false
				for _, q := range qs { if strings.Contains(norm(x.d.sub.name), norm(q.name)) { ok = true } }
				if !ok { for _, q := range qs { if lcs(norm(x.d.sub.name), norm(q.name)) >= 3 { ok = true } } }
				if ok { good++ } else { bad++; bads[fmt.Sprint(w, qs, " ", x.d.sub.name, " ", x.margin, " ", x.early)] = true }
			}
			fmt.Println("margin", M, "named", n, "early", e, "good", good, "bad", bad, "unnamed", un)
			if M == 4 && k == 2 {
				var l []string
				for b := range bads { l = append(l, b) }
				sort.Strings(l)
				for _, b := range l { fmt.Println(b) }
			}
		}
	}
}

func lcs(a, b string) int {
	best := 0
	for i := range a { for j := range b { k := 0; for i+k < len(a) && j+k < len(b) && a[i+k] == b[j+k] { k++ }; best = max(best, k) } }
	return best
}
