package runtime

import (
	"context"
	"time"

	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// Outside is what the coroutines that a process drives can reach: who carries out their operations, see hostabi/ABI.md.
// One serves any number of drivers. The zero value has timers and nothing else.
type Outside struct {
	// Handlers carry out calls. Nil, or none of that name: the call ends with [hostabi.CodeDenied].
	Handlers *handler.Set
	// Inbox tells of messages as they come. Nil: they are looked for when driving begins, and not after.
	Inbox *snapshot.InboxWatcher
	// Children drives children. Nil: a spawn ends with [hostabi.CodeDenied].
	Children Children
	// OnUnreadable is called with each message that can't be read and is passed over, once in a coroutine's stay in memory, by any
	// goroutine; nil for nobody. It is damaged, or needs a key or a durun that isn't there, or the store does not give it, for two
	// minutes in which it gave others. It stays in the inbox, and is received if it can be read after all.
	OnUnreadable func(coroutine string, m snapshot.Message)
	// Now is the time by which timers end; nil is [time.Now].
	Now func() time.Time
}

// Children drives the children of coroutines. Its methods may be called by any number of goroutines. A [Scheduler] has them.
type Children interface {
	// Spawn starts a child, or goes on with the one that was started earlier for the same operation, and returns at once. When
	// the child has ended, done is called with its output, or an error that is a *[hostabi.OperationError]. It is not called
	// after ctx is done: then nobody waits for the child any more, and it stays at its last commit.
	Spawn(ctx context.Context, c Child, done func(output []byte, err error))
	// CancelChild asks a child to end, in a way that outlives this process. That there is none, or that it has ended, is no error.
	CancelChild(ctx context.Context, c Child) error
}

// Child says which coroutine a spawn is to start.
type Child struct {
	ID     string // the child's
	Parent string // the parent's id
	Key    string // of the parent's operation: its idempotency key. The child that it has started names it

	Module     snapshot.Hash // the parent's
	ModuleName string
	Entry      string
	Target     string   // what to run, see hostabi/ABI.md; empty for the parent's module and entry
	Args       []string // of the program, without its name; nil stands for the parent's, which are in Program
	Program    []string // the parent's arguments, with the program's name
	Env        []string // the parent's environment, NAME=VALUE
	Input      []byte
	Grants     []snapshot.Grant // the parent's

	// GivenUp says that the child is to end: the parent has given it up. If it has not been started, it is not.
	GivenUp bool
}
