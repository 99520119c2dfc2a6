package symbols

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// declaration is a function as the debug information has it.
type declaration struct {
	name       string
	unit       int
	parameters []slotted
	result     wasm.ValueType // 0 for none
	anyResult  bool           // result isn't known
	// frame is the least and the largest size that its frame may have, -1 and -1 if nothing is known of it.
	frame     [2]int32
	frameless bool
	variables []variable
	top       int32 // where they end
	// objects are its string literals and static variables, those that code refers to.
	objects []uint32
	// anywhere says that its entry was made before its code, so that its place in the order says nothing.
	anywhere bool
	// shared says that a unit before has it too, as those in headers: equal functions are merged.
	shared bool
	place  int  // in program.ordered
	taken  bool // a body has it for certain
}

// slotted is a parameter of a declaration in wasm: its type, 0 if unknown, and its place in the frame or -1.
type slotted struct {
	typ   wasm.ValueType
	place int32
}

// impossible is the score of a body that can't be the declaration's, and of what can't be reached.
const impossible = math.MinInt32 / 4

// Scores, in bits.
const (
	matchCost     = 1  // of a declaration that has a body: about half of them have one
	sharedCost    = 6  // the same for a shared one
	lostCost      = 5  // for each parameter or result that the body lacks
	framelessCost = 3  // for a frame that only a call inlined into it may have made
	slotGain      = 2  // for each variable that the body reads
	maxSlotGain   = 12 //
	slotCost      = 8  // for each that it doesn't
	maxSlotCost   = 24 //
	otherCost     = 4  // for each place in the frame that the body reads and no variable has
	maxOtherCost  = 18 //
	objectGain    = 8  // for an object that few refer to; less for one that more do
	inlinedGain   = 1  // for an object, in a body with calls inlined: it may be theirs
	objectCost    = 8  // for an object that is missing
	maxObjects    = 32 // of all objects, for and against
	claimedCost   = 10 // for an object that no other body refers to, and that another declaration has
	retvalMargin  = 8  // how far above its variables a frame may reach: the place of the value to return
)

// fits says whether a body can be a declaration's, and how many parameters and results it lost.
func fits(b *body, d *declaration) (lost int32, ok bool) {
	if d.frame[1] >= 0 && (b.frame < d.frame[0] || b.frame > d.frame[1]) {
		return 0, false
	}
	have := b.signature.Params
	lost = int32(len(d.parameters) - len(have))
	if lost < 0 {
		return 0, false
	}
	switch results := b.signature.Results; {
	case d.anyResult:
	case len(results) > 1 || len(results) == 1 && results[0] != d.result:
		return 0, false
	case len(results) == 0 && d.result != 0:
		lost++
	}
	if lost > 0 && b.fixed {
		return 0, false
	}
	next := 0
	for i, t := range have {
		for {
			if len(d.parameters)-next < len(have)-i {
				return 0, false
			}
			p := d.parameters[next]
			next++
			if (p.typ == t || p.typ == 0) && (p.place < 0 || b.stored[i] < 0 || p.place == b.stored[i]) {
				break
			}
		}
	}
	return lost, true
}

// program is the two lists, and what relates them.
type program struct {
	bodies []body
	// ordered are the declarations in the order of the information, but for those that may be anywhere in their unit.
	ordered  []declaration
	anywhere []declaration
	// users are the bodies that refer to an object.
	users map[uint32][]int32
	// alike are the bodies by their numbers.
	alike map[uint64][]int32
	// claims are the declarations, by body, whose objects nobody else refers to.
	claims map[int][]*declaration
}

// score returns how well body i fits d, in bits: positive where it is likelier to be it than a random one.
func (p *program) score(i int, d *declaration) int32 {
	b := &p.bodies[i]
	if b.is != d && (b.is != nil || d.taken) {
		return impossible
	}
	lost, ok := fits(b, d)
	if !ok {
		return impossible
	}
	score := b.rarity - matchCost - lostCost*lost
	if d.shared {
		score -= sharedCost
	}
	if d.frameless && b.frames > 0 {
		score -= framelessCost
	}
	read, unread, other := reads(b, d)
	score += min(slotGain*read, maxSlotGain) - min(slotCost*unread, maxSlotCost) - min(otherCost*other-min(other, 1)*2, maxOtherCost)
	var with, without int32
	for _, o := range d.objects {
		switch _, found := slices.BinarySearch(b.objects, o); {
		case !found:
			without += objectCost
		case b.frames > 1:
			with += inlinedGain
		default:
			with += min(objectGain, rarity(len(p.users[o]), len(p.bodies)))
		}
	}
	score += min(with, maxObjects) - min(without, maxObjects)
	if b.frames <= 1 && slices.ContainsFunc(p.claims[i], func(c *declaration) bool { return c != d }) {
		score -= claimedCost
	}
	return score
}

