package runtime

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// The state of the import module "durun" in a snapshot, the host section of that name, has one of two versions.
//
// Version 1, of a coroutine that has never begun an operation and has no parent, is CBOR: see abiState.
//
// Version 4 is a sequence of unsigned LEB128 numbers and of byte strings after their length, in this order:
//
//	input, result, nonce                byte strings
//	last                                the operation's number that was given last
//	cancel                              0, 1: asked for, 2: and the guest was told
//	cpu                                 nanoseconds that the guest has computed
//	parent id, parent key               byte strings, empty without a parent
//	number of messages that were received and perhaps not deleted, and the key of each
//	number of messages that were received, as hashes of their keys of 16 bytes; see receipts
//	where the next of these goes
//	of the pending call: min, flags, the number of operations and, if they are maxWhole at most, each of them
//	number of operations and, if they are maxWhole at most, for each of them, by number:
//	    difference of its number from the one before (from 0), kind, flags, begun
//	    due (a timer that has not ended)
//	    of a call that has not ended: the last attempt's number, 0 before the first, else also
//	        times throttled, when it started, when the next is due or 0, and the last error: a byte string
//	    name, body (of one that has not ended)
//	    code and message, or result (of one that has ended)
//
// More operations than that are in parts of the state, see [groupedOperations]. Each part has some of them, in the same form; those
// that the pending call waits for are a part too.
//
// Times are nanoseconds since 1970. An encoder's output depends on the state alone, and a number is in its shortest form.
const (
	abiVersionPlain = 1
	abiVersion      = 4

	maxWhole = 64
)

// abiState is the encoding of version 1.
type abiState struct {
	Input  []byte `cbor:"1,keyasint,omitempty"`
	Result []byte `cbor:"2,keyasint,omitempty"`
}

// Flags of the pending call.
const (
	flagSuccess     = 1 << 0
	flagCancellable = 1 << 1
)

// Flags of an operation.
const (
	flagEnded      = 1 << 0
	flagFailed     = 1 << 1 // ended, with a code
	flagCancelling = 1 << 2
	flagDropped    = 1 << 3 // of a child, which has not ended
	flagsKnown     = 1<<4 - 1
)

// plain says that version 1 holds all that there is.
func (a *abi) plain() bool {
	return a.ops.last == 0 && a.parent == (parentLink{}) && a.cancel == cancelNone && a.cpu == 0 && len(a.received.ring)+len(a.received.undeleted) == 0
}

// Save implements hostabi.Instance.
func (a *abi) Save() (uint32, []byte, error) {
	if a.plain() {
		data, err := cbor.Marshal(abiState{Input: a.input, Result: a.result})
		return abiVersionPlain, data, err
	}
	var e encoder
	e.bytes(a.input)
	e.bytes(a.result)
	e.bytes([]byte(a.nonce))
	e.number(uint64(a.ops.last))
	e.number(uint64(a.cancel))
	e.number(uint64(a.cpu))
	e.bytes([]byte(a.parent.id))
	e.bytes([]byte(a.parent.key))
	e.number(uint64(len(a.received.undeleted)))
	for _, key := range a.received.undeleted {
		e.bytes([]byte(key))
	}
	e.number(uint64(len(a.received.ring)))
	for _, r := range a.received.ring {
		e.data = append(e.data, r[:]...)
	}
	e.number(uint64(a.received.next))
	var p hostabi.Pending
	if w := a.pending(); w != nil {
		p = *w
	}
	e.number(uint64(p.Min))
	flags := uint64(0)
	if p.Success {
		flags |= flagSuccess
	}
	if p.Cancellable {
		flags |= flagCancellable
	}
	e.number(flags)
	e.number(uint64(len(p.Ops)))
	if len(p.Ops) <= maxWhole {
		e.numbers(p.Ops)
	}
	e.number(uint64(len(a.ops.all)))
	if len(a.ops.all) <= maxWhole {
		e.operations(a.ops.list)
	}
	return abiVersion, e.data, nil
}

type encoder struct{ data []byte }

func (e *encoder) number(n uint64) { e.data = binary.AppendUvarint(e.data, n) }

func (e *encoder) bytes(b []byte) {
	e.number(uint64(len(b)))
	e.data = append(e.data, b...)
}

func (e *encoder) numbers(list []uint32) {
	for _, n := range list {
		e.number(uint64(n))
	}
}

