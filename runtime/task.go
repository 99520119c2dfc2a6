package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// task is a coroutine that a scheduler drives. There may be very many that do nothing but wait, so it is small.
//
// Its turn, in which it is run, is one goroutine's. What that needs is the turn's alone: it is not locked, and touched by
// others only while the task is asleep or leaving, by whoever has taken it out of the idle list. The rest is the scheduler's, under its lock.
type task struct {
	id string

	// The turn's:

	module    *Module    // nil until it is known
	beginning *beginning // until the first commit is known; nil if there was one before. Written under the lock
	key       string     // of the parent's operation that has started it, once that is known; empty for none
	session   *session   // while it is in memory
	lease     *snapshot.Lease
	outside   *operator   // what goes on outside while the coroutine is not in memory; nil for nothing
	unwatch   func()      // the inbox, while neither is there
	host      *hostWait   // of the pending call's host module, while that waits
	since     time.Time   // when the present slice of its turn began
	failures  uint8       // in a row
	looked    bool        // at what has become of its parent
	mail      atomic.Bool // somebody has left a message
	toEnd     atomic.Bool // it is to be cancelled, whether or not a commit knows

	// The scheduler's:

	state  taskState
	woken  bool  // since its turn began
	depth  uint8 // how many parents it has here
	alarm  int   // index in the heap, negative for none
	due    int64
	size   int64 // that is counted for it
	counts bool  // among those in memory

	older, newer *task // in the idle list
	ends         []*func(ending)
}

type taskState uint8

const (
	taskReady   taskState = iota // in the queue
	taskTurn                     // it is its turn
	taskAsleep                   // it waits to be woken
	taskLeaving                  // it is being taken out of memory
	taskOver                     // the scheduler has done with it
)

// beginning is how a coroutine is started, unless it is a child that has been before.
type beginning struct {
	program Program
	begun   chan error // gets how that went, once; nil for a child

	child  *Child // nil for none
	giveUp bool   // it is to be cancelled; under the lock
}

// hostWait is a wait of a host module, beside which nothing else may be done with the coroutine.
type hostWait struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed
}

// plan is what to do with a task after its turn.
type plan struct {
	again bool  // as soon as it is its turn
	until int64 // else: when at the latest; noAlarm if only something that happens ends the wait
	host  bool  // and the host module has to be asked, too
	end   *Outcome
	err   error // why it could not be driven
}

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
			return plan{until: until.UnixNano(), host: host}
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

// enter brings a coroutine into memory: starts or restores it. It returns how it has ended, if it has.
func (s *Scheduler) enter(t *task) (*Outcome, error) {
	ctx := s.ctx
	t.stopWatching()
	if t.lease != nil && t.lease.Err() != nil { // while calls went on
		return nil, t.lease.Err()
	}
	if t.lease == nil {
		// Who only watches what somebody else does with it finds out how it has ended.
		lease, err := s.config.Store.Acquire(ctx, t.id, snapshot.LeaseOptions{TTL: s.config.Lease})
		if err != nil {
			if head, herr := s.config.Store.Head(ctx, t.id); !errors.Is(err, snapshot.ErrBusy) || herr != nil || !head.Status.Ended() || t.isRoot() {
				return nil, err
			}
		}
		t.lease = lease
	}
	c, end, err := s.load(ctx, t)
	if end != nil || err != nil {
		return end, err
	}
	d := &Driver{
		Store: s.config.Store, Lease: t.lease, Outside: &s.outside, Retain: s.config.Retain,
		OnCommit: s.config.OnCommit,
	}
	if t.isRoot() {
		d.Ensure = func(ctx context.Context) error { return t.module.keep(ctx, s.config.Store) }
	}
	c.onTick = s.slice(t)
	t.session = newSession(ctx, d, c, func() { s.wake(t) })
	t.session.op.onTrial = func(due time.Time) { s.wakeBy(t, due) }
	if t.outside != nil {
		t.session.takeOver(t.outside)
		t.outside = nil
	}
	if c.parent != nil {
		s.hasBegun(t)
	}
	t.key = c.abi.parent.key
	orphan, err := s.isOrphan(ctx, t, c)
	if err != nil {
		return nil, err
	}
	if orphan {
		t.toEnd.Store(true)
	}
	_, err = t.session.begin(ctx)
	return nil, err
}

func (t *task) stopWatching() {
	if t.unwatch != nil {
		t.unwatch()
		t.unwatch = nil
	}
}

// isRoot reports whether a task is to be started that is no child.
func (t *task) isRoot() bool { return t.beginning != nil && t.beginning.child == nil }

// load starts or restores a coroutine. It returns how it has ended, if it has.
func (s *Scheduler) load(ctx context.Context, t *task) (*Coroutine, *Outcome, error) {
	if t.isRoot() {
		c, err := s.start(ctx, t.module, t.beginning.program)
		return c, nil, err
	}
	if t.module == nil || t.beginning != nil {
		head, err := s.config.Store.Head(ctx, t.id)
		switch {
		case t.beginning != nil && errors.Is(err, snapshot.ErrNotFound):
			return s.startChild(ctx, t)
		case err != nil:
			return nil, nil, err
		}
		if t.module == nil || t.module.Hash() != head.Module {
			if t.module, err = s.openModule(ctx, head.Module); err != nil {
				return nil, nil, err
			}
		}
	}
	for have := t.module.Known; ; have = nil {
		chain, err := s.config.Store.Chain(ctx, t.id, 0, have)
		if err != nil {
			return nil, nil, err
		}
		c, end, err := s.restore(ctx, t, chain)
		if !errors.Is(err, snapshot.ErrRootKnown) {
			return c, end, err
		}
	}
}

