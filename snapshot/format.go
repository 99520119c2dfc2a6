package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"math"
)

// The versions of the format, one constant each. A version is frozen once it has been released: see FORMAT.md for how
// the format evolves, and testdata for files of each.
const (
	Version1 = 1 // durun 0.1: full snapshots, logs, bundles
	Version2 = 2 // deltas
)

// Version is the version of the format that is written. It and those before it are read.
const Version = Version2

// Kind says what a container holds.
type Kind uint8

// The kinds of containers.
const (
	KindFull   Kind = 1 // a snapshot against the module's initial image
	KindDelta  Kind = 2 // a snapshot against another one
	kindLog    Kind = 3 // output of commits that were dropped
	kindBundle Kind = 4 // an exported coroutine
	// Messages came to version 2 after it was first written: whoever doesn't know them has no use for what they lie in.
	kindMessage Kind = 5
)

func (k Kind) isSnapshot() bool { return k == KindFull || k == KindDelta }

// String returns "full", "delta" or, for what no commit is, "log", "bundle" and "message".
func (k Kind) String() string {
	switch k {
	case KindFull:
		return "full"
	case KindDelta:
		return "delta"
	case kindLog:
		return "log"
	case kindBundle:
		return "bundle"
	case kindMessage:
		return "message"
	default:
		return "unknown"
	}
}

// MarshalText implements encoding.TextMarshaler, as [Kind.String].
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// The limits of the format. Encode refuses what exceeds them, and Decode does.
const (
	MaxMemory    = 4 << 30 // bytes of linear memory
	MaxFrames    = 1 << 21 // frames of a call stack
	MaxSlots     = 1 << 23 // slots of all frames together
	MaxElements  = 1 << 24 // elements of all tables together
	MaxText      = 1 << 20 // bytes of a text: the error, a name
	MaxState     = 1 << 30 // bytes of the state section before compression: frames, tables, host sections
	MaxOutput    = 1 << 30 // bytes of a commit's output
	MaxStretches = 1 << 22 // stretches of a commit's output; whoever collects it joins those of one stream
	MaxModule    = 1 << 30 // bytes of a module
	MaxSeq       = 1<<63 - 1

	maxManifest = 8 << 20
	maxSections = 16
	maxList     = 1 << 16 // globals, tables, host sections, grants
)

const (
	magic      = "\x89durun\r\n"
	headerSize = 32
	digestSize = sha256.Size

	headerCRCAt = 24
	flagSealed  = 1 // the sections are encrypted
)

// The sections' numbers, in the order in which they stand in a container.
const (
	sectionOutput  = 1
	sectionState   = 2
	sectionMemory  = 3
	sectionModule  = 4
	sectionLog     = 5
	sectionCommit  = 6
	sectionPatches = 7
	sectionData    = 8
)

var sectionNames = [...]string{1: "output", "state", "memory", "module", "log", "commit", "patches", "data"}

func sectionName(id uint8) string {
	if int(id) < len(sectionNames) && sectionNames[id] != "" {
		return sectionNames[id]
	}
	return "section"
}

// The codecs of a section.
const (
	codecRaw  = 0
	codecZstd = 1
)

// section is an entry of a container's table of sections.
type section struct {
	ID     uint8
	Codec  uint8
	Stored uint64     // bytes in the container
	Raw    uint64     // bytes of content
	CRC    uint32     // CRC-32C of the stored bytes
	key    *objectKey // of an encrypted one, once it is known
}

