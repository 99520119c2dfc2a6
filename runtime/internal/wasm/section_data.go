package wasm

// The kinds of data segments.
const (
	dataActive   = 0 // in memory 0
	dataPassive  = 1
	dataExplicit = 2 // active, the memory is given
)

func decodeData(m *Module, c *cursor) {
	m.Data = vector(c, 2, "segments", func(i int) Data {
		m.entries.note(idData, c)
		var d Data
		at := c.pos
		d.Flags = c.u32()
		switch d.Flags {
		case dataExplicit:
			d.Memory = c.u32()
			fallthrough
		case dataActive:
			d.Offset = c.expr()
		case dataPassive:
			d.Mode = Passive
		default:
			c.fail(at, "%d isn't a kind of segment", d.Flags)
		}
		d.Init = c.bytes(c.u32())
		c.inItem("segment", i)
		return d
	})
}

func encodeData(m *Module, dst []byte) []byte {
	if len(m.Data) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(m.Data)))
	for i := range m.Data {
		d := &m.Data[i]
		switch {
		case d.Mode == Passive:
			dst = AppendU32(dst, dataPassive)
		case d.Memory != 0 || d.Flags == dataExplicit:
			dst = AppendU32(dst, dataExplicit)
			dst = AppendU32(dst, d.Memory)
		default:
			dst = AppendU32(dst, dataActive)
		}
		if d.Mode != Passive {
			dst = append(dst, d.Offset...)
		}
		dst = AppendU32(dst, uint32(len(d.Init)))
		dst = append(dst, d.Init...)
	}
	return dst
}

func decodeDataCount(m *Module, c *cursor) {
	m.entries.note(idDataCount, c)
	n := c.u32()
	m.DataCount = &n
}

func encodeDataCount(m *Module, dst []byte) []byte {
	if m.DataCount == nil {
		return dst
	}
	return AppendU32(dst, *m.DataCount)
}
