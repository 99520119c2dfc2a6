package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// Run holds a driver to the contract of [bucket.Bucket]. open returns an empty bucket; each of the tests opens its own.
func Run(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	t.Helper()
	for _, c := range []struct {
		name string
		f    func(*testing.T, bucket.Bucket)
	}{
		{"PutGet", testPutGet},
		{"PutIfAbsent", testPutIfAbsent},
		{"PutBody", testPutBody},
		{"Ranges", testRanges},
		{"Stat", testStat},
		{"List", testList},
		{"ListManyIsOrdered", testListMany},
		{"Delete", testDelete},
		{"Keys", testKeys},
		{"Contexts", testContexts},
		{"RaceToCreate", testRace},
		{"ReadersSeeWholeObjects", testReaders},
		{"ListWhileDeleting", testListWhileDeleting},
		{"PutWhileFoldersVanish", testPutWhileDeleting},
		{"Locks", testLocks},
		{"Notes", testNotes},
		{"Clock", testClock},
		{"Watch", testWatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			c.f(t, b)
		})
	}
}

func ctx(t *testing.T) context.Context { return t.Context() }

func mustPut(t *testing.T, b bucket.Bucket, key, data string) {
	t.Helper()
	if err := bucket.PutBytes(ctx(t), b, key, []byte(data)); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func mustGet(t *testing.T, b bucket.Bucket, key string) string {
	t.Helper()
	data, err := bucket.ReadAll(ctx(t), b, key, 1<<30)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return string(data)
}

func keys(t *testing.T, b bucket.Bucket, o bucket.ListOptions) []string {
	t.Helper()
	var got []string
	for e, err := range b.List(ctx(t), o) {
		if err != nil {
			t.Fatalf("list %+v: %v", o, err)
		}
		got = append(got, e.Key)
	}
	return got
}

func isBucketError(t *testing.T, err, want error) {
	t.Helper()
	var e *bucket.Error
	if !errors.Is(err, want) || !errors.As(err, &e) {
		t.Errorf("got error %v (%T), want a *bucket.Error that is %v", err, err, want)
	}
}

func testPutGet(t *testing.T, b bucket.Bucket) {
	large := strings.Repeat("0123456789abcdef", 100_000)
	for key, data := range map[string]string{"a": "1", "b/c": "two", "b/d/e": "", "large": large} {
		mustPut(t, b, key, data)
		if got := mustGet(t, b, key); got != data {
			t.Errorf("%s: got %d bytes, want %d", key, len(got), len(data))
		}
	}
	for _, key := range []string{"absent", "b/absent", "b", "b/d", "a/below"} {
		_, err := b.Get(ctx(t), key, 0, -1)
		isBucketError(t, err, bucket.ErrNotExist)
	}
	if _, err := bucket.ReadAll(ctx(t), b, "large", 10); !errors.Is(err, bucket.ErrTooLarge) {
		t.Errorf("a limit of 10 bytes: got %v", err)
	}
}

func testPutIfAbsent(t *testing.T, b bucket.Bucket) {
	mustPut(t, b, "x/1", "first")
	for _, data := range []string{"second", "first", ""} {
		isBucketError(t, bucket.PutBytes(ctx(t), b, "x/1", []byte(data)), bucket.ErrExist)
	}
	if got := mustGet(t, b, "x/1"); got != "first" {
		t.Errorf("got %q", got)
	}
	if err := b.Delete(ctx(t), "x/1"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "x/1", "again")
	if got := mustGet(t, b, "x/1"); got != "again" {
		t.Errorf("got %q", got)
	}
}

// testPutBody puts from a body that is not in memory, is longer than what is put, or fails.
func testPutBody(t *testing.T, b bucket.Bucket) {
	data := bytes.Repeat([]byte("body"), 300_000)
	if err := b.Put(ctx(t), "short", bytes.NewReader(data), 1_000_001); err != nil {
		t.Fatal(err)
	}
	if got := mustGet(t, b, "short"); got != string(data[:1_000_001]) {
		t.Errorf("got %d other bytes", len(got))
	}
	if err := b.Put(ctx(t), "long", bytes.NewReader(data), int64(len(data))+1); err == nil {
		t.Error("a body that ends early was put")
	}
	broken := errors.New("broken")
	if err := b.Put(ctx(t), "broken", failing{broken}, 10); !errors.Is(err, broken) {
		t.Errorf("a body that fails: got %v", err)
	}
	if got := keys(t, b, bucket.ListOptions{}); !slices.Equal(got, []string{"short"}) {
		t.Errorf("got objects %q", got)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func testRanges(t *testing.T, b bucket.Bucket) {
	mustPut(t, b, "k", "0123456789")
	for _, c := range []struct {
		offset, length int64
		want           string
	}{
		{0, -1, "0123456789"},
		{0, 10, "0123456789"},
		{0, 0, ""},
		{3, 4, "3456"},
		{9, 1, "9"},
		{9, 5, "9"},
		{10, 1, ""},
		{10, -1, ""},
		{11, 3, ""},
		{1 << 40, -1, ""},
		{5, -1, "56789"},
		{2, 1 << 60, "23456789"},
	} {
		data, size, err := bucket.ReadRange(ctx(t), b, "k", c.offset, c.length)
		if err != nil || string(data) != c.want || size != 10 {
			t.Errorf("get %d+%d: %q of %d, %v; want %q", c.offset, c.length, data, size, err, c.want)
		}
	}
	if _, err := b.Get(ctx(t), "k", -1, 1); err == nil {
		t.Error("a negative offset was taken")
	}
}

func testStat(t *testing.T, b bucket.Bucket) {
	mustPut(t, b, "f/k", "12345")
	e, err := b.Stat(ctx(t), "f/k")
	if err != nil || e.Key != "f/k" || e.Size != 5 || e.ModTime.IsZero() {
		t.Errorf("got %+v, %v", e, err)
	}
	for _, key := range []string{"f", "f/l", "f/k/m", "g"} {
		_, err := b.Stat(ctx(t), key)
		isBucketError(t, err, bucket.ErrNotExist)
	}
}

func testList(t *testing.T, b bucket.Bucket) {
	if got := keys(t, b, bucket.ListOptions{}); got != nil {
		t.Errorf("an empty bucket lists %q", got)
	}
	// In the order of bytes: '-' and '.' come before '/', '0' after.
	all := []string{"a-b", "a.b", "a/b", "a/b-c", "a/c/d", "a/c/e", "a/c.x", "a0", "b/x", "c"}
	slices.Sort(all)
	for i := range all {
		mustPut(t, b, all[(i*7+3)%len(all)], "data")
	}
	for _, c := range []struct {
		o    bucket.ListOptions
		want string
	}{
		{bucket.ListOptions{}, strings.Join(all, " ")},
		{bucket.ListOptions{Prefix: "a/"}, "a/b a/b-c a/c.x a/c/d a/c/e"},
		{bucket.ListOptions{Prefix: "a/c"}, "a/c.x a/c/d a/c/e"},
		{bucket.ListOptions{Prefix: "a/c/"}, "a/c/d a/c/e"},
		{bucket.ListOptions{Prefix: "a"}, "a-b a.b a/b a/b-c a/c.x a/c/d a/c/e a0"},
		{bucket.ListOptions{Prefix: "c"}, "c"},
		{bucket.ListOptions{Prefix: "c/"}, ""},
		{bucket.ListOptions{Prefix: "zzz/yyy/"}, ""},
		{bucket.ListOptions{Prefix: "../"}, ""},
		{bucket.ListOptions{Prefix: "/"}, ""},
		{bucket.ListOptions{Prefix: "a/", StartAfter: "a/b"}, "a/b-c a/c.x a/c/d a/c/e"},
		{bucket.ListOptions{Prefix: "a/", StartAfter: "a/c/d"}, "a/c/e"},
		{bucket.ListOptions{StartAfter: "a/c/e"}, "a0 b/x c"},
		{bucket.ListOptions{StartAfter: "a/c/dd"}, "a/c/e a0 b/x c"},
		{bucket.ListOptions{StartAfter: "b"}, "b/x c"},
		{bucket.ListOptions{StartAfter: "zz"}, ""},
		{bucket.ListOptions{Folders: true}, "a-b a.b a/ a0 b/ c"},
		{bucket.ListOptions{Prefix: "a", Folders: true}, "a-b a.b a/ a0"},
		{bucket.ListOptions{Prefix: "a/", Folders: true}, "a/b a/b-c a/c.x a/c/"},
		{bucket.ListOptions{Prefix: "a/c", Folders: true}, "a/c.x a/c/"},
		{bucket.ListOptions{Folders: true, StartAfter: "a/"}, "a0 b/ c"},
		{bucket.ListOptions{Folders: true, StartAfter: "a0"}, "b/ c"},
	} {
		if got := strings.Join(keys(t, b, c.o), " "); got != c.want {
			t.Errorf("list %+v:\n got %s\nwant %s", c.o, got, c.want)
		}
	}
	for e, err := range b.List(ctx(t), bucket.ListOptions{Folders: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Folder() != strings.HasSuffix(e.Key, "/") || !e.Folder() && (e.Size != 4 || e.ModTime.IsZero()) {
			t.Errorf("entry %+v", e)
		}
	}
	e, ok, err := bucket.First(ctx(t), b, bucket.ListOptions{Prefix: "a/c/"})
	if e.Key != "a/c/d" || !ok || err != nil {
		t.Errorf("first: %+v, %v, %v", e, ok, err)
	}
	if _, ok, err := bucket.First(ctx(t), b, bucket.ListOptions{Prefix: "none/"}); ok || err != nil {
		t.Errorf("first of none: %v, %v", ok, err)
	}
}

func testListMany(t *testing.T, b bucket.Bucket) {
	const n = 1234 // more than a page of any service
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("many/%x", uint32(i)*2654435761))
	}
	parallel(t, 8, func(g int) {
		for i := g; i < n; i += 8 {
			if err := bucket.PutBytes(ctx(t), b, want[i], nil); err != nil {
				t.Errorf("put: %v", err)
			}
		}
	})
	slices.Sort(want)
	if got := keys(t, b, bucket.ListOptions{Prefix: "many/"}); !slices.Equal(got, want) {
		t.Errorf("got %d keys, want %d, or out of order", len(got), len(want))
	}
	if got := keys(t, b, bucket.ListOptions{Prefix: "many/", StartAfter: want[1000]}); !slices.Equal(got, want[1001:]) {
		t.Errorf("after the 1001st: got %d keys, want %d", len(got), n-1001)
	}
}

func testDelete(t *testing.T, b bucket.Bucket) {
	mustPut(t, b, "d/1/x", "1")
	mustPut(t, b, "d/2", "2")
	for _, key := range []string{"absent", "d/absent", "d", "d/1", "d/2/below"} {
		if err := b.Delete(ctx(t), key); err != nil {
			t.Errorf("delete %s, which isn't there: %v", key, err)
		}
	}
	if got := keys(t, b, bucket.ListOptions{}); len(got) != 2 {
		t.Fatalf("left: %q", got)
	}
	for range 2 {
		if err := b.Delete(ctx(t), "d/1/x"); err != nil {
			t.Error(err)
		}
	}
	_, err := b.Stat(ctx(t), "d/1/x")
	isBucketError(t, err, bucket.ErrNotExist)
	if got := keys(t, b, bucket.ListOptions{Folders: true, Prefix: "d/"}); !slices.Equal(got, []string{"d/2"}) {
		t.Errorf("left: %q", got)
	}
}

func testKeys(t *testing.T, b bucket.Bucket) {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", ".hidden", "a/.hidden", "a\\b", "a b", "a\x00b",
		"a\nb", "ä", "a:b", "C:/x", "a*", "a?b", "a%2e", "con:", "~", strings.Repeat("a", bucket.MaxSegment+1),
		strings.Repeat("abc/", bucket.MaxKey/4) + "x", "\xff",
	} {
		isBucketError(t, bucket.PutBytes(ctx(t), b, key, nil), bucket.ErrKey)
		_, err := b.Get(ctx(t), key, 0, -1)
		isBucketError(t, err, bucket.ErrKey)
		_, err = b.Stat(ctx(t), key)
		isBucketError(t, err, bucket.ErrKey)
		isBucketError(t, b.Delete(ctx(t), key), bucket.ErrKey)
		for e, err := range b.List(ctx(t), bucket.ListOptions{Prefix: key}) {
			if err != nil || e.Key != "" {
				t.Errorf("list %q: %+v, %v", key, e, err)
			}
		}
	}
	for _, key := range []string{
		"a", "A0", "_-.", "x..", "a.b-c_d/0", strings.Repeat("k", bucket.MaxSegment),
		strings.Repeat("abc/", bucket.MaxKey/4-1) + "abcd",
	} {
		if err := bucket.PutBytes(ctx(t), b, key, []byte(key)); err != nil {
			t.Errorf("put %.60q: %v", key, err)
		} else if got := mustGet(t, b, key); got != key {
			t.Errorf("get %.60q: %q", key, got)
		}
	}
}

func testContexts(t *testing.T, b bucket.Bucket) {
	mustPut(t, b, "there", "data")
	dead, cancel := context.WithCancel(ctx(t))
	cancel()
	errs := map[string]error{
		"put":    bucket.PutBytes(dead, b, "new", []byte("data")),
		"delete": b.Delete(dead, "there"),
	}
	_, errs["get"] = b.Get(dead, "there", 0, -1)
	_, errs["stat"] = b.Stat(dead, "there")
	for _, err := range b.List(dead, bucket.ListOptions{}) {
		errs["list"] = err
	}
	for op, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", op, err)
		}
	}
	if errs["list"] == nil {
		t.Error("list with a cancelled context: no error")
	}
	if got := keys(t, b, bucket.ListOptions{}); !slices.Equal(got, []string{"there"}) {
		t.Errorf("left: %q", got)
	}
	// A context that ends while an object is being put leaves no half of it.
	during, cancel := context.WithCancel(ctx(t))
	defer cancel()
	err := b.Put(during, "during", cancelling{cancel}, 8<<20)
	switch {
	case errors.Is(err, context.Canceled):
		if _, err := b.Stat(ctx(t), "during"); !errors.Is(err, bucket.ErrNotExist) {
			t.Errorf("after a cancelled put: %v", err)
		}
	case err == nil:
		if got := mustGet(t, b, "during"); len(got) != 8<<20 {
			t.Errorf("half an object: %d bytes", len(got))
		}
	default:
		t.Errorf("put with a context that is cancelled meanwhile: %v", err)
	}
}

