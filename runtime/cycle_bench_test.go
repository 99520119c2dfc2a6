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
		s, err := c.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := store.Commit(ctx, s); err != nil {
			b.Fatal(err)
		}
	}
	commit()
	for b.Loop() {
		_ = c.Close()
		s, commitOf, err := store.Latest(ctx, "bench")
		if err != nil {
			b.Fatal(err)
		}
		if c, err = m.Restore(ctx, s, RestoreConfig{Hash: commitOf.Hash}); err != nil {
			b.Fatal(err)
		}
		resume(b, c)
		commit()
	}
}
