package alarm

import (
	"container/heap"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// AfterFunc calls f, in a goroutine of its own, when d has passed. stop keeps it from that, and returns false if it is too late.
func AfterFunc(d time.Duration, f func()) (stop func() bool) {
	if now := time.Now(); isKernels(now) {
		if c := process(); c != nil {
			return c.afterFunc(now.Add(d), f)
		}
	}
	return time.AfterFunc(d, f).Stop
}

// isKernels reports whether the time now is the kernel's: in a test of testing/synctest it isn't.
func isKernels(now time.Time) bool {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return false
	}
	return time.Unix(ts.Unix()).Sub(now).Abs() < time.Hour
}

// process is the clock that the process has, nil if the kernel gave none. It is made when it is needed first, and stays.
var process = sync.OnceValue(func() *clock {
	c, err := newClock()
	if err != nil {
		return nil
	}
	return c
})

// clock is a timer of the kernel, set for the first of many alarms.
type clock struct {
	fd   int // as in file, whose Fd would take it from the poller
	file *os.File

	mu     sync.Mutex
	alarms alarms
	armed  time.Time // what the kernel's timer is set for, zero for nothing
	broken bool      // Go's timers do the work
}

// alarm is a function to be called.
type alarm struct {
	at    time.Time
	f     func()
	index int         // in alarms, -1 if it isn't there
	timer *time.Timer // in place of the kernel's, if that is broken
}

func newClock() (*clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	c := &clock{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}
	go c.serve()
	return c, nil
}

func (c *clock) afterFunc(at time.Time, f func()) (stop func() bool) {
	a := &alarm{at: at, f: f}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return time.AfterFunc(time.Until(at), f).Stop
	}
	heap.Push(&c.alarms, a)
	c.arm()
	return func() bool { return c.stop(a) }
}

func (c *clock) stop(a *alarm) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case a.timer != nil:
		return a.timer.Stop()
	case a.index < 0:
		return false
	}
	heap.Remove(&c.alarms, a.index)
	return true // the kernel's timer may ring for nothing
}

// arm sets the kernel's timer for the first alarm.
func (c *clock) arm() {
	if len(c.alarms) == 0 || c.armed.Equal(c.alarms[0].at) {
		return
	}
	c.armed = c.alarms[0].at
	d := max(time.Until(c.armed), 1) // 0 would stop it
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(c.fd, 0, &spec, nil); err != nil {
		c.giveUp()
	}
}

// serve waits for the kernel's timer, and calls what is due.
func (c *clock) serve() {
	var count [8]byte // how often it has rung
	for {
		_, err := c.file.Read(count[:])
		c.mu.Lock()
		if err != nil {
			c.giveUp()
		}
		if c.broken {
			c.mu.Unlock()
			return
		}
		c.armed = time.Time{}
		now := time.Now()
		for len(c.alarms) > 0 && !c.alarms[0].at.After(now) {
			go heap.Pop(&c.alarms).(*alarm).f()
		}
		c.arm()
		c.mu.Unlock()
	}
}

// giveUp leaves all alarms to Go's timers. The file stays open: who reads it may be on the way to.
func (c *clock) giveUp() {
	c.broken = true
	for _, a := range c.alarms {
		a.index, a.timer = -1, time.AfterFunc(time.Until(a.at), a.f)
	}
	c.alarms = nil
}

// alarms is a heap: the first that is due is at index 0.
type alarms []*alarm

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at.Before(a[j].at) }

func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

func (a *alarms) Push(x any) {
	x.(*alarm).index = len(*a)
	*a = append(*a, x.(*alarm))
}

func (a *alarms) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	x.index = -1
	(*a)[last] = nil
	*a = (*a)[:last]
	return x
}
