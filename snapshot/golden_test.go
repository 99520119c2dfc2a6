package snapshot

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
)

// A released version of the format is frozen, and its golden files are: -update writes those that are missing and
// touches no other. To change one before its version is released, remove it first.
var update = flag.Bool("update", false, "write missing golden files")

const goldens = "testdata/v1"

// golden returns a golden file, which is written first if it is to be and is missing.
func golden(t *testing.T, name string, data func() []byte) []byte {
	t.Helper()
	path := filepath.Join(goldens, name)
	want, err := os.ReadFile(path)
	if os.IsNotExist(err) && *update {
		want = data()
		if err := os.MkdirAll(goldens, 0o755); err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(path, want, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// TestGolden decodes files of the format's version 1 to what they were made from, and encodes that to the same bytes.
func TestGolden(t *testing.T) {
	for name, s := range samples() {
		t.Run(name, func(t *testing.T) {
			want := golden(t, name+".durun", func() []byte { return encode(t, s) })
			got, err := Decode(want)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "decoded", got, s)
			if !bytes.Equal(encode(t, got), want) {
				t.Error("encoded, it is other bytes: if only the compressor's choice has changed (a new release of the zstd library), " +
					"keep the golden file, which must still decode, and relax this test to compare contents")
			}
		})
	}
}

// TestGoldenBundle imports a bundle of version 1 and exports the same bytes.
func TestGoldenBundle(t *testing.T) {
	ctx := t.Context()
	want := golden(t, "coroutine.bundle", func() []byte {
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
	if err := s.Export(ctx, "p", 0, &out); err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("exported, it is other bytes (%v); see TestGolden", err)
	}
}

// TestNoOrphans makes sure that each golden file is tested.
func TestNoOrphans(t *testing.T) {
	entries, err := os.ReadDir(goldens)
	if err != nil {
		t.Fatal(err)
	}
	known := samples()
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".durun")
		if e.Name() != "coroutine.bundle" && (!ok || known[name] == nil) {
			t.Errorf("%s/%s belongs to no test: remove it, or restore its test", goldens, e.Name())
		}
	}
}
