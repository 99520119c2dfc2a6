package instrument

import (
	"github.com/durun/durun/runtime/internal/wasm"
)

// In wazero 1.12's compiled code a caught exception gives locals back the values that they had when the try_table was
// entered (wazero issue 2503): what its body has written since is lost. And a frame that is resumed inside a try_table
// enters it anew, with other values in its locals. So a try_table whose body writes a local that its handlers read is
// narrowed: it becomes a block, and each instruction in it that may throw gets a try_table of its own with the same
// clauses. No local changes between entering that and the exception, so that the handlers see the right values, as the
// specification wants it, in the running form and in continuations.

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

// narrow decides which try_tables are narrowed, and gives the instructions in them their clauses.
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
		c.narrow = c.narrow || a.handlersRead(c)
		any = any || c.narrow
	}
	if !any {
		f.throwers = f.throwers[:0]
		return
	}
	kept := f.throwers[:0]
	for _, t := range f.throwers {
		for c := t.within; c > 0; c = f.constructs[c].parent {
			if f.constructs[c].narrow {
				t.clauses = append(t.clauses, f.constructs[c].catches...)
			}
		}
		if len(t.clauses) > 0 {
			kept = append(kept, t)
		}
	}
	f.throwers = kept
}

// handlersRead reports whether the body of a try_table writes a local that may be read after one of its clauses.
func (a *analyser) handlersRead(c *construct) bool {
	f := &a.f
	for i := c.start; i < c.stop; i++ {
		if op := f.instrs[i].op; op != wasm.OpLocalSet && op != wasm.OpLocalTee {
			continue
		}
		for _, k := range c.catches {
			if a.live.liveAt(target(f, k.target), f.instrs[i].arg) {
				return true
			}
		}
	}
	return false
}
