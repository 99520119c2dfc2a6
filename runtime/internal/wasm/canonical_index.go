package wasm

// CanonicalType returns the index of the first type that is equal by structure to type i, which must exist.
func (e *Env) CanonicalType(i uint32) uint32 { return e.canonical[i] }
