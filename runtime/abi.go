package runtime

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// abi is the state of the import module "durun", version 1, for one coroutine: see hostabi/ABI.md. It is what other host
// modules have as [hostabi.Guest].Coroutine, too.
type abi struct {
	id     string
	input  []byte // what input copies: the coroutine's input, then what the last yield received
	result []byte // what output set last
	reply  []byte // what a pending yield will receive

	ops      operations
	nonce    string // part of the operations' keys; drawn when the first one begins
	cancel   cancelState
	cpu      time.Duration // that the guest has computed, in its life
	parent   parentLink
	received receipts

	restored hostabi.Pending // what of the pending call is in this state: Ops, Min and Success
	parts    []hostabi.Part  // of a state that is to be restored
	waited   savedWait

	refused error // of the last begin of the import module, until the coroutine suspends

	// What the coroutine gives and gets while it is driven; nil for none.

	pending func() *hostabi.Pending
	arrive  func()           // takes in what has ended since the last look
	now     func() time.Time // the time by which timers end
}

// cancelState says how far a request to cancel the coroutine has come.
type cancelState uint8

const (
	cancelNone  cancelState = iota
	cancelAsked             // the guest is to be told
	cancelTold
)

// parentLink names the operation of the parent that a child is.
type parentLink struct {
	id  string // the parent's
	key string // of the operation, see abi.key
}

const (
	nonceLen        = 8
	maxOperationKey = snapshot.MaxID + 1 + nonceLen + 1 + 10
)

func newABI(id string, input []byte) *abi {
	return &abi{
		id: id, input: input,
		pending: func() *hostabi.Pending { return nil }, arrive: func() {}, now: time.Now,
	}
}

var i32, i64 = api.ValueTypeI32, api.ValueTypeI64

