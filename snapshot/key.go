package snapshot

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// keyPrefix starts a key's text, and tells its kind: 32 bytes, from which AES-256-GCM keys are derived.
const keyPrefix = "durun-key-1:"

// keyIDLabel makes a key's id a hash of its own, which is good for nothing else.
const keyIDLabel = "durun key id 1"

// keyEncoding is that of a key's text: 43 characters, each key in one way.
var keyEncoding = base64.RawURLEncoding.Strict()

// Key is a secret under which a store's objects are encrypted: 32 random bytes. Printed with fmt it shows its [KeyID], and
// never the secret, which [Key.Secret] gives.
type Key struct{ secret [32]byte }

// NewKey returns a new random key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k.secret[:]) // never fails
	return k
}

// ParseKey reads a key from its text: "durun-key-1:" and 43 characters of base64url. Its errors don't quote the text.
func ParseKey(text string) (Key, error) {
	encoded, ok := strings.CutPrefix(text, keyPrefix)
	if !ok {
		return Key{}, fmt.Errorf("a key starts with %q", keyPrefix)
	}
	var k Key
	if len(encoded) != keyEncoding.EncodedLen(len(k.secret)) {
		return Key{}, fmt.Errorf("a key has %d characters after %q, not %d", keyEncoding.EncodedLen(len(k.secret)), keyPrefix, len(encoded))
	}
	if _, err := keyEncoding.Decode(k.secret[:], []byte(encoded)); err != nil {
		return Key{}, fmt.Errorf("after %q a key is base64url, as durun writes it", keyPrefix)
	}
	return k, nil
}

// Secret returns the key as the text that [ParseKey] reads.
func (k Key) Secret() string { return keyPrefix + keyEncoding.EncodeToString(k.secret[:]) }

// ID returns the key's id.
func (k Key) ID() KeyID {
	h := sha256.New()
	_, _ = io.WriteString(h, keyIDLabel)
	h.Write(k.secret[:])
	return KeyID(h.Sum(nil)[:len(KeyID{})])
}

// Format implements [fmt.Formatter]: whatever the verb, a key prints as its id.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "key "+k.ID().String()) }

// KeyID names a key without giving it away: the first 8 bytes of the SHA-256 of "durun key id 1" and the secret.
type KeyID [8]byte

// String returns the id as 16 hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether there is no id: that of what is not encrypted.
func (id KeyID) IsZero() bool { return id == KeyID{} }

// Keyring is the keys that a store has: the first one encrypts what is written, all decrypt what is read. Nil or without
// keys it writes plain objects, and reads no others. It doesn't change, and any number of goroutines may use it.
type Keyring struct {
	keys []Key
	ids  []KeyID
	salt func(*[saltSize]byte) // random; tests have others
}

// NewKeyring returns a ring of keys, the one that encrypts first. Keys that are there twice count once.
func NewKeyring(keys ...Key) *Keyring {
	r := &Keyring{salt: func(salt *[saltSize]byte) {
		_, _ = rand.Read(salt[:]) // never fails
	}}
	for _, k := range keys {
		if id := k.ID(); !slices.Contains(r.ids, id) {
			r.keys, r.ids = append(r.keys, k), append(r.ids, id)
		}
	}
	return r
}

// ParseKeyring reads keys as they stand in a file: one a line, the one that encrypts first. Empty lines, and lines that start
// with # are passed over. Errors name the line and don't quote it; a text without a key is one.
func ParseKeyring(text string) (*Keyring, error) {
	var keys []Key
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		k, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return NewKeyring(keys...), nil
}

// IDs returns the keys' ids, that of the key that encrypts first. The caller must not change them.
func (r *Keyring) IDs() []KeyID {
	if r == nil {
		return nil
	}
	return r.ids
}

// first returns the id of the key that encrypts; zero if nothing is to be encrypted.
func (r *Keyring) first() KeyID {
	if ids := r.IDs(); len(ids) > 0 {
		return ids[0]
	}
	return KeyID{}
}

// byID returns the key of an id; zero if there is none.
func (r *Keyring) byID(id KeyID) Key {
	if i := slices.Index(r.IDs(), id); i >= 0 {
		return r.keys[i]
	}
	return Key{}
}

// KeyError is the error of reading what is encrypted under a key that isn't there. It is [ErrKey].
type KeyError struct {
	Need KeyID
	Have []KeyID // none: there are no keys at all
}

// Error implements error.
func (e *KeyError) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("%v: it is encrypted under key %v, and no key was given", ErrKey, e.Need)
	}
	have := make([]string, len(e.Have))
	for i, id := range e.Have {
		have[i] = id.String()
	}
	return fmt.Sprintf("%v: it is encrypted under key %v, and this is not among those given: %s", ErrKey, e.Need, strings.Join(have, ", "))
}

// Unwrap returns [ErrKey].
func (e *KeyError) Unwrap() error { return ErrKey }
