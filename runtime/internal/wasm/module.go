package wasm

import "strconv"

// Module is a decoded module. Index spaces are the specification's: imports come first.
type Module struct {
	Types     []FuncType
	Imports   []Import
	Functions []uint32 // the type index of each function defined here
	Tables    []Table
	Memories  []Limits
	Tags      []uint32 // the type index of each tag defined here
	Globals   []Global
	Exports   []Export
	Start     *uint32 // index of the start function, nil if there is none
	Elements  []Element
	DataCount *uint32 // nil if the module has no data count section
	Code      []Code  // one for each of Functions
	Data      []Data
	Customs   []Custom

	entries entries
}

// ExternKind says what an import or export is.
type ExternKind byte

// The kinds of imports and exports, with their codes in the binary format.
const (
	ExternFunc   ExternKind = 0
	ExternTable  ExternKind = 1
	ExternMemory ExternKind = 2
	ExternGlobal ExternKind = 3
	ExternTag    ExternKind = 4
)

// Import is one import. Which of the descriptions holds depends on Kind.
type Import struct {
	Module, Name string
	Kind         ExternKind
	Type         uint32     // ExternFunc, ExternTag: a type index
	Table        TableType  // ExternTable
	Memory       Limits     // ExternMemory
	Global       GlobalType // ExternGlobal
}

// Limits is the size range of a memory (in pages of 64 KiB) or a table (in elements).
type Limits struct {
	Min    uint64
	Max    uint64 // meaningful if HasMax
	HasMax bool
	Shared bool // refused by Validate
	Is64   bool // refused by Validate
}

// The flags of limits in the binary format.
const (
	limitsMax    = 1
	limitsShared = 2
	limits64     = 4
)

// TableType is the type of a table.
type TableType struct {
	Elem   ValueType
	Limits Limits
}

// Table is a table defined in the module. Init is nil, or the constant expression that fills it.
type Table struct {
	Type TableType
	Init Expr
}

// GlobalType is the type of a global.
type GlobalType struct {
	Type    ValueType
	Mutable bool
}

// Global is a global defined in the module.
type Global struct {
	Type GlobalType
	Init Expr
}

// Expr is a constant expression in binary form, with its final end opcode.
type Expr []byte

// Export is one export.
type Export struct {
	Name  string
	Kind  ExternKind
	Index uint32
}

// SegmentMode says how a data or element segment is used.
type SegmentMode byte

// The modes of segments. Declarative ones are element segments only.
const (
	Active SegmentMode = iota
	Passive
	Declarative
)

// Element is an element segment. Its elements are function indices (Funcs), or constant expressions (Exprs) where
// the binary has them in that form; one of the two is nil.
type Element struct {
	Mode   SegmentMode
	Table  uint32 // Active
	Offset Expr   // Active
	Type   ValueType
	Funcs  []uint32
	Exprs  []Expr
	Flags  uint32 // the segment's kind field as read, so that a round trip is exact
}

// Data is a data segment.
type Data struct {
	Mode   SegmentMode
	Memory uint32 // Active
	Offset Expr   // Active
	Init   []byte
	Flags  uint32 // the segment's kind field as read
}

// LocalGroup declares Count locals of one type.
type LocalGroup struct {
	Count uint32
	Type  ValueType
}

// Code is the code of a function defined in the module.
type Code struct {
	// Raw is the code as it stands in the binary: the declaration of locals, then the body. Instruction offsets
	// that leave this package (call sites in snapshots) count from its first byte.
	Raw []byte
	// Locals is the decoded declaration (without the parameters).
	Locals []LocalGroup
	// BodyOffset is where the body starts in Raw. The body ends with the function's end opcode.
	BodyOffset int
	// FileOffset is the offset of Raw in the binary it was read from.
	FileOffset int
}

// Body returns the function's instructions, with the final end.
func (c *Code) Body() []byte { return c.Raw[c.BodyOffset:] }

// Custom is a custom section.
type Custom struct {
	Name string
	Data []byte
	// After is the id of the last non-custom section before it in the binary, 0 if there was none.
	After byte
}

// String returns the kind's name.
func (k ExternKind) String() string {
	switch k {
	case ExternFunc:
		return "function"
	case ExternTable:
		return "table"
	case ExternMemory:
		return "memory"
	case ExternGlobal:
		return "global"
	case ExternTag:
		return "tag"
	}
	return "kind " + strconv.Itoa(int(k))
}
