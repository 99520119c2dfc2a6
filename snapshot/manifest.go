package snapshot

import (
	"bytes"
	"math"
	"time"
)

// Manifest is what the manifest of an encoded snapshot says: the facts that a listing shows.
type Manifest struct {
	Kind       Kind // KindFull or KindDelta
	Module     Hash
	ModuleName string
	Coroutine  string
	Seq        uint64
	Parent     *Parent
	Time       time.Time
	Status     Status
	Entry      string
	Await      *Await // without Args and Data; nil unless suspended
	ExitCode   uint32
	Error      string
	MemorySize uint64  // bytes
	MemoryMax  uint64  // bytes, 0 for none
	Pages      int     // pages of PageSize bytes that the snapshot holds, whole or as patches
	Frames     int     // frames of the whole call stack
	Output     uint64  // bytes of output since the parent
	Origin     *Origin // where the chain of a delta begins; nil for a full snapshot
	Modules    []Hash  // others than Module that the store has to keep for it, ascending: those of its grants
	Key        KeyID   // under which it is encrypted; zero if it isn't
	// Locked says that the key isn't there: then Error and Await.Detail are unknown, and empty, and what the rest says is
	// not authenticated.
	Locked bool
}

// Base returns what a delta is a delta against: its chain's root if it is the chain's anchor, else its parent. It is
// zero for a full snapshot.
func (m *Manifest) Base() Ref {
	switch {
	case m.Origin == nil:
		return Ref{}
	case m.Origin.Anchor == m.Seq:
		return m.Origin.Root
	default:
		return Ref{Seq: m.Parent.Seq, Hash: m.Parent.Hash}
	}
}

// wireManifest is the manifest as CBOR. FORMAT.md gives each key's meaning.
type wireManifest struct {
	Modules    [][]byte     // 0: what is sealed, 20, has to be last
	Coroutine  string       // 1
	Seq        uint64       // 2
	Parent     *wireParent  // 3
	Module     []byte       // 4
	ModuleName string       // 5
	Time       wireTime     // 6
	Status     uint8        // 7
	Entry      string       // 8
	Await      *wireAwait   // 9
	ExitCode   uint32       // 10
	Error      string       // 11
	MemorySize uint64       // 12
	MemoryMax  uint64       // 13
	Pages      uint32       // 14
	Frames     uint32       // 15
	Output     uint64       // 16
	Sections   sectionTable // 17
	Origin     *wireOrigin  // 18
	Patches    uint32       // 19
	Seal       *wireSeal    // 20
	object     *objectKey   // of an encrypted container, once it is known
}

type wireParent struct {
	Seq  uint64
	Hash []byte
}

type wireTime struct {
	Sec  int64 // since 1970, UTC
	Nsec uint32
}

type wireAwait struct {
	Import string    // 1
	Kind   string    // 2
	Until  *wireTime // 3
	Detail string    // 4
}

type wireOrigin struct {
	Anchor, Seq uint64
	Name        string
	Hash        []byte
	Bytes       uint64
}

