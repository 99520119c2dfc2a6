package wasm

func decodeTags(m *Module, c *cursor) {
	first := m.imported(ExternTag)
	m.Tags = vector(c, 2, "tags", func(i int) uint32 {
		m.entries.note(idTag, c)
		t := decodeTagType(c)
		c.inItem("tag", first+i)
		return t
	})
}

func encodeTags(m *Module, dst []byte) []byte {
	if len(m.Tags) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(m.Tags)))
	for _, t := range m.Tags {
		dst = appendTagType(dst, t)
	}
	return dst
}

// decodeTagType reads a tag's type: a reserved zero, then the index of a function type.
func decodeTagType(c *cursor) uint32 {
	at := c.pos
	if b := c.byte(); b != 0 {
		c.fail(at, "%#02x isn't an attribute of a tag", b)
	}
	return c.u32()
}

func appendTagType(dst []byte, t uint32) []byte { return AppendU32(append(dst, 0), t) }
