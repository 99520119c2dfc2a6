// Package snapshot holds what durun knows of a coroutine at rest: the [Snapshot], its encoding and the [Store].
//
// A snapshot speaks WebAssembly: call sites of the original module, typed values by local index and operand depth,
// globals, tables and pages of memory. So any durun, engine and processor can go on from it, and tools can read it. A
// snapshot is encoded as one container; FORMAT.md specifies it to the byte:
//
//	+--------+----------+-----------------------------+---------+
//	| header | manifest | sections                    | digest  |
//	| 32 B   | CBOR     | output | state | memory     | SHA-256 |
//	+--------+----------+-----------------------------+---------+
//	  magic    what a     what the | frames, | pages    of all
//	  version  listing    guest    | globals,| that     before
//	  kind     shows      wrote    | tables… | differ
//	  lengths
//	  CRC-32C of header and manifest
//
// The manifest alone says what a listing needs ([DecodeManifest]); it and each section carry a checksum of their own,
// so that a part can be read and verified without the rest. [Encode] is deterministic: the same state gives the same
// bytes. [Decode] takes bytes from anywhere: whatever they are, it returns a snapshot that is sound in itself or a
// [FormatError], and allocates no more than the bytes really hold.
//
// A snapshot is stored full, or as a delta against another one: its parent or, now and then, the root of its chain, which
// is a full one ([Origin]). A [Lineage] says which. [Decode] decodes a full snapshot; a [Chain] is a full one with the
// deltas that lead to a commit. It gives the commit's state, and writes its pages straight into a guest's memory.
//
// A [Store] keeps modules, commits and output in a bucket (package bucket and the drivers below it):
//
//	modules/<sha256>               the original module
//	bases/<name>                   a snapshot from which coroutines start, and which their deltas name
//	coroutines/<id>/<inverted seq> a commit; the newest is listed first
//	logs/<id>/<seq>                output of commits up to seq that are no longer there
//	inbox/<id>/<name>              a message that waits for the coroutine
//	condemned/…                    modules and bases that may be deleted
//	leases/<id>/<epoch>            who drives it, where the bucket has no locks
//
// With a [Keyring] ([Store.WithKeys]) sections are encrypted, each object under a key of its own; the manifest stays readable.
//
// A commit is one object, created only if absent under its sequence number: durability, fence and history in one write.
// [Store.Acquire] makes one driver of a coroutine, by a lock or a [Lease] that is renewed. [Store.Export] and
// [Store.Import] move a coroutine as one file. [Store.Send] sends it a message, [Store.Inbox] has what waits for it and an
// [InboxWatcher] tells when more comes. [Store.Retain] drops old commits, [Store.Collect] what nobody needs, and
// [Store.Check] reads and verifies everything.
//
// The package imports bucket and a zstd library. It knows no WebAssembly engine, no driver and no command.
package snapshot
