package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// SchedulerConfig says what a [Scheduler] drives coroutines with. Only Store must be set.
type SchedulerConfig struct {
	Store *snapshot.Store
	// Handlers carry out the coroutines' calls. Nil, or none of that name: the call ends with [hostabi.CodeDenied].
	Handlers *handler.Set
	// Inbox tells of messages as they come; nil for one of the scheduler's own.
	Inbox *snapshot.InboxWatcher
	// Hosts makes the instances of host modules for a coroutine, each time that it comes into memory. Nil: there are none but
	// durun's own. It may be called by several goroutines.
	Hosts func(ctx context.Context, r HostsRequest) ([]hostabi.Instance, error)
	// Modules are modules that the caller has compiled, so that the scheduler need not open them anew for coroutines that it
	// resumes, and for children. The modules of programs that it starts are so as well. They have to outlive it.
	Modules []*Module
	// Output returns who watches what a coroutine writes, as [StartConfig] has it. Nil: nobody. The store has it in any case.
	Output func(id string) (stdout, stderr io.Writer)

	// Workers is how many coroutines are run, committed or restored at a time; 0 stands for four for each processor, as
	// most of that is waiting for the store.
	Workers int
	// Memory is how many bytes the coroutines may take that wait in memory, as far as their linear memories tell; 0 stands
	// for 1 GiB. Beyond it those that ran least recently leave it: their last commit is all that is needed of them.
	Memory int64
	// MaxCoroutines is how many coroutines the scheduler takes on; 0 stands for 1,000,000. Beyond it a child fails with
	// [hostabi.CodeLimit].
	MaxCoroutines int
	// MaxDepth is how deep children may be nested; 0 stands for 32.
	MaxDepth int
	// Limits are of each coroutine. For one of its own give it to a [Program] among the grants, see [Limits.Grants].
	Limits Limits
	// Clock is the time by which coroutines wait; nil is [SystemClock].
	Clock Clock
	// Lease is how long a coroutine's lease holds, see [snapshot.LeaseOptions].
	Lease time.Duration
	// Retain says which commits are kept, as [Driver] has it.
	Retain snapshot.Policy

	// OnCommit is called after each commit, OnYield with each value that a coroutine hands out, as [Driver] has them; by
	// several goroutines.
	OnCommit func(snapshot.Commit)
	OnYield  func(id string, value []byte) (reply []byte)
	// OnUnreadable is called with messages that are passed over, as [Outside] has it.
	OnUnreadable func(id string, m snapshot.Message)
	// OnEnd is called when a coroutine has ended, or is given up, with what Wait returns.
	OnEnd func(id string, o Outcome)
}

// HostsRequest says for which coroutine instances are asked for.
type HostsRequest struct {
	ID string
	// Args are the program's arguments, and Env its environment, NAME=VALUE each: of one that is started. One that is restored
	// brings its own.
	Args, Env []string
	Grants    []snapshot.Grant
	Restored  bool
}

// Program is what a [Scheduler] starts.
type Program struct {
	ID         string // of the coroutine; empty for a random one
	Module     *Module
	ModuleName string // for people
	Entry      string // as in [StartConfig]
	Args, Env  []string
	Input      []byte
	Grants     []snapshot.Grant
}

// Outcome is how a coroutine has ended.
type Outcome struct {
	Status   snapshot.Status // completed, failed or cancelled; suspended if the scheduler has given it up
	ExitCode uint32
	Result   []byte // what it set with durun.output
	// Err is why it failed. Of one that was given up it is why it can't be driven on: its snapshot is damaged, say. Nothing is
	// lost then, and [Scheduler.Resume] tries again.
	Err error
}

// ErrNotEnded is returned by [Scheduler.Outcome] for a coroutine that has not ended, and by [Scheduler.Wait] if moreover the
// scheduler doesn't drive it.
var ErrNotEnded = errors.New("the coroutine has not ended")

