package runtime

import "time"

// This file is what a scheduler knows of its tasks: which are ready, asleep, in memory. All of it is under the scheduler's lock.

// queue is the tasks that are ready, first in, first out, and those who wait to go on with a turn that they have interrupted.
type queue struct {
	entries []entry
	head    int
}

// entry is a task, or somebody whose turn goes on when resume is closed.
type entry struct {
	task   *task
	resume chan struct{}
}

func (q *queue) len() int { return len(q.entries) - q.head }

func (q *queue) push(e entry) {
	if q.head > 1024 && q.head > len(q.entries)/2 {
		n := copy(q.entries, q.entries[q.head:])
		clear(q.entries[n:])
		q.entries, q.head = q.entries[:n], 0
	}
	q.entries = append(q.entries, e)
}

func (q *queue) pop() entry {
	e := q.entries[q.head]
	q.entries[q.head] = entry{}
	if q.head++; q.head == len(q.entries) {
		q.entries, q.head = q.entries[:0], 0
	}
	return e
}

// release lets all go on who have interrupted their turn, and forgets the tasks.
func (q *queue) release() (resumed int) {
	for q.len() > 0 {
		if e := q.pop(); e.resume != nil {
			close(e.resume)
			resumed++
		}
	}
	return resumed
}

// idle is a list of the tasks in memory that sleep, the one that ran last in front.
type idle struct{ newest, oldest *task }

func (l *idle) add(t *task) {
	if t.older = l.newest; t.older != nil {
		t.older.newer = t
	} else {
		l.oldest = t
	}
	l.newest = t
}

func (l *idle) remove(t *task) {
	if t.newer != nil {
		t.newer.older = t.older
	} else if l.newest == t {
		l.newest = t.older
	} else {
		return // it is not in the list
	}
	if t.older != nil {
		t.older.newer = t.newer
	} else {
		l.oldest = t.newer
	}
	t.older, t.newer = nil, nil
}

// push puts a task at the end of the queue.
func (s *Scheduler) push(t *task) {
	t.state, t.woken = taskReady, false
	if t.away {
		t.away = false
		delete(s.absent, t)
	}
	s.alarms.set(t, noAlarm)
	if s.closing {
		return
	}
	s.ready.push(entry{task: t})
	s.dispatch()
}

// dispatch lets those go on who are first in the queue, as long as there are workers for them.
func (s *Scheduler) dispatch() {
	for s.running < s.config.Workers && s.ready.len() > 0 && !s.closing {
		s.running++
		e := s.ready.pop()
		if e.resume != nil {
			close(e.resume)
			continue
		}
		e.task.state, e.task.woken = taskTurn, false
		go s.work(e.task)
	}
}

// next returns the task that is first in the queue; nil if the worker is not needed any more.
func (s *Scheduler) next() *task {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready.len() == 0 || s.closing {
		s.retire()
		return nil
	}
	e := s.ready.pop()
	if e.resume != nil {
		close(e.resume) // this worker's place is theirs now
		return nil
	}
	e.task.state, e.task.woken = taskTurn, false
	return e.task
}

// retire is the end of a worker.
func (s *Scheduler) retire() {
	s.running--
	if s.closing && s.running == 0 {
		close(s.rested)
	}
}

// sleep has a task wait until it is woken, or until a time.
func (s *Scheduler) sleep(t *task, until int64) {
	t.state = taskAsleep
	if t.counts && t.host == nil { // where a host module waits, the coroutine has to stay
		s.idle.add(t)
	}
	s.alarms.set(t, until)
	s.arm()
}

// wake makes a task ready that sleeps. One whose turn it is gets another.
func (s *Scheduler) wake(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rouse(t)
}

// wakeID wakes the task of a coroutine, if there is one.
func (s *Scheduler) wakeID(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[id]; t != nil {
		s.rouse(t)
	}
}

// rouse is wake with the lock held.
func (s *Scheduler) rouse(t *task) {
	switch {
	case s.closing: // nobody has a turn any more
	case t.state == taskAsleep:
		s.idle.remove(t)
		s.push(t)
	case t.state == taskTurn || t.state == taskLeaving:
		t.woken = true
	}
}

// visitPause is between two tasks that come into memory for nothing but a commit of failed attempts. If something that many call is
// out of order, those that can go on come first.
const visitPause = 20 * time.Millisecond

// wakeBy wakes a task at a time at the latest, so that failed attempts are committed.
func (s *Scheduler) wakeBy(t *task, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rouseBy(t, due)
	s.arm()
}

// rouseBy is wakeBy with the lock held, and without setting the clock.
func (s *Scheduler) rouseBy(t *task, due time.Time) {
	switch t.state {
	case taskTurn:
		t.woken = true // and says then until when it sleeps
	case taskAsleep, taskLeaving:
		at := alarmAt(due)
		if !t.counts {
			at = max(at, s.visit)
			s.visit = at + int64(visitPause)
		}
		if t.alarm < 0 || at < t.due {
			s.alarms.set(t, at)
		}
	case taskReady, taskOver:
	}
}

// arm sets the clock for the task that is due first.
func (s *Scheduler) arm() {
	first := noAlarm
	if len(s.alarms) > 0 {
		first = s.alarms[0].due
	}
	if first == s.armed || s.closing {
		return
	}
	if s.disarm != nil {
		s.disarm()
		s.disarm = nil
	}
	if s.armed = first; first == noAlarm {
		return
	}
	d := maxSleep
	if now := s.clock.Now().UnixNano(); first < now+int64(d) {
		d = time.Duration(first - now)
	}
	s.disarm = s.clock.AfterFunc(d, func() { s.ring(first) })
}

// ring wakes the tasks that are due. The clock was set for a time.
func (s *Scheduler) ring(at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.armed != at {
		return // another was set meanwhile
	}
	s.armed, s.disarm = noAlarm, nil
	now := s.clock.Now().UnixNano()
	for t := s.alarms.pop(now); t != nil; t = s.alarms.pop(now) {
		s.rouse(t)
	}
	s.arm()
}

// count counts what a task takes in memory, in place of what was counted for it.
func (s *Scheduler) count(t *task, size int64) {
	s.bytes += size - t.size
	t.size = size
	if counts := size > 0; counts != t.counts {
		t.counts = counts
		if counts {
			s.resident++
		} else {
			s.resident--
		}
	}
}

// overflow returns the tasks that have to leave memory if so many bytes are to be taken at most, those that ran least recently. The
// caller evicts them.
func (s *Scheduler) overflow(limit int64) (leaving []*task) {
	left := s.bytes
	for t := s.idle.oldest; t != nil && left > limit && !s.closing; {
		next := t.newer
		if t.evictable() {
			s.idle.remove(t)
			t.state = taskLeaving
			left -= t.size
			leaving = append(leaving, t)
		}
		t = next
	}
	return leaving
}

// giveWay interrupts a turn for those of the others that are ready, until it is its turn again. It is called by the goroutine
// whose turn it is.
func (s *Scheduler) giveWay() {
	s.mu.Lock()
	if s.ready.len() == 0 || s.closing {
		s.mu.Unlock()
		return
	}
	resume := make(chan struct{})
	s.ready.push(entry{resume: resume})
	if e := s.ready.pop(); e.resume != nil {
		close(e.resume)
	} else {
		e.task.state, e.task.woken = taskTurn, false
		go s.work(e.task)
	}
	s.mu.Unlock()
	<-resume
}
