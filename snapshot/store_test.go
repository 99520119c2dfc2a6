package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
	"github.com/durun/durun/snapshot/bucket/file"
	"github.com/durun/durun/snapshot/bucket/s3/s3test"
)

var wasm = []byte("\x00asm\x01\x00\x00\x00 and what makes a module")

// commitOf returns a snapshot to be committed: each writes its number to both streams.
func commitOf(id string, seq uint64) *Snapshot {
	s := &Snapshot{
		Module: HashOf(wasm), ModuleName: "guest.wasm", Coroutine: id, Seq: seq, Time: time.Unix(1_700_000_000+int64(seq), 5).UTC(),
		Status: Suspended, Entry: "_start",
		Await:  &Await{Import: "durun.yield", Kind: "yield", Detail: "next", Data: []byte{byte(seq)}},
		Frames: withFrames(3), Memory: Memory{Size: WasmPageSize, Pages: []Page{page(uint32(seq%16), byte(seq))}},
		Output: []Output{{1, fmt.Appendf(nil, "out %d\n", seq)}, {2, fmt.Appendf(nil, "err %d\n", seq)}},
		Grants: []Grant{{"dir", "/d", "/home/d", ""}},
	}
	if seq > 1 {
		s.Parent = &Parent{Seq: seq - 1, Hash: HashOf([]byte{byte(seq)})}
	}
	return s
}

func commit(t testing.TB, s *Store, snap *Snapshot) Commit {
	t.Helper()
	c, err := s.Commit(context.Background(), snap)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// storeWith returns a store that has a coroutine with so many commits, and its module.
func storeWith(t testing.TB, b bucket.Bucket, id string, commits uint64) *Store {
	t.Helper()
	s := NewStore(b)
	if _, err := s.PutModule(context.Background(), wasm); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= commits; seq++ {
		commit(t, s, commitOf(id, seq))
	}
	return s
}

// outputOf is the output of commits first to last of commitOf.
func outputOf(first, last uint64) string {
	var b strings.Builder
	for seq := first; seq <= last; seq++ {
		fmt.Fprintf(&b, "out %d\nerr %d\n", seq, seq)
	}
	return b.String()
}

func logsOf(t testing.TB, s *Store, id string) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Logs(context.Background(), id, &b, &b); err != nil {
		t.Errorf("logs: %v", err)
	}
	return b.String()
}

