package wasm

func decodeExports(m *Module, c *cursor) {
	m.Exports = vector(c, 3, "exports", func(i int) Export {
		m.entries.note(idExport, c)
		var e Export
		e.Name = c.name("the name")
		at := c.pos
		if e.Kind = ExternKind(c.byte()); e.Kind > ExternTag {
			c.fail(at, "%d isn't a kind of export", e.Kind)
		}
		e.Index = c.u32()
		c.inItem("export", i)
		return e
	})
}

func encodeExports(m *Module, dst []byte) []byte {
	if len(m.Exports) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(m.Exports)))
	for i := range m.Exports {
		e := &m.Exports[i]
		dst = appendName(dst, e.Name)
		dst = append(dst, byte(e.Kind))
		dst = AppendU32(dst, e.Index)
	}
	return dst
}
