package runtime

import (
	goruntime "runtime"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// Compiled code doesn't give way by itself: no other goroutine can stop it, and Go's collector waits for it, with all goroutines.
// So the running form counts down where it loops and recurses (see instrument/DESIGN.md), and calls tick when the count is used
// up. How long that takes depends on the guest, so the count is set anew each time by how long the last one took.

const (
	// tickEvery is about how long a guest runs between two ticks. A tick takes less than a microsecond.
	tickEvery = 500 * time.Microsecond
	// firstCount is used up in some microseconds.
	firstCount = 1000
	// maxCountGrowth bounds by how much a count exceeds the last one: what the guest does next may take longer.
	maxCountGrowth = 4
	// maxCount is used up in some milliseconds by the shortest of loops, and in some hundred microseconds by one that counts for much
	// more than it does, such as an interpreter's. If it were less, that would spend its time in ticks: at a quarter, 15 % of it. If it
	// were more, a guest that changes to the slowest code that there is could go on for longer.
	maxCount = 1 << 22
)

// pace sets how far a guest runs from one tick to the next.
type pace struct {
	counter api.MutableGlobal // of the instance: what the guest counts down
	count   int64             // what it was set to
	set     time.Time         // when
	always  bool              // the guest ticks wherever it counts, in tests
}

// begin has the guest, which doesn't run, tick in time.
func (p *pace) begin() {
	if p.count == 0 {
		p.count = firstCount
	}
	p.start()
}

// took returns for how long the guest, which has used up its count, has run.
func (p *pace) took() time.Duration { return max(time.Since(p.set), time.Nanosecond) }

// next has the guest, which took so long for what it has counted, tick in time if it goes on as it did.
func (p *pace) next(took time.Duration) {
	used := p.count - int64(p.counter.Get())
	count := float64(used) * float64(tickEvery) / float64(took)
	p.count = max(1, int64(min(count, float64(p.count*maxCountGrowth), maxCount)))
	p.start()
}

func (p *pace) start() {
	p.set = time.Now()
	if p.always {
		p.counter.Set(0)
	} else {
		p.counter.Set(uint64(p.count))
	}
}

// beforeTry is called by the guest before it enters a try_table. wazero copies the stack then, which takes from microseconds to,
// if that is very deep, many milliseconds, however little was counted.
func (c *Coroutine) beforeTry() {
	if c.pace.took() >= tickEvery {
		c.tick()
	}
}

// tick is called by the guest when its count is used up. It ends the guest if that is to stop.
func (c *Coroutine) tick() {
	took := c.pace.took() // before others have their turn
	if !c.rewinding {     // else nothing of the guest's own runs
		c.checkContext()
		c.account()
		if err := c.checkCPU(); err != nil {
			panic(err)
		}
		if c.onTick != nil {
			c.onTick()
		}
		goruntime.Gosched() // Go would interrupt a goroutine of its own after 10 ms, and others wait for longer where there are few processors
	}
	c.pace.next(took)
}
