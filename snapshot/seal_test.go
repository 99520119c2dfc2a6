package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/durun/durun/snapshot/bucket"
)

// sealedSamples are encrypted containers of each kind, each with a golden file of its name after "sealed-".
func sealedSamples(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name, s := range samples() {
		data, err := goldenKeys().Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		all[name+".durun"] = data
	}
	data, err := goldenKeys().Encode(chainSamples(t)["all"].snaps[1])
	if err != nil {
		t.Fatal(err)
	}
	all["delta.durun"] = data
	if data, err = encodeLog("p", 3, 9, []entry{{4, commitOf("p", 4).Output}, {9, commitOf("p", 9).Output}}, goldenKeys().newObject()); err != nil {
		t.Fatal(err)
	}
	all["log.durun"] = data
	var b bytes.Buffer
	if err := storeWith(t, bucket.NewMem(), "p", 3).WithKeys(goldenKeys()).ExportEncrypted(t.Context(), "p", 0, &b); err != nil {
		t.Fatal(err)
	}
	all["coroutine.bundle"] = b.Bytes()
	return all
}

// decodeAny decodes a container of any kind with keys.
func decodeAny(data []byte, keys *Keyring) error {
	switch Kind(data[10]) {
	case KindDelta:
		st, err := readBytes(data, keys)
		if err == nil {
			_, err = st.delta()
		}
		if err == nil {
			err = readAndForget(context.Background(), &st.pages)
		}
		return err
	case kindLog:
		_, _, err := decodeLog(data, keys)
		return err
	case kindBundle:
		_, err := readBundle(bytes.NewReader(data), keys)
		return err
	default:
		_, err := keys.Decode(data)
		return err
	}
}

// TestGoldenSealed decrypts stored containers, and encrypts what is in them to the same bytes.
func TestGoldenSealed(t *testing.T) {
	for name, data := range sealedSamples(t) {
		t.Run(name, func(t *testing.T) {
			want := golden(t, Version, "sealed-"+name, func() []byte { return data })
			if !bytes.Equal(data, want) {
				t.Error(otherBytes)
			}
			for _, keys := range []*Keyring{goldenKeys(), NewKeyring(testKey(7), testKey(0))} {
				if err := decodeAny(want, keys); err != nil {
					t.Error(err)
				}
			}
			for _, keys := range []*Keyring{nil, NewKeyring(), NewKeyring(testKey(1))} {
				err := decodeAny(want, keys)
				var ke *KeyError
				if !errors.Is(err, ErrKey) || errors.Is(err, ErrCorrupt) || !errors.As(err, &ke) || ke.Need != testKey(0).ID() || len(ke.Have) != len(keys.IDs()) {
					t.Errorf("with keys %v: %v", keys.IDs(), err)
				}
			}
			s := samples()[strings.TrimSuffix(name, ".durun")]
			if s == nil {
				return
			}
			got, err := goldenKeys().Decode(want)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "decoded", got, s)
			m, err := DecodeManifest(want)
			if err != nil || !m.Locked || m.Key != testKey(0).ID() || m.Error != "" || m.Await != nil && m.Await.Detail != "" {
				t.Errorf("manifest without a key %+v, %v", m, err)
			}
			m, err = goldenKeys().decodeManifest(want)
			if err != nil || m.Locked || m.Key != testKey(0).ID() || m.Error != s.Error || m.Await != nil && m.Await.Detail != s.Await.Detail {
				t.Errorf("manifest %+v, %v", m, err)
			}
		})
	}
}

