package snapshot

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
)

// A released version of the format is frozen, and its golden files are: -update writes those of the newest version that
// are missing and touches no other. To change one before its version is released, remove it first.
var update = flag.Bool("update", false, "write missing golden files")

// goldens is the folder of a version's golden files.
func goldens(version int) string { return fmt.Sprintf("testdata/v%d", version) }

// golden returns a golden file, which is written first if it is of the newest version, is to be, and is missing.
func golden(t *testing.T, version int, name string, data func() []byte) []byte {
	t.Helper()
	path := filepath.Join(goldens(version), name)
	want, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update && version == Version {
		want = data()
		if err := os.MkdirAll(goldens(version), 0o755); err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(path, want, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// forVersions runs a test for each version of the format.
func forVersions(t *testing.T, f func(t *testing.T, version int)) {
	for v := 1; v <= Version; v++ {
		t.Run(fmt.Sprintf("v%d", v), func(t *testing.T) { f(t, v) })
	}
}

const otherBytes = "encoded, it is other bytes: if only the compressor's choice has changed (a new release of the zstd library), " +
	"keep the golden file, which must still decode, and relax this test to compare contents"

// TestGolden decodes files of each version to what they were made from, and encodes that to the same bytes of the newest.
func TestGolden(t *testing.T) {
	forVersions(t, func(t *testing.T, version int) {
		for name, s := range samples() {
			t.Run(name, func(t *testing.T) {
				want := golden(t, version, name+".durun", func() []byte { return encode(t, s) })
				got, err := Decode(want)
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "decoded", got, s)
				if version == Version && !bytes.Equal(encode(t, got), want) {
					t.Error(otherBytes)
				}
			})
		}
	})
}

// TestGoldenDeltas restores stored chains to what was committed, and encodes that to the same bytes.
func TestGoldenDeltas(t *testing.T) {
	for name, c := range chainSamples(t) {
		t.Run(name, func(t *testing.T) {
			s := NewStore(bucket.NewMem())
			for i, snap := range c.snaps {
				file := fmt.Sprintf("chain-%s-%d.durun", name, i)
				want := golden(t, Version, file, func() []byte { return c.encoded[i] })
				if !bytes.Equal(c.encoded[i], want) {
					t.Errorf("%s: %s", file, otherBytes)
				}
				if err := bucket.PutBytes(t.Context(), s.b, c.key(i), want); err != nil {
					t.Fatal(err)
				}
				if snap.Coroutine != c.id {
					continue // the base
				}
				got, _, err := s.At(t.Context(), c.id, snap.Seq)
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "restored", got, c.whole[i])
			}
		})
	}
}

// TestGoldenBundle imports a bundle of each version, and exports the same bytes of the newest.
func TestGoldenBundle(t *testing.T) {
	forVersions(t, func(t *testing.T, version int) {
		ctx := t.Context()
		want := golden(t, version, "coroutine.bundle", func() []byte {
			s := storeWith(t, bucket.NewMem(), "p", 3)
			var out bytes.Buffer
			if err := s.Export(ctx, "p", 0, &out); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		})
		s := NewStore(bucket.NewMem())
		if _, err := s.Import(ctx, bytes.NewReader(want), ImportOptions{}); err != nil {
			t.Fatal(err)
		}
		snap, c, err := s.Latest(ctx, "p")
		if err != nil || c.Seq != 3 {
			t.Fatal(c, err)
		}
		wantSnap := commitOf("p", 3)
		wantSnap.Grants = nil
		wantSnap.Parent = snap.Parent
		equal(t, "imported", snap, wantSnap)
		if got := logsOf(t, s, "p"); got != "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n" {
			t.Errorf("output %q", got)
		}
		var out bytes.Buffer
		if err := s.Export(ctx, "p", 0, &out); err != nil || version == Version && !bytes.Equal(out.Bytes(), want) {
			t.Errorf("exported, it is other bytes (%v); see TestGolden", err)
		}
	})
}

// TestNoOrphans makes sure that each golden file is tested.
func TestNoOrphans(t *testing.T) {
	forVersions(t, func(t *testing.T, version int) {
		entries, err := os.ReadDir(goldens(version))
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]bool{"coroutine.bundle": true}
		for name := range sealedSamples(t) {
			known["sealed-"+name] = version > Version1
		}
		for name := range samples() {
			known[name+".durun"] = true
		}
		for name := range messageSamples() {
			known["message-"+name+".durun"] = version > Version1
			known["message-"+name+"-sealed.durun"] = version > Version1
		}
		for name, c := range chainSamples(t) {
			for i := range c.snaps {
				known[fmt.Sprintf("chain-%s-%d.durun", name, i)] = version > Version1
			}
		}
		for _, e := range entries {
			if !known[e.Name()] || strings.HasPrefix(e.Name(), ".") {
				t.Errorf("%s/%s belongs to no test: remove it, or restore its test", goldens(version), e.Name())
			}
		}
	})
}