// cancelling is a body that cancels a context when it is read.
type cancelling struct{ cancel func() }

func (c cancelling) ReadAt(p []byte, _ int64) (int, error) {
	c.cancel()
	return len(p), nil
}

func testClock(t *testing.T, b bucket.Bucket) {
	c, ok := b.(bucket.Clock)
	if !ok {
		t.Skip("it has no clock")
	}
	before, err := c.Now(ctx(t))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("it has no clock here")
	}
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "k", "data")
	after, err := c.Now(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Stat(ctx(t), "k")
	const late = 2 * time.Second
	if err != nil || e.ModTime.Before(before.Add(-late)) || e.ModTime.After(after.Add(late)) || after.Before(before.Add(-late)) {
		t.Errorf("the clock says %v and %v; between the two an object was made at %v, %v", before, after, e.ModTime, err)
	}
	dead, cancel := context.WithCancel(ctx(t))
	cancel()
	if _, err := c.Now(dead); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
}

func parallel(t *testing.T, n int, f func(g int)) {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for g := range n {
		wg.Go(func() {
			<-start
			f(g)
		})
	}
	close(start)
	wg.Wait()
}

func testRace(t *testing.T, b bucket.Bucket) {
	const writers, rounds = 8, 30
	for round := range rounds {
		key := fmt.Sprintf("race/%d/%d", round%3, round)
		data := func(g int) []byte { return bytes.Repeat([]byte{byte('a' + g)}, 10_000+g) }
		var won atomic.Int32
		won.Store(-1)
		parallel(t, writers, func(g int) {
			err := bucket.PutBytes(ctx(t), b, key, data(g))
			switch {
			case err == nil:
				if !won.CompareAndSwap(-1, int32(g)) {
					t.Errorf("%s: both %d and %d won", key, won.Load(), g)
				}
			case !errors.Is(err, bucket.ErrExist):
				t.Errorf("%s: %v", key, err)
			}
			// Won or lost: the object is there, whole.
			got, err := bucket.ReadAll(ctx(t), b, key, 1<<20)
			if err != nil || len(got) < 10_000 || !bytes.Equal(got, data(int(got[0]-'a'))) {
				t.Errorf("%s: writer %d reads %d bytes, %v", key, g, len(got), err)
			}
		})
		if got := mustGet(t, b, key); won.Load() < 0 || got != string(data(int(won.Load()))) {
			t.Errorf("%s: %d won, but the object is another's", key, won.Load())
		}
	}
}

