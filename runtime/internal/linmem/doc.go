// Package linmem is the linear memory of guests: content that many memories share, and what a guest has changed in its own.
//
// An [Image] is content that doesn't change: a module's initial memory, or that of a snapshot. A [Memory] starts as a copy
// of an image and belongs to one guest; its methods Reallocate and Free are what wazero asks of an
// experimental.LinearMemory. On Linux an image is a sealed memfd, a memory maps it copy-on-write into address space that is
// reserved for the memory's maximum, and starting from it costs a few system calls, whatever its size. Elsewhere both are
// slices of Go's heap, and starting is copying.
//
// A memory knows three points of its past, and tells the pages of [PageSize] bytes that differ from each:
//
//	initial   the module's initial image          Full: what a full commit lists
//	root      the root of the chain of commits    Anchor: what a delta against the root lists
//	last      the last commit                     Delta: what a delta against the parent lists
//
// [Memory.Committed] says that what was told last has become the last commit; [Memory.AdoptRoot] and [Memory.Adopt] say the
// same of what a restore has written.
//
// Which pages are candidates is for the kernel to say, where it can (Linux from 6.7: userfaultfd in its asynchronous
// write-protect mode, and PAGEMAP_SCAN); else every page is ([Tracking]). A candidate is told only if its content differs
// from that at the point asked for, so that the answer, and with it the bytes of a commit, is the same either way. For this a
// memory keeps shadows: copies, as of the last commit and of the root, of the pages that differ from its image there.
//
// A memory is for one goroutine at a time, and the guest must not run during a call. Images may be shared freely. Nothing
// here is left to finalizers: what isn't released stays.
//
// The package imports the standard library and golang.org/x/sys. It knows no engine, no snapshot format and no store.
package linmem
