package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/file"
)

// TestSpool encodes in a file, to the same bytes as in memory.
func TestSpool(t *testing.T) {
	for name, key := range map[string]*objectKey{"plain": nil, "encrypted": goldenKeys().newObject()} {
		t.Run(name, func(t *testing.T) { testSpool(t, key) })
	}
}

func testSpool(t *testing.T, key *objectKey) {
	b, err := file.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(b)
	s.large = -1
	all := samples()
	mem, image := interpreter(3 << 20)
	all["interpreter"] = benchSnapshot(DiffPages(mem, image), 10)
	incompressible := benchSnapshot(nil, 1)
	r := rand.NewChaCha8([32]byte{})
	for i := range 600 {
		data := make([]byte, PageSize)
		_, _ = r.Read(data)
		incompressible.Memory.Pages = append(incompressible.Memory.Pages, Page{Number: uint32(i), Data: data})
	}
	all["incompressible"] = incompressible
	for _, c := range chainSamples(t) {
		for _, snap := range c.snaps {
			all[c.id+snap.Parent.string()] = snap
		}
	}
	for name, snap := range all {
		want, err := snap.encode(key)
		if err != nil {
			t.Fatal(name, err)
		}
		e, err := s.encode(t.Context(), snap, key)
		if err != nil {
			t.Fatal(name, err)
		}
		got := make([]byte, e.size)
		if n, err := e.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, want) || e.hash != Digest(want) {
			t.Errorf("%s: %d bytes, which are others than the %d of memory; %v", name, n, len(want), err)
		}
		if key != nil {
			e.close()
			continue // it is read in the same way
		}
		if err := iotest.TestReader(io.NewSectionReader(e, 0, e.size), want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := e.ReadAt(got, e.size-1); n != 1 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: at the end: %d bytes, %v", name, n, err)
		}
		e.close()
	}
	dir, err := b.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func (p *Parent) string() string {
	if p == nil {
		return ""
	}
	return p.Hash.String()
}

// spooling is a bucket with a place for temporary files.
type spooling struct {
	bucket.Bucket
	dir string
}

func (b spooling) TempDir() (string, error) { return b.dir, nil }

