package wasi

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/durun/durun/hostabi"
)

// fakeCoroutine plays the runtime: it keeps operations, and ends none of them by itself but timers.
type fakeCoroutine struct {
	clock         *fakeClock
	id            string
	input, output []byte
	last          uint32
	ops           map[uint32]*fakeOp
	cancel        bool // the coroutine is to be cancelled, and has not been told
	fresh         bool // operations have begun since the last suspension
	yielded       []string
	reply         string // what a yield receives
	awaits        int    // calls of Await
}

type fakeOp struct {
	kind   hostabi.OperationKind
	name   string
	body   string
	due    int64
	ended  bool
	result string
	err    *hostabi.OperationError
}

func (c *fakeCoroutine) ID() string         { return c.id }
func (c *fakeCoroutine) Input() []byte      { return c.input }
func (c *fakeCoroutine) SetOutput(b []byte) { c.output = slices.Clone(b) }

func (c *fakeCoroutine) Begin(kind hostabi.OperationKind, name string, body []byte) (uint32, error) {
	if len(name) > hostabi.MaxName && kind != hostabi.Spawn {
		return 0, refuse(hostabi.CodeLimit, "long")
	}
	if c.ops == nil {
		c.ops = map[uint32]*fakeOp{}
	}
	c.last++
	op := &fakeOp{kind: kind, name: name, body: string(body)}
	if kind == hostabi.Timer {
		op.due = satAdd(c.clock.Wall(), int64(binary.LittleEndian.Uint64(body)))
	}
	c.ops[c.last], c.fresh = op, true
	return c.last, nil
}

func (c *fakeCoroutine) Result(n uint32) ([]byte, error) {
	op := c.ops[n]
	switch {
	case op == nil:
		return nil, refuse(hostabi.CodeUnknown, "there is no operation %d", n)
	case op.kind == hostabi.Timer && op.due <= c.clock.Wall():
		op.ended = true
	}
	switch {
	case !op.ended:
		return nil, refuse(hostabi.CodePending, "")
	case op.err != nil:
		return nil, op.err
	}
	return []byte(op.result), nil
}

func (c *fakeCoroutine) hasEnded(n uint32) bool {
	_, _ = c.Result(n)
	return c.ops[n].ended
}

func (c *fakeCoroutine) Cancel(n uint32) error {
	op := c.ops[n]
	if op == nil {
		return refuse(hostabi.CodeUnknown, "")
	}
	if !op.ended {
		op.ended, op.err = true, &hostabi.OperationError{Code: hostabi.CodeCancelled}
	}
	return nil
}

func (c *fakeCoroutine) Drop(n uint32) error {
	if c.ops[n] == nil {
		return refuse(hostabi.CodeUnknown, "")
	}
	delete(c.ops, n)
	return nil
}

func (c *fakeCoroutine) Operations() []uint32 { return slices.Sorted(maps.Keys(c.ops)) }

func (c *fakeCoroutine) Await(w hostabi.Wait, p *hostabi.Pending) ([]uint32, *hostabi.Pending, error) {
	c.awaits++
	if c.cancel {
		c.cancel = false
		return nil, nil, &hostabi.OperationError{Code: hostabi.CodeCancelled}
	}
	var ended []uint32
	well := 0
	for _, n := range w.Ops {
		if c.ops[n] == nil {
			return nil, nil, refuse(hostabi.CodeUnknown, "there is no operation %d", n)
		}
		if c.hasEnded(n) {
			ended = append(ended, n)
			if c.ops[n].err == nil {
				well++
			}
		}
	}
	need := min(int(w.Min), len(w.Ops))
	over := len(ended) >= need
	if w.Success {
		over = well >= need || len(w.Ops)-len(ended)+well < need
	}
	if over || w.Timeout == 0 && !c.fresh || p != nil && !p.Until.IsZero() && p.Until.UnixNano() <= c.clock.Wall() {
		return ended, nil, nil
	}
	if p == nil {
		p = &hostabi.Pending{Kind: hostabi.KindOperations, Ops: w.Ops, Min: w.Min, Success: w.Success, Cancellable: true}
		if w.Timeout >= 0 {
			p.Until = time.Unix(0, satAdd(c.clock.Wall(), int64(w.Timeout)))
		}
	}
	return nil, p, nil
}

func (c *fakeCoroutine) Yield(value []byte, p *hostabi.Pending) ([]byte, *hostabi.Pending) {
	if p == nil {
		c.yielded = append(c.yielded, string(value))
		return nil, &hostabi.Pending{Kind: hostabi.KindYield}
	}
	c.input = []byte(c.reply)
	return c.input, nil
}

// pass lets happen what p waits for: what outside does, or else the time to pass.
func (c *fakeCoroutine) pass(p *hostabi.Pending, outside func()) {
	c.fresh = false
	if outside != nil {
		outside()
		return
	}
	until := int64(math.MaxInt64)
	if !p.Until.IsZero() {
		until = p.Until.UnixNano()
	}
	for _, n := range p.Ops {
		if op := c.ops[n]; op.kind == hostabi.Timer && !op.ended {
			until = min(until, op.due)
		}
	}
	if until == math.MaxInt64 {
		panic("the guest waits for ever")
	}
	c.clock.advance(time.Duration(max(0, until-c.clock.Wall())))
}

// end ends an operation well, or with an error.
func (c *fakeCoroutine) end(n uint32, result string, code hostabi.Code) {
	op := c.ops[n]
	if op == nil || op.ended {
		return
	}
	op.ended, op.result = true, result
	if code != 0 {
		op.err = &hostabi.OperationError{Code: code, Message: result}
	}
}
