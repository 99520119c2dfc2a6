package instrument

import (
	"slices"

	"github.com/durun/durun/runtime/internal/wasm"
)

// Strip returns the running form without the bytes that its active data segments put into memory when it is instantiated,
// and the memory as they make it: an instance is complete once it has that memory, which can be mapped then instead of
// written. Active segments become passive, so that no index changes, and empty, so that they cost nothing.
//
// Only those that a memory.init names keep their bytes. By the specification they have been dropped by the time code
// runs, but wazero 1.12 doesn't drop them, and a program does under durun what it does there.
//
// It returns the module as it is and nil if there is nothing to strip: if it has no memory, or data segments that don't fit
// that, so that it can't be instantiated.
func (r *Running) Strip() (*wasm.Module, []byte) {
	image, ok := r.Module.InitialMemory()
	if !ok {
		return r.Module, nil
	}
	stripped := *r.Module
	stripped.Data = make([]wasm.Data, len(r.Module.Data))
	for i := range r.Module.Data {
		d := &r.Module.Data[i]
		stripped.Data[i].Mode = wasm.Passive
		if d.Mode == wasm.Passive || slices.Contains(r.initData, uint32(i)) {
			stripped.Data[i].Init = d.Init
		}
	}
	return &stripped, image
}