// fold drops commits first to last as a retention would: their output goes into a log first.
func fold(t testing.TB, s *Store, id string, first, last uint64, drop bool) {
	t.Helper()
	ctx := context.Background()
	var entries []entry
	for seq := first; seq <= last; seq++ {
		entries = append(entries, entry{seq, commitOf(id, seq).Output})
	}
	data, err := encodeLog(id, first, last, entries, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.PutBytes(ctx, s.b, logKey(id, last), data); err != nil {
		t.Fatal(err)
	}
	for seq := first; drop && seq <= last; seq++ {
		if err := s.b.Delete(ctx, commitKey(id, seq)); err != nil {
			t.Fatal(err)
		}
	}
}

// onBuckets runs a test on each kind of bucket. S3 is a service and a network that fail now and then.
func onBuckets(t *testing.T, f func(t *testing.T, b bucket.Bucket)) {
	onFastBuckets(t, f)
	t.Run("s3", func(t *testing.T) {
		server := s3test.Start(t)
		c := server.NewBucket(t)
		server.Plan(s3test.Faults(t, 10))
		f(t, s3test.Open(t, c))
	})
}

// onFastBuckets runs a test that needs many operations on the buckets that have them at hand.
func onFastBuckets(t *testing.T, f func(t *testing.T, b bucket.Bucket)) {
	t.Run("mem", func(t *testing.T) { f(t, bucket.NewMem()) })
	t.Run("file", func(t *testing.T) {
		b, err := file.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		f(t, b)
	})
}

func TestStore(t *testing.T) {
	onBuckets(t, func(t *testing.T, b bucket.Bucket) {
		ctx := t.Context()
		s := NewStore(b)
		h, err := s.PutModule(ctx, wasm)
		if err != nil || h != HashOf(wasm) {
			t.Fatal(h, err)
		}
		if _, err := s.PutModule(ctx, wasm); err != nil {
			t.Errorf("put again: %v", err)
		}
		if got, err := s.Module(ctx, h); err != nil || !bytes.Equal(got, wasm) {
			t.Errorf("module: %d bytes, %v", len(got), err)
		}

		var last Commit
		for seq := uint64(1); seq <= 3; seq++ {
			snap := commitOf("p", seq)
			if seq > 1 {
				snap.Parent = last.AsParent()
			}
			before := encode(t, snap)
			last = commit(t, s, snap)
			if last.Bytes != int64(len(before)) || last.Hash != Digest(before) || last.Seq != seq || last.Pages != 1 || last.Kind != KindFull ||
				last.Await.Kind != "yield" || last.Status != Suspended {
				t.Errorf("commit %+v", last)
			}
			got, c, err := s.Latest(ctx, "p")
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "latest", got, snap)
			if c.Hash != last.Hash || c.Bytes != last.Bytes || c.Seq != seq || c.Await.Data != nil {
				t.Errorf("latest commit %+v", c)
			}
		}
		snap, c, err := s.At(ctx, "p", 2)
		if err != nil || snap.Seq != 2 || c.Seq != 2 || last.Parent.Hash != c.Hash {
			t.Errorf("at 2: %v, %v", c, err)
		}
		head, err := s.Head(ctx, "p")
		if err != nil || head.Seq != 3 || head.Bytes != last.Bytes || !head.Time.Equal(last.Time) || detail(head) != "next" {
			t.Errorf("head %+v, %v", head, err)
		}
		commit(t, s, commitOf("q", 1))
		ended := commitOf("q", 2)
		ended.Status, ended.Await, ended.Frames, ended.ExitCode = Completed, nil, nil, 7
		commit(t, s, ended)

		history, err := s.History(ctx, "p")
		if err != nil || len(history) != 3 || history[0].Seq != 1 || history[2].Seq != 3 || history[2].Bytes != last.Bytes {
			t.Errorf("history %+v, %v", history, err)
		}
		var ids []string
		for c, err := range s.List(ctx) {
			if err != nil || c.Err != nil {
				t.Fatal(err, c.Err)
			}
			ids = append(ids, fmt.Sprintf("%s@%d %s %d", c.Coroutine, c.Seq, c.Status, c.ExitCode))
		}
		if want := []string{"p@3 suspended 0", "q@2 completed 7"}; !slices.Equal(ids, want) {
			t.Errorf("list %q", ids)
		}
		if got := logsOf(t, s, "p"); got != outputOf(1, 3) {
			t.Errorf("logs %q", got)
		}
		var out, errs bytes.Buffer
		if err := s.Logs(ctx, "p", &out, &errs); err != nil || out.String() != "out 1\nout 2\nout 3\n" || errs.String() != "err 1\nerr 2\nerr 3\n" {
			t.Errorf("logs %q and %q, %v", &out, &errs, err)
		}
		if err := s.Logs(ctx, "p", nil, nil); err != nil {
			t.Errorf("logs to nowhere: %v", err)
		}

		if err := s.Delete(ctx, "p"); err != nil {
			t.Fatal(err)
		}
		absent(t, s, "p")
		if got := logsOf(t, s, "q"); got != outputOf(1, 2) {
			t.Errorf("the other's logs: %q", got)
		}
		if _, err := s.Module(ctx, h); err != nil {
			t.Errorf("the module went with a coroutine: %v", err)
		}
		commit(t, s, commitOf("p", 1))
		if got := logsOf(t, s, "p"); got != outputOf(1, 1) {
			t.Errorf("a new coroutine of that id: %q", got)
		}
	})
}

func detail(c Commit) string {
	if c.Await == nil {
		return ""
	}
	return c.Await.Detail
}

// absent makes sure that no method knows a coroutine.
func absent(t *testing.T, s *Store, id string) {
	t.Helper()
	ctx := context.Background()
	errs := map[string]error{}
	_, _, errs["latest"] = s.Latest(ctx, id)
	_, _, errs["at"] = s.At(ctx, id, 1)
	_, errs["head"] = s.Head(ctx, id)
	_, errs["history"] = s.History(ctx, id)
	_, errs["resolve"] = s.Resolve(ctx, id)
	_, errs["resolve prefix"] = s.Resolve(ctx, id[:1])
	errs["logs"] = s.Logs(ctx, id, io.Discard, io.Discard)
	errs["export"] = s.Export(ctx, id, 0, io.Discard)
	for op, err := range errs {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of a coroutine that isn't there: %v", op, err)
		}
	}
	for c, err := range s.List(ctx) {
		if err != nil || c.Coroutine == id {
			t.Errorf("list: %+v, %v", c, err)
		}
	}
}

func TestNotFound(t *testing.T) {
	s := NewStore(bucket.NewMem())
	absent(t, s, "x")
	if err := s.Delete(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete: %v", err)
	}
	if _, err := s.Module(t.Context(), Hash{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("module: %v", err)
	}
	commit(t, s, commitOf("x", 1))
	if _, _, err := s.At(t.Context(), "x", 2); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "commit 2 of coroutine x") {
		t.Errorf("at: %v", err)
	}
	for _, id := range []string{"", "..", "a/b"} {
		if _, _, err := s.Latest(t.Context(), id); !errors.Is(err, ErrID) {
			t.Errorf("latest %q: %v", id, err)
		}
		if err := s.Delete(t.Context(), id); !errors.Is(err, ErrID) {
			t.Errorf("delete %q: %v", id, err)
		}
		if _, err := s.Acquire(t.Context(), id, LeaseOptions{}); !errors.Is(err, ErrID) {
			t.Errorf("acquire %q: %v", id, err)
		}
	}
}

