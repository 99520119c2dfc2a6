package snapshot

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"slices"
	"strings"
)

// wireState is the state section as CBOR; FORMAT.md gives each key's meaning. In the state of a full snapshot a nil or
// empty field is left out. In that of a delta a nil one is left out, and as in the base, and an empty one is empty.
type wireState struct {
	delta           bool
	Args            []byte        // 1
	InStart         *bool         // 2
	AwaitArgs       []byte        // 3
	AwaitData       []byte        // 4
	Frames          []byte        // 5
	Results         []byte        // 6
	Globals         []byte        // 7
	Tables          []wireTable   // 8
	DroppedData     []byte        // 9
	DroppedElements []byte        // 10
	Runs            []byte        // 11
	Host            []wireSection // 12
	Grants          []wireGrant   // 13
}

type wireTable struct {
	Index    uint32
	Count    uint32
	Elements []byte
}

// wireSection is the state of a host module. In a delta it may be one of the base's, of which it says how it differs.
type wireSection struct {
	Name           string // empty for one of the base's
	Index          uint32 // in the base's list
	Same           bool   // as in the base
	Version        uint32
	Prefix, Suffix uint32 // how many bytes stay of the base's data at its start and end
	Data           []byte
}

type wireGrant struct {
	Kind, Name, Value, Flags string
}

func (w *wireState) append(b []byte) []byte {
	m := newMap(b)
	blob := func(key uint64, v []byte) {
		if len(v) > 0 || w.delta && v != nil {
			m.key(key)
			m.b = appendBytes(m.b, v)
		}
	}
	blob(1, w.Args)
	if w.InStart != nil {
		m.key(2)
		m.b = appendBool(m.b, *w.InStart)
	}
	blob(3, w.AwaitArgs)
	blob(4, w.AwaitData)
	blob(5, w.Frames)
	blob(6, w.Results)
	blob(7, w.Globals)
	if len(w.Tables) > 0 || w.delta && w.Tables != nil {
		m.key(8)
		m.b = appendHead(m.b, cborArray, uint64(len(w.Tables)))
		for _, t := range w.Tables {
			m.b = appendUint(appendHead(m.b, cborArray, 3), uint64(t.Index))
			m.b = appendBytes(appendUint(m.b, uint64(t.Count)), t.Elements)
		}
	}
	blob(9, w.DroppedData)
	blob(10, w.DroppedElements)
	blob(11, w.Runs)
	if len(w.Host) > 0 || w.delta && w.Host != nil {
		m.key(12)
		m.b = appendHead(m.b, cborArray, uint64(len(w.Host)))
		for i := range w.Host {
			m.b = w.Host[i].append(m.b)
		}
	}
	if len(w.Grants) > 0 || w.delta && w.Grants != nil {
		m.key(13)
		m.b = appendHead(m.b, cborArray, uint64(len(w.Grants)))
		for _, g := range w.Grants {
			m.b = appendBytes(appendBytes(appendHead(m.b, cborArray, 4), g.Kind), g.Name)
			m.b = appendBytes(appendBytes(m.b, g.Value), g.Flags)
		}
	}
	return m.b
}

func (h *wireSection) append(b []byte) []byte {
	switch {
	case h.Same:
		return appendUint(b, uint64(h.Index))
	case h.Name == "":
		b = appendUint(appendHead(b, cborArray, 5), uint64(h.Index))
		b = appendUint(b, uint64(h.Version))
		b = appendUint(appendUint(b, uint64(h.Prefix)), uint64(h.Suffix))
		return appendBytes(b, h.Data)
	default:
		b = appendText(appendHead(b, cborArray, 3), h.Name)
		return appendBytes(appendUint(b, uint64(h.Version)), h.Data)
	}
}

