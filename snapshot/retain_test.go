package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// many is how much of something a test does: with the race detector, which has little to look for in one goroutine and makes it ten
// times slower, fewer. `make test` runs these tests without it as well.
func many(n, withRace int) int {
	if guests.RaceEnabled {
		return withRace
	}
	return n
}

// seqsOf returns the numbers of a coroutine's history.
func seqsOf(t testing.TB, s *Store, id string) []uint64 {
	t.Helper()
	list, err := s.History(context.Background(), id)
	if err != nil {
		t.Errorf("history: %v", err)
	}
	var seqs []uint64
	for _, c := range list {
		seqs = append(seqs, c.Seq)
	}
	return seqs
}

// keys returns the keys of the objects with a prefix.
func keys(t testing.TB, b bucket.Bucket, prefix string) []string {
	t.Helper()
	var list []string
	for e, err := range b.List(context.Background(), bucket.ListOptions{Prefix: prefix}) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Key)
	}
	return list
}

// later is a bucket whose clock is ahead of its objects.
type later struct {
	bucket.Bucket
	by time.Duration
}

func (l later) Now(context.Context) (time.Time, error) { return time.Now().Add(l.by), nil }

func TestRetain(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		after  time.Duration
		want   []uint64
	}{
		"keep all":                 {Policy{}, time.Hour, []uint64{1, 2, 3, 4, 5}},
		"keep two":                 {Policy{Keep: 2}, 0, []uint64{4, 5}},
		"keep one":                 {Policy{Keep: 1}, 0, []uint64{5}},
		"keep more than there are": {Policy{Keep: 6}, 0, []uint64{1, 2, 3, 4, 5}},
		"young":                    {Policy{Age: time.Hour}, time.Minute, []uint64{1, 2, 3, 4, 5}},
		"old, but for the newest":  {Policy{Age: time.Minute}, time.Hour, []uint64{5}},
		"old, and few":             {Policy{Keep: 3, Age: time.Minute}, time.Hour, []uint64{3, 4, 5}},
		"many, and young":          {Policy{Keep: 3, Age: time.Hour}, time.Minute, []uint64{1, 2, 3, 4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			b := bucket.NewMem()
			storeWith(t, b, "p", 5)
			s := NewStore(later{b, c.after})
			before := sizeOf(t, b)
			done, err := s.Retain(t.Context(), "p", c.policy)
			if err != nil || done.Commits != 5-len(c.want) || done.Bytes != before-sizeOf(t, b) {
				t.Errorf("%+v, %v; it shrank by %d", done, err, before-sizeOf(t, b))
			}
			if got := seqsOf(t, s, "p"); !slices.Equal(got, c.want) {
				t.Errorf("history %v, want %v", got, c.want)
			}
			if got := logsOf(t, s, "p"); got != outputOf(1, 5) {
				t.Errorf("logs %q", got)
			}
			if dropped := c.want[0] - 1; dropped > 0 {
				if _, _, err := s.At(t.Context(), "p", dropped); !errors.Is(err, ErrNotFound) {
					t.Errorf("a dropped commit: %v", err)
				}
			}
			again, err := s.Retain(t.Context(), "p", c.policy)
			if err != nil || again != (Retained{}) {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
	if _, err := NewStore(bucket.NewMem()).Retain(t.Context(), "p", Policy{Keep: 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("of no coroutine: %v", err)
	}
}

// sizeOf is the size of all objects.
func sizeOf(t testing.TB, b bucket.Bucket) int64 {
	t.Helper()
	n := int64(0)
	for e, err := range b.List(context.Background(), bucket.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		n += e.Size
	}
	return n
}

// TestCommitAfterItWasDropped makes a commit of a number that was dropped, as a driver does which was paused meanwhile. A
// put of that key succeeds, but what it put is no part of the history.
func TestCommitAfterItWasDropped(t *testing.T) {
	s := storeWith(t, bucket.NewMem(), "p", 5)
	if _, err := s.Retain(t.Context(), "p", Policy{Keep: 2}); err != nil {
		t.Fatal(err)
	}
	late := commitOf("p", 3)
	late.Output = []Output{{1, []byte("never happened")}}
	data := encode(t, late)
	if err := bucket.PutBytes(t.Context(), s.b, commitKey("p", 3), data); err != nil {
		t.Fatal(err)
	}
	if got := seqsOf(t, s, "p"); !slices.Equal(got, []uint64{4, 5}) {
		t.Errorf("history %v", got)
	}
	if got := logsOf(t, s, "p"); got != outputOf(1, 5) {
		t.Errorf("logs %q", got)
	}
	if _, _, err := s.At(t.Context(), "p", 3); !errors.Is(err, ErrNotFound) {
		t.Errorf("at: %v", err)
	}
	if err := s.Export(t.Context(), "p", 3, io.Discard); !errors.Is(err, ErrNotFound) {
		t.Errorf("export: %v", err)
	}
	if done, err := s.Retain(t.Context(), "p", Policy{}); err != nil || done.Commits != 1 || done.Bytes != int64(len(data)) {
		t.Errorf("retain: %+v, %v", done, err)
	}
	if got := keys(t, s.b, coroutinePrefix("p")); len(got) != 2 {
		t.Errorf("left: %v", got)
	}
}

// TestRetainDamaged drops nothing that can't be read, since its output would be lost.
func TestRetainDamaged(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, s *Store){
		"output":   func(t *testing.T, s *Store) { flipAt(t, s.b, commitKey("p", 2), -60) },
		"manifest": func(t *testing.T, s *Store) { flipAt(t, s.b, commitKey("p", 2), headerSize+5) },
		"newest":   func(t *testing.T, s *Store) { flipAt(t, s.b, commitKey("p", 5), headerSize+5) },
		"missing": func(t *testing.T, s *Store) {
			if err := s.b.Delete(t.Context(), commitKey("p", 2)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := storeWith(t, bucket.NewMem(), "p", 5)
			if name == "output" {
				big := commitOf("p", 2)
				big.Output = []Output{{1, noise(50_000)}}
				replace(t, s.b, commitKey("p", 2), encode(t, big))
				flipAt(t, s.b, commitKey("p", 2), 25_000)
			} else {
				damage(t, s)
			}
			before := keys(t, s.b, "")
			if _, err := s.Retain(t.Context(), "p", Policy{Keep: 1}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "commit") {
				t.Errorf("retain: %v", err)
			}
			if after := keys(t, s.b, ""); !slices.Equal(before, after) {
				t.Errorf("%v became %v", before, after)
			}
		})
	}
}

// flipAt damages a byte of an object; a negative offset is from its end.
func flipAt(t testing.TB, b bucket.Bucket, key string, at int) {
	t.Helper()
	ctx := context.Background()
	data, err := bucket.ReadAll(ctx, b, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 0x41
	if err := b.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	if err := bucket.PutBytes(ctx, b, key, data); err != nil {
		t.Fatal(err)
	}
}

// TestRetainReplaced goes on with a pass after its coroutine was removed and another made of that id.
func TestRetainReplaced(t *testing.T) {
	for _, stage := range []string{"put " + logsPrefix, "delete " + coroutinesPrefix} {
		mem := bucket.NewMem()
		s := storeWith(t, mem, "p", 5)
		replaced := false
		f := buckettest.NewFaulty(mem, nil)
		f.Plan(func(o buckettest.Op) buckettest.Fault {
			// Before each look at whether it is still the same: there is at least one before each write.
			if o.Name == "list" && o.Key == coroutinePrefix("p") && o.N > 2 && !replaced {
				if stage[:3] == "put" || len(keys(t, mem, logsPrefix)) > 0 {
					replaced = true
					if err := s.Delete(t.Context(), "p"); err != nil {
						t.Error(err)
					}
					commit(t, s, commitOf("p", 1))
					commit(t, s, commitOf("p", 2))
				}
			}
			return buckettest.Fault{}
		})
		if _, err := NewStore(f).Retain(t.Context(), "p", Policy{Keep: 1}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", stage, err)
		}
		if got := seqsOf(t, s, "p"); !replaced || !slices.Equal(got, []uint64{1, 2}) || logsOf(t, s, "p") != outputOf(1, 2) {
			t.Errorf("%s: history %v, %q", stage, got, logsOf(t, s, "p"))
		}
	}
}

// TestRetainFullDisk drops commits where there is room for a small log only, or for none.
func TestRetainFullDisk(t *testing.T) {
	mem := bucket.NewMem()
	s := storeWith(t, mem, "p", 40)
	if _, err := s.Retain(t.Context(), "p", Policy{Keep: 39}); err != nil {
		t.Fatal(err)
	}
	full := &limited{Mem: mem}
	if _, err := NewStore(full).Retain(t.Context(), "p", Policy{Keep: 1}); !errors.Is(err, bucket.ErrFull) {
		t.Errorf("no room: %v", err)
	}
	if got := logsOf(t, s, "p"); got != outputOf(1, 40) || len(seqsOf(t, s, "p")) != 39 {
		t.Errorf("logs %q", got)
	}
	full.room = 400 // of what a log of all would take
	if _, err := NewStore(full).Retain(t.Context(), "p", Policy{Keep: 1}); err != nil {
		t.Errorf("little room: %v", err)
	}
	if got := logsOf(t, s, "p"); got != outputOf(1, 40) || !slices.Equal(seqsOf(t, s, "p"), []uint64{40}) {
		t.Errorf("history %v, logs %q", seqsOf(t, s, "p"), got)
	}
}

// limited is a bucket with so many bytes of room.
type limited struct {
	*bucket.Mem
	mu   sync.Mutex
	room int64
}

func (l *limited) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size > l.room {
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrFull}
	}
	l.room -= size
	return l.Mem.Put(ctx, key, body, size)
}

func (l *limited) Delete(ctx context.Context, key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, err := l.Stat(ctx, key); err == nil {
		l.room += e.Size
	}
	return l.Mem.Delete(ctx, key)
}

// written counts the bytes put below a prefix.
type written struct {
	bucket.Bucket
	prefix string
	mu     sync.Mutex
	bytes  int64
}

func (w *written) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if strings.HasPrefix(key, w.prefix) {
		w.mu.Lock()
		w.bytes += size
		w.mu.Unlock()
	}
	return w.Bucket.Put(ctx, key, body, size)
}

// TestTenThousandCommits keeps the newest 10 of 10,000 commits, as a driver does: what is stored stays bounded, and what
// is written for it.
func TestTenThousandCommits(t *testing.T) {
	const keep, batch = 10, 64
	for name, output := range map[string]func(seq uint64) []Output{
		"some output":   func(seq uint64) []Output { return commitOf("p", seq).Output },
		"none":          func(uint64) []Output { return nil },
		"noise at once": func(seq uint64) []Output { return []Output{{1, noise(1 << (seq % 12))}} },
	} {
		t.Run(name, func(t *testing.T) {
			w := &written{Bucket: bucket.NewMem(), prefix: logsPrefix}
			s := NewStore(w)
			mostCommits, mostLogs, total := 0, 0, int64(0)
			t.Logf("%7s %8s %5s %12s %12s", "commits", "kept", "logs", "bytes", "log writes")
			for seq := range uint64(many(10_000, 2_000)) {
				seq++
				snap := commitOf("p", seq)
				snap.Output = output(seq)
				for _, o := range snap.Output {
					total += int64(len(o.Data))
				}
				commit(t, s, snap)
				if seq%batch == 0 {
					if _, err := s.Retain(t.Context(), "p", Policy{Keep: keep}); err != nil {
						t.Fatal(err)
					}
				}
				if seq%batch == batch-1 || seq%2000 == 0 {
					commits, logs := len(keys(t, s.b, coroutinePrefix("p"))), len(keys(t, s.b, logsPrefix))
					mostCommits, mostLogs = max(mostCommits, commits), max(mostLogs, logs)
					if seq%2000 == 0 {
						t.Logf("%7d %8d %5d %12d %12d", seq, commits, logs, sizeOf(t, s.b), w.bytes)
					}
				}
			}
			if mostCommits > keep+batch || mostLogs > 14 {
				t.Errorf("up to %d commits and %d logs", mostCommits, mostLogs)
			}
			if limit := 10*total + 10_000/batch*200; w.bytes > limit {
				t.Errorf("%d bytes of logs were written for %d of output", w.bytes, total)
			}
		})
	}
}

// TestTenThousandDeltas is TestTenThousandCommits for commits that build on each other: those that a kept one needs stay.
func TestTenThousandDeltas(t *testing.T) {
	const keep, batch = 10, 64
	commits := uint64(many(10_000, 2_000))
	if testing.Short() {
		commits = 2_000
	}
	ctx := t.Context()
	w := &counting{Bucket: bucket.NewMem()}
	s := NewStore(w)
	if _, err := s.PutModule(ctx, wasm); err != nil {
		t.Fatal(err)
	}
	m := newModel("p", wasm, rand.New(rand.NewPCG(1, 1)), nil, Commit{})
	mostCommits, mostLogs, mostReads, mostBytes := 0, 0, int64(0), int64(0)
	t.Logf("%7s %8s %5s %12s %13s", "commits", "kept", "logs", "bytes", "restore reads")
	for seq := uint64(1); seq <= commits; seq++ {
		if err := m.commit(ctx, s); err != nil {
			t.Fatal(err)
		}
		if seq%batch == 0 {
			if _, err := s.Retain(ctx, "p", Policy{Keep: keep}); err != nil {
				t.Fatal(err)
			}
		}
		if seq%batch == batch-1 || seq%(commits/5) == 0 {
			w.objects.Store(0)
			m.check(t, NewStore(w.Bucket))
			if _, _, err := s.Latest(ctx, "p"); err != nil {
				t.Fatal(err)
			}
			reads := w.objects.Load()
			mostCommits, mostLogs = max(mostCommits, len(keys(t, w, coroutinePrefix("p")))), max(mostLogs, len(keys(t, w, logsPrefix)))
			mostReads, mostBytes = max(mostReads, reads), max(mostBytes, sizeOf(t, w))
			if seq%(commits/5) == 0 {
				t.Logf("%7d %8d %5d %12d %13d", seq, len(keys(t, w, coroutinePrefix("p"))), len(keys(t, w, logsPrefix)), sizeOf(t, w), reads)
			}
		}
	}
	t.Logf("at most %d commits, %d logs, %d bytes, %d objects read", mostCommits, mostLogs, mostBytes, mostReads)
	if mostCommits > keep+MaxDeltas+2+batch || mostLogs > 14 || mostReads > MaxDeltas+2 || mostBytes > 4<<20 {
		t.Error("too much")
	}
}

// TestRetainBesideOthers drops commits while the coroutine goes on, others drop them too, and readers read.
func TestRetainBesideOthers(t *testing.T) {
	onFastBuckets(t, func(t *testing.T, b bucket.Bucket) {
		s := storeWith(t, b, "p", 3)
		ctx, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		for i := range 2 {
			others.Go(func() {
				for ctx.Err() == nil {
					if _, err := s.Retain(ctx, "p", Policy{Keep: 2 + i}); err != nil && ctx.Err() == nil && !errors.Is(err, errOvertaken) {
						t.Errorf("retain: %v", err)
					}
				}
			})
			others.Go(func() {
				for ctx.Err() == nil {
					_, c, err := s.Latest(ctx, "p")
					if err != nil {
						if ctx.Err() == nil {
							t.Errorf("latest: %v", err)
						}
						continue
					}
					var out strings.Builder
					if err := s.Logs(ctx, "p", &out, &out); err != nil && ctx.Err() == nil {
						t.Errorf("logs: %v", err)
					} else if err == nil && !strings.HasPrefix(out.String(), outputOf(1, c.Seq)) {
						t.Errorf("logs at commit %d: %q", c.Seq, out.String())
					}
					if _, err := s.History(ctx, "p"); err != nil && ctx.Err() == nil {
						t.Errorf("history: %v", err)
					}
				}
			})
		}
		for seq := uint64(4); seq <= 200; seq++ {
			commit(t, s, commitOf("p", seq))
		}
		cancel()
		others.Wait()
		if _, err := s.Retain(t.Context(), "p", Policy{Keep: 1}); err != nil {
			t.Fatal(err)
		}
		if got := logsOf(t, s, "p"); got != outputOf(1, 200) || !slices.Equal(seqsOf(t, s, "p"), []uint64{200}) {
			t.Errorf("history %v, logs of %d bytes", seqsOf(t, s, "p"), len(got))
		}
	})
}

// TestRetainAnyOrder commits and drops at random, with crashes anywhere.
func TestRetainAnyOrder(t *testing.T) {
	for round := range 60 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			mem := bucket.NewMem()
			s := storeWith(t, mem, "p", 1)
			f := buckettest.NewFaulty(mem, nil)
			newest := uint64(1)
			for range 30 {
				for range rnd.IntN(6) {
					newest++
					commit(t, s, commitOf("p", newest))
				}
				keep := 1 + rnd.IntN(4)
				f.Plan(buckettest.CrashAt(rnd.IntN(50), rnd.IntN(2) == 0))
				done, err := NewStore(f).Retain(t.Context(), "p", Policy{Keep: keep})
				if err != nil && !errors.Is(err, buckettest.ErrInjected) {
					t.Fatal(err)
				}
				if got := logsOf(t, s, "p"); got != outputOf(1, newest) {
					t.Fatalf("after %+v, %v: logs at commit %d: %q", done, err, newest, got)
				}
				seqs := seqsOf(t, s, "p")
				if len(seqs) == 0 || seqs[len(seqs)-1] != newest || err == nil && len(seqs) > keep {
					t.Fatalf("after %+v, %v: history %v at commit %d", done, err, seqs, newest)
				}
			}
			if round == 0 && newest < 10 {
				t.Error("hardly any commits")
			}
		})
	}
}

