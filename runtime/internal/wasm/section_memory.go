package wasm

func decodeMemories(m *Module, c *cursor) {
	first := m.imported(ExternMemory)
	m.Memories = vector(c, 2, "memories", func(i int) Limits {
		m.entries.note(idMemory, c)
		l := c.limits()
		c.inItem("memory", first+i)
		return l
	})
}

func encodeMemories(m *Module, dst []byte) []byte {
	if len(m.Memories) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(m.Memories)))
	for _, l := range m.Memories {
		dst = appendLimits(dst, l)
	}
	return dst
}
