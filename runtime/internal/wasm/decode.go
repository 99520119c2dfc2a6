package wasm

import (
	"bytes"
	"math"
)

// The eight bytes that a module starts with: the magic number and the version.
var header = []byte("\x00asm\x01\x00\x00\x00")

// componentHeader is what a component starts with in their place.
var componentHeader = []byte("\x00asm\x0d\x00\x01\x00")

// Decode reads a module in the binary format. The bytes of code, constant expressions, data and custom sections alias
// data, which must not change as long as the module is in use.
//
// It checks the form alone; [Validate] checks the rest. An error is a [FormatError] with the offset in data; it wraps
// [ErrUnsupported] if the form is that of a proposal which durun doesn't run. Memory use is bounded by a small multiple
// of len(data), whatever lengths data claims.
func Decode(data []byte) (*Module, error) {
	c := &cursor{data: data}
	switch {
	case uint64(len(data)) > math.MaxUint32:
		c.fail(0, "a module of %d bytes is too large", len(data))
	case bytes.HasPrefix(data, componentHeader):
		c.failWith(4, unsupported("the component model (a core module is wanted)"))
	case len(data) < 4 || !bytes.HasPrefix(data, header[:4]):
		c.fail(0, "not a WebAssembly binary: the magic number is missing")
	case !bytes.HasPrefix(data, header):
		c.fail(4, "unknown version of the binary format")
	}
	m := &Module{}
	c.pos = len(header)
	done := -1 // the place in sections of the last one read
	for c.err == nil && c.left() > 0 {
		done = decodeSection(m, c, done)
	}
	if c.err == nil {
		checkCounts(m, c)
	}
	if c.err != nil {
		return nil, c.err
	}
	return m, nil
}

// decodeSection reads the section at the cursor. done is the place of the last section that wasn't a custom one; it
// returns the new one.
func decodeSection(m *Module, c *cursor, done int) int {
	at := c.pos
	id := c.byte()
	order := sectionOrder(id)
	switch {
	case id == idCustom:
		c.section = "custom"
	case order < 0:
		c.section = ""
		c.fail(at, "no section has the id %d", id)
	default:
		c.section = sections[order].name
	}
	switch {
	case id == idCustom || order > done:
	case order == done:
		c.fail(at, "a second one")
	default:
		c.fail(at, "stands after the %s section", sections[done].name)
	}
	size := c.u32()
	body := *c
	c.bytes(size)
	if c.err != nil {
		return done
	}
	body.data = c.data[:c.pos:c.pos]
	if id == idCustom {
		var after byte
		if done >= 0 {
			after = sections[done].id
		}
		decodeCustom(m, &body, after)
		c.err = body.err
		return done
	}
	sections[order].decode(m, &body)
	if n := body.left(); n > 0 {
		body.fail(body.pos, "%d bytes left over at the end", n)
	}
	c.err = body.err
	return order
}

// checkCounts checks that the sections that come in pairs have as many entries each.
func checkCounts(m *Module, c *cursor) {
	end := len(c.data)
	if len(m.Functions) != len(m.Code) {
		c.section = "code"
		c.fail(end, "%d functions are declared, and %d have code", len(m.Functions), len(m.Code))
	}
	if m.DataCount != nil && uint64(*m.DataCount) != uint64(len(m.Data)) {
		c.section = "data"
		c.fail(end, "%d segments are announced, and there are %d", *m.DataCount, len(m.Data))
	}
}
