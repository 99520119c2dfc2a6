package snapshot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/snapshot/bucket"
)

func seeds(f *testing.F, pattern string) {
	files, err := filepath.Glob(filepath.Join("testdata", "v*", pattern))
	if err != nil || len(files) == 0 {
		f.Fatal("no golden files", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// checkDecode decodes any bytes: the result is a typed error, or a snapshot that encodes and decodes to itself.
func checkDecode(t *testing.T, data []byte) {
	s, err := Decode(data)
	d, derr := DecodeDelta(data)
	m, merr := DecodeManifest(data)
	if errors.Is(err, ErrKey) || errors.Is(derr, ErrKey) {
		if merr != nil || !m.Locked {
			t.Fatalf("encrypted, with the manifest %+v, %v", m, merr)
		}
		return
	}
	for _, err := range []error{err, derr, merr} {
		var fe *FormatError
		if err != nil && (!errors.As(err, &fe) || errors.Is(err, ErrCorrupt) == errors.Is(err, ErrVersion)) {
			t.Fatalf("error %#v", err)
		}
	}
	if err == nil && derr == nil {
		t.Fatal("a full snapshot and a delta")
	}
	if derr == nil && (merr != nil || !reflect.DeepEqual(*m, d.Manifest)) {
		t.Fatalf("manifest %+v, %v, of a delta %+v", m, merr, d.Manifest)
	}
	if err != nil {
		return
	}
	if merr != nil || m.Coroutine != s.Coroutine || m.Seq != s.Seq || m.Frames != len(s.Frames) {
		t.Fatalf("manifest %+v, %v", m, merr)
	}
	again, err := Encode(s)
	if err != nil {
		t.Fatalf("what was decoded can't be encoded: %v", err)
	}
	s2, err := Decode(again)
	if err != nil {
		t.Fatalf("what was encoded can't be decoded: %v", err)
	}
	if !reflect.DeepEqual(s, s2) {
		t.Fatalf("decoded, encoded and decoded (-first +second):\n%.3000s", cmp.Diff(s, s2))
	}
	if third, err := Encode(s2); err != nil || !bytes.Equal(third, again) {
		t.Fatalf("encoded twice, it is other bytes: %v", err)
	}
}

// FuzzDecode decodes damaged files, as they are and with checksums that match.
func FuzzDecode(f *testing.F) {
	seeds(f, "*.durun")
	f.Add([]byte{})
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecode(t, data)
		checkDecode(t, reseal(data))
		_, _, _ = decodeLog(reseal(data), nil)
	})
}

// FuzzSections decodes containers that are sound and whose state and output aren't.
func FuzzSections(f *testing.F) {
	for _, s := range samples() {
		var output bytes.Buffer
		state := s.wireState(s.Memory.Pages, new([]byte)).append(nil)
		if err := writeOutput(&output, s.Output); err != nil {
			f.Fatal(err)
		}
		f.Add(state, output.Bytes(), uint32(len(s.Frames)), uint16(len(s.Memory.Pages)), uint32(s.outputBytes()), s.Status == Suspended)
	}
	f.Fuzz(func(t *testing.T, state, output []byte, frames uint32, pages uint16, written uint32, suspended bool) {
		s := &Snapshot{Coroutine: "f", Seq: 1, Status: Completed, Memory: Memory{Size: 16 << 20}}
		if suspended {
			s.Status, s.Await = Suspended, &Await{}
		}
		parts := []part{bytesPart(sectionState, state)}
		if len(state) == 0 {
			return
		}
		if len(output) > 0 {
			parts = append([]part{bytesPart(sectionOutput, output)}, parts...)
		}
		if pages %= 64; pages > 0 {
			parts = append(parts, bytesPart(sectionMemory, make([]byte, int(pages)*PageSize)))
		}
		data, err := encodeContainer(new([]byte), KindFull, 4096, parts, nil, func(b []byte, sections sectionTable) []byte {
			m := s.wireManifest(sections)
			m.Frames, m.Pages, m.Output = frames, uint32(pages), uint64(written)
			return m.append(b)
		})
		if err != nil {
			t.Fatal(err)
		}
		checkDecode(t, data)
	})
}

// FuzzDelta restores deltas whose containers are sound and whose state, pages and patches aren't.
func FuzzDelta(f *testing.F) {
	c := chainSamples(f)["all"]
	base := c.whole[0]
	for _, s := range c.snaps[1:] {
		whole, n, patches := splitPages(s.Memory.Pages, maxPatch, new([]byte))
		state := s.wireState(whole, new([]byte)).append(nil)
		f.Add(state, patches, uint16(n), uint8(len(whole)), uint32(len(s.Frames)))
	}
	f.Fuzz(func(t *testing.T, state, patches []byte, patched uint16, pages uint8, frames uint32) {
		s := *c.snaps[1]
		var parts []part
		if len(state) > 0 {
			parts = append(parts, bytesPart(sectionState, state))
		}
		if pages %= 16; pages > 0 {
			parts = append(parts, bytesPart(sectionMemory, make([]byte, int(pages)*PageSize)))
		}
		if len(patches) > 0 {
			parts = append(parts, bytesPart(sectionPatches, patches))
		}
		s.Output = nil
		data, err := encodeContainer(new([]byte), KindDelta, 4096, parts, nil, func(b []byte, sections sectionTable) []byte {
			m := s.wireManifest(sections)
			m.Frames, m.Pages, m.Patches = frames, uint32(pages), uint32(patched)
			return m.append(b)
		})
		if err != nil {
			t.Fatal(err)
		}
		checkDecode(t, data)
		d, err := DecodeDelta(data)
		if err != nil {
			return
		}
		chain := c.root(t)
		chain.Commit, chain.Deltas = d.Commit, []*Delta{d}
		if err := chain.check(); err != nil {
			return
		}
		got, err := chain.Snapshot(t.Context())
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %#v", err)
			}
			return
		}
		mem, want := make([]byte, d.MemorySize), make([]byte, d.MemorySize)
		if err := errors.Join(chain.ReadRoot(t.Context(), mem), chain.ReadDeltas(t.Context(), mem), ApplyPages(want, got.Memory.Pages)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(mem, want) {
			t.Fatal("read into memory it is something else")
		}
		// What was restored can be encoded, as a full snapshot and as the delta that it was.
		if again, err := Decode(encode(t, got)); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("restored, encoded and decoded (-first +second), %v:\n%.3000s", err, cmp.Diff(got, again))
		}
		delta := *got
		delta.Base = &Base{Origin: *d.Origin, State: base}
		delta.Memory.Pages = changedPages(got.Memory.Pages, base.Memory.Pages)
		if chain.Deltas[0], err = DecodeDelta(encode(t, &delta)); err != nil {
			t.Fatal(err)
		}
		if again, err := chain.Snapshot(t.Context()); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("restored, encoded as a delta and restored (-first +second), %v:\n%.3000s", err, cmp.Diff(got, again))
		}
	})
}

// FuzzImport imports damaged bundles: the result is an error and an empty store, or a coroutine that can be read.
func FuzzImport(f *testing.F) {
	seeds(f, "*.bundle")
	seeds(f, "full.durun")
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, reseal(data)} {
			ctx := t.Context()
			b := bucket.NewMem()
			s := NewStore(b)
			c, err := s.Import(ctx, bytes.NewReader(data), ImportOptions{})
			if err != nil {
				if key := (*KeyError)(nil); !errors.As(err, &key) && errors.Is(err, ErrCorrupt) == errors.Is(err, ErrVersion) {
					t.Fatalf("error %#v", err)
				}
				if e, ok, _ := bucket.First(ctx, b, bucket.ListOptions{}); ok {
					t.Fatalf("%s was written before the error %v", e.Key, err)
				}
				continue
			}
			snap, _, err := s.Latest(ctx, c.Coroutine)
			if err != nil || len(snap.Grants) > 0 {
				t.Fatal(snap, err)
			}
			if err := s.Logs(ctx, c.Coroutine, io.Discard, io.Discard); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Module(ctx, snap.Module); err != nil {
				t.Fatal(err)
			}
		}
	})
}
