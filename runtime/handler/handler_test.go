package handler

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/hostabi"
)

// failing is a handler that fails n times, and then returns the number of its attempts.
func failing(n int, err error) Func {
	var attempts atomic.Int32
	return func(context.Context, Call) ([]byte, error) {
		if a := int(attempts.Add(1)); a > n {
			return fmt.Append(nil, a), nil
		}
		return nil, err
	}
}

// wantEnd checks how a call has ended that failed.
func wantEnd(t *testing.T, err error, code hostabi.Code, message string) {
	t.Helper()
	end := (*hostabi.OperationError)(nil)
	if !errors.As(err, &end) || end.Code != code || !strings.Contains(end.Message, message) {
		t.Errorf("it ended with %v, want %v and %q", err, code, message)
	}
}

func TestDoRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		var told []int
		s.OnRetry = func(c Call, err error, pause time.Duration) {
			told = append(told, c.Attempt)
			longest := 100 * time.Millisecond << (c.Attempt - 4) // what cut the first three off says nothing of the service
			if pause < longest/2 || pause > longest || err.Error() != "not today" {
				t.Errorf("attempt %d failed with %v, and a pause of %v", c.Attempt, err, pause)
			}
		}
		s.Handle("f", failing(3, errors.New("not today")), Policy{})
		var attempts []int
		result, err := s.Do(t.Context(), Call{Name: "f"}, time.Time{}, Progress{Attempt: 3}, func(p Progress) {
			if p.Next.IsZero() {
				attempts = append(attempts, p.Attempt)
			}
		})
		if string(result) != "4" || err != nil {
			t.Errorf("result %q, error %v", result, err)
		}
		if want := []int{4, 5, 6, 7}; !slices.Equal(attempts, want) {
			t.Errorf("attempts %v, want %v", attempts, want)
		}
		if want := []int{4, 5, 6}; !slices.Equal(told, want) {
			t.Errorf("told of attempts %v, want %v", told, want)
		}
	})
}

func TestDoEnds(t *testing.T) {
	long := strings.Repeat("é", 5000)
	for name, c := range map[string]struct {
		f       Func
		p       Policy
		code    hostabi.Code
		message string
	}{
		"final":              {failing(9, Final(errors.New("no such address"))), Policy{}, hostabi.CodeFailed, "no such address"},
		"final, wrapped":     {failing(9, fmt.Errorf("send: %w", Final(errors.New("no")))), Policy{}, hostabi.CodeFailed, "no"},
		"the handler's code": {failing(9, &hostabi.OperationError{Code: hostabi.CodeDenied, Message: "not you"}), Policy{}, hostabi.CodeDenied, "not you"},
		"no code to end with": {
			failing(9, &hostabi.OperationError{Code: hostabi.CodePending}), Policy{}, hostabi.CodeFailed, "",
		},
		"exhausted":           {failing(9, errors.New("down")), Policy{MaxAttempts: 3}, hostabi.CodeExhausted, "3 attempts; the last one: down"},
		"timeout":             {failing(1e9, errors.New("down")), Policy{Timeout: time.Hour}, hostabi.CodeTimeout, "no success within 1h0m0s; the last attempt: down"},
		"timeout, in a pause": {failing(9, errors.New("down")), Policy{Timeout: time.Second, Backoff: time.Hour, MaxBackoff: time.Hour}, hostabi.CodeTimeout, "down"},
		"timeout, throttled":  {failing(1e9, &Throttled{RetryAfter: time.Minute}), Policy{Timeout: time.Hour}, hostabi.CodeTimeout, "throttled"},
		"timeout, at the handler": {func(ctx context.Context, _ Call) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, Policy{Timeout: time.Second}, hostabi.CodeTimeout, "context deadline exceeded"},
		"attempts time out": {func(ctx context.Context, _ Call) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, Policy{MaxAttempts: 2}, hostabi.CodeExhausted, "2 attempts; the last one: not done within 30s"},
		"too large": {func(context.Context, Call) ([]byte, error) {
			return make([]byte, hostabi.MaxPayload+1), nil
		}, Policy{}, hostabi.CodeLimit, "16777216"},
		"panic":            {func(context.Context, Call) ([]byte, error) { panic("ouch") }, Policy{MaxAttempts: 2}, hostabi.CodeExhausted, "the handler panicked: ouch"},
		"unprintable":      {failing(9, Final(errors.New(" a\x1b[31m\xff\r\n\tb\x00 "))), Policy{}, hostabi.CodeFailed, "a\ufffd[31m\ufffd\n b\ufffd"},
		"long":             {failing(9, Final(errors.New(long))), Policy{}, hostabi.CodeFailed, long[:maxText]},
		"long, cut within": {failing(9, Final(errors.New("x"+long))), Policy{}, hostabi.CodeFailed, "x" + long[:maxText-2]},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s Set
				s.Handle("f", c.f, c.p)
				_, err := s.Do(t.Context(), Call{Name: "f"}, time.Now(), Progress{}, nil)
				wantEnd(t, err, c.code, c.message)
				if len(err.Error()) > maxText+100 {
					t.Errorf("the message has %d bytes", len(err.Error()))
				}
			})
		})
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{
		"", "plain", " a\r\n\tb ", "\xff\xfe", "a\x00\x1b[31m", strings.Repeat("é", maxText), strings.Repeat("\x01", maxText),
		strings.Repeat("a\xff", maxText), strings.Repeat(" ", 2*maxText) + "x", "x" + strings.Repeat(" ", 2*maxText),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := text(s)
		if len(got) > maxText || !utf8.ValidString(got) || got != strings.TrimSpace(got) {
			t.Errorf("%q becomes %q", s, got)
		}
		for _, r := range got {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%q has %q", got, r)
			}
		}
		if again := text(got); again != got {
			t.Errorf("%q becomes %q", got, again)
		}
	})
}

