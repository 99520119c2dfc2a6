package wasm

import (
	"fmt"
	"strconv"
)

// ValueType is the type of a value: a number, a vector or a reference. Numbers and vectors are their byte in the
// binary format; a reference packs nullability and heap type, see [RefType].
type ValueType uint32

// The numeric and vector types, with their codes in the binary format.
const (
	I32  ValueType = 0x7f
	I64  ValueType = 0x7e
	F32  ValueType = 0x7d
	F64  ValueType = 0x7c
	V128 ValueType = 0x7b
)

const (
	refBit      ValueType = 1 << 31
	nullableBit ValueType = 1 << 30
	abstractBit ValueType = 1 << 29
)

// HeapType is what a reference points at: an abstract heap type, or (values below [HeapFunc]) the index of a type.
type HeapType uint32

// The abstract heap types, as abstractBit plus their code in the binary format.
const (
	HeapFunc   = HeapType(abstractBit | 0x70)
	HeapExtern = HeapType(abstractBit | 0x6f)
	HeapExn    = HeapType(abstractBit | 0x69)
)

// The nullable references that have a one-byte form.
const (
	FuncRef   = refBit | nullableBit | ValueType(HeapFunc)
	ExternRef = refBit | nullableBit | ValueType(HeapExtern)
	ExnRef    = refBit | nullableBit | ValueType(HeapExn)
)

// RefType returns the type of references to h.
func RefType(h HeapType, nullable bool) ValueType {
	t := refBit | ValueType(h)
	if nullable {
		t |= nullableBit
	}
	return t
}

// IsRef reports whether values of type t are references.
func (t ValueType) IsRef() bool { return t&refBit != 0 }

// IsNullable reports whether t is a reference type that includes null.
func (t ValueType) IsNullable() bool { return t&(refBit|nullableBit) == refBit|nullableBit }

// IsDefaultable reports whether locals of type t have a default value (zero or null).
func (t ValueType) IsDefaultable() bool { return !t.IsRef() || t.IsNullable() }

// Heap returns the heap type of a reference type.
func (t ValueType) Heap() HeapType { return HeapType(t &^ (refBit | nullableBit)) }

// IsIndex reports whether h is the index of a type rather than an abstract heap type.
func (h HeapType) IsIndex() bool { return ValueType(h)&abstractBit == 0 }

// FuncType is the type of a function: the types of its parameters and results.
type FuncType struct {
	Params, Results []ValueType
	// Group is the number of types in the recursion group that this type is in, 0 if it stands alone. GroupIndex is its
	// place in the group, from 0. The members of a group follow each other in [Module.Types].
	Group, GroupIndex uint32
}

// Bottom is the type of an operand in unreachable code, which fits wherever a value is wanted. [FuncValidator.Stack]
// may hold it; no module does.
const Bottom ValueType = 0

// bottomRef is the type of a reference in unreachable code of which no more is known than that it is one, not null.
const bottomRef = refBit | abstractBit

// The codes of types in the binary format that have no constant above.
const (
	codeRefNull    = 0x63 // a heap type follows
	codeRef        = 0x64 // a heap type follows
	codeEmptyBlock = 0x40
)

// maxTypes is more than any type index that a reference can hold.
const maxTypes = abstractBit

// gcTypes are the types of the garbage collection and stack switching proposals, to say so when one turns up.
var gcTypes = map[byte]string{
	0x6e: "any", 0x6d: "eq", 0x6c: "i31", 0x6b: "struct", 0x6a: "array", 0x68: "cont", 0x78: "i8", 0x77: "i16",
	0x71: "none", 0x72: "noextern", 0x73: "nofunc", 0x74: "noexn", 0x75: "nocont",
}

// abstractHeap returns the abstract heap type with the code b in the binary format.
func abstractHeap(b byte) (HeapType, bool) {
	switch h := HeapType(abstractBit) | HeapType(b); h {
	case HeapFunc, HeapExtern, HeapExn:
		return h, true
	}
	return 0, false
}

// AsNonNull returns the reference type t without null.
func (t ValueType) AsNonNull() ValueType { return t &^ nullableBit }

// String returns the type in the text format.
func (t ValueType) String() string {
	switch t {
	case Bottom:
		return "any type"
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case FuncRef:
		return "funcref"
	case ExternRef:
		return "externref"
	case ExnRef:
		return "exnref"
	case bottomRef:
		return "any reference"
	}
	if !t.IsRef() {
		return fmt.Sprintf("type %#x", uint32(t))
	}
	if t.IsNullable() {
		return "(ref null " + t.Heap().String() + ")"
	}
	return "(ref " + t.Heap().String() + ")"
}

// String returns the heap type in the text format.
func (h HeapType) String() string {
	switch h {
	case HeapFunc:
		return "func"
	case HeapExtern:
		return "extern"
	case HeapExn:
		return "exn"
	}
	return strconv.FormatUint(uint64(h), 10)
}

// String returns the type as the specification writes it: [i32 i64] -> [f32].
func (t *FuncType) String() string { return fmt.Sprintf("%v -> %v", t.Params, t.Results) }

// BlockType is the type of a block: nothing (the zero value), one result, or the index of a function type.
type BlockType struct {
	Value   ValueType // the one result, if it is not zero
	Index   uint32    // the index of the type, if Indexed
	Indexed bool
}

// BlockValue returns the type of a block with one result and no parameters.
func BlockValue(t ValueType) BlockType { return BlockType{Value: t} }

// BlockIndex returns the type of a block that has the parameters and results of the type with index i.
func BlockIndex(i uint32) BlockType { return BlockType{Index: i, Indexed: true} }

// AppendValueType appends t in its shortest form.
func AppendValueType(dst []byte, t ValueType) []byte {
	switch {
	case !t.IsRef():
		return append(dst, byte(t))
	case t.IsNullable() && !t.Heap().IsIndex():
		return append(dst, byte(t.Heap()))
	case t.IsNullable():
		dst = append(dst, codeRefNull)
	default:
		dst = append(dst, codeRef)
	}
	return appendHeapType(dst, t.Heap())
}

// appendHeapType appends h: the one byte of an abstract type, or an index.
func appendHeapType(dst []byte, h HeapType) []byte {
	if h.IsIndex() {
		return AppendS33(dst, int64(h))
	}
	return append(dst, byte(h))
}

// AppendBlockType appends t in its shortest form.
func AppendBlockType(dst []byte, t BlockType) []byte {
	switch {
	case t.Indexed:
		return AppendS33(dst, int64(t.Index))
	case t.Value != 0:
		return AppendValueType(dst, t.Value)
	}
	return append(dst, codeEmptyBlock)
}
