package instrument

import (
	"encoding/binary"
	"maps"
	"slices"

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
	declared []uint32          // functions that added code makes references to
	dummies  map[wasm.ValueType]uint32
	refs     *references
	save0    uint32 // index of the import save0; save<n> follow
	load1    uint32 // index of the import load1; load<n> follow
	tickFn   uint32 // index of the import tick
	tryFn    uint32 // index of the import try
	ticksG   uint32 // the global that the code counts in
	roomG    uint32 // the global that says how far memories and tables may grow
	ref      uint32 // index of the import ref, where there are references
	unnamed  uint32 // index of the import unnamed, where there are references
	keepFn   uint32 // index of the import keep, where there are references
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
	var b []byte
	for _, t := range ts {
		b = appendTypeKey(b, t)
	}
	return string(b)
}

func appendTypeKey(b []byte, t wasm.ValueType) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(t))
}

func (u *unit) blockType(params, results []wasm.ValueType) wasm.BlockType {
	if len(params) == 0 {
		switch len(results) {
		case 0:
			return wasm.BlockType{}
		case 1:
			return wasm.BlockValue(results[0])
		}
	}
	return wasm.BlockIndex(u.typeIndex(params, results))
}

// add adds a function; body has no final end.
func (u *unit) add(params, results, locals []wasm.ValueType, body []byte) uint32 {
	return u.addOfType(u.typeIndex(params, results), locals, body)
}

func (u *unit) addOfType(typ uint32, locals []wasm.ValueType, body []byte) uint32 {
	raw := appendLocals(nil, locals)
	offset := len(raw)
	raw = append(append(raw, body...), byte(wasm.OpEnd))
	u.addedTyp = append(u.addedTyp, typ)
	u.added = append(u.added, wasm.Code{Raw: raw, BodyOffset: offset})
	return u.base + uint32(len(u.added)-1)
}

// finish appends the added functions to the module.
func (u *unit) finish() {
	u.m.Functions = append(u.m.Functions, u.addedTyp...)
	u.m.Code = append(u.m.Code, u.added...)
	if len(u.declared) > 0 {
		u.m.Elements = append(u.m.Elements, wasm.Element{Mode: wasm.Declarative, Type: wasm.RefType(wasm.HeapFunc, false), Funcs: u.declared, Flags: 3})
	}
}

func (u *unit) refFunc(code []byte, f uint32) []byte   { return u.refs.refFunc(code, f) }
func (u *unit) globalGet(code []byte, g uint32) []byte { return u.refs.globalGet(code, g) }

// zero implements linker. For a reference that can't be null it is one to a function that is never called.
func (u *unit) zero(code []byte, t wasm.ValueType) []byte {
	if t.IsDefaultable() {
		return appendZero(code, t)
	}
	f, ok := u.dummies[t]
	if !ok {
		trap := []byte{byte(wasm.OpUnreachable)}
		if t.Heap().IsIndex() {
			f = u.addOfType(uint32(t.Heap()), nil, trap)
		} else {
			f = u.add(nil, nil, nil, trap)
		}
		u.dummies[t] = f
		u.declared = append(u.declared, f)
	}
	return wasm.AppendU32(append(code, byte(wasm.OpRefFunc)), f)
}

func (u *unit) beforeTry() uint32 { return u.tryFn }

func (u *unit) ticks() (counter, tick uint32) { return u.ticksG, u.tickFn }

func (u *unit) keep() uint32 { return u.keepFn }

// mustBeNull implements linker.
func (u *unit) mustBeNull(t wasm.ValueType) uint32 {
	t = nullable(t)
	key := "n" + typeKey([]wasm.ValueType{t})
	if i, ok := u.moves[key]; ok {
		return i
	}
	b := []byte{byte(wasm.OpLocalGet), 0, byte(wasm.OpRefIsNull), byte(wasm.OpI32Eqz), byte(wasm.OpIf), 0x40}
	kind := int32(NotNullExtern)
	if t.Heap() == wasm.HeapExn {
		kind = NotNullExn
	}
	b = wasm.AppendS32(append(b, byte(wasm.OpI32Const)), kind)
	b = wasm.AppendU32(append(b, byte(wasm.OpCall)), u.unnamed)
	i := u.add([]wasm.ValueType{t}, nil, nil, append(b, byte(wasm.OpEnd)))
	u.moves[key] = i
	return i
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
	var key [1 + 4*MaxValues]byte
	k := append(key[:0], 's')
	for _, t := range types {
		if t.IsRef() {
			t = wasm.FuncRef
		}
		k = appendTypeKey(k, t)
		n += words(t)
		same = same && t == wasm.I64
	}
	if same {
		return u.save0 + uint32(n)
	}
	// There is a call of this for each site: what was made before is found without an allocation.
	if i, ok := u.moves[string(k)]; ok {
		return i
	}
	types = slices.Clone(types)
	for i, t := range types {
		if t.IsRef() {
			types[i] = wasm.FuncRef
		}
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
		case wasm.FuncRef:
			index(wasm.OpCall, int(u.ref))
		}
	}
	index(wasm.OpLocalGet, len(types)) // the site
	index(wasm.OpCall, int(u.save0)+n)
	i := u.add(append(types, wasm.I32), nil, nil, b)
	u.moves[string(k)] = i
	return i
}

// load implements linker.
func (u *unit) load(types []wasm.ValueType) uint32 {
	n := 0
	same := true
	types = slices.Clone(types)
	for i, t := range types {
		types[i] = nullable(t)
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
		if t.IsRef() {
			if registry := u.refs.find(t); registry >= 0 {
				b = u.refs.get(append(b, byte(wasm.OpI32WrapI64)), registry)
			} else {
				b = append(b, byte(wasm.OpDrop)) // no such function exists: it is null
				b = appendZero(b, t)
			}
		}
		w += words(t)
	}
	i := u.add(nil, types, i64s(n), b)
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
