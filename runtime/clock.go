package runtime

import (
	"math"
	"time"

	"github.com/durun/durun/runtime/internal/alarm"
)

// Clock is where a [Scheduler] has the time from. Its methods may be called from several goroutines.
type Clock interface {
	// Now returns the time. It may jump, as a wall clock does.
	Now() time.Time
	// AfterFunc calls f, in a goroutine of its own, when a duration has passed, or at once if that isn't positive. stop
	// keeps it from that, and returns false if it is too late.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// SystemClock returns the clock of the machine.
func SystemClock() Clock { return systemClock{} }

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) func() bool { return alarm.AfterFunc(d, f) }

// alarms are the tasks that wait for a time, as a heap: the first due is at index 0.
type alarms []*task

// set has a task wait for a time, nanoseconds since 1970, in place of what it waited for; noAlarm for none.
func (a *alarms) set(t *task, due int64) {
	switch {
	case due == noAlarm && t.alarm < 0:
	case due == noAlarm:
		a.remove(t)
	case t.alarm < 0:
		t.due, t.alarm = due, len(*a)
		*a = append(*a, t)
		a.up(t.alarm)
	default:
		t.due = due
		a.up(t.alarm)
		a.down(t.alarm)
	}
}

// noAlarm is the time of a task that waits for none.
const noAlarm int64 = -1 << 63

// alarmAt is a time as alarms have it. What is beyond the year 2262, which a snapshot may say, is as far away as can be.
func alarmAt(t time.Time) int64 {
	switch {
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	case t.Before(time.Unix(0, 0)):
		return 0
	}
	return t.UnixNano()
}

func (a *alarms) remove(t *task) {
	i, last := t.alarm, len(*a)-1
	a.swap(i, last)
	(*a)[last] = nil
	*a = (*a)[:last]
	if i < last {
		a.up(i)
		a.down(i)
	}
	t.alarm = -1
}

// pop removes and returns a task that is due, nil if none is.
func (a *alarms) pop(now int64) *task {
	if len(*a) == 0 || (*a)[0].due > now {
		return nil
	}
	t := (*a)[0]
	a.remove(t)
	return t
}

func (a alarms) swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].alarm, a[j].alarm = i, j
}

func (a alarms) up(i int) {
	for i > 0 && a[i].due < a[(i-1)/2].due {
		a.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (a alarms) down(i int) {
	for {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < len(a) && a[child].due < a[least].due {
				least = child
			}
		}
		if least == i {
			return
		}
		a.swap(i, least)
		i = least
	}
}