// TestSealedDamage changes each bit of encrypted containers, and gives them checksums and a digest that match.
func TestSealedDamage(t *testing.T) {
	for name, data := range sealedSamples(t) {
		h, err := parseHeader(data)
		if err != nil {
			t.Fatal(err)
		}
		for at := range data[:len(data)-digestSize] {
			for bit := range 8 {
				if at > headerSize+h.manifest && at%7 > 0 {
					continue // sections are looked at closer below
				}
				bad := bytes.Clone(data)
				bad[at] ^= 1 << bit
				if bytes.Equal(reseal(bad), data) {
					continue // magic, version, length, checksum
				}
				for _, bad := range [][]byte{bad, reseal(bad)} {
					if err := decodeAny(bad, goldenKeys()); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrKey) {
						t.Fatalf("%s: bit %d of byte %d: %v", name, bit, at, err)
					}
				}
			}
		}
	}
}

// TestSealedHeader is refused where the flag can't be, or doesn't fit.
func TestSealedHeader(t *testing.T) {
	data := sealedSamples(t)["full.durun"]
	plain := encode(t, samples()["full"])
	for name, bad := range map[string][]byte{
		"another flag": func() []byte { b := bytes.Clone(data); b[11] = 3; return b }(),
		"no flag":      func() []byte { b := bytes.Clone(data); b[11] = 0; return b }(),
		"plain":        func() []byte { b := bytes.Clone(plain); b[11] = 1; return b }(),
	} {
		if _, err := goldenKeys().Decode(reseal(bad)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := bytes.Clone(data)
	binary.LittleEndian.PutUint16(old[8:], Version1)
	putDigest(old)
	if _, err := goldenKeys().Decode(old); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "flags") {
		t.Errorf("version 1: %v", err)
	}
}

// sealed is a section of some content, in the two ways that it can be made.
func sealed(t *testing.T, k *objectKey, id uint8, content []byte) (section, []byte) {
	t.Helper()
	stored := k.sealSection(append([]byte("before"), content...), 6, id, codecRaw)[6:]
	var b bytes.Buffer
	w := k.writer(&b, id, codecRaw)
	if _, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(content))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil || !bytes.Equal(b.Bytes(), stored) {
		t.Fatalf("%d bytes: written as %d, %v; in place as %d", len(content), b.Len(), err, len(stored))
	}
	return section{ID: id, Raw: uint64(len(content)), Stored: uint64(len(stored)), CRC: crc32.Checksum(stored, castagnoli), key: k}, stored
}

func TestSealSection(t *testing.T) {
	k := goldenKeys().newObject()
	for _, n := range []int{1, 2, 15, 16, 17, sealChunk - 1, sealChunk, sealChunk + 1, 2 * sealChunk, 3*sealChunk + 5} {
		content := noise(n)
		s, stored := sealed(t, k, sectionMemory, content)
		if got, ok := openedSize(s.Stored); sealedSize(uint64(n)) != s.Stored || !ok || got != uint64(n) {
			t.Errorf("%d bytes: sealed %d, %d; opened %d", n, s.Stored, sealedSize(uint64(n)), got)
		}
		if got, err := s.opened(stored); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: opened %d, %v", n, len(got), err)
		}
		r, err := s.open(bytes.NewReader(stored))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(iotest.OneByteReader(r)); n < 100 && (err != nil || !bytes.Equal(got, content)) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
	}
	for _, n := range []uint64{0, 1, tagSize, sealChunk + tagSize + 1, sealChunk + 2*tagSize, math.MaxUint64, math.MaxInt64 + 1} {
		if plain, ok := openedSize(n); ok {
			t.Errorf("%d bytes are the seal of %d", n, plain)
		}
	}
}

