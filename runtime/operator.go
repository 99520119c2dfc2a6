package runtime

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// operator carries out the operations of one coroutine while it is driven: it starts them when a commit has them, and takes in
// how they end.
//
// Operations end outside, on goroutines of their own, which only leave word in arrived. The table of operations, which is
// part of the coroutine's state, changes when the driver or the guest looks: in arrive.
type operator struct {
	outside Outside
	store   *snapshot.Store // nil for none: no messages
	lease   *snapshot.Lease // nil for none
	id      string          // of the coroutine
	c       *Coroutine      // nil while it is not in memory, see session.detach
	ctx     context.Context // of all that runs outside
	stop    context.CancelFunc

	since    time.Time // when the first operation ended of those whose end no commit has; zero for none
	children map[uint32]Child
	box      map[string][]snapshot.Message // that nobody has received, by name, each name's in order

	unwatch func()

	mu       sync.Mutex
	arrived  []arrival
	running  map[uint32]*running
	advanced []uint32           // calls among those whose progress the table doesn't have
	failing  time.Time          // when the first attempt failed of those that no commit has; zero for none
	reported int                // commits with such since the guest ran
	mail     []snapshot.Message // what the last look into the inbox has found, if looked: not in the box yet
	looked   bool
	unseen   bool            // there is some
	more     bool            // the inbox has more than was read
	missed   bool            // the last look has failed: there may be some that nobody will tell of again
	fetching bool            // a goroutine looks for messages
	refetch  bool            // and is to look again
	unread   unreadMail      // what could not be read
	wanted   map[string]bool // names of messages that operations wait for, or have waited for
	blocked  bool            // messages wait until others are deleted
	due      []string        // keys of messages whose receipt is committed, to be deleted
	deleting bool            // a goroutine does that
	deleted  []string        // keys of those that it has deleted since the table was told
	gone     []string        // and since a goroutine began to look for messages
	closed   bool
	onNews   func()              // called when something has arrived, without locks; not nil
	onTrial  func(due time.Time) // called when an attempt has failed, with when that is to be committed; as onNews
	work     sync.WaitGroup      // of the goroutines that talk to the store
}

// running is an operation that runs outside.
type running struct {
	cancel   context.CancelFunc
	progress *handler.Progress // of a call; nil before its first attempt here
	advanced bool              // it is among those in operator.advanced
}

// arrival is word from outside that an operation has ended.
type arrival struct {
	number uint32
	result []byte
	err    error
}

// newOperator makes an operator for a coroutine that does not run, with its operations as the last commit has them. Nothing
// starts before committed is called, once that is durable.
func newOperator(ctx context.Context, outside *Outside, store *snapshot.Store, c *Coroutine, onNews func()) *operator {
	o := &operator{
		store: store, id: c.id, onNews: onNews, running: map[uint32]*running{}, children: map[uint32]Child{},
		box: map[string][]snapshot.Message{}, wanted: map[string]bool{},
	}
	if outside != nil {
		o.outside = *outside
	}
	o.onTrial = func(time.Time) { o.news() }
	o.ctx, o.stop = context.WithCancel(context.WithoutCancel(ctx))
	o.adopt(c)
	return o
}

// adopt makes c, which does not run, the coroutine whose operations these are. It may be another one than before: the same, as its
// last commit has it.
func (o *operator) adopt(c *Coroutine) {
	o.c = c
	if o.outside.Now != nil {
		c.abi.now = o.outside.Now
	}
	c.abi.arrive = o.arrive
	o.mu.Lock()
	defer o.mu.Unlock()
	for number, r := range o.running {
		o.advance(number, r)
	}
}

// news says that something has arrived.
func (o *operator) news() {
	o.mu.Lock()
	f := o.onNews
	o.mu.Unlock()
	f()
}

// setNews replaces what is called when something has arrived, and returns what was called until now.
func (o *operator) setNews(f func()) func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.onNews
	o.onNews = f
	return old
}

// arrives leaves word of something.
func (o *operator) arrives(a arrival) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return
	}
	o.arrived = append(o.arrived, a)
	f := o.onNews
	o.mu.Unlock()
	f()
}

// advances leaves word of how far a call has come. Nobody waits for that; but that an attempt has failed is to be committed in
// some time, for whoever wonders.
func (o *operator) advances(number uint32, p handler.Progress) {
	o.mu.Lock()
	r := o.running[number]
	if r == nil || o.closed {
		o.mu.Unlock()
		return
	}
	r.progress = &p
	o.advance(number, r)
	first := !p.Next.IsZero() && o.failing.IsZero()
	if first {
		o.failing = o.now()
	}
	f, due := o.onTrial, o.trialDue()
	o.mu.Unlock()
	if first {
		f(due)
	}
}

