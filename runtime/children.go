package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// parentVariable is the environment variable by which a child knows its parent's id.
const parentVariable = "DURUN_PARENT"

// targetModule is what a spawn's target starts with that names a module.
const targetModule = "module:"

var _ Children = (*Scheduler)(nil)

// Spawn implements [Children]. Who waits for a child may go: the scheduler drives it on to its end.
func (s *Scheduler) Spawn(ctx context.Context, c Child, done func(output []byte, err error)) {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return
	}
	t := s.tasks[c.ID]
	if t == nil {
		depth := 1
		if parent := s.tasks[c.Parent]; parent != nil {
			depth += int(parent.depth)
		}
		var refused error
		switch {
		case len(s.tasks) >= s.config.MaxCoroutines:
			refused = refuse(hostabi.CodeLimit, "%v: %d", errTooMany, s.config.MaxCoroutines)
		case depth > s.config.MaxDepth:
			refused = refuse(hostabi.CodeLimit, "children are nested more than %d deep", s.config.MaxDepth)
		}
		if refused != nil {
			s.mu.Unlock()
			done(nil, refused)
			return
		}
		t = &task{id: c.ID, depth: uint8(min(depth, 255)), beginning: &beginning{child: &c, giveUp: c.GivenUp}}
		s.take(t)
	} else if c.GivenUp {
		s.askToEnd(t)
	}
	var f func(ending)
	f = func(e ending) {
		output, err, ended := e.asChild(c.ID)
		switch {
		case ctx.Err() != nil || e.closed:
		case e.unbegun: // somebody else's, of that id
			s.Spawn(ctx, c, done)
		case !ended:
			s.mu.Lock()
			s.whenTaken(c.ID, &f)
			s.mu.Unlock()
		case e.Status.Ended() && e.key != c.Key:
			done(nil, notChild(&c))
		default:
			done(output, err)
		}
	}
	s.whenTaken(c.ID, &f)
	t.spawns++
	s.mu.Unlock()
	context.AfterFunc(ctx, func() {
		s.forget(c.ID, &f)
		s.deserted(t)
	})
}

// whenTaken has f called when a coroutine has ended or is given up: the task of that id, or the next one if there is none, because
// the child was given up and nobody has resumed it yet. With the lock held.
func (s *Scheduler) whenTaken(id string, f *func(ending)) {
	if t := s.tasks[id]; t != nil {
		t.ends = append(t.ends, f)
		return
	}
	s.parents[id] = append(s.parents[id], f)
	s.lookLater(lastLook)
}

// lookLater has it looked, when a time has passed, whether somebody else has driven a child to its end that was given up here and
// that its parent waits for. With the lock held.
func (s *Scheduler) lookLater(d time.Duration) {
	if s.looking || s.closing {
		return
	}
	s.looking = true
	s.clock.AfterFunc(d, s.lookForEnds)
}

// maxLookShare limits what looking for ends takes to one part in so many of the time.
const maxLookShare = 4

