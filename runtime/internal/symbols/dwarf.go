package symbols

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// The codes of DWARF that matter here, of versions 2 to 5.
const (
	tagArray       = 0x01
	tagClass       = 0x02
	tagEnumeration = 0x04
	tagParameter   = 0x05
	tagMember      = 0x0d
	tagPointer     = 0x0f
	tagReference   = 0x10
	tagCompileUnit = 0x11
	tagStructure   = 0x13
	tagSubroutine  = 0x15
	tagTypedef     = 0x16
	tagUnion       = 0x17
	tagUnspecified = 0x18 // the "..." of parameters
	tagBase        = 0x24
	tagConst       = 0x26
	tagSubprogram  = 0x2e
	tagVariable    = 0x34
	tagVolatile    = 0x35
	tagRestrict    = 0x37
	tagAtomic      = 0x47

	attrLocation    = 0x02
	attrName        = 0x03
	attrByteSize    = 0x0b
	attrBitSize     = 0x0d
	attrLowPC       = 0x11
	attrLanguage    = 0x13
	attrUpperBound  = 0x2f
	attrOrigin      = 0x31
	attrCount       = 0x37
	attrDeclFile    = 0x3a
	attrDeclLine    = 0x3b
	attrDeclaration = 0x3c
	attrEncoding    = 0x3e
	attrFrameBase   = 0x40
	attrSpec        = 0x47
	attrType        = 0x49

	formAddr     = 0x01
	formString   = 0x08
	formStrp     = 0x0e
	formRefAddr  = 0x10
	formRef1     = 0x11
	formRefUdata = 0x15
	formLineStrp = 0x1f
	formImplicit = 0x21

	opAddr         = 0x03
	removedData    = 0xfffffffe // wasm-ld's addresses of what it has removed start here
	opFbreg        = 0x91
	opWasmLocation = 0xed

	encodingComplex = 0x03
	encodingFloat   = 0x04
)

// Limits on what is read. Compilers stay far below them.
const (
	maxAttributes = 128     // of one abbreviation
	maxName       = 1 << 12 // the bytes of a name
	maxDepth      = 32      // of types
	workPerByte   = 16      // attributes read, for each byte of .debug_info
)

// abbreviation is the form of an entry.
type abbreviation struct {
	tag      uint16
	children bool
	attrs    []attribute
	size     int // of the values in bytes, -1 if it differs from entry to entry
}

type attribute struct {
	name, form uint16
	implicit   int64
}

// value is the value of an attribute. Which of the fields hold depends on the form.
type value struct {
	n     uint64
	block []byte
}

// unit is a compilation unit.
type unit struct {
	start, entries, end uint32 // in .debug_info: its header, its first entry, what comes after it
	abbreviations       []abbreviation
	language            uint16
	functions           [2]int // of information.functions
	objects             [2]int // of information.objects
}

// function is the entry of a function.
type function struct {
	unit       int
	name       string
	file, line uint32
	emitted    bool   // has an address
	framed     bool   // its frame is in memory
	frameless  bool   // it has none
	variadic   bool   // takes more parameters than those
	result     uint32 // a type's offset, 0 for none
	parameters []parameter
	variables  []variable
	top        int32 // where the uppermost variable of the frame ends, -1 without
}

type parameter struct {
	typ   uint32
	place int32 // in the frame, -1 if it has none
}

// variable is one that is in the frame.
type variable struct {
	place, size int32
	scalar      bool
}

// object is a variable or string literal at an address.
type object struct {
	address    uint32
	function   int // -1 outside of functions
	file, line uint32
	named      bool
}

// information is what it takes from .debug_info.
type information struct {
	info, abbrev, str, lineStr []byte

	units     []unit
	functions []function
	objects   []object
	// located says that an address is more than nothing: the information has to be read by it.
	located bool

	tables map[uint32][]abbreviation
	types  map[uint32]ctype
	work   int
}

// cursor reads a section. At the end it goes no further, and is bad.
type cursor struct {
	data []byte
	at   int
	bad  bool
}

func (c *cursor) fail() {
	c.bad = true
	c.at = len(c.data)
}

func (c *cursor) skip(n uint64) {
	if n > uint64(len(c.data)-c.at) {
		c.fail()
		return
	}
	c.at += int(n)
}

func (c *cursor) u8() uint8 {
	if c.at >= len(c.data) {
		c.fail()
		return 0
	}
	c.at++
	return c.data[c.at-1]
}