// advance has the table learn how far a call has come, with the lock held.
func (o *operator) advance(number uint32, r *running) {
	if r.progress != nil && !r.advanced {
		r.advanced = true
		o.advanced = append(o.advanced, number)
	}
}

// now is the time by which commits are due, and by which a message holds back others.
func (o *operator) now() time.Time {
	if o.outside.Now != nil {
		return o.outside.Now()
	}
	return time.Now()
}

const (
	// trialsInterval is how long a failed attempt may go without a commit. It doubles with each commit for such, up to maxTrials,
	// while the guest only waits: a call that is tried for days is not to fill the store.
	trialsInterval = 2 * time.Second
	maxTrials      = time.Minute
)

// trialDue returns when failed attempts are to be committed, zero for never, with the lock held.
func (o *operator) trialDue() time.Time {
	if o.failing.IsZero() {
		return time.Time{}
	}
	return o.failing.Add(min(trialsInterval<<min(o.reported, 8), maxTrials))
}

// trials returns when failed attempts are to be committed, zero for never.
func (o *operator) trials() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.trialDue()
}

// arrive takes in what has ended outside since it was called last, how far calls have come, and the messages that somebody waits for.
func (o *operator) arrive() {
	t := &o.c.abi.ops
	o.mu.Lock()
	arrived := o.arrived
	o.arrived = nil
	for _, number := range o.advanced {
		if r := o.running[number]; r != nil && r.advanced {
			r.advanced = false
			if op := t.get(number); op != nil && !op.ended {
				t.advance(op, r.progress)
			}
		}
	}
	o.advanced = nil
	for _, a := range arrived {
		if r := o.running[a.number]; r != nil {
			r.cancel() // which o.ctx would know until it is done
			delete(o.running, a.number)
		}
	}
	o.mu.Unlock()
	for _, a := range arrived {
		code, message := failure(a.err)
		if t.end(a.number, code, message, a.result) {
			o.ended()
		}
		delete(o.children, a.number)
	}
	o.deliver()
}

func (o *operator) ended() {
	if o.since.IsZero() {
		o.since = o.c.abi.now()
	}
}

// failure returns an error of a handler or child as the guest sees it.
func failure(err error) (hostabi.Code, string) {
	if err == nil {
		return 0, ""
	}
	var e *hostabi.OperationError
	if errors.As(err, &e) && e.Code > 0 {
		return e.Code, e.Message
	}
	return hostabi.CodeFailed, err.Error()
}

// committed takes note of a commit.
func (o *operator) committed() {
	o.since = time.Time{}
	o.trialsCommitted()
	o.carryOn()
}

// carryOn starts what the last commit has, and stops what it has no more.
func (o *operator) carryOn() {
	a := o.c.abi
	t := &a.ops
	given := t.given
	t.given = nil
	for _, number := range given {
		o.giveUp(number)
	}
	look := false
	for _, op := range t.started() {
		if !op.ended && t.all[op.number] == op {
			o.start(op)
			look = o.want(op) || look
		}
	}
	if (o.narrow() || look) && o.store != nil {
		o.fetch()
	}
	o.acknowledge()
}

// trialsCommitted notes that the last commit has the failed attempts that the table has.
func (o *operator) trialsCommitted() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failing.IsZero() {
		return
	}
	o.reported++
	o.failing = time.Time{}
	for _, number := range o.advanced { // while it was made
		if r := o.running[number]; r != nil && !r.progress.Next.IsZero() {
			o.failing = o.now()
		}
	}
}

// stepped notes that the guest has run: what is committed next is so in any case.
func (o *operator) stepped() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reported = 0
}

// start starts an operation outside, unless it runs there already.
func (o *operator) start(op *operation) {
	o.mu.Lock()
	_, runs := o.running[op.number]
	o.mu.Unlock()
	if runs {
		return
	}
	switch op.kind {
	case hostabi.Call:
		o.call(op)
	case hostabi.Spawn:
		o.spawn(op)
	}
}