func (s *Scheduler) lookForEnds() {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return
	}
	s.looks.Add(1)
	defer s.looks.Done()
	ids := slices.Collect(maps.Keys(s.parents))
	s.mu.Unlock()
	begun := s.clock.Now()
	for _, id := range ids {
		if s.ctx.Err() != nil {
			return
		}
		head, err := s.config.Store.Head(s.ctx, id)
		if err == nil && head.Status.Ended() {
			// What it has ended with is for its turn to find out.
			_, _ = s.add(id, func() *task { return &task{id: id} }, false) // if there is no room, at the next look
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looking = false
	if len(s.parents) > 0 {
		s.lookLater(max(lastLook, maxLookShare*s.clock.Now().Sub(begun)))
	}
}

// forget has f called no more.
func (s *Scheduler) forget(id string, f *func(ending)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	other := func(g *func(ending)) bool { return g == f }
	if t := s.tasks[id]; t != nil {
		t.ends = slices.DeleteFunc(t.ends, other)
	}
	if left := slices.DeleteFunc(s.parents[id], other); len(left) > 0 {
		s.parents[id] = left
	} else {
		delete(s.parents, id)
	}
}

// deserted notes that a parent waits for a child no more. If none does, the child looks at what has become of it.
func (s *Scheduler) deserted(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.spawns--; t.spawns == 0 && !t.looked.Load() {
		s.rouse(t)
	}
}

// askToEnd has a coroutine cancelled as soon as that can be, as far as this process goes: no commit need know. With the lock held.
func (s *Scheduler) askToEnd(t *task) {
	if t.beginning != nil {
		t.beginning.giveUp = true
		return
	}
	t.toEnd.Store(true)
	s.rouse(t)
}

// asChild is how the child of that id has ended, for its parent: errors name it, so that its output can be looked at. A child that
// was given up has not.
func (e *ending) asChild(id string) (output []byte, err error, ended bool) {
	var failure *hostabi.OperationError
	switch {
	case e.Status == snapshot.Completed && e.ExitCode == 0:
		return e.Result, nil, true
	case e.Status == snapshot.Completed:
		why := fmt.Sprintf("child %s: exit code %d", id, e.ExitCode)
		if report := e.report(); report != "" {
			why += ": " + report
		}
		return nil, refuse(hostabi.CodeFailed, "%s", why), true
	case e.Status == snapshot.Cancelled:
		return nil, refuse(hostabi.CodeCancelled, "child %s was cancelled", id), true
	case e.Status == snapshot.Failed:
		return nil, refuse(hostabi.CodeFailed, "child %s: %v", id, e.Err), true
	case errors.As(e.Err, &failure): // it could not be started
		return nil, failure, true
	}
	return nil, nil, false
}

// report is what a child that has failed by its exit code says of it: its output, if that is text.
func (e *ending) report() string {
	binary := func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }
	if !utf8.Valid(e.Result) || bytes.ContainsFunc(e.Result, binary) {
		return ""
	}
	text := e.Result[:min(len(e.Result), maxMessage+utf8.UTFMax)] // more is not kept
	return strings.TrimSpace(limitText(string(text), maxMessage))
}

// notChild is the error for a coroutine that has a child's id, and is something else.
func notChild(c *Child) error {
	return refuse(hostabi.CodeFailed, "the coroutine %s is no child that this operation has started", c.ID)
}

// cancelRequest is the message that asks a coroutine to end. It needs to be left once.
var cancelRequest = snapshot.Message{Name: snapshot.CancelMessage, Key: snapshot.CancelMessage}

// CancelChild implements [Children].
func (s *Scheduler) CancelChild(ctx context.Context, c Child) error {
	s.mu.Lock()
	if t := s.tasks[c.ID]; t != nil {
		s.askToEnd(t) // also if the store fails
		if t.beginning != nil {
			s.mu.Unlock()
			return nil
		}
	}
	s.mu.Unlock()
	_, err := s.Send(ctx, c.ID, cancelRequest)
	if errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrEnded) {
		return nil
	}
	return err
}

// startChild makes a child that has not run.
func (s *Scheduler) startChild(ctx context.Context, t *task) (*Coroutine, *Outcome, error) {
	b := t.beginning
	t.key = b.child.Key // however it ends, even if it can't be started
	s.mu.Lock()
	giveUp := b.giveUp
	s.mu.Unlock()
	if giveUp {
		return nil, &Outcome{Status: snapshot.Cancelled, ExitCode: ExitCodeCancelled}, nil
	}
	p, module, err := b.child.program()
	if err == nil && (t.module == nil || t.module.Hash() != module) {
		t.module, err = s.openModule(ctx, module)
	}
	var c *Coroutine
	if err == nil {
		c, err = s.start(ctx, t.module, p)
	}
	var unfit *ModuleError
	if errors.As(err, &unfit) { // as it will be each time
		err = refuse(hostabi.CodeFailed, "%v", err)
	}
	if err != nil {
		return nil, nil, err
	}
	c.abi.parent = parentLink{id: b.child.Parent, key: b.child.Key}
	return c, nil, nil
}

