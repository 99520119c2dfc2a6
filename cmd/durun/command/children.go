package command

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// surroundings are what a coroutine that a command drives can reach: handlers, messages and children. The children are driven
// beside it, and their output is in "durun logs" only.
type surroundings struct {
	runtime.Outside
	children *runtime.Scheduler
	failed   chan error // gets why a child can't be driven on
	closing  sync.Once
}

// newSurroundings makes the surroundings of a coroutine. grants are what it was given, and trusted is whether its children
// have what the store says beside that. The caller closes them before engine and store.
func (a *app) newSurroundings(e *engine, module *runtime.Module, store *store, o driveFlags, handlers *handler.Set, grants []snapshot.Grant, trusted bool) *surroundings {
	s := &surroundings{failed: make(chan error, 1)}
	s.Handlers, s.Inbox = handlers, snapshot.NewInboxWatcher(store.Store, snapshot.InboxWatcherOptions{})
	s.OnUnreadable = func(id string, m snapshot.Message) {
		fmt.Fprintf(a.Stderr, "durun: a message for %s can't be read, stays in the inbox and is passed over: %v\n", id, m.Err)
	}
	s.children = runtime.NewScheduler(e.Runtime, runtime.SchedulerConfig{
		Store: store.Store, Handlers: s.Handlers, Inbox: s.Inbox, Modules: []*runtime.Module{module}, Lease: o.lease, Retain: o.retain.policy(),
		OnUnreadable: s.OnUnreadable,
		Hosts: func(_ context.Context, r runtime.HostsRequest) ([]hostabi.Instance, error) {
			given := grants
			if trusted {
				given = mergeGrants(r.Grants, grants)
			}
			system, err := newSystem(systemConfig{args: r.Args, env: r.Env, grants: given, restored: r.Restored})
			if err != nil {
				return nil, err
			}
			return []hostabi.Instance{system}, nil
		},
		OnEnd: func(id string, end runtime.Outcome) {
			if end.Status != snapshot.Suspended || errors.As(end.Err, new(*hostabi.OperationError)) {
				return
			}
			select {
			case s.failed <- fmt.Errorf("the child %s can't be driven on: %w", id, end.Err):
			default:
			}
		},
	})
	s.Children = s.children
	return s
}

// close stops the children at their next await, and what handlers have started. It may be called more than once.
func (s *surroundings) close(ctx context.Context) (err error) {
	s.closing.Do(func() {
		err = errors.Join(s.children.Close(ctx), s.Inbox.Close())
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handlersTime)
		defer cancel()
		s.Handlers.Wait(ctx)
	})
	return err
}

// handlersTime is how long handlers may take to notice that their calls are given up: to kill a command.
const handlersTime = 2 * time.Second

// drain waits until the children of a coroutine that has ended have ended, too: they were asked to.
func (s *surroundings) drain(ctx context.Context, a *app, id string) {
	if err := s.children.Drain(ctx); err != nil {
		fmt.Fprintf(a.Stderr, "durun: %s has ended, and its children have been asked to; not all of them have yet: see %s\n",
			id, a.commandLine("ps", "--tree"))
	}
}

// askOrphan asks a child to end whose parent has ended, or is no more: its parent's driver may not have come to do so.
func (a *app) askOrphan(ctx context.Context, store *store, s *snapshot.Snapshot, c *runtime.Coroutine) error {
	parent, _, err := runtime.ParentOf(s)
	if err != nil || parent == "" {
		return err
	}
	head, err := store.Head(ctx, parent)
	switch {
	case errors.Is(err, snapshot.ErrNotFound), err == nil && head.Status.Ended():
		fmt.Fprintf(a.Stderr, "durun: %s: its parent %s has ended, so it is asked to end\n", s.Coroutine, parent)
		c.Cancel()
		return nil
	}
	return err
}