func (w *wireState) decode(u *unpacker) {
	u.pairs(func(key uint64) {
		switch key {
		case 1:
			w.Args = u.blob()
		case 2:
			v := u.bool()
			if w.InStart = &v; !v && !w.delta {
				u.fail("key 2 is false")
			}
		case 3:
			w.AwaitArgs = u.blob()
		case 4:
			w.AwaitData = u.blob()
		case 5:
			w.Frames = u.blob()
		case 6:
			w.Results = u.blob()
		case 7:
			w.Globals = u.blob()
		case 8:
			w.Tables = make([]wireTable, u.count())
			for i := range w.Tables {
				u.tuple(3)
				w.Tables[i] = wireTable{uint32(u.number(math.MaxUint32)), uint32(u.number(math.MaxUint32)), u.blob()}
			}
		case 9:
			w.DroppedData = u.blob()
		case 10:
			w.DroppedElements = u.blob()
		case 11:
			w.Runs = u.blob()
		case 12:
			w.Host = make([]wireSection, u.count())
			for i := range w.Host {
				w.Host[i].decode(u, w.delta)
			}
		case 13:
			w.Grants = make([]wireGrant, u.count())
			for i := range w.Grants {
				u.tuple(4)
				w.Grants[i] = wireGrant{string(u.blob()), string(u.blob()), string(u.blob()), string(u.blob())}
			}
		default:
			u.unknown(key)
		}
	})
}

func (h *wireSection) decode(u *unpacker, delta bool) {
	if delta && u.peek() == cborUint {
		h.Same, h.Index = true, uint32(u.number(maxList))
		return
	}
	switch n := u.count(); {
	case n == 5 && delta:
		h.Index, h.Version = uint32(u.number(maxList)), uint32(u.number(math.MaxUint32))
		h.Prefix, h.Suffix, h.Data = uint32(u.number(MaxState)), uint32(u.number(MaxState)), u.blob()
	case n == 3:
		h.Name, h.Version, h.Data = u.text(), uint32(u.number(math.MaxUint32)), u.blob()
		if h.Name == "" {
			u.fail("a host section without a name")
		}
	default:
		u.fail("a host section of %d elements", n)
	}
}

// wireState returns the state of a full snapshot, or of one that has a base what differs from it. The pages are those in
// the memory section. The packed fields are appended to the scratch buffer, and alias it.
func (s *Snapshot) wireState(pages []Page, scratch *[]byte) *wireState {
	if s.Base != nil {
		return s.wireDelta(s.Base.State, pages, scratch)
	}
	pack := packer{scratch}
	w := &wireState{
		Args:            pack.values(s.Args),
		Frames:          pack.frames(s.Frames),
		Results:         pack.values(s.Results),
		Globals:         pack.globals(s.Globals),
		DroppedData:     pack.ascending(s.DroppedData),
		DroppedElements: pack.ascending(s.DroppedElements),
		Runs:            pack.runs(pages),
		Tables:          pack.tables(s.Tables),
		Grants:          wireGrants(s.Grants),
	}
	if s.InStart {
		w.InStart = &s.InStart
	}
	if s.Await != nil {
		w.AwaitArgs = pack.values(s.Await.Args)
		w.AwaitData = s.Await.Data
	}
	if len(s.Host) > 0 {
		w.Host = make([]wireSection, len(s.Host))
		for i, h := range s.Host {
			w.Host[i] = wireSection{Name: h.Name, Version: h.Version, Data: h.Data}
		}
	}
	return w
}

// wireDelta returns the state as far as it differs from a base's.
func (s *Snapshot) wireDelta(base *Snapshot, pages []Page, scratch *[]byte) *wireState {
	pack := packer{scratch}
	w := &wireState{delta: true}
	if !slices.Equal(s.Args, base.Args) {
		w.Args = pack.values(s.Args)
	}
	if s.InStart != base.InStart {
		w.InStart = &s.InStart
	}
	if !slices.Equal(s.Await.Args, base.Await.Args) {
		w.AwaitArgs = pack.values(s.Await.Args)
	}
	if !bytes.Equal(s.Await.Data, base.Await.Data) {
		w.AwaitData = notNil(s.Await.Data)
	}
	if kept := sameFrames(base.Frames, s.Frames); kept < len(s.Frames) || kept < len(base.Frames) {
		w.Frames = pack.innerFrames(kept, s.Frames[kept:])
	}
	if !slices.Equal(s.Globals, base.Globals) {
		w.Globals = pack.globals(s.Globals)
	}
	if !slices.EqualFunc(s.Tables, base.Tables, func(a, b Table) bool { return a.Index == b.Index && slices.Equal(a.Elements, b.Elements) }) {
		w.Tables = pack.tables(s.Tables)
	}
	if !slices.Equal(s.DroppedData, base.DroppedData) {
		w.DroppedData = pack.ascending(s.DroppedData)
	}
	if !slices.Equal(s.DroppedElements, base.DroppedElements) {
		w.DroppedElements = pack.ascending(s.DroppedElements)
	}
	w.Runs = orNil(pack.runs(pages))
	w.Host = wireHost(s.Host, base.Host)
	if !slices.Equal(s.Grants, base.Grants) {
		w.Grants = wireGrants(s.Grants)
	}
	return w
}

