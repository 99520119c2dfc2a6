package runtime

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// BenchmarkCycle is the whole life of a commit of a small guest: run to the next await, capture, encode, store in memory,
// forget, read, restore.
func BenchmarkCycle(b *testing.B) {
	ctx := context.Background()
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "wat", "generator.wasm"))
	if err != nil {
		b.Fatal(err)
	}
	// "while i < 3" becomes "while i < 2^32-1".
	const atMost3, endless = "\x41\x03\x49", "\x41\x7f\x49"
	if bytes.Count(binary, []byte(atMost3)) != 1 {
		b.Fatal("the guest is another")
	}
	m, err := testRuntime(b).Compile(ctx, bytes.Replace(binary, []byte(atMost3), []byte(endless), 1))
	if err != nil {
		b.Fatal(err)
	}
	c, err := m.Start(ctx, StartConfig{ID: "bench", Entry: "main"})
	if err != nil {
		b.Fatal(err)
	}
	resume(b, c)
	store := snapshot.NewStore(bucket.NewMem())
	commit := func() {
		s, err := c.Capture()
		if err != nil {
			b.Fatal(err)
		}
		commit, err := store.Commit(ctx, s)
		if err != nil {
			b.Fatal(err)
		}
		c.Committed(commit)
	}
	commit()
	for b.Loop() {
		_ = c.Close()
		if c, err = m.RestoreFrom(ctx, store, "bench", 0, RestoreConfig{}); err != nil {
			b.Fatal(err)
		}
		resume(b, c)
		commit()
	}
}

// BenchmarkCapture is a small step of a CPython that stays in its process: run to the next await, unwind, capture and encode
// what has changed. It compares that with a full snapshot.
func BenchmarkCapture(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(map[bool]string{false: "delta", true: "full"}[full], func(b *testing.B) {
			_, _, c := sleeper(b, true)
			defer c.Close()
			capture := c.Capture
			if full {
				capture = c.Snapshot
			}
			total := 0
			for b.Loop() {
				resume(b, c)
				s, err := capture()
				if err != nil {
					b.Fatal(err)
				}
				data, err := snapshot.Encode(s)
				if err != nil {
					b.Fatal(err)
				}
				total += len(data)
				m, err := snapshot.DecodeManifest(data)
				if err != nil {
					b.Fatal(err)
				}
				c.Committed(snapshot.Commit{Manifest: *m, Bytes: int64(len(data)), Hash: snapshot.Digest(data)})
			}
			b.ReportMetric(float64(total)/float64(b.N), "bytes")
		})
	}
}
