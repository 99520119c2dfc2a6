//go:build wasip1 && !tinygo

package durun

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// events reads the file in which the host tells its news, a line for each: the number of an operation that has ended, or
// that the coroutine is to be cancelled. os.Open makes it non-blocking, so that a goroutine that reads it is parked, and Go's
// scheduler waits for it together with all timers and files, in one call of poll_oneoff.
var events = sync.OnceValue(func() *bufio.Reader {
	f, err := os.Open("/durun/events")
	if err != nil {
		panic(fmt.Sprintf("durun: the host doesn't offer the files of durun: %v", err))
	}
	return bufio.NewReader(f)
})

// cancelledAlone says that waitForEnds hears of a cancelled coroutine though no operation is pending.
const cancelledAlone = true

// waitForEnds waits for the end of any operation.
func waitForEnds() (ends []uint32, cancelled bool) {
	for r := events(); len(ends) == 0 && !cancelled || r.Buffered() > 0; {
		line, err := r.ReadString('\n')
		if err != nil {
			panic(fmt.Sprintf("durun: %v", err))
		}
		if line == "cancelled\n" {
			cancelled = true
		} else if number, err := strconv.ParseUint(strings.TrimSuffix(line, "\n"), 10, 32); err == nil {
			ends = append(ends, uint32(number))
		}
	}
	return ends, cancelled
}