func (w *wireManifest) append(b []byte) []byte {
	m := newMap(b)
	if len(w.Modules) > 0 {
		m.key(0)
		m.b = appendHead(m.b, cborArray, uint64(len(w.Modules)))
		for _, h := range w.Modules {
			m.b = appendBytes(m.b, h)
		}
	}
	m.key(1)
	m.b = appendText(m.b, w.Coroutine)
	m.key(2)
	m.b = appendUint(m.b, w.Seq)
	if p := w.Parent; p != nil {
		m.key(3)
		m.b = appendUint(appendHead(m.b, cborArray, 2), p.Seq)
		m.b = appendBytes(m.b, p.Hash)
	}
	m.key(4)
	m.b = appendBytes(m.b, w.Module)
	if w.ModuleName != "" {
		m.key(5)
		m.b = appendBytes(m.b, w.ModuleName)
	}
	m.key(6)
	m.b = w.Time.append(m.b)
	m.key(7)
	m.b = appendUint(m.b, uint64(w.Status))
	m.text(8, w.Entry)
	if w.Await != nil {
		m.key(9)
		m.b = w.Await.append(m.b)
	}
	m.uint(10, uint64(w.ExitCode))
	if w.Error != "" {
		m.key(11)
		m.b = appendBytes(m.b, w.Error)
	}
	m.uint(12, w.MemorySize)
	m.uint(13, w.MemoryMax)
	m.uint(14, uint64(w.Pages))
	m.uint(15, uint64(w.Frames))
	m.uint(16, w.Output)
	w.Sections.append(&m)
	if o := w.Origin; o != nil {
		m.key(18)
		m.b = appendUint(appendHead(m.b, cborArray, 5), o.Anchor)
		m.b = appendText(appendUint(m.b, o.Seq), o.Name)
		m.b = appendUint(appendBytes(m.b, o.Hash), o.Bytes)
	}
	m.uint(19, uint64(w.Patches))
	w.Seal.append(&m)
	return m.b
}

func (w wireTime) append(b []byte) []byte {
	return appendUint(appendInt(appendHead(b, cborArray, 2), w.Sec), uint64(w.Nsec))
}

func (w *wireAwait) append(b []byte) []byte {
	m := newMap(b)
	m.key(1)
	m.b = appendText(m.b, w.Import)
	m.key(2)
	m.b = appendText(m.b, w.Kind)
	if w.Until != nil {
		m.key(3)
		m.b = w.Until.append(m.b)
	}
	if w.Detail != "" {
		m.key(4)
		m.b = appendBytes(m.b, w.Detail)
	}
	return m.b
}

// size returns no less than the manifest has bytes, with a table of n sections.
func (w *wireManifest) size(n int) int {
	size := 512 + 64*n + 40*len(w.Modules) + len(w.Coroutine) + len(w.ModuleName) + len(w.Entry) + len(w.Error)
	if w.Await != nil {
		size += len(w.Await.Import) + len(w.Await.Kind) + len(w.Await.Detail)
	}
	if w.Origin != nil {
		size += len(w.Origin.Name)
	}
	return size
}

func (w *wireManifest) decode(u *unpacker) {
	u.pairs(func(key uint64) {
		switch key {
		case 0:
			w.Modules = make([][]byte, u.count())
			for i := range w.Modules {
				w.Modules[i] = u.blob()
			}
		case 1:
			w.Coroutine = u.text()
		case 2:
			w.Seq = u.number(math.MaxUint64)
		case 3:
			u.tuple(2)
			w.Parent = &wireParent{Seq: u.number(math.MaxUint64), Hash: u.blob()}
		case 4:
			w.Module = u.blob()
		case 5:
			w.ModuleName = string(u.blob())
		case 6:
			w.Time = u.time()
		case 7:
			w.Status = uint8(u.number(math.MaxUint8))
		case 8:
			w.Entry = u.text()
		case 9:
			w.Await = u.await()
		case 10:
			w.ExitCode = uint32(u.number(math.MaxUint32))
		case 11:
			w.Error = string(u.blob())
		case 12:
			w.MemorySize = u.number(math.MaxUint64)
		case 13:
			w.MemoryMax = u.number(math.MaxUint64)
		case 14:
			w.Pages = uint32(u.number(math.MaxUint32))
		case 15:
			w.Frames = uint32(u.number(math.MaxUint32))
		case 16:
			w.Output = u.number(math.MaxUint64)
		case 17:
			w.Sections = u.sections()
		case 18:
			u.tuple(5)
			w.Origin = &wireOrigin{
				Anchor: u.number(math.MaxUint64), Seq: u.number(math.MaxUint64), Name: u.text(), Hash: u.blob(), Bytes: u.number(math.MaxUint64),
			}
		case 19:
			w.Patches = uint32(u.number(math.MaxUint32))
		case 20:
			w.Seal = u.seal()
		default:
			u.unknown(key)
		}
	})
}