func TestFence(t *testing.T) {
	onBuckets(t, func(t *testing.T, b bucket.Bucket) {
		ctx := t.Context()
		s := storeWith(t, b, "p", 2)
		mine := commitOf("p", 3)
		commit(t, s, mine)
		commit(t, s, mine) // a retry whose first answer was lost
		other := commitOf("p", 3)
		other.Time = other.Time.Add(1)
		if _, err := s.Commit(ctx, other); !errors.Is(err, ErrFenced) || errors.Is(err, ErrExist) {
			t.Errorf("another's commit of the same number: %v", err)
		}
		longer := commitOf("p", 3)
		longer.ModuleName = strings.Repeat("x", 1000)
		if _, err := s.Commit(ctx, longer); !errors.Is(err, ErrFenced) {
			t.Errorf("a longer one: %v", err)
		}
		first := commitOf("p", 1)
		first.Time = first.Time.Add(1)
		if _, err := s.Commit(ctx, first); !errors.Is(err, ErrFenced) || !errors.Is(err, ErrExist) {
			t.Errorf("creating it once more: %v", err)
		}
		fold(t, s, "p", 1, 2, true)
		if _, err := s.Commit(ctx, first); !errors.Is(err, ErrFenced) || !errors.Is(err, ErrExist) {
			t.Errorf("creating it once more when its first commits have been dropped: %v", err)
		}
		snap, _, err := s.Latest(ctx, "p")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "latest", snap, mine)
		if _, err := s.Commit(ctx, &Snapshot{Coroutine: "p", Seq: 4}); !errors.Is(err, ErrInvalid) {
			t.Errorf("an invalid snapshot: %v", err)
		}
	})
}

func TestRaceToCommit(t *testing.T) {
	onBuckets(t, func(t *testing.T, b bucket.Bucket) {
		s := NewStore(b)
		for seq := uint64(1); seq <= 10; seq++ {
			var won atomic.Int32
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					snap := commitOf("p", seq)
					snap.ModuleName = fmt.Sprint(g)
					_, err := s.Commit(t.Context(), snap)
					switch {
					case err == nil:
						won.Add(1)
						if got, _, err := s.At(t.Context(), "p", seq); err != nil || got.ModuleName != snap.ModuleName {
							t.Errorf("%d won commit %d, but it is another's, %v", g, seq, err)
						}
					case !errors.Is(err, ErrFenced):
						t.Errorf("commit: %v", err)
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 {
				t.Errorf("%d won commit %d", won.Load(), seq)
			}
		}
	})
}

func TestResolve(t *testing.T) {
	s := NewStore(bucket.NewMem())
	for _, id := range []string{"abc", "abcd", "abx", "b-1", "b.1", "z", "gone"} {
		commit(t, s, commitOf(id, 1))
	}
	for i := range 12 {
		commit(t, s, commitOf(fmt.Sprintf("m%02d", i), 1))
	}
	if err := s.b.Put(t.Context(), coroutinePrefix("gone")+tombstone, bucket.Bytes(nil), 0); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string]string{"abc": "abc", "abcd": "abcd", "abx": "abx", "z": "z", "b-": "b-1", "b.1": "b.1", "m11": "m11"} {
		if got, err := s.Resolve(t.Context(), prefix); got != want || err != nil {
			t.Errorf("%s: %q, %v", prefix, got, err)
		}
	}
	for _, prefix := range []string{"y", "abcde", "abc/", "../", "gone", "go"} {
		if got, err := s.Resolve(t.Context(), prefix); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), prefix) {
			t.Errorf("%s: %q, %v", prefix, got, err)
		}
	}
	if _, err := s.Resolve(t.Context(), ""); !errors.Is(err, ErrID) {
		t.Errorf("no prefix: %v", err)
	}
	var amb *AmbiguousError
	if _, err := s.Resolve(t.Context(), "ab"); !errors.Is(err, ErrAmbiguous) || !errors.As(err, &amb) ||
		!slices.Equal(amb.IDs, []string{"abc", "abcd", "abx"}) || amb.More || !strings.Contains(err.Error(), "abc, abcd, abx") {
		t.Errorf("ab: %v", err)
	}
	if _, err := s.Resolve(t.Context(), "m"); !errors.As(err, &amb) || len(amb.IDs) != 10 || !amb.More {
		t.Errorf("m: %v", err)
	}
}

