package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// testKey is a key whose bytes are n, n + 1 and so on.
func testKey(n byte) Key {
	var k Key
	for i := range k.secret {
		k.secret[i] = n + byte(i)
	}
	return k
}

// goldenKeys returns a ring whose salts are 1, 2 and so on, so that what it encrypts is the same each time.
func goldenKeys() *Keyring {
	r := NewKeyring(testKey(0), testKey(100))
	n := uint64(0)
	r.salt = func(salt *[saltSize]byte) {
		n++
		binary.LittleEndian.PutUint64(salt[:], n)
	}
	return r
}

func TestKey(t *testing.T) {
	k := testKey(0)
	const text = "durun-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	if k.Secret() != text || k.ID().String() != "5dd6f599a6b17deb" {
		t.Errorf("%s, %v", k.Secret(), k.ID())
	}
	got, err := ParseKey(text)
	if err != nil || got != k {
		t.Errorf("%v, %v", got, err)
	}
	a, b := NewKey(), NewKey()
	if a == b || a == (Key{}) {
		t.Error("keys are not random")
	}
	if got, err := ParseKey(a.Secret()); err != nil || got != a {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{
		"", "durun-key-1:", "durun-key-2" + text[len("durun-key-1"):], text[:len(text)-1], text + "A", text[:len(text)-1] + "9", // unused bits
		text[:len(text)-1] + "=", text[:20] + "\n" + text[21:], text[:20] + "+" + text[21:],
	} {
		if _, err := ParseKey(bad); err == nil || len(bad) > 20 && strings.Contains(err.Error(), bad[12:20]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestKeyPrints makes sure that no verb prints the secret.
func TestKeyPrints(t *testing.T) {
	k := testKey(0)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{k, &k, []Key{k}, struct{ K Key }{k}} {
			if text := fmt.Sprintf(verb, v); !strings.Contains(text, "key "+k.ID().String()) && !strings.HasPrefix(text, "0x") && !strings.HasPrefix(text, "[]") {
				t.Errorf("%s of %T: %s", verb, v, text)
			} else if strings.Contains(strings.ToLower(text), "0001020304") || strings.Contains(text, "0 1 2 3 4") || strings.Contains(text, "AAEC") {
				t.Errorf("%s of %T shows the secret: %s", verb, v, text)
			}
		}
	}
}

func TestKeyring(t *testing.T) {
	a, b := testKey(1), testKey(2)
	r, err := ParseKeyring("# of June\n\n  " + b.Secret() + "\r\n#" + NewKey().Secret() + "\n" + a.Secret() + "\n" + b.Secret())
	if err != nil || !slices.Equal(r.IDs(), []KeyID{b.ID(), a.ID()}) || r.first() != b.ID() {
		t.Errorf("%v, %v", r.IDs(), err)
	}
	for text, want := range map[string]string{
		"": "no key", "# none\n": "no key", a.Secret() + "\nsecret\n": "line 2", a.Secret() + " " + b.Secret(): "line 1",
	} {
		if _, err := ParseKeyring(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	var none *Keyring
	if none.first() != (KeyID{}) || none.IDs() != nil || none.newObject() != nil || NewKeyring().newObject() != nil {
		t.Error("a ring without keys has some")
	}
	for _, have := range []*Keyring{none, NewKeyring(a)} {
		err := have.object(b.ID(), [saltSize]byte{}).locked()
		var ke *KeyError
		if !errors.Is(err, ErrKey) || !errors.As(err, &ke) || ke.Need != b.ID() || !strings.Contains(err.Error(), b.ID().String()) {
			t.Errorf("%v", err)
		}
		for _, id := range have.IDs() {
			if !strings.Contains(err.Error(), id.String()) {
				t.Errorf("%v", err)
			}
		}
	}
}
