package runtime

import (
	"debug/dwarf"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/durun/durun/runtime/internal/wasm"
)

// Symbols resolves calls of a module to names and, where the module has DWARF, to source lines. It is for one goroutine
// at a time.
type Symbols struct {
	module    *wasm.Module
	imported  uint32
	names     []string
	dwarf     *dwarf.Data // nil without
	codeStart int         // where DWARF's addresses count from: the first byte of the code section's contents
}

// Location is a call in people's terms.
type Location struct {
	// Function is the function's name in the name section, else in DWARF; "func[12]" where neither has one.
	Function string
	// Inlined are the functions that the compiler has inlined around the call, the innermost first. File and Line are in
	// the innermost.
	Inlined []string
	File     string // "" without line information
	Line     int    // from 1; 0 without line information
}

// NewSymbols reads the symbols of a module. Names and debug information that are damaged are left out. It returns a
// *[ModuleError] for bytes that aren't a module.
func NewSymbols(binary []byte) (*Symbols, error) {
	m, err := wasm.Decode(binary)
	if err != nil {
		return nil, &ModuleError{Msg: "not a module that durun can run", Err: err}
	}
	s := &Symbols{module: m, names: m.FunctionNames()}
	for i := range m.Imports {
		if m.Imports[i].Kind == wasm.ExternFunc {
			s.imported++
		}
	}
	sections := map[string][]byte{}
	for _, c := range m.Customs {
		if strings.HasPrefix(c.Name, ".debug_") {
			sections[c.Name] = c.Data
		}
	}
	if start, ok := codeSection(binary); ok && sections[".debug_info"] != nil {
		s.codeStart = start
		s.dwarf = readDWARF(sections)
	}
	return s, nil
}

// readDWARF returns nil for debug information that can't be read.
func readDWARF(sections map[string][]byte) *dwarf.Data {
	d, err := dwarf.New(sections[".debug_abbrev"], nil, nil, sections[".debug_info"], sections[".debug_line"], nil,
		sections[".debug_ranges"], sections[".debug_str"])
	if err != nil {
		return nil
	}
	for _, name := range []string{".debug_line_str", ".debug_addr", ".debug_str_offsets", ".debug_rnglists", ".debug_types"} {
		if data, ok := sections[name]; ok {
			if err := d.AddSection(name, data); err != nil {
				return nil
			}
		}
	}
	return d
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

// Locate returns where the call at offset in function is; offset counts from the first byte of the function's code,
// as in [github.com/durun/durun/snapshot.Frame].
func (s *Symbols) Locate(function, offset uint32) Location {
	l := Location{Function: fmt.Sprintf("func[%d]", function)}
	named := uint64(function) < uint64(len(s.names)) && s.names[function] != ""
	if named {
		l.Function = s.names[function]
	}
	i := int64(function) - int64(s.imported)
	if s.dwarf == nil || i < 0 || i >= int64(len(s.module.Code)) {
		return l
	}
	pc := uint64(s.module.Code[i].FileOffset-s.codeStart) + uint64(offset)
	unit, err := s.dwarf.Reader().SeekPC(pc)
	if err != nil {
		return l
	}
	l.File, l.Line = s.line(unit, pc)
	name, inlined := s.subprogram(unit, pc)
	l.Inlined = inlined
	if !named && name != "" {
		l.Function = name
	}
	return l
}

func (s *Symbols) line(unit *dwarf.Entry, pc uint64) (file string, line int) {
	r, err := s.dwarf.LineReader(unit)
	if err != nil || r == nil {
		return "", 0
	}
	var e dwarf.LineEntry
	if err := r.SeekPC(pc, &e); err != nil || e.File == nil {
		return "", 0
	}
	return e.File.Name, e.Line
}

// subprogram returns the name of the unit's function at pc, and the functions inlined in it there, the innermost first.
func (s *Symbols) subprogram(unit *dwarf.Entry, pc uint64) (name string, inlined []string) {
	r := s.dwarf.Reader()
	r.Seek(unit.Offset)
	if _, err := r.Next(); err != nil {
		return "", nil
	}
	for depth := 0; ; {
		e, err := r.Next()
		if err != nil || e == nil {
			return name, inlined
		}
		if e.Tag == 0 {
			// The end of a list of children; once inside the function, of its.
			if depth--; depth < 0 || depth == 0 && name != "" {
				return name, inlined
			}
			continue
		}
		enter := e.Children
		switch e.Tag {
		case dwarf.TagSubprogram:
			if !s.covers(e, pc) {
				enter = false
			} else {
				name = s.name(e, 0)
			}
		case dwarf.TagInlinedSubroutine:
			if !s.covers(e, pc) {
				enter = false
			} else {
				inlined = append([]string{s.name(e, 0)}, inlined...)
			}
		case dwarf.TagLexDwarfBlock, dwarf.TagNamespace:
		default:
			enter = false
		}
		switch {
		case enter:
			depth++
		case e.Children:
			r.SkipChildren()
		}
	}
}

func (s *Symbols) covers(e *dwarf.Entry, pc uint64) bool {
	ranges, err := s.dwarf.Ranges(e)
	if err != nil {
		return false
	}
	for _, r := range ranges {
		if r[0] <= pc && pc < r[1] {
			return true
		}
	}
	return false
}

// name returns the name of a function's entry, which may stand in the one that it is an instance of.
func (s *Symbols) name(e *dwarf.Entry, hops int) string {
	if n, ok := e.Val(dwarf.AttrName).(string); ok {
		return n
	}
	const maxHops = 4 // damaged references may go in a circle
	for _, a := range []dwarf.Attr{dwarf.AttrAbstractOrigin, dwarf.AttrSpecification} {
		if off, ok := e.Val(a).(dwarf.Offset); ok && hops < maxHops {
			r := s.dwarf.Reader()
			r.Seek(off)
			if o, err := r.Next(); err == nil && o != nil {
				return s.name(o, hops+1)
			}
		}
	}
	return "?"
}