// TestSealSectionHostile gives chunks and sections that others have sealed, or in other places.
func TestSealSectionHostile(t *testing.T) {
	k := goldenKeys().newObject()
	content := noise(3*sealChunk - 100)
	const chunk = sealChunk + tagSize
	s, stored := sealed(t, k, sectionMemory, content)
	ring := goldenKeys()
	ring.newObject()
	other := ring.newObject() // the same key, another salt
	check := func(name string, s section, stored []byte) {
		t.Helper()
		s.Stored, s.CRC = uint64(len(stored)), crc32.Checksum(stored, castagnoli)
		if got, err := s.opened(stored); !errors.Is(err, ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: opened %d bytes, %v", name, len(got), err)
		}
		r, err := s.open(bytes.NewReader(stored))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err == nil || !bytes.Equal(got, content[:len(got)]) {
			t.Errorf("%s: read %d bytes, %v", name, len(got), err)
		}
	}
	check("two chunks swapped", s, slices.Concat(stored[chunk:2*chunk], stored[:chunk], stored[2*chunk:]))
	check("a chunk twice", s, slices.Concat(stored[:chunk], stored[:chunk], stored[2*chunk:]))
	check("a chunk less", s, slices.Concat(stored[:chunk], stored[2*chunk:]))
	check("the last chunk less", s, stored[:2*chunk])
	check("the last chunk shorter", s, stored[:len(stored)-1])
	check("the last chunk first", s, stored[2*chunk:])
	for _, at := range []int{0, 1, sealChunk - 1, sealChunk, chunk - 1, chunk, 2 * chunk, len(stored) - 1} {
		bad := bytes.Clone(stored)
		bad[at] ^= 0x10
		check(fmt.Sprintf("a bit of byte %d", at), s, bad)
	}
	for name, change := range map[string]func(s *section){
		"another section":  func(s *section) { s.ID = sectionModule },
		"another codec":    func(s *section) { s.Codec = codecZstd },
		"another object's": func(s *section) { s.key = other },
		"another key's":    func(s *section) { s.key = NewKeyring(testKey(9)).newObject() },
	} {
		bad := s
		change(&bad)
		check(name, bad, stored)
	}
	last := section{ID: s.ID, key: k}
	check("a chunk from within as the last", last, stored[:chunk])
}

// TestSealedSwap swaps sections of two objects that are under one key.
func TestSealedSwap(t *testing.T) {
	ring := goldenKeys()
	a, b := samples()["noisy"], samples()["noisy"]
	b.Memory.Pages = []Page{page(15, noise(PageSize + 1)[1:]...)}
	x, err := ring.Encode(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := ring.Encode(b)
	if err != nil || len(x) != len(y) {
		t.Fatal(len(x), len(y), err)
	}
	h, err := parseHeader(x)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"sections of another": slices.Concat(x[:headerSize+h.manifest], y[headerSize+h.manifest:]),
		"front of another":    slices.Concat(y[:headerSize+h.manifest], x[headerSize+h.manifest:]),
	} {
		if _, err := ring.Decode(reseal(bad)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSealedTwice encrypts a snapshot twice: nothing is the same but what listings show.
func TestSealedTwice(t *testing.T) {
	ring := NewKeyring(NewKey())
	s := samples()["full"]
	x, err := ring.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	y, err := ring.Encode(s)
	if err != nil || len(x) != len(y) {
		t.Fatal(len(x), len(y), err)
	}
	h, _ := parseHeader(x)
	same := 0
	for i := headerSize + h.manifest; i < len(x); i++ {
		if x[i] == y[i] {
			same++
		}
	}
	if n := len(x) - headerSize - h.manifest; same > n/256+8*int(math.Sqrt(float64(n)/256)) {
		t.Errorf("%d of %d bytes are the same", same, n)
	}
}

// FuzzSealed decrypts containers that were changed. Whatever decrypts was encrypted as it is.
func FuzzSealed(f *testing.F) {
	genuine := map[string]bool{}
	for _, data := range sealedSamples(f) {
		genuine[string(data)] = true
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, reseal(data)} {
			if len(data) < headerSize {
				continue
			}
			err := decodeAny(data, goldenKeys())
			h, herr := parseHeader(data)
			if err == nil && (herr != nil || h.sealed && !genuine[string(data)]) {
				t.Fatal("something that was not encrypted so is decrypted")
			}
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrKey) {
				t.Fatal(err)
			}
		}
	})
}
