package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// ringOf returns a ring of test keys.
func ringOf(ns ...byte) *Keyring {
	keys := make([]Key, len(ns))
	for i, n := range ns {
		keys[i] = testKey(n)
	}
	return NewKeyring(keys...)
}

// sealedStore has a coroutine of so many commits, and its module, under the first test key.
func sealedStore(t testing.TB, b bucket.Bucket, id string, commits uint64) *Store {
	t.Helper()
	s := storeWith(t, b, id, 0).WithKeys(ringOf(0))
	for seq := uint64(1); seq <= commits; seq++ {
		commit(t, s, commitOf(id, seq))
	}
	return s
}

// TestEncryptedStore keeps what a guest knows out of the bucket, and gives it back to who has the key.
func TestEncryptedStore(t *testing.T) {
	ctx := t.Context()
	onFastBuckets(t, func(t *testing.T, b bucket.Bucket) {
		s := storeWith(t, b, "p", 0).WithKeys(ringOf(0))
		words := []string{"a detail", "an error", "some output", "host state", "await data", "page content", "a grant"}
		var parent *Parent
		for seq := uint64(1); seq <= 3; seq++ {
			snap := commitOf("p", seq)
			snap.Parent = parent
			snap.Await.Detail, snap.Await.Data = words[0], []byte(words[4])
			snap.Output = []Output{{1, []byte(words[2])}}
			snap.Host = []Section{{"host", 1, []byte(words[3])}}
			snap.Memory.Pages = []Page{page(0, []byte(words[5])...)}
			snap.Grants = []Grant{{"dir", words[6], words[6], ""}}
			if seq == 3 {
				snap.Status, snap.Await, snap.Frames, snap.Error = Failed, nil, nil, words[1]
			}
			c := commit(t, s, snap)
			if c.Key != testKey(0).ID() || c.Locked || c.Bytes == 0 || c.Hash.IsZero() {
				t.Errorf("%+v", c)
			}
			parent = c.AsParent()
			got, at, err := s.Latest(ctx, "p")
			if err != nil || at.Hash != c.Hash || at.Bytes != c.Bytes {
				t.Fatalf("%+v, %v", at, err)
			}
			equal(t, "latest", got, snap)
		}
		if _, err := s.Retain(ctx, "p", Policy{Keep: 1}); err != nil {
			t.Fatal(err)
		}
		putBase(t, s, "base", wasm)
		for _, key := range keys(t, b, "") {
			data, err := bucket.ReadAll(ctx, b, key, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range words {
				if bytes.Contains(data, []byte(word)) {
					t.Errorf("%s has %q", key, word)
				}
			}
		}
		if got := logsOf(t, s, "p"); got != strings.Repeat(words[2], 3) {
			t.Errorf("logs %q", got)
		}
		// Without the key, or with another, there are listings, and nothing else.
		for _, keys := range []*Keyring{nil, ringOf(5)} {
			s := NewStore(b).WithKeys(keys)
			c, err := s.Head(ctx, "p")
			if err != nil || c.Seq != 3 || c.Status != Failed || !c.Locked || c.Error != "" || c.Key != testKey(0).ID() {
				t.Errorf("head %+v, %v", c, err)
			}
			_, _, latest := s.Latest(ctx, "p")
			_, base := s.Base(ctx, "base", nil)
			for what, err := range map[string]error{
				"latest": latest, "base": base, "logs": s.Logs(ctx, "p", io.Discard, nil), "export": s.Export(ctx, "p", 0, io.Discard),
			} {
				if !errors.Is(err, ErrKey) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), testKey(0).ID().String()) {
					t.Errorf("%s: %v", what, err)
				}
			}
			for base, err := range s.Bases(ctx) {
				if err != nil || base.Err != nil || base.Coroutine != "base" || !base.Locked {
					t.Errorf("%+v, %v", base, err)
				}
			}
		}
		c, err := s.Head(ctx, "p")
		if err != nil || c.Locked || c.Error != words[1] {
			t.Errorf("head with the key %+v, %v", c, err)
		}
	})
}

