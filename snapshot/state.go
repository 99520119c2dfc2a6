package snapshot

import (
	"encoding/binary"
	"io"
)

// wireState is the state section as CBOR. FORMAT.md gives each key's meaning.
type wireState struct {
	Args            []byte        `cbor:"1,keyasint,omitempty"`
	InStart         bool          `cbor:"2,keyasint,omitempty"`
	AwaitArgs       []byte        `cbor:"3,keyasint,omitempty"`
	AwaitData       []byte        `cbor:"4,keyasint,omitempty"`
	Frames          []byte        `cbor:"5,keyasint,omitempty"`
	Results         []byte        `cbor:"6,keyasint,omitempty"`
	Globals         []byte        `cbor:"7,keyasint,omitempty"`
	Tables          []wireTable   `cbor:"8,keyasint,omitempty"`
	DroppedData     []byte        `cbor:"9,keyasint,omitempty"`
	DroppedElements []byte        `cbor:"10,keyasint,omitempty"`
	Runs            []byte        `cbor:"11,keyasint,omitempty"`
	Host            []wireSection `cbor:"12,keyasint,omitempty"`
	Grants          []wireGrant   `cbor:"13,keyasint,omitempty"`
}

type wireTable struct {
	_        struct{} `cbor:",toarray"`
	Index    uint32
	Count    uint32
	Elements []byte
}

type wireSection struct {
	_       struct{} `cbor:",toarray"`
	Name    string
	Version uint32
	Data    []byte
}

type wireGrant struct {
	_                        struct{} `cbor:",toarray"`
	Kind, Name, Value, Flags []byte
}

func (s *Snapshot) wireState() *wireState {
	w := &wireState{
		Args:            appendValues(nil, s.Args),
		InStart:         s.InStart,
		Frames:          appendFrames(nil, s.Frames),
		Results:         appendValues(nil, s.Results),
		Globals:         appendGlobals(nil, s.Globals),
		DroppedData:     appendAscending(nil, s.DroppedData),
		DroppedElements: appendAscending(nil, s.DroppedElements),
		Runs:            appendRuns(nil, s.Memory.Pages),
	}
	if s.Await != nil {
		w.AwaitArgs = appendValues(nil, s.Await.Args)
		w.AwaitData = s.Await.Data
	}
	for _, t := range s.Tables {
		elements := make([]byte, 0, 2*len(t.Elements))
		for _, e := range t.Elements {
			elements = binary.AppendUvarint(elements, uint64(e))
		}
		w.Tables = append(w.Tables, wireTable{Index: t.Index, Count: uint32(len(t.Elements)), Elements: elements})
	}
	for _, h := range s.Host {
		w.Host = append(w.Host, wireSection{Name: h.Name, Version: h.Version, Data: notNil(h.Data)})
	}
	for _, g := range s.Grants {
		w.Grants = append(w.Grants, wireGrant{Kind: []byte(g.Kind), Name: []byte(g.Name), Value: []byte(g.Value), Flags: []byte(g.Flags)})
	}
	return w
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

// fill adds the state to a snapshot that has its manifest. It returns the runs of pages, packed.
func (w *wireState) fill(s *Snapshot) error {
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
		s.Await.Data = orNil(w.AwaitData)
	} else if len(w.AwaitArgs) > 0 || len(w.AwaitData) > 0 {
		return corrupt("state", -1, "the arguments of an await that isn't there")
	}
	s.InStart = w.InStart
	unpack("frames", w.Frames, func(u *unpacker) { s.Frames = u.frames() })
	unpack("globals", w.Globals, func(u *unpacker) { s.Globals = u.globals() })
	for _, t := range w.Tables {
		unpack("tables", t.Elements, func(u *unpacker) {
			if int64(t.Count) > int64(u.left()) {
				u.fail("table %d: %d elements in %d bytes", t.Index, t.Count, u.left())
				return
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
			s.Tables = append(s.Tables, table)
		})
	}
	unpack("dropped segments", w.DroppedData, func(u *unpacker) { s.DroppedData = u.ascending() })
	unpack("dropped segments", w.DroppedElements, func(u *unpacker) { s.DroppedElements = u.ascending() })
	for _, h := range w.Host {
		s.Host = append(s.Host, Section{Name: h.Name, Version: h.Version, Data: orNil(h.Data)})
	}
	for _, g := range w.Grants {
		s.Grants = append(s.Grants, Grant{Kind: string(g.Kind), Name: string(g.Name), Value: string(g.Value), Flags: string(g.Flags)})
	}
	return err
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
