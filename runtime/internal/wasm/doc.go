// Package wasm is durun's model of a WebAssembly module: decode, inspect, edit, validate, encode.
//
// It covers the language that wazero v1.12 runs: the core specification 2.0 (multi-value, bulk memory,
// reference types, SIMD, sign extension, saturating conversion), tail calls, extended constant expressions,
// exception handling (try_table) and typed function references. It knows the binary format and the validation
// rules and nothing else: no engine, no transform. It imports only the standard library.
//
// Function bodies stay raw bytes in the model; [Reader] iterates over their instructions, and [FuncValidator]
// follows them with typed operand and control stacks. That keeps decoding a 26 MB module cheap and lets an
// edit copy what it doesn't touch.
//
// [Decode] and [Validate] stand between hostile bytes and the engine, which takes counts at their word. Both give a
// [FormatError] with section and offset; one that wraps [ErrUnsupported] names a feature that durun doesn't run:
// threads, memory64, multiple memories, garbage collection, relaxed SIMD, legacy exceptions, components.
package wasm
