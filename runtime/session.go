package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/durun/durun/hostabi"
)

// session is one stretch of driving a coroutine: it runs it step by step, commits, and has its operations carried out. Who has
// a session waits between the steps, each in its own way: a [Driver] blocks, a [Scheduler] turns to other coroutines.
type session struct {
	d  *Driver
	c  *Coroutine
	r  *retainer
	op *operator

	last  time.Time // of the last commit, zero if there was none
	quiet bool      // since then there were quiet awaits only
	open  bool      // the present await is not committed
	vain  int       // how many steps have changed nothing, in a row
	idle  time.Time // the next step is not to be made before, because of these

	news <-chan struct{} // for wait: the callback of the operator, as events
}

// endsInterval is how long the end of an operation may go without a commit while the coroutine waits for others. A crash has
// those that ended in that time carried out again.
const endsInterval = 250 * time.Millisecond

// maxSleep is how long to sleep without a look at the wall clock, which somebody may set.
const maxSleep = 10 * time.Second

// commitGrace is how long a commit that is being made may still take once its context is done.
const commitGrace = 5 * time.Second

// newSession begins to drive a coroutine, which must not run. onNews is called, on any goroutine and perhaps often, when poll
// may have another answer.
func newSession(ctx context.Context, d *Driver, c *Coroutine, onNews func()) *session {
	s := &session{d: d, c: c, r: newRetainer(d, c), op: newOperator(ctx, d.Outside, d.Store, c, onNews), quiet: true}
	s.op.lease = d.Lease
	return s
}

// begin commits a coroutine that starts from a base, or starts the operations of one that is restored. It reports whether that
// is all there is to do.
func (s *session) begin(ctx context.Context) (done bool, err error) {
	c := s.c
	s.op.listen()
	s.watch()
	switch {
	case c.Pending() == nil:
		return false, nil
	case c.parent != nil:
		if !s.d.Once {
			s.op.carryOn()
		}
		return false, nil
	}
	// It starts from a base, and exists from now on.
	if err := s.commit(ctx); err != nil {
		return false, err
	}
	return s.d.Once, nil
}

// close ends the session. err is why, nil if the coroutine has ended or is to be left as it is.
func (s *session) close(ctx context.Context, err error) {
	s.op.close(err == nil)
	s.r.finish(ctx, err != nil)
}

// now is the time by which the session waits.
func (s *session) now() time.Time { return s.c.abi.now() }

// detach ends the session of a coroutine whose last commit is all there is of it, and leaves what goes on outside: for another
// session to take over.
func (s *session) detach(ctx context.Context) *operator {
	s.r.finish(ctx, true)
	s.c.abi.arrive = func() {}
	s.op.c = nil
	clear(s.op.box) // who takes over looks into the inbox
	return s.op
}

// takeOver goes on with what goes on outside, before the session begins.
func (s *session) takeOver(op *operator) {
	s.op.stop()
	s.op = op
	op.adopt(s.c)
}

// step runs the guest to its next await and commits that. It is for when poll says that the coroutine may go on. It reports
// whether there is nothing more to do: the coroutine has ended, or one commit was all that was asked for.
func (s *session) step(ctx context.Context) (done bool, err error) {
	c, d := s.c, s.d
	before := c.Pending()
	told := s.tellComputing()
	status, err := c.Resume(ctx)
	told()
	if err != nil {
		return false, err
	}
	if before != nil && c.Pending() == before {
		if s.vain++; s.vain > maxVain {
			s.idle = s.now().Add(idlePause)
		}
		return false, nil // woken too early, and nothing has changed
	}
	s.vain, s.idle = 0, time.Time{}
	s.op.stepped()
	s.watch()
	s.quiet = s.quiet && (before == nil || before.Quiet)
	if s.open = !status.Ended() && !d.Once && s.quiet && c.Pending().Quiet && !c.abi.ops.waiting() &&
		s.now().Sub(s.last) < d.Interval && c.written <= maxDeferredOutput; s.open {
		return false, nil
	}
	if err := s.commit(ctx); err != nil {
		return false, err
	}
	if status.Ended() {
		s.op.ending(ctx)
	}
	return status.Ended() || d.Once, nil
}

// computingPatience is how long a guest computes before others are told.
const computingPatience = time.Second

// tellComputing lets others know that the guest computes, if it does so for long, until done is called.
func (s *session) tellComputing() (done func()) {
	l, p := s.d.Lease, s.c.parent
	if l == nil || p == nil {
		return func() {}
	}
	since := time.Now()
	timer := time.AfterFunc(computingPatience, func() { l.Computing(since, p.Seq) })
	return func() { timer.Stop() }
}

// watch counts, from now on, what the pending call waits for.
func (s *session) watch() {
	t := &s.c.abi.ops
	t.wait = nil
	if p := s.c.Pending(); p != nil && len(p.Ops) > 0 {
		t.wait = t.newWait(p.Ops, p.Min, p.Success)
	}
}

// commit commits the coroutine as it is, and has its operations started. If ctx is done meanwhile, the commit is finished
// nevertheless, if that is possible soon: a commit cut short may have been made, and nobody could say.
func (s *session) commit(ctx context.Context) error {
	finishing, stop := outlive(ctx, commitGrace)
	defer stop()
	if err := s.d.commit(finishing, s.c); err != nil {
		if finishing.Err() != nil {
			err = fmt.Errorf("%w; and: %w", ctx.Err(), err)
		}
		return err
	}
	s.r.committed(ctx)
	s.last, s.quiet, s.open = s.now(), true, false
	if !s.d.Once {
		s.op.committed()
	}
	return nil
}

