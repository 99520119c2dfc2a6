package runtime

import (
	"crypto/sha256"
	"slices"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// CancelMessage is the name of the message by which a coroutine is asked to end, see [Coroutine.Cancel]. Its data is of no
// meaning.
const CancelMessage = snapshot.CancelMessage

// receipts remember the messages that a coroutine has received of late: those that are still in the inbox, because a crash
// came between the commit that has them and their deletion, and those that somebody sends again under the same key. They are
// overwritten in turn, in place, so that one more changes little of the state.
type receipts struct {
	ring []receipt
	next int // where the next one goes once the ring is full
}

// receipt is the start of the SHA-256 of a message's key.
type receipt [16]byte

// maxReceipts is how many are remembered.
const maxReceipts = 1024

// maxUndeleted is how many received messages may lie in the inbox before others are received: far fewer than are remembered.
const maxUndeleted = maxReceipts / 2

func receiptOf(key string) receipt {
	sum := sha256.Sum256([]byte(key))
	return receipt(sum[:])
}

func (r *receipts) has(key string) bool { return slices.Contains(r.ring, receiptOf(key)) }

func (r *receipts) add(key string) {
	if len(r.ring) < maxReceipts {
		r.ring = append(r.ring, receiptOf(key))
		return
	}
	r.ring[r.next] = receiptOf(key)
	r.next = (r.next + 1) % maxReceipts
}

// listen begins to look for messages.
func (o *operator) listen() {
	if o.store == nil {
		return
	}
	if o.outside.Inbox != nil && o.unwatch == nil {
		o.unwatch = o.outside.Inbox.Watch(o.id, o.fetch)
	}
	if o.c.parent != nil { // there may be some already
		o.fetch()
	}
}

// fetch reads the inbox, beside the guest.
func (o *operator) fetch() {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
	case o.fetching:
		o.refetch = true
	default:
		o.fetching = true
		o.work.Go(o.readInbox)
	}
}

func (o *operator) readInbox() {
	for again := true; again; {
		mail, err := o.store.Inbox(o.ctx, o.id)
		o.mu.Lock()
		if err == nil || len(mail) > 0 {
			o.mail, o.unseen = mail, len(mail) > 0
		}
		again = o.refetch && !o.closed
		o.fetching, o.refetch = again, false
		f := o.onNews
		o.mu.Unlock()
		if len(mail) > 0 {
			f()
		}
	}
}

// deliver gives messages to those operations that wait for them, and notes a request to end.
func (o *operator) deliver() {
	o.mu.Lock()
	mail := o.mail
	o.mail, o.unseen = nil, false
	o.mu.Unlock()
	if len(mail) == 0 {
		return
	}
	a := o.c.abi
	waiting := map[string][]*operation{}
	a.ops.each(func(op *operation) bool {
		if op.kind == hostabi.Recv && !op.ended {
			waiting[op.name] = append(waiting[op.name], op)
		}
		return true
	})
	left := mail[:0]
	for _, m := range mail {
		switch ops := waiting[m.Name]; {
		case m.Err != nil:
			left = append(left, m) // damaged: it stays, for whoever looks
		case slices.Contains(o.consumed, m.Key):
			// Received since the last commit, and read again before it could be deleted.
		case a.received.has(m.Key):
			o.consumed = append(o.consumed, m.Key) // received in an earlier life, or sent twice
		case len(o.consumed)+o.undeleted() >= maxUndeleted:
			left = append(left, m)
		case m.Name == CancelMessage:
			o.receive(m)
			if a.cancel == cancelNone {
				a.cancel = cancelAsked
			}
		case len(ops) > 0:
			o.receive(m)
			a.ops.end(ops[0].number, 0, "", m.Data)
			waiting[m.Name] = ops[1:]
		default:
			left = append(left, m)
		}
	}
	if len(left) > 0 {
		o.mu.Lock()
		if o.mail == nil { // nothing newer
			o.mail = left
		}
		o.mu.Unlock()
	}
}

func (o *operator) receive(m snapshot.Message) {
	o.c.abi.received.add(m.Key)
	o.consumed = append(o.consumed, m.Key)
	o.ended()
}

// undeleted is how many received messages are still to be deleted.
func (o *operator) undeleted() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.delete)
}

// acknowledge deletes messages whose receipt is committed, beside the guest. What can't be deleted now is tried again with the
// next ones, or by who drives the coroutine next.
func (o *operator) acknowledge(keys []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.delete = append(o.delete, keys...)
	if o.deleting || o.closed {
		return
	}
	o.deleting = true
	o.work.Go(func() {
		for {
			o.mu.Lock()
			keys := o.delete
			if len(keys) == 0 {
				o.deleting = false
				o.mu.Unlock()
				return
			}
			o.mu.Unlock()
			err := o.store.Acknowledge(o.ctx, o.id, keys...)
			o.mu.Lock()
			if err != nil {
				o.deleting = false
				o.mu.Unlock()
				return
			}
			o.delete = o.delete[len(keys):]
			more := len(o.mail) > 0
			f := o.onNews
			o.mu.Unlock()
			if more {
				f() // there is room for more receipts
			}
		}
	})
}