// reads counts the variables of d that the body reads and that it doesn't, and the places that it reads besides.
func reads(b *body, d *declaration) (read, unread, other int32) {
	for _, v := range d.variables {
		if !v.scalar {
			continue
		}
		_, found := slices.BinarySearch(b.slots, slot(v.place, uint8(v.size)))
		if !found {
			_, found = slices.BinarySearch(b.slots, slot(v.place, 0))
		}
		if found {
			read++
		} else {
			unread++
		}
	}
	for _, s := range b.slots {
		if place, size := int32(s>>4), s&15; size == 0 || place >= d.top || d.has(place) {
			continue
		}
		other++
	}
	return read, unread, other
}

// has says whether a place in the frame is a variable's.
func (d *declaration) has(place int32) bool {
	for _, v := range d.variables {
		if v.place <= place && place < v.place+v.size {
			return true
		}
	}
	return false
}

// rarity is log₂ of how many there are for each of n.
func rarity(n, all int) int32 {
	if n == 0 {
		return 0
	}
	return int32(bits.Len(uint(all / n)))
}

// newProgram reads both lists of a module.
func newProgram(m *wasm.Module, imported uint32, r *information) *program {
	known := make(map[uint32]struct{}, len(r.objects))
	for i := range r.objects {
		known[r.objects[i].address] = struct{}{}
	}
	p := &program{bodies: bodies(m, imported, known), users: map[uint32][]int32{}, claims: map[int][]*declaration{}}
	p.rarities()
	for i := range p.bodies {
		for _, o := range p.bodies[i].objects {
			p.users[o] = append(p.users[o], int32(i))
		}
	}
	p.declare(r)
	for _, list := range [][]declaration{p.ordered, p.anywhere} {
		for k := range list {
			for _, o := range list[k].objects {
				if users := p.users[o]; len(users) == 1 {
					i := int(users[0])
					p.claims[i] = append(p.claims[i], &list[k])
				}
			}
		}
	}
	return p
}

// rarities sets how rare the numbers of each body are.
func (p *program) rarities() {
	p.alike = map[uint64][]int32{}
	list := make([]uint64, len(p.bodies))
	for i := range p.bodies {
		b := &p.bodies[i]
		list[i] = numbers(b.frame, b.signature.Results, len(b.stored), func(k int) (wasm.ValueType, int32) {
			return b.signature.Params[k], b.stored[k]
		})
		p.alike[list[i]] = append(p.alike[list[i]], int32(i))
	}
	for i := range p.bodies {
		p.bodies[i].rarity = rarity(len(p.alike[list[i]]), len(p.bodies))
	}
}

// numbers returns a hash of what a body and a declaration have in common, if nothing was lost: the frame's size, the types
// and where parameters are in the frame.
func numbers(frame int32, results []wasm.ValueType, n int, parameter func(int) (wasm.ValueType, int32)) uint64 {
	h := uint64(frame) + 2
	for k := range n {
		t, place := parameter(k)
		h = (h^uint64(t))*0x9e3779b97f4a7c15 + uint64(place+2)
		h ^= h >> 29
	}
	for _, t := range results {
		h = (h ^ uint64(t)) * 0xbf58476d1ce4e5b9
	}
	return h
}

// only returns the body that alone has the declaration's numbers, if there is one.
func (p *program) only(d *declaration) (body int32, ok bool) {
	if d.anyResult || d.frame[1] < 0 || d.frame[1] == maxFrame {
		return 0, false
	}
	var results []wasm.ValueType
	if d.result != 0 {
		results = []wasm.ValueType{d.result}
	}
	for frame := d.frame[0]; frame <= d.frame[1]; frame += frameAlign {
		alike := p.alike[numbers(frame, results, len(d.parameters), func(k int) (wasm.ValueType, int32) {
			return d.parameters[k].typ, d.parameters[k].place
		})]
		if len(alike) > 1 || ok && len(alike) > 0 {
			return 0, false
		}
		if len(alike) == 1 {
			body, ok = alike[0], true
		}
	}
	return body, ok
}

