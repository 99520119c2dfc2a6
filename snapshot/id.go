package snapshot

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"unicode/utf8"
)

// MaxID is the longest coroutine id, in bytes.
const MaxID = 128

// ValidID returns nil if id can name a coroutine: 1 to [MaxID] ASCII letters, digits, '.', '_' and '-', the first of them
// neither '.' nor '-'. Else the error is an [ErrID] that says why. Ids that differ only in case are different, but a
// store on a file system that ignores case can't hold both.
func ValidID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: it is empty", ErrID)
	case len(id) > MaxID:
		return fmt.Errorf("%w: %q… is longer than %d bytes", ErrID, id[:32], MaxID)
	case id[0] == '.' || id[0] == '-':
		return fmt.Errorf("%w: %q starts with %q", ErrID, id, id[:1])
	}
	for i, r := range id {
		if r >= utf8.RuneSelf || !idByte(byte(r)) {
			_, n := utf8.DecodeRuneInString(id[i:])
			return fmt.Errorf("%w: %q has %q; ASCII letters, digits, '.', '_' and '-' are allowed", ErrID, id, id[i:i+n])
		}
	}
	return nil
}

func idByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// NewID returns a random id of 12 lower-case letters and digits (60 random bits).
func NewID() string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return string(b[:])
}

// HashOf returns the SHA-256 of data; of a module's bytes it is the module hash.
func HashOf(data []byte) Hash { return sha256.Sum256(data) }

// ParseHash reads a hash as [Hash.String] writes it.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return Hash{}, fmt.Errorf("hash %q: %d hexadecimal digits wanted", s, 2*len(h))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("hash %q: %w", s, err)
	}
	return h, nil
}

// String returns the hash in lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is unset.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText implements encoding.TextMarshaler, as [Hash.String].
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler, as [ParseHash].
func (h *Hash) UnmarshalText(text []byte) error {
	p, err := ParseHash(string(text))
	*h = p
	return err
}
