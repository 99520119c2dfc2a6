//go:build wasip1 && !tinygo

package durun

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// events opens the file from which the host's news are read. os.Open makes it non-blocking, so that a goroutine that reads it is
// parked, and Go's scheduler waits for it together with all timers and files, in one call of poll_oneoff.
var events = sync.OnceValue(func() *os.File {
	f, err := os.Open("/durun/events")
	if err != nil {
		panic(fmt.Sprintf("durun: the host doesn't offer the files of durun: %v", err))
	}
	return f
})

// cancelledAlone says that waitForEnds hears of a cancelled coroutine though no operation is pending.
const cancelledAlone = true

// waitForEnds waits for the end of any operation.
func waitForEnds() (ends []uint32, cancelled bool) {
	buf := make([]byte, 4096)
	n, err := events().Read(buf)
	if err != nil {
		panic(fmt.Sprintf("durun: %v", err))
	}
	for line := range bytes.Lines(buf[:n]) {
		number, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 32)
		if err == nil {
			ends = append(ends, uint32(number))
		}
	}
	return ends, false
}
