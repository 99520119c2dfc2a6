// Package symbols recovers the names of a module's functions from debug information whose addresses are lost.
//
// wasm-opt keeps a module's DWARF when it removes the name section, and where its passes don't follow it, it writes 0 for
// each address; clang runs it when it links with optimization. Stock CPython for WASI is so: 18,000 functions, and no place
// for any of them. What is left is the order of the functions, and what they look like. [Infer] puts the two lists side by
// side.
//
// Evidence, for code that clang made without optimization (at -O0 each parameter and variable has a place of its own in
// the frame, and nothing of it is moved):
//
//   - The types of parameters and result give the signature, by the C ABI for WebAssembly (WebAssembly/tool-conventions,
//     BasicCABI.md). wasm-opt drops parameters and results of functions that aren't in a table (dead argument elimination).
//   - DW_OP_fbreg gives a variable's place in the frame; a body stores each parameter there first, and has the frame's
//     size in its prologue, and reads the others.
//   - String literals and static variables have addresses in memory, which nobody moved, and lines, hence functions; a
//     body has them as constants.
//   - wasm-ld lays out objects in the order of the units; LLVM lays out an object's functions in the order of their
//     symbols, that is, of the first mention, and makes their entries in the order of emission (MC/WasmObjectWriter.cpp,
//     AsmPrinter/DwarfDebug.cpp). The two are the same but for a function that one before it calls, and entries of
//     functions with static variables, which stand first in their unit. Those may be anywhere in it.
//
// wasm-opt has inlined some functions and merged equal ones; objects without debug information lie between units. So the
// lists are aligned like sequences of genes, by dynamic programming (Needleman and Wunsch 1970), with scores that are
// about log₂ of a ratio of likelihoods. A function gets a name where the best alignment that gives it that name is better
// by a margin than each alignment that gives it another or none.
//
// It names 6,655 of CPython's 11,448 functions, of about 8,800 that have debug information. Of those, 2,132 are in tables that
// say how Python calls them, and 165 have their source line as a constant: each of them is right (TestInferPython).
//
// Names it leaves out: functions of other languages than C, whose entries are in the order of namespaces; small functions
// that look like their neighbours; optimized code, of which it knows little; code that wasm-opt has not been over, whose
// prologues are others, and whose addresses are good. Calls that wasm-opt has inlined aren't seen. A function that stands
// for several equal ones has the name of one of them.
//
// The package reads what strangers wrote. Work and memory are bounded by the size of the module and by the limits below,
// whatever the sections claim.
package symbols