// program returns what a child runs, and the hash of its module.
func (c *Child) program() (Program, snapshot.Hash, error) {
	p := Program{ID: c.ID, ModuleName: c.ModuleName, Entry: c.Entry, Input: c.Input, Grants: c.Grants}
	module, name := c.Module, ""
	if len(c.Program) > 0 {
		name = c.Program[0]
	}
	if target, ok := strings.CutPrefix(c.Target, targetModule); ok {
		target, entry, _ := strings.Cut(target, "/")
		hash, err := grantedModule(c.Grants, target)
		if err != nil {
			return p, module, err
		}
		module, name, p.ModuleName, p.Entry = hash, target, target, entry
	} else if c.Target != "" {
		p.Entry = c.Target
	}
	if p.Args = c.Program; c.Args != nil {
		p.Args = append([]string{name}, c.Args...)
	} else if len(p.Args) > 0 {
		p.Args = append([]string{name}, p.Args[1:]...)
	}
	p.Env = slices.DeleteFunc(slices.Clone(c.Env), func(v string) bool { return strings.HasPrefix(v, parentVariable+"=") })
	p.Env = append(p.Env, parentVariable+"="+c.Parent)
	return p, module, nil
}

// grantedModule returns the hash of a module that a run was given.
func grantedModule(grants []snapshot.Grant, name string) (snapshot.Hash, error) {
	for _, g := range grants {
		if g.Kind == snapshot.GrantModule && g.Name == name {
			hash, err := snapshot.ParseHash(g.Value)
			if err != nil {
				return hash, refuse(hostabi.CodeFailed, "module %s: %v", name, err)
			}
			return hash, nil
		}
	}
	return snapshot.Hash{}, refuse(hostabi.CodeDenied, "the run was given no module %q", name)
}

// isOrphan reports whether a coroutine in memory is a child whose parent has ended, or is no more: then it is to end as well, which
// the parent's driver may not have come to say. It looks once, and not while a parent here waits for it; of one that is the
// scheduler's it hears, see orphan. Errors: those of the storage.
func (s *Scheduler) isOrphan(ctx context.Context, t *task) (bool, error) {
	parent := t.session.c.abi.parent.id
	if parent == "" || t.looked.Load() || t.beginning != nil || s.relies(t, parent) {
		return false, nil
	}
	head, err := s.config.Store.Head(ctx, parent)
	if errors.As(err, new(*bucket.Error)) && !errors.Is(err, snapshot.ErrNotFound) {
		return false, err
	}
	t.looked.Store(true)
	return errors.Is(err, snapshot.ErrNotFound) || err == nil && head.Status.Ended(), nil
}

// relies reports whether a child's parent is known to be alive: the scheduler drives it, and the child hears when that is over; or
// somebody else here does, and waits for the child.
func (s *Scheduler) relies(t *task, parent string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tasks[parent] == nil {
		return t.spawns > 0
	}
	t.looked.Store(true)
	t.parent = parent
	if s.wards[parent] == nil {
		s.wards[parent] = map[*task]struct{}{}
	}
	s.wards[parent][t] = struct{}{}
	return true
}

// reliesNoMore is the reverse of relies, with the lock held.
func (s *Scheduler) reliesNoMore(t *task) {
	if wards := s.wards[t.parent]; wards != nil {
		if delete(wards, t); len(wards) == 0 {
			delete(s.wards, t.parent)
		}
	}
}

// orphan tells the children of a task that the scheduler has done with: to end if it has ended, which may have been elsewhere, and
// who has seen to that may have died; else to look for themselves. With the lock held.
func (s *Scheduler) orphan(parent *task, ended bool) {
	for t := range s.wards[parent.id] {
		t.parent = ""
		if ended {
			s.askToEnd(t)
			continue
		}
		t.looked.Store(false)
		s.rouse(t)
	}
	delete(s.wards, parent.id)
}
