package runtime

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/durun/durun/hostabi"
)

// This file is the turn of a task: what a worker does with the coroutine, and what it then waits for.

// work does turns, beginning with a task's, until nothing is ready.
func (s *Scheduler) work(t *task) {
	for t != nil {
		s.settle(t, s.guard(t, s.turn))
		t = s.next()
	}
}

// guard calls a turn. A panic, which is some host function's, is an error of this coroutine.
func (s *Scheduler) guard(t *task, turn func(*task) plan) (p plan) {
	err := recovered(func() error {
		p = turn(t)
		return nil
	})
	if err != nil {
		p = plan{err: err}
	}
	return p
}

// recovered returns a panic of f as an error.
func recovered(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// turn brings a coroutine into memory, if it isn't, and runs it to its next await.
func (s *Scheduler) turn(t *task) plan {
	if t.session == nil {
		if end, err := s.enter(t); end != nil || err != nil {
			return plan{end: end, err: err}
		}
	}
	over, err := t.stopHost()
	if err == nil && t.lease != nil {
		err = t.lease.Err()
	}
	if err != nil {
		return plan{err: err}
	}
	orphan, err := s.isOrphan(s.ctx, t)
	if err != nil {
		return plan{err: err}
	}
	if orphan {
		t.toEnd.Store(true)
	}
	if t.toEnd.Load() {
		t.session.c.Cancel()
	}
	if t.mail.Swap(false) {
		t.session.op.fetch()
	}
	stepped, idle := false, false // idle: the last step has changed nothing
	t.since = time.Now()
	for {
		v, until, host := t.session.poll()
		p := t.session.c.Pending()
		if host && v == waitOn {
			switch p.Kind {
			case hostabi.KindYield, hostabi.KindCheckpoint:
				v = goOn
			case hostabi.KindTimer:
				// What is to be waited for is a time. If that has come by the scheduler's clock, and the host module has another
				// one, it has to say itself.
				switch due := !p.Until.IsZero() && !p.Until.After(s.clock.Now()); {
				case over, due && !idle:
					v, over = goOn, false
				case !due && !p.Until.IsZero():
					host = false
					if until.IsZero() || p.Until.Before(until) {
						until = p.Until
					}
				}
			default:
				if over {
					v, over = goOn, false
				}
			}
		}
		switch {
		case v == commitIt:
			if err := t.session.commit(s.ctx); err != nil {
				return plan{err: err}
			}
		case v == waitOn && until.IsZero():
			return plan{until: noAlarm, host: host}
		case v == waitOn:
			return plan{until: alarmAt(until), host: host}
		case stepped:
			return plan{again: true}
		default:
			if p != nil && p.Kind == hostabi.KindYield && s.config.OnYield != nil {
				t.session.c.Send(s.config.OnYield(t.id, p.Data))
			}
			done, err := t.session.step(s.ctx)
			if err != nil {
				return plan{err: err}
			}
			t.failures = 0
			s.hasBegun(t)
			if done {
				return plan{end: endOf(t.session.c)}
			}
			// One step that changes nothing is not worth another turn, or else a host's clock that is slow would take them all.
			stepped, idle = p == nil || t.session.c.Pending() != p, t.session.c.Pending() == p
		}
	}
}

// sliceTime is how long a guest computes before others have their turn, if there are any.
const sliceTime = 10 * time.Millisecond

// slice returns what a guest calls every so often while it computes.
func (s *Scheduler) slice(t *task) func() {
	return func() {
		if time.Since(t.since) > sliceTime {
			s.giveWay()
			t.since = time.Now()
		}
	}
}

// endOf is how a coroutine has ended.
func endOf(c *Coroutine) *Outcome {
	return &Outcome{Status: c.Status(), ExitCode: c.ExitCode(), Result: c.Result(), Err: c.Err()}
}

// hasBegun notes that the store has a coroutine, and tells whoever started it.
func (s *Scheduler) hasBegun(t *task) {
	b := t.beginning
	if b == nil {
		return
	}
	s.mu.Lock()
	giveUp := b.giveUp
	t.beginning = nil
	s.mu.Unlock()
	if b.begun != nil {
		b.begun <- nil
	}
	if giveUp {
		t.toEnd.Store(true)
		t.session.c.Cancel()
	}
}

// settle does what is to be done after a turn.
func (s *Scheduler) settle(t *task, p plan) {
	// Each coroutine in memory may have a file open, its lock.
	crowded := errors.Is(p.err, syscall.EMFILE) || errors.Is(p.err, syscall.ENFILE)
	if p.err != nil {
		p = s.trouble(t, p.err)
	}
	if p.end != nil {
		s.finish(t, *p.end)
	} else {
		s.rest(t, p)
	}
	s.mu.Lock()
	limit := s.config.Memory
	if crowded {
		limit = min(limit, s.bytes/2)
	}
	leaving := s.overflow(limit)
	s.mu.Unlock()
	for _, t := range leaving {
		s.evict(t)
	}
}

// rest has a task wait, for its next turn or for what its plan says.
func (s *Scheduler) rest(t *task, p plan) {
	if p.host && !p.again {
		t.startHost(s)
	}
	size := t.footprint()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(t, size)
	if p.again || t.woken {
		s.push(t)
	} else {
		s.sleep(t, p.until)
	}
}

// startHost has the host module of the pending call wait, beside the scheduler's other work.
func (t *task) startHost(s *Scheduler) {
	ctx, cancel := context.WithCancel(s.ctx)
	h := &hostWait{cancel: cancel, done: make(chan struct{})}
	t.host = h
	c := t.session.c
	go func() {
		h.err = recovered(func() error { return c.Wait(ctx) })
		over := ctx.Err() == nil
		close(h.done)
		if over {
			s.wake(t)
		}
	}()
}

// stopHost ends the wait of the host module, if one is under way. It reports whether what was waited for may have happened.
func (t *task) stopHost() (over bool, err error) {
	h := t.host
	if h == nil {
		return false, nil
	}
	t.host = nil
	select {
	case <-h.done:
		h.cancel()
		return h.err == nil, h.err
	default:
	}
	h.cancel()
	<-h.done
	return h.err == nil, nil
}
