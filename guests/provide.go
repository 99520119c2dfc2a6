package guests

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Global is a global that a guest imports.
type Global struct {
	Type    byte // as the binary format has it
	Mutable bool
	Bits    uint64
}

// ParseGlobal reads what [Case].Globals holds: "i32:a", or "mut i64:ff".
func ParseGlobal(s string) (Global, error) {
	s, mutable := strings.CutPrefix(s, "mut ")
	typ, hex, _ := strings.Cut(s, ":")
	codes := map[string]byte{"i32": 0x7f, "i64": 0x7e, "f32": 0x7d, "f64": 0x7c}
	bits, err := strconv.ParseUint(hex, 16, 64)
	if err != nil || codes[typ] == 0 {
		return Global{}, fmt.Errorf("global %q: not type:hex", s)
	}
	return Global{Type: codes[typ], Mutable: mutable, Bits: bits}, nil
}

// The sections of a module that Providers reads or writes.
const (
	secType, secImport, secTable, secMemory, secGlobal, secExport, secTag = 1, 2, 4, 5, 6, 7, 13
)

// provider is a module in the making, that exports memories and the like.
type provider struct {
	items   map[byte][][]byte // by section
	exports [][]byte
}

// Providers returns a module for each name from which a guest imports memories, tables, tags or globals: it exports those,
// of exactly the limits that the guest asks for. That is what plain wazero needs to run such a guest, where durun
// gives it its own. globals has values by "module.name".
func Providers(guest []byte, globals map[string]string) (map[string][]byte, error) {
	if len(guest) < 8 {
		return nil, errors.New("not a module")
	}
	r := reader{b: guest[8:]}
	var types []byte
	made := map[string]*provider{}
	for len(r.b) > 0 && r.err == nil {
		id := r.byte()
		body := r.bytes(r.u32())
		switch id {
		case secType:
			types = body
		case secImport:
			if err := readImports(&reader{b: body}, globals, made); err != nil {
				return nil, err
			}
		}
	}
	out := map[string][]byte{}
	for name, p := range made {
		out[name] = p.encode(types)
	}
	return out, r.err
}

func readImports(r *reader, globals map[string]string, made map[string]*provider) error {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		module, name := string(r.bytes(r.u32())), string(r.bytes(r.u32()))
		kind := r.byte()
		var section byte
		start := r.b
		switch kind {
		case 0:
			r.u32()
			continue
		case 1:
			section = secTable
			if t := r.byte(); t == 0x63 || t == 0x64 {
				return errors.New("a table of typed references")
			}
			r.limits()
		case 2:
			section = secMemory
			r.limits()
		case 3:
			section = secGlobal
			r.bytes(2)
		case 4:
			section = secTag
			r.byte()
			r.u32()
		}
		item := append([]byte(nil), start[:len(start)-len(r.b)]...)
		if section == secGlobal {
			g, err := ParseGlobal(globals[module+"."+name])
			if err != nil {
				return fmt.Errorf("%s.%s: %w", module, name, err)
			}
			item = append(item, g.init()...)
		}
		p := made[module]
		if p == nil {
			p = &provider{items: map[byte][][]byte{}}
			made[module] = p
		}
		export := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
		export = binary.AppendUvarint(append(export, kind), uint64(len(p.items[section])))
		p.exports = append(p.exports, export)
		p.items[section] = append(p.items[section], item)
	}
	return r.err
}

// init returns the constant expression of the value.
func (g Global) init() []byte {
	switch g.Type {
	case 0x7d:
		return append(binary.LittleEndian.AppendUint32([]byte{0x43}, uint32(g.Bits)), 0x0b)
	case 0x7c:
		return append(binary.LittleEndian.AppendUint64([]byte{0x44}, g.Bits), 0x0b)
	}
	b := []byte{0x41 + (0x7f - g.Type)}
	v := int64(g.Bits)
	if g.Type == 0x7f {
		v = int64(int32(g.Bits))
	}
	for ; v < -0x40 || v >= 0x40; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v)&0x7f, 0x0b)
}

func (p *provider) encode(types []byte) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) {
		b = append(binary.AppendUvarint(append(b, id), uint64(len(body))), body...)
	}
	list := func(items [][]byte) []byte {
		l := binary.AppendUvarint(nil, uint64(len(items)))
		for _, i := range items {
			l = append(l, i...)
		}
		return l
	}
	if len(types) > 0 {
		section(secType, types)
	}
	for _, id := range []byte{secTable, secMemory, secTag, secGlobal} {
		if len(p.items[id]) > 0 {
			section(id, list(p.items[id]))
		}
	}
	section(secExport, list(p.exports))
	return b
}

// reader reads a module's bytes; after an error, zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)) {
		r.b, r.err = nil, errors.New("unexpected end of the module")
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || uint64(uint32(v)) != v {
		r.b, r.err = nil, errors.New("not a number")
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

func (r *reader) limits() {
	flags := r.byte()
	r.u32()
	if flags&1 != 0 {
		r.u32()
	}
}