func TestDoDenied(t *testing.T) {
	var s Set
	_, err := s.Do(t.Context(), Call{Name: "nobody"}, time.Time{}, Progress{}, nil)
	wantEnd(t, err, hostabi.CodeDenied, `"nobody"`)
	s.Handle("somebody", failing(0, nil), Policy{})
	if !s.Has("somebody") || s.Has("nobody") {
		t.Error("Has is wrong")
	}
}

// A call's time goes on while nobody drives it, but one that died at its last attempt is tried once more.
func TestDoAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		s.Handle("f", failing(9, errors.New("down")), Policy{MaxAttempts: 3, Timeout: time.Hour})
		begun := time.Now()
		<-time.After(59 * time.Minute)
		_, err := s.Do(t.Context(), Call{Name: "f"}, begun, Progress{Attempt: 3}, nil)
		wantEnd(t, err, hostabi.CodeExhausted, "4 attempts")
		<-time.After(2 * time.Minute)
		_, err = s.Do(t.Context(), Call{Name: "f"}, begun, Progress{}, func(Progress) { t.Error("an attempt after its time") })
		wantEnd(t, err, hostabi.CodeTimeout, "no attempt has ended within 1h0m0s")
		// Begun on a machine whose clock is ahead: from now on, then.
		started := time.Now()
		s.Handle("f", failing(1e9, errors.New("down")), Policy{Timeout: time.Hour})
		_, err = s.Do(t.Context(), Call{Name: "f"}, started.Add(time.Hour), Progress{}, nil)
		wantEnd(t, err, hostabi.CodeTimeout, "down")
		if took := time.Since(started); took != time.Hour {
			t.Errorf("it took %v", took)
		}
	})
}

