package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/fxamacker/cbor/v2"
)

// The versions of the format, one constant each. A version is frozen once it has been released: see FORMAT.md for how
// the format evolves, and testdata for files of each.
const (
	Version1 = 1 // durun 0.1: full snapshots, logs, bundles
)

// Version is the version of the format that [Encode] writes. Decode reads it and those before it.
const Version = Version1

// Kind says what a container holds.
type Kind uint8

// The kinds of containers. 2 is kept for deltas against the parent.
const (
	Full       Kind = 1 // a snapshot against the module's initial image
	kindLog    Kind = 3 // output of commits that were dropped
	kindBundle Kind = 4 // an exported coroutine
)

// String returns "full" or, for what no commit is, "log" and "bundle".
func (k Kind) String() string {
	switch k {
	case Full:
		return "full"
	case kindLog:
		return "log"
	case kindBundle:
		return "bundle"
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
)

// The sections' numbers, in the order in which they stand in a container.
const (
	sectionOutput = 1
	sectionState  = 2
	sectionMemory = 3
	sectionModule = 4
	sectionLog    = 5
	sectionCommit = 6
)

var sectionNames = [...]string{1: "output", "state", "memory", "module", "log", "commit"}

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
	_      struct{} `cbor:",toarray"`
	ID     uint8
	Codec  uint8
	Stored uint64 // bytes in the container
	Raw    uint64 // bytes of content
	CRC    uint32 // CRC-32C of the stored bytes
}

func (s section) name() string { return sectionName(s.ID) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encMode and decMode are CBOR in the core deterministic encoding of RFC 8949, section 4.2.1. What the encoder writes is
// what the decoder takes; checkCanonical holds the rest.
var encMode = func() cbor.UserBufferEncMode {
	m, err := cbor.CoreDetEncOptions().UserBufferEncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

var decMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   6,
		MaxArrayElements:  maxList,
		MaxMapPairs:       64,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// unmarshal decodes CBOR that must be what marshal would have written.
func unmarshal(name string, at int, data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return corrupt(name, at, "%v", err)
	}
	buf := getBuffer()
	defer putBuffer(buf)
	if err := encMode.MarshalToBuffer(v, buf); err != nil {
		return corrupt(name, at, "%v", err)
	}
	if !bytes.Equal(buf.Bytes(), data) {
		return corrupt(name, at, "not in the deterministic encoding")
	}
	return nil
}

// header is the fixed start of every container.
type header struct {
	kind     Kind
	manifest int   // bytes
	total    int64 // bytes of the container, with its digest
	crc      uint32
}

// putHeader writes a container's header into data, which starts with room for it, followed by the manifest.
func putHeader(data []byte, kind Kind, manifest int, total int64) {
	copy(data, magic)
	binary.LittleEndian.PutUint16(data[8:], Version)
	data[10] = byte(kind)
	data[11] = 0
	binary.LittleEndian.PutUint32(data[12:], uint32(manifest))
	binary.LittleEndian.PutUint64(data[16:], uint64(total))
	binary.LittleEndian.PutUint32(data[24:], headerCRC(data[:24], data[headerSize:headerSize+manifest]))
	binary.LittleEndian.PutUint32(data[28:], 0)
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
		kind:     Kind(data[10]),
		manifest: int(min(binary.LittleEndian.Uint32(data[12:]), maxManifest+1)),
		crc:      binary.LittleEndian.Uint32(data[24:]),
	}
	total := binary.LittleEndian.Uint64(data[16:])
	h.total = int64(total)
	switch {
	case h.kind != Full && h.kind != kindLog && h.kind != kindBundle:
		return header{}, corrupt("header", 10, "unknown kind %d", h.kind)
	case data[11] != 0:
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
	if headerCRC(data[:24], manifest) != h.crc {
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
		switch {
		case s.Codec != codecRaw && s.Codec != codecZstd:
			return bad("%s section: unknown codec %d", s.name(), s.Codec)
		case s.Raw == 0 || s.Stored == 0:
			return bad("%s section: it is empty", s.name())
		case s.Codec != codecRaw && isContainer(s.ID):
			return bad("%s section: compressed twice", s.name())
		case s.Codec == codecRaw && s.Raw != s.Stored || s.Codec == codecZstd && s.Raw <= s.Stored:
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
	case sectionMemory:
		return MaxMemory
	case sectionModule:
		return MaxModule
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

// seal writes the digest of what stands before it into the container's last bytes.
func seal(data []byte) {
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

// marshal appends the manifest v to buf.
func marshal(kind Kind, v any, buf *bytes.Buffer) error {
	err := encMode.MarshalToBuffer(v, buf)
	if err == nil && buf.Len() > maxManifest {
		err = fmt.Errorf("%d bytes, at most %d are allowed", buf.Len(), maxManifest)
	}
	if err != nil {
		return &FormatError{Section: "manifest", Offset: -1, Msg: fmt.Sprintf("%v: %v", kind, err), Err: ErrInvalid}
	}
	return nil
}
