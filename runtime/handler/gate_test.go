package handler

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is a handler that notes when it was started.
type recorder struct {
	mu     sync.Mutex
	starts []time.Time
	answer func(n int) error // of the nth start, from 0; nil for success
}

func (r *recorder) handle(context.Context, Call) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts = append(r.starts, time.Now())
	if r.answer == nil {
		return nil, nil
	}
	return nil, r.answer(len(r.starts) - 1)
}

// within returns how many starts there were from one time on and before another.
func (r *recorder) within(from, to time.Time) int {
	n := 0
	for _, s := range r.starts {
		if !s.Before(from) && s.Before(to) {
			n++
		}
	}
	return n
}

// all makes n calls at once, and waits for them.
func all(t *testing.T, s *Set, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := s.Do(t.Context(), Call{Name: "f"}, time.Time{}, Progress{}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// No window of any length has more starts than its length times the rate, and one, through failures, pauses and restarts.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 30
		rnd, fate := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
		r := recorder{answer: func(int) error {
			switch x := fate.Float64(); {
			case x < 0.2:
				return errors.New("not today")
			case x < 0.21:
				return &Throttled{RetryAfter: 500 * time.Millisecond}
			}
			return nil
		}}
		for range 5 {
			var s Set
			s.Handle("f", r.handle, Policy{Rate: rate, MaxBackoff: time.Second})
			// Killed: nothing of it is left but those that it has called.
			ctx, kill := context.WithTimeout(t.Context(), 20*time.Second+time.Duration(rnd.Int64N(1e9)))
			var wg sync.WaitGroup
			for i := 0; ctx.Err() == nil; i++ {
				for range rnd.IntN(60) {
					wg.Go(func() { _, _ = s.Do(ctx, Call{Name: "f"}, time.Time{}, Progress{}, nil) })
				}
				sleep(ctx, time.Duration(rnd.Int64N(2e9)))
			}
			wg.Wait()
			kill()
		}
		if len(r.starts) < 1000 {
			t.Errorf("%d starts", len(r.starts))
		}
		for i := range r.starts {
			for j := i + 1; j < len(r.starts); j++ {
				if n, d := j-i+1, r.starts[j].Sub(r.starts[i]); float64(n) > rate*d.Seconds()+1 {
					t.Fatalf("%d starts within %v", n, d)
				}
			}
		}
	})
}

func TestRateIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		var r recorder
		s.Handle("f", r.handle, Policy{Rate: 100})
		start := time.Now()
		all(t, &s, 1000)
		if took := time.Since(start); took < 10*time.Second || took > 10*time.Second+time.Millisecond {
			t.Errorf("1000 starts at 100/s took %v", took)
		}
		// Time in which there was none is not made up for.
		<-time.After(time.Minute)
		again := time.Now()
		all(t, &s, 100)
		if took := time.Since(again); took < 990*time.Millisecond {
			t.Errorf("100 starts at 100/s took %v", took)
		}
	})
}

// Where intervals are shorter than what timers can do, what they lose is made up for, and no more.
func TestRateBeyondTimers(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		rate       float64
		late, next time.Duration // how late the start is, and when the next one may come
	}{
		{100, 0, 10 * time.Millisecond},
		{100, 500 * time.Microsecond, 10 * time.Millisecond},
		{100, time.Hour, 10 * time.Millisecond},
		{10_000, 0, 100 * time.Microsecond},
		{10_000, 70 * time.Microsecond, 30 * time.Microsecond},
		{10_000, time.Millisecond, -900 * time.Microsecond},
		{10_000, time.Hour, -900 * time.Microsecond},
	} {
		g := gate{rate: c.rate, next: now.Add(-c.late)}
		g.started(now)
		if got := g.next.Sub(now).Round(time.Microsecond); got != c.next {
			t.Errorf("at %v/s, %v late: the next one may come after %v, want %v", c.rate, c.late, got, c.next)
		}
	}
}