// TestDroppedCommits reads output that is partly in logs.
func TestDroppedCommits(t *testing.T) {
	s := storeWith(t, bucket.NewMem(), "p", 9)
	check := func(what string) {
		t.Helper()
		if got := logsOf(t, s, "p"); got != outputOf(1, 9) {
			t.Errorf("%s: %q", what, got)
		}
		if _, c, err := s.Latest(t.Context(), "p"); err != nil || c.Seq != 9 {
			t.Errorf("%s: latest %v, %v", what, c.Seq, err)
		}
	}
	fold(t, s, "p", 1, 2, false)
	check("a log and the commits that it is of")
	fold(t, s, "p", 1, 3, true)
	check("two logs that overlap")
	fold(t, s, "p", 4, 5, true)
	check("three logs")
	fold(t, s, "p", 3, 7, true)
	check("a log that reaches back")
	if h, err := s.History(t.Context(), "p"); err != nil || len(h) != 2 || h[0].Seq != 8 {
		t.Errorf("history %v, %v", h, err)
	}
	// Export folds all of it.
	var out bytes.Buffer
	if err := s.Export(t.Context(), "p", 8, &out); err != nil {
		t.Fatal(err)
	}
	to := NewStore(bucket.NewMem())
	if c, err := to.Import(t.Context(), &out, ImportOptions{ID: "other"}); err != nil || c.Seq != 8 || c.Coroutine != "other" {
		t.Fatal(c, err)
	}
	if got := logsOf(t, to, "other"); got != outputOf(1, 8) {
		t.Errorf("imported: %q", got)
	}
	next := commitOf("other", 9)
	commit(t, to, next)
	if got := logsOf(t, to, "other"); got != outputOf(1, 9) {
		t.Errorf("imported and gone on: %q", got)
	}
	// A hole is told.
	if err := s.b.Delete(t.Context(), logKey("p", 7)); err != nil {
		t.Fatal(err)
	}
	if err := s.Logs(t.Context(), "p", io.Discard, nil); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "commits 6 to 7 is missing") {
		t.Errorf("with a hole: %v", err)
	}
	if err := s.Export(t.Context(), "p", 0, io.Discard); !errors.Is(err, ErrCorrupt) {
		t.Errorf("export with a hole: %v", err)
	}
	// Also where a later log goes on behind it.
	fold(t, s, "p", 7, 7, false)
	if err := s.Logs(t.Context(), "p", io.Discard, nil); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "that of commit 6 is missing") {
		t.Errorf("with a hole before a log: %v", err)
	}
}