// operations appends those of a list by number that are not nil.
func (e *encoder) operations(list []*operation) {
	last := uint32(0)
	for _, o := range list {
		if o != nil {
			e.number(uint64(o.number - last))
			last = o.number
			e.operation(o)
		}
	}
}

func (e *encoder) time(t time.Time) { e.number(uint64(max(0, t.UnixNano()))) }

func (e *encoder) operation(o *operation) {
	e.number(uint64(o.kind))
	flags := uint64(0)
	if o.ended {
		flags |= flagEnded
		if o.code != 0 {
			flags |= flagFailed
		}
	}
	if o.cancelling {
		flags |= flagCancelling
	}
	if o.dropped {
		flags |= flagDropped
	}
	e.number(flags)
	e.time(o.begun)
	if !o.ended {
		switch o.kind {
		case hostabi.Timer:
			e.time(o.due)
		case hostabi.Call:
			e.progress(o.progress)
		}
	}
	e.bytes([]byte(o.name))
	switch {
	case !o.ended:
		e.bytes(o.body)
	case o.code != 0:
		e.number(uint64(o.code))
		e.bytes([]byte(o.message))
	default:
		e.bytes(o.result)
	}
}

func (e *encoder) progress(p *handler.Progress) {
	if p == nil {
		e.number(0)
		return
	}
	e.number(uint64(min(p.Attempt, maxAttempt)))
	e.number(uint64(min(p.Throttled, maxAttempt)))
	e.time(p.Started)
	e.time(p.Next)
	e.bytes([]byte(p.Err))
}

// maxAttempt is the highest number of an attempt that the state has.
const maxAttempt = math.MaxInt32

// Restore implements hostabi.Instance.
func (a *abi) Restore(version uint32, data []byte) error {
	switch version {
	case abiVersionPlain:
		var s abiState
		if err := cbor.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("%w: %w", hostabi.ErrState, err)
		}
		a.input, a.result = s.Input, s.Result
		return nil
	case abiVersion:
		if err := a.decode(data); err != nil {
			return fmt.Errorf("%w: %w", hostabi.ErrState, err)
		}
		return nil
	}
	return fmt.Errorf("%w: %d, this durun reads %d and %d", hostabi.ErrStateVersion, version, abiVersionPlain, abiVersion)
}

func (a *abi) decode(data []byte) error {
	d := decoder{data: data}
	a.input, a.result, a.nonce = d.bytes(hostabi.MaxValueLen), d.bytes(hostabi.MaxValueLen), string(d.bytes(nonceLen))
	if _, err := hex.DecodeString(a.nonce); err != nil {
		d.fail("the operations' nonce") // handlers get it as part of a header
	}
	a.ops.last = uint32(d.number(maxOperation))
	a.cancel = cancelState(d.number(uint64(cancelTold)))
	a.cpu = time.Duration(d.number(math.MaxInt64))
	a.parent = parentLink{id: string(d.bytes(snapshot.MaxID)), key: string(d.bytes(maxOperationKey))}
	for range d.count(4*maxUndeleted, 1) {
		a.received.undeleted = append(a.received.undeleted, string(d.bytes(snapshot.MaxMessageKey)))
	}
	for range d.count(maxReceipts, len(receipt{})) {
		a.received.ring = append(a.received.ring, receipt(d.raw(len(receipt{}))))
	}
	a.received.next = int(d.number(maxReceipts - 1))
	p := hostabi.Pending{Min: uint32(d.number(math.MaxUint32))}
	flags := d.number(flagSuccess | flagCancellable)
	p.Success, p.Cancellable = flags&flagSuccess != 0, flags&flagCancellable != 0
	parts, err := a.sortParts()
	if err != nil {
		return err
	}
	if n := d.number(hostabi.MaxValueLen); n <= maxWhole {
		p.Ops = d.numbers(n)
	} else if d.err == nil {
		if a.waited, err = parts.takeWait(n); err != nil {
			return err
		}
		p.Ops = slices.Clone(a.waited.ops)
	}
	a.restored = p
	var list []*operation
	if n := d.number(hostabi.MaxOperations); n <= maxWhole {
		list = d.operations(int(n), a.ops.last)
	} else if d.err == nil {
		if list, err = parts.takeOperations(n, a.ops.last); err != nil {
			return err
		}
	}
	if d.finish(); d.err != nil {
		return d.err
	}
	if err := parts.rest(); err != nil {
		return err
	}
	for _, o := range list {
		a.ops.add(o)
		a.ops.advance(o, o.progress)
		if !o.ended {
			a.ops.fresh = append(a.ops.fresh, o) // to be started, again; it is not begun now
		}
	}
	if a.ops.size > 2*hostabi.MaxPayloads {
		return errors.New("the operations' size is not right")
	}
	a.ops.saved(parts.taken)
	return nil
}

