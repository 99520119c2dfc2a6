package wasm

// codeTableInit starts a table with an initial value, together with the zero byte that follows it.
const codeTableInit = 0x40

func decodeTables(m *Module, c *cursor) {
	first := m.imported(ExternTable)
	m.Tables = vector(c, 3, "tables", func(i int) Table {
		m.entries.note(idTable, c)
		var t Table
		if c.left() > 0 && c.data[c.pos] == codeTableInit {
			c.pos++
			at := c.pos
			if b := c.byte(); b != 0 {
				c.fail(at, "%#02x where a reserved zero is wanted", b)
			}
			t.Type = c.tableType()
			t.Init = c.expr()
		} else {
			t.Type = c.tableType()
		}
		c.inItem("table", first+i)
		return t
	})
}

func encodeTables(m *Module, dst []byte) []byte {
	if len(m.Tables) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(m.Tables)))
	for i := range m.Tables {
		t := &m.Tables[i]
		if t.Init != nil {
			dst = append(dst, codeTableInit, 0)
		}
		dst = appendTableType(dst, t.Type)
		dst = append(dst, t.Init...)
	}
	return dst
}