// Scheduler drives any number of coroutines of one store, on few threads. One that waits costs it a few hundred bytes, and
// its memory only as long as there is room for it. A ready one runs to its next await, and is committed; then it is the turn
// of those that became ready before. What goes wrong with one coroutine touches no other: it is tried again if it may be
// the store's fault, and else given up, see [Outcome].
//
// A coroutine is the scheduler's while it is in memory, or calls of it are carried out: then its lease is held. In between
// anybody may go on with it; the scheduler finds out when it would have a turn here: when a time has come, a message, or, if
// somebody else drives it at that moment, every few seconds from then on. Where messages are polled for, one that somebody else
// receives in between is not seen here, and gives it no turn. So it is looked now and then whether those have ended that
// somebody waits for; how one has ended that nobody waits for may never come up here.
//
// The children of its coroutines are driven as they are, and outlive their parent's stay in memory.
type Scheduler struct {
	config  SchedulerConfig
	runtime *Runtime
	clock   Clock
	outside Outside                // of all coroutines
	inbox   *snapshot.InboxWatcher // its own, if it has one
	ctx     context.Context        // of all that is done for coroutines
	cancel  context.CancelFunc

	mu       sync.Mutex
	tasks    map[string]*task
	parents  map[string][]*func(ending) // of children that were given up, until those are resumed, or have ended elsewhere
	absent   map[*task]struct{}         // that are away, and that somebody waits for, or has waited for
	looking  bool                       // it is looked for the ends of both, or will be
	unlook   func() bool                // of the clock: it is not, after all
	looks    sync.WaitGroup
	wards    map[string]map[*task]struct{} // children by the parent of whose end they hear, see relies
	ready    queue
	alarms   alarms
	armed    int64       // the time for which stopAlarm is set, noAlarm for none
	disarm   func() bool // of the clock
	idle     idle
	visit    int64 // before when no task comes into memory for failed attempts
	resident int   // tasks with a session
	bytes    int64 // that those take
	running  int   // workers
	closing  bool
	rested   chan struct{} // closed when none runs any more, once closing
	closed   chan struct{} // closed when Close has done its work

	modulesMu sync.Mutex
	modules   map[snapshot.Hash]*sharedModule
}