func (c *cursor) u16() uint16 {
	if len(c.data)-c.at < 2 {
		c.fail()
		return 0
	}
	c.at += 2
	return binary.LittleEndian.Uint16(c.data[c.at-2:])
}

func (c *cursor) u32() uint32 {
	if len(c.data)-c.at < 4 {
		c.fail()
		return 0
	}
	c.at += 4
	return binary.LittleEndian.Uint32(c.data[c.at-4:])
}

func (c *cursor) unsigned() uint64 {
	if c.at < len(c.data) && c.data[c.at] < 0x80 {
		c.at++
		return uint64(c.data[c.at-1])
	}
	var v uint64
	for shift := uint(0); ; shift += 7 {
		b := c.u8()
		v |= uint64(b&0x7f) << min(shift, 64)
		if b < 0x80 {
			return v
		}
	}
}

func (c *cursor) signed() int64 {
	var v int64
	for shift := uint(0); ; {
		b := c.u8()
		v |= int64(b&0x7f) << min(shift, 64)
		shift += 7
		if b < 0x80 {
			if b&0x40 != 0 {
				v |= -1 << min(shift, 64)
			}
			return v
		}
	}
}

// terminated returns the string at an offset of a section, without the 0 that ends it; nil if it is none, or too long.
func terminated(section []byte, at uint64) []byte {
	if at >= uint64(len(section)) {
		return nil
	}
	section = section[at:min(at+maxName, uint64(len(section)))]
	return section[:max(0, bytes.IndexByte(section, 0))]
}

// read reads the units. What can't be read is left out.
func (r *information) read() {
	r.tables = map[uint32][]abbreviation{}
	r.types = map[uint32]ctype{}
	r.work = workPerByte * len(r.info)
	for at := uint32(0); ; {
		c := &cursor{data: r.info, at: int(at)}
		size := c.u32()
		if c.bad || size >= 0xfffffff0 || uint64(size) > uint64(len(r.info)-c.at) {
			return // the end, or the format of 64 bits
		}
		u := unit{start: at, end: uint32(c.at) + size}
		c.data = r.info[:u.end]
		version := c.u16()
		kind, addressSize, table := uint8(1), uint8(0), uint32(0)
		if version >= 5 {
			kind, addressSize, table = c.u8(), c.u8(), c.u32()
		} else {
			table, addressSize = c.u32(), c.u8()
		}
		u.entries = uint32(c.at)
		at = u.end
		if c.bad || version < 2 || version > 5 || kind != 1 || addressSize != 4 {
			continue
		}
		u.abbreviations = r.table(table)
		r.units = append(r.units, u)
		r.readUnit(len(r.units) - 1)
		if r.work < 0 {
			return
		}
	}
}

// table returns the abbreviations at an offset, by code - 1: compilers number them so.
func (r *information) table(at uint32) []abbreviation {
	if list, ok := r.tables[at]; ok {
		return list
	}
	var list []abbreviation
	c := &cursor{data: r.abbrev, at: min(int(at), len(r.abbrev))}
	for {
		code := c.unsigned()
		if c.bad || code != uint64(len(list))+1 {
			break
		}
		a := abbreviation{tag: uint16(c.unsigned()), children: c.u8() != 0}
		for {
			f := attribute{name: uint16(c.unsigned()), form: uint16(c.unsigned())}
			if f.form == formImplicit {
				f.implicit = c.signed()
			}
			if c.bad || f.name == 0 && f.form == 0 {
				break
			}
			if n := formSize(f.form); n < 0 || a.size < 0 {
				a.size = -1
			} else {
				a.size += n
			}
			a.attrs = append(a.attrs, f)
		}
		if c.bad || len(a.attrs) > maxAttributes {
			break
		}
		list = append(list, a)
	}
	// Tables may overlap; each costs what it takes to read it.
	r.work -= c.at - int(at)
	if r.work < 0 {
		list = nil
	}
	r.tables[at] = list
	return list
}

// formSize returns the size of a form's values, or -1. Addresses have 4 bytes.
func formSize(form uint16) int {
	switch form {
	case 0x19, formImplicit:
		return 0
	case 0x0b, 0x0c, formRef1, 0x25, 0x29:
		return 1
	case 0x05, 0x12, 0x26, 0x2a:
		return 2
	case 0x27, 0x2b:
		return 3
	case formAddr, 0x06, formStrp, formRefAddr, 0x13, 0x17, 0x1c, 0x1d, formLineStrp, 0x28, 0x2c:
		return 4
	case 0x07, 0x14, 0x20, 0x24:
		return 8
	case 0x1e:
		return 16
	}
	return -1
}

