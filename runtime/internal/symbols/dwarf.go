package symbols

import (
	"bytes"
	"encoding/binary"
)

// The few codes of DWARF that matter here.
const (
	tagArray          = 0x01
	tagEnumeration    = 0x04
	tagFormalParam    = 0x05
	tagMember         = 0x0d
	tagPointer        = 0x0f
	tagCompileUnit    = 0x11
	tagStructure      = 0x13
	tagTypedef        = 0x16
	tagUnion          = 0x17
	tagUnspecified    = 0x18
	tagInlined        = 0x1d
	tagSubrange       = 0x21
	tagBase           = 0x24
	tagConst          = 0x26
	tagSubprogram     = 0x2e
	tagVariable       = 0x34
	tagVolatile       = 0x35
	tagRestrict       = 0x37
	tagAtomic         = 0x47

	attrLocation  = 0x02
	attrName      = 0x03
	attrByteSize  = 0x0b
	attrLowPC     = 0x11
	attrLanguage  = 0x13
	attrOrigin    = 0x31
	attrCount     = 0x37
	attrUpper     = 0x2f
	attrDeclFile  = 0x3a
	attrDeclLine  = 0x3b
	attrEncoding  = 0x3e
	attrExternal  = 0x3f
	attrFrameBase = 0x40
	attrSpec      = 0x47
	attrType      = 0x49
	attrRanges    = 0x55
	attrBitSize   = 0x0d
)

// abbrev is one abbreviation: the form of an entry.
type abbrev struct {
	tag      uint16
	children bool
	attrs    []attr
	fixed    int // the size of the attributes in bytes if no value of theirs changes it, else -1
}

type attr struct {
	name, form uint16
	implicit   int64
}

// unit is one compilation unit.
type unit struct {
	base    uint32 // where its header is, which references count from
	die     uint32 // its first entry
	end     uint32
	version uint16
	addr    uint8
	abbrevs []abbrev // by code - 1
	name    string
	lang    uint16
	ranges  uint32
	hasRanges bool
	hasLow bool
	subs    [2]int // its functions, [from, to)
}

type sub struct {
	unit     int
	die      uint32
	name     string
	external bool
	frame    byte // 0 unknown, 1 a local, 2 a global
	hasPC    bool
	low      uint32
	inline bool
	variadic bool
	file, line uint32
	typ      uint32 // its result's type, 0 without
	params   []param
	top      int32 // the end of the frame's uppermost variable
	bottom   int32
	vars     []frameVar
}

type frameVar struct{ loc int32; size uint8 }

type param struct {
	typ uint32
	loc int32 // offset from the frame base, -1 if unknown
}

// object is a variable with an address.
type object struct {
	addr, size uint32
	unit       int
	sub        int // -1 outside of functions
	file, line uint32
	name       string
	external   bool
}

type reader struct {
	info, abb, str, lineStr []byte
	units   []unit
	subs    []sub
	objects []object
	types   map[uint32]ctype
	cache   map[uint32][]abbrev
}

// cur reads; it is stuck at the end once it passes it.
type cur struct {
	b  []byte
	at int
	bad bool
}

func (c *cur) skip(n int) {
	if n < 0 || n > len(c.b)-c.at {
		c.bad = true
		c.at = len(c.b)
		return
	}
	c.at += n
}

func (c *cur) u8() uint8 {
	if c.at >= len(c.b) {
		c.bad = true
		return 0
	}
	c.at++
	return c.b[c.at-1]
}

func (c *cur) u16() uint16 {
	if len(c.b)-c.at < 2 {
		c.bad = true
		c.at = len(c.b)
		return 0
	}
	c.at += 2
	return binary.LittleEndian.Uint16(c.b[c.at-2:])
}

func (c *cur) u32() uint32 {
	if len(c.b)-c.at < 4 {
		c.bad = true
		c.at = len(c.b)
		return 0
	}
	c.at += 4
	return binary.LittleEndian.Uint32(c.b[c.at-4:])
}

