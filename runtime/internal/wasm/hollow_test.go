package wasm

import (
	"bytes"
	"slices"
	"testing"
)

func TestHollow(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			m := s.module
			before := m.Encode()
			h, err := Decode(m.Hollow().Encode())
			if err != nil {
				t.Fatal(err)
			}
			if err := Validate(h); err != nil {
				t.Fatal(err)
			}
			if len(h.Code) != len(m.Code) || !slices.Equal(h.Exports, m.Exports) || !slices.Equal(h.FunctionNames(), m.FunctionNames()) {
				t.Errorf("%d functions, exports %v, names %q; want %d, %v, %q",
					len(h.Code), h.Exports, h.FunctionNames(), len(m.Code), m.Exports, m.FunctionNames())
			}
			for i := range h.Code {
				if !bytes.Equal(h.Code[i].Raw, hollowCode.Raw) {
					t.Errorf("function %d has code %x", i, h.Code[i].Raw)
				}
			}
			if !bytes.Equal(m.Encode(), before) {
				t.Error("the module itself has changed")
			}
		})
	}
}