// run keeps how to stop an operation, and returns the context that then is done.
func (o *operator) run(number uint32) context.Context {
	ctx, cancel := context.WithCancel(o.ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running[number] = &running{cancel: cancel}
	return ctx
}

func (o *operator) call(op *operation) {
	if o.outside.Handlers == nil || !o.outside.Handlers.Has(op.name) {
		o.arrives(arrival{number: op.number, err: refuse(hostabi.CodeDenied, "the run was given no handler %q", op.name)})
		return
	}
	ctx := o.run(op.number)
	c := handler.Call{
		Key: o.c.abi.key(op.number), Coroutine: o.id, Operation: op.number, Name: op.name, Body: op.body,
	}
	number, begun := op.number, op.begun
	var before handler.Progress
	if op.progress != nil {
		before = *op.progress
	}
	go func() {
		result, err := o.outside.Handlers.Do(ctx, c, begun, before, func(p handler.Progress) { o.advances(number, p) })
		if ctx.Err() == nil {
			o.arrives(arrival{number: number, result: result, err: err})
		}
	}()
}

func (o *operator) spawn(op *operation) {
	child, err := o.child(op)
	switch {
	case err != nil:
	case o.outside.Children == nil:
		err = refuse(hostabi.CodeDenied, "who drives this coroutine drives no children")
	}
	if err != nil {
		o.arrives(arrival{number: op.number, err: err})
		return
	}
	o.children[op.number] = child
	number := op.number
	ctx := o.run(number)
	o.outside.Children.Spawn(ctx, child, func(output []byte, err error) {
		if ctx.Err() == nil {
			o.arrives(arrival{number: number, result: output, err: err})
		}
	})
}

// child says which coroutine an operation is.
func (o *operator) child(op *operation) (Child, error) {
	c := o.c
	child := Child{
		ID: ChildID(c.id, op.number), Parent: c.id, Key: c.abi.key(op.number),
		Module: c.module.hash, ModuleName: c.name, Entry: c.entry, Input: op.body, Grants: c.grants,
		GivenUp: op.cancelling,
	}
	if err := snapshot.ValidID(child.ID); err != nil {
		return child, refuse(hostabi.CodeLimit, "the child would have the id %s: %v", child.ID, err)
	}
	for _, h := range c.hosts {
		if p, ok := h.(hostabi.ProgramInstance); ok {
			child.Program, child.Env = p.Program()
		}
	}
	target, args, given := strings.Cut(op.name, "\x00")
	if child.Target = target; given {
		child.Args = strings.Split(args, "\x00")
	}
	return child, nil
}

// ChildID returns the id of the child that a coroutine's operation of that number starts.
func ChildID(parent string, operation uint32) string {
	return parent + "." + strconv.FormatUint(uint64(operation), 10)
}

// giveUp stops an operation that was cancelled or dropped. A child is waited for.
func (o *operator) giveUp(number uint32) {
	if child, isChild := o.children[number]; isChild {
		o.cancelChild(child)
		return
	}
	o.mu.Lock()
	r := o.running[number]
	delete(o.running, number)
	o.mu.Unlock()
	if r != nil {
		r.cancel()
	}
}

func (o *operator) cancelChild(child Child) {
	o.work.Go(func() {
		// Tried again by who goes on with the coroutine; if it has ended, by who looks after its children.
		_ = o.outside.Children.CancelChild(o.ctx, child)
	})
}

// hasNews reports whether poll may have another answer than when it was asked last.
func (o *operator) hasNews() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	failed := !o.failing.IsZero() && len(o.advanced) > 0
	return len(o.arrived) > 0 || failed || o.unseen || o.blocked && len(o.deleted) > 0
}

// busy reports whether something runs outside for the coroutine.
func (o *operator) busy() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.running) > 0 || len(o.arrived) > 0
}

// quiet reports whether the last commit has all that has come from outside, as far as that is known.
func (o *operator) quiet() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since.IsZero() && len(o.arrived) == 0 && !o.fetching && !o.unseen && !o.missed && !o.unread.holding
}

// ending asks the children of a coroutine that has ended to end as well.
func (o *operator) ending(ctx context.Context) {
	for _, child := range o.children {
		_ = o.outside.Children.CancelChild(ctx, child) // else who lists the children finds that their parent has ended
	}
}

// patience is how long a session that is over waits for messages to be deleted.
const patience = 2 * time.Second

// close stops all that runs outside. What was under way is started again by who drives the coroutine next. If all went well,
// received messages are deleted first.
func (o *operator) close(well bool) {
	o.mu.Lock()
	o.closed = true
	o.onNews, o.onTrial = func() {}, func(time.Time) {}
	o.mu.Unlock()
	if o.unwatch != nil {
		o.unwatch()
	}
	if well {
		stop := time.AfterFunc(patience, o.stop)
		defer stop.Stop()
	} else {
		o.stop()
	}
	o.work.Wait()
	if o.c != nil {
		o.c.abi.arrive = func() {}
		if well {
			o.deleteRest()
		}
	}
	o.stop()
}
