package wasm

func decodeCustom(m *Module, c *cursor, after byte) {
	name := c.name("its name")
	m.Customs = append(m.Customs, Custom{Name: name, Data: c.bytes(uint32(c.left())), After: after})
}

// encodeCustoms appends the custom sections that stand after the section with the given id.
func encodeCustoms(m *Module, dst []byte, after byte) []byte {
	for i := range m.Customs {
		s := &m.Customs[i]
		if s.After != after {
			continue
		}
		body := appendName(nil, s.Name)
		dst = append(dst, idCustom)
		dst = AppendU32(dst, uint32(len(body)+len(s.Data)))
		dst = append(dst, body...)
		dst = append(dst, s.Data...)
	}
	return dst
}
