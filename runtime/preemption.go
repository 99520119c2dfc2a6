package runtime

import (
	"time"

	"github.com/tetratelabs/wazero/api"
)

// pace says how far the guest runs from one tick to the next.
type pace struct {
	counter api.MutableGlobal // what the guest counts down
	last    time.Time         // when the counter was set
	given   int64             // what it was set to
	n       int
}

const (
	// tickEvery is about how long a guest runs between two ticks.
	tickEvery = 500 * time.Microsecond
	firstGiven = 1000
	maxGiven = 1 << 24
)

func (p *pace) begin() {
	if p.given == 0 {
		p.given = firstGiven
	}
	p.set()
}

func (p *pace) set() {
	p.last = time.Now()
	p.counter.Set(uint64(p.given))
}

// next sets the counter so that the next tick comes in time, if the guest goes on as it did.
func (p *pace) next() {
	p.n++
	took := time.Since(p.last)
	given := p.given * 4
	if took > 0 {
		given = min(given, int64(float64(p.given)*float64(tickEvery)/float64(took)))
	}
	p.given = min(max(given, 1), maxGiven)
	p.set()
}

// tick is called by the guest when it has counted to the end.
func (c *Coroutine) tick() {
	c.checkContext()
	c.pace.next()
}
