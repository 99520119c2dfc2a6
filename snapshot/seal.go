package snapshot

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"slices"
)

// Encrypted containers: FORMAT.md, "Encryption". Each container has a key of its own, derived from one of the ring's and
// a random salt. So nonces need not be random: they say which part of the container is sealed, and no part is sealed twice.

const (
	saltSize = 32
	tagSize  = 16
	// sealChunk is how many bytes are sealed at a time. Nothing is used of a chunk before all of it has been read.
	sealChunk   = 1 << 20
	objectLabel = "durun object 1"
	// sealedManifest stands in a nonce for the manifest where others have the section's id.
	sealedManifest = 0
)

// objectKey seals and opens the parts of one container.
type objectKey struct {
	id   KeyID
	salt [saltSize]byte
	aead cipher.AEAD // nil: the key that it is derived from isn't there
	ring *Keyring
}

// newObject returns the key for a container that is to be written, nil if it is not to be encrypted.
func (r *Keyring) newObject() *objectKey {
	if r == nil || len(r.keys) == 0 {
		return nil
	}
	k := &objectKey{id: r.ids[0], ring: r}
	r.salt(&k.salt)
	k.derive(r.keys[0])
	return k
}

// object returns the key of a container that is to be read.
func (r *Keyring) object(id KeyID, salt [saltSize]byte) *objectKey {
	k := &objectKey{id: id, salt: salt, ring: r}
	if i := slices.Index(r.IDs(), id); i >= 0 {
		k.derive(r.keys[i])
	}
	return k
}

func (k *objectKey) derive(master Key) {
	// The key is random itself, and needs no extraction (RFC 5869, section 3.3), which would take as long again.
	key, err := hkdf.Expand(sha256.New, master.secret[:], objectLabel+string(k.salt[:]), 32)
	if err != nil {
		panic(err) // only for a key that is too long
	}
	block, err := aes.NewCipher(key)
	if err == nil {
		k.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic(err) // not for this length
	}
}

// locked returns a [*KeyError] if the key isn't there. k may be nil.
func (k *objectKey) locked() error {
	if k == nil || k.aead != nil {
		return nil
	}
	return &KeyError{Need: k.id, Have: k.ring.IDs()}
}

// nonce is that of a chunk. The codec is in it since a section may be encrypted both ways before one is chosen.
func nonce(id, codec uint8, chunk uint64, last bool) []byte {
	n := make([]byte, 12)
	n[0], n[1] = id, codec
	binary.LittleEndian.PutUint64(n[2:], chunk)
	if last {
		n[11] = 1
	}
	return n
}

// sealedSize returns how many bytes n of plaintext, at least one, become.
func sealedSize(n uint64) uint64 { return n + (n+sealChunk-1)/sealChunk*tagSize }

// openedSize returns how many bytes of plaintext are in n sealed ones; false if they can't be the seal of any.
func openedSize(n uint64) (uint64, bool) {
	if n > math.MaxInt64 {
		return 0, false
	}
	chunks := (n + sealChunk + tagSize - 1) / (sealChunk + tagSize)
	if n <= chunks*tagSize {
		return 0, false
	}
	plain := n - chunks*tagSize
	return plain, sealedSize(plain) == n
}

// sealSection seals what stands in b from start on, in place, and returns b with what that adds.
func (k *objectKey) sealSection(b []byte, start int, id, codec uint8) []byte {
	n := len(b) - start
	chunks := (n + sealChunk - 1) / sealChunk
	b = slices.Grow(b, chunks*tagSize)[:len(b)+chunks*tagSize]
	// The last one first, so that each finds room for its tag.
	for i := chunks - 1; i >= 0; i-- {
		plain := b[start+i*sealChunk:][:min(sealChunk, n-i*sealChunk)]
		to := b[start+i*(sealChunk+tagSize):][:len(plain)]
		copy(to, plain)
		k.aead.Seal(to[:0], nonce(id, codec, uint64(i), i == chunks-1), to, nil)
	}
	return b
}