func TestLargeOutput(t *testing.T) {
	s := storeWith(t, bucket.NewMem(), "p", 1)
	snap := commitOf("p", 2)
	snap.Output = []Output{{1, noise(20_000)}}
	commit(t, s, snap)
	snap = commitOf("p", 3)
	snap.ModuleName = strings.Repeat("n", 2*firstRead) // the manifest does not fit into the first read
	commit(t, s, snap)
	if got := logsOf(t, s, "p"); got != outputOf(1, 1)+string(noise(20_000))+outputOf(3, 3) {
		t.Errorf("%d bytes", len(got))
	}
	if c, err := s.Head(t.Context(), "p"); err != nil || len(c.ModuleName) != 2*firstRead {
		t.Errorf("head: %d, %v", len(c.ModuleName), err)
	}
	full := errors.New("pipe")
	if err := s.Logs(t.Context(), "p", failingWriter{full}, nil); !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// replace puts other bytes under a key.
func replace(t *testing.T, b bucket.Bucket, key string, data []byte) {
	t.Helper()
	if err := b.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := bucket.PutBytes(t.Context(), b, key, data); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedObjects changes what is stored: every read says so, and what is not touched is still there.
func TestDamagedObjects(t *testing.T) {
	ctx := t.Context()
	b := bucket.NewMem()
	s := storeWith(t, b, "p", 3)
	key := commitKey("p", 3)
	good, err := bucket.ReadAll(ctx, b, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	second, err := bucket.ReadAll(ctx, b, commitKey("p", 2), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		bad := bytes.Clone(good)
		bad[at] ^= 0x41
		return bad
	}
	for name, bad := range map[string][]byte{
		"header": flip(3), "manifest": flip(headerSize + 5), "middle": flip(len(good) - 60), "digest": flip(len(good) - 5),
		"cut": good[:len(good)*2/3], "empty": {}, "text": []byte("hello"), "moved": second,
	} {
		replace(t, b, key, bad)
		if _, _, err := s.Latest(ctx, "p"); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "commit 3 of coroutine p") {
			t.Errorf("%s: latest: %v", name, err)
		}
		if _, _, err := s.At(ctx, "p", 2); err != nil {
			t.Errorf("%s: the commit before it: %v", name, err)
		}
		if err := s.Export(ctx, "p", 0, failingWriter{errors.New("written")}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: export: %v", name, err)
		}
		seen := 0
		for c, err := range s.List(ctx) {
			if seen++; err != nil || c.Coroutine != "p" || c.Seq != 3 {
				t.Errorf("%s: list: %+v, %v", name, c, err)
			}
			if inFront := name != "middle" && name != "digest"; inFront != errors.Is(c.Err, ErrCorrupt) {
				t.Errorf("%s: listed with %v", name, c.Err)
			}
		}
		h, err := s.History(ctx, "p")
		if seen != 1 || err != nil || len(h) != 3 || h[1].Err != nil {
			t.Errorf("%s: %d listed, history %v, %v", name, seen, h, err)
		}
		if id, err := s.Resolve(ctx, "p"); id != "p" || err != nil {
			t.Errorf("%s: resolve: %v", name, err)
		}
	}
	// Output damaged in a commit, whose manifest is good.
	h, err := parseHeader(good)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, b, key, flip(headerSize+h.manifest+1))
	if err := s.Logs(ctx, "p", io.Discard, io.Discard); !errors.Is(err, ErrCorrupt) {
		t.Errorf("logs: %v", err)
	}
	if err := s.Delete(ctx, "p"); err != nil {
		t.Errorf("a damaged coroutine can't be deleted: %v", err)
	}
	absent(t, s, "p")

	replace(t, b, moduleKey(HashOf(wasm)), append(bytes.Clone(wasm[1:]), 0))
	if _, err := s.Module(ctx, HashOf(wasm)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("module: %v", err)
	}
	replace(t, b, moduleKey(HashOf(wasm)), wasm[1:])
	if _, err := s.PutModule(ctx, wasm); !errors.Is(err, ErrCorrupt) {
		t.Errorf("put of a module that is there, damaged: %v", err)
	}
	// Strangers in the store.
	commit(t, s, commitOf("q", 1))
	replace(t, b, "coroutines/q/0000stranger", nil)
	if _, _, err := s.Latest(ctx, "q"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a stranger among the commits: %v", err)
	}
}

func TestBundle(t *testing.T) {
	ctx := t.Context()
	from := storeWith(t, bucket.NewMem(), "p", 4)
	var newest, first bytes.Buffer
	if err := from.Export(ctx, "p", 0, &newest); err != nil {
		t.Fatal(err)
	}
	if err := from.Export(ctx, "p", 1, &first); err != nil {
		t.Fatal(err)
	}
	onBuckets(t, func(t *testing.T, b bucket.Bucket) {
		to := NewStore(b)
		c, err := to.Import(ctx, bytes.NewReader(newest.Bytes()), ImportOptions{})
		if err != nil || c.Seq != 4 || c.Coroutine != "p" || c.Hash.IsZero() {
			t.Fatal(c, err)
		}
		snap, latest, err := to.Latest(ctx, "p")
		if err != nil || latest.Hash != c.Hash || latest.Bytes != c.Bytes {
			t.Fatal(latest, err)
		}
		want := commitOf("p", 4)
		want.Grants = nil // they stay behind
		equal(t, "imported", snap, want)
		if got := logsOf(t, to, "p"); got != outputOf(1, 4) {
			t.Errorf("logs %q", got)
		}
		if m, err := to.Module(ctx, snap.Module); err != nil || !bytes.Equal(m, wasm) {
			t.Errorf("module: %v", err)
		}
		if _, err := to.Import(ctx, bytes.NewReader(newest.Bytes()), ImportOptions{}); !errors.Is(err, ErrExist) {
			t.Errorf("imported twice: %v", err)
		}
		for _, in := range []*bytes.Buffer{&newest, &first} {
			id := fmt.Sprintf("copy%d", in.Len())
			c, err := to.Import(ctx, bytes.NewReader(in.Bytes()), ImportOptions{ID: id})
			if err != nil || c.Coroutine != id {
				t.Fatal(c, err)
			}
			if got := logsOf(t, to, id); got != outputOf(1, c.Seq) {
				t.Errorf("%s: logs %q", id, got)
			}
		}
		if _, err := to.Import(ctx, bytes.NewReader(newest.Bytes()), ImportOptions{ID: "../x"}); !errors.Is(err, ErrID) {
			t.Errorf("a bad id: %v", err)
		}
		var again bytes.Buffer
		if err := to.Export(ctx, "p", 0, &again); err != nil || !bytes.Equal(again.Bytes(), newest.Bytes()) {
			t.Errorf("exported from there, it is other bytes, %v", err)
		}
	})
}

// TestDamagedBundle flips each byte, and cuts everywhere: nothing of it is imported.
func TestDamagedBundle(t *testing.T) {
	ctx := t.Context()
	var out bytes.Buffer
	if err := storeWith(t, bucket.NewMem(), "p", 2).Export(ctx, "p", 0, &out); err != nil {
		t.Fatal(err)
	}
	good := out.Bytes()
	to := NewStore(bucket.NewMem())
	try := func(what string, at int, data []byte) {
		t.Helper()
		if c, err := to.Import(ctx, bytes.NewReader(data), ImportOptions{}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s at %d: %+v, %v", what, at, c, err)
		}
		if e, ok, err := bucket.First(ctx, to.b, bucket.ListOptions{}); ok || err != nil {
			t.Fatalf("%s at %d: %s was written, %v", what, at, e.Key, err)
		}
	}
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 0x41
		try("flipped", at, bad)
		try("cut", at, good[:at])
	}
	try("followed", len(good), append(bytes.Clone(good), 0))
	try("a snapshot", 0, encode(t, samples()["full"]))
	try("text", 0, []byte("this is no bundle, but it is longer than a header"))
	broken := errors.New("broken")
	if _, err := to.Import(ctx, io.MultiReader(bytes.NewReader(good[:200]), failingReader{broken}), ImportOptions{}); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
	newer := bytes.Clone(good)
	newer[8]++
	putDigest(newer)
	if _, err := to.Import(ctx, bytes.NewReader(newer), ImportOptions{}); !errors.Is(err, ErrVersion) {
		t.Errorf("a newer version: %v", err)
	}
	if _, err := to.Import(ctx, bytes.NewReader(good), ImportOptions{}); err != nil {
		t.Errorf("and the good one: %v", err)
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestHostileBundle imports bundles whose checksums match and whose parts don't, and one that brings grants.
func TestHostileBundle(t *testing.T) {
	ctx := t.Context()
	build := func(change func(w *wireBundle, parts map[uint8][]byte)) []byte {
		logs, err := encodeLog("p", 1, 1, []entry{{1, commitOf("p", 1).Output}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		content := map[uint8][]byte{sectionModule: wasm, sectionLog: logs, sectionCommit: encode(t, commitOf("p", 2))}
		h := HashOf(wasm)
		w := &wireBundle{Coroutine: "p", Seq: 2, Module: h[:]}
		change(w, content)
		var parts []part
		for id := uint8(sectionModule); id <= sectionCommit; id++ {
			if c := content[id]; c != nil {
				parts = append(parts, bytesPart(id, c))
			}
		}
		data, err := encodeContainer(new([]byte), kindBundle, 512, parts, nil, func(b []byte, sections sectionTable) []byte {
			w.Sections = sections
			return w.append(b)
		})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	to := NewStore(bucket.NewMem())
	for name, change := range map[string]func(w *wireBundle, parts map[uint8][]byte){
		"no module":        func(_ *wireBundle, p map[uint8][]byte) { delete(p, sectionModule) },
		"another module":   func(_ *wireBundle, p map[uint8][]byte) { p[sectionModule] = wasm[1:] },
		"no commit":        func(_ *wireBundle, p map[uint8][]byte) { delete(p, sectionCommit) },
		"no output":        func(_ *wireBundle, p map[uint8][]byte) { delete(p, sectionLog) },
		"commit is none":   func(_ *wireBundle, p map[uint8][]byte) { p[sectionCommit] = p[sectionLog] },
		"log is none":      func(_ *wireBundle, p map[uint8][]byte) { p[sectionLog] = p[sectionCommit] },
		"another id":       func(w *wireBundle, _ map[uint8][]byte) { w.Coroutine = "q" },
		"hostile id":       func(w *wireBundle, _ map[uint8][]byte) { w.Coroutine = "../../q" },
		"another seq":      func(w *wireBundle, _ map[uint8][]byte) { w.Seq = 3 },
		"another hash":     func(w *wireBundle, _ map[uint8][]byte) { w.Module = make([]byte, 32) },
		"output of others": func(_ *wireBundle, p map[uint8][]byte) { p[sectionLog], _ = encodeLog("q", 1, 1, nil, nil) },
		"output of less":   func(_ *wireBundle, p map[uint8][]byte) { p[sectionLog], _ = encodeLog("p", 1, 3, nil, nil) },
		"first with output": func(w *wireBundle, p map[uint8][]byte) {
			w.Seq = 1
			p[sectionCommit] = encode(t, commitOf("p", 1))
		},
	} {
		if _, err := to.Import(ctx, bytes.NewReader(build(change)), ImportOptions{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok, _ := bucket.First(ctx, to.b, bucket.ListOptions{}); ok {
			t.Errorf("%s: something was written", name)
		}
	}
	if _, err := to.Import(ctx, bytes.NewReader(build(func(*wireBundle, map[uint8][]byte) {})), ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	if snap, _, err := to.Latest(ctx, "p"); err != nil || snap.Grants != nil {
		t.Errorf("grants came along: %v, %v", snap.Grants, err)
	}
}

// TestCrashes stops the store after each of its operations on the bucket, before and after it is done, and by a single
// failure: the last good commit stays usable, nothing is half there, and trying again completes what was begun.
func TestCrashes(t *testing.T) {
	ctx := context.Background()
	var bundleOf bytes.Buffer
	if err := storeWith(t, bucket.NewMem(), "p", 3).Export(ctx, "p", 0, &bundleOf); err != nil {
		t.Fatal(err)
	}
	isWhole := func(t *testing.T, s *Store, id string, seqs ...uint64) uint64 {
		t.Helper()
		snap, c, err := s.Latest(ctx, id)
		if err != nil {
			t.Errorf("latest: %v", err)
			return 0
		}
		if !slices.Contains(seqs, c.Seq) || snap.Await.Data[0] != byte(c.Seq) {
			t.Errorf("latest is commit %d", c.Seq)
		}
		if got := logsOf(t, s, id); got != outputOf(1, c.Seq) {
			t.Errorf("logs at commit %d: %q", c.Seq, got)
		}
		if _, err := s.Module(ctx, snap.Module); err != nil {
			t.Errorf("module: %v", err)
		}
		return c.Seq
	}
	for name, c := range map[string]struct {
		prepare func(s *Store)
		do      func(s *Store) error
		check   func(t *testing.T, s *Store, err error) // after the crash
		after   func(t *testing.T, s *Store)            // after it was tried again
	}{
		"commit": {
			do: func(s *Store) error { _, err := s.Commit(ctx, commitOf("p", 3)); return err },
			check: func(t *testing.T, s *Store, err error) {
				if seq := isWhole(t, s, "p", 2, 3); err == nil && seq != 3 {
					t.Error("a commit that was made is not there")
				}
			},
			after: func(t *testing.T, s *Store) { isWhole(t, s, "p", 3) },
		},
		"create": {
			prepare: func(s *Store) { fold(t, s, "new", 1, 5, false) }, // left by an import that was cut short
			do:      func(s *Store) error { _, err := s.Commit(ctx, commitOf("new", 1)); return err },
			check: func(t *testing.T, s *Store, err error) {
				isWhole(t, s, "p", 2)
				if _, _, lerr := s.Latest(ctx, "new"); errors.Is(lerr, ErrNotFound) && err != nil {
					return
				}
				isWhole(t, s, "new", 1)
			},
			after: func(t *testing.T, s *Store) { isWhole(t, s, "new", 1) },
		},
		"module": {
			do: func(s *Store) error { _, err := s.PutModule(ctx, []byte("another")); return err },
			check: func(t *testing.T, s *Store, err error) {
				isWhole(t, s, "p", 2)
				if _, merr := s.Module(ctx, HashOf([]byte("another"))); merr != nil && (err == nil || !errors.Is(merr, ErrNotFound)) {
					t.Errorf("module: %v", merr)
				}
			},
			after: func(t *testing.T, s *Store) {
				if _, err := s.Module(ctx, HashOf([]byte("another"))); err != nil {
					t.Error(err)
				}
			},
		},
		"delete": {
			prepare: func(s *Store) {
				fold(t, s, "p", 1, 1, true)
				for _, key := range []string{"inbox/p/m"} {
					if err := bucket.PutBytes(ctx, s.b, key, nil); err != nil {
						t.Fatal(err)
					}
				}
				commit(t, s, commitOf("q", 1))
			},
			do: func(s *Store) error {
				if err := s.Delete(ctx, "p"); !errors.Is(err, ErrNotFound) {
					return err
				}
				return nil
			},
			check: func(t *testing.T, s *Store, err error) {
				isWhole(t, s, "q", 1)
				if _, _, lerr := s.Latest(ctx, "p"); lerr == nil && err != nil {
					isWhole(t, s, "p", 2)
				} else {
					absent(t, s, "p")
				}
			},
			after: func(t *testing.T, s *Store) {
				absent(t, s, "p")
				for e, err := range s.b.List(ctx, bucket.ListOptions{}) {
					if err != nil || strings.Contains(e.Key, "/p/") {
						t.Errorf("left: %s, %v", e.Key, err)
					}
				}
			},
		},
		"create over what is being deleted": {
			prepare: func(s *Store) {
				if err := bucket.PutBytes(ctx, s.b, coroutinePrefix("p")+tombstone, nil); err != nil {
					t.Fatal(err)
				}
			},
			do: func(s *Store) error { _, err := s.Commit(ctx, commitOf("p", 1)); return err },
			check: func(t *testing.T, s *Store, err error) {
				if _, _, lerr := s.Latest(ctx, "p"); errors.Is(lerr, ErrNotFound) && err != nil {
					return
				}
				isWhole(t, s, "p", 1)
			},
			after: func(t *testing.T, s *Store) { isWhole(t, s, "p", 1) },
		},
		"import": {
			prepare: func(s *Store) {
				if err := s.Delete(ctx, "p"); err != nil {
					t.Fatal(err)
				}
				fold(t, s, "p", 1, 2, false) // left by an import of something else
				fold(t, s, "p", 1, 7, false)
			},
			do: func(s *Store) error {
				_, err := s.Import(ctx, bytes.NewReader(bundleOf.Bytes()), ImportOptions{})
				if errors.Is(err, ErrExist) {
					return nil
				}
				return err
			},
			check: func(t *testing.T, s *Store, err error) {
				if _, _, lerr := s.Latest(ctx, "p"); errors.Is(lerr, ErrNotFound) && err != nil {
					absent(t, s, "p")
					return
				}
				isWhole(t, s, "p", 3)
			},
			after: func(t *testing.T, s *Store) { isWhole(t, s, "p", 3) },
		},
		"export": {
			do:    func(s *Store) error { return s.Export(ctx, "p", 0, io.Discard) },
			check: func(t *testing.T, s *Store, _ error) { isWhole(t, s, "p", 2) },
			after: func(*testing.T, *Store) {},
		},
		"read": {
			do: func(s *Store) error {
				if _, _, err := s.Latest(ctx, "p"); err != nil {
					return err
				}
				if _, err := s.History(ctx, "p"); err != nil {
					return err
				}
				if _, err := s.Resolve(ctx, "p"); err != nil {
					return err
				}
				for _, err := range s.List(ctx) {
					if err != nil {
						return err
					}
				}
				return s.Logs(ctx, "p", io.Discard, io.Discard)
			},
			check: func(t *testing.T, s *Store, _ error) { isWhole(t, s, "p", 2) },
			after: func(*testing.T, *Store) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tried := 0
			for n := 0; ; n++ {
				begun := false
				for mode, plan := range map[string]func(buckettest.Op) buckettest.Fault{
					"crash before": buckettest.CrashAt(n, false), "crash after": buckettest.CrashAt(n, true),
					"fault before": buckettest.FailAt(n, bucket.ErrUnavailable, false), "fault after": buckettest.FailAt(n, buckettest.ErrInjected, true),
					"full disk": buckettest.FailAt(n, bucket.ErrFull, false),
				} {
					mem := bucket.NewMem()
					s := storeWith(t, mem, "p", 2)
					if c.prepare != nil {
						c.prepare(s)
					}
					f := buckettest.NewFaulty(mem, plan)
					err := c.do(NewStore(f))
					ops := f.Ops()
					if len(ops) > n {
						begun, tried = true, tried+1
					}
					ok := t.Run("", func(t *testing.T) {
						c.check(t, s, err)
						if err := c.do(s); err != nil {
							t.Errorf("tried again: %v", err)
						}
						c.after(t, s)
					})
					if !ok {
						t.Fatalf("%s at operation %d of %v; it gave %v", mode, n, ops, err)
					}
				}
				if !begun {
					break
				}
			}
			if tried < 5 {
				t.Errorf("only %d faults were injected", tried)
			}
		})
	}
}

// TestFullDisk deletes a coroutine where nothing can be written until something has been removed.
func TestFullDisk(t *testing.T) {
	mem := bucket.NewMem()
	s := storeWith(t, mem, "p", 3)
	deleted := false
	f := buckettest.NewFaulty(mem, func(o buckettest.Op) buckettest.Fault {
		deleted = deleted || o.Name == "delete"
		if deleted {
			return buckettest.Fault{}
		}
		return buckettest.FullDisk(o)
	})
	if _, err := NewStore(f).Commit(t.Context(), commitOf("p", 4)); !errors.Is(err, bucket.ErrFull) {
		t.Errorf("commit: %v", err)
	}
	if got := logsOf(t, s, "p"); got != outputOf(1, 3) {
		t.Errorf("logs %q", got)
	}
	if err := NewStore(f).Delete(t.Context(), "p"); err != nil {
		t.Errorf("delete: %v", err)
	}
	absent(t, s, "p")
	if e, ok, _ := bucket.First(t.Context(), mem, bucket.ListOptions{Prefix: "coroutines/"}); ok {
		t.Errorf("left: %s", e.Key)
	}
}

func TestCancelled(t *testing.T) {
	s := storeWith(t, bucket.NewMem(), "p", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Latest(ctx, "p")
	_, err2 := s.Commit(ctx, commitOf("p", 2))
	for _, err := range []error{err, err2, s.Logs(ctx, "p", nil, nil), s.Delete(ctx, "p"), s.Export(ctx, "p", 0, io.Discard)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if got := logsOf(t, s, "p"); got != outputOf(1, 1) {
		t.Errorf("logs %q", got)
	}
}

// pairs is a bucket far away, so to say: a Get is answered when a second one has been asked for.
type pairs struct {
	bucket.Bucket
	waiting chan struct{}
}

func (p pairs) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	select {
	case p.waiting <- struct{}{}:
	case <-p.waiting:
	case <-time.After(time.Minute):
		return nil, errors.New("nobody asks for anything else meanwhile")
	}
	return p.Bucket.Get(ctx, key, offset, length)
}

// TestReadsAhead sees that what reads many objects doesn't wait for each, and keeps them in order.
func TestReadsAhead(t *testing.T) {
	const n = 100 // even, as is each batch
	b := bucket.NewMem()
	storeWith(t, b, "p00", n)
	for i := 1; i < n; i++ {
		storeWith(t, b, fmt.Sprintf("p%02d", i), 1)
	}
	s := NewStore(pairs{b, make(chan struct{})})
	var ids []string
	for c, err := range s.List(t.Context()) {
		if err != nil || c.Err != nil {
			t.Fatal(err, c.Err)
		}
		ids = append(ids, c.Coroutine)
	}
	if len(ids) != n || !slices.IsSorted(ids) {
		t.Errorf("listed %q", ids)
	}
	if got := logsOf(t, s, "p00"); got != outputOf(1, n) {
		t.Errorf("logs %q", got)
	}
}
