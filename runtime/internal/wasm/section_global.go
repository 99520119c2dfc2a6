package wasm

func decodeGlobals(m *Module, c *cursor) {
	first := m.imported(ExternGlobal)
	m.Globals = vector(c, 3, "globals", func(i int) Global {
		m.entries.note(idGlobal, c)
		var g Global
		g.Type = c.globalType()
		g.Init = c.expr()
		c.inItem("global", first+i)
		return g
	})
}

func encodeGlobals(m *Module, dst []byte) []byte {
	if len(m.Globals) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(m.Globals)))
	for i := range m.Globals {
		dst = appendGlobalType(dst, m.Globals[i].Type)
		dst = append(dst, m.Globals[i].Init...)
	}
	return dst
}
