package runtime

import (
	"context"
	"errors"
	"slices"
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
	running  map[uint32]context.CancelFunc
	mail     []snapshot.Message // what the last look into the inbox has found, if looked: not in the box yet
	looked   bool
	unseen   bool            // there is some
	more     bool            // the inbox has more than was read
	missed   bool            // the last look has failed: there may be some that nobody will tell of again
	fetching bool            // a goroutine looks for messages
	refetch  bool            // and is to look again
	wanted   map[string]bool // names of messages that operations wait for, or have waited for
	blocked  bool            // messages wait until others are deleted
	due      []string        // keys of messages whose receipt is committed, to be deleted
	deleting bool            // a goroutine does that
	deleted  []string        // keys of those that it has deleted since the table was told
	gone     []string        // and since a goroutine began to look for messages
	closed   bool
	onNews   func()         // called when something has arrived, without locks; not nil
	work     sync.WaitGroup // of the goroutines that talk to the store
}

// arrival is word from outside about an operation: that it has ended, or that another attempt at it begins.
type arrival struct {
	number   uint32
	attempts uint32 // if not 0, the attempt that begins
	result   []byte
	err      error
}

// newOperator makes an operator for a coroutine that does not run, with its operations as the last commit has them. Nothing
// starts before committed is called, once that is durable.
func newOperator(ctx context.Context, outside *Outside, store *snapshot.Store, c *Coroutine, onNews func()) *operator {
	o := &operator{
		store: store, id: c.id, onNews: onNews, running: map[uint32]context.CancelFunc{}, children: map[uint32]Child{},
		box: map[string][]snapshot.Message{}, wanted: map[string]bool{},
	}
	if outside != nil {
		o.outside = *outside
	}
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
	if a.attempts > 0 {
		f = func() {} // nobody waits for that
	}
	o.mu.Unlock()
	f()
}

// arrive takes in what has ended outside since it was called last, and the messages that somebody waits for.
func (o *operator) arrive() {
	o.mu.Lock()
	arrived := o.arrived
	o.arrived = nil
	for _, a := range arrived {
		if cancel := o.running[a.number]; a.attempts == 0 && cancel != nil {
			cancel() // which o.ctx would know until it is done
			delete(o.running, a.number)
		}
	}
	o.mu.Unlock()
	t := &o.c.abi.ops
	for _, a := range arrived {
		if a.attempts > 0 {
			if op := t.get(a.number); op != nil && !op.ended {
				op.attempts = a.attempts
			}
			continue
		}
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

// committed starts what the last commit has, and stops what it has no more.
func (o *operator) committed() {
	o.since = time.Time{}
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
	o.running[number] = cancel
	return ctx
}

func (o *operator) call(op *operation) {
	if o.outside.Handlers == nil || !o.outside.Handlers.Has(op.name) {
		o.arrives(arrival{number: op.number, err: refuse(hostabi.CodeDenied, "the run was given no handler %q", op.name)})
		return
	}
	ctx := o.run(op.number)
	c := handler.Call{
		Key: o.c.abi.key(op.number), Coroutine: o.id, Operation: op.number, Name: op.name, Body: op.body, Attempt: int(op.attempts),
	}
	number, begun := op.number, op.begun
	go func() {
		result, err := o.outside.Handlers.Do(ctx, c, begun, func(n int) { o.arrives(arrival{number: number, attempts: uint32(n)}) })
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
	cancel := o.running[number]
	delete(o.running, number)
	o.mu.Unlock()
	if cancel != nil {
		cancel()
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
	return len(o.arrived) > 0 || o.unseen || o.blocked && len(o.deleted) > 0
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
	ended := slices.ContainsFunc(o.arrived, func(a arrival) bool { return a.attempts == 0 })
	return o.since.IsZero() && !ended && !o.fetching && !o.unseen && !o.missed
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
	o.onNews = func() {}
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
