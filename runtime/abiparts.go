package runtime

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/durun/durun/hostabi"
)

// groupedOperations has operations in groups, each of which is a part of the state, see [hostabi.PartedInstance]: so a commit
// holds those that have changed, and their neighbours, and the others cost it next to nothing. A part is
//
//	o<group>   the operations of a group: three hexadecimal digits
//	wait       the numbers of those that the pending call waits for
//
// A group has groupSize operations in a row; after numGroups of them it is the first one's turn again, so that there are never
// more parts, however few operations of a long life are left. Operations in a row are what most programs have, and there is no
// group of more than that as long as the numbers are below groupSize × numGroups.
type groupedOperations struct {
	groups map[uint32]*group
}

const (
	groupSize = 256
	numGroups = 1024
)

// group is operations that are one part of the state.
type group struct {
	list []*operation // by number
	part hostabi.Part // its data is nil if it has to be encoded anew
}

func groupOf(number uint32) uint32 { return number / groupSize % numGroups }

// group adds an operation, whose number is the highest so far.
func (t *groupedOperations) group(o *operation) {
	n := groupOf(o.number)
	g := t.groups[n]
	if g == nil {
		if t.groups == nil {
			t.groups = map[uint32]*group{}
		}
		g = &group{}
		t.groups[n] = g
	}
	g.list, g.part.Data = append(g.list, o), nil
}

// touch notes that an operation has changed. It may be one that is gone.
func (t *groupedOperations) touch(o *operation) {
	if g := t.groups[groupOf(o.number)]; g != nil {
		g.part.Data = nil
	}
}

// ungroup takes an operation away.
func (t *groupedOperations) ungroup(o *operation) {
	n := groupOf(o.number)
	g := t.groups[n]
	if g == nil {
		return
	}
	i, ok := slices.BinarySearchFunc(g.list, o.number, func(o *operation, number uint32) int { return cmp.Compare(o.number, number) })
	if ok {
		g.list, g.part.Data = slices.Delete(g.list, i, i+1), nil
	}
	if len(g.list) == 0 {
		delete(t.groups, n)
	}
}

const (
	partWait   = "wait"
	partPrefix = "o" // of a group
)

func partOf(group uint32) string { return fmt.Sprintf("%s%03x", partPrefix, group) }

// savedWait is the encoding of what a call waits for, to be used again.
type savedWait struct {
	ops  []uint32
	data []byte
}

// SaveParts implements hostabi.PartedInstance.
func (a *abi) SaveParts() ([]hostabi.Part, error) {
	var parts []hostabi.Part
	if len(a.ops.all) > maxWhole {
		parts = a.ops.save()
	}
	if p := a.pending(); p != nil && len(p.Ops) > maxWhole {
		parts = append(parts, hostabi.Part{Name: partWait, Data: a.waited.save(p.Ops)})
	}
	return parts, nil
}

// save returns the groups, by name.
func (t *groupedOperations) save() []hostabi.Part {
	parts := make([]hostabi.Part, 0, len(t.groups)+1)
	for n, g := range t.groups {
		if g.part.Data == nil {
			var e encoder
			e.operations(g.list)
			g.part = hostabi.Part{Name: partOf(n), Data: e.data}
		}
		parts = append(parts, g.part)
	}
	slices.SortFunc(parts, func(a, b hostabi.Part) int { return strings.Compare(a.Name, b.Name) })
	return parts
}

func (w *savedWait) save(ops []uint32) []byte {
	if !slices.Equal(w.ops, ops) {
		var e encoder
		e.numbers(ops)
		*w = savedWait{slices.Clone(ops), e.data}
	}
	return w.data
}

// RestoreParts implements hostabi.PartedInstance. What is in them is seen by Restore.
func (a *abi) RestoreParts(version uint32, parts []hostabi.Part) error {
	if len(parts) > 0 && version == abiVersionPlain {
		return fmt.Errorf("%w: version %d has no parts, and here are some", hostabi.ErrState, version)
	}
	a.parts = parts
	return nil
}

// abiParts are the parts of a state that is restored. Those that the state speaks of are taken.
type abiParts struct {
	groups []hostabi.Part
	wait   *hostabi.Part
	taken  map[uint32]hostabi.Part // groups
}

// sortParts returns the parts that are to be restored.
func (a *abi) sortParts() (*abiParts, error) {
	p := &abiParts{}
	for i, part := range a.parts {
		switch {
		case i > 0 && part.Name <= a.parts[i-1].Name:
			return nil, fmt.Errorf("part %q is out of order", part.Name)
		case part.Name == partWait:
			p.wait = &a.parts[i]
		default:
			p.groups = append(p.groups, part)
		}
	}
	a.parts = nil
	return p, nil
}

// rest returns an error if there are parts that were not taken.
func (p *abiParts) rest() error {
	if p.wait != nil {
		p.groups = append(p.groups, *p.wait)
	}
	if len(p.groups) > 0 {
		return fmt.Errorf("part %q is of no use", p.groups[0].Name)
	}
	return nil
}

// takeWait returns the n numbers of what the pending call waits for.
func (p *abiParts) takeWait(n uint64) (savedWait, error) {
	if p.wait == nil {
		return savedWait{}, fmt.Errorf("part %q is missing", partWait)
	}
	d := decoder{data: p.wait.Data}
	if n > uint64(len(d.data)) {
		d.fail("a length")
	}
	w := savedWait{data: p.wait.Data}
	if d.err == nil {
		w.ops = d.numbers(n)
	}
	p.wait = nil
	if d.finish(); d.err != nil {
		return savedWait{}, fmt.Errorf("part %q: %w", partWait, d.err)
	}
	return w, nil
}

// takeOperations returns the n operations, by number, of which last is the highest that there may be.
func (p *abiParts) takeOperations(n uint64, last uint32) ([]*operation, error) {
	var list []*operation
	p.taken = map[uint32]hostabi.Part{}
	for _, part := range p.groups {
		g, err := strconv.ParseUint(strings.TrimPrefix(part.Name, partPrefix), 16, 32)
		if err != nil || g >= numGroups || part.Name != partOf(uint32(g)) {
			return nil, fmt.Errorf("part %q has no name of operations", part.Name)
		}
		d := decoder{data: part.Data}
		some := d.operations(-1, last)
		if len(some) == 0 || slices.ContainsFunc(some, func(o *operation) bool { return groupOf(o.number) != uint32(g) }) {
			d.fail("which operations there are")
		}
		if d.err != nil {
			return nil, fmt.Errorf("part %q: %w", part.Name, d.err)
		}
		if list = append(list, some...); uint64(len(list)) > n {
			break
		}
		p.taken[uint32(g)] = part
	}
	if uint64(len(list)) != n {
		return nil, fmt.Errorf("the parts don't have %d operations", n)
	}
	p.groups = nil
	slices.SortFunc(list, func(a, b *operation) int { return cmp.Compare(a.number, b.number) })
	return list, nil
}

// saved notes that the state of groups is what was restored.
func (t *groupedOperations) saved(groups map[uint32]hostabi.Part) {
	for n, part := range groups {
		t.groups[n].part = part
	}
}
