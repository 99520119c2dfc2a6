package wasm

func decodeImports(m *Module, c *cursor) {
	m.Imports = vector(c, 4, "imports", func(i int) Import {
		m.entries.note(idImport, c)
		var im Import
		im.Module = c.name("the module name")
		im.Name = c.name("the name")
		at := c.pos
		im.Kind = ExternKind(c.byte())
		switch im.Kind {
		case ExternFunc:
			im.Type = c.u32()
		case ExternTable:
			im.Table = c.tableType()
		case ExternMemory:
			im.Memory = c.limits()
		case ExternGlobal:
			im.Global = c.globalType()
		case ExternTag:
			im.Type = decodeTagType(c)
		default:
			c.fail(at, "%d isn't a kind of import", im.Kind)
		}
		c.inItem("import", i)
		return im
	})
}

func encodeImports(m *Module, dst []byte) []byte {
	if len(m.Imports) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(m.Imports)))
	for i := range m.Imports {
		im := &m.Imports[i]
		dst = appendName(dst, im.Module)
		dst = appendName(dst, im.Name)
		dst = append(dst, byte(im.Kind))
		switch im.Kind {
		case ExternFunc:
			dst = AppendU32(dst, im.Type)
		case ExternTable:
			dst = appendTableType(dst, im.Table)
		case ExternMemory:
			dst = appendLimits(dst, im.Memory)
		case ExternGlobal:
			dst = appendGlobalType(dst, im.Global)
		case ExternTag:
			dst = appendTagType(dst, im.Type)
		}
	}
	return dst
}

// imported returns how many of the imports are of a kind, which is where the index space of those defined starts.
func (m *Module) imported(kind ExternKind) int {
	n := 0
	for i := range m.Imports {
		if m.Imports[i].Kind == kind {
			n++
		}
	}
	return n
}