// TestEncryptedChains commits what guests do, under one key, then another, then none: all that the reader has the keys of
// is restored, in memory and as if it were large.
func TestEncryptedChains(t *testing.T) {
	ctx := t.Context()
	b := bucket.NewMem()
	plain := NewStore(b)
	if _, err := plain.PutModule(ctx, wasm); err != nil {
		t.Fatal(err)
	}
	base, of := putBase(t, plain.WithKeys(ringOf(0)), "base", wasm)
	all := ringOf(1, 0)
	for seed, base := range []*Snapshot{nil, base} {
		m := newModel(fmt.Sprint("m", seed), wasm, rand.New(rand.NewPCG(uint64(seed), 3)), base, of)
		for n := range 60 {
			s := plain.WithKeys([]*Keyring{ringOf(0), ringOf(1, 0), nil}[n/20])
			s.large, s.inMemory = []int64{large, -1}[n%2], []int64{inMemory, 0}[n/2%2]
			if err := m.commit(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
		m.check(t, plain.WithKeys(all))
		s := plain.WithKeys(all)
		s.inMemory = 0
		m.check(t, s)
		if _, err := s.Retain(ctx, m.id, Policy{Keep: 10}); err != nil {
			t.Fatal(err)
		}
		m.check(t, s)
	}
	c, err := plain.WithKeys(all).Check(ctx, CheckOptions{})
	if err != nil || len(c.Problems) > 0 || c.Locked > 0 {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = plain.WithKeys(ringOf(1)).Check(ctx, CheckOptions{})
	if err != nil || len(c.Problems) > 0 || c.Locked == 0 || c.Objects != len(keys(t, b, "")) {
		t.Errorf("without one key %+v, %v", c, err)
	}
}

// TestCommitAgainEncrypted retries a commit whose answer was lost: it meets its own object, in other bytes than it would put.
func TestCommitAgainEncrypted(t *testing.T) {
	ctx := t.Context()
	for name, size := range map[string]int64{"in memory": large, "in a file": -1} {
		t.Run(name, func(t *testing.T) {
			b := bucket.NewMem()
			s := sealedStore(t, b, "p", 1)
			s.large = size
			snap := commitOf("p", 2)
			first := commit(t, s, snap)
			for _, keys := range []*Keyring{ringOf(0), ringOf(4, 0)} { // in between the key was changed
				again, err := s.WithKeys(keys).Commit(ctx, snap)
				if err != nil || again.Hash != first.Hash || again.Bytes != first.Bytes || again.Key != testKey(0).ID() || again.Await.Detail != "next" {
					t.Errorf("again: %+v, %v", again, err)
				}
			}
			for name, change := range map[string]func(*Snapshot){
				"time":   func(s *Snapshot) { s.Time = s.Time.Add(1) },
				"detail": func(s *Snapshot) { s.Await.Detail = "text" },
				"state":  func(s *Snapshot) { s.Await.Data = []byte{9} },
				"memory": func(s *Snapshot) { s.Memory.Pages[0].Data[9] ^= 1 },
				"output": func(s *Snapshot) { s.Output[0].Data = []byte("other\n") },
			} {
				other := commitOf("p", 2)
				change(other)
				if _, err := s.Commit(ctx, other); !errors.Is(err, ErrFenced) {
					t.Errorf("another %s: %v", name, err)
				}
			}
			for _, keys := range []*Keyring{nil, ringOf(4)} {
				if _, err := s.WithKeys(keys).Commit(ctx, snap); !errors.Is(err, ErrFenced) {
					t.Errorf("with keys %v: %v", keys.IDs(), err)
				}
			}
			for range 2 {
				if _, err := s.Commit(ctx, commitOf("q", 1)); err != nil {
					t.Errorf("a first one: %v", err)
				}
			}
			other := commitOf("q", 1)
			other.Entry = "main"
			if _, err := s.Commit(ctx, other); !errors.Is(err, ErrExist) || !errors.Is(err, ErrFenced) {
				t.Errorf("another first one: %v", err)
			}
			base := commitOf("base", 1)
			one, err := s.PutBase(ctx, "base", base)
			if err != nil {
				t.Fatal(err)
			}
			if two, err := s.PutBase(ctx, "base", base); err != nil || one.Hash != two.Hash {
				t.Errorf("a base again: %+v, %v", two, err)
			}
			base.Entry = "main"
			if _, err := s.PutBase(ctx, "base", base); !errors.Is(err, ErrExist) {
				t.Errorf("another base: %v", err)
			}
		})
	}
}

// TestRetainWithoutKey drops nothing whose output can't be read; what needs no key goes on.
func TestRetainWithoutKey(t *testing.T) {
	ctx := t.Context()
	b := bucket.NewMem()
	s := sealedStore(t, b, "p", 5)
	before := keys(t, b, "")
	if _, err := NewStore(b).Retain(ctx, "p", Policy{Keep: 1}); !errors.Is(err, ErrKey) {
		t.Errorf("retain: %v", err)
	}
	c := collect(t, NewStore(b), CollectOptions{})
	if len(c.Damaged) > 0 || len(c.Skipped) > 0 {
		t.Errorf("%+v", c)
	}
	c, err := NewStore(b).Collect(ctx, CollectOptions{Policy: Policy{Keep: 1}})
	if err != nil || len(c.Damaged) > 0 || len(c.Skipped) != 1 || !errors.Is(c.Skipped[0], ErrKey) {
		t.Errorf("%+v, %v", c, err)
	}
	if after := keys(t, b, ""); !slices.Equal(before, after) {
		t.Errorf("%v became %v", before, after)
	}
	if _, err := s.Retain(ctx, "p", Policy{Keep: 1}); err != nil {
		t.Fatal(err)
	}
	if got := logsOf(t, s, "p"); got != outputOf(1, 5) {
		t.Errorf("logs %q", got)
	}
	if err := NewStore(b).Delete(ctx, "p"); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// TestCheckWithoutKey finds damage in what it can't read.
func TestCheckWithoutKey(t *testing.T) {
	ctx := t.Context()
	fill := func() bucket.Bucket {
		b := bucket.NewMem()
		checkedStore(t, b, ringOf(0))
		return b
	}
	b := fill()
	all := keys(t, b, "")
	c, err := NewStore(b).Check(ctx, CheckOptions{})
	modules := len(keys(t, b, modulesPrefix))
	if err != nil || len(c.Problems) > 0 || c.Objects != len(all) || c.Locked != len(all)-modules || c.Bytes != sizeOf(t, b) {
		t.Errorf("%d objects, %d modules: %+v, %v", len(all), modules, c, err)
	}
	for _, key := range all {
		for _, at := range []int{3, 60, -40, -1} {
			if strings.HasPrefix(key, modulesPrefix) && at != 3 {
				continue
			}
			b := copyOf(t, b)
			flipAt(t, b, key, at)
			found := problems(t, NewStore(b))
			if !slices.ContainsFunc(found, func(p string) bool { return strings.HasPrefix(p, key+" ") }) {
				t.Errorf("byte %d of %s flipped: %v", at, key, found)
			}
		}
	}
	for key, want := range map[string]string{
		commitKey("full", 2): commitKey("full", 2) + " full 2 4/4",
		baseKey("base"):      baseKey("base") + " based 0 0/12",
	} {
		b := copyOf(t, b)
		if err := b.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		if found := problems(t, NewStore(b)); !slices.Contains(found, want) {
			t.Errorf("without %s: %v", key, found)
		}
	}
	// Another object that is sound in itself.
	b2 := copyOf(t, b)
	data, err := bucket.ReadAll(ctx, b2, commitKey("own", 58), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, b2, commitKey("own", 57), data)
	if found := problems(t, NewStore(b2)); !slices.ContainsFunc(found, func(p string) bool { return strings.HasPrefix(p, commitKey("own", 57)+" own 57 ") }) {
		t.Errorf("moved: %v", found)
	}
}

// copyOf copies a bucket.
func copyOf(t testing.TB, from bucket.Bucket) bucket.Bucket {
	t.Helper()
	to := bucket.NewMem()
	for _, key := range keys(t, from, "") {
		data, err := bucket.ReadAll(context.Background(), from, key, 1<<30)
		if err == nil {
			err = bucket.PutBytes(context.Background(), to, key, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestRekey brings coroutines from any key under another, and from none.
func TestRekey(t *testing.T) {
	ctx := t.Context()
	for name, from := range map[string]*Keyring{"plain": nil, "another key": ringOf(0), "another key, without locks": ringOf(0)} {
		t.Run(name, func(t *testing.T) {
			b := bucket.Bucket(bucket.NewMem())
			if strings.Contains(name, "without locks") {
				b = buckettest.NoLock(b)
			}
			s, _ := checkedStore(t, b, from)
			ended := commitOf("ended", 1)
			ended.Status, ended.Await, ended.Frames, ended.ExitCode = Completed, nil, nil, 7
			commit(t, s, ended)
			outputs, states := map[string]string{}, map[string]*Snapshot{}
			ids := []string{"based", "ended", "full", "own"}
			for _, id := range ids {
				snap, _, err := s.Latest(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				outputs[id], states[id] = logsOf(t, s, id), snap
			}
			both := s.WithKeys(NewKeyring(append(ringOf(9).keys, ringOf(0).keys...)...))
			for _, id := range ids {
				r, err := both.Rekey(ctx, id, LeaseOptions{})
				if err != nil || !r.Done || r.Commit.Key != testKey(9).ID() || r.Commit.Seq != states[id].Seq+1 {
					t.Fatalf("%s: %+v, %v", id, r, err)
				}
				if r, err := both.Rekey(ctx, id, LeaseOptions{}); err != nil || r.Done {
					t.Errorf("%s again: %+v, %v", id, r, err)
				}
			}
			// The old key is no longer needed, but for the bases.
			only := NewStore(b).WithKeys(ringOf(9))
			for _, id := range ids {
				snap, c, err := only.Latest(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				want := *states[id]
				want.Seq, want.Parent, want.Time, want.Output = c.Seq, snap.Parent, snap.Time, nil
				equal(t, id, snap, &want)
				if got := logsOf(t, only, id); got != outputs[id] {
					t.Errorf("%s: logs %q, want %q", id, got, outputs[id])
				}
				if seqs := seqsOf(t, only, id); !slices.Equal(seqs, []uint64{c.Seq}) {
					t.Errorf("%s: history %v", id, seqs)
				}
			}
			c, err := only.Check(ctx, CheckOptions{IDs: ids})
			if err != nil || len(c.Problems) > 0 || c.Locked > 0 {
				t.Errorf("%+v, %v", c, err)
			}
			if err := only.DeleteBase(ctx, "base"); err != nil {
				t.Errorf("the base is needed no more: %v", err)
			}
		})
	}
	if _, err := storeWith(t, bucket.NewMem(), "p", 1).Rekey(ctx, "p", LeaseOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without keys: %v", err)
	}
	if _, err := sealedStore(t, bucket.NewMem(), "p", 1).WithKeys(ringOf(3)).Rekey(ctx, "p", LeaseOptions{}); !errors.Is(err, ErrKey) {
		t.Errorf("without the old key: %v", err)
	}
	s := sealedStore(t, bucket.NewMem(), "p", 1)
	l, err := s.Acquire(ctx, "p", LeaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WithKeys(ringOf(3, 0)).Rekey(ctx, "p", LeaseOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("a coroutine that is driven: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

// TestRekeyMessages: messages that wait stay under the key that they have, and are counted.
func TestRekeyMessages(t *testing.T) {
	ctx := t.Context()
	b := bucket.NewMem()
	plain, old := storeWith(t, b, "p", 1), NewStore(b).WithKeys(ringOf(0))
	both := NewStore(b).WithKeys(ringOf(9, 0))
	for _, send := range []struct {
		s   *Store
		key string
	}{{plain, ""}, {old, ""}, {old, "mine"}, {both, ""}} {
		if _, err := send.s.Send(ctx, "p", Message{Name: "m", Key: send.key, Data: []byte("data")}); err != nil {
			t.Fatal(err)
		}
	}
	damaged := messagesPrefix("p") + NewMessageKey()
	if err := bucket.PutBytes(ctx, b, damaged, []byte("no message")); err != nil {
		t.Fatal(err)
	}
	for _, done := range []bool{true, false} {
		if r, err := both.Rekey(ctx, "p", LeaseOptions{}); err != nil || r.Done != done || r.Messages != 3 {
			t.Errorf("%+v, %v; want 3 messages", r, err)
		}
	}
	if r, err := NewStore(b).WithKeys(ringOf(9)).Rekey(ctx, "p", LeaseOptions{}); err != nil || r.Messages != 3 {
		t.Errorf("without the old key: %+v, %v; want 3 messages", r, err)
	}
	if list, _, err := both.Inbox(ctx, "p"); err != nil || len(list) != 5 {
		t.Errorf("inbox: %d messages, %v", len(list), err)
	}
}

// TestRekeyCrash stops at each request: the coroutine stays whole, and another Rekey completes it.
func TestRekeyCrash(t *testing.T) {
	ctx := t.Context()
	start := bucket.NewMem()
	s := sealedStore(t, start, "p", 6)
	if _, err := s.Retain(ctx, "p", Policy{Keep: 4}); err != nil {
		t.Fatal(err)
	}
	commit(t, s, commitOf("p", 7))
	if _, err := s.Retain(ctx, "p", Policy{Keep: 4}); err != nil {
		t.Fatal(err)
	}
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			b := copyOf(t, start)
			f := buckettest.NewFaulty(b, buckettest.CrashAt(n, after))
			_, err := NewStore(f).WithKeys(ringOf(3, 0)).Rekey(ctx, "p", LeaseOptions{})
			s := NewStore(b).WithKeys(ringOf(3, 0))
			snap, _, lerr := s.Latest(ctx, "p")
			if lerr != nil || snap.Await.Data[0] != 7 {
				t.Fatalf("crash at %d: %v, %v", n, err, lerr)
			}
			if got := logsOf(t, s, "p"); got != outputOf(1, 7) {
				t.Fatalf("crash at %d: logs %q", n, got)
			}
			if _, err := s.Rekey(ctx, "p", LeaseOptions{}); err != nil {
				t.Fatalf("crash at %d: %v", n, err)
			}
			only := NewStore(b).WithKeys(ringOf(3))
			if got := logsOf(t, only, "p"); got != outputOf(1, 7) {
				t.Fatalf("crash at %d, done after: logs %q", n, got)
			}
			if c, err := only.Check(ctx, CheckOptions{}); err != nil || len(c.Problems)+c.Locked+len(c.Leftovers) > 0 {
				t.Fatalf("crash at %d, done after: %+v, %v", n, c, err)
			}
			if err == nil {
				if n < 10 {
					t.Errorf("only %d requests", n)
				}
				break
			}
		}
	}
}

// TestEncryptedBundle moves a coroutine between stores with other keys, and without any.
func TestEncryptedBundle(t *testing.T) {
	ctx := t.Context()
	s := sealedStore(t, bucket.NewMem(), "p", 3)
	var plain, encrypted bytes.Buffer
	if err := s.Export(ctx, "p", 0, &plain); err != nil {
		t.Fatal(err)
	}
	if err := s.ExportEncrypted(ctx, "p", 0, &encrypted); err != nil {
		t.Fatal(err)
	}
	if err := storeWith(t, bucket.NewMem(), "p", 1).ExportEncrypted(ctx, "p", 0, io.Discard); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
	if bytes.Contains(encrypted.Bytes(), wasm[8:]) || !bytes.Contains(plain.Bytes(), wasm[8:]) {
		t.Error("the module is in the encrypted bundle, or not in the other")
	}
	want := commitOf("p", 3)
	want.Grants = nil
	for _, keys := range []*Keyring{nil, ringOf(0), ringOf(5, 0), ringOf(5)} {
		for name, bundle := range map[string][]byte{"plain": plain.Bytes(), "encrypted": encrypted.Bytes()} {
			// Where a lease is an object, the store is used through a guard.
			to := NewStore(buckettest.NoLock(bucket.NewMem())).WithKeys(keys)
			c, err := to.Import(ctx, bytes.NewReader(bundle), ImportOptions{})
			if name == "encrypted" && !slices.Contains(keys.IDs(), testKey(0).ID()) {
				if !errors.Is(err, ErrKey) {
					t.Errorf("%s with keys %v: %v", name, keys.IDs(), err)
				}
				continue
			}
			if err != nil || c.Key != keys.first() {
				t.Fatalf("%s with keys %v: %+v, %v", name, keys.IDs(), c, err)
			}
			snap, _, err := to.Latest(ctx, "p")
			if err != nil {
				t.Fatal(err)
			}
			want.Parent = snap.Parent
			equal(t, name, snap, want)
			if got := logsOf(t, to, "p"); got != outputOf(1, 3) {
				t.Errorf("%s: logs %q", name, got)
			}
			if w, err := to.peekLog(ctx, "p", logKey("p", 2)); err != nil || (w.Seal != nil) != (keys != nil) {
				t.Errorf("%s: log %+v, %v", name, w, err)
			}
		}
	}
	// A bundle's parts are not encrypted by themselves.
	inner, err := ringOf(0).Encode(commitOf("p", 1))
	if err != nil {
		t.Fatal(err)
	}
	h := HashOf(wasm)
	data, err := encodeContainer(new([]byte), kindBundle, 512, []part{bytesPart(sectionModule, wasm), bytesPart(sectionCommit, inner)}, nil,
		func(b []byte, sections sectionTable) []byte {
			return (&wireBundle{Coroutine: "p", Seq: 1, Module: h[:], Sections: sections}).append(b)
		})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(ctx, bytes.NewReader(data), ImportOptions{ID: "q"}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an encrypted part: %v", err)
	}
}

// BenchmarkCommitEncrypted is what encryption adds to a commit of a small delta.
func BenchmarkCommitEncrypted(b *testing.B) {
	for name, keys := range map[string]*Keyring{"plain": nil, "encrypted": ringOf(0)} {
		b.Run(name, func(b *testing.B) {
			_, after := pythonStep(10, 12)
			b.ReportAllocs()
			var data []byte
			for b.Loop() {
				var err error
				if data, err = keys.Encode(after); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data)), "encoded-bytes")
		})
	}
}

// BenchmarkSeal seals and opens large sections.
func BenchmarkSeal(b *testing.B) {
	content := noise(8 << 20)
	k := ringOf(0).newObject()
	stored := k.sealSection(bytes.Clone(content), 0, sectionMemory, codecRaw)
	s := section{ID: sectionMemory, Raw: uint64(len(content)), Stored: uint64(len(stored)), key: k}
	b.Run("seal", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		buf := make([]byte, 0, len(stored))
		for b.Loop() {
			k.sealSection(append(buf, content...), 0, sectionMemory, codecRaw)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			r, err := s.open(bytes.NewReader(stored))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
