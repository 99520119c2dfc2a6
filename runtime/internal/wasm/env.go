package wasm

import "fmt"

// Env is what the code of a module can refer to: its types and index spaces, imports first. It is read-only, and any
// number of goroutines may share it. It does not follow later changes of the module.
type Env struct {
	Types    []FuncType
	Globals  []GlobalType
	Tables   []TableType
	Memories []Limits
	Tags     []uint32 // the type index of each

	NumImportedFuncs, NumImportedGlobals, NumImportedTables, NumImportedMemories, NumImportedTags int

	funcs     []uint32    // the type index of each
	declared  []bool      // for each function, whether ref.func may name it in code
	elements  []ValueType // the type of each element segment
	dataCount *uint32
	code      []Code
	// canonical maps each type to the first that is equal to it.
	canonical []uint32
}

// NewEnv returns the Env of m. It fails if an index space of m refers to a type that doesn't exist; further it
// doesn't validate m.
func NewEnv(m *Module) (*Env, error) {
	e := &Env{Types: m.Types, dataCount: m.DataCount, code: m.Code}
	var err error
	if e.canonical, err = canonicalTypes(m); err != nil {
		return nil, err
	}
	for i := range m.Imports {
		im := &m.Imports[i]
		switch im.Kind {
		case ExternFunc:
			e.funcs = append(e.funcs, im.Type)
			e.NumImportedFuncs++
			err = e.checkTypeIndex(im.Type)
		case ExternTable:
			e.Tables = append(e.Tables, im.Table)
			e.NumImportedTables++
			err = e.checkType(im.Table.Elem)
		case ExternMemory:
			e.Memories = append(e.Memories, im.Memory)
			e.NumImportedMemories++
		case ExternGlobal:
			e.Globals = append(e.Globals, im.Global)
			e.NumImportedGlobals++
			err = e.checkType(im.Global.Type)
		case ExternTag:
			e.Tags = append(e.Tags, im.Type)
			e.NumImportedTags++
			err = e.checkTagType(im.Type)
		default:
			err = fmt.Errorf("%d isn't a kind of import", im.Kind)
		}
		if err != nil {
			return nil, m.entryError(idImport, i, fmt.Sprintf("import %d (%q %q)", i, im.Module, im.Name), err)
		}
	}
	if err := e.addDefinitions(m); err != nil {
		return nil, err
	}
	e.declared = declaredFuncs(m, len(e.funcs))
	return e, nil
}

// addDefinitions adds what m defines to the index spaces.
func (e *Env) addDefinitions(m *Module) error {
	for i, t := range m.Functions {
		if err := e.checkTypeIndex(t); err != nil {
			return m.entryError(idFunction, i, fmt.Sprintf("function %d", len(e.funcs)), err)
		}
		e.funcs = append(e.funcs, t)
	}
	for i := range m.Tables {
		if err := e.checkType(m.Tables[i].Type.Elem); err != nil {
			return m.entryError(idTable, i, fmt.Sprintf("table %d", len(e.Tables)), err)
		}
		e.Tables = append(e.Tables, m.Tables[i].Type)
	}
	e.Memories = append(e.Memories, m.Memories...)
	for i, t := range m.Tags {
		if err := e.checkTagType(t); err != nil {
			return m.entryError(idTag, i, fmt.Sprintf("tag %d", len(e.Tags)), err)
		}
		e.Tags = append(e.Tags, t)
	}
	for i := range m.Globals {
		if err := e.checkType(m.Globals[i].Type.Type); err != nil {
			return m.entryError(idGlobal, i, fmt.Sprintf("global %d", len(e.Globals)), err)
		}
		e.Globals = append(e.Globals, m.Globals[i].Type)
	}
	for i := range m.Elements {
		if err := e.checkType(m.Elements[i].Type); err != nil {
			return m.entryError(idElement, i, fmt.Sprintf("segment %d", i), err)
		}
		e.elements = append(e.elements, m.Elements[i].Type)
	}
	return nil
}