// What Do tells of a call's way is what another process goes on from: with the attempt's number, the pause and the last error.
func TestDoProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		n := 0
		s.Handle("f", func(_ context.Context, c Call) ([]byte, error) {
			switch n++; n {
			case 1:
				return nil, errors.New("not\nyet " + strings.Repeat("é", MaxProgressErr))
			case 2, 3:
				return nil, &Throttled{RetryAfter: time.Minute, Err: errors.New("slowly")}
			}
			return []byte(strconv.Itoa(c.Attempt)), nil
		}, Policy{Backoff: time.Second, MaxBackoff: 10 * time.Second})
		start := time.Now()
		var told []Progress
		result, err := s.Do(t.Context(), Call{Name: "f"}, time.Time{}, Progress{}, func(p Progress) { told = append(told, p) })
		if string(result) != "2" || err != nil || len(told) != 7 {
			t.Fatalf("result %q, %v, %d times", result, err, len(told))
		}
		cut := "not yet " + strings.Repeat("é", (MaxProgressErr-len("not yet …"))/2) + "…"
		second := told[1].Next
		want := []Progress{
			{Attempt: 1, Started: start},
			{Attempt: 1, Started: start, Err: cut, Next: second},
			{Attempt: 2, Started: second, Err: cut},
			{Attempt: 2, Started: second, Throttled: 1, Err: "slowly", Next: second.Add(time.Minute)},
			{Attempt: 2, Started: second.Add(time.Minute), Throttled: 1, Err: "slowly"},
			{Attempt: 2, Started: second.Add(time.Minute), Throttled: 2, Err: "slowly", Next: second.Add(2 * time.Minute)},
			{Attempt: 2, Started: second.Add(2 * time.Minute), Throttled: 2, Err: "slowly"},
		}
		if d := cmp.Diff(want, told); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
		if pause := second.Sub(start); pause < time.Second/2 || pause > time.Second {
			t.Errorf("a pause of %v", pause)
		}

		down := failing(1e9, errors.New("down"))
		for name, c := range map[string]struct {
			before Progress // Next is from now
			next   time.Duration
			number int
			after  time.Duration
		}{
			"in a pause":                {Progress{Attempt: 7, Err: "x"}, 8 * time.Second, 8, 8 * time.Second},
			"another clock":             {Progress{Attempt: 7, Err: "x"}, time.Hour, 8, 10 * time.Second},
			"throttled":                 {Progress{Attempt: 7, Throttled: 3, Err: "x"}, time.Hour, 7, time.Hour},
			"throttled, another clock":  {Progress{Attempt: 7, Throttled: 3, Err: "x"}, 1e6 * time.Second, 7, MaxRetryAfter},
			"cut off":                   {Progress{Attempt: 7, Err: "x"}, 0, 8, 0},
			"cut off, throttled before": {Progress{Attempt: 7, Throttled: 3, Err: "x"}, 0, 8, 0},
			"overdue":                   {Progress{Attempt: 7, Err: "x"}, -time.Hour, 8, 0},
		} {
			var s Set // its names were never throttled
			s.Handle("f", down, Policy{MaxAttempts: 1, MaxBackoff: 10 * time.Second})
			started := time.Now()
			if c.next != 0 {
				c.before.Next = started.Add(c.next)
			}
			var number int
			_, err := s.Do(t.Context(), Call{Name: "f"}, started, c.before, func(p Progress) { number = p.Attempt })
			wantEnd(t, err, hostabi.CodeExhausted, "down")
			if took := time.Since(started); took != c.after || number != c.number {
				t.Errorf("%s: attempt %d after %v, want %d after %v", name, number, took, c.number, c.after)
			}
		}

		s.Handle("f", down, Policy{Timeout: time.Minute, MaxBackoff: -1})
		started := time.Now()
		_, err = s.Do(t.Context(), Call{Name: "f"}, started, Progress{Attempt: 7, Err: "in flames", Next: started.Add(time.Hour)}, nil)
		wantEnd(t, err, hostabi.CodeTimeout, "the last attempt: in flames")
		if took := time.Since(started); took != time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

func TestDoCancelled(t *testing.T) {
	for name, c := range map[string]struct {
		f Func
		p Policy
	}{
		"at the handler": {func(ctx context.Context, _ Call) ([]byte, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("stopped: %w", ctx.Err())
		}, Policy{AttemptTimeout: -1}},
		"in a pause":    {failing(1, errors.New("down")), Policy{Backoff: time.Hour, MaxBackoff: time.Hour}},
		"at the gate":   {failing(0, nil), Policy{Rate: 1e-6}},
		"throttled":     {failing(9, &Throttled{RetryAfter: time.Hour}), Policy{}},
		"before others": {failing(1, errors.New("down")), Policy{Timeout: time.Hour, Backoff: time.Hour, MaxBackoff: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s Set
				s.Handle("f", c.f, c.p)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				_, err := s.Do(ctx, Call{Name: "f"}, start, Progress{}, nil)
				if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*hostabi.OperationError)) {
					t.Errorf("error %v", err)
				}
				if took := time.Since(start); took != time.Minute {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		s.Wait(t.Context()) // nothing is under way
		s.Handle("f", func(ctx context.Context, _ Call) ([]byte, error) {
			<-ctx.Done()
			<-time.After(time.Minute) // slow to notice
			return nil, ctx.Err()
		}, Policy{})
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			go func() { _, _ = s.Do(ctx, Call{Name: "f"}, time.Time{}, Progress{}, nil) }()
		}
		synctest.Wait()
		start := time.Now()
		impatient, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		s.Wait(impatient)
		if took := time.Since(start); took != time.Second {
			t.Errorf("it waited %v for what goes on", took)
		}
		cancel()
		go s.Wait(t.Context())
		s.Wait(t.Context())
		if took := time.Since(start); took != time.Second+time.Minute {
			t.Errorf("it waited %v", took)
		}
	})
}

