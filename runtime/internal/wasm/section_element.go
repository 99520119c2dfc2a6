package wasm

// The bits of an element segment's kind.
const (
	elementNotActive = 1 // passive, or declarative if elementExplicit is set too
	elementExplicit  = 2 // of an active segment: the table is given, and the type of its elements
	elementExprs     = 4 // the elements are constant expressions, not function indices
)

func decodeElements(m *Module, c *cursor) {
	m.Elements = vector(c, 3, "segments", func(i int) Element {
		m.entries.note(idElement, c)
		e := decodeElement(c)
		c.inItem("segment", i)
		return e
	})
}

func decodeElement(c *cursor) (e Element) {
	at := c.pos
	e.Flags = c.u32()
	if e.Flags > elementNotActive|elementExplicit|elementExprs {
		c.fail(at, "%d isn't a kind of segment", e.Flags)
		return e
	}
	exprs := e.Flags&elementExprs != 0
	switch {
	case e.Flags&elementNotActive == 0:
		e.Mode = Active
		if e.Flags&elementExplicit != 0 {
			e.Table = c.u32()
		}
		e.Offset = c.expr()
	case e.Flags&elementExplicit == 0:
		e.Mode = Passive
	default:
		e.Mode = Declarative
	}
	e.Type = RefType(HeapFunc, exprs)
	if e.Flags&(elementNotActive|elementExplicit) != 0 {
		at := c.pos
		if exprs {
			e.Type = c.refType()
		} else if kind := c.byte(); kind != 0 {
			c.fail(at, "%#02x isn't a kind of elements", kind)
		}
	}
	if exprs {
		e.Exprs = vector(c, 1, "elements", func(int) Expr { return c.expr() })
	} else {
		e.Funcs = vector(c, 1, "elements", func(int) uint32 { return c.u32() })
	}
	return e
}

func encodeElements(m *Module, dst []byte) []byte {
	if len(m.Elements) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(m.Elements)))
	for i := range m.Elements {
		e := &m.Elements[i]
		flags := e.kind()
		dst = AppendU32(dst, flags)
		if e.Mode == Active {
			if flags&elementExplicit != 0 {
				dst = AppendU32(dst, e.Table)
			}
			dst = append(dst, e.Offset...)
		}
		exprs := flags&elementExprs != 0
		if flags&(elementNotActive|elementExplicit) != 0 {
			if exprs {
				dst = AppendValueType(dst, e.Type)
			} else {
				dst = append(dst, 0)
			}
		}
		if !exprs {
			dst = AppendU32(dst, uint32(len(e.Funcs)))
			for _, f := range e.Funcs {
				dst = AppendU32(dst, f)
			}
			continue
		}
		dst = AppendU32(dst, uint32(len(e.Exprs)))
		for _, x := range e.Exprs {
			dst = append(dst, x...)
		}
	}
	return dst
}

// kind returns the segment's kind field. It follows from the other fields, but for whether an active segment gives
// the table where it needn't.
func (e *Element) kind() uint32 {
	var flags uint32
	if e.Exprs != nil {
		flags |= elementExprs
	}
	switch {
	case e.Mode == Passive:
		flags |= elementNotActive
	case e.Mode == Declarative:
		flags |= elementNotActive | elementExplicit
	case e.Table != 0 || e.Exprs != nil && e.Type != FuncRef || e.Flags&(elementNotActive|elementExplicit) == elementExplicit:
		flags |= elementExplicit
	}
	return flags
}
