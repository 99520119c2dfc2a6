package wasm

func decodeFunctions(m *Module, c *cursor) {
	m.Functions = vector(c, 1, "functions", func(int) uint32 {
		m.entries.note(idFunction, c)
		return c.u32()
	})
}

func encodeFunctions(m *Module, dst []byte) []byte { return appendIndices(dst, m.Functions) }

// appendIndices appends a vector of indices, or nothing if there are none.
func appendIndices(dst []byte, indices []uint32) []byte {
	if len(indices) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(indices)))
	for _, i := range indices {
		dst = AppendU32(dst, i)
	}
	return dst
}