// sameFrames returns how many of the outermost frames are equal.
func sameFrames(a, b []Frame) int {
	n := 0
	for n < min(len(a), len(b)) && a[n].Function == b[n].Function && a[n].Offset == b[n].Offset && slices.Equal(a[n].Slots, b[n].Slots) {
		n++
	}
	return n
}

// wireHost returns the host sections as far as they differ from the base's: nil if they don't.
func wireHost(host, base []Section) []wireSection {
	if slices.EqualFunc(host, base, func(a, b Section) bool {
		return a.Name == b.Name && a.Version == b.Version && bytes.Equal(a.Data, b.Data)
	}) {
		return nil
	}
	list := make([]wireSection, len(host))
	for i, h := range host {
		k, ok := findSection(base, h.Name)
		if !ok {
			list[i] = wireSection{Name: h.Name, Version: h.Version, Data: h.Data}
			continue
		}
		old, data := base[k], h.Data
		if old.Version == h.Version && bytes.Equal(old.Data, data) {
			list[i] = wireSection{Index: uint32(k), Same: true}
			continue
		}
		prefix, suffix := 0, 0
		for prefix < min(len(old.Data), len(data)) && old.Data[prefix] == data[prefix] {
			prefix++
		}
		for suffix < min(len(old.Data), len(data))-prefix && old.Data[len(old.Data)-1-suffix] == data[len(data)-1-suffix] {
			suffix++
		}
		list[i] = wireSection{
			Index: uint32(k), Version: h.Version, Prefix: uint32(prefix), Suffix: uint32(suffix), Data: data[prefix : len(data)-suffix],
		}
	}
	return list
}

func findSection(list []Section, name string) (int, bool) {
	return slices.BinarySearchFunc(list, name, func(s Section, name string) int { return strings.Compare(s.Name, name) })
}

func wireGrants(grants []Grant) []wireGrant {
	list := make([]wireGrant, len(grants))
	for i, g := range grants {
		list[i] = wireGrant(g)
	}
	return list
}

// packer appends packed encodings to a buffer and returns them as parts of it. They are never nil.
type packer struct{ scratch *[]byte }

func (p packer) pack(f func(b []byte) []byte) []byte {
	start := len(*p.scratch)
	*p.scratch = f(*p.scratch)
	return notNil((*p.scratch)[start:len(*p.scratch):len(*p.scratch)])
}

func (p packer) values(vs []Value) []byte {
	return p.pack(func(b []byte) []byte { return appendValues(b, vs) })
}

func (p packer) frames(frames []Frame) []byte {
	return p.pack(func(b []byte) []byte { return appendFrames(b, frames) })
}

// innerFrames packs the frames of a delta: how many of the base's outermost stay, then those within.
func (p packer) innerFrames(kept int, frames []Frame) []byte {
	return p.pack(func(b []byte) []byte { return appendFrames(binary.AppendUvarint(b, uint64(kept)), frames) })
}

func (p packer) globals(gs []Global) []byte {
	return p.pack(func(b []byte) []byte { return appendGlobals(b, gs) })
}

func (p packer) ascending(ns []uint32) []byte {
	return p.pack(func(b []byte) []byte { return appendAscending(b, ns) })
}

func (p packer) runs(pages []Page) []byte {
	return p.pack(func(b []byte) []byte { return appendRuns(b, pages) })
}

func (p packer) tables(tables []Table) []wireTable {
	list := make([]wireTable, len(tables))
	for i, t := range tables {
		list[i] = wireTable{Index: t.Index, Count: uint32(len(t.Elements)), Elements: p.pack(func(b []byte) []byte {
			for _, e := range t.Elements {
				b = binary.AppendUvarint(b, uint64(e))
			}
			return b
		})}
	}
	return list
}

