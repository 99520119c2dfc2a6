package snapshot

import (
	"time"
)

// Manifest is what the manifest of an encoded snapshot says: the facts that a listing shows.
type Manifest struct {
	Kind       Kind
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
	MemorySize uint64 // bytes
	MemoryMax  uint64 // bytes, 0 for none
	Pages      int    // pages of PageSize bytes that the snapshot holds
	Frames     int    // frames of the call stack
	Output     uint64 // bytes of output since the parent
}

// wireManifest is the manifest as CBOR. FORMAT.md gives each key's meaning.
type wireManifest struct {
	Coroutine  string      `cbor:"1,keyasint"`
	Seq        uint64      `cbor:"2,keyasint"`
	Parent     *wireParent `cbor:"3,keyasint,omitempty"`
	Module     []byte      `cbor:"4,keyasint"`
	ModuleName []byte      `cbor:"5,keyasint,omitempty"`
	Time       wireTime    `cbor:"6,keyasint"`
	Status     uint8       `cbor:"7,keyasint"`
	Entry      string      `cbor:"8,keyasint,omitempty"`
	Await      *wireAwait  `cbor:"9,keyasint,omitempty"`
	ExitCode   uint32      `cbor:"10,keyasint,omitempty"`
	Error      []byte      `cbor:"11,keyasint,omitempty"`
	MemorySize uint64      `cbor:"12,keyasint,omitempty"`
	MemoryMax  uint64      `cbor:"13,keyasint,omitempty"`
	Pages      uint32      `cbor:"14,keyasint,omitempty"`
	Frames     uint32      `cbor:"15,keyasint,omitempty"`
	Output     uint64      `cbor:"16,keyasint,omitempty"`
	Sections   []section   `cbor:"17,keyasint,omitempty"`
}

type wireParent struct {
	_    struct{} `cbor:",toarray"`
	Seq  uint64
	Hash []byte
}

type wireTime struct {
	_    struct{} `cbor:",toarray"`
	Sec  int64    // since 1970, UTC
	Nsec uint32
}

type wireAwait struct {
	Import string    `cbor:"1,keyasint"`
	Kind   string    `cbor:"2,keyasint"`
	Until  *wireTime `cbor:"3,keyasint,omitempty"`
	Detail []byte    `cbor:"4,keyasint,omitempty"`
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
		ModuleName: []byte(s.ModuleName),
		Time:       toWireTime(s.Time),
		Status:     statusCode(s.Status),
		Entry:      s.Entry,
		ExitCode:   s.ExitCode,
		Error:      []byte(s.Error),
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
		w.Await = &wireAwait{Import: a.Import, Kind: a.Kind, Detail: []byte(a.Detail)}
		if !a.Until.IsZero() {
			t := toWireTime(a.Until)
			w.Await.Until = &t
		}
	}
	return w
}

// snapshot returns the snapshot as far as the manifest goes. What it says is not yet validated, but has its types.
func (w *wireManifest) snapshot() (*Snapshot, error) {
	bad := func(format string, args ...any) (*Snapshot, error) {
		return nil, corrupt("manifest", headerSize, format, args...)
	}
	s := &Snapshot{
		ModuleName: string(w.ModuleName),
		Coroutine:  w.Coroutine,
		Seq:        w.Seq,
		Entry:      w.Entry,
		ExitCode:   w.ExitCode,
		Error:      string(w.Error),
		Memory:     Memory{Size: w.MemorySize, Max: w.MemoryMax},
	}
	if len(w.Module) != len(s.Module) {
		return bad("module hash of %d bytes", len(w.Module))
	}
	s.Module = Hash(w.Module)
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
		s.Await = &Await{Import: a.Import, Kind: a.Kind, Detail: string(a.Detail)}
		if a.Until != nil {
			if s.Await.Until, ok = a.Until.time(); !ok || s.Await.Until.IsZero() {
				return bad("await: impossible time")
			}
		}
	}
	return s, nil
}

// parseManifest reads a snapshot's manifest from data, which starts with its container's header and holds the manifest.
func parseManifest(h header, data []byte) (*wireManifest, *Snapshot, error) {
	if h.kind != Full {
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
	if err := h.checkSections(w.Sections, sectionOutput, sectionState, sectionMemory); err != nil {
		return nil, nil, err
	}
	s, err := w.snapshot()
	if err != nil {
		return nil, nil, err
	}
	if err := s.validateManifest(ErrCorrupt); err != nil {
		return nil, nil, err
	}
	if w.Frames > MaxFrames {
		return nil, nil, corrupt("manifest", headerSize, "%d frames, at most %d are allowed", w.Frames, MaxFrames)
	}
	if memory := w.section(sectionMemory); memory.Raw != uint64(w.Pages)*PageSize || memory.Raw > s.Memory.Size {
		return nil, nil, corrupt("manifest", headerSize, "%d pages in %d bytes of a memory of %d", w.Pages, memory.Raw, s.Memory.Size)
	}
	if output := w.section(sectionOutput); w.Output > output.Raw {
		return nil, nil, corrupt("manifest", headerSize, "%d bytes of output in a section of %d", w.Output, output.Raw)
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

func (w *wireManifest) manifest(s *Snapshot) *Manifest {
	return &Manifest{
		Kind:       Full,
		Module:     s.Module,
		ModuleName: s.ModuleName,
		Coroutine:  s.Coroutine,
		Seq:        s.Seq,
		Parent:     s.Parent,
		Time:       s.Time,
		Status:     s.Status,
		Entry:      s.Entry,
		Await:      s.Await,
		ExitCode:   s.ExitCode,
		Error:      s.Error,
		MemorySize: s.Memory.Size,
		MemoryMax:  s.Memory.Max,
		Pages:      int(w.Pages),
		Frames:     int(w.Frames),
		Output:     w.Output,
	}
}

// DecodeManifest decodes the manifest of an encoded snapshot, of which data need hold only the first bytes: those up to
// the manifest's end, usually less than 1 KiB. The manifest is verified by its checksum; the rest is not looked at.
//
// Errors: a [*FormatError] with [ErrCorrupt], also if data ends before the manifest does, or [ErrVersion].
func DecodeManifest(data []byte) (*Manifest, error) {
	h, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	w, s, err := parseManifest(h, data)
	if err != nil {
		return nil, err
	}
	return w.manifest(s), nil
}