func (s *Scheduler) restore(ctx context.Context, t *task, chain *snapshot.Chain) (*Coroutine, *Outcome, error) {
	state, err := chain.State()
	if err != nil {
		return nil, nil, err
	}
	if t.beginning != nil || state.Status.Ended() {
		if _, t.key, err = ParentOf(state); err != nil {
			return nil, nil, err
		}
	}
	if b := t.beginning; b != nil && b.child.Key != t.key {
		return nil, nil, notChild(b.child)
	}
	if state.Status.Ended() {
		end, err := outcomeOf(state)
		return nil, &end, err
	}
	grants := state.Grants
	if t.beginning != nil { // what its parent has now counts, not what that had when it was started
		grants = t.beginning.child.Grants
	}
	hosts, err := s.config.Hosts(ctx, HostsRequest{ID: t.id, Grants: grants, Restored: true})
	if err != nil {
		return nil, nil, err
	}
	config := RestoreConfig{Hosts: hosts, Grants: grants, Limits: s.config.Limits}
	config.Stdout, config.Stderr = s.config.Output(t.id)
	c, err := t.module.RestoreChain(ctx, chain, config)
	if err != nil {
		closeAll(hosts)
	}
	return c, nil, err
}

func closeAll(hosts []hostabi.Instance) {
	for _, h := range hosts {
		_ = h.Close()
	}
}

// start makes a coroutine that has not run.
func (s *Scheduler) start(ctx context.Context, m *Module, p Program) (*Coroutine, error) {
	hosts, err := s.config.Hosts(ctx, HostsRequest{ID: p.ID, Args: p.Args, Env: p.Env, Grants: p.Grants})
	if err != nil {
		return nil, err
	}
	config := StartConfig{
		ID: p.ID, ModuleName: p.ModuleName, Entry: p.Entry, Input: p.Input, Hosts: hosts, Grants: p.Grants, Limits: s.config.Limits,
	}
	config.Stdout, config.Stderr = s.config.Output(p.ID)
	c, err := m.Start(ctx, config)
	if err != nil {
		closeAll(hosts)
	}
	return c, err
}

// keep makes sure that the store has the module, and goes on to have it.
func (m *Module) keep(ctx context.Context, store *snapshot.Store) error {
	err := store.UseModule(ctx, m.hash)
	if !errors.Is(err, snapshot.ErrNotFound) {
		return err
	}
	binary, err := m.source.fetch(ctx)
	if err != nil {
		return fmt.Errorf("fetch module %v: %w", m.hash, err)
	}
	return store.KeepModule(ctx, m.hash, binary)
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

// unload takes a coroutine out of memory, with all that goes on for it, and gives up its lease. err is why; nil if it has ended.
func (s *Scheduler) unload(t *task, err error) {
	_, _ = t.stopHost()
	if t.session != nil {
		ss := t.session
		t.session = nil
		ss.close(s.ctx, err)
		_ = ss.c.Close() // what a host module could not release is lost for this process, and for nobody else
	}
	if t.outside != nil {
		t.outside.close(err == nil)
		t.outside = nil
	}
	t.stopWatching()
	if t.lease != nil {
		_ = t.lease.Release()
		t.lease = nil
	}
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
	ends := t.ends
	t.ends = nil
	s.mu.Unlock()
	if b != nil && b.begun != nil {
		b.begun <- o.Err
		return
	}
	for _, f := range ends {
		(*f)(ending{Outcome: o, key: t.key})
	}
	if s.config.OnEnd != nil {
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
	ends := t.ends
	t.ends = nil
	s.mu.Unlock()
	for _, f := range ends {
		(*f)(ending{closed: true})
	}
	return err
}

// evictable reports whether what the last commit has is all that there is of a task that sleeps.
func (t *task) evictable() bool {
	ss := t.session
	return ss != nil && !ss.open && ss.op.quiet()
}

// evict takes a coroutine that sleeps out of memory. Calls and children of it go on. If there are none, its lease is given up.
func (s *Scheduler) evict(t *task) {
	ss := t.session
	t.session = nil
	due := ss.due()
	if ss.op.busy() {
		t.outside = ss.detach(s.ctx)
	} else {
		if s.outside.Inbox != nil {
			t.unwatch = s.outside.Inbox.Watch(t.id, func() { s.wake(t) })
		}
		ss.op.close(true)
		ss.r.finish(s.ctx, true)
	}
	_ = ss.c.Close()
	missed := false // a message that came while this was going on
	if t.outside == nil {
		missed = ss.op.unseen
		_ = t.lease.Release()
		t.lease = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(t, 0)
	if t.state = taskAsleep; t.woken || missed {
		s.push(t)
		return
	}
	// What its alarm was set for may have been a commit alone.
	until := noAlarm
	if !due.IsZero() {
		until = due.UnixNano()
	}
	s.alarms.set(t, until)
	if t.outside != nil {
		if due := t.outside.trials(); !due.IsZero() {
			s.rouseBy(t, due)
		}
	}
	s.arm()
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

// footprint is how many bytes a task takes in memory, beyond itself.
func (t *task) footprint() int64 {
	if t.session == nil {
		return 0
	}
	return t.session.c.footprint()
}

// instanceSize is about what an instance takes beside its memory: the stack of its goroutine, the engine's structures and durun's.
const instanceSize = 48 << 10

// footprint is how many bytes a coroutine may take. Of its memory it may share much with others.
func (c *Coroutine) footprint() int64 {
	n := int64(instanceSize)
	if c.memory != nil {
		n += int64(c.memory.Size())
	}
	return n
}
