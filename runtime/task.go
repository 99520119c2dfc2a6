package runtime

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/durun/durun/snapshot"
)

// This file is what a task is; turn.go is its turn, residency.go how it comes into memory and leaves it, and trouble.go what
// ends it.

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
	told      bool        // somebody else who drives it, that it is to end
	looked    atomic.Bool // at what has become of its parent
	mail      atomic.Bool // somebody has left a message
	toEnd     atomic.Bool // it is to be cancelled, whether or not a commit knows

	// The scheduler's:

	state  taskState
	woken  bool   // since its turn began
	depth  uint8  // how many parents it has here
	spawns int    // parents here that wait for it
	parent string // of whose end it hears from the scheduler, see relies; empty for none
	alarm  int    // index in the heap, negative for none
	due    int64
	size   int64 // that is counted for it
	counts bool  // among those in memory
	away   bool  // asleep without a lease: anybody may go on with it

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

// isRoot reports whether a task is to be started that is no child.
func (t *task) isRoot() bool { return t.beginning != nil && t.beginning.child == nil }
