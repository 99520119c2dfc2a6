package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// This file is what ends a task, or has it tried again: trouble, the end of the coroutine, the end of the scheduler.

// trouble says what becomes of a coroutine that could not be driven on. It has to be read from the store again, in any case.
func (s *Scheduler) trouble(t *task, err error) plan {
	lost := t.lease != nil && t.lease.Err() != nil
	root := t.isRoot()
	var storage *bucket.Error
	s.unload(t, err)
	switch {
	case s.ctx.Err() != nil && !root: // it is being closed
		return plan{until: noAlarm}
	case root, errors.As(err, new(*hostabi.OperationError)): // of a child that can't be started
		return plan{end: &Outcome{Status: snapshot.Suspended, Err: err}}
	case errors.Is(err, snapshot.ErrFenced) && !lost && t.failures < lateCommits:
		// An earlier driver, which lost its lease when this commit was under way, has made it: there is a newer state.
		t.failures++
		return plan{again: true}
	case errors.Is(err, snapshot.ErrBusy), errors.Is(err, snapshot.ErrFenced), errors.Is(err, bucket.ErrLocked):
		return plan{until: s.later(t, firstLook, lastLook)} // somebody else goes on with it
	case errors.As(err, &storage):
		return plan{until: s.later(t, firstRetry, lastRetry)}
	}
	return plan{end: &Outcome{Status: snapshot.Suspended, Err: err}}
}

const (
	// lateCommits is how often a coroutine is read again at once because somebody else has made a commit.
	lateCommits = 3
	// How long it takes to look again at a coroutine that somebody else drives: at first, and at most.
	firstLook, lastLook = time.Second, 10 * time.Second
	// How long it takes to try again what the store has refused.
	firstRetry, lastRetry = 500 * time.Millisecond, time.Minute
)

// later returns the time for another attempt: each takes twice as long as the one before, and up to half as long again, so that
// many don't come back at once.
func (s *Scheduler) later(t *task, first, last time.Duration) int64 {
	d := min(first<<min(t.failures, 16), last)
	if t.failures < 255 {
		t.failures++
	}
	return s.clock.Now().Add(d + rand.N(d/2)).UnixNano()
}

// finish is the end of a task.
func (s *Scheduler) finish(t *task, o Outcome) {
	b := t.beginning
	s.unload(t, nil)
	s.mu.Lock()
	s.count(t, 0)
	t.state = taskOver
	s.alarms.set(t, noAlarm)
	delete(s.tasks, t.id)
	s.reliesNoMore(t)
	s.orphan(t, o.Status.Ended())
	ends := t.ends
	t.ends = nil
	s.mu.Unlock()
	unbegun := b != nil && b.begun != nil
	if unbegun {
		b.begun <- o.Err
	}
	for _, f := range ends {
		(*f)(ending{Outcome: o, key: t.key, unbegun: unbegun})
	}
	if s.config.OnEnd != nil && !unbegun {
		s.config.OnEnd(t.id, o)
	}
}

// leave is the end of a task because the scheduler is closed. What has ended for it since its last commit need not be lost.
func (s *Scheduler) leave(ctx context.Context, t *task) error {
	var err error
	if _, herr := t.stopHost(); herr == nil && t.session != nil && t.session.c.Pending() != nil {
		t.session.op.arrive()
		if !t.session.op.since.IsZero() {
			err = t.session.commit(context.WithoutCancel(ctx))
		}
		if err != nil {
			err = fmt.Errorf("stop coroutine %s: %w", t.id, err)
		}
	}
	s.unload(t, ErrClosed)
	if b := t.beginning; b != nil && b.begun != nil {
		b.begun <- errClosedScheduler
	}
	s.mu.Lock()
	s.count(t, 0)
	ends := t.ends
	t.ends = nil
	s.mu.Unlock()
	for _, f := range ends {
		(*f)(ending{closed: true})
	}
	return err
}