func (s section) name() string { return sectionName(s.ID) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sectionTable is key 17 of each manifest.
type sectionTable []section

func (t sectionTable) append(m *mapWriter) {
	if len(t) == 0 {
		return
	}
	m.key(17)
	m.b = appendHead(m.b, cborArray, uint64(len(t)))
	for _, s := range t {
		m.b = appendUint(appendHead(m.b, cborArray, 5), uint64(s.ID))
		m.b = appendUint(appendUint(m.b, uint64(s.Codec)), s.Stored)
		m.b = appendUint(appendUint(m.b, s.Raw), uint64(s.CRC))
	}
}

func (u *unpacker) sections() sectionTable {
	n := u.count()
	if n > maxSections {
		u.fail("%d sections", n)
	}
	if u.err != nil {
		return nil
	}
	t := make(sectionTable, n)
	for i := range t {
		u.tuple(5)
		t[i] = section{
			ID: uint8(u.number(math.MaxUint8)), Codec: uint8(u.number(math.MaxUint8)),
			Stored: u.number(math.MaxUint64), Raw: u.number(math.MaxUint64), CRC: uint32(u.number(math.MaxUint32)),
		}
	}
	return t
}

// wire is what a manifest, or a state, is as CBOR.
type wire interface {
	append(b []byte) []byte // appends the encoding
	decode(u *unpacker)
}

// unmarshal decodes CBOR, which must be what w then encodes to: the one encoding of its meaning.
func unmarshal(name string, at int, data []byte, w wire) error {
	u := &unpacker{name: name, b: data, base: at}
	w.decode(u)
	if u.more() {
		u.fail("%d bytes follow", u.left())
	}
	if u.err != nil {
		return u.err
	}
	scratch := getScratch()
	defer putScratch(scratch)
	*scratch = w.append((*scratch)[:0])
	if !bytes.Equal(*scratch, data) {
		return corrupt(name, at, "not in the deterministic encoding")
	}
	return nil
}

// header is the fixed start of every container.
type header struct {
	version  uint16
	kind     Kind
	sealed   bool  // encrypted
	manifest int   // bytes
	total    int64 // bytes of the container, with its digest
	crc      uint32
}

// putHeader writes a container's header into data, which starts with room for it, followed by the manifest. It seals that, if
// the container is encrypted.
func putHeader(data []byte, kind Kind, manifest int, total int64, e *encryption) {
	copy(data, magic)
	binary.LittleEndian.PutUint16(data[8:], Version)
	data[10] = byte(kind)
	data[11] = 0
	if e != nil {
		data[11] = flagSealed
	}
	binary.LittleEndian.PutUint32(data[12:], uint32(manifest))
	binary.LittleEndian.PutUint64(data[16:], uint64(total))
	clear(data[headerCRCAt:headerSize])
	if e != nil {
		e.seal(data[:headerSize+manifest])
	}
	binary.LittleEndian.PutUint32(data[headerCRCAt:], headerCRC(data[:headerCRCAt], data[headerSize:headerSize+manifest]))
}

func headerCRC(start, manifest []byte) uint32 {
	return crc32.Update(crc32.Checksum(start, castagnoli), castagnoli, manifest)
}

// parseHeader reads a container's header; data may hold no more than that.
func parseHeader(data []byte) (header, error) {
	if len(data) < headerSize {
		if len(data) == 0 {
			return header{}, corrupt("header", 0, "empty")
		}
		if n := min(len(data), len(magic)); string(data[:n]) != magic[:n] {
			return header{}, corrupt("header", 0, "not a durun file")
		}
		return header{}, corrupt("header", len(data), "truncated: %d bytes of %d", len(data), headerSize)
	}
	if string(data[:8]) != magic {
		return header{}, corrupt("header", 0, "not a durun file")
	}
	if v := binary.LittleEndian.Uint16(data[8:]); v == 0 {
		return header{}, corrupt("header", 8, "format version 0")
	} else if v > Version {
		err := corrupt("header", 8, "format version %d, and this durun reads up to %d: upgrade durun", v, Version)
		err.Err = ErrVersion
		return header{}, err
	}
	h := header{
		version:  binary.LittleEndian.Uint16(data[8:]),
		kind:     Kind(data[10]),
		sealed:   data[11] == flagSealed,
		manifest: int(min(binary.LittleEndian.Uint32(data[12:]), maxManifest+1)),
		crc:      binary.LittleEndian.Uint32(data[headerCRCAt:]),
	}
	total := binary.LittleEndian.Uint64(data[16:])
	h.total = int64(total)
	switch {
	case h.kind == 0 || h.kind > kindMessage, (h.kind == KindDelta || h.kind == kindMessage) && h.version < Version2:
		return header{}, corrupt("header", 10, "unknown kind %d", h.kind)
	case data[11]&^flagSealed != 0, h.sealed && h.version < Version2:
		return header{}, corrupt("header", 11, "unknown flags %#02x", data[11])
	case h.manifest > maxManifest:
		return header{}, corrupt("header", 12, "manifest of more than %d bytes", maxManifest)
	case total > MaxSeq || h.total < headerSize+int64(h.manifest)+digestSize:
		return header{}, corrupt("header", 16, "impossible length %d", total)
	case binary.LittleEndian.Uint32(data[28:]) != 0:
		return header{}, corrupt("header", 28, "reserved bytes are not zero")
	}
	return h, nil
}

// checkManifest verifies the header's checksum and returns the manifest. data must hold both.
func (h header) checkManifest(data []byte) ([]byte, error) {
	end := headerSize + h.manifest
	if len(data) < end {
		return nil, corrupt("manifest", len(data), "truncated: %d bytes of %d", len(data)-headerSize, h.manifest)
	}
	manifest := data[headerSize:end]
	if headerCRC(data[:headerCRCAt], manifest) != h.crc {
		return nil, corrupt("manifest", headerSize, "checksum does not match: damaged")
	}
	return manifest, nil
}

// checkSections verifies a table of sections against the container's length. allowed is the kind's sections in order.
func (h header) checkSections(table []section, allowed ...uint8) error {
	bad := func(format string, args ...any) error { return corrupt("manifest", headerSize, format, args...) }
	if len(table) > maxSections {
		return bad("%d sections", len(table))
	}
	rest := uint64(h.total) - headerSize - uint64(h.manifest) - digestSize
	for _, s := range table {
		for len(allowed) > 0 && allowed[0] != s.ID {
			allowed = allowed[1:]
		}
		if len(allowed) == 0 {
			return bad("section %d is unknown, repeated or out of order", s.ID)
		}
		allowed = allowed[1:]
		packed, ok := s.Stored, true // bytes before they were sealed
		if h.sealed {
			packed, ok = openedSize(s.Stored)
		}
		switch {
		case s.Codec != codecRaw && s.Codec != codecZstd:
			return bad("%s section: unknown codec %d", s.name(), s.Codec)
		case s.Raw == 0 || s.Stored == 0:
			return bad("%s section: it is empty", s.name())
		case s.Codec != codecRaw && isContainer(s.ID):
			return bad("%s section: compressed twice", s.name())
		case !ok || s.Codec == codecRaw && s.Raw != packed || s.Codec == codecZstd && s.Raw <= packed:
			return bad("%s section: %d bytes are stored in %d", s.name(), s.Raw, s.Stored)
		case s.Raw > maxRaw(s.ID):
			return bad("%s section: %d bytes, at most %d are allowed", s.name(), s.Raw, maxRaw(s.ID))
		case s.Stored > rest:
			return bad("%s section: %d bytes in %d", s.name(), s.Stored, rest)
		}
		rest -= s.Stored
	}
	if rest != 0 {
		return bad("%d bytes beyond the sections", rest)
	}
	return nil
}

// isContainer reports whether a section's content is a container itself, compressed within.
func isContainer(id uint8) bool { return id == sectionLog || id == sectionCommit }

func maxRaw(id uint8) uint64 {
	switch id {
	case sectionOutput:
		return MaxOutput
	case sectionState:
		return MaxState
	case sectionMemory, sectionPatches:
		return MaxMemory
	case sectionModule:
		return MaxModule
	case sectionData:
		return MaxMessageData
	default:
		return MaxSeq
	}
}

// verify checks the whole of a container's bytes: header, length, digest. A container of a newer version is told from a
// damaged one, since in every version the last bytes are the digest of those before.
func verify(data []byte) (header, error) {
	h, err := parseHeader(data)
	if err != nil {
		if fe := err.(*FormatError); fe.Err != ErrVersion || digestMatches(data) { //nolint:errorlint // our own, unwrapped
			return header{}, err
		}
		return header{}, corrupt("digest", len(data)-digestSize, "does not match: damaged")
	}
	switch {
	case int64(len(data)) < h.total:
		return header{}, corrupt("digest", len(data), "truncated: %d bytes of %d", len(data), h.total)
	case int64(len(data)) > h.total:
		return header{}, corrupt("digest", int(h.total), "%d bytes follow the end", int64(len(data))-h.total)
	case !digestMatches(data):
		return header{}, corrupt("digest", len(data)-digestSize, "does not match: damaged")
	}
	return h, nil
}

func digestMatches(data []byte) bool {
	if len(data) < headerSize+digestSize {
		return false
	}
	end := len(data) - digestSize
	return sha256.Sum256(data[:end]) == [digestSize]byte(data[end:])
}

// putDigest writes the digest of what stands before it into the container's last bytes.
func putDigest(data []byte) {
	end := len(data) - digestSize
	sum := sha256.Sum256(data[:end])
	copy(data[end:], sum[:])
}

// Digest returns the digest of an encoded snapshot: its last 32 bytes, the SHA-256 of those before. It names the
// commit, in a [Parent] for example. It is zero if encoded is too short.
func Digest(encoded []byte) Hash {
	if len(encoded) < headerSize+digestSize {
		return Hash{}
	}
	return Hash(encoded[len(encoded)-digestSize:])
}
