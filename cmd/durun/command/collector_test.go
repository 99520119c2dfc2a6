package command

import (
	"math"
	goruntime "runtime"
	"runtime/debug"
	"testing"
)

// TestCollector is not parallel: pacing is the process's.
func TestCollector(t *testing.T) {
	percent := debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	count := func() uint32 {
		var m goruntime.MemStats
		goruntime.ReadMemStats(&m)
		return m.NumGC
	}
	var kept []byte
	allocate := func(n int) {
		for range n {
			kept = make([]byte, 1<<20)
		}
	}
	defer goruntime.KeepAlive(kept)
	goruntime.GC() // so that what is live is known
	c := quiet()
	defer c.stop()
	if debug.SetGCPercent(-1) != -1 || debug.SetMemoryLimit(-1) == math.MaxInt64 {
		t.Error("collections are not put off, or for ever")
	}

	before := count()
	allocate(garbageAtMost >> 21)
	if n := count() - before; n != 0 {
		t.Errorf("%d collections for little garbage", n)
	}
	c.rest()
	if n := count() - before; n != 1 {
		t.Errorf("%d collections at rest, want 1", n)
	}
	c.rest()
	if n := count() - before; n != 1 {
		t.Errorf("%d collections, the second for nothing", n)
	}
	allocate(8 * garbageAtMost >> 20)
	if n := count() - before; n < 2 || n > 50 {
		t.Errorf("%d collections for much garbage", n)
	}

	c.stop()
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("a memory limit of %d is left", got)
	}
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GC percent %d is left, want 100", got)
	}
}
