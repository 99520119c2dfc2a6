package wasm

import "math"

// NewCode returns the code of a function with the given locals and body, which ends with the end opcode.
func NewCode(locals []LocalGroup, body []byte) Code {
	raw := make([]byte, 0, len(body)+4*len(locals)+5)
	raw = AppendU32(raw, uint32(len(locals)))
	for _, g := range locals {
		raw = AppendValueType(AppendU32(raw, g.Count), g.Type)
	}
	start := len(raw)
	return Code{Raw: append(raw, body...), Locals: locals, BodyOffset: start}
}

func decodeCode(m *Module, c *cursor) {
	first := m.imported(ExternFunc)
	m.Code = vector(c, 2, "functions", func(i int) Code {
		size := c.u32()
		code := Code{FileOffset: c.pos}
		code.Raw = c.bytes(size)
		if c.err == nil {
			body := cursor{data: c.data[:c.pos], pos: code.FileOffset, section: c.section}
			code.Locals = decodeLocals(&body)
			code.BodyOffset = body.pos - code.FileOffset
			c.err = body.err
		}
		c.inItem("function", first+i)
		return code
	})
}

func decodeLocals(c *cursor) []LocalGroup {
	var sum uint64
	return vector(c, 2, "groups of locals", func(int) LocalGroup {
		at := c.pos
		g := LocalGroup{Count: c.u32(), Type: c.valueType()}
		if sum += uint64(g.Count); sum > math.MaxUint32 {
			c.fail(at, "too many locals: %d", sum)
		}
		return g
	})
}

func encodeCode(m *Module, dst []byte) []byte {
	if len(m.Code) == 0 {
		return dst
	}
	dst = AppendU32(dst, uint32(len(m.Code)))
	for i := range m.Code {
		dst = AppendU32(dst, uint32(len(m.Code[i].Raw)))
		dst = append(dst, m.Code[i].Raw...)
	}
	return dst
}