// NumFuncs returns the number of functions, imported and defined.
func (e *Env) NumFuncs() int { return len(e.funcs) }

// FuncTypeIndex returns the index of the type of function i, which must exist.
func (e *Env) FuncTypeIndex(i uint32) uint32 { return e.funcs[i] }

// FuncType returns the type of function i, nil if there is no such function.
func (e *Env) FuncType(i uint32) *FuncType {
	if uint64(i) >= uint64(len(e.funcs)) {
		return nil
	}
	return &e.Types[e.funcs[i]]
}

// TagType returns the type of tag i, whose parameters are the exception's values, nil if there is no such tag.
func (e *Env) TagType(i uint32) *FuncType {
	if uint64(i) >= uint64(len(e.Tags)) {
		return nil
	}
	return &e.Types[e.Tags[i]]
}

// BlockTypes returns the parameters and results of a block, nil if its type doesn't exist.
func (e *Env) BlockTypes(t BlockType) (params, results []ValueType) { return blockTypes(e.Types, t) }

// BlockTypes returns the parameters and results of a block, nil if its type doesn't exist.
func (m *Module) BlockTypes(t BlockType) (params, results []ValueType) {
	return blockTypes(m.Types, t)
}

func blockTypes(types []FuncType, t BlockType) (params, results []ValueType) {
	switch {
	case t.Indexed && uint64(t.Index) < uint64(len(types)):
		return types[t.Index].Params, types[t.Index].Results
	case t.Value != 0 && !t.Indexed:
		return nil, singleType(t.Value)
	}
	return nil, nil
}

var (
	typesFuncRef   = []ValueType{FuncRef}
	typesExternRef = []ValueType{ExternRef}
	typesExnRef    = []ValueType{ExnRef}
)

// singleType returns the list of t alone, without allocating if t is a common type.
func singleType(t ValueType) []ValueType {
	switch t {
	case I32:
		return typesI32
	case I64:
		return typesI64
	case F32:
		return typesF32
	case F64:
		return typesF64
	case V128:
		return typesV128
	case FuncRef:
		return typesFuncRef
	case ExternRef:
		return typesExternRef
	case ExnRef:
		return typesExnRef
	}
	return []ValueType{t}
}

func (e *Env) checkTypeIndex(i uint32) error {
	if uint64(i) >= uint64(len(e.Types)) {
		return fmt.Errorf("unknown type %d, there are %d", i, len(e.Types))
	}
	return nil
}

// checkType returns an error if t refers to a type that doesn't exist.
func (e *Env) checkType(t ValueType) error {
	if h := t.Heap(); t.IsRef() && h.IsIndex() {
		return e.checkTypeIndex(uint32(h))
	}
	return nil
}

func (e *Env) checkTagType(i uint32) error {
	if err := e.checkTypeIndex(i); err != nil {
		return err
	}
	if n := len(e.Types[i].Results); n > 0 {
		return fmt.Errorf("the type of a tag has %d results, where none are allowed", n)
	}
	return nil
}

// IsSubtype reports whether a value of type a may stand where one of type b is wanted. Types are compared by their
// structure, not by their index.
func (e *Env) IsSubtype(a, b ValueType) bool {
	if a == b || a == Bottom {
		return true
	}
	if !a.IsRef() || !b.IsRef() || a.IsNullable() && !b.IsNullable() {
		return false
	}
	x, y := a.Heap(), b.Heap()
	switch {
	case x == y || x == bottomRef.Heap():
		return true
	case x.IsIndex():
		return y == HeapFunc || y.IsIndex() && e.canonical[x] == e.canonical[y]
	}
	return false
}

// EqualTypes reports whether the types with the indices a and b, which must exist, are the same by structure.
func (e *Env) EqualTypes(a, b uint32) bool { return e.canonical[a] == e.canonical[b] }

// matches reports whether values of the types a may stand where those of b are wanted.
func (e *Env) matches(a, b []ValueType) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !e.IsSubtype(a[i], b[i]) {
			return false
		}
	}
	return true
}