// sealWriter seals what is written to it as a section. Close writes the last chunk, and does not close w.
type sealWriter struct {
	k         *objectKey
	w         io.Writer
	id, codec uint8
	chunk     uint64
	buf       []byte
}

func (k *objectKey) writer(w io.Writer, id, codec uint8) *sealWriter {
	return &sealWriter{k: k, w: w, id: id, codec: codec, buf: make([]byte, 0, sealChunk+tagSize)}
}

func (s *sealWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(s.buf) == sealChunk { // and another follows
			if err := s.flush(false); err != nil {
				return 0, err
			}
		}
		m := min(len(p), sealChunk-len(s.buf))
		s.buf, p = append(s.buf, p[:m]...), p[m:]
	}
	return n, nil
}

func (s *sealWriter) flush(last bool) error {
	sealed := s.k.aead.Seal(s.buf[:0], nonce(s.id, s.codec, s.chunk, last), s.buf, nil)
	s.chunk++
	s.buf = s.buf[:0]
	_, err := s.w.Write(sealed)
	return err
}

func (s *sealWriter) Close() error { return s.flush(true) }

// opener reads a section's plaintext from its stored bytes.
type opener struct {
	s     section
	r     io.Reader
	left  uint64 // sealed bytes
	chunk uint64
	plain []byte // opened, and not yet read
	buf   []byte
}

// open returns a reader of what a section was before it was sealed, given one of its stored bytes. Whatever is read has
// been authenticated.
func (s section) open(stored io.Reader) (io.Reader, error) {
	if s.key == nil {
		return stored, nil
	}
	if err := s.key.locked(); err != nil {
		return nil, err
	}
	return &opener{s: s, r: stored, left: s.Stored}, nil
}

func (o *opener) Read(p []byte) (int, error) {
	if len(o.plain) == 0 {
		if o.left == 0 {
			return 0, io.EOF
		}
		n := int(min(o.left, sealChunk+tagSize))
		if o.buf == nil {
			o.buf = make([]byte, n)
		}
		sealed := o.buf[:n]
		if _, err := io.ReadFull(o.r, sealed); err != nil {
			return 0, err
		}
		o.left -= uint64(n)
		plain, err := o.s.key.aead.Open(sealed[:0], nonce(o.s.ID, o.s.Codec, o.chunk, o.left == 0), sealed, nil)
		if err != nil {
			return 0, corrupt(o.s.name(), int(o.chunk*sealChunk), "it is not what was encrypted: changed, or damaged")
		}
		o.plain = plain
		o.chunk++
	}
	n := copy(p, o.plain)
	o.plain = o.plain[n:]
	return n, nil
}

// opened returns a section's bytes as they were before they were sealed: stored itself, if they weren't.
func (s section) opened(stored []byte) ([]byte, error) {
	if uint64(len(stored)) != s.Stored {
		return nil, corrupt(s.name(), len(stored), "truncated: %d bytes of %d", len(stored), s.Stored)
	}
	if crc32.Checksum(stored, castagnoli) != s.CRC {
		return nil, corrupt(s.name(), 0, "checksum does not match: damaged")
	}
	r, err := s.open(bytes.NewReader(stored))
	if err != nil || s.key == nil {
		return stored, err
	}
	plain := make([]byte, len(stored)-int((s.Stored+sealChunk+tagSize-1)/(sealChunk+tagSize))*tagSize)
	_, err = io.ReadFull(r, plain)
	return plain, err
}

// secrets is what an encrypted container seals with its manifest: of a snapshot, what may quote the guest's data; of a message,
// what its sender has chosen. As CBOR it is a map; a log and a bundle have none.
type secrets struct {
	Detail string // 1: of the await
	Error  string // 2
	Name   string // 3: of a message
	Key    string // 4: of a message
}

func (s *secrets) append(b []byte) []byte {
	m := newMap(b)
	if s.Detail != "" {
		m.key(1)
		m.b = appendBytes(m.b, s.Detail)
	}
	if s.Error != "" {
		m.key(2)
		m.b = appendBytes(m.b, s.Error)
	}
	m.text(3, s.Name)
	m.text(4, s.Key)
	return m.b
}