// value reads the value of an attribute. After a form that it doesn't know, c is bad.
func (c *cursor) value(f attribute, v *value) {
	v.block = nil
	switch n := formSize(f.form); n {
	case 0:
		v.n = 1
		if f.form == formImplicit {
			v.n = uint64(f.implicit)
		}
		return
	case 1:
		v.n = uint64(c.u8())
		return
	case 2:
		v.n = uint64(c.u16())
		return
	case 4:
		v.n = uint64(c.u32())
		return
	case 8:
		v.n = uint64(c.u32())
		v.n |= uint64(c.u32()) << 32
		return
	case 3, 16:
		v.n = 0
		c.skip(uint64(n))
		return
	}
	v.n = 0
	size := uint64(0)
	switch f.form {
	case 0x0d:
		v.n = uint64(c.signed())
		return
	case 0x0f, formRefUdata, 0x1a, 0x1b, 0x22, 0x23:
		v.n = c.unsigned()
		return
	case formString:
		size = uint64(bytes.IndexByte(c.data[c.at:], 0)) // -1 is too large
	case 0x0a:
		size = uint64(c.u8())
	case 0x03:
		size = uint64(c.u16())
	case 0x04:
		size = uint64(c.u32())
	case 0x09, 0x18:
		size = c.unsigned()
	default:
		c.fail()
		return
	}
	start := c.at
	c.skip(size)
	if !c.bad {
		v.block = c.data[start:c.at]
	}
	if f.form == formString {
		c.skip(1)
	}
}

// text returns the value of an attribute that is a string.
func (r *information) text(f attribute, v *value) string {
	switch f.form {
	case formString:
		return string(v.block[:min(len(v.block), maxName)])
	case formStrp:
		return string(terminated(r.str, v.n))
	case formLineStrp:
		return string(terminated(r.lineStr, v.n))
	}
	return ""
}

// reference returns the offset that the value of an attribute refers to, 0 for none.
func (u *unit) reference(f attribute, v *value) uint32 {
	switch {
	case f.form >= formRef1 && f.form <= formRefUdata:
		return u.start + uint32(v.n)
	case f.form == formRefAddr:
		return uint32(v.n)
	}
	return 0
}

// entry moves c past the code of an entry, and returns its abbreviation, nil at the end of a list of children.
func (r *information) entry(u *unit, c *cursor) *abbreviation {
	r.work--
	code := c.unsigned()
	if code == 0 || r.work < 0 {
		return nil
	}
	if code > uint64(len(u.abbreviations)) {
		c.fail()
		return nil
	}
	return &u.abbreviations[code-1]
}

// skip moves c past the values of an entry.
func (r *information) skip(a *abbreviation, c *cursor) {
	if a.size >= 0 {
		c.skip(uint64(a.size))
		return
	}
	r.work -= len(a.attrs)
	var v value
	for _, f := range a.attrs {
		c.value(f, &v)
	}
}

func (r *information) readUnit(index int) {
	u := &r.units[index]
	u.functions = [2]int{len(r.functions), len(r.functions)}
	u.objects = [2]int{len(r.objects), len(r.objects)}
	c := &cursor{data: r.info[:u.end], at: int(u.entries)}
	// Which function the open lists of children are in, -1 for none.
	within := []int{-1}
	for !c.bad && c.at < len(c.data) && r.work >= 0 {
		a := r.entry(u, c)
		if a == nil {
			if within = within[:len(within)-1]; len(within) == 0 {
				break
			}
			continue
		}
		in := within[len(within)-1]
		switch a.tag {
		case tagCompileUnit:
			r.work -= len(a.attrs)
			var v value
			for _, f := range a.attrs {
				c.value(f, &v)
				if f.name == attrLanguage {
					u.language = uint16(v.n)
				}
			}
		case tagSubprogram:
			in = len(r.functions)
			r.functions = append(r.functions, r.readFunction(index, a, c))
		case tagParameter, tagVariable:
			// Only a function's own list has its parameters; those of calls inlined into it are in others.
			own := in >= 0 && len(within) > 1 && within[len(within)-2] != in
			r.readVariable(u, a, c, in, own)
		case tagUnspecified:
			if in >= 0 && len(within) > 1 && within[len(within)-2] != in {
				r.functions[in].variadic = true
			}
			r.skip(a, c)
		case tagStructure, tagClass, tagUnion, tagSubroutine:
			in = -1 // what a type has is no function's
			r.skip(a, c)
		default:
			r.skip(a, c)
		}
		if a.children {
			within = append(within, in)
		}
	}
	u.functions[1], u.objects[1] = len(r.functions), len(r.objects)
}