// verdict says what to do with a coroutine that is suspended.
type verdict int

const (
	waitOn   verdict = iota
	goOn             // step
	commitIt         // commit, and ask again
)

const (
	// maxVain is how often in a row a coroutine may be woken for nothing.
	maxVain = 3
	// idlePause is how long it then waits on. The host module whose call it is doesn't agree that it may go on: a snapshot may say anything.
	idlePause = 10 * time.Millisecond
)

// poll takes in what has happened, and says what to do now. If that is to wait on, it says until when at the latest, zero
// if only news ends the wait, and whether the host module of the pending call has to be asked as well: its Wait.
func (s *session) poll() (v verdict, until time.Time, host bool) {
	v, until, host = s.look()
	if v != commitIt && s.now().Before(s.idle) {
		return waitOn, s.idle, false
	}
	return v, until, host
}

// due returns when the present wait is over at the latest, if nothing happens: zero if it isn't then. No commit is.
func (s *session) due() time.Time {
	p, t := s.c.Pending(), &s.c.abi.ops
	due := time.Time{}
	if p.Kind == hostabi.KindOperations || p.Kind == hostabi.KindTimer {
		due = p.Until
	}
	if t.wait != nil && len(t.wait.timers) > 0 && (due.IsZero() || t.wait.timers[0].due.Before(due)) {
		due = t.wait.timers[0].due
	}
	return due
}

func (s *session) look() (v verdict, until time.Time, host bool) {
	c, p := s.c, s.c.Pending()
	s.op.arrive()
	t, now := &c.abi.ops, s.now()
	t.due(now)
	switch {
	case p == nil, c.abi.cancel == cancelAsked:
		return goOn, time.Time{}, false
	case t.wait != nil && t.wait.over():
		return goOn, time.Time{}, false
	case !s.open && (p.Kind == hostabi.KindYield || p.Kind == hostabi.KindCheckpoint):
		return goOn, time.Time{}, false // at the driver's pleasure
	}
	if p.Kind == hostabi.KindOperations {
		if !p.Until.IsZero() && !now.Before(p.Until) {
			return goOn, time.Time{}, false
		}
		until = p.Until
	}
	earlier := func(t time.Time) {
		if until.IsZero() || t.Before(until) {
			until = t
		}
	}
	if t.wait != nil && len(t.wait.timers) > 0 {
		earlier(t.wait.timers[0].due)
	}
	for _, at := range s.commits() {
		if !at.After(now) {
			return commitIt, time.Time{}, false
		}
		earlier(at)
	}
	return waitOn, until, p.Kind != hostabi.KindOperations
}

// commits returns when a commit is due although the guest has not run.
func (s *session) commits() (at []time.Time) {
	if s.open {
		at = append(at, s.last.Add(s.d.Interval))
	}
	if !s.op.since.IsZero() {
		at = append(at, s.op.since.Add(endsInterval))
	}
	if due := s.op.trials(); !due.IsZero() {
		at = append(at, due)
	}
	return at
}

// wait blocks until the coroutine may go on.
func (s *session) wait(ctx context.Context) error {
	err := s.waitOver(ctx)
	if err == nil {
		return nil
	}
	s.op.arrive()
	if s.open || !s.op.since.IsZero() || !s.op.trials().IsZero() {
		// Somebody asks to stop, and the guest stands still: what it has done since the last commit, and what has ended for it or
		// failed, need not be lost.
		if cerr := s.commit(context.WithoutCancel(ctx)); cerr != nil {
			err = fmt.Errorf("%w; and: %w", err, cerr)
		}
	}
	return err
}

func (s *session) waitOver(ctx context.Context) error {
	c := s.c
	if c.Pending().Kind == hostabi.KindYield && s.d.OnYield != nil {
		c.Send(s.d.OnYield(c.Pending().Data))
	}
	for {
		v, until, host := s.poll()
		switch {
		case v == goOn:
			return nil
		case v == commitIt:
			if err := s.commit(ctx); err != nil {
				return err
			}
		case host:
			over, err := s.waitHost(ctx, until)
			if over || err != nil {
				return err
			}
		default:
			if err := sleep(ctx, until, c.abi.now(), s.news); err != nil {
				return fmt.Errorf("wait for coroutine %s: %w", c.ID(), err)
			}
		}
	}
}

// sleep blocks until there is news, until a time that isn't zero, or for a while.
func sleep(ctx context.Context, until, now time.Time, news <-chan struct{}) error {
	d := maxSleep
	if !until.IsZero() {
		d = min(d, until.Sub(now))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-news:
	case <-timer.C:
	}
	return nil
}

// errNews ends a wait because there is news.
var errNews = errors.New("news")

// waitHost blocks until what the host module waits for may have happened, which it reports as over, until there is news, or
// until a time.
func (s *session) waitHost(ctx context.Context, until time.Time) (over bool, err error) {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !until.IsZero() {
		var stop context.CancelFunc
		inner, stop = context.WithDeadline(inner, until)
		defer stop()
	}
	// No goroutine for that, which would wake another processor.
	signal := s.op.setNews(func() { cancel(errNews) })
	defer func() { s.op.setNews(signal) }()
	if s.op.hasNews() { // of which the one has been told, or is to be, that was called until now
		return false, nil
	}
	err = s.c.Wait(inner)
	if inner.Err() != nil && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// outlive returns a context that is done when ctx has been for a while.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	outliving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			cancel()
		case <-outliving.Done():
		}
	})
	return outliving, func() {
		stop()
		cancel()
	}
}
