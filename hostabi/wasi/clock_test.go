package wasi

import (
	"math"
	"testing"
	"time"
)

func TestClocks(t *testing.T) {
	g := newGuest(t, Config{})
	at := g.space(8)
	for _, c := range []struct {
		id, res uint64
		e       errno
	}{{clockRealtime, 1000, 0}, {clockMonotonic, 1, 0}, {2, 0, eInval}, {3, 0, eInval}, {1 << 31, 0, eInval}} {
		g.want(c.e, "clock_res_get", c.id, at)
		if c.e == 0 && g.u64(at) != c.res {
			t.Errorf("resolution of clock %d: %d", c.id, g.u64(at))
		}
		g.want(c.e, "clock_time_get", c.id, 0, at)
	}
	g.want(eFault, "clock_time_get", clockRealtime, 0, 1<<16-7)
	g.want(eFault, "clock_res_get", clockRealtime, 1<<32-1)

	g.want(success, "clock_time_get", clockRealtime, 0, at)
	if got := time.Unix(0, int64(g.u64(at))); got.Year() != 2024 {
		t.Errorf("wall time %v", got)
	}
}

func (g *guest) now(id uint64) int64 {
	g.t.Helper()
	at := g.space(8)
	g.want(success, "clock_time_get", id, 0, at)
	return int64(g.u64(at))
}

func TestMonotonicAcrossRestore(t *testing.T) {
	const pause = 90 * time.Second
	for _, c := range []struct {
		name string
		wall time.Duration // how the wall clock changes meanwhile
		want time.Duration
	}{
		{"asleep", pause, pause},
		{"at once", 0, 0},
		{"another machine's clock is behind", -time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, Config{})
			g.clock.advance(5 * time.Second)
			before := g.now(clockMonotonic)
			data := g.save()
			g.clock.wall += int64(c.wall) - 1 // save moved it
			g.clock.mono = 3                  // another machine, just started
			g.inst = g.newInstance()
			if err := g.inst.Restore(StateVersion, data); err != nil {
				t.Fatal(err)
			}
			if got := time.Duration(g.now(clockMonotonic) - before); got != c.want {
				t.Errorf("monotonic clock advanced by %v, want %v", got, c.want)
			}
			g.clock.advance(time.Second)
			if got := time.Duration(g.now(clockMonotonic) - before); got != c.want+time.Second {
				t.Errorf("then by %v, want a second more", got)
			}
		})
	}
}

func TestSystemClock(t *testing.T) {
	c := SystemClock()
	m := c.Mono()
	if err := c.Sleep(t.Context(), 2*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if d := c.Mono() - m; d < int64(2*time.Millisecond) {
		t.Errorf("slept %v", time.Duration(d))
	}
	before := time.Now().UnixNano()
	wall := c.Wall()
	if after := time.Now().UnixNano(); wall < before || wall > after {
		t.Errorf("wall time is %d, between %d and %d", wall, before, after)
	}
}

func TestSaturate(t *testing.T) {
	for _, c := range [][3]int64{
		{1, 2, 3},
		{-5, 3, -2},
		{math.MaxInt64, 1, math.MaxInt64},
		{math.MinInt64, -1, math.MinInt64},
		{math.MaxInt64, math.MinInt64, -1},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64},
		{math.MinInt64, math.MinInt64, math.MinInt64},
	} {
		if got := satAdd(c[0], c[1]); got != c[2] {
			t.Errorf("%d + %d = %d, want %d", c[0], c[1], got, c[2])
		}
	}
	if got := satSub(0, math.MinInt64); got != math.MaxInt64 {
		t.Errorf("0 - min = %d", got)
	}
}
