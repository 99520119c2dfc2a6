//go:build wasip1 && tinygo

package durun

import (
	"maps"
	goruntime "runtime"
	"slices"
	"unsafe"
)

//go:wasmimport durun wait
//go:noescape
func hostWait(ops unsafe.Pointer, n, min uint32, timeout int64) int32

// cancelledAlone says that waitForEnds hears of a cancelled coroutine though no operation is pending. There is nothing to wait
// for then.
const cancelledAlone = false

// turns is how often the others get their turn, without that one begins anything, until all are taken to wait. A goroutine
// that wakes another, which wakes another, and so on, needs one turn each.
const turns = 64

// waitForEnds waits for the end of any operation, and so stops all goroutines: when they all wait, as far as it can
// tell. TinyGo's scheduler has no way to say so, nor to wait for operations together with its own timers.
func waitForEnds() (ends []uint32, cancelled bool) {
	last := operations.lastBegun()
	for turn := 0; turn < turns; turn++ {
		goruntime.Gosched()
		if l := operations.lastBegun(); l != last {
			last, turn = l, 0
		}
	}
	numbers := operations.numbers()
	n := hostWait(unsafe.Pointer(unsafe.SliceData(numbers)), uint32(len(numbers)), 1, -1)
	goruntime.KeepAlive(numbers)
	// Those of them that have not ended stay as they are.
	return numbers, -n == int32(Cancelled)
}

func (t *table) lastBegun() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

func (t *table) numbers() []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.pending))
}
