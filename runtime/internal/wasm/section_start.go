package wasm

func decodeStart(m *Module, c *cursor) {
	m.entries.note(idStart, c)
	i := c.u32()
	m.Start = &i
}

func encodeStart(m *Module, dst []byte) []byte {
	if m.Start == nil {
		return dst
	}
	return AppendU32(dst, *m.Start)
}