// declare makes the lists of declarations.
func (p *program) declare(r *information) {
	type source struct {
		name string
		line uint32
	}
	first := map[source]int{} // the unit that has it first
	objects := map[int][]uint32{}
	statics := map[int]bool{}
	for i := range r.units {
		u := &r.units[i]
		if !isC(u.language) {
			continue
		}
		r.owners(u, func(function int, o *object) {
			statics[function] = statics[function] || o.function >= 0
			if len(p.users[o.address]) > 0 {
				objects[function] = append(objects[function], o.address)
			}
		})
		for k := u.functions[0]; k < u.functions[1]; k++ {
			f := &r.functions[k]
			if !f.emitted || f.name == "" {
				continue
			}
			d := r.declaration(f)
			if from, ok := first[source{f.name, f.line}]; ok {
				d.shared = from != i
			} else {
				first[source{f.name, f.line}] = i
			}
			d.anywhere = statics[k]
			d.objects = objects[k]
			slices.Sort(d.objects)
			d.objects = slices.Compact(d.objects)
			if d.anywhere {
				p.anywhere = append(p.anywhere, d)
			} else {
				d.place = len(p.ordered)
				p.ordered = append(p.ordered, d)
			}
		}
	}
}

// owners calls yield for the objects of a unit whose functions are known: static variables, and string literals, which
// have a line and no function. A literal's is the function that starts last before it, unless something else does.
func (r *information) owners(u *unit, yield func(function int, o *object)) {
	type start struct {
		file, line uint32
		function   int // -1 for a variable
	}
	order := func(a, b start) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line)) }
	var starts []start
	for k := u.functions[0]; k < u.functions[1]; k++ {
		starts = append(starts, start{r.functions[k].file, r.functions[k].line, k})
	}
	objects := r.objects[u.objects[0]:u.objects[1]]
	for i := range objects {
		if o := &objects[i]; o.named && o.function < 0 {
			starts = append(starts, start{o.file, o.line, -1})
		}
	}
	slices.SortStableFunc(starts, order)
	for i := range objects {
		o := &objects[i]
		switch {
		case o.function >= 0:
			yield(o.function, o)
		case !o.named:
			// The first start after it.
			at, _ := slices.BinarySearchFunc(starts, start{o.file, o.line + 1, 0}, order)
			if at == 0 || starts[at-1].file != o.file || starts[at-1].function < 0 {
				continue
			}
			if at > 1 && order(starts[at-2], starts[at-1]) == 0 {
				continue // two on a line, as macros make them
			}
			yield(starts[at-1].function, o)
		}
	}
}

// declaration lowers a function to wasm, by the C ABI.
func (r *information) declaration(f *function) declaration {
	u := &r.units[f.unit]
	d := declaration{name: f.name, unit: f.unit, frame: [2]int32{-1, -1}, variables: f.variables, top: f.top}
	add := func(t wasm.ValueType, place int32) { d.parameters = append(d.parameters, slotted{t, place}) }
	switch t := r.ctype(u, f.result); t.class {
	case classUnknown:
		d.anyResult = true
	case classAggregate, classPair:
		if t.size > 0 {
			add(wasm.I32, -1) // where to return it
		}
	default:
		d.result = t.class.valueType()
	}
	for _, p := range f.parameters {
		t := r.ctype(u, p.typ)
		switch {
		case t.class == classAggregate && t.size == 0:
		case t.class == classAggregate:
			add(wasm.I32, -1)
		case t.class == classPair:
			add(wasm.I64, -1)
			add(wasm.I64, -1)
		default:
			add(t.class.valueType(), p.place)
		}
	}
	if f.variadic {
		add(wasm.I32, -1)
	}
	switch {
	case f.top >= 0:
		d.frame = [2]int32{aligned(f.top), aligned(f.top + retvalMargin)}
	case f.framed:
		d.frame = [2]int32{0, maxFrame}
	}
	d.frameless = f.frameless
	return d
}

// frameAlign is what sizes of frames are multiples of.
const frameAlign = 16

func aligned(size int32) int32 { return (size + frameAlign - 1) &^ (frameAlign - 1) }