func (c *cur) uleb() uint64 {
	var v uint64
	for s := uint(0); ; s += 7 {
		b := c.u8()
		if s < 64 {
			v |= uint64(b&0x7f) << s
		}
		if b < 0x80 {
			return v
		}
	}
}

func (c *cur) sleb() int64 {
	var v int64
	for s := uint(0); ; {
		b := c.u8()
		if s < 64 {
			v |= int64(b&0x7f) << s
		}
		s += 7
		if b < 0x80 {
			if b&0x40 != 0 && s < 64 {
				v |= -1 << s
			}
			return v
		}
	}
}

func cstr(b []byte, at uint64) string {
	if at >= uint64(len(b)) {
		return ""
	}
	b = b[at:]
	n := bytes.IndexByte(b, 0)
	if n < 0 {
		return ""
	}
	return string(b[:n])
}

func (r *reader) abbrevs(off uint32) []abbrev {
	if a, ok := r.cache[off]; ok {
		return a
	}
	var list []abbrev
	c := &cur{b: r.abb, at: int(off)}
	if int(off) > len(r.abb) {
		c.at = len(r.abb)
	}
	for !c.bad {
		code := c.uleb()
		if code == 0 {
			break
		}
		if code != uint64(len(list))+1 {
			list = nil // only what compilers write: codes from 1 up
			break
		}
		a := abbrev{tag: uint16(c.uleb()), children: c.u8() != 0}
		for !c.bad {
			at := attr{name: uint16(c.uleb()), form: uint16(c.uleb())}
			if at.form == 0x21 {
				at.implicit = c.sleb()
			}
			if at.name == 0 && at.form == 0 {
				break
			}
			n := formSize(at.form)
			if n < 0 {
				a.fixed = -1
			} else if a.fixed >= 0 {
				a.fixed += n
			}
			a.attrs = append(a.attrs, at)
		}
		list = append(list, a)
	}
	r.cache[off] = list
	return list
}

// formSize is for addresses of 4 bytes and DWARF of 32 bits.
func formSize(form uint16) int {
	switch form {
	case 0x19, 0x21:
		return 0
	case 0x0b, 0x0c, 0x11, 0x25, 0x29:
		return 1
	case 0x05, 0x12, 0x26, 0x2a:
		return 2
	case 0x27, 0x2b:
		return 3
	case 0x01, 0x06, 0x0e, 0x10, 0x13, 0x17, 0x1c, 0x1d, 0x1f, 0x28, 0x2c:
		return 4
	case 0x07, 0x14, 0x20, 0x24:
		return 8
	case 0x1e:
		return 16
	}
	return -1
}

type value struct {
	n     uint64
	block []byte
	str   string
}

func (r *reader) value(c *cur, a attr, v *value) {
	v.block = nil
	switch a.form {
	case 0x19:
		v.n = 1
	case 0x21:
		v.n = uint64(a.implicit)
	case 0x0b, 0x0c, 0x11, 0x25, 0x29:
		v.n = uint64(c.u8())
	case 0x05, 0x12, 0x26, 0x2a:
		v.n = uint64(c.u16())
	case 0x27, 0x2b:
		v.n = uint64(c.u16())
		v.n |= uint64(c.u8()) << 16
	case 0x01, 0x06, 0x0e, 0x10, 0x13, 0x17, 0x1c, 0x1d, 0x1f, 0x28, 0x2c:
		v.n = uint64(c.u32())
	case 0x07, 0x14, 0x20, 0x24:
		v.n = uint64(c.u32())
		v.n |= uint64(c.u32()) << 32
	case 0x1e:
		c.skip(16)
	case 0x0d:
		v.n = uint64(c.sleb())
	case 0x0f, 0x15, 0x1a, 0x1b, 0x22, 0x23:
		v.n = c.uleb()
	case 0x08:
		start := c.at
		for c.u8() != 0 {
		}
		if !c.bad {
			v.str = string(c.b[start : c.at-1])
		}
	case 0x0a, 0x03, 0x04, 0x09, 0x18:
		var n uint64
		switch a.form {
		case 0x0a:
			n = uint64(c.u8())
		case 0x03:
			n = uint64(c.u16())
		case 0x04:
			n = uint64(c.u32())
		default:
			n = c.uleb()
		}
		start := c.at
		if n > uint64(len(c.b)) {
			n = uint64(len(c.b))
			c.bad = true
		}
		c.skip(int(n))
		if !c.bad {
			v.block = c.b[start:c.at]
		}
	default:
		c.bad = true
		c.at = len(c.b)
	}
}

