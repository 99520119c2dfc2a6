package symbols

import "github.com/durun/durun/runtime/internal/wasm"

// class is how the C ABI for WebAssembly passes a type.
type class uint8

const (
	classUnknown   class = iota
	classNone            // void
	classI32             // pointers, and integers of up to 32 bits
	classI64             //
	classF32             //
	classF64             //
	classPair            // two i64: __int128, long double
	classAggregate       // in memory, by a pointer
)

// ctype is what matters of a C type.
type ctype struct {
	size  uint64 // in bytes
	class class
}

// maxObject is where sizes of types stop.
const maxObject = 1 << 28

// valueType returns the type of the class's value, 0 if there is none or it isn't known.
func (c class) valueType() wasm.ValueType {
	switch c {
	case classI32, classAggregate:
		return wasm.I32
	case classI64, classPair:
		return wasm.I64
	case classF32:
		return wasm.F32
	case classF64:
		return wasm.F64
	}
	return 0
}

// ctype returns the type whose entry is at an offset.
func (r *information) ctype(u *unit, at uint32) ctype { return r.ctypeIn(u, at, 0) }

func (r *information) ctypeIn(u *unit, at uint32, depth int) ctype {
	if at == 0 {
		return ctype{class: classNone}
	}
	if t, ok := r.types[at]; ok {
		return t
	}
	if at < u.entries || at >= u.end || depth > maxDepth {
		return ctype{}
	}
	t := r.readType(u, at, depth)
	t.size = min(t.size, maxObject)
	r.types[at] = t
	return t
}

func (r *information) readType(u *unit, at uint32, depth int) ctype {
	c := &cursor{data: r.info[:u.end], at: int(at)}
	a := r.entry(u, c)
	if a == nil {
		return ctype{}
	}
	r.work -= len(a.attrs)
	var v value
	var size, encoding uint64
	var of uint32
	declaration := false
	for _, f := range a.attrs {
		c.value(f, &v)
		switch f.name {
		case attrByteSize:
			size = v.n
		case attrEncoding:
			encoding = v.n
		case attrType:
			of = u.reference(f, &v)
		case attrDeclaration:
			declaration = true
		}
	}
	switch a.tag {
	case tagPointer, tagReference:
		return ctype{4, classI32}
	case tagTypedef, tagConst, tagVolatile, tagRestrict, tagAtomic, tagParameter, tagVariable:
		return r.ctypeIn(u, of, depth+1)
	case tagEnumeration, tagBase:
		return ctype{size, scalar(size, encoding)}
	case tagArray:
		element := r.ctypeIn(u, of, depth+1)
		n := uint64(1)
		if a.children {
			n = r.elements(u, c)
		}
		if n != 1 {
			element.class = classAggregate
		}
		return ctype{min(element.size, maxObject) * n, element.class}
	case tagStructure, tagUnion:
		// One with one member is passed as that.
		if !declaration && a.children && size <= 16 {
			if t, ok := r.onlyMember(u, c, depth); ok && t.size == size {
				return t
			}
		}
		return ctype{size, classAggregate}
	}
	return ctype{}
}

func scalar(size, encoding uint64) class {
	switch {
	case encoding == encodingComplex:
		return classAggregate
	case encoding == encodingFloat && size == 4:
		return classF32
	case encoding == encodingFloat && size == 8:
		return classF64
	case size == 16:
		return classPair
	case size == 8:
		return classI64
	case size <= 4:
		return classI32
	}
	return classUnknown
}

// elements returns how many elements an array has, whose children come next.
func (r *information) elements(u *unit, c *cursor) uint64 {
	total := uint64(1)
	for {
		a := r.entry(u, c)
		if a == nil || a.children {
			return total
		}
		r.work -= len(a.attrs)
		var v value
		n := uint64(0)
		for _, f := range a.attrs {
			c.value(f, &v)
			switch f.name {
			case attrCount:
				n = v.n
			case attrUpperBound:
				n = v.n + 1
			}
		}
		total = min(total*min(n, maxObject), maxObject)
	}
}

// onlyMember returns the type of a struct's only member.
func (r *information) onlyMember(u *unit, c *cursor, depth int) (t ctype, ok bool) {
	for {
		a := r.entry(u, c)
		if a == nil {
			return t, ok && !c.bad
		}
		if a.children || ok && a.tag == tagMember {
			return t, false
		}
		r.work -= len(a.attrs)
		var v value
		var of uint32
		for _, f := range a.attrs {
			c.value(f, &v)
			switch f.name {
			case attrType:
				of = u.reference(f, &v)
			case attrBitSize:
				return t, false
			}
		}
		if a.tag == tagMember {
			t, ok = r.ctypeIn(u, of, depth+1), true
		}
	}
}