func (u *unpacker) time() wireTime {
	u.tuple(2)
	return wireTime{Sec: u.int(), Nsec: uint32(u.number(math.MaxUint32))}
}

func (u *unpacker) await() *wireAwait {
	w := &wireAwait{}
	u.pairs(func(key uint64) {
		switch key {
		case 1:
			w.Import = u.text()
		case 2:
			w.Kind = u.text()
		case 3:
			t := u.time()
			w.Until = &t
		case 4:
			w.Detail = string(u.blob())
		default:
			u.unknown(key)
		}
	})
	return w
}

var (
	statusCodes = [...]Status{1: Suspended, 2: Completed, 3: Failed, 4: Cancelled}
	// Times are those that RFC 3339 can write.
	minTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
)

func statusCode(s Status) uint8 {
	for i, c := range statusCodes {
		if i > 0 && c == s {
			return uint8(i)
		}
	}
	return 0
}

func toWireTime(t time.Time) wireTime {
	return wireTime{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func (w wireTime) time() (time.Time, bool) {
	if w.Sec < minTime || w.Sec > maxTime || w.Nsec >= 1e9 {
		return time.Time{}, false
	}
	return time.Unix(w.Sec, int64(w.Nsec)).UTC(), true
}

func (s *Snapshot) wireManifest(sections []section) *wireManifest {
	w := &wireManifest{
		Coroutine:  s.Coroutine,
		Seq:        s.Seq,
		Module:     s.Module[:],
		ModuleName: s.ModuleName,
		Time:       toWireTime(s.Time),
		Status:     statusCode(s.Status),
		Entry:      s.Entry,
		ExitCode:   s.ExitCode,
		Error:      s.Error,
		MemorySize: s.Memory.Size,
		MemoryMax:  s.Memory.Max,
		Pages:      uint32(len(s.Memory.Pages)),
		Frames:     uint32(len(s.Frames)),
		Output:     s.outputBytes(),
		Sections:   sections,
	}
	if s.Parent != nil {
		w.Parent = &wireParent{Seq: s.Parent.Seq, Hash: s.Parent.Hash[:]}
	}
	if a := s.Await; a != nil {
		w.Await = &wireAwait{Import: a.Import, Kind: a.Kind, Detail: a.Detail}
		if !a.Until.IsZero() {
			t := toWireTime(a.Until)
			w.Await.Until = &t
		}
	}
	for _, h := range s.grantedModules() {
		w.Modules = append(w.Modules, h[:])
	}
	if s.Base != nil {
		o := &s.Base.Origin
		w.Origin = &wireOrigin{Anchor: o.Anchor, Seq: o.Root.Seq, Name: o.Root.Name, Hash: o.Root.Hash[:], Bytes: uint64(o.RootBytes)}
	}
	return w
}

// manifest returns what the manifest of the encoded snapshot says.
func (s *Snapshot) manifest() Manifest {
	m := Manifest{
		Kind:       KindFull,
		Module:     s.Module,
		ModuleName: s.ModuleName,
		Coroutine:  s.Coroutine,
		Seq:        s.Seq,
		Parent:     s.Parent,
		Time:       s.Time,
		Status:     s.Status,
		Entry:      s.Entry,
		ExitCode:   s.ExitCode,
		Error:      s.Error,
		MemorySize: s.Memory.Size,
		MemoryMax:  s.Memory.Max,
		Pages:      len(s.Memory.Pages),
		Frames:     len(s.Frames),
		Output:     s.outputBytes(),
		Modules:    s.grantedModules(),
	}
	if a := s.Await; a != nil {
		m.Await = &Await{Import: a.Import, Kind: a.Kind, Until: a.Until, Detail: a.Detail}
	}
	if s.Base != nil {
		m.Kind = KindDelta
		o := s.Base.Origin
		m.Origin = &o
	}
	return m
}

// encrypt makes the manifest one of a container that is encrypted with a key; nil leaves it as it is.
func (w *wireManifest) encrypt(key *objectKey) *encryption {
	if key == nil {
		return nil
	}
	s := secrets{Error: w.Error}
	w.Error = ""
	if w.Await != nil {
		s.Detail, w.Await.Detail = w.Await.Detail, ""
	}
	e := encryptionOf(key, s)
	w.Seal = e.wire()
	return e
}

// decrypt adds what is sealed with the manifest, where the key is there.
func (w *wireManifest) decrypt(h header, data []byte, keys *Keyring) error {
	key, s, err := w.Seal.open(h, data, keys)
	if key == nil || err != nil {
		return err
	}
	if w.Error != "" || w.Await != nil && w.Await.Detail != "" || w.Await == nil && s.Detail != "" {
		return corrupt("manifest", headerSize, "an error or a detail of an await where there can't be one")
	}
	if s.Name != "" || s.Key != "" {
		return corrupt("manifest", headerSize, "a message's name or key, sealed with a snapshot")
	}
	w.Error = s.Error
	if w.Await != nil {
		w.Await.Detail = s.Detail
	}
	w.object = key
	w.Sections.use(key)
	return nil
}

// snapshot returns the snapshot as far as the manifest goes. What it says is not yet validated, but has its types.
func (w *wireManifest) snapshot() (*Snapshot, error) {
	bad := func(format string, args ...any) (*Snapshot, error) {
		return nil, corrupt("manifest", headerSize, format, args...)
	}
	s := &Snapshot{
		ModuleName: w.ModuleName,
		Coroutine:  w.Coroutine,
		Seq:        w.Seq,
		Entry:      w.Entry,
		ExitCode:   w.ExitCode,
		Error:      w.Error,
		Memory:     Memory{Size: w.MemorySize, Max: w.MemoryMax},
	}
	if len(w.Module) != len(s.Module) {
		return bad("module hash of %d bytes", len(w.Module))
	}
	s.Module = Hash(w.Module)
	if w.Modules != nil && len(w.Modules) == 0 {
		return bad("an empty list of modules")
	}
	for i, h := range w.Modules {
		if len(h) != len(s.Module) || i > 0 && bytes.Compare(w.Modules[i-1], h) >= 0 {
			return bad("the hash of a module that it needs is not one, or out of order")
		}
	}
	if w.Parent != nil {
		if len(w.Parent.Hash) != len(s.Module) {
			return bad("parent's hash of %d bytes", len(w.Parent.Hash))
		}
		s.Parent = &Parent{Seq: w.Parent.Seq, Hash: Hash(w.Parent.Hash)}
	}
	var ok bool
	if s.Time, ok = w.Time.time(); !ok {
		return bad("impossible time")
	}
	if w.Status == 0 || int(w.Status) >= len(statusCodes) {
		return bad("unknown status %d", w.Status)
	}
	s.Status = statusCodes[w.Status]
	if a := w.Await; a != nil {
		s.Await = &Await{Import: a.Import, Kind: a.Kind, Detail: a.Detail}
		if a.Until != nil {
			if s.Await.Until, ok = a.Until.time(); !ok || s.Await.Until.IsZero() {
				return bad("await: impossible time")
			}
		}
	}
	if o := w.Origin; o != nil {
		if len(o.Hash) != len(s.Module) || o.Bytes > MaxSeq {
			return bad("a root with a hash of %d bytes, of %d bytes", len(o.Hash), o.Bytes)
		}
		s.Base = &Base{Origin: Origin{Root: Ref{Seq: o.Seq, Name: o.Name, Hash: Hash(o.Hash)}, RootBytes: int64(o.Bytes), Anchor: o.Anchor}}
	}
	return s, nil
}

// parseManifest reads a snapshot's manifest from data, which starts with its container's header and holds the manifest.
func parseManifest(h header, data []byte, keys *Keyring) (*wireManifest, *Snapshot, error) {
	if !h.kind.isSnapshot() {
		return nil, nil, corrupt("header", 10, "a %v, not a snapshot", h.kind)
	}
	raw, err := h.checkManifest(data)
	if err != nil {
		return nil, nil, err
	}
	w := &wireManifest{}
	if err := unmarshal("manifest", headerSize, raw, w); err != nil {
		return nil, nil, err
	}
	bad := func(format string, args ...any) (*wireManifest, *Snapshot, error) {
		return nil, nil, corrupt("manifest", headerSize, format, args...)
	}
	allowed := []uint8{sectionOutput, sectionState, sectionMemory, sectionPatches}
	if h.version < Version2 {
		allowed = allowed[:3]
	}
	if err := h.checkSections(w.Sections, allowed...); err != nil {
		return nil, nil, err
	}
	if err := w.decrypt(h, data, keys); err != nil {
		return nil, nil, err
	}
	s, err := w.snapshot()
	if err != nil {
		return nil, nil, err
	}
	if (s.Base != nil) != (h.kind == KindDelta) {
		return bad("a %v that has a base, or a delta that has none", h.kind)
	}
	if err := s.validateManifest(ErrCorrupt); err != nil {
		return nil, nil, err
	}
	if w.Frames > MaxFrames {
		return bad("%d frames, at most %d are allowed", w.Frames, MaxFrames)
	}
	if memory := w.section(sectionMemory); memory.Raw != uint64(w.Pages)*PageSize || memory.Raw > s.Memory.Size {
		return bad("%d pages in %d bytes of a memory of %d", w.Pages, memory.Raw, s.Memory.Size)
	}
	if patches := w.section(sectionPatches); (patches.Raw == 0) != (w.Patches == 0) || 2*uint64(w.Patches) > patches.Raw ||
		(uint64(w.Pages)+uint64(w.Patches))*PageSize > s.Memory.Size {
		return bad("%d pages and %d patches in %d bytes of a memory of %d", w.Pages, w.Patches, patches.Raw, s.Memory.Size)
	}
	if output := w.section(sectionOutput); w.Output > output.Raw {
		return bad("%d bytes of output in a section of %d", w.Output, output.Raw)
	}
	return w, s, nil
}

func (w *wireManifest) section(id uint8) section {
	for _, s := range w.Sections {
		if s.ID == id {
			return s
		}
	}
	return section{ID: id}
}

// manifest completes what s says, which has its manifest, and perhaps more.
func (w *wireManifest) manifest(s *Snapshot) *Manifest {
	m := s.manifest()
	m.Pages = int(w.Pages) + int(w.Patches)
	m.Frames = int(w.Frames)
	m.Output = w.Output
	m.Modules = nil
	for _, h := range w.Modules {
		m.Modules = append(m.Modules, Hash(h))
	}
	if w.object != nil {
		m.Key, m.Locked = w.object.id, w.object.aead == nil
	}
	return &m
}

// DecodeManifest decodes the manifest of an encoded snapshot, of which data need hold only the first bytes: those up to
// the manifest's end, usually less than 1 KiB. The manifest is verified by its checksum; the rest is not looked at. That of
// an encrypted snapshot is Locked.
//
// Errors: a [*FormatError] with [ErrCorrupt], also if data ends before the manifest does, or [ErrVersion].
func DecodeManifest(data []byte) (*Manifest, error) { return (*Keyring)(nil).decodeManifest(data) }

func (r *Keyring) decodeManifest(data []byte) (*Manifest, error) {
	h, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	w, s, err := parseManifest(h, data, r)
	if err != nil {
		return nil, err
	}
	return w.manifest(s), nil
}
