package runtime

import (
	"bytes"
	"debug/dwarf"
	"encoding/binary"
	"io"
	"slices"
	"strings"

	"github.com/durun/durun/runtime/internal/symbols"
	"github.com/durun/durun/runtime/internal/wasm"
)

// Limits on damaged debug information, far above what compilers write.
const (
	debugMinUnit       = 11      // bytes of a unit: its header in DWARF 4
	debugMaxUnits      = 1 << 17 //
	debugMaxAttributes = 128     // of one abbreviation
	debugMaxText       = 1 << 16 // bytes of a string
	debugMaxHops       = 4       // from an entry to the one that has its name
	debugTextWork      = 64      // bytes of strings that are as much work as an entry
	debugWork          = 1 << 23 // entries, ranges and lines read, for all calls of Locate
)

// debugInfo is a module's DWARF, read by address. It reads a unit when a call is in it, and keeps what it has read.
type debugInfo struct {
	data     *dwarf.Data
	sections symbols.LineSections
	base     int            // where addresses count from: the first byte of the code section's contents
	heads    []dwarf.Offset // of the units' first entries
	units    []debugRange
	ready    bool // units has been read
	read     map[*dwarf.Entry]*debugUnit
	work     int // what may still be read
}

// debugRange is that addresses from low to high are of an entry.
type debugRange struct {
	low, high uint64
	entry     *dwarf.Entry
}

// debugUnit is what is kept of a unit.
type debugUnit struct {
	functions []debugRange
	lines     *symbols.LineTable
}

// newDebugInfo returns nil for a module without debug information that can be read.
func newDebugInfo(m *wasm.Module, module []byte) *debugInfo {
	sections := map[string][]byte{}
	for _, c := range m.Customs {
		if strings.HasPrefix(c.Name, ".debug_") {
			sections[c.Name] = c.Data
		}
	}
	base, ok := codeSection(module)
	if !ok || sections[".debug_info"] == nil {
		return nil
	}
	heads, ok := unitHeads(sections[".debug_info"], sections[".debug_abbrev"])
	if !ok || longText(sections[".debug_str"]) || longText(sections[".debug_line_str"]) {
		return nil
	}
	return guarded(func() *debugInfo {
		data, err := dwarf.New(sections[".debug_abbrev"], nil, nil, sections[".debug_info"], nil, nil,
			sections[".debug_ranges"], sections[".debug_str"])
		if err != nil {
			return nil
		}
		for _, name := range []string{".debug_line_str", ".debug_addr", ".debug_str_offsets", ".debug_rnglists"} {
			if section, ok := sections[name]; ok && data.AddSection(name, section) != nil {
				return nil
			}
		}
		lines := symbols.LineSections{
			Line: sections[".debug_line"], Str: sections[".debug_str"], LineStr: sections[".debug_line_str"],
		}
		return &debugInfo{
			data: data, sections: lines, base: base, heads: heads,
			read: map[*dwarf.Entry]*debugUnit{}, work: debugWork,
		}
	})
}

// codeSection returns where the contents of a module's code section start.
func codeSection(module []byte) (int, bool) {
	const header, code = 8, 10
	for at := header; at < len(module); {
		id := module[at]
		size, n := binary.Uvarint(module[at+1:])
		if n <= 0 {
			return 0, false
		}
		at += 1 + n
		if id == code {
			return at, true
		}
		if size > uint64(len(module)-at) {
			return 0, false
		}
		at += int(size)
	}
	return 0, false
}

