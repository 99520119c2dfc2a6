package command

import (
	"math"
	goruntime "runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// Go's collector stops the world now and then, and to stop, a goroutine must reach Go code. A guest's compiled code is
// none: while a guest computes, without a call of the host, a collection that began would freeze the process, and not
// even Ctrl-C would be noticed. So a process that drives a guest collects while the guest is suspended, and on its own
// account only when memory grows by far: then it is the guest's host calls that allocate, and the guest reaches Go.
const (
	garbageAtCommit = 64 << 20  // bytes of garbage that are worth a collection between commits
	garbageAtMost   = 256 << 20 // bytes of garbage at which it begins by itself
)

// collector has taken over from Go's own pacing. It is for one goroutine, the driver's, except for tune.
type collector struct {
	percent int
	limit   int64 // as it was, math.MaxInt64 for none
	stopped atomic.Bool
}

// quiet takes over. When it returns, no collection is going on.
func quiet() *collector {
	// A guest occupies a processor of the scheduler's for itself, and the end of a collection that waits for the guest
	// another; signals need one more.
	if goruntime.GOMAXPROCS(0) < 4 {
		goruntime.GOMAXPROCS(4)
	}
	c := &collector{limit: debug.SetMemoryLimit(-1), percent: debug.SetGCPercent(-1)}
	c.tune()
	c.watch()
	return c
}

// watch calls tune after each collection.
func (c *collector) watch() {
	type canary struct{ _ [32]byte } // not so small that it shares a block with others
	goruntime.SetFinalizer(&canary{}, func(*canary) {
		if !c.stopped.Load() {
			c.tune()
			c.watch()
		}
	})
}

// tune sets the memory limit, at which a collection begins, by what was live after the last one. A limit of the user's
// (GOMEMLIMIT) stays.
func (c *collector) tune() {
	if c.limit != math.MaxInt64 {
		return
	}
	s := readMemory()
	debug.SetMemoryLimit(int64(s.mapped + s.live + garbageAtMost))
}

// rest collects if that is due. The guest is suspended.
func (c *collector) rest() {
	if s := readMemory(); s.objects > 2*s.live+garbageAtCommit {
		goruntime.GC()
	}
}

// stop gives Go its pacing back.
func (c *collector) stop() {
	c.stopped.Store(true)
	debug.SetMemoryLimit(c.limit)
	debug.SetGCPercent(c.percent)
}

// memory is what Go's allocator holds, in bytes.
type memory struct {
	mapped  uint64 // from the system
	objects uint64 // live or not yet collected
	live    uint64 // after the last collection
}

func readMemory() memory {
	s := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(s)
	n := func(i int) uint64 {
		if s[i].Value.Kind() != metrics.KindUint64 { // a metric that a later Go has given up
			return 0
		}
		return s[i].Value.Uint64()
	}
	return memory{mapped: n(0) - n(1), objects: n(2), live: n(3)}
}
