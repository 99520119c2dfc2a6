package wasi

import (
	"context"
	"math"
	"time"

	"github.com/durun/durun/hostabi"
)

// Clock is where an [Instance] gets the time from. Its methods may be called from several goroutines.
type Clock interface {
	// Wall returns the time in nanoseconds since the Unix epoch. It may jump.
	Wall() int64
	// Mono returns nanoseconds since some moment. It never goes back.
	Mono() int64
	// Sleep blocks until Mono has advanced by d, or ctx is done; then it returns ctx's error. It may return early.
	Sleep(ctx context.Context, d time.Duration) error
}

// SystemClock returns the clock of the machine.
func SystemClock() Clock { return systemClock{} }

type systemClock struct{}

// processStart is the moment the system clock's Mono counts from. Package time keeps its monotonic reading.
var processStart = time.Now()

func (systemClock) Wall() int64 { return time.Now().UnixNano() }
func (systemClock) Mono() int64 { return int64(time.Since(processStart)) }

func (systemClock) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// monoStart is the monotonic clock's value when a guest starts. It isn't zero because Go's runtime refuses that.
const monoStart = int64(time.Second)

// guestClock keeps the guest's monotonic clock going over restores.
type guestClock struct {
	host   Clock
	offset int64 // guest's monotonic time minus the host's
	last   int64 // the highest value told, or captured

	// A pair of readings for Save, taken once after the guest last ran: the same state gives the same bytes.
	anchored             bool
	anchorMono, anchorAt int64
}

func newGuestClock(host Clock) guestClock {
	return guestClock{host: host, offset: monoStart - host.Mono(), last: monoStart}
}

func (c *guestClock) mono() int64 {
	c.last = max(c.last, c.offset+c.host.Mono())
	return c.last
}

func (c *guestClock) wall() int64 { return c.host.Wall() }

// anchor returns the monotonic time and the wall time of one moment since the guest last ran.
func (c *guestClock) anchor() (mono, wall int64) {
	if !c.anchored {
		c.anchorMono, c.anchorAt, c.anchored = c.mono(), c.wall(), true
	}
	return c.anchorMono, c.anchorAt
}

// restore goes on from an anchor. A wall clock that is behind the anchor's, because another machine's is, counts as one that
// stood still.
func (c *guestClock) restore(mono, wall int64) {
	now := satAdd(mono, max(0, satSub(c.wall(), wall)))
	c.offset = now - c.host.Mono()
	c.last = now
	c.anchored = false
}

// satAdd adds, and stays at the largest int64 rather than overflow.
func satAdd(a, b int64) int64 {
	switch s := a + b; {
	case a > 0 && b > 0 && s < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && s >= 0:
		return math.MinInt64
	default:
		return s
	}
}

func satSub(a, b int64) int64 {
	if b == math.MinInt64 {
		return math.MaxInt64
	}
	return satAdd(a, -b)
}

func clockResGet(_ *Instance, g *hostabi.Guest, p []uint64) errno {
	var res uint64
	switch uint32(p[0]) {
	case clockRealtime:
		res = 1000
	case clockMonotonic:
		res = 1
	default:
		return eInval
	}
	return putU64(g, uint32(p[1]), res)
}

func clockTimeGet(i *Instance, g *hostabi.Guest, p []uint64) errno {
	var now int64
	switch uint32(p[0]) {
	case clockRealtime:
		now = i.clock.wall()
	case clockMonotonic:
		now = i.clock.mono()
	default:
		return eInval
	}
	return putU64(g, uint32(p[2]), uint64(now))
}