func testReaders(t *testing.T, b bucket.Bucket) {
	const n = 40
	want := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 50_000) }
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for stop := false; !stop; {
				select {
				case <-done:
					stop = true
				default:
				}
				for e, err := range b.List(ctx(t), bucket.ListOptions{Prefix: "w/"}) {
					if err != nil {
						t.Errorf("list: %v", err)
						return
					}
					var i int
					_, _ = fmt.Sscanf(e.Key, "w/%d", &i)
					got, err := bucket.ReadAll(ctx(t), b, e.Key, 1<<20)
					if err != nil || !bytes.Equal(got, want(i)) || e.Size != 50_000 {
						t.Errorf("%s: %d bytes of %d, %v", e.Key, len(got), e.Size, err)
					}
				}
			}
		})
	}
	for i := range n {
		if err := bucket.PutBytes(ctx(t), b, fmt.Sprintf("w/%d", i), want(i)); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

func testListWhileDeleting(t *testing.T, b bucket.Bucket) {
	const n = 100
	for i := range n {
		mustPut(t, b, fmt.Sprintf("l/%d/%03d", i%2, i), "x")
	}
	mustPut(t, b, "l/stays", "x")
	parallel(t, 4, func(g int) {
		if g < 2 {
			for i := g; i < n; i += 2 {
				if err := b.Delete(ctx(t), fmt.Sprintf("l/%d/%03d", i%2, i)); err != nil {
					t.Error(err)
				}
			}
			return
		}
		for range 20 {
			last, stays := "", false
			for e, err := range b.List(ctx(t), bucket.ListOptions{Prefix: "l/"}) {
				if err != nil {
					t.Errorf("list: %v", err)
					return
				}
				if e.Key <= last {
					t.Errorf("%s is listed after %s", e.Key, last)
				}
				last, stays = e.Key, stays || e.Key == "l/stays"
			}
			if !stays {
				t.Error("an object that is there throughout is not listed")
			}
		}
	})
	if got := keys(t, b, bucket.ListOptions{}); !slices.Equal(got, []string{"l/stays"}) {
		t.Errorf("left: %q", got)
	}
}

// testPutWhileDeleting creates and empties the same folder from several sides.
func testPutWhileDeleting(t *testing.T, b bucket.Bucket) {
	parallel(t, 4, func(g int) {
		for i := range 50 {
			key := fmt.Sprintf("p/q/r/%d-%d", g, i)
			if err := bucket.PutBytes(ctx(t), b, key, []byte(key)); err != nil {
				t.Errorf("put: %v", err)
				continue
			}
			if got, err := bucket.ReadAll(ctx(t), b, key, 1<<20); err != nil || string(got) != key {
				t.Errorf("%s: %q, %v", key, got, err)
			}
			if err := b.Delete(ctx(t), key); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
	})
	if got := keys(t, b, bucket.ListOptions{}); got != nil {
		t.Errorf("left: %q", got)
	}
}

func testNotes(t *testing.T, b bucket.Bucket) {
	n, ok := b.(bucket.Noter)
	if !ok {
		t.Skip("its locks have no notes")
	}
	release, err := n.TryLock(ctx(t), "leases/p")
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("it has no locks here")
	}
	if err != nil {
		t.Fatal(err)
	}
	note := func(want string) {
		t.Helper()
		if got, err := n.Note("leases/p", 100); string(got) != want || err != nil {
			t.Errorf("note %q, %v; want %q", got, err, want)
		}
	}
	note("")
	for _, text := range []string{"first", "a longer one", "last"} {
		if err := n.SetNote("leases/p", []byte(text)); err != nil {
			t.Fatal(err)
		}
		note(text)
	}
	if got, err := n.Note("leases/p", 2); string(got) != "la" || err != nil {
		t.Errorf("two bytes of the note: %q, %v", got, err)
	}
	_, err = n.TryLock(ctx(t), "leases/p")
	isBucketError(t, err, bucket.ErrLocked)
	note("last")
	if err := release(); err != nil {
		t.Fatal(err)
	}
	isBucketError(t, n.SetNote("leases/p", nil), bucket.ErrNotExist)
	release, err = n.TryLock(ctx(t), "leases/p")
	if err != nil {
		t.Fatal(err)
	}
	note("")
	if err := release(); err != nil {
		t.Fatal(err)
	}
	note("")
}

func testLocks(t *testing.T, b bucket.Bucket) {
	l, ok := b.(bucket.Locker)
	if !ok {
		t.Skip("it has no locks")
	}
	release, err := l.TryLock(ctx(t), "leases/p")
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("it has no locks here")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.TryLock(ctx(t), "leases/p")
	isBucketError(t, err, bucket.ErrLocked)
	other, err := l.TryLock(ctx(t), "leases/q")
	if err != nil {
		t.Errorf("another lock: %v", err)
	} else if err := other(); err != nil {
		t.Error(err)
	}
	if got := keys(t, b, bucket.ListOptions{}); got != nil {
		t.Errorf("locks are listed: %q", got)
	}
	mustPut(t, b, "leases/p/1", "objects and locks don't meet")
	for range 2 {
		if err := release(); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	again, err := l.TryLock(ctx(t), "leases/p")
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	if err := release(); err != nil { // of the first one: must not release the second
		t.Error(err)
	}
	_, err = l.TryLock(ctx(t), "leases/p")
	isBucketError(t, err, bucket.ErrLocked)
	if err := again(); err != nil {
		t.Error(err)
	}
	_, err = l.TryLock(ctx(t), "../p")
	isBucketError(t, err, bucket.ErrKey)

	// One holder at any time.
	var holders, taken atomic.Int32
	parallel(t, 8, func(int) {
		for range 50 {
			release, err := l.TryLock(ctx(t), "leases/r")
			if errors.Is(err, bucket.ErrLocked) {
				continue
			}
			if err != nil {
				t.Errorf("lock: %v", err)
				return
			}
			if holders.Add(1) != 1 {
				t.Error("two hold the lock")
			}
			taken.Add(1)
			holders.Add(-1)
			if err := release(); err != nil {
				t.Errorf("release: %v", err)
			}
		}
	})
	if taken.Load() == 0 {
		t.Error("nobody ever got the lock")
	}
}