// A new limit is for calls that wait already, and the old starts count.
func TestRateChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		var r recorder
		s.Handle("f", r.handle, Policy{Rate: 10})
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { all(t, &s, 110) })
		<-time.After(time.Second + time.Millisecond)
		s.Handle("f", r.handle, Policy{Rate: 100})
		wg.Wait()
		if n := r.within(start, start.Add(time.Second+time.Millisecond)); n != 10 {
			t.Errorf("%d starts in the first second, want 10", n)
		}
		if took := time.Since(start); took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("10 starts at 10/s and 100 at 100/s took %v", took)
		}
	})
}

// Nobody starts before the time that one was told, and then fewer do, until it is as before.
func TestThrottled(t *testing.T) {
	for name, p := range map[string]Policy{"rate": {Rate: 100}, "no rate": {Concurrency: 10}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s Set
				var r recorder
				s.Handle("f", func(ctx context.Context, c Call) ([]byte, error) {
					b, err := r.handle(ctx, c)
					<-time.After(100 * time.Millisecond) // so without a rate it is 100 in a second, too
					return b, err
				}, p)
				const at = 200
				r.answer = func(n int) error {
					if n >= at && n < at+10 { // all that are under way
						return &Throttled{RetryAfter: 30 * time.Second}
					}
					return nil
				}
				ctx, stop := context.WithTimeout(t.Context(), 80*time.Second)
				defer stop()
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						for ctx.Err() == nil {
							_, _ = s.Do(ctx, Call{Name: "f"}, time.Time{}, Progress{}, nil)
						}
					})
				}
				wg.Wait()
				first, last := r.starts[at], r.starts[at+9] // of those that were throttled
				second := func(n int) (from, to time.Time) {
					from = last.Add(100*time.Millisecond + 30*time.Second + time.Duration(n)*time.Second)
					return from, from.Add(time.Second)
				}
				resumed, _ := second(0)
				if n := r.within(first.Add(200*time.Millisecond), resumed); n != 0 {
					t.Errorf("%d starts in the pause", n)
				}
				for _, c := range []struct{ second, least, most int }{{0, 50, 70}, {1, 85, 98}, {3, 95, 100}, {15, 95, 100}} {
					if n := r.within(second(c.second)); n < c.least || n > c.most {
						t.Errorf("%d starts in second %d after the pause, want %d to %d", n, c.second, c.least, c.most)
					}
				}
			})
		})
	}
}

// One that doesn't say how long is asked again after pauses that grow, until something succeeds.
func TestThrottledPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Set
		var pauses []time.Duration
		s.OnRetry = func(_ Call, _ error, pause time.Duration) { pauses = append(pauses, pause) }
		r := recorder{answer: func(n int) error {
			if n == 4 {
				return nil
			}
			return &Throttled{}
		}}
		s.Handle("f", r.handle, Policy{Backoff: time.Second})
		all(t, &s, 1)
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		_, _ = s.Do(ctx, Call{Name: "f"}, time.Time{}, Progress{}, nil)
		for i, longest := range []time.Duration{1, 2, 4, 8, 1} {
			longest *= time.Second
			if pauses[i] < longest/2 || pauses[i] > longest+1 { // the pace is rounded up
				t.Errorf("pause %d is %v, want between half of %v and all", i, pauses[i], longest)
			}
		}
	})
}

// Tickets that are given up in every state leave the gate as it was.
func TestGateGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, p := range []Policy{{Concurrency: 3}, {Concurrency: 3, Rate: 1000}} {
			var s Set
			rnd := rand.New(rand.NewPCG(3, 4))
			r := recorder{answer: func(n int) error {
				if n%7 == 0 {
					return &Throttled{RetryAfter: time.Millisecond}
				}
				return nil
			}}
			s.Handle("f", r.handle, p)
			var wg sync.WaitGroup
			for range 2000 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.Int64N(1e9)))
				wg.Go(func() {
					defer cancel()
					_, _ = s.Do(ctx, Call{Name: "f"}, time.Time{}, Progress{}, nil)
				})
			}
			wg.Wait()
			g := s.handler("f").gate
			if g.running != 0 || g.queue.Len() != 0 || g.starting {
				t.Errorf("%+v: %d running, %d waiting, starting %v", p, g.running, g.queue.Len(), g.starting)
			}
			all(t, &s, 10)
		}
	})
}
