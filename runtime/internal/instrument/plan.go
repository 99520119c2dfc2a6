package instrument

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// Plan is what a transform found out about a module, and what it takes to understand and to rebuild stacks of its running
// form. It is read-only.
type Plan struct {
	// Sites are the calls that may suspend, by the number that the emitted code reports. Numbers of other calls are the zero
	// Site.
	Sites []Site
	// DroppedData are the data segments that the code can drop, ascending.
	DroppedData []uint32
	// HasReferences reports whether the module has references in locals, globals or code. Registries is what those to
	// functions come from; if there is none, code can't get hold of any.
	HasReferences bool
	Registries    []Registry
	// Tables are the tables that the code can change, DroppedElements the element segments that it can drop and might miss.
	// Both ascending.
	Tables, DroppedElements []uint32

	refs    refIndex
	first   []uint32 // by defined function: the number of its first call; one more than functions
	choices Choices  // not encoded: only tests make others
	sus     *suspension
}

func newPlan(env *wasm.Env, g *callGraph, sus *suspension) *Plan {
	p := &Plan{sus: sus, first: make([]uint32, len(g.calls)+1), DroppedData: g.droppedData}
	for i, n := range g.calls {
		if !sus.funcs[env.NumImportedFuncs+i] {
			n = 0
		}
		p.first[i+1] = p.first[i] + n
	}
	p.Sites = make([]Site, p.first[len(g.calls)])
	return p
}

// MaySuspend reports whether a function may suspend.
func (p *Plan) MaySuspend(function uint32) bool {
	return uint64(function) < uint64(len(p.sus.funcs)) && p.sus.funcs[function]
}

// planMagic begins an encoded plan.
const planMagic = "durun plan 2\n"

// Encode returns the plan as bytes, the same for the same plan.
func (p *Plan) Encode() []byte {
	b := []byte(planMagic)
	number := func(v uint32) { b = wasm.AppendU32(b, v) }
	list := func(vs []uint32) {
		number(uint32(len(vs)))
		for _, v := range vs {
			number(v)
		}
	}
	number(uint32(len(p.sus.funcs)))
	bits := make([]byte, (len(p.sus.funcs)+7)/8)
	for i, s := range p.sus.funcs {
		if s {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	b = append(b, bits...)
	list(slices.Sorted(maps.Keys(p.sus.types)))
	list(p.DroppedData)
	list(p.Tables)
	list(p.DroppedElements)
	flag := uint32(0)
	if p.HasReferences {
		flag = 1
	}
	number(flag)
	number(uint32(len(p.Registries)))
	for i := range p.Registries {
		number(uint32(p.Registries[i].Type))
		list(p.Registries[i].Funcs)
	}
	number(uint32(len(p.first)))
	for i := 1; i < len(p.first); i++ {
		number(p.first[i] - p.first[i-1])
	}
	slots := 0
	for i := range p.Sites {
		slots += len(p.Sites[i].Slots)
	}
	number(uint32(len(p.Sites)))
	number(uint32(slots))
	for i := range p.Sites {
		s := &p.Sites[i]
		number(s.Function)
		number(s.Offset)
		n := uint32(len(s.Slots)) << 1
		if s.Try {
			n |= 1
		}
		number(n)
		for _, sl := range s.Slots {
			// A reference's type follows from the function; here it matters only that it is one.
			kind := byte(sl.Type) & 0x7f
			if sl.Type.IsRef() {
				kind = kindRef
			}
			if sl.Operand {
				kind |= 0x80
			}
			b = append(b, kind)
			number(sl.Index)
		}
	}
	return b
}

// kindRef stands for the type of references to functions.
const kindRef = 0x70

// errPlan is returned for bytes that aren't an encoded plan.
var errPlan = errors.New("not a plan of this version")

// DecodePlan reads a plan that [Plan.Encode] wrote.
func DecodePlan(data []byte) (p *Plan, err error) {
	if !bytes.HasPrefix(data, []byte(planMagic)) {
		return nil, errPlan
	}
	b := data[len(planMagic):]
	bad := false
	number := func() uint32 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > math.MaxUint32 {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return uint32(v)
	}
	// count reads a number of things that take at least so many bits each.
	count := func(bits int) int {
		n := number()
		if uint64(n)*uint64(bits) > uint64(len(b))*8 {
			bad = true
			return 0
		}
		return int(n)
	}
	list := func() []uint32 {
		var vs []uint32
		for range count(8) {
			vs = append(vs, number())
		}
		return vs
	}
	p = &Plan{sus: &suspension{types: map[uint32]bool{}}}
	p.sus.funcs = make([]bool, count(1))
	n := (len(p.sus.funcs) + 7) / 8
	if n > len(b) {
		return nil, errPlan
	}
	for i := range p.sus.funcs {
		p.sus.funcs[i] = b[i/8]>>(i%8)&1 != 0
	}
	b = b[n:]
	for _, t := range list() {
		p.sus.types[t] = true
	}
	p.DroppedData = list()
	p.Tables = list()
	p.DroppedElements = list()
	p.HasReferences = number() != 0
	for range count(2 * 8) {
		p.Registries = append(p.Registries, Registry{Type: wasm.ValueType(number()), Funcs: list()})
	}
	p.first = make([]uint32, max(count(8), 1))
	for i := 1; i < len(p.first); i++ {
		p.first[i] = p.first[i-1] + number()
		bad = bad || p.first[i] < p.first[i-1]
	}
	p.Sites = make([]Site, count(3*8))
	slots := make([]Slot, 0, count(2*8))
	for i := range p.Sites {
		s := &p.Sites[i]
		s.Function, s.Offset = number(), number()
		size := number()
		first, n := len(slots), int(size>>1)
		s.Try = size&1 != 0
		if n > cap(slots)-first {
			return nil, errPlan
		}
		for range n {
			if len(b) == 0 {
				return nil, errPlan
			}
			kind := b[0]
			b = b[1:]
			t := wasm.ValueType(kind & 0x7f)
			if t == kindRef {
				t = wasm.FuncRef
			}
			slots = append(slots, Slot{Operand: kind&0x80 != 0, Type: t, Index: number()})
		}
		s.Slots = slots[first:len(slots):len(slots)]
	}
	if bad || len(b) > 0 || int(p.first[len(p.first)-1]) != len(p.Sites) {
		return nil, errPlan
	}
	return p, nil
}