func (r *reader) text(a attr, v *value) string {
	switch a.form {
	case 0x08:
		return v.str
	case 0x0e:
		return cstr(r.str, v.n)
	case 0x1f:
		return cstr(r.lineStr, v.n)
	}
	return ""
}

func (r *reader) readUnits() {
	for at := 0; at+11 <= len(r.info); {
		c := &cur{b: r.info, at: at}
		size := c.u32()
		if size >= 0xfffffff0 || uint64(size) > uint64(len(r.info)-c.at) {
			return
		}
		u := unit{base: uint32(at), end: uint32(c.at) + size}
		u.version = c.u16()
		var ab uint32
		if u.version >= 5 {
			ut := c.u8()
			u.addr = c.u8()
			ab = c.u32()
			_ = ut
		} else {
			ab = c.u32()
			u.addr = c.u8()
		}
		u.die = uint32(c.at)
		at = int(u.end)
		if u.version < 2 || u.version > 5 || u.addr != 4 {
			continue
		}
		u.abbrevs = r.abbrevs(ab)
		r.units = append(r.units, u)
		r.readUnit(len(r.units) - 1)
	}
}

func (r *reader) readUnit(ui int) {
	u := &r.units[ui]
	c := &cur{b: r.info[:u.end], at: int(u.die)}
	u.subs[0] = len(r.subs)
	// owner of each open list of children: the function it is in, or -1.
	var owners []int32
	owner := int32(-1)
	var v value
	for c.at < len(c.b) {
		die := c.at
		code := c.uleb()
		if code == 0 {
			if len(owners) == 0 {
				break
			}
			owner = owners[len(owners)-1]
			owners = owners[:len(owners)-1]
			continue
		}
		if code > uint64(len(u.abbrevs)) {
			break
		}
		a := &u.abbrevs[code-1]
		next := owner
		switch a.tag {
		case tagCompileUnit:
			for _, at := range a.attrs {
				r.value(c, at, &v)
				switch at.name {
				case attrName:
					u.name = r.text(at, &v)
				case attrLanguage:
					u.lang = uint16(v.n)
				case attrRanges:
					u.ranges, u.hasRanges = uint32(v.n), true
				case attrLowPC:
					u.hasLow = true
				}
			}
		case tagSubprogram:
			s := sub{unit: ui, die: uint32(die), top: -1, bottom: -1}
			var origin uint64
			for _, at := range a.attrs {
				r.value(c, at, &v)
				switch at.name {
				case attrName:
					s.name = r.text(at, &v)
				case attrLowPC:
					s.hasPC, s.low = true, uint32(v.n)
				case attrExternal:
					s.external = v.n != 0
				case attrDeclFile:
					s.file = uint32(v.n)
				case attrDeclLine:
					s.line = uint32(v.n)
				case attrType:
					s.typ = r.ref(u, at, &v)
				case attrOrigin, attrSpec:
					origin = uint64(r.ref(u, at, &v))
				case 0x20:
					s.inline = true
				case attrFrameBase:
					if len(v.block) > 1 && v.block[0] == 0xed {
						s.frame = 1
						if v.block[1] != 0 {
							s.frame = 2
						}
					}
				}
			}
			if origin != 0 && s.name == "" {
				// the entry it is an instance of, earlier or later
				if o := r.origin(u, uint32(origin)); o != nil {
					s.name, s.file, s.line, s.external, s.typ = o.name, o.file, o.line, o.external, o.typ
				}
			}
			next = int32(len(r.subs))
			r.subs = append(r.subs, s)
		case tagFormalParam, tagVariable:
			var o object
			var typ uint32
			loc := int32(-1)
			o.sub = int(owner)
			for _, at := range a.attrs {
				r.value(c, at, &v)
				switch at.name {
				case attrName:
					o.name = r.text(at, &v)
				case attrLocation:
					if len(v.block) == 5 && v.block[0] == 0x03 {
						o.addr = binary.LittleEndian.Uint32(v.block[1:])
					} else if len(v.block) > 1 && v.block[0] == 0x91 {
						lc := cur{b: v.block, at: 1}
						loc = int32(lc.sleb())
						if lc.at != len(v.block) {
							loc = -1
						}
					}
				case attrType:
					typ = r.ref(u, at, &v)
				case attrDeclFile:
					o.file = uint32(v.n)
				case attrDeclLine:
					o.line = uint32(v.n)
				case attrExternal:
					o.external = v.n != 0
				}
			}
			if owner >= 0 {
				s := &r.subs[owner]
				if a.tag == tagFormalParam && len(owners) > 0 && int(owner) >= 0 && r.directly(owners, owner) {
					s.params = append(s.params, param{typ, loc})
				}
				if loc >= 0 && s.hasPC {
					ct := r.ctype(u, typ)
					if a.tag == tagVariable && ct.size > 0 && loc < 4096 {
						if ct.class == 's' || ct.size > 8 {
							ct.size = 0
						}
						s.vars = append(s.vars, frameVar{loc, uint8(ct.size)})
					}
					if e := loc + int32(min(r.ctype(u, typ).size, 1<<20)); e > s.top {
						s.top = e
					}
					if s.bottom < 0 || loc < s.bottom {
						s.bottom = loc
					}
				}
			}
			if o.addr != 0 && a.tag == tagVariable {
				o.unit = ui
				o.size = uint32(min(r.ctype(u, typ).size, 1<<28))
				r.objects = append(r.objects, o)
			}
		case tagUnspecified:
			if owner >= 0 && r.directly(owners, owner) {
				r.subs[owner].variadic = true
			}
			fallthrough
		default:
			if a.fixed >= 0 {
				c.skip(a.fixed)
			} else {
				for _, at := range a.attrs {
					r.value(c, at, &v)
				}
			}
			switch a.tag {
			case tagInlined, 0x0b:
			case 0x15, tagStructure, tagUnion: // types within: not the function's
				next = -1
			}
		}
		if a.children {
			owners = append(owners, owner)
			owner = next
		}
	}
	u.subs[1] = len(r.subs)
}