func (r *information) readFunction(index int, a *abbreviation, c *cursor) function {
	u := &r.units[index]
	f := function{unit: index, top: -1}
	origin := r.functionAttributes(u, a, c, &f)
	if origin >= u.entries && origin < u.end && f.name == "" {
		// What an instance of an entry leaves out.
		o := &cursor{data: c.data, at: int(origin)}
		if a := r.entry(u, o); a != nil {
			var of function
			r.functionAttributes(u, a, o, &of)
			f.name, f.file, f.line, f.result = of.name, of.file, of.line, of.result
		}
	}
	return f
}

// functionAttributes returns the entry that it refers to for the rest, 0 for none.
func (r *information) functionAttributes(u *unit, a *abbreviation, c *cursor, fn *function) (origin uint32) {
	r.work -= len(a.attrs)
	var v value
	for _, f := range a.attrs {
		c.value(f, &v)
		switch f.name {
		case attrName:
			fn.name = r.text(f, &v)
		case attrLowPC:
			fn.emitted = true
			if !lost(f, v.n) {
				r.located = true
			}
		case attrDeclFile:
			fn.file = uint32(v.n)
		case attrDeclLine:
			fn.line = uint32(v.n)
		case attrType:
			fn.result = u.reference(f, &v)
		case attrOrigin, attrSpec:
			origin = u.reference(f, &v)
		case attrFrameBase:
			// A local that points to the frame, or the global that is the stack pointer.
			if len(v.block) > 1 && v.block[0] == opWasmLocation {
				fn.framed, fn.frameless = v.block[1] == 0, v.block[1] != 0
			}
		}
	}
	return origin
}

// lost says whether an address is none: binaryen's 0, or what wasm-ld writes for code that it has removed.
func lost(f attribute, address uint64) bool {
	return f.form == formAddr && (address == 0 || uint32(address) >= removedData)
}

// readVariable reads the entry of a variable in function in (-1 for none), whose parameter it may be.
func (r *information) readVariable(u *unit, a *abbreviation, c *cursor, in int, own bool) {
	r.work -= len(a.attrs)
	var v value
	var typ, origin uint32
	o := object{function: in}
	place := int32(-1)
	for _, f := range a.attrs {
		c.value(f, &v)
		switch f.name {
		case attrName:
			o.named = true
		case attrLocation:
			o.address, place = location(v.block)
		case attrType:
			typ = u.reference(f, &v)
		case attrOrigin:
			origin = u.reference(f, &v)
		case attrDeclFile:
			o.file = uint32(v.n)
		case attrDeclLine:
			o.line = uint32(v.n)
		}
	}
	if a.tag == tagVariable && o.address != 0 {
		r.objects = append(r.objects, o)
	}
	if in < 0 || !r.functions[in].emitted {
		return
	}
	fn := &r.functions[in]
	if a.tag == tagParameter && own {
		fn.parameters = append(fn.parameters, parameter{typ, place})
	}
	if place < 0 || !isC(u.language) {
		return
	}
	if typ == 0 {
		typ = origin // of an inlined call: the entry that has the type
	}
	t := r.ctype(u, typ)
	size := int32(min(t.size, maxFrame))
	fn.top = max(fn.top, place+size)
	// Those of inlined calls are as good as its own. Its own parameters may go unread.
	if place < maxSlot && size > 0 {
		read := t.class != classAggregate && size <= 8 && (a.tag == tagVariable || !own)
		fn.variables = append(fn.variables, variable{place, size, read})
	}
}

// location returns the address that an expression gives, or else the place in the frame; 0 and -1 stand for none.
func location(expr []byte) (address uint32, place int32) {
	switch {
	case len(expr) == 5 && expr[0] == opAddr:
		if address = binary.LittleEndian.Uint32(expr[1:]); address >= removedData {
			address = 0
		}
		return address, -1
	case len(expr) > 1 && expr[0] == opFbreg:
		c := cursor{data: expr, at: 1}
		if n := c.signed(); c.at == len(expr) && n >= 0 && n < maxFrame {
			return 0, int32(n)
		}
	}
	return 0, -1
}

// isC says whether a language of DWARF is C.
func isC(language uint16) bool {
	return slices.Contains([]uint16{0x01, 0x02, 0x0c, 0x1d, 0x2c}, language)
}
