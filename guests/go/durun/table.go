package durun

import (
	"context"
	"sync"
)

// operations are those that have begun and of whose end the program has not been told.
var operations = newTable()

// table is the guest's side of the host's table of operations. One goroutine asks the host for ends, as long as somebody may want
// to know: so a program whose goroutines wait for each other is still found out by Go ("all goroutines are asleep").
type table struct {
	mu      sync.Mutex
	pending map[uint32]*Op
	last    uint32     // the number of the last that has begun
	wanted  *sync.Cond // signalled when there may be something to ask for
	started bool

	// Who hears that the coroutine is to be cancelled: those who use the context, or else the waits that are under way, or
	// else the next.
	context   context.Context
	cancel    context.CancelCauseFunc
	inContext bool // somebody uses it
	waits     int  // under way
	unheard   bool // it is to be cancelled, and nobody has heard
}

func newTable() *table {
	t := &table{pending: map[uint32]*Op{}}
	t.wanted = sync.NewCond(&t.mu)
	t.context, t.cancel = context.WithCancelCause(context.Background())
	return t
}

func (t *table) add(op *Op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending[op.number], t.last = op, op.number
	t.ask()
}

// useContext returns the context that ends when the coroutine is to be cancelled.
func (t *table) useContext() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inContext, t.unheard = true, false
	t.ask()
	return t.context
}

// ask sees to it that the host is asked. The lock is held.
func (t *table) ask() {
	if !t.started {
		t.started = true
		go t.run()
	}
	t.wanted.Signal()
}

// run asks the host for ends, and tells of them.
func (t *table) run() {
	for {
		t.mu.Lock()
		for len(t.pending) == 0 && !(cancelledAlone && t.inContext && t.context.Err() == nil) {
			t.wanted.Wait()
		}
		t.mu.Unlock()
		ends, cancelled := waitForEnds()
		for _, number := range ends {
			t.ended(number)
		}
		if cancelled {
			t.cancelled()
		}
	}
}

// ended asks the host for an operation's result, and tells those who wait for it, if it has ended. The host then forgets it.
func (t *table) ended(number uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	op := t.pending[number]
	if op == nil {
		return
	}
	result, code := abiResult(number)
	switch code {
	case 0:
		op.result = result
	case Pending:
		return
	default:
		op.err = op.failure(code, abiMessage(number))
	}
	abiDrop(number)
	delete(t.pending, number)
	close(op.done)
	for _, join := range op.joins {
		join <- op
	}
	op.joins = nil
}

// cancelled tells that the coroutine is to be cancelled.
func (t *table) cancelled() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unheard = !t.inContext && t.waits == 0
	t.cancel(ErrCoroutineCancelled)
}

// enter begins a wait. The channel is closed when the wait is to be given up because the coroutine is to be cancelled, nil if
// somebody has heard that already. leave ends the wait.
func (t *table) enter() (cancelled <-chan struct{}, leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unheard || t.context.Err() == nil {
		cancelled = t.context.Done()
	}
	t.unheard = false
	t.waits++
	return cancelled, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.waits--
	}
}
