package symbols

import (
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// Infer returns the names of a module's functions by index, "" for those that it isn't sure of. It returns nil if the
// module has no debug information, or has some with addresses, or if the two have nothing in common.
func Infer(m *wasm.Module) []string {
	r := sections(m)
	if len(r.info) == 0 {
		return nil
	}
	if r.read(); r.located || r.work < 0 {
		return nil
	}
	imported := uint32(0)
	for i := range m.Imports {
		if m.Imports[i].Kind == wasm.ExternFunc {
			imported++
		}
	}
	p := newProgram(m, imported, r)
	anchors := p.anchors()
	chained := chain(anchors, len(p.ordered))
	// Where the order means something, nearly all anchors are in it.
	if len(chained) < minAnchors || len(chained) < len(anchors)*3/4 {
		return nil
	}
	if p.settle(p.align(chained, 2)) == 0 {
		return nil
	}
	// What is certain bounds the rest.
	for range maxRounds {
		if p.settle(p.align(p.settled(), 1)) == 0 {
			break
		}
	}
	names := make([]string, len(p.bodies))
	for i := range p.bodies {
		if d := p.bodies[i].is; d != nil {
			names[i] = d.name
		}
	}
	return slices.Concat(make([]string, imported), names)
}

// sections returns the module's debug information, unread.
func sections(m *wasm.Module) *information {
	r := &information{}
	for _, c := range m.Customs {
		switch c.Name {
		case ".debug_info":
			r.info = c.Data
		case ".debug_abbrev":
			r.abbrev = c.Data
		case ".debug_str":
			r.str = c.Data
		case ".debug_line_str":
			r.lineStr = c.Data
		}
	}
	return r
}