// NewScheduler returns a scheduler with no coroutines. Coroutines of the store that nobody asks it to resume are not touched.
func NewScheduler(r *Runtime, config SchedulerConfig) *Scheduler {
	if config.Workers <= 0 {
		config.Workers = 4 * goruntime.GOMAXPROCS(0)
	}
	if config.Memory <= 0 {
		config.Memory = 1 << 30
	}
	if config.MaxCoroutines <= 0 {
		config.MaxCoroutines = 1_000_000
	}
	if config.MaxDepth <= 0 {
		config.MaxDepth = 32
	}
	if config.Clock == nil {
		config.Clock = SystemClock()
	}
	if config.Hosts == nil {
		config.Hosts = func(context.Context, HostsRequest) ([]hostabi.Instance, error) { return nil, nil }
	}
	if config.Output == nil {
		config.Output = func(string) (_, _ io.Writer) { return nil, nil }
	}
	s := &Scheduler{
		config: config, runtime: r, clock: config.Clock,
		tasks: map[string]*task{}, parents: map[string][]*func(ending){}, absent: map[*task]struct{}{},
		wards: map[string]map[*task]struct{}{}, armed: noAlarm, rested: make(chan struct{}), closed: make(chan struct{}),
		modules: map[snapshot.Hash]*sharedModule{},
	}
	s.outside = Outside{
		Handlers: config.Handlers, Inbox: config.Inbox, Children: s, OnUnreadable: config.OnUnreadable, Now: config.Clock.Now,
	}
	if s.outside.Inbox == nil {
		s.inbox = snapshot.NewInboxWatcher(config.Store, snapshot.InboxWatcherOptions{})
		s.outside.Inbox = s.inbox
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, m := range config.Modules {
		s.lendModule(m)
	}
	return s
}

// Start starts a coroutine, and returns its id when its first commit is made: at its first await, or its end. From then on it
// outlives the process. If ctx is done before that, the coroutine may come to be all the same.
//
// Errors: ctx's; those of [Module.Start]; [snapshot.ErrExist] and [snapshot.ErrBusy] if there is a coroutine of that id, or
// somebody is about to start one; [ErrClosed]; those of the store.
func (s *Scheduler) Start(ctx context.Context, p Program) (id string, err error) {
	if p.ID == "" {
		p.ID = snapshot.NewID()
	}
	if err := snapshot.ValidID(p.ID); err != nil {
		return "", err
	}
	switch {
	case p.Module == nil:
		return "", fmt.Errorf("start coroutine %s: the program has no module", p.ID)
	case ctx.Err() != nil:
		return "", fmt.Errorf("start coroutine %s: %w", p.ID, ctx.Err())
	}
	s.lendModule(p.Module)
	b := &beginning{program: p, begun: make(chan error, 1)}
	if _, err := s.add(p.ID, func() *task { return &task{id: p.ID, beginning: b, module: p.Module} }, true); err != nil {
		return "", fmt.Errorf("start coroutine %s: %w", p.ID, err)
	}
	select {
	case err := <-b.begun:
		if err != nil {
			return "", fmt.Errorf("start coroutine %s: %w", p.ID, err)
		}
		return p.ID, nil
	case <-ctx.Done():
		return "", fmt.Errorf("start coroutine %s: %w", p.ID, ctx.Err())
	}
}

// Resume takes on a coroutine of the store. That it is the scheduler's already is no error. If somebody else drives it, the
// scheduler watches it, and goes on with it when they stop.
//
// Errors: [snapshot.ErrNotFound] and others of [snapshot.Store.Head], [ErrEnded], [ErrClosed].
func (s *Scheduler) Resume(ctx context.Context, id string) error {
	head, err := s.config.Store.Head(ctx, id)
	if err == nil && head.Status.Ended() {
		err = ErrEnded
	}
	if err == nil {
		_, err = s.add(id, func() *task { return &task{id: id} }, false)
	}
	if err != nil {
		return fmt.Errorf("resume coroutine %s: %w", id, err)
	}
	return nil
}

var errClosedScheduler = fmt.Errorf("the scheduler is %w", ErrClosed)

// ResumeAll takes on all coroutines of the store that have not ended. It returns how many they are, and those that can't be
// taken on, with why, as an error; with any other error it has not seen all. What it is for is the start of a program that has died.
func (s *Scheduler) ResumeAll(ctx context.Context) (n int, err error) {
	var errs []error
	for c, err := range s.config.Store.List(ctx) {
		if err != nil {
			return n, errors.Join(append(errs, fmt.Errorf("resume all coroutines: %w", err))...)
		}
		if err = c.Err; err == nil && c.Status.Ended() {
			continue
		}
		if err == nil {
			_, err = s.add(c.Coroutine, func() *task { return &task{id: c.Coroutine} }, false)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("resume coroutine %s: %w", c.Coroutine, err))
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

// Drain waits until the scheduler drives nothing any more. Errors: ctx's; [ErrClosed] if the scheduler is closed before.
func (s *Scheduler) Drain(ctx context.Context) error {
	for {
		s.mu.Lock()
		var last *task
		for _, last = range s.tasks {
			break
		}
		s.mu.Unlock()
		if last == nil {
			return nil
		}
		if _, err := s.Wait(ctx, last.id); err != nil && (ctx.Err() != nil || errors.Is(err, ErrClosed)) {
			return err
		}
	}
}

// errTooMany is for one coroutine more than a scheduler takes on.
var errTooMany = errors.New("the scheduler has as many coroutines as it takes on")

// add takes a task on, unless there is one of that id: which is an error if it has to be new.
func (s *Scheduler) add(id string, make func() *task, isNew bool) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch t := s.tasks[id]; {
	case s.closing:
		return nil, errClosedScheduler
	case t != nil && isNew:
		return nil, snapshot.ErrExist
	case t != nil:
		return t, nil
	case len(s.tasks) >= s.config.MaxCoroutines:
		return nil, fmt.Errorf("%w: %d", errTooMany, s.config.MaxCoroutines)
	}
	t := make()
	s.take(t)
	return t, nil
}

// take takes a task on, with the lock held.
func (s *Scheduler) take(t *task) {
	t.alarm = -1
	s.tasks[t.id] = t
	t.ends = append(t.ends, s.parents[t.id]...)
	delete(s.parents, t.id)
	s.push(t)
}

// Wait waits until a coroutine has ended, or is given up, and says how.
//
// Errors: ctx's; [ErrClosed] if the scheduler is closed before; [ErrNotEnded]; those of the store, for a coroutine that the
// scheduler doesn't drive, among them [snapshot.ErrNotFound].
func (s *Scheduler) Wait(ctx context.Context, id string) (Outcome, error) {
	ended := make(chan ending, 1)
	forget, ok := s.whenEnded(id, func(e ending) { ended <- e })
	if !ok {
		return s.Outcome(ctx, id)
	}
	defer forget()
	select {
	case e := <-ended:
		if e.closed {
			return Outcome{}, fmt.Errorf("wait for coroutine %s: %w", id, errClosedScheduler)
		}
		return e.Outcome, nil
	case <-ctx.Done():
		return Outcome{}, fmt.Errorf("wait for coroutine %s: %w", id, ctx.Err())
	}
}

// ending is what a task ends with.
type ending struct {
	Outcome
	key     string // of the parent's operation
	closed  bool   // the scheduler was closed before
	unbegun bool   // it was to be started, and could not be
}

// whenEnded has f called when a coroutine has ended. It returns false if the scheduler doesn't drive it.
func (s *Scheduler) whenEnded(id string, f func(ending)) (forget func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[id]
	if t == nil {
		return nil, false
	}
	if s.closing {
		f(ending{closed: true})
		return func() {}, true
	}
	return s.addEnd(t, f), true
}

// addEnd is whenEnded for a task, with the lock held.
func (s *Scheduler) addEnd(t *task, f func(ending)) (forget func()) {
	end := &f
	t.ends = append(t.ends, end)
	s.missAbsent(t)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.ends = slices.DeleteFunc(t.ends, func(e *func(ending)) bool { return e == end })
	}
}

// Outcome reads from the store how a coroutine has ended, whoever has driven it. Errors: [ErrNotEnded] if it has not, and those of
// [snapshot.Store.Chain], among them [snapshot.ErrNotFound].
func (s *Scheduler) Outcome(ctx context.Context, id string) (Outcome, error) {
	fail := func(err error) (Outcome, error) { return Outcome{}, fmt.Errorf("outcome of coroutine %s: %w", id, err) }
	chain, err := s.config.Store.Chain(ctx, id, 0, nil)
	if err != nil {
		return fail(err)
	}
	state, err := chain.State()
	if err != nil {
		return fail(err)
	}
	if !state.Status.Ended() {
		return fail(ErrNotEnded)
	}
	return outcomeOf(state)
}

// outcomeOf is how a coroutine has ended, of its last snapshot.
func outcomeOf(state *snapshot.Snapshot) (Outcome, error) {
	result, err := ResultOf(state)
	if err != nil {
		return Outcome{}, err
	}
	o := Outcome{Status: state.Status, ExitCode: state.ExitCode, Result: result}
	if state.Error != "" {
		o.Err = errors.New(state.Error)
	}
	return o, nil
}

// Send leaves a message for a coroutine, as [snapshot.Store.Send] does, and wakes it at once if it is the scheduler's.
func (s *Scheduler) Send(ctx context.Context, id string, m snapshot.Message) (snapshot.Receipt, error) {
	receipt, err := s.config.Store.Send(ctx, id, m)
	if err != nil {
		return receipt, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[id]; t != nil {
		t.mail.Store(true)
		s.rouse(t)
	}
	return receipt, nil
}

// Cancel asks a coroutine to end. It is told in its wait, where it can clean up; see hostabi/ABI.md. The request is a message,
// so it outlives the process. Errors: as of Send.
func (s *Scheduler) Cancel(ctx context.Context, id string) error {
	_, err := s.Send(ctx, id, cancelRequest)
	return err
}

// Store returns the store that the scheduler commits to.
func (s *Scheduler) Store() *snapshot.Store { return s.config.Store }

// Stats say what a scheduler has to do.
type Stats struct {
	Coroutines int   // that it drives
	Resident   int   // of these, in memory
	Bytes      int64 // that those take, as far as their linear memories tell
	Ready      int   // waiting for their turn
	Running    int   // whose turn it is
}

// Stats returns the figures of this moment.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Coroutines: len(s.tasks), Resident: s.resident, Bytes: s.bytes, Ready: s.ready.len(), Running: s.running}
}

// Drives reports whether the scheduler drives a coroutine.
func (s *Scheduler) Drives(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks[id] != nil
}

// Close stops driving. Coroutines that run get to their next await, and their commit; when ctx is done, they are stopped at
// their next host call or tick. All go on from their last commit when somebody resumes them. If it is closed already, or about to
// be, Close waits for that, and returns nil. It must not be called by the functions of the [SchedulerConfig]: it waits for those.
func (s *Scheduler) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		defer context.AfterFunc(ctx, s.cancel)() // who closes it in the first place may have more time
		<-s.closed
		return nil
	}
	s.closing = true
	defer close(s.closed)
	for _, disarm := range []func() bool{s.disarm, s.unlook} {
		if disarm != nil {
			disarm()
		}
	}
	s.running += s.ready.release()
	if s.running == 0 {
		close(s.rested)
	}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, s.cancel)
	<-s.rested
	stop()

	s.mu.Lock()
	tasks := s.tasks
	s.tasks = map[string]*task{}
	s.alarms = nil
	s.mu.Unlock()
	// Many at a time, as each may have to tell the store.
	errs := make([]error, s.config.Workers)
	leaving := make(chan *task)
	var workers sync.WaitGroup
	for w := range errs {
		workers.Go(func() {
			for t := range leaving {
				errs[w] = errors.Join(errs[w], s.leave(ctx, t))
			}
		})
	}
	for _, t := range tasks {
		leaving <- t
	}
	close(leaving)
	workers.Wait()
	s.cancel()
	s.looks.Wait()
	if s.inbox != nil {
		errs = append(errs, s.inbox.Close())
	}
	s.modulesMu.Lock()
	defer s.modulesMu.Unlock()
	for _, m := range s.modules {
		errs = append(errs, m.close(context.WithoutCancel(ctx)))
	}
	return errors.Join(errs...)
}

