package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// This file is how a coroutine comes into memory, started or restored, and how it leaves it.

// enter brings a coroutine into memory: starts or restores it. It returns how it has ended, if it has.
func (s *Scheduler) enter(t *task) (*Outcome, error) {
	ctx := s.ctx
	t.stopWatching()
	if t.lease != nil && t.lease.Err() != nil { // while calls went on
		return nil, t.lease.Err()
	}
	if t.lease == nil {
		// Who only watches what somebody else does with it finds out how it has ended.
		lease, err := s.config.Store.Acquire(ctx, t.id, snapshot.LeaseOptions{
			TTL: s.config.Lease, OnLost: func() { s.wake(t) }, // somebody else goes on with it, whatever it waits for here
		})
		if err != nil {
			s.tellDriver(ctx, t, err)
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
	_, err = t.session.begin(ctx)
	return nil, err
}

// tellDriver leaves word that a coroutine is to end which can't be acquired, because somebody else drives it.
func (s *Scheduler) tellDriver(ctx context.Context, t *task, err error) {
	s.mu.Lock()
	toEnd := t.toEnd.Load() || t.beginning != nil && t.beginning.giveUp
	s.mu.Unlock()
	if toEnd && !t.told && errors.Is(err, snapshot.ErrBusy) {
		_, err := s.config.Store.Send(ctx, t.id, cancelRequest)
		t.told = err == nil // else the next time, if it is still there
	}
}

func (t *task) stopWatching() {
	if t.unwatch != nil {
		t.unwatch()
		t.unwatch = nil
	}
}

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
	missed := false // a message that came while this was going on, or may have
	away := t.outside == nil
	if away {
		missed = ss.op.unseen || ss.op.missed || ss.op.unread.holding
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
	t.away = away
	s.missAbsent(t)
	// What its alarm was set for may have been a commit alone.
	until := noAlarm
	if !due.IsZero() {
		until = alarmAt(due)
	}
	s.alarms.set(t, until)
	if t.outside != nil {
		if due := t.outside.trials(); !due.IsZero() {
			s.rouseBy(t, due)
		}
	}
	s.arm()
}

// footprint is how many bytes a task takes in memory, beyond itself.
func (t *task) footprint() int64 {
	if t.session == nil {
		return 0
	}
	return t.session.c.footprint()
}

// instanceSize is about what an instance takes beside its memory: the stack of its goroutine, the engine's structures and
// durun's.
const instanceSize = 48 << 10

// footprint is how many bytes a coroutine may take. Of its memory it may share much with others.
func (c *Coroutine) footprint() int64 {
	n := int64(instanceSize)
	if c.memory != nil {
		n += int64(c.memory.Size())
	}
	return n
}