// unitHeads returns where the first entries of the units in .debug_info are; debug/dwarf finds them only by reading all
// entries before them. It returns false for units, or abbreviations of theirs, that take debug/dwarf much more memory
// than they have bytes.
func unitHeads(info, abbrev []byte) ([]dwarf.Offset, bool) {
	var heads []dwarf.Offset
	tables := map[uint32]bool{}
	left := 4*len(abbrev) + 1 // bytes of abbreviations, of which tables may share some
	for at := 0; at < len(info); {
		if len(info)-at < debugMinUnit || len(heads) == debugMaxUnits {
			return nil, false
		}
		size := uint64(binary.LittleEndian.Uint32(info[at:]))
		if size < debugMinUnit-4 || size > uint64(len(info)-at-4) {
			return nil, false // damaged, or the format of 64 bits, which nobody writes for wasm
		}
		head, table := 11, at+6
		if version := binary.LittleEndian.Uint16(info[at+4:]); version >= 5 {
			head, table = 12, at+8
			if len(info)-at < head {
				return nil, false
			}
		}
		if offset := binary.LittleEndian.Uint32(info[table:]); !tables[offset] {
			tables[offset] = true
			n, ok := abbreviationTable(abbrev, offset)
			if left -= n; !ok || left < 0 {
				return nil, false
			}
		}
		heads = append(heads, dwarf.Offset(at+head))
		at += 4 + int(size)
	}
	return heads, true
}

// abbreviationTable returns the size of the table at an offset of .debug_abbrev, and whether it is one that a compiler
// may have written. An entry takes a byte in the file if its attributes take none, and much more in memory.
func abbreviationTable(abbrev []byte, offset uint32) (size int, ok bool) {
	at := int(min(uint64(offset), uint64(len(abbrev))))
	number := func() uint64 {
		v, n := binary.Uvarint(abbrev[at:])
		if n <= 0 {
			n = len(abbrev) - at
		}
		at += n
		return v
	}
	const implicit = 0x21 // DW_FORM_implicit_const has its value here
	for at < len(abbrev) && number() != 0 {
		number()
		at++ // whether it has children
		for n := 0; ; n++ {
			if at >= len(abbrev) || n > debugMaxAttributes {
				return 0, false
			}
			name, form := number(), number()
			if name == 0 && form == 0 {
				break
			}
			if form == implicit {
				number()
			}
		}
	}
	return at - int(offset), at <= len(abbrev)
}

// longText says whether a section has a string that is absurdly long: debug/dwarf copies it for each entry that has it.
func longText(section []byte) bool {
	for len(section) > debugMaxText {
		n := bytes.LastIndexByte(section[:debugMaxText], 0)
		if n < 0 {
			return true
		}
		section = section[n+1:]
	}
	return false
}

// guarded returns what do does, or nil if it panics: debug/dwarf isn't hardened against damage.
func guarded[T any](do func() *T) (result *T) {
	defer func() {
		if recover() != nil {
			result = nil
		}
	}()
	return do()
}

// locate returns what is known of the address, an offset in the module.
func (d *debugInfo) locate(offset uint64) Location {
	l := guarded(func() *Location {
		var l Location
		pc := offset - uint64(d.base)
		u := d.unit(pc)
		if u == nil {
			return &l
		}
		l.File, l.Line = u.lines.Find(pc)
		for _, f := range u.functions {
			if f.low <= pc && pc < f.high {
				l.Function, l.Inlined = d.name(f.entry, 0), d.inlined(f.entry, pc)
				if l.Function == unknownName {
					l.Function = ""
				}
				break
			}
		}
		return &l
	})
	if l == nil {
		return Location{}
	}
	return *l
}

// unit returns the unit at pc, or nil.
func (d *debugInfo) unit(pc uint64) *debugUnit {
	if !d.ready {
		d.ready = true
		for _, head := range d.heads {
			r := d.data.Reader()
			r.Seek(head)
			if e, err := d.next(r); err == nil && e.Tag == dwarf.TagCompileUnit {
				d.units = d.ranges(d.units, e)
			}
		}
	}
	for _, u := range d.units {
		if u.low > pc || pc >= u.high {
			continue
		}
		known, ok := d.read[u.entry]
		if !ok {
			known = &debugUnit{lines: d.lines(u.entry), functions: d.functions(u.entry)}
			d.read[u.entry] = known
		}
		return known
	}
	return nil
}

// next returns the reader's next entry.
func (d *debugInfo) next(r *dwarf.Reader) (*dwarf.Entry, error) {
	if !d.spend(1) {
		return nil, io.EOF
	}
	e, err := r.Next()
	if e == nil && err == nil {
		err = io.EOF
	}
	if err != nil {
		return nil, err
	}
	for i := range e.Field {
		if text, ok := e.Field[i].Val.(string); ok {
			d.spend(len(text) / debugTextWork)
		}
	}
	return e, nil
}

