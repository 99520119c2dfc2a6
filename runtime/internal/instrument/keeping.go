package instrument

import (
	"github.com/durun/durun/runtime/internal/wasm"
)

// Compiled code of wazero 1.12 keeps only the exception that was caught last from Go's garbage collector: an exnref to an
// earlier one, such as C++ holds while a destructor runs that throws and catches on its own, names memory that may have been
// given to somebody else. So wherever a clause hands out a reference to the exception, the runtime is told to keep that. It
// lets go of them when the coroutine is suspended, where no frame holds one that isn't null.

// ended emits what follows the end of a construct.
func (e *emitter) ended(construct int32) {
	if c := &e.f.constructs[construct]; c.keeps && c.op != wasm.OpLoop {
		e.keep(c.height, c.results)
	}
}

// keep has the exception on top of the stack kept. types are those of what stands on the stack above height.
func (e *emitter) keep(height int32, types []wasm.ValueType) {
	last := len(types) - 1
	local := e.f.spillLocal(height+int32(last), types[last])
	e.index(wasm.OpLocalTee, local)
	e.asNonNull(types[last])
	e.index(wasm.OpLocalGet, local)
	e.index(wasm.OpCall, e.link.keep())
}