// notNil keeps an empty byte string one in CBOR, rather than null.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func orNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// fill adds the state to a snapshot that has its manifest.
func (w *wireState) fill(s *Snapshot) error {
	if s.Await == nil && (len(w.AwaitArgs) > 0 || len(w.AwaitData) > 0) {
		return corrupt("state", -1, "the arguments of an await that isn't there")
	}
	var err error
	unpack := func(name string, b []byte, f func(u *unpacker)) {
		u := &unpacker{name: name, b: b, err: err}
		f(u)
		err = u.err
	}
	unpack("state", w.Args, func(u *unpacker) { s.Args = u.values() })
	unpack("state", w.Results, func(u *unpacker) { s.Results = u.values() })
	if s.Await != nil {
		unpack("state", w.AwaitArgs, func(u *unpacker) { s.Await.Args = u.values() })
		s.Await.Data = bytes.Clone(orNil(w.AwaitData))
	}
	s.InStart = w.InStart != nil && *w.InStart
	unpack("frames", w.Frames, func(u *unpacker) { s.Frames = u.frames() })
	unpack("globals", w.Globals, func(u *unpacker) { s.Globals = u.globals() })
	if err == nil {
		s.Tables, err = unpackTables(w.Tables)
	}
	unpack("dropped segments", w.DroppedData, func(u *unpacker) { s.DroppedData = u.ascending() })
	unpack("dropped segments", w.DroppedElements, func(u *unpacker) { s.DroppedElements = u.ascending() })
	for _, h := range w.Host {
		s.Host = append(s.Host, Section{Name: h.Name, Version: h.Version, Data: bytes.Clone(orNil(h.Data))})
	}
	s.Grants = unpackGrants(w.Grants)
	return err
}

func unpackTables(tables []wireTable) ([]Table, error) {
	var list []Table
	for _, t := range tables {
		u := &unpacker{name: "tables", b: t.Elements}
		if int64(t.Count) > int64(u.left()) {
			u.fail("table %d: %d elements in %d bytes", t.Index, t.Count, u.left())
			return nil, u.err
		}
		table := Table{Index: t.Index}
		if t.Count > 0 {
			table.Elements = make([]uint32, t.Count)
		}
		for i := range table.Elements {
			table.Elements[i] = u.uint32()
		}
		if u.more() {
			u.fail("table %d: %d bytes follow the elements", t.Index, u.left())
		}
		if u.err != nil {
			return nil, u.err
		}
		list = append(list, table)
	}
	return list, nil
}

func unpackGrants(grants []wireGrant) []Grant {
	var list []Grant
	for _, g := range grants {
		list = append(list, Grant(g))
	}
	return list
}

func (s *Snapshot) outputBytes() uint64 {
	n := uint64(0)
	for _, o := range s.Output {
		n += uint64(len(o.Data))
	}
	return n
}

// An output section is a sequence of stretches: the stream's number, the length, the bytes.

func outputSize(output []Output) uint64 {
	n := uint64(0)
	for _, o := range output {
		n += 1 + uint64(uvarintLen(uint64(len(o.Data)))) + uint64(len(o.Data))
	}
	return n
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func writeOutput(w io.Writer, output []Output) error {
	var head [1 + binary.MaxVarintLen64]byte
	for _, o := range output {
		head[0] = o.Stream
		n := binary.PutUvarint(head[1:], uint64(len(o.Data)))
		if _, err := w.Write(head[:1+n]); err != nil {
			return err
		}
		if _, err := w.Write(o.Data); err != nil {
			return err
		}
	}
	return nil
}

// output reads stretches to the end of the content; their data alias it.
func (u *unpacker) output() []Output {
	var list []Output
	for u.more() {
		stream := u.byte()
		n := u.uvarint(MaxOutput)
		o := Output{Stream: stream, Data: orNil(u.bytes(int(n)))}
		if u.err == nil && stream != 1 && stream != 2 {
			u.fail("stream %d", stream)
		}
		if len(list) == MaxStretches {
			u.fail("more than %d stretches", MaxStretches)
			return nil
		}
		list = append(list, o)
	}
	return list
}
