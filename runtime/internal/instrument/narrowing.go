package instrument

import (
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// In wazero 1.12's compiled code a caught exception gives locals back the values that they had when the try_table was
// entered (wazero issue 2503): what its body has written since is lost. And a frame that is resumed inside a try_table
// enters it anew, with other values in its locals. So a try_table whose body writes a local that its handlers read is
// narrowed: it becomes a block, and each instruction in it that may throw gets a try_table of its own with the same
// clauses. No local changes between entering that and the exception, so that the handlers see the right values, as the
// specification wants it, in the running form and in continuations.
//
// The same is done where compiled code would leave a try_table and stay in its care, so that a later exception would be
// caught there: see strays.

// thrower is an instruction inside a try_table that may throw.
type thrower struct {
	instr, within   int32
	params, results []wasm.ValueType
	never           bool    // it doesn't come back
	clauses         []catch // if its try_table is narrowed: those of the try_table that it gets
}

// noteThrower records an instruction if it may throw. A tail call leaves the function, and its try_tables, first.
func (a *analyser) noteThrower(idx, within int32, in *wasm.Instr) {
	t := thrower{instr: idx, within: within}
	typed := func(i uint32) { t.params, t.results = a.env.Types[i].Params, a.env.Types[i].Results }
	also := func(p wasm.ValueType) { t.params = append(t.params[:len(t.params):len(t.params)], p) }
	switch in.Op {
	case wasm.OpCall:
		typed(a.env.FuncTypeIndex(in.Index))
	case wasm.OpCallIndirect:
		typed(in.Index)
		also(wasm.I32)
	case wasm.OpCallRef:
		typed(in.Index)
		also(wasm.RefType(wasm.HeapType(in.Index), true))
	case wasm.OpThrow:
		t.params, t.never = a.env.TagType(in.Index).Params, true
	case wasm.OpThrowRef:
		t.params, t.never = []wasm.ValueType{wasm.ExnRef}, true
	default:
		return
	}
	a.f.throwers = append(a.f.throwers, t)
}

// narrow narrows the try_tables that are marked, and those in them, and gives the instructions in them their clauses.
func (a *analyser) narrow() {
	f := &a.f
	any := false
	for i := range f.constructs {
		c := &f.constructs[i]
		if c.op != wasm.OpTryTable {
			continue
		}
		// Inside one that is narrowed, the others are as well: its clauses come after theirs.
		for p := c.parent; p > 0 && !c.narrow; p = f.constructs[p].parent {
			c.narrow = f.constructs[p].narrow
		}
		c.narrow = c.narrow || a.choices.Narrow || a.strays(int32(i))
		any = any || c.narrow
	}
	if !any {
		f.throwers = f.throwers[:0]
		return
	}
	kept := f.throwers[:0]
	for _, t := range f.throwers {
		for c := t.within; c > 0 && !t.catchesAll(); c = f.constructs[c].parent {
			if f.constructs[c].narrow {
				t.add(f.constructs[c].catches)
			}
		}
		if len(t.clauses) > 0 {
			kept = append(kept, t)
		}
	}
	f.throwers = kept
}

// add adds clauses behind those that the thrower has, but for those that nothing gets to: where try_tables are nested
// deeply, they would be most.
func (t *thrower) add(clauses []catch) {
	for _, k := range clauses {
		same := func(o catch) bool { return k.kind <= wasm.CatchTagRef && o.kind <= wasm.CatchTagRef && o.tag == k.tag }
		if t.catchesAll() || slices.ContainsFunc(t.clauses, same) {
			continue
		}
		t.clauses = append(t.clauses, k)
	}
}

// catchesAll reports whether the last of the thrower's clauses catches all exceptions.
func (t *thrower) catchesAll() bool {
	n := len(t.clauses)
	return n > 0 && t.clauses[n-1].kind > wasm.CatchTagRef
}

// strays reports whether compiled code of wazero 1.12 would lose count of the try_tables that it is in, because of construct
// i: one without clauses, which is left without having been entered; or one that is left, without wazero seeing to it, by a
// branch to its own label, by a br_table that has a default only, or by a clause of a try_table inside.
func (a *analyser) strays(i int32) bool {
	f := &a.f
	c := &f.constructs[i]
	if len(c.catches) == 0 {
		return true
	}
	for k := c.start + 1; k < c.stop; k++ {
		switch in := &f.instrs[k]; in.op {
		case wasm.OpBr, wasm.OpBrIf, wasm.OpBrOnNull, wasm.OpBrOnNonNull:
			if in.arg == i {
				return true
			}
		case wasm.OpBrTable:
			if row := f.tables[in.arg]; len(row) == 1 || slices.Contains(row, i) {
				return true
			}
		case wasm.OpTryTable:
			for _, k := range f.constructs[in.arg].catches {
				if k.target <= i { // constructs are numbered in the order in which they begin
					return true
				}
			}
		}
	}
	return false
}
