package snapshot

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
	"github.com/durun/durun/snapshot/bucket/file"
)

// hearing is a channel that is written to when something has come.
func hearing(t testing.TB, w *InboxWatcher, id string) (heard chan struct{}, stop func()) {
	heard = make(chan struct{}, 1)
	stop = w.Watch(id, func() {
		select {
		case heard <- struct{}{}:
		default:
		}
	})
	t.Cleanup(stop)
	return heard, stop
}

func expectHeard(t testing.TB, heard chan struct{}, what string) {
	t.Helper()
	select {
	case <-heard:
	case <-time.After(time.Minute):
		t.Fatalf("not heard: %s", what)
	}
}

// interval is one at which messages are found soon, and where the bucket tells of them one at which they aren't.
func interval(t testing.TB, b bucket.Bucket) time.Duration {
	if _, ok := b.(bucket.Watcher); ok {
		w, err := b.(bucket.Watcher).Watch(func(string) {})
		if err == nil {
			_ = w.Close()
			return time.Hour
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Fatal(err)
		}
	}
	return 20 * time.Millisecond
}

func watcher(t testing.TB, s *Store, o InboxWatcherOptions) *InboxWatcher {
	w := NewInboxWatcher(s, o)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// TestInboxWatcher watches for few coroutines, whose inboxes are listed one by one, and for many, where the bucket tells of
// messages and where it doesn't.
func TestInboxWatcher(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) bucket.Bucket{
		"mem": func(*testing.T) bucket.Bucket { return bucket.NewMem() },
		"file": func(t *testing.T) bucket.Bucket {
			b, err := file.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		"polling": func(*testing.T) bucket.Bucket { return buckettest.NoLock(bucket.NewMem()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			s := storeWith(t, b, "p", 1)
			w := watcher(t, s, InboxWatcherOptions{Interval: interval(t, b), OnError: func(err error) { t.Error(err) }})
			for _, others := range []int{0, 3 * askSingly} {
				for i := range others {
					hearing(t, w, fmt.Sprintf("other-%d", i))
				}
				heard, stop := hearing(t, w, "p")
				for i := range 5 {
					r := send(t, s, "p", Message{Name: "n", Key: "k"})
					expectHeard(t, heard, fmt.Sprintf("message %d, beside %d others", i, others))
					if got := inbox(t, s, "p"); len(got) != 1 {
						t.Fatalf("%+v", got)
					}
					if err := s.Acknowledge(t.Context(), "p", r.Key); err != nil {
						t.Fatal(err)
					}
				}
				// Two that wait for the same; then none.
				second, stopSecond := hearing(t, w, "p")
				send(t, s, "p", Message{Name: "n", Key: "two"})
				expectHeard(t, heard, "first of two")
				expectHeard(t, second, "second of two")
				stopSecond()
				stop()
				stop()
				if err := s.Acknowledge(t.Context(), "p", "two"); err != nil {
					t.Fatal(err)
				}
			}
			w.mu.Lock()
			if n := len(w.ids); n != 3*askSingly {
				t.Errorf("%d ids are left", n)
			}
			w.mu.Unlock()
		})
	}
}

// TestInboxWatcherIsQuiet isn't told again and again of a message that stays, and not of what happens to others.
func TestInboxWatcherIsQuiet(t *testing.T) {
	m := bucket.NewMem()
	s := storeWith(t, m, "p", 1)
	storeWith(t, m, "q", 1)
	send(t, s, "p", Message{Name: "n"})
	f := buckettest.NewFaulty(m, nil)
	w := watcher(t, NewStore(f), InboxWatcherOptions{Interval: time.Millisecond})
	var calls atomic.Int32
	defer w.Watch("p", func() { calls.Add(1) })()
	heard, _ := hearing(t, w, "q")
	lists := func() int { return len(f.Ops()) }
	for start := lists(); lists() < start+20; {
		send(t, s, "q", Message{Name: "n"})
		expectHeard(t, heard, "the other")
	}
	if n := calls.Load(); n > 1 {
		t.Errorf("told %d times of one message", n)
	}
}

// TestInboxWatcherGoesOn goes on after errors, and says what they are.
func TestInboxWatcherGoesOn(t *testing.T) {
	m := bucket.NewMem()
	s := storeWith(t, m, "p", 1)
	f := buckettest.NewFaulty(m, func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Before: bucket.ErrUnavailable} })
	var once sync.Once
	failed := make(chan error)
	w := watcher(t, NewStore(f), InboxWatcherOptions{Interval: time.Millisecond, OnError: func(err error) {
		once.Do(func() { failed <- err })
	}})
	heard, _ := hearing(t, w, "p")
	if err := <-failed; !errors.Is(err, bucket.ErrUnavailable) {
		t.Error(err)
	}
	f.Plan(nil)
	send(t, s, "p", Message{Name: "n"})
	expectHeard(t, heard, "after an outage")
}

// TestInboxWatcherManyProcesses has what another process puts told of: it knows nothing of this one's bucket.
func TestInboxWatcherManyProcesses(t *testing.T) {
	dir := t.TempDir()
	open := func() *Store {
		b, err := file.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return NewStore(b)
	}
	storeWith(t, open().b, "p", 1)
	b := open()
	w := watcher(t, b, InboxWatcherOptions{Interval: interval(t, b.b)})
	heard, _ := hearing(t, w, "p")
	for i := range 100 {
		other := open()
		r := send(t, other, "p", Message{Name: "n", Data: fmt.Append(nil, i)})
		expectHeard(t, heard, fmt.Sprint("message ", i))
		if i%2 == 0 {
			if err := other.Acknowledge(t.Context(), "p", r.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// BenchmarkInboxWatcher is what a message costs, from Send to the notice, beside so many coroutines that are watched for.
func BenchmarkInboxWatcher(b *testing.B) {
	for _, kind := range []string{"mem", "file"} {
		for _, n := range []int{1, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				var bk bucket.Bucket = bucket.NewMem()
				if kind == "file" {
					f, err := file.Open(b.TempDir())
					if err != nil {
						b.Fatal(err)
					}
					bk = f
				}
				s := storeWith(b, bk, "p", 1)
				w := watcher(b, s, InboxWatcherOptions{})
				for i := range n - 1 {
					w.Watch(fmt.Sprint("other-", i), func() {})
				}
				heard, _ := hearing(b, w, "p")
				for b.Loop() {
					r := send(b, s, "p", Message{Name: "n"})
					<-heard
					if err := s.Acknowledge(b.Context(), "p", r.Key); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