// abiModule describes the import module "durun".
var abiModule = &hostabi.Module{
	Name: hostabi.ModuleName,
	Functions: []hostabi.Function{
		{
			Name: hostabi.FuncInput, Params: []api.ValueType{i32, i32}, Results: []api.ValueType{i32},
			Call: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				copyOut(g, hostabi.FuncInput, i.(*abi).input, stack)
			},
		},
		{
			Name: hostabi.FuncOutput, Params: []api.ValueType{i32, i32},
			Call: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				value := guestBytes(g, hostabi.FuncOutput, uint32(stack[0]), uint32(stack[1]))
				i.(*abi).SetOutput(append([]byte{}, value...))
			},
		},
		{
			Name: hostabi.FuncYield, Params: []api.ValueType{i32, i32}, Results: []api.ValueType{i32},
			Await: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
				value := guestBytes(g, hostabi.FuncYield, uint32(stack[0]), uint32(stack[1]))
				received, p := i.(*abi).Yield(value, p)
				stack[0] = uint64(len(received))
				return p
			},
		},
		{
			Name: hostabi.FuncCheckpoint,
			Await: func(_ context.Context, _ *hostabi.Guest, _ hostabi.Instance, _ []uint64, p *hostabi.Pending) *hostabi.Pending {
				if p == nil {
					return &hostabi.Pending{Kind: hostabi.KindCheckpoint, Detail: "nothing"}
				}
				return nil
			},
		},
		{
			Name: hostabi.FuncID, Params: []api.ValueType{i32, i32}, Results: []api.ValueType{i32},
			Call: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				copyOut(g, hostabi.FuncID, []byte(i.(*abi).id), stack)
			},
		},
		{
			Name: hostabi.FuncBegin, Params: []api.ValueType{i32, i32, i32, i32, i32}, Results: []api.ValueType{i32},
			Call: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				name := guestBytes(g, hostabi.FuncBegin, uint32(stack[1]), uint32(stack[2]))
				body := guestBytes(g, hostabi.FuncBegin, uint32(stack[3]), uint32(stack[4]))
				a := i.(*abi)
				if len(name) > hostabi.MaxSpawnName { // not to be copied
					a.refused = refuse(hostabi.CodeLimit, "a name of %d bytes, at most %d are allowed", len(name), hostabi.MaxSpawnName)
					stack[0] = negated(hostabi.CodeLimit)
					return
				}
				op, err := a.Begin(hostabi.OperationKind(uint32(stack[0])), string(name), body)
				a.refused = err
				stack[0] = uint64(op)
				if err != nil {
					stack[0] = negated(codeOf(err))
				}
			},
		},
		{
			Name: hostabi.FuncWait, Params: []api.ValueType{i32, i32, i32, i64}, Results: []api.ValueType{i32},
			Await: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
				w := hostabi.Wait{
					Min:     uint32(stack[2]) &^ hostabi.WaitSuccess,
					Success: uint32(stack[2])&hostabi.WaitSuccess != 0,
					Timeout: time.Duration(stack[3]),
				}
				if p != nil {
					w.Ops = p.Ops
				} else if w.Ops = guestNumbers(g, uint32(stack[0]), uint32(stack[1])); len(w.Ops) > maxWait {
					stack[0] = negated(hostabi.CodeLimit)
					return nil
				}
				ended, p, err := i.(*abi).Await(w, p)
				stack[0] = uint64(len(ended))
				if err != nil {
					stack[0] = negated(codeOf(err))
				}
				return p
			},
		},
		{
			Name: hostabi.FuncResult, Params: []api.ValueType{i32, i32, i32}, Results: []api.ValueType{i32},
			Call: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				result, err := i.(*abi).Result(uint32(stack[0]))
				if err != nil {
					stack[0] = negated(codeOf(err))
					return
				}
				copyOut(g, hostabi.FuncResult, result, stack[1:])
				stack[0] = stack[1]
			},
		},
		{
			Name: hostabi.FuncMessage, Params: []api.ValueType{i32, i32, i32}, Results: []api.ValueType{i32},
			Call: func(_ context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				a := i.(*abi)
				err := a.refused
				if number := uint32(stack[0]); number != 0 {
					_, err = a.Result(number)
				}
				var failure *hostabi.OperationError
				if errors.As(err, &failure) && (failure.Code == hostabi.CodeUnknown || failure.Code == hostabi.CodePending) {
					stack[0] = negated(failure.Code)
					return
				}
				message := ""
				if failure != nil {
					message = failure.Message
				}
				copyOut(g, hostabi.FuncMessage, []byte(message), stack[1:])
				stack[0] = stack[1]
			},
		},
		{
			Name: hostabi.FuncCancel, Params: []api.ValueType{i32}, Results: []api.ValueType{i32},
			Call: func(_ context.Context, _ *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				stack[0] = negated(codeOf(i.(*abi).Cancel(uint32(stack[0]))))
			},
		},
		{
			Name: hostabi.FuncDrop, Params: []api.ValueType{i32}, Results: []api.ValueType{i32},
			Call: func(_ context.Context, _ *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				stack[0] = negated(codeOf(i.(*abi).Drop(uint32(stack[0]))))
			},
		},
	},
}

// copyOut copies a value to where stack[0] points, at most stack[1] bytes of it, and leaves its length in stack[0].
func copyOut(g *hostabi.Guest, function string, value []byte, stack []uint64) {
	n := min(uint32(len(value)), uint32(stack[1]))
	copy(guestBytes(g, function, uint32(stack[0]), n), value)
	stack[0] = uint64(len(value))
}

// maxWait is how many operations a wait can name, some of them perhaps more than once.
const maxWait = 2 * hostabi.MaxOperations

