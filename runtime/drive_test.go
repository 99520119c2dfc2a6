package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// napper starts the interpreter in C with a program that sleeps nine times, for a time in milliseconds.
func napper(t *testing.T, clock wasi.Clock, millis string) *Coroutine {
	t.Helper()
	return napperOf(t, clock, millis, 9)
}

// napperOf is napper for a number of naps.
func napperOf(t *testing.T, clock wasi.Clock, millis string, naps int) *Coroutine {
	t.Helper()
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "guests", "interp.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	program := "0 !i begin @i 1 + !i @i . cr " + millis + " sleep @i " + strconv.Itoa(naps) + " = until"
	host, err := wasi.New(wasi.Config{Args: []string{"interp", "-c", program}, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	c, err := compiled(t, binary, nil).Start(t.Context(), StartConfig{ID: "nap", Hosts: []hostabi.Instance{host}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestDriverInterval counts the commits of a guest that sleeps nine times, and looks at what is in them.
func TestDriverInterval(t *testing.T) {
	for _, test := range []struct {
		interval time.Duration
		commits  int
	}{{0, 10}, {time.Nanosecond, 10}, {time.Hour, 2}} {
		store := snapshot.NewStore(bucket.NewMem())
		c := napper(t, &virtualClock{}, "4")
		d := Driver{Store: store, Interval: test.interval}
		if status, err := d.Drive(t.Context(), c); err != nil || status != snapshot.Completed {
			t.Fatal(status, err)
		}
		history, err := store.History(t.Context(), "nap")
		if err != nil || len(history) != test.commits {
			t.Errorf("interval %v: %d commits, %v; want %d", test.interval, len(history), err, test.commits)
		}
		var out bytes.Buffer
		if err := store.Logs(t.Context(), "nap", &out, nil); err != nil || strings.Join(strings.Fields(out.String()), " ") != "1 2 3 4 5 6 7 8 9" {
			t.Errorf("interval %v: the output is %q, %v", test.interval, &out, err)
		}
	}
}

// TestDriverIntervalEnds has a guest sleep for longer than the interval: the await is committed when that is over.
func TestDriverIntervalEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	commits := 0
	d := Driver{
		Store: snapshot.NewStore(bucket.NewMem()), Interval: 50 * time.Millisecond,
		OnCommit: func(c snapshot.Commit) {
			if commits++; commits == 2 {
				cancel()
			}
		},
	}
	c := napper(t, &secondSleepsLong{}, "4")
	if _, err := d.Drive(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if head, err := d.Store.Head(t.Context(), "nap"); err != nil || head.Seq != 2 || head.Output == 0 {
		t.Errorf("the last commit is %d with %d bytes of output, %v", head.Seq, head.Output, err)
	}
}

// TestDriverStopped stops a driver in an await that it has not committed.
func TestDriverStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := Driver{Store: snapshot.NewStore(bucket.NewMem()), Interval: time.Hour}
	c := napper(t, &secondSleepsLong{asleep: cancel}, "4")
	if _, err := d.Drive(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if head, err := d.Store.Head(t.Context(), "nap"); err != nil || head.Seq != 2 || head.Output == 0 {
		t.Errorf("the last commit is %d with %d bytes of output, %v", head.Seq, head.Output, err)
	}
}

// TestDriverStoppedInCommit stops a driver while it makes the commit that creates the coroutine: the commit is finished, and
// who asked knows of it.
func TestDriverStoppedInCommit(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var calls []string
	d := Driver{
		Store:        snapshot.NewStore(stoppingBucket{bucket.NewMem(), cancel}),
		BeforeCommit: func(seq uint64) { calls = append(calls, fmt.Sprintf("before %d", seq)) },
		OnCommit:     func(c snapshot.Commit) { calls = append(calls, fmt.Sprintf("made %d", c.Seq)) },
		Ensure: func(ctx context.Context) error {
			calls = append(calls, "ensure")
			return ctx.Err()
		},
	}
	c := napper(t, &virtualClock{}, "4")
	if _, err := d.Drive(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"ensure", "before 1", "ensure", "made 1"}, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if head, err := d.Store.Head(t.Context(), "nap"); err != nil || head.Seq != 1 {
		t.Errorf("the last commit is %d, %v", head.Seq, err)
	}
}

// stoppingBucket has somebody ask to stop when an object is put.
type stoppingBucket struct {
	bucket.Bucket
	stop func()
}

func (b stoppingBucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	b.stop()
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.Bucket.Put(ctx, key, body, size)
}

// TestOutlive looks at how long a context outlives another.
func TestOutlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		outliving, stop := outlive(ctx, 5*time.Second)
		defer stop()
		time.Sleep(time.Minute) //nolint:forbidigo // takes no time
		if outliving.Err() != nil {
			t.Error("it is done before the other")
		}
		start := time.Now()
		cancel()
		<-outliving.Done()
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("it outlives the other by %v", d)
		}
	})
}

// secondSleepsLong is a clock on which the second sleep has no end.
type secondSleepsLong struct {
	virtualClock
	sleeps int
	asleep func()
}

func (c *secondSleepsLong) Sleep(ctx context.Context, d time.Duration) error {
	if c.sleeps++; c.sleeps != 2 {
		return c.virtualClock.Sleep(ctx, d)
	}
	if c.asleep != nil {
		c.asleep()
	}
	<-ctx.Done()
	return ctx.Err()
}

// TestDriverLease has a driver lose its lease in a wait, with work that is not committed, and between two commits.
func TestDriverLease(t *testing.T) {
	acquired := func(store *snapshot.Store) *snapshot.Lease {
		t.Helper()
		lease, err := store.Acquire(t.Context(), "nap", snapshot.LeaseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return lease
	}
	store := snapshot.NewStore(buckettest.NoLock(bucket.NewMem()))
	first := acquired(store)
	c := napper(t, nil, "600000")
	c.stdout = writerFunc(func(p []byte) (int, error) { // before the first nap
		time.AfterFunc(10*time.Millisecond, func() { _ = first.Release() })
		return len(p), nil
	})
	d := Driver{Store: store, Lease: first, Interval: time.Hour}
	if _, err := d.Drive(t.Context(), c); !errors.Is(err, snapshot.ErrFenced) || errors.Is(err, context.Canceled) {
		t.Errorf("in a wait: %v", err)
	}

	store = snapshot.NewStore(buckettest.NoLock(bucket.NewMem()))
	lease := acquired(store)
	c = napper(t, &virtualClock{}, "4")
	d = Driver{Store: store, Lease: lease, OnCommit: func(commit snapshot.Commit) {
		if commit.Seq == 3 {
			_ = lease.Release()
		}
	}}
	if _, err := d.Drive(t.Context(), c); !errors.Is(err, snapshot.ErrFenced) {
		t.Errorf("between commits: %v", err)
	}
	if head, err := store.Head(t.Context(), "nap"); err != nil || head.Seq != 3 {
		t.Errorf("commit %d, %v", head.Seq, err)
	}

	// With it, it is driven to its end.
	store = snapshot.NewStore(buckettest.NoLock(bucket.NewMem()))
	lease = acquired(store)
	defer lease.Release()
	d = Driver{Store: store, Lease: lease}
	if status, err := d.Drive(t.Context(), napper(t, &virtualClock{}, "4")); err != nil || status != snapshot.Completed {
		t.Errorf("undisturbed: %v, %v", status, err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