func (s *secrets) decode(u *unpacker) {
	u.pairs(func(key uint64) {
		switch key {
		case 1:
			s.Detail = string(u.blob())
		case 2:
			s.Error = string(u.blob())
		case 3:
			s.Name = u.text()
		case 4:
			s.Key = u.text()
		default:
			u.unknown(key)
		}
	})
}

// encryption is how a container is encrypted that is to be written: nil if it isn't.
type encryption struct {
	key     *objectKey
	secrets []byte
}

func encryptionOf(key *objectKey, s secrets) *encryption {
	if key == nil {
		return nil
	}
	return &encryption{key, s.append(nil)}
}

func (e *encryption) object() *objectKey {
	if e == nil {
		return nil
	}
	return e.key
}

// room is how many bytes a manifest may have more than a plain one.
func (e *encryption) room() int {
	if e == nil {
		return 0
	}
	return 80 + len(e.secrets)
}

// wire returns what the manifest has in its key 20, with room for what is sealed, nil for a plain one.
func (e *encryption) wire() *wireSeal {
	if e == nil {
		return nil
	}
	return &wireSeal{Key: e.key.id[:], Salt: e.key.salt[:], Sealed: make([]byte, len(e.secrets)+tagSize)}
}

// seal seals the secrets into the end of a container's front, header and manifest, all of which is authenticated. The CRC
// is not there yet.
func (e *encryption) seal(front []byte) {
	end := len(front) - len(e.secrets) - tagSize
	e.key.aead.Seal(front[end:end], nonce(sealedManifest, codecRaw, 0, true), e.secrets, front[:end])
}

// wireSeal is key 20 of the manifest of an encrypted container. The sealed bytes are its last.
type wireSeal struct {
	Key, Salt, Sealed []byte
}

func (w *wireSeal) append(m *mapWriter) {
	if w == nil {
		return
	}
	m.key(20)
	m.b = appendBytes(appendHead(m.b, cborArray, 3), w.Key)
	m.b = appendBytes(appendBytes(m.b, w.Salt), w.Sealed)
}

func (u *unpacker) seal() *wireSeal {
	u.tuple(3)
	return &wireSeal{u.blob(), u.blob(), u.blob()}
}

// open returns the key of the container that data starts with, nil for a plain one, and what is sealed with the manifest.
// If the key isn't there, the manifest is not authenticated, and what is sealed stays unknown.
func (w *wireSeal) open(h header, data []byte, keys *Keyring) (*objectKey, secrets, error) {
	bad := func(format string, args ...any) (*objectKey, secrets, error) {
		return nil, secrets{}, corrupt("manifest", headerSize, format, args...)
	}
	switch {
	case (w != nil) != h.sealed:
		return bad("encrypted, and it doesn't say how, or the reverse")
	case w == nil:
		return nil, secrets{}, nil
	case len(w.Key) != len(KeyID{}) || len(w.Salt) != saltSize || len(w.Sealed) <= tagSize:
		return bad("a key's id of %d bytes, a salt of %d, a seal of %d", len(w.Key), len(w.Salt), len(w.Sealed))
	}
	k := keys.object(KeyID(w.Key), [saltSize]byte(w.Salt))
	if k.aead == nil {
		return k, secrets{}, nil
	}
	end := headerSize + h.manifest - len(w.Sealed)
	front := bytes.Clone(data[:end])
	clear(front[headerCRCAt:][:4])
	plain, err := k.aead.Open(nil, nonce(sealedManifest, codecRaw, 0, true), w.Sealed, front)
	if err != nil {
		return bad("it is not what was encrypted: changed, or damaged")
	}
	var s secrets
	if err := unmarshal("manifest", headerSize, plain, &s); err != nil {
		return nil, secrets{}, err
	}
	return k, s, nil
}

// use has the sections opened with a key.
func (t sectionTable) use(k *objectKey) {
	for i := range t {
		t[i].key = k
	}
}