// blind is a bucket whose next listings of commits miss all of them, as those of a folder may in which each is deleted after
// its name was read, and the next was made before.
type blind struct {
	bucket.Bucket
	times int
}

func (b *blind) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	if b.times > 0 && strings.HasPrefix(o.Prefix, coroutinesPrefix) {
		b.times--
		return func(func(bucket.Entry, error) bool) {}
	}
	return b.Bucket.List(ctx, o)
}

// TestListingMissesAll looks for a coroutine whose commits a listing has missed: it exists, and nobody takes its id.
func TestListingMissesAll(t *testing.T) {
	b := &blind{Bucket: bucket.NewMem()}
	s := storeWith(t, b, "p", 5)
	if _, err := s.Retain(t.Context(), "p", Policy{Keep: 1}); err != nil {
		t.Fatal(err)
	}
	b.times = 2
	if c, err := s.Head(t.Context(), "p"); err != nil || c.Seq != 5 {
		t.Errorf("head: %v, %v", c.Seq, err)
	}
	b.times = 2
	if _, err := s.Commit(t.Context(), commitOf("p", 1)); !errors.Is(err, ErrExist) {
		t.Errorf("create: %v", err)
	}
	if got := logsOf(t, s, "p"); got != outputOf(1, 5) {
		t.Errorf("logs %q", got)
	}
}