// decoder reads what encoder has written, or anything else. After an error it reads zeros.
type decoder struct {
	data []byte
	err  error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s is not right, %d bytes before the end", what, len(d.data))
	}
	d.data = nil
}

// finish is for the end of what there should be.
func (d *decoder) finish() {
	if d.err == nil && len(d.data) > 0 {
		d.fail("what follows the end")
	}
}

func (d *decoder) number(limit uint64) uint64 {
	n, size := binary.Uvarint(d.data)
	if size <= 0 || n > limit || size > 1 && d.data[size-1] == 0 {
		d.fail("a number")
		return 0
	}
	d.data = d.data[size:]
	return n
}

// count reads how many elements follow, each of so many bytes at least: no more than there can be.
func (d *decoder) count(limit uint64, size int) uint64 {
	return d.number(min(limit, uint64(len(d.data)/size)))
}

// numbers reads n numbers of operations.
func (d *decoder) numbers(n uint64) (list []uint32) {
	for range n {
		list = append(list, uint32(d.number(math.MaxUint32)))
	}
	return list
}

// operations reads n operations, or all that there are if n is negative, with numbers up to last.
func (d *decoder) operations(n int, last uint32) (list []*operation) {
	for number := uint64(0); (n < 0 && len(d.data) > 0 || len(list) < n) && d.err == nil; {
		step := d.number(maxOperation)
		if number += step; step == 0 || number > uint64(last) {
			d.fail("an operation's number")
			break
		}
		o := d.operation()
		o.number = uint32(number)
		list = append(list, o)
	}
	return list
}

func (d *decoder) bytes(limit uint64) []byte {
	n := d.number(limit)
	if n > uint64(len(d.data)) {
		d.fail("a length")
		return nil
	}
	b := d.data[:n:n]
	d.data = d.data[n:]
	if n == 0 {
		return nil
	}
	return b
}

// raw reads n bytes.
func (d *decoder) raw(n int) []byte {
	if n > len(d.data) {
		d.fail("a length")
		return make([]byte, n)
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}

func (d *decoder) time() time.Time { return time.Unix(0, int64(d.number(math.MaxInt64))).UTC() }

func (d *decoder) progress() *handler.Progress {
	attempt := int(d.number(maxAttempt))
	if attempt == 0 {
		return nil
	}
	p := &handler.Progress{Attempt: attempt, Throttled: int(d.number(maxAttempt)), Started: d.time()}
	if next := d.time(); next.UnixNano() > 0 {
		p.Next = next
	}
	if p.Err = string(d.bytes(handler.MaxProgressErr)); !utf8.ValidString(p.Err) {
		d.fail("an attempt's error")
	}
	return p
}

func (d *decoder) operation() *operation {
	o := &operation{kind: hostabi.OperationKind(d.number(math.MaxUint32))}
	flags := d.number(flagsKnown)
	o.ended, o.cancelling, o.dropped = flags&flagEnded != 0, flags&flagCancelling != 0, flags&flagDropped != 0
	failed := flags&flagFailed != 0
	o.begun = d.time()
	if !o.ended {
		switch o.kind {
		case hostabi.Timer:
			o.due = d.time()
		case hostabi.Call:
			o.progress = d.progress()
		}
	}
	o.name = string(d.bytes(hostabi.MaxSpawnName))
	switch {
	case !o.ended:
		o.body = d.bytes(hostabi.MaxPayload)
	case failed:
		o.code = hostabi.Code(d.number(math.MaxInt32))
		o.message = string(d.bytes(2 * maxMessage))
	default:
		o.result = d.bytes(hostabi.MaxPayload)
	}
	body := o.body
	if o.kind == hostabi.Timer {
		body = make([]byte, 8) // it is in due
	}
	if err := checkOperation(o.kind, o.name, body); d.err == nil && err != nil {
		d.err = errors.New("an operation is not right: " + err.Error())
	}
	if failed && (o.code <= 0 || !o.ended) {
		d.fail("how an operation failed")
	}
	if o.dropped && (o.kind != hostabi.Spawn || o.ended) {
		d.fail("an operation that was dropped")
	}
	return o
}
