package wasm

import (
	"encoding/binary"
	"fmt"
)

// canonicalTypes returns for each type the index of the first that is equal to it by structure. Two types are equal
// if they have the same place in equal recursion groups; a type outside a group is a group of one. It fails if a type
// refers to one that is neither before it nor in its group.
//
// See "Recursive types" and "Type equivalence" in the specification 3.0, or the isorecursive types of the garbage
// collection proposal. Without that proposal's sub types, every type is a function type.
func canonicalTypes(m *Module) ([]uint32, error) {
	types := m.Types
	canonical := make([]uint32, len(types))
	groups := map[string]uint32{} // a group's structure → the index of its first member
	var key []byte
	typeError := func(i int, err error) error {
		return m.entryError(idType, i, fmt.Sprintf("type %d", i), err)
	}
	for first := 0; first < len(types); {
		size := max(1, int(types[first].Group))
		end := first + size
		limit := end // types below it may be referred to
		if types[first].Group == 0 {
			limit = first
		}
		if end > len(types) {
			return nil, typeError(first, fmt.Errorf("a recursion group of %d types with %d types left", size, len(types)-first))
		}
		key = key[:0]
		for i := first; i < end; i++ {
			t := &types[i]
			if t.Group != types[first].Group || int(t.GroupIndex) != i-first {
				return nil, typeError(i, fmt.Errorf("member %d of a recursion group of %d stands at place %d of %d", t.GroupIndex, t.Group, i-first, types[first].Group))
			}
			for _, list := range [...][]ValueType{t.Params, t.Results} {
				key = binary.LittleEndian.AppendUint32(key, uint32(len(list)))
				for _, v := range list {
					h := v.Heap()
					if !v.IsRef() || !h.IsIndex() {
						key = binary.LittleEndian.AppendUint64(key, uint64(v))
						continue
					}
					if int64(h) >= int64(limit) {
						return nil, typeError(i, fmt.Errorf("unknown type %d: only those before it are known, or in its recursion group", h))
					}
					// Inside the group by place, outside by the type it equals.
					target := uint64(1)<<32 | uint64(uint32(h)-uint32(first))
					if int(h) < first {
						target = uint64(2)<<32 | uint64(canonical[h])
					}
					key = binary.LittleEndian.AppendUint64(key, uint64(RefType(0, v.IsNullable())))
					key = binary.LittleEndian.AppendUint64(key, target)
				}
			}
		}
		same, ok := groups[string(key)]
		if !ok {
			same = uint32(first)
			groups[string(key)] = same
		}
		for i := range size {
			canonical[first+i] = same + uint32(i)
		}
		first = end
	}
	return canonical, nil
}

// declaredFuncs reports for each of n functions whether m mentions it outside code and start: only those may code
// make references to.
func declaredFuncs(m *Module, n int) []bool {
	declared := make([]bool, n)
	declare := func(i uint32) {
		if uint64(i) < uint64(n) {
			declared[i] = true
		}
	}
	var r Reader
	var in Instr
	inExpr := func(e Expr) {
		for r.Reset(e); r.Next(&in) == nil; {
			if in.Op == OpRefFunc {
				declare(in.Index)
			}
		}
	}
	for i := range m.Exports {
		if m.Exports[i].Kind == ExternFunc {
			declare(m.Exports[i].Index)
		}
	}
	for i := range m.Globals {
		inExpr(m.Globals[i].Init)
	}
	for i := range m.Tables {
		inExpr(m.Tables[i].Init)
	}
	for i := range m.Elements {
		for _, f := range m.Elements[i].Funcs {
			declare(f)
		}
		for _, e := range m.Elements[i].Exprs {
			inExpr(e)
		}
	}
	return declared
}
