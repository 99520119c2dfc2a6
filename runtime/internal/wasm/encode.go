package wasm

// Encode returns the module in the binary format. The same module gives the same bytes. It writes what the model
// says, valid or not; numbers take as few bytes as they can, sections without entries are left out, and custom
// sections stand where [Custom.After] says.
func (m *Module) Encode() []byte {
	// An upper bound, nearly reached, for a module that is mostly code and data.
	size := 1 << 12
	for i := range m.Code {
		size += len(m.Code[i].Raw) + 5
	}
	for i := range m.Data {
		size += len(m.Data[i].Init) + 16
	}
	for i := range m.Customs {
		size += len(m.Customs[i].Data) + len(m.Customs[i].Name) + 16
	}
	dst := append(make([]byte, 0, size), header...)
	dst = encodeCustoms(m, dst, 0)
	var body []byte
	for i := range sections {
		s := &sections[i]
		if body = s.encode(m, body[:0]); len(body) > 0 {
			dst = append(dst, s.id)
			dst = AppendU32(dst, uint32(len(body)))
			dst = append(dst, body...)
		}
		dst = encodeCustoms(m, dst, s.id)
	}
	return dst
}

func appendName(dst []byte, s string) []byte {
	return append(AppendU32(dst, uint32(len(s))), s...)
}

func appendLimits(dst []byte, l Limits) []byte {
	var flags byte
	if l.HasMax {
		flags |= limitsMax
	}
	if l.Shared {
		flags |= limitsShared
	}
	if l.Is64 {
		flags |= limits64
	}
	dst = AppendU64(append(dst, flags), l.Min)
	if l.HasMax {
		dst = AppendU64(dst, l.Max)
	}
	return dst
}

func appendTableType(dst []byte, t TableType) []byte {
	return appendLimits(AppendValueType(dst, t.Elem), t.Limits)
}

func appendGlobalType(dst []byte, t GlobalType) []byte {
	dst = AppendValueType(dst, t.Type)
	if t.Mutable {
		return append(dst, 1)
	}
	return append(dst, 0)
}