// spend says whether n more may be read.
func (d *debugInfo) spend(n int) bool {
	d.work -= n
	return d.work >= 0
}

// ranges appends the addresses of an entry.
func (d *debugInfo) ranges(list []debugRange, e *dwarf.Entry) []debugRange {
	if !d.spend(1) {
		return list
	}
	ranges, err := d.data.Ranges(e)
	if err != nil || !d.spend(len(ranges)) {
		return list
	}
	for _, r := range ranges {
		list = append(list, debugRange{r[0], r[1], e})
	}
	return list
}

// lines returns the unit's line table.
func (d *debugInfo) lines(unit *dwarf.Entry) *symbols.LineTable {
	offset, ok := unit.Val(dwarf.AttrStmtList).(int64)
	if !ok {
		offset = -1
	}
	folder, _ := unit.Val(dwarf.AttrCompDir).(string)
	if d.work < 0 {
		offset = -1
	}
	t := symbols.ReadLines(d.sections, offset, folder)
	d.spend(t.Work)
	return t
}

// functions returns the unit's functions that have code.
func (d *debugInfo) functions(unit *dwarf.Entry) []debugRange {
	r := d.data.Reader()
	r.Seek(unit.Offset)
	var list []debugRange
	for depth := 0; ; {
		e, err := d.next(r)
		if err != nil {
			return list
		}
		enter := false
		switch e.Tag {
		case 0:
			if depth--; depth <= 0 {
				return list
			}
			continue
		case dwarf.TagCompileUnit, dwarf.TagNamespace:
			enter = true
		case dwarf.TagSubprogram:
			list = d.ranges(list, e)
		}
		switch {
		case !e.Children:
		case enter:
			depth++
		default:
			d.skip(r, e)
		}
	}
}

// skip moves r past the children of e.
func (d *debugInfo) skip(r *dwarf.Reader, e *dwarf.Entry) {
	if e.Val(dwarf.AttrSibling) != nil {
		r.SkipChildren()
		return
	}
	for depth := 1; depth > 0; {
		child, err := d.next(r)
		switch {
		case err != nil:
			return
		case child.Tag == 0:
			depth--
		case child.Children:
			depth++
		}
	}
}

// inlined returns the functions inlined at pc in a function, the innermost first.
func (d *debugInfo) inlined(function *dwarf.Entry, pc uint64) []string {
	if !function.Children {
		return nil
	}
	var names []string
	r := d.data.Reader()
	r.Seek(function.Offset)
	if _, err := d.next(r); err != nil {
		return nil
	}
	for depth := 1; depth > 0; {
		e, err := d.next(r)
		if err != nil {
			break
		}
		enter := false
		switch e.Tag {
		case 0:
			depth--
			continue
		case dwarf.TagInlinedSubroutine:
			if enter = d.covers(e, pc); enter {
				names = append(names, d.name(e, 0))
			}
		case dwarf.TagLexDwarfBlock:
			enter = true
		}
		switch {
		case !e.Children:
		case enter:
			depth++
		default:
			d.skip(r, e)
		}
	}
	slices.Reverse(names)
	return names
}

func (d *debugInfo) covers(e *dwarf.Entry, pc uint64) bool {
	return slices.ContainsFunc(d.ranges(nil, e), func(r debugRange) bool { return r.low <= pc && pc < r.high })
}

// unknownName stands for the name of an inlined function that has none.
const unknownName = "?"

// name returns the name of a function's entry, which may stand in the one that it is an instance of.
func (d *debugInfo) name(e *dwarf.Entry, hops int) string {
	if n, ok := e.Val(dwarf.AttrName).(string); ok {
		return n
	}
	for _, a := range []dwarf.Attr{dwarf.AttrAbstractOrigin, dwarf.AttrSpecification} {
		if at, ok := e.Val(a).(dwarf.Offset); ok && hops < debugMaxHops {
			r := d.data.Reader()
			r.Seek(at)
			if o, err := d.next(r); err == nil {
				return d.name(o, hops+1)
			}
		}
	}
	return unknownName
}
