package symbols

import (
	"fmt"
	"testing"
	"time"
	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/wasm"
)

func load(t *testing.T) (*wasm.Module, *reader) {
	b, err := guests.Python()
	if err != nil { t.Fatal(err) }
	t0 := time.Now()
	m, err := wasm.Decode(b)
	if err != nil { t.Fatal(err) }
	fmt.Println("decode", time.Since(t0))
	t0 = time.Now()
	r := &reader{types: map[uint32]ctype{}, cache: map[uint32][]abbrev{}}
	for _, c := range m.Customs {
		switch c.Name {
		case ".debug_info": r.info = c.Data
		case ".debug_abbrev": r.abb = c.Data
		case ".debug_str": r.str = c.Data
		}
	}
	r.readUnits()
	fmt.Println("dwarf", time.Since(t0), len(r.units), len(r.subs), len(r.objects), len(r.types))
	return m, r
}

func TestExplore(t *testing.T) {
	_, r := load(t)
	n := 0
	lows := map[uint32]int{}
	for i := range r.subs { s := &r.subs[i]; if s.hasPC { n++; lows[s.low]++ } }
	fmt.Println("with pc", n, lows)
	for i := range r.units {
		u := &r.units[i]
		n := 0
		for _, s := range r.subs[u.subs[0]:u.subs[1]] { if s.hasPC { n++ } }
		if i < 40 { fmt.Println(u.name, u.lang, u.hasRanges, n) }
	}
	for _, s := range r.subs { if s.name == "PyList_Append" || s.name == "list_sort" { fmt.Printf("%+v\n", s) } }
	for i, o := range r.objects { if i%2500 == 0 { fmt.Printf("%+v\n", o) } }
}
