package wasm

import "strings"

// The subsections of the custom section "name".
const (
	namesModule    = 0
	namesFunctions = 1
	namesLocals    = 2
)

// Names holds the names that a module's custom section "name" gives, for people to read. They have no meaning, and
// producers get the section wrong; what can't be read is left out.
type Names struct {
	Module    string
	Functions []string // by function index; "" where there is none
	locals    []byte   // the contents of the subsection
}

// Names decodes the names. It returns empty ones if the module has none.
func (m *Module) Names() *Names {
	n := &Names{Functions: make([]string, m.imported(ExternFunc)+len(m.Functions))}
	for i := range m.Customs {
		if m.Customs[i].Name == "name" {
			n.decode(m.Customs[i].Data)
			break
		}
	}
	return n
}

// FunctionNames returns the functions' names by index, "" where there is none.
func (m *Module) FunctionNames() []string { return m.Names().Functions }

func (n *Names) decode(data []byte) {
	c := &cursor{data: data}
	for c.err == nil && c.left() > 0 {
		id := c.byte()
		size := c.u32()
		// A subsection that claims too much is read as far as it goes.
		body := c.bytes(min(size, uint32(c.left())))
		sub := &cursor{data: body}
		switch id {
		case namesModule:
			n.Module = looseName(sub)
		case namesFunctions:
			for count := sub.u32(); count > 0 && sub.err == nil; count-- {
				i := sub.u32()
				if name := looseName(sub); sub.err == nil && uint64(i) < uint64(len(n.Functions)) {
					n.Functions[i] = name
				}
			}
		case namesLocals:
			n.locals = body
		}
	}
}

// Locals returns the names of a function's locals by index, nil if it has none. It decodes them anew each time.
func (n *Names) Locals(function uint32) map[uint32]string {
	c := &cursor{data: n.locals}
	for count := c.u32(); count > 0 && c.err == nil; count-- {
		found := c.u32() == function
		var names map[uint32]string
		for k := c.u32(); k > 0 && c.err == nil; k-- {
			i := c.u32()
			if !found {
				c.bytes(c.u32())
				continue
			}
			if name := looseName(c); c.err == nil {
				if names == nil {
					names = map[uint32]string{}
				}
				names[i] = name
			}
		}
		if found {
			return names
		}
	}
	return nil
}

// looseName reads a name, and replaces what isn't UTF-8.
func looseName(c *cursor) string { return strings.ToValidUTF8(string(c.bytes(c.u32())), "\ufffd") }