// directly says whether the open list is the function's own.
func (r *reader) directly(owners []int32, owner int32) bool {
	return owners[len(owners)-1] != owner
}

func (r *reader) ref(u *unit, a attr, v *value) uint32 {
	switch a.form {
	case 0x11, 0x12, 0x13, 0x14, 0x15:
		return u.base + uint32(v.n)
	case 0x10:
		return uint32(v.n)
	}
	return 0
}

func (r *reader) origin(u *unit, off uint32) *sub {
	if off < u.die || off >= u.end {
		return nil
	}
	c := &cur{b: r.info[:u.end], at: int(off)}
	code := c.uleb()
	if code == 0 || code > uint64(len(u.abbrevs)) {
		return nil
	}
	a := &u.abbrevs[code-1]
	var s sub
	var v value
	for _, at := range a.attrs {
		r.value(c, at, &v)
		switch at.name {
		case attrName:
			s.name = r.text(at, &v)
		case attrDeclFile:
			s.file = uint32(v.n)
		case attrDeclLine:
			s.line = uint32(v.n)
		case attrExternal:
			s.external = v.n != 0
		case attrType:
			s.typ = r.ref(u, at, &v)
		}
	}
	return &s
}

// ctype is what the calling convention asks of a C type.
type ctype struct {
	size  uint64
	class byte // 'i', 'l', 'f', 'd', 'L' (two i64), 's' struct by pointer, 'v' none, '?' unknown
}

