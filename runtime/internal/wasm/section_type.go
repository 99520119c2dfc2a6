package wasm

const (
	codeFuncType  = 0x60
	codeRecursive = 0x4e // a recursion group
)

func decodeTypes(m *Module, c *cursor) {
	n := c.count(2, "types")
	for i := 0; i < n && c.err == nil; i++ {
		if c.left() == 0 || c.data[c.pos] != codeRecursive {
			decodeType(m, c, 0, 0)
			continue
		}
		c.pos++
		size := c.count(3, "types of a recursion group")
		for k := 0; k < size && c.err == nil; k++ {
			decodeType(m, c, uint32(size), uint32(k))
		}
	}
}

func decodeType(m *Module, c *cursor, group, index uint32) {
	defer c.inItem("type", len(m.Types))
	m.entries.note(idType, c)
	at := c.pos
	switch form := c.byte(); form {
	case codeFuncType:
	case 0x4f, 0x50, 0x5e, 0x5f:
		c.failWith(at, unsupported("garbage collection (struct, array and sub types)"))
	default:
		c.fail(at, "%#02x isn't the start of a function type", form)
	}
	params := decodeValueTypes(c)
	results := decodeValueTypes(c)
	m.Types = append(m.Types, FuncType{Params: params, Results: results, Group: group, GroupIndex: index})
}

func decodeValueTypes(c *cursor) []ValueType {
	return vector(c, 1, "types", func(int) ValueType { return c.valueType() })
}

func encodeTypes(m *Module, dst []byte) []byte {
	if len(m.Types) == 0 {
		return dst
	}
	n := 0 // a recursion group counts as one
	for i := range m.Types {
		if m.Types[i].GroupIndex == 0 {
			n++
		}
	}
	dst = AppendU32(dst, uint32(n))
	for i := range m.Types {
		t := &m.Types[i]
		if t.Group > 0 && t.GroupIndex == 0 {
			dst = append(dst, codeRecursive)
			dst = AppendU32(dst, t.Group)
		}
		dst = append(dst, codeFuncType)
		for _, list := range [...][]ValueType{t.Params, t.Results} {
			dst = AppendU32(dst, uint32(len(list)))
			for _, v := range list {
				dst = AppendValueType(dst, v)
			}
		}
	}
	return dst
}
