package runtime

import (
	"fmt"

	"github.com/durun/durun/runtime/internal/symbols"
	"github.com/durun/durun/runtime/internal/wasm"
)

// Symbols resolves calls of a module to names and, where the module has DWARF, to source lines. It is for one goroutine
// at a time.
type Symbols struct {
	module   *wasm.Module
	imported uint32
	names    []string // of the name section
	named    bool     // names has any
	exported map[uint32]string
	debug    *debugInfo // nil without
	inferred []string   // once asked for
	asked    bool
}

// Location is a call in people's terms.
type Location struct {
	// Function is the function's name: in the name section, else in DWARF, else that of its import ("module.name") or
	// export, else the one that Inferred is about; "func[12]" where there is none.
	Function string
	// Inferred says that Function was found by comparing the code with DWARF that has lost its addresses, as wasm-opt
	// leaves it. It names what the code looks like, where only one function of the source does; of functions that the
	// tool has merged because they are equal, it names one. There are no lines and no inlined functions then.
	Inferred bool
	// Inlined are the functions that the compiler has inlined around the call, the innermost first. File and Line are in
	// the innermost.
	Inlined []string
	File    string // "" without line information
	Line    int    // from 1; 0 without line information
}

// NewSymbols reads the symbols of a module. Names and debug information that are damaged are left out. It returns a
// *[ModuleError] for bytes that aren't a module.
func NewSymbols(binary []byte) (*Symbols, error) {
	m, err := wasm.Decode(binary)
	if err != nil {
		return nil, &ModuleError{Msg: "not a module that durun can run", Err: err}
	}
	s := &Symbols{module: m, names: m.FunctionNames(), exported: map[uint32]string{}, debug: newDebugInfo(m, binary)}
	for i := range m.Imports {
		if m.Imports[i].Kind == wasm.ExternFunc {
			s.exported[s.imported] = m.Imports[i].Module + "." + m.Imports[i].Name
			s.imported++
		}
	}
	for _, e := range m.Exports {
		if _, ok := s.exported[e.Index]; e.Kind == wasm.ExternFunc && !ok {
			s.exported[e.Index] = e.Name
		}
	}
	for _, name := range s.names {
		s.named = s.named || name != ""
	}
	return s, nil
}

// Locate returns where the call at offset in function is; offset counts from the first byte of the function's code,
// as in [github.com/durun/durun/snapshot.Frame]. The first call for a module that has lost its names takes some tenths
// of a second for each 10 MB of it.
func (s *Symbols) Locate(function, offset uint32) Location {
	var l Location
	if i := int64(function) - int64(s.imported); s.debug != nil && i >= 0 && i < int64(len(s.module.Code)) {
		l = s.debug.locate(uint64(s.module.Code[i].FileOffset) + uint64(offset))
	}
	if name := at(s.names, function); name != "" {
		l.Function = name
	}
	if l.Function == "" {
		l.Function = s.exported[function]
	}
	if l.Function == "" {
		l.Function = at(s.inference(), function)
		l.Inferred = l.Function != ""
	}
	if l.Function == "" {
		l.Function = fmt.Sprintf("func[%d]", function)
	}
	return l
}

// inference returns the names that follow from the order of functions, nil if the module has a name section: then a
// function without a name has none.
func (s *Symbols) inference() []string {
	if !s.asked && !s.named {
		s.inferred = symbols.Infer(s.module)
	}
	s.asked = true
	return s.inferred
}

func at(names []string, function uint32) string {
	if uint64(function) < uint64(len(names)) {
		return names[function]
	}
	return ""
}