// TestSpoolWithoutRoom: that the temporary file can't be made or written is an error of the bucket, as if it was that which had
// no room: who drives coroutines tries again.
func TestSpoolWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(spooling{bucket.NewMem(), dir + "/gone"})
	s.large = -1
	snap := samples()["full"]
	if _, err := s.Commit(t.Context(), snap); !errors.Is(err, bucket.ErrUnavailable) || !errors.As(err, new(*bucket.Error)) {
		t.Errorf("no place: %v", err)
	}
	for cause, want := range map[error]error{
		syscall.ENOSPC: bucket.ErrFull, syscall.EDQUOT: bucket.ErrFull, syscall.EACCES: bucket.ErrPermission, syscall.EIO: bucket.ErrUnavailable,
	} {
		if err := spoolFailure(&fs.PathError{Op: "write", Path: dir, Err: cause}); !errors.Is(err, want) || !errors.As(err, new(*bucket.Error)) {
			t.Errorf("%v became %v", cause, err)
		}
	}
	for _, err := range []error{context.Canceled, &bucket.Error{Op: "put", Kind: bucket.ErrFull}} {
		if got := spoolFailure(err); got != err { //nolint:errorlint // itself
			t.Errorf("%v became %v", err, got)
		}
	}
	if goruntime.GOOS != "linux" {
		return // there is no device that is always full
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	e, err := snap.encoding(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.release()
	if _, err := e.spool(t.Context(), tempFile{full, false}); !errors.Is(spoolFailure(err), bucket.ErrFull) {
		t.Errorf("a full disk: %v", err)
	}
}

// TestSpoolFails encodes invalid snapshots, and under a context that ends; nothing is left.
func TestSpoolFails(t *testing.T) {
	b, err := file.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(b)
	s.large = -1
	bad := samples()["full"]
	bad.Seq = 0
	if _, err := s.Commit(t.Context(), bad); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	mem, image := interpreter(3 << 20)
	snap := benchSnapshot(DiffPages(mem, image), 10)
	stages := map[string]bool{}
	ctx = WithProgress(ctx, func(p Progress) {
		stages[p.What] = true
		if p.Done > p.Total {
			t.Errorf("progress %+v", p)
		}
		if p.Done > p.Total/2 {
			cancel()
		}
	})
	if _, err := s.Commit(ctx, snap); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !stages["compress"] || stages["write"] {
		t.Errorf("stages %v", stages)
	}
	if _, err := s.Head(t.Context(), snap.Coroutine); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestProgress follows a commit and a restore of a large snapshot.
func TestProgress(t *testing.T) {
	s := NewStore(bucket.NewMem())
	s.large, s.inMemory = 0, 0
	mem, image := interpreter(3 << 20)
	snap := benchSnapshot(DiffPages(mem, image), 10)
	var got []string
	done := map[string]Progress{}
	follow := WithProgress(t.Context(), func(p Progress) {
		if len(got) == 0 || got[len(got)-1] != p.What {
			got = append(got, p.What)
		}
		if p.Done < done[p.What].Done {
			t.Errorf("progress %+v after %+v", p, done[p.What])
		}
		done[p.What] = p
	})
	c, err := s.Commit(follow, snap)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got, " ") != "compress write" {
		t.Errorf("stages %v", got)
	}
	ctx := t.Context()
	again, err := s.Commit(ctx, snap)
	if err != nil || again.Hash != c.Hash {
		t.Errorf("the same once more: %v", err)
	}
	other := *snap
	other.ModuleName = "other.wasm"
	if _, err := s.Commit(ctx, &other); !errors.Is(err, ErrFenced) {
		t.Errorf("another: %v", err)
	}
	got = nil
	clear(done)
	chain, err := s.Chain(ctx, "bench", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	restored := bytes.Clone(image)
	if err := chain.ReadRoot(follow, restored); err != nil || !bytes.Equal(restored, mem) {
		t.Errorf("restored: %v", err)
	}
	if strings.Join(got, " ") != "read" {
		t.Errorf("stages %v", got)
	}
	for what, p := range done {
		if p.Done != p.Total || p.Total != c.Bytes {
			t.Errorf("%s ends with %+v", what, p)
		}
	}
	if err := chain.ReadRoot(ctx, restored[:len(restored)-WasmPageSize]); err == nil {
		t.Error("into a memory that is too small")
	}
}

// TestLargeNeedsLittle commits and restores a memory of 128 MiB: beside it a few MiB are enough.
func TestLargeNeedsLittle(t *testing.T) {
	b, err := file.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(b)
	snap := benchSnapshot(nil, 10)
	snap.Memory.Size = 256 << 20
	// Pages that share their content, which doesn't get short, take no memory here.
	r := rand.NewChaCha8([32]byte{})
	content := make([]byte, 2<<20)
	_, _ = r.Read(content)
	for i := range 128 << 20 / PageSize {
		at := (i*1237 + i/512*8) % (len(content) - PageSize)
		snap.Memory.Pages = append(snap.Memory.Pages, Page{Number: uint32(i * 2), Data: content[at : at+PageSize]})
	}
	const little = 16 << 20
	allocated := func(what string, f func() error) {
		t.Helper()
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		err := f()
		goruntime.ReadMemStats(&after)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > little {
			t.Errorf("%s: %d MiB were allocated", what, got>>20)
		}
	}
	var c Commit
	allocated("commit", func() error {
		c, err = s.Commit(t.Context(), snap)
		return err
	})
	if c.Bytes < 3*inMemory {
		t.Fatalf("%d bytes are stored, which is not large", c.Bytes)
	}
	allocated("restore", func() error {
		chain, err := s.Chain(t.Context(), snap.Coroutine, 0, nil)
		if err != nil {
			return err
		}
		page, i := make([]byte, PageSize), 0
		return chain.root.read(t.Context(), func(first, _ uint32) []byte {
			if i > 0 && !bytes.Equal(page, snap.Memory.Pages[i-1].Data) {
				t.Errorf("page %d differs", i-1)
			}
			if first != snap.Memory.Pages[i].Number {
				t.Errorf("page %d instead of %d", first, snap.Memory.Pages[i].Number)
			}
			i++
			return page
		})
	})
}
