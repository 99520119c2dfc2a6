package instrument

import (
	"maps"
	"slices"
	"strings"

	"github.com/durun/durun/runtime/internal/wasm"
)

// unit is a module under construction: the running form or a resume module. It adds types and the functions that move
// frames between WebAssembly and the runtime, each on first use.
type unit struct {
	m        *wasm.Module
	base     uint32 // functions that exist before the first of added
	added    []wasm.Code
	addedTyp []uint32
	types    map[string]uint32
	moves    map[string]uint32 // save and load functions by direction and types
	save0    uint32            // index of the import save0; save<n> follow
	load1    uint32            // index of the import load1; load<n> follow
}

// typeIndex returns the index of a function type.
func (u *unit) typeIndex(params, results []wasm.ValueType) uint32 {
	key := typeKey(params) + ">" + typeKey(results)
	i, ok := u.types[key]
	if !ok {
		i = uint32(len(u.m.Types))
		u.m.Types = append(u.m.Types, wasm.FuncType{Params: params, Results: results})
		u.types[key] = i
	}
	return i
}

func typeKey(ts []wasm.ValueType) string {
	var b strings.Builder
	for _, t := range ts {
		b.Write([]byte{byte(t >> 24), byte(t >> 16), byte(t >> 8), byte(t)})
	}
	return b.String()
}

func (u *unit) blockType(results []wasm.ValueType) wasm.BlockType {
	switch len(results) {
	case 0:
		return wasm.BlockType{}
	case 1:
		return wasm.BlockValue(results[0])
	}
	return wasm.BlockIndex(u.typeIndex(nil, results))
}

// add adds a function; body has no final end.
func (u *unit) add(params, results, locals []wasm.ValueType, body []byte) uint32 {
	raw := appendLocals(nil, locals)
	offset := len(raw)
	raw = append(append(raw, body...), byte(wasm.OpEnd))
	u.addedTyp = append(u.addedTyp, u.typeIndex(params, results))
	u.added = append(u.added, wasm.Code{Raw: raw, BodyOffset: offset})
	return u.base + uint32(len(u.added)-1)
}

// finish appends the added functions to the module.
func (u *unit) finish() {
	u.m.Functions = append(u.m.Functions, u.addedTyp...)
	u.m.Code = append(u.m.Code, u.added...)
}

func i64s(n int) []wasm.ValueType { return slices.Repeat([]wasm.ValueType{wasm.I64}, n) }

// importHost adds an import from the runtime.
func (u *unit) importHost(name string, params, results []wasm.ValueType) {
	u.m.Imports = append(u.m.Imports, wasm.Import{
		Module: HostModule, Name: name, Kind: wasm.ExternFunc, Type: u.typeIndex(params, results),
	})
}

// save implements linker.
func (u *unit) save(types []wasm.ValueType) uint32 {
	n := 0
	same := true // no conversion is needed
	for _, t := range types {
		n += words(t)
		same = same && t == wasm.I64
	}
	if same {
		return u.save0 + uint32(n)
	}
	key := "s" + typeKey(types)
	if i, ok := u.moves[key]; ok {
		return i
	}
	var b []byte
	index := func(op wasm.Opcode, i int) { b = wasm.AppendU32(append(b, byte(op)), uint32(i)) }
	for i, t := range types {
		index(wasm.OpLocalGet, i)
		switch t {
		case wasm.I32:
			b = append(b, byte(wasm.OpI64ExtendI32U))
		case wasm.F32:
			b = append(b, byte(wasm.OpI32ReinterpretF32), byte(wasm.OpI64ExtendI32U))
		case wasm.F64:
			b = append(b, byte(wasm.OpI64ReinterpretF64))
		case wasm.V128:
			b = wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 0})
			index(wasm.OpLocalGet, i)
			b = wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpI64x2ExtractLane, Lane: 1})
		}
	}
	index(wasm.OpLocalGet, len(types)) // the site
	index(wasm.OpCall, int(u.save0)+n)
	i := u.add(append(slices.Clone(types), wasm.I32), nil, nil, b)
	u.moves[key] = i
	return i
}

// load implements linker.
func (u *unit) load(types []wasm.ValueType) uint32 {
	n := 0
	same := true
	for _, t := range types {
		n += words(t)
		same = same && t == wasm.I64
	}
	if same {
		return u.load1 + uint32(n-1)
	}
	key := "l" + typeKey(types)
	if i, ok := u.moves[key]; ok {
		return i
	}
	var b []byte
	index := func(op wasm.Opcode, i int) { b = wasm.AppendU32(append(b, byte(op)), uint32(i)) }
	index(wasm.OpCall, int(u.load1)+n-1)
	for w := n - 1; w >= 0; w-- {
		index(wasm.OpLocalSet, w)
	}
	w := 0
	for _, t := range types {
		index(wasm.OpLocalGet, w)
		switch t {
		case wasm.I32:
			b = append(b, byte(wasm.OpI32WrapI64))
		case wasm.F32:
			b = append(b, byte(wasm.OpI32WrapI64), byte(wasm.OpF32ReinterpretI32))
		case wasm.F64:
			b = append(b, byte(wasm.OpF64ReinterpretI64))
		case wasm.V128:
			b = wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpI64x2Splat})
			index(wasm.OpLocalGet, w+1)
			b = wasm.AppendInstr(b, &wasm.Instr{Op: wasm.OpI64x2ReplaceLane, Lane: 1})
		}
		w += words(t)
	}
	i := u.add(nil, slices.Clone(types), i64s(n), b)
	u.moves[key] = i
	return i
}

// nameSection returns a name section with the functions' names, so that traps show them; nothing if there are none.
func nameSection(names map[uint32]string) []wasm.Custom {
	if len(names) == 0 {
		return nil
	}
	body := wasm.AppendU32(nil, uint32(len(names)))
	for _, i := range slices.Sorted(maps.Keys(names)) {
		body = wasm.AppendU32(body, i)
		body = wasm.AppendU32(body, uint32(len(names[i])))
		body = append(body, names[i]...)
	}
	const functionNames = 1
	data := wasm.AppendU32([]byte{functionNames}, uint32(len(body)))
	const afterData = 11
	return []wasm.Custom{{Name: "name", Data: append(data, body...), After: afterData}}
}
