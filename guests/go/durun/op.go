package durun

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// kind is what an operation does. The numbers are the ABI's.
type kind uint32

const (
	timer kind = 1
	call  kind = 2
	spawn kind = 3
	recv  kind = 4
)

func (k kind) String() string {
	return [...]string{"", "timer", "call", "spawn", "recv"}[k]
}

// Op is an operation: something that happens outside, and ends. Its methods may be used by several goroutines.
//
// What can't be begun, because a name or the size of a body is not allowed, is an Op as well, which has ended with
// [ErrInvalid] or [ErrLimit].
type Op struct {
	kind   kind
	name   string
	number uint32 // the host's, 0 if it could not begin

	done   chan struct{}
	result []byte // set before done is closed, as is
	err    error

	joins []chan<- *Op // to tell when it ends, guarded by the table. They have room.
}

// Call begins a call of a handler on the host, of that name. What body and result mean is between the two. If the run was
// given no such handler, the operation ends with [ErrDenied].
func Call(name string, body []byte) *Op { return begin(call, name, name, body) }

// Timer begins a timer: an operation that ends after d, without a result. It goes on while nobody runs the program.
func Timer(d time.Duration) *Op {
	return begin(timer, "", d.String(), binary.LittleEndian.AppendUint64(nil, uint64(max(d, 0))))
}

// Recv begins to receive: the operation's result is the data of the next message of that name ("durun send ID name data")
// which nobody has received yet. Messages that come before are kept.
func Recv(name string) *Op { return begin(recv, name, name, nil) }

// Spawn begins a child: a coroutine of its own. The target is [Self] for this program, the name of an export of its module, or
// "module:NAME" or "module:NAME/EXPORT" for a module that the run was given (--module). The child finds input with [Input], and
// args after its program's name; without args it has this program's. Its [SetOutput] is the operation's result. A child that
// exits with another code than 0 is [ErrFailed], and its output, if that is text, is part of the error's message.
//
// Children of a program that ends are cancelled.
func Spawn(target string, input []byte, args ...string) *Op {
	name := target
	for _, arg := range args {
		name += "\x00" + arg
	}
	return begin(spawn, name, strings.TrimSpace(target+" "+strings.Join(args, " ")), input)
}

// Self is the target of [Spawn] that stands for the program itself.
const Self = ""

// begin begins an operation; shown is its name for people.
func begin(k kind, name, shown string, body []byte) *Op {
	op := &Op{kind: k, name: shown, done: make(chan struct{})}
	n := abiBegin(k, name, body)
	if n < 0 {
		op.err = op.failure(Code(-n), abiMessage(0))
		close(op.done)
		return op
	}
	op.number = uint32(n)
	operations.add(op)
	return op
}

func (op *Op) failure(code Code, message string) error {
	return &Error{Code: code, Op: op.String(), Message: message}
}

// String describes the operation: "call send_email".
func (op *Op) String() string { return strings.TrimRight(op.kind.String()+" "+op.name, " ") }

// Number is the operation's number in the coroutine, from 1, as `durun inspect` shows it. 0 stands for one that could not
// begin. A child's id is its parent's, a dot, and this number.
func (op *Op) Number() uint32 { return op.number }

// Done returns a channel that is closed when the operation has ended. Who selects on it selects on [Context]'s as well, to hear
// when the coroutine is to be cancelled.
func (op *Op) Done() <-chan struct{} { return op.done }

// Result returns how the operation ended, without waiting: [ErrPending] if it has not. The result must not be changed if somebody
// else asks for it, too.
func (op *Op) Result() ([]byte, error) {
	if !op.hasEnded() {
		return nil, op.failure(Pending, "")
	}
	return op.result, op.err
}

func (op *Op) hasEnded() bool {
	select {
	case <-op.done:
		return true
	default:
		return false
	}
}

// Wait waits until the operation has ended, and returns its result. Other errors than an [*Error] say that waiting is over, and
// the operation goes on: the cause of ctx's end, or [ErrCoroutineCancelled].
func (op *Op) Wait(ctx context.Context) ([]byte, error) {
	if op.hasEnded() { // whatever ctx says
		return op.result, op.err
	}
	cancelled, leave := operations.enter()
	defer leave()
	select {
	case <-op.done:
		return op.result, op.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-cancelled:
		return nil, ErrCoroutineCancelled
	}
}

// Cancel gives up an operation that has not ended. It ends with [ErrCancelled] at once, but for a child, which is asked to
// end, and does so in its own time. What a handler has done already stays done.
func (op *Op) Cancel() {
	if !op.hasEnded() {
		abiCancel(op.number)
		operations.ended(op.number)
	}
}

// finish waits for an operation that nobody else knows, and gives it up if waiting ends before. If it has ended just then, that
// counts: a message is not lost.
func (op *Op) finish(ctx context.Context) ([]byte, error) {
	result, err := op.Wait(ctx)
	if !op.hasEnded() {
		op.Cancel()
		if op.hasEnded() && !errors.Is(op.err, ErrCancelled) {
			return op.result, op.err
		}
	}
	return result, err
}

// Sleep waits for a time, on a [Timer].
func Sleep(ctx context.Context, d time.Duration) error {
	_, err := Timer(d).finish(ctx)
	return err
}
