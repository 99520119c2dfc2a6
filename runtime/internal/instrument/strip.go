package instrument

import (
	"github.com/durun/durun/runtime/internal/wasm"
)

// Strip returns a running form without the bytes that its active data segments put into memory when it is instantiated,
// and the memory as they make it: an instance is complete once it has that memory, which can be mapped then instead of
// written. Each such segment becomes an empty passive one, so that no index changes. To code that is the same: an active
// segment is dropped when it has been copied, and a dropped one is as good as an empty one. (wazero 1.12 forgets to drop it.)
//
// It returns m itself and nil if there is nothing to strip: if m has no memory, or data segments that don't fit it, so that it
// can't be instantiated.
func Strip(m *wasm.Module) (*wasm.Module, []byte) {
	image, ok := m.InitialMemory()
	if !ok {
		return m, nil
	}
	stripped := *m
	stripped.Data = make([]wasm.Data, len(m.Data))
	for i := range m.Data {
		if m.Data[i].Mode == wasm.Active {
			stripped.Data[i].Mode = wasm.Passive
		} else {
			stripped.Data[i] = m.Data[i]
		}
	}
	return &stripped, image
}
