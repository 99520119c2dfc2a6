package serve_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/durun/durun/runtime/serve"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// commitOutput makes commits of a coroutine that waits, each with its output.
func commitOutput(t *testing.T, s *snapshot.Store, id string, output ...string) {
	t.Helper()
	var parent *snapshot.Parent
	for i, text := range output {
		c, err := s.Commit(t.Context(), &snapshot.Snapshot{
			Module: snapshot.HashOf([]byte("a module")), Coroutine: id, Seq: uint64(i + 1), Parent: parent, Time: time.Unix(1e9, 0).UTC(),
			Status: snapshot.Suspended, Entry: "run", Await: &snapshot.Await{Import: "durun.checkpoint", Kind: "checkpoint"},
			Frames: []snapshot.Frame{{}}, Output: []snapshot.Output{{Stream: 1, Data: []byte(text)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		parent = c.AsParent()
	}
}

// damage changes an object of a bucket: the n-th with a prefix, one byte at a place, from the end if that is negative.
func damage(t *testing.T, b bucket.Bucket, prefix string, n, at int) {
	t.Helper()
	for e, err := range b.List(t.Context(), bucket.ListOptions{Prefix: prefix}) {
		if err != nil {
			t.Fatal(err)
		}
		if n--; n >= 0 {
			continue
		}
		data, err := bucket.ReadAll(t.Context(), b, e.Key, 1<<20)
		if err == nil {
			err = b.Delete(t.Context(), e.Key)
		}
		if at < 0 {
			at += len(data)
		}
		data = bytes.Clone(data)
		data[at] ^= 1
		if err == nil {
			err = bucket.PutBytes(t.Context(), b, e.Key, data)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("there is no such object below %s", prefix)
}

// TestOutputPastDamage asks for the output of coroutines of which a commit can't be read: what there is comes, and doesn't look whole.
func TestOutputPastDamage(t *testing.T) {
	for name, c := range map[string]struct {
		newer int // than the damaged commit
		want  string
	}{
		"in the middle": {1, "one\nthree\n"},
		"the last one":  {0, "one\ntwo\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bucket.NewMem()
			config := newConfig(t, b)
			var mu sync.Mutex
			var reported []error
			config.OnError = func(_ *http.Request, err error) {
				mu.Lock()
				defer mu.Unlock()
				reported = append(reported, err)
			}
			commitOutput(t, config.Scheduler.Store(), "p", "one\n", "two\n", "three\n")
			damage(t, b, "coroutines/p/", c.newer, 40) // in the manifest
			server := httptest.NewServer(serve.New(config))
			defer server.Close()
			resp, err := http.Get(server.URL + "/coroutines/p/output")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if resp.StatusCode != 200 || string(got) != c.want || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d %q, %v; want 200 %q, cut off", resp.StatusCode, got, err, c.want)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(reported) != 1 || !errors.Is(reported[0], snapshot.ErrCorrupt) {
				t.Errorf("reported: %v", reported)
			}
		})
	}
}

// TestRemoveDamaged removes coroutines that nobody can go on with, be it the manifest of the last commit that is damaged or the rest.
func TestRemoveDamaged(t *testing.T) {
	for name, at := range map[string]int{"manifest": 40, "digest": -1} {
		t.Run(name, func(t *testing.T) {
			b := bucket.NewMem()
			config := newConfig(t, b)
			store := config.Scheduler.Store()
			h := serve.New(config)
			for _, id := range []string{"p", "p.1", "q", "q.1"} {
				commitOutput(t, store, id, "one\n", "two\n")
				ask(t, h, 409, "DELETE", "/coroutines/"+id, "")
			}
			damage(t, b, "coroutines/p.1/", 0, at)
			if got := ask(t, h, 409, "DELETE", "/coroutines/p.1", "").Body.String(); !strings.Contains(got, `"awaited"`) {
				t.Errorf("one that may be the child of another that goes on: %s", got)
			}
			damage(t, b, "coroutines/p/", 0, at)
			ask(t, h, 204, "DELETE", "/coroutines/p.1", "")
			ask(t, h, 204, "DELETE", "/coroutines/p", "")
			ask(t, h, 404, "GET", "/coroutines/p", "")
			damage(t, b, "coroutines/q/", 1, at) // an earlier commit: it can go on
			ask(t, h, 409, "DELETE", "/coroutines/q", "")
			lease, err := store.Acquire(t.Context(), "q.1", snapshot.LeaseOptions{})
			if err != nil {
				t.Fatal(err)
			}
			damage(t, b, "coroutines/q.1/", 0, at)
			damage(t, b, "coroutines/q/", 0, at)
			if got := ask(t, h, 409, "DELETE", "/coroutines/q.1", "").Body.String(); !strings.Contains(got, `"busy"`) {
				t.Errorf("one that somebody drives: %s", got)
			}
			if err := lease.Release(); err != nil {
				t.Fatal(err)
			}
			ask(t, h, 204, "DELETE", "/coroutines/q.1", "")
		})
	}
}

// TestRemoveAnother: a coroutine that comes by the id of one that has ended, just before that is removed, stays.
func TestRemoveAnother(t *testing.T) {
	b := bucket.NewMem()
	store := snapshot.NewStore(b)
	replaced := false
	config := newConfig(t, buckettest.NewFaulty(b, func(o buckettest.Op) buckettest.Fault {
		if o.Name == "lock" && !replaced {
			replaced = true
			if err := store.Delete(t.Context(), "p"); err != nil {
				t.Error(err)
			}
			commitOutput(t, store, "p", "new\n")
		}
		return buckettest.Fault{}
	}))
	commitOutput(t, store, "p", "old\n")
	damage(t, b, "coroutines/p/", 0, 40)
	ask(t, serve.New(config), 409, "DELETE", "/coroutines/p", "")
	if c, err := store.Head(t.Context(), "p"); err != nil || c.Status != snapshot.Suspended || !replaced {
		t.Errorf("the new one: %v, %v", c.Status, err)
	}
}
