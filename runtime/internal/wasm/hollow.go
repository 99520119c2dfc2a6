package wasm

// hollowCode is a function without locals that traps. It is valid for any type.
var hollowCode = Code{Raw: []byte{0, byte(OpUnreachable), byte(OpEnd)}, BodyOffset: 1}

// Hollow returns m with functions that do nothing but trap, and of the custom sections the names alone. It says all that
// others have to know of a module to link to it, in a few bytes a function.
func (m *Module) Hollow() *Module {
	h := *m
	h.Code = make([]Code, len(m.Code))
	for i := range h.Code {
		h.Code[i] = hollowCode
	}
	h.Customs = nil
	for i := range m.Customs {
		if m.Customs[i].Name == "name" {
			h.Customs = append(h.Customs, m.Customs[i])
		}
	}
	return &h
}
