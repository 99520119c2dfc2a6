package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// napped is what napper's program writes in so many naps.
func napped(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d \n", i+1)
	}
	return b.String()
}

// TestDriverRetains keeps the newest commits of a guest, and all of its output.
func TestDriverRetains(t *testing.T) {
	store := snapshot.NewStore(bucket.NewMem())
	dropped := 0
	d := Driver{
		Store: store, Retain: snapshot.Policy{Keep: 2},
		OnRetain: func(done snapshot.Retained, err error) {
			dropped += done.Commits
			if err != nil {
				t.Error(err)
			}
		},
	}
	if status, err := d.Drive(t.Context(), napper(t, &virtualClock{}, "4")); err != nil || status != snapshot.Completed {
		t.Fatal(status, err)
	}
	history, err := store.History(t.Context(), "nap")
	if err != nil || len(history) != 2 || history[1].Seq != 10 || dropped != 8 {
		t.Errorf("%d commits are left, %d were dropped, %v", len(history), dropped, err)
	}
	var out bytes.Buffer
	if err := store.Logs(t.Context(), "nap", &out, nil); err != nil || out.String() != napped(9) {
		t.Errorf("output %q, %v", &out, err)
	}
}

// TestDriverRetainFails has a store that takes commits and no logs: the guest doesn't notice.
func TestDriverRetainFails(t *testing.T) {
	b := buckettest.NewFaulty(bucket.NewMem(), func(o buckettest.Op) buckettest.Fault {
		if o.Name == "put" && strings.HasPrefix(o.Key, "logs/") {
			return buckettest.Fault{Before: bucket.ErrFull}
		}
		return buckettest.Fault{}
	})
	store := snapshot.NewStore(b)
	failed := 0
	d := Driver{
		Store: store, Retain: snapshot.Policy{Keep: 2},
		OnRetain: func(_ snapshot.Retained, err error) {
			if errors.Is(err, bucket.ErrFull) {
				failed++
			}
		},
	}
	if status, err := d.Drive(t.Context(), napper(t, &virtualClock{}, "4")); err != nil || status != snapshot.Completed || failed == 0 {
		t.Errorf("%v, %v; %d failures were told", status, err, failed)
	}
	if history, err := store.History(t.Context(), "nap"); err != nil || len(history) != 10 {
		t.Errorf("%d commits, %v", len(history), err)
	}
}

// slowLogs is a bucket on which a log is put only after so many commits more.
type slowLogs struct {
	bucket.Bucket
	mu      sync.Mutex
	commits int
	more    *sync.Cond
}

func (s *slowLogs) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	s.mu.Lock()
	if strings.HasPrefix(key, "coroutines/") {
		s.commits++
		s.more.Broadcast()
	} else if strings.HasPrefix(key, "logs/") {
		for until := min(s.commits+100, 400); s.commits < until; {
			s.more.Wait()
		}
	}
	s.mu.Unlock()
	return s.Bucket.Put(ctx, key, body, size)
}

// TestDriverRetainsBesideTheGuest would not end if an await had to wait for what drops commits.
func TestDriverRetainsBesideTheGuest(t *testing.T) {
	b := &slowLogs{Bucket: bucket.NewMem()}
	b.more = sync.NewCond(&b.mu)
	store := snapshot.NewStore(b)
	most := 0
	d := Driver{
		Store: store, Retain: snapshot.Policy{Keep: 1},
		OnCommit: func(snapshot.Commit) {
			n := 0
			for _, err := range b.List(t.Context(), bucket.ListOptions{Prefix: "coroutines/"}) {
				if n++; err != nil {
					t.Error(err)
				}
			}
			most = max(most, n)
		},
	}
	c := napperOf(t, &virtualClock{}, "4", 499)
	if status, err := d.Drive(t.Context(), c); err != nil || status != snapshot.Completed {
		t.Fatal(status, err)
	}
	if history, err := store.History(t.Context(), "nap"); err != nil || len(history) != 1 || history[0].Seq != 500 {
		t.Errorf("%d commits are left, %v", len(history), err)
	}
	var out bytes.Buffer
	if err := store.Logs(t.Context(), "nap", &out, nil); err != nil || out.String() != napped(499) {
		t.Errorf("output of %d bytes, %v", out.Len(), err)
	}
	if most < 100 {
		t.Errorf("only up to %d commits were stored: it has waited", most)
	}
}

// TestDriverEnsures looks when the first commit's needs are asked for.
func TestDriverEnsures(t *testing.T) {
	store := snapshot.NewStore(bucket.NewMem())
	var calls []int
	fail := -1
	d := Driver{Store: store, Once: true, Ensure: func(ctx context.Context) error {
		n := 0
		for _, err := range store.List(ctx) {
			if n++; err != nil {
				t.Error(err)
			}
		}
		if calls = append(calls, n); n == fail {
			return io.ErrUnexpectedEOF
		}
		return nil
	}}
	c := napper(t, &virtualClock{}, "4")
	if _, err := d.Drive(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Drive(t.Context(), c); err != nil { // the second commit
		t.Fatal(err)
	}
	if fmt.Sprint(calls) != "[0 1]" {
		t.Errorf("called when there were %v coroutines", calls)
	}
	for fail = range 2 {
		d.Store = snapshot.NewStore(bucket.NewMem())
		store = d.Store
		if _, err := d.Drive(t.Context(), napper(t, &virtualClock{}, "4")); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("failing at %d: %v", fail, err)
		}
	}
}

// TestRetainMeanwhile looks at what is kept while a guest commits: the passes beside it drop what is old.
func TestRetainMeanwhile(t *testing.T) {
	const naps, most = 2 * retainSlack, retainSlack + 2*retainBatch
	store := snapshot.NewStore(bucket.NewMem())
	d := Driver{Store: store, Retain: snapshot.Policy{Keep: 2}}
	d.OnCommit = func(c snapshot.Commit) {
		if c.Seq != naps {
			return
		}
		if history, err := store.History(t.Context(), "nap"); err != nil || len(history) > most {
			t.Errorf("after %d commits there are %d, want %d at most; %v", c.Seq, len(history), most, err)
		}
	}
	if status, err := d.Drive(t.Context(), napperOf(t, &virtualClock{}, "4", naps)); err != nil || status != snapshot.Completed {
		t.Fatal(status, err)
	}
}