// sharedModule is a module that the scheduler has opened, or is about to, or that was lent to it.
type sharedModule struct {
	once   sync.Once
	module *Module
	lent   bool
	err    error
}

func (m *sharedModule) close(ctx context.Context) error {
	if m.module == nil || m.lent {
		return nil
	}
	return m.module.Close(ctx)
}

// lendModule has the scheduler use a module of somebody else's, unless it has opened it already.
func (s *Scheduler) lendModule(m *Module) {
	s.modulesMu.Lock()
	defer s.modulesMu.Unlock()
	if s.modules[m.Hash()] == nil {
		lent := &sharedModule{module: m, lent: true}
		lent.once.Do(func() {})
		s.modules[m.Hash()] = lent
	}
}

// openModule returns a module of the store. Those that the scheduler has opened stay until it is closed.
func (s *Scheduler) openModule(ctx context.Context, hash snapshot.Hash) (*Module, error) {
	s.modulesMu.Lock()
	m := s.modules[hash]
	if m == nil {
		m = &sharedModule{}
		s.modules[hash] = m
	}
	s.modulesMu.Unlock()
	m.once.Do(func() {
		m.module, m.err = s.runtime.Open(ctx, hash, func(ctx context.Context) ([]byte, error) { return s.config.Store.Module(ctx, hash) })
	})
	if m.err != nil {
		s.modulesMu.Lock()
		if s.modules[hash] == m {
			delete(s.modules, hash) // for another attempt
		}
		s.modulesMu.Unlock()
	}
	return m.module, m.err
}
