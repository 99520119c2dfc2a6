package instrument

import (
	"errors"
	"io"
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// callGraph is who calls whom, as far as suspension needs it.
type callGraph struct {
	// callers lists for each function those that name it in a call; indirect lists for each canonical type the functions
	// that call through a table or a reference of that type. A function may stand in a list more than once.
	callers  [][]uint32
	indirect map[uint32][]uint32
	// taken reports for each function whether something other than a direct call can reach it.
	taken []bool
	// calls counts the calls in the text of each function that is defined here, tail calls excepted.
	calls []uint32
	// droppedData and initData are the data segments that data.drop and memory.init name, ascending.
	droppedData, initData []uint32
	// written are the tables that the code can change; droppedElements are the element segments that both elem.drop and
	// table.init name. Both ascending.
	written, droppedElements []uint32
	// made are the functions of which ref.func makes references, ascending.
	made []uint32
	// references reports whether code can get hold of references to functions, or change tables; anyRefs, whether the module
	// has references of any type in locals, globals or code.
	references, anyRefs bool
	// tries reports whether there is a try_table.
	tries bool
	// callees lists for each function that is defined here its calls, as [callees] has them.
	callees [][]edge
	// rewrite reports for each function that is defined here whether more than indices changes in it, even if it can't suspend:
	// whether it has a try_table, a loop, or an instruction that may take long or lets something grow.
	rewrite []bool
}

// scan reads all code once.
func scan(m *wasm.Module, env *wasm.Env) (*callGraph, error) {
	n := env.NumFuncs()
	g := &callGraph{
		callers:  make([][]uint32, n),
		indirect: map[uint32][]uint32{},
		taken:    make([]bool, n),
		calls:    make([]uint32, len(m.Code)),
		rewrite:  make([]bool, len(m.Code)),
		callees:  make([][]edge, len(m.Code)),
	}
	var r wasm.Reader
	var in wasm.Instr
	initElements := map[uint32]bool{}
	var open []wasm.Opcode // the constructs around the instruction
	value := func(t wasm.ValueType) {
		g.anyRefs = g.anyRefs || t.IsRef()
	}
	for i := range m.Code {
		caller := uint32(env.NumImportedFuncs + i)
		for _, l := range m.Code[i].Locals {
			value(l.Type)
		}
		open = open[:0]
		loops := 0 // of them
		r.Reset(m.Code[i].Body())
		for {
			err := r.Next(&in)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			switch in.Op {
			case wasm.OpCall, wasm.OpReturnCall:
				if cs := g.callers[in.Index]; len(cs) == 0 || cs[len(cs)-1] != caller {
					g.callers[in.Index] = append(cs, caller)
				}
				g.callees[i] = append(g.callees[i], edge{in.Index, loops > 0})
			case wasm.OpCallIndirect, wasm.OpReturnCallIndirect, wasm.OpCallRef, wasm.OpReturnCallRef:
				t := env.CanonicalType(in.Index)
				if cs := g.indirect[t]; len(cs) == 0 || cs[len(cs)-1] != caller {
					g.indirect[t] = append(cs, caller)
				}
				g.callees[i] = append(g.callees[i], edge{uint32(n) + t, loops > 0})
			case wasm.OpRefFunc:
				g.taken[in.Index] = true
				g.made = append(g.made, in.Index)
			case wasm.OpElemDrop:
				g.droppedElements = append(g.droppedElements, in.Index)
			case wasm.OpDataDrop:
				g.droppedData = append(g.droppedData, in.Index)
			case wasm.OpMemoryInit:
				g.initData = append(g.initData, in.Index)
			case wasm.OpTableSet, wasm.OpTableGrow, wasm.OpTableFill, wasm.OpTableCopy:
				g.written = append(g.written, in.Index)
			case wasm.OpTableInit:
				g.written = append(g.written, in.Index2)
				initElements[in.Index] = true
			case wasm.OpGlobalGet:
				g.references = g.references || isFunc(env.Globals[in.Index].Type)
			case wasm.OpRefNull:
				value(wasm.RefType(in.Heap, true))
			case wasm.OpSelectT:
				for _, t := range in.Types {
					value(t)
				}
			case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpTryTable:
				value(in.Block.Value)
			}
			switch in.Op {
			case wasm.OpRefFunc, wasm.OpTableGet, wasm.OpTableSet, wasm.OpTableGrow, wasm.OpTableFill, wasm.OpTableCopy, wasm.OpTableInit:
				g.references = true
			}
			switch in.Op {
			case wasm.OpBlock, wasm.OpLoop, wasm.OpIf, wasm.OpTryTable:
				open = append(open, in.Op)
				if in.Op == wasm.OpLoop {
					loops++
				}
			case wasm.OpEnd:
				if last := len(open) - 1; last >= 0 {
					if open[last] == wasm.OpLoop {
						loops--
					}
					open = open[:last]
				}
			}
			g.tries = g.tries || in.Op == wasm.OpTryTable
			switch in.Op {
			case wasm.OpCall, wasm.OpCallIndirect, wasm.OpCallRef:
				g.calls[i]++
			case wasm.OpTryTable, wasm.OpLoop:
				g.rewrite[i] = true
			default:
				g.rewrite[i] = g.rewrite[i] || isLongRunning(in.Op) || in.Op == wasm.OpMemoryGrow || in.Op == wasm.OpTableGrow
			}
		}
	}
	inExpr := func(e wasm.Expr) {
		for r.Reset(e); r.Next(&in) == nil; {
			if in.Op == wasm.OpRefFunc {
				g.taken[in.Index] = true
			}
		}
	}
	for i := range m.Elements {
		for _, f := range m.Elements[i].Funcs {
			g.taken[f] = true
		}
		for _, e := range m.Elements[i].Exprs {
			inExpr(e)
		}
	}
	for i := range m.Globals {
		inExpr(m.Globals[i].Init)
	}
	for i := range m.Tables {
		inExpr(m.Tables[i].Init)
	}
	for i := range m.Types {
		for _, t := range m.Types[i].Params {
			value(t)
		}
		for _, t := range m.Types[i].Results {
			value(t)
		}
	}
	for _, t := range env.Globals {
		value(t.Type)
		g.references = g.references || t.Mutable && isFunc(t.Type)
	}
	g.anyRefs = g.anyRefs || g.references
	g.droppedElements = slices.DeleteFunc(g.droppedElements, func(s uint32) bool { return !initElements[s] })
	for _, list := range []*[]uint32{&g.droppedData, &g.initData, &g.droppedElements, &g.written, &g.made} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return g, nil
}

// suspension is the set of functions that may suspend: those that can reach an await import through direct calls, or
// through indirect calls of a type that some function which may suspend and whose address is taken has.
type suspension struct {
	funcs []bool          // by function index
	types map[uint32]bool // by canonical type: an indirect call of it may suspend
}

func suspends(env *wasm.Env, g *callGraph, awaits []uint32) *suspension {
	s := &suspension{funcs: make([]bool, env.NumFuncs()), types: map[uint32]bool{}}
	var work []uint32
	mark := func(fs []uint32) {
		for _, f := range fs {
			if !s.funcs[f] {
				s.funcs[f] = true
				work = append(work, f)
			}
		}
	}
	mark(awaits)
	for len(work) > 0 {
		f := work[len(work)-1]
		work = work[:len(work)-1]
		mark(g.callers[f])
		if t := env.CanonicalType(env.FuncTypeIndex(f)); g.taken[f] && !s.types[t] {
			s.types[t] = true
			mark(g.indirect[t])
		}
	}
	return s
}

// mayCall reports whether the call in may suspend.
func (s *suspension) mayCall(env *wasm.Env, in *wasm.Instr) bool {
	switch in.Op {
	case wasm.OpCall, wasm.OpReturnCall:
		return s.funcs[in.Index]
	case wasm.OpCallIndirect, wasm.OpReturnCallIndirect, wasm.OpCallRef, wasm.OpReturnCallRef:
		return s.types[env.CanonicalType(in.Index)]
	}
	return false
}