// guestNumbers reads n numbers of operations. Of more than a wait can name it reads one more than that.
func guestNumbers(g *hostabi.Guest, ptr, n uint32) []uint32 {
	if n == 0 {
		return nil
	}
	if n >= 1<<30 || g.Memory == nil {
		panic(fmt.Errorf("durun.%s: %d numbers at %#x are outside the guest's memory", hostabi.FuncWait, n, ptr))
	}
	b := guestBytes(g, hostabi.FuncWait, ptr, 4*n)
	numbers := make([]uint32, min(n, maxWait+1))
	for i := range numbers {
		numbers[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return numbers
}

// negated is a code as the ABI's functions return it.
func negated(c hostabi.Code) uint64 { return uint64(uint32(-int32(c))) }

// codeOf returns the code of an error of hostabi.Coroutine's methods, 0 for none.
func codeOf(err error) hostabi.Code {
	if err == nil {
		return 0
	}
	var e *hostabi.OperationError
	if errors.As(err, &e) {
		return e.Code
	}
	return hostabi.CodeFailed
}

// guestBytes returns the guest's memory [ptr, ptr+n), and traps if it is out of range.
func guestBytes(g *hostabi.Guest, function string, ptr, n uint32) []byte {
	if n == 0 {
		return nil
	}
	if g.Memory != nil {
		if b, ok := g.Memory.Read(ptr, n); ok {
			return b
		}
	}
	panic(fmt.Errorf("durun.%s: bytes [%#x, %#x) are outside the guest's memory", function, ptr, uint64(ptr)+uint64(n)))
}

// Module implements hostabi.Instance.
func (a *abi) Module() *hostabi.Module { return abiModule }

// ID implements hostabi.Coroutine.
func (a *abi) ID() string { return a.id }

// Input implements hostabi.Coroutine.
func (a *abi) Input() []byte { return a.input }

// SetOutput implements hostabi.Coroutine.
func (a *abi) SetOutput(value []byte) { a.result = value }

// Begin implements hostabi.Coroutine.
func (a *abi) Begin(kind hostabi.OperationKind, name string, body []byte) (uint32, error) {
	o, err := a.ops.begin(kind, name, body, a.wall())
	if err != nil {
		return 0, err
	}
	if a.nonce == "" {
		a.nonce = newNonce()
	}
	return o.number, nil
}

// wall is the time as it is kept: what the wall clock shows. Go's times have another clock's reading beside that, which would count
// for as long as the coroutine stays in memory, and stands still while the machine sleeps.
func (a *abi) wall() time.Time { return a.now().Round(0).UTC() }

// newNonce draws what tells the operations of one life from those of another under the same id.
func newNonce() string {
	var b [nonceLen / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// renew makes the operations of a shared base a coroutine's own: under keys that those of no other life have, even if there was
// one of its id, and with calls whose time begins now, since they leave with this coroutine's first commit.
func (a *abi) renew() {
	if a.nonce == "" {
		return
	}
	a.nonce = newNonce()
	a.ops.each(func(o *operation) {
		if o.kind == hostabi.Call && !o.ended {
			o.begun = a.wall()
			a.ops.advance(o, nil)
		}
	})
}

// end forgets the operations of a coroutine that has ended.
func (a *abi) end() { a.ops = operations{last: a.ops.last} }

// key is an operation's id for the world: the same however often it is started, and that of no other operation.
func (a *abi) key(number uint32) string { return fmt.Sprintf("%s/%s/%d", a.id, a.nonce, number) }

// Result implements hostabi.Coroutine.
func (a *abi) Result(number uint32) ([]byte, error) {
	o := a.ops.look(number, a.now())
	switch {
	case o == nil:
		return nil, refuse(hostabi.CodeUnknown, "there is no operation %d", number)
	case !o.ended:
		return nil, refuse(hostabi.CodePending, "operation %d has not ended", number)
	case o.code != 0:
		return nil, &hostabi.OperationError{Code: o.code, Message: o.message}
	}
	return o.result, nil
}

// Cancel implements hostabi.Coroutine.
func (a *abi) Cancel(number uint32) error {
	o := a.ops.look(number, a.now())
	if o == nil {
		return refuse(hostabi.CodeUnknown, "there is no operation %d", number)
	}
	a.ops.cancel(o)
	return nil
}

// Drop implements hostabi.Coroutine.
func (a *abi) Drop(number uint32) error {
	o := a.ops.get(number)
	if o == nil {
		return refuse(hostabi.CodeUnknown, "there is no operation %d", number)
	}
	a.ops.drop(o)
	return nil
}

// Operations implements hostabi.Coroutine.
func (a *abi) Operations() []uint32 {
	numbers := make([]uint32, 0, len(a.ops.all))
	a.ops.each(func(o *operation) { numbers = append(numbers, o.number) })
	return numbers
}

// Await implements hostabi.Coroutine.
func (a *abi) Await(w hostabi.Wait, p *hostabi.Pending) ([]uint32, *hostabi.Pending, error) {
	a.arrive()
	now := a.now()
	var ended []uint32
	good := 0
	for _, n := range w.Ops {
		o := a.ops.look(n, now)
		if o == nil {
			return nil, nil, refuse(hostabi.CodeUnknown, "there is no operation %d", n)
		}
		if o.ended {
			ended = append(ended, n)
			if o.code == 0 {
				good++
			}
		}
	}
	if a.cancel == cancelAsked {
		a.cancel = cancelTold
		return nil, nil, refuse(hostabi.CodeCancelled, "the coroutine is to end")
	}
	need := min(uint64(w.Min), uint64(len(w.Ops)))
	over := uint64(len(ended)) >= need
	if w.Success {
		failed := len(ended) - good
		over = uint64(good) >= need || uint64(len(w.Ops)-failed) < need
	}
	if over || p != nil && !p.Until.IsZero() && !now.Before(p.Until) || w.Timeout == 0 && !a.ops.waiting() {
		return ended, nil, nil
	}
	if p == nil {
		p = &hostabi.Pending{
			Kind: hostabi.KindOperations, Detail: a.ops.describe(w.Ops), Quiet: !a.ops.waiting() && a.ops.timersOnly(w.Ops),
			Ops: w.Ops, Min: w.Min, Success: w.Success, Cancellable: true,
		}
		missing := int(need) - len(ended)
		if w.Success {
			missing = int(need) - good
		}
		p.Until = a.ops.dueBy(w.Ops, missing)
		if w.Timeout >= 0 {
			end := a.wall().Add(min(w.Timeout, maxTimer))
			if p.Until.IsZero() || end.Before(p.Until) {
				p.Until = end
			}
		}
	}
	return nil, p, nil
}

// Yield implements hostabi.Coroutine.
func (a *abi) Yield(value []byte, p *hostabi.Pending) ([]byte, *hostabi.Pending) {
	if p == nil {
		return nil, &hostabi.Pending{
			Kind: hostabi.KindYield, Data: append([]byte{}, value...),
			Detail: fmt.Sprintf("the driver, which was handed %d bytes", len(value)),
		}
	}
	a.input, a.reply = a.reply, nil
	return a.input, nil
}

// Wait implements hostabi.Instance: a yield is over when the driver says so, by resuming; a checkpoint at once. Of operations it
// knows the timers; the others are a [Driver]'s.
func (a *abi) Wait(ctx context.Context, p *hostabi.Pending) error {
	if p.Kind != hostabi.KindOperations {
		return nil
	}
	return a.waitOperations(ctx, p)
}

// waitOperations blocks until those operations of p that are timers let it complete, or its time is up.
func (a *abi) waitOperations(ctx context.Context, p *hostabi.Pending) error {
	w := a.ops.newWait(p.Ops, p.Min, p.Success)
	for a.ops.wait = w; ; {
		a.ops.due(a.now())
		until := p.Until
		if len(w.timers) > 0 && (until.IsZero() || w.timers[0].due.Before(until)) {
			until = w.timers[0].due
		}
		if w.over() || !until.IsZero() && !a.now().Before(until) {
			return nil
		}
		if err := sleep(ctx, until, a.now(), nil); err != nil {
			return err
		}
	}
}

// Close implements hostabi.Instance.
func (a *abi) Close() error { return nil }

// errInterrupted is the cause of the trap by which a guest is stopped, at its next host call or tick.
var errInterrupted = errors.New("interrupted")