// What was done is done: a result counts, however late it is.
func TestDoLateResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		s.Handle("f", func(ctx context.Context, _ Call) ([]byte, error) {
			<-ctx.Done()
			return []byte("done"), nil
		}, Policy{MaxAttempts: 1})
		if result, err := s.Do(t.Context(), Call{Name: "f"}, time.Time{}, Progress{}, nil); string(result) != "done" || err != nil {
			t.Errorf("result %q, error %v", result, err)
		}
	})
}

func TestDoThrottledDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		s.Handle("f", failing(5, &Throttled{RetryAfter: 10 * time.Second}), Policy{MaxAttempts: 1})
		var attempts []int
		start := time.Now()
		result, err := s.Do(t.Context(), Call{Name: "f"}, start, Progress{}, func(p Progress) {
			if p.Next.IsZero() {
				attempts = append(attempts, p.Attempt)
			}
		})
		if string(result) != "6" || err != nil {
			t.Errorf("result %q, error %v", result, err)
		}
		if want := []int{1, 1, 1, 1, 1, 1}; !slices.Equal(attempts, want) {
			t.Errorf("attempts %v, want %v", attempts, want)
		}
		if took := time.Since(start); took < 50*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// Ten thousand calls wait for their turn, cheaply, and no more run at once than may.
func TestDoMany(t *testing.T) {
	const n, width = 10_000, 8
	var s Set
	var running, most, done atomic.Int32
	open := make(chan struct{})
	s.Handle("f", func(context.Context, Call) ([]byte, error) {
		now := running.Add(1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		<-open
		running.Add(-1)
		done.Add(1)
		return nil, nil
	}, Policy{Concurrency: width})
	var before, after goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := s.Do(t.Context(), Call{Name: "f"}, time.Time{}, Progress{}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(s.handler("f").gate, func(g *gate) bool { return g.running+g.queue.Len() == n })
	goruntime.ReadMemStats(&after)
	if each := (after.Sys - before.Sys) / n; each > 16<<10 {
		t.Errorf("a call that waits takes %d bytes", each)
	}
	close(open)
	wg.Wait()
	if most.Load() != width || done.Load() != n {
		t.Errorf("%d calls, %d at once; want %d, %d", done.Load(), most.Load(), n, width)
	}
}

// Calls get their turn in the order in which they came.
func TestDoOrder(t *testing.T) {
	const n = 1000
	var s Set
	open := make(chan struct{})
	var order []uint32
	s.Handle("f", func(_ context.Context, c Call) ([]byte, error) {
		<-open
		order = append(order, c.Operation)
		return nil, nil
	}, Policy{Concurrency: 1})
	var wg sync.WaitGroup
	for i := range uint32(n) {
		wg.Go(func() { _, _ = s.Do(t.Context(), Call{Name: "f", Operation: i}, time.Time{}, Progress{}, nil) })
		waitFor(s.handler("f").gate, func(g *gate) bool { return g.running+g.queue.Len() == int(i)+1 })
	}
	close(open)
	wg.Wait()
	if len(order) != n || !slices.IsSorted(order) {
		t.Errorf("they came in the order %v", order)
	}
}

// waitFor waits until a gate is as it should be.
func waitFor(g *gate, is func(*gate) bool) {
	for {
		g.mu.Lock()
		done := is(g)
		g.mu.Unlock()
		if done {
			return
		}
		goruntime.Gosched()
	}
}
