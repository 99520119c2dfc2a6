package handler

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// gate is where the attempts of one name wait for their start, first come first served: until fewer than concurrency are under
// way, and until the pace allows for one more. Those that wait share one timer.
//
// Starts are paced strictly: next is at least an interval after the last start, as it really was, with no credit for time in
// which there was none, but for what is lost to timers where intervals are as short as that.
//
// After throttling there is a pause for all, and the pace is cut to half of what it was: AIMD, as TCP's. After the pause it
// grows linearly with time, so fast that it takes seconds to be the policy's rate again, or the fastest pace that was seen
// where the policy has none. To be too fast again soon is no harm, because of the pauses.
type gate struct {
	mu          sync.Mutex
	rate        float64 // starts a second at most, 0 for no limit
	concurrency int     // 0 for no limit

	queue   list.List // of *ticket
	running int
	// One ticket was let in and hasn't started yet. While starts are paced, no other one is let in meanwhile: the pace counts
	// from when a goroutine runs, which on a busy machine is some time after it was told to.
	starting bool
	next     time.Time   // no start before this
	timer    *time.Timer // lets in what waits at wakeAt
	wakeAt   time.Time

	// After throttling, else cutAt is zero: at most slow starts a second, and more with each second from slowFrom on.
	cutAt     time.Time
	slow      float64
	slowFrom  time.Time
	fastest   float64 // pace at a cut
	throttled int     // cuts without a success between them

	// Starts in the second from window on, and in the one before: what the pace was where nothing limits it.
	window       time.Time
	starts, past int
}

// ticket is an attempt at the gate.
type ticket struct {
	admitted chan struct{}
	in       bool      // was let in
	start    time.Time // when it started
}

// configure sets the limits of a gate. The first start waits for one interval, because there may have been one a moment ago,
// by another process.
func (g *gate) configure(p Policy) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rate = 0
	if p.Rate > 0 {
		g.rate = p.Rate
	}
	g.concurrency = max(p.Concurrency, 0)
	now := time.Now()
	g.hold(now.Add(g.interval(now)))
	g.admit()
}

// enter waits for a start. After that, leave has to be called. The error is ctx's.
func (g *gate) enter(ctx context.Context) (*ticket, error) {
	t := &ticket{admitted: make(chan struct{})}
	g.mu.Lock()
	e := g.queue.PushBack(t)
	g.admit()
	g.mu.Unlock()
	for {
		select {
		case <-t.admitted:
		case <-ctx.Done():
		}
		g.mu.Lock()
		if err := ctx.Err(); err != nil {
			if t.in {
				g.running--
				g.starting = false
			} else {
				g.queue.Remove(e)
			}
			g.admit()
			g.mu.Unlock()
			return nil, err
		}
		now := time.Now()
		g.starting = false
		if !now.Before(g.next) {
			t.start = now
			g.started(now)
			g.admit()
			g.mu.Unlock()
			return t, nil
		}
		// Another attempt was throttled since this one was let in.
		g.running--
		t.admitted, t.in = make(chan struct{}), false
		e = g.queue.PushFront(t)
		g.admit()
		g.mu.Unlock()
	}
}

// leave says how an attempt has ended, and with which pause if it was throttled and doesn't ask for one itself; it returns
// the time until the next start of any attempt.
func (g *gate) leave(t *ticket, err error, pause func(n int) time.Duration) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.running--
	if throttled := (*Throttled)(nil); errors.As(err, &throttled) {
		g.throttle(t, now, throttled.RetryAfter, pause)
	} else if err == nil && t.start.After(g.cutAt) {
		g.throttled = 0
	}
	g.admit()
	return max(0, g.next.Sub(now))
}

// admit lets in those at the head of the queue that may start now, and sets the timer for the next one.
func (g *gate) admit() {
	for g.queue.Len() > 0 && (g.concurrency == 0 || g.running < g.concurrency) && !g.starting {
		now := time.Now()
		if now.Before(g.next) {
			g.wake(now)
			return
		}
		t := g.queue.Remove(g.queue.Front()).(*ticket)
		t.in = true
		g.running++
		g.starting = g.interval(now) > 0
		close(t.admitted)
	}
}

// wake sets the timer for next, unless it is set already.
func (g *gate) wake(now time.Time) {
	switch {
	case g.wakeAt.Equal(g.next):
		return
	case g.timer == nil:
		g.timer = time.AfterFunc(g.next.Sub(now), func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.wakeAt = time.Time{}
			g.admit()
		})
	default:
		g.timer.Reset(g.next.Sub(now))
	}
	g.wakeAt = g.next
}

// hold allows for no start before t.
func (g *gate) hold(t time.Time) {
	if t.After(g.next) {
		g.next = t
	}
}

// started counts a start.
func (g *gate) started(now time.Time) {
	from, interval := now, g.interval(now)
	if interval > 0 && interval < grain {
		// One by one they would be no faster than timers. So one that is late doesn't delay the next.
		if from = g.next; from.Before(now.Add(-grain)) {
			from = now.Add(-grain)
		}
	}
	g.hold(from.Add(interval))
	if age := now.Sub(g.window); age >= time.Second {
		g.past = 0
		if age < 2*time.Second {
			g.past = g.starts
		}
		g.window, g.starts = now, 0
	}
	g.starts++
}

// pace returns how many starts there may be in a second, 0 for any number.
func (g *gate) pace(now time.Time) float64 {
	if g.cutAt.IsZero() {
		return g.rate
	}
	slow := g.slow + max(g.fastest, g.rate)/recovery*max(0, now.Sub(g.slowFrom).Seconds())
	if g.rate > 0 && slow >= g.rate {
		return g.rate
	}
	return slow
}

// interval returns the least time between two starts, rounded up.
func (g *gate) interval(now time.Time) time.Duration {
	pace := g.pace(now)
	if pace == 0 {
		return 0
	}
	return time.Duration(float64(time.Second)/pace) + 1
}

const (
	// grain is what timers can do: it takes some such time longer until they wake somebody.
	grain = time.Millisecond
	// recovery is how long the pace takes to grow from zero to all, in seconds.
	recovery = 3
	// minPace is the slowest pace that throttling leads to, in starts a second: pauses do the rest.
	minPace = 1
)

// throttle pauses, and cuts the pace.
func (g *gate) throttle(t *ticket, now time.Time, retryAfter time.Duration, pause func(n int) time.Duration) {
	// Attempts that were under way at the last cut say nothing new: one cut is for all of them.
	fresh := t.start.After(g.cutAt)
	if fresh {
		was := max(float64(g.past), float64(g.starts)/max(now.Sub(g.window).Seconds(), 0.1), 1)
		if pace := g.pace(now); pace > 0 {
			was = min(was, pace)
		}
		g.slow = max(was/2, minPace)
		g.fastest = max(g.fastest, was)
		g.cutAt, g.slowFrom = now, now
		g.throttled++
		if retryAfter <= 0 {
			retryAfter = pause(g.throttled)
		}
	}
	if until := now.Add(min(retryAfter, MaxRetryAfter)); until.After(g.next) {
		g.next = until
		g.slowFrom = until // the pace grows when there is one
	}
}