func (r *reader) ctype(u *unit, off uint32) ctype {
	return r.ctypeDepth(u, off, 0)
}

func (r *reader) ctypeDepth(u *unit, off uint32, depth int) ctype {
	if off == 0 {
		return ctype{0, 'v'}
	}
	if t, ok := r.types[off]; ok {
		return t
	}
	unknown := ctype{0, '?'}
	if off < u.die || off >= u.end || depth > 32 {
		return unknown
	}
	c := &cur{b: r.info[:u.end], at: int(off)}
	code := c.uleb()
	if code == 0 || code > uint64(len(u.abbrevs)) {
		return unknown
	}
	a := &u.abbrevs[code-1]
	var v value
	var size, enc uint64
	var typ uint32
	decl := false
	for _, at := range a.attrs {
		r.value(c, at, &v)
		switch at.name {
		case attrByteSize:
			size = v.n
		case attrEncoding:
			enc = v.n
		case attrType:
			typ = r.ref(u, at, &v)
		case 0x3c:
			decl = true
		}
	}
	t := unknown
	switch a.tag {
	case tagPointer, 0x10, 0x42, 0x1f:
		t = ctype{4, 'i'}
	case tagTypedef, tagConst, tagVolatile, tagRestrict, tagAtomic:
		t = r.ctypeDepth(u, typ, depth+1)
	case tagEnumeration:
		t = ctype{size, 'i'}
		if size == 8 {
			t.class = 'l'
		}
	case tagBase:
		switch {
		case enc == 0x04 && size == 4:
			t = ctype{4, 'f'}
		case enc == 0x04 && size == 8:
			t = ctype{8, 'd'}
		case size == 16:
			t = ctype{16, 'L'}
		case enc == 0x03:
			t = ctype{size, 's'}
		case size <= 4:
			t = ctype{size, 'i'}
		case size == 8:
			t = ctype{size, 'l'}
		}
	case tagArray:
		e := r.ctypeDepth(u, typ, depth+1)
		n := uint64(1)
		if a.children {
			n = r.count(u, c)
		}
		t = ctype{e.size * n, 's'}
		if n == 1 {
			t.class = e.class
		}
	case tagStructure, tagUnion:
		t = ctype{size, 's'}
		if !decl && a.children && size <= 16 {
			if e, ok := r.single(u, c, depth); ok && e.size == size {
				t.class = e.class
			}
		}
	}
	r.types[off] = t
	return t
}

func (r *reader) count(u *unit, c *cur) uint64 {
	n := uint64(1)
	var v value
	for !c.bad && c.at < len(c.b) {
		code := c.uleb()
		if code == 0 || code > uint64(len(u.abbrevs)) {
			break
		}
		a := &u.abbrevs[code-1]
		k := uint64(0)
		for _, at := range a.attrs {
			r.value(c, at, &v)
			switch at.name {
			case attrCount:
				k = v.n
			case attrUpper:
				k = v.n + 1
			}
		}
		if k > 1<<28 {
			k = 1 << 28
		}
		n = min(n*k, 1<<28)
		if a.children {
			break
		}
	}
	return n
}

// single returns the only member of a struct.
func (r *reader) single(u *unit, c *cur, depth int) (ctype, bool) {
	var e ctype
	found := 0
	var v value
	for !c.bad && c.at < len(c.b) {
		code := c.uleb()
		if code == 0 || code > uint64(len(u.abbrevs)) {
			break
		}
		a := &u.abbrevs[code-1]
		var typ uint32
		bits := false
		for _, at := range a.attrs {
			r.value(c, at, &v)
			switch at.name {
			case attrType:
				typ = r.ref(u, at, &v)
			case attrBitSize:
				bits = true
			}
		}
		if a.children {
			return e, false
		}
		if a.tag != tagMember {
			continue
		}
		if found++; found > 1 || bits {
			return e, false
		}
		e = r.ctypeDepth(u, typ, depth+1)
	}
	return e, found == 1
}
