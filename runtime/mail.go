package runtime

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// receipts remember the messages that a coroutine has received of late: by their keys those whose deletion from the inbox
// isn't known, and by a hash all, since somebody may send them again under the same key: to be sure, or because a request was
// repeated whose answer was lost.
type receipts struct {
	undeleted []string
	// The ring is overwritten in turn, in place, so that one more changes little of the state.
	ring []receipt
	next int // where the next one goes once the ring is full
}

// receipt is the start of the SHA-256 of a message's key.
type receipt [16]byte

const (
	// maxReceipts is how many hashes are remembered.
	maxReceipts = 1024
	// inboxRetry is when an inbox that could not be read is tried again.
	inboxRetry = time.Second
	// maxUndeleted is how many received messages may lie in the inbox before others are received.
	maxUndeleted = 256
)

func receiptOf(key string) receipt {
	sum := sha256.Sum256([]byte(key))
	return receipt(sum[:])
}

func (r *receipts) has(key string) bool {
	return slices.Contains(r.undeleted, key) || slices.Contains(r.ring, receiptOf(key))
}

func (r *receipts) add(key string) {
	r.undeleted = append(r.undeleted, key)
	if len(r.ring) < maxReceipts {
		r.ring = append(r.ring, receiptOf(key))
		return
	}
	r.ring[r.next] = receiptOf(key)
	r.next = (r.next + 1) % maxReceipts
}

// deleted notes that messages are no more in the inbox.
func (r *receipts) deleted(keys []string) {
	r.undeleted = slices.DeleteFunc(r.undeleted, func(key string) bool { return slices.Contains(keys, key) })
}

// listen begins to look for messages.
func (o *operator) listen() {
	if o.store == nil {
		return
	}
	if o.outside.Inbox != nil && o.unwatch == nil {
		o.unwatch = o.outside.Inbox.Watch(o.id, o.fetch)
	}
	o.c.abi.ops.each(func(op *operation) bool {
		o.want(op)
		return true
	})
	if o.c.parent != nil { // there may be some already
		o.fetch()
	}
}

// want has messages looked for that an operation receives. It reports whether they weren't before.
func (o *operator) want(op *operation) bool {
	if op.kind != hostabi.Recv || op.ended {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.wanted, op.name) {
		return false
	}
	o.wanted = append(o.wanted, op.name)
	return true
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
		o.mu.Lock()
		o.gone = nil
		wanted := append([]string{snapshot.CancelMessage}, o.wanted...)
		o.mu.Unlock()
		mail, err := o.store.Inbox(o.ctx, o.id, wanted...)
		o.mu.Lock()
		// One that was deleted since the inbox was listed was received before.
		mail = slices.DeleteFunc(mail, func(m snapshot.Message) bool { return slices.Contains(o.gone, m.Key) })
		if err == nil || len(mail) > 0 {
			o.mail, o.unseen = mail, len(mail) > 0
		}
		if err != nil && !o.closed {
			time.AfterFunc(inboxRetry, o.fetch)
		}
		again = o.refetch && !o.closed
		o.fetching, o.refetch = again, false
		f := o.onNews
		o.mu.Unlock()
		f() // also without mail: who drives may have waited with something until this is known
	}
}

// deliver gives messages to those operations that wait for them, and notes a request to end.
func (o *operator) deliver() {
	a := o.c.abi
	o.mu.Lock()
	// What was deleted may have been read just before.
	mail := slices.DeleteFunc(o.mail, func(m snapshot.Message) bool { return slices.Contains(o.deleted, m.Key) })
	o.mail, o.unseen = nil, false
	a.received.deleted(o.deleted)
	o.deleted = nil
	o.mu.Unlock()
	if len(mail) == 0 {
		return
	}
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
			// Damaged: it stays, for whoever looks.
		case slices.Contains(a.received.undeleted, m.Key):
			// To be deleted.
		case a.received.has(m.Key):
			a.received.undeleted = append(a.received.undeleted, m.Key) // sent twice
		case len(a.received.undeleted) >= maxUndeleted:
			left = append(left, m)
		case m.Name == snapshot.CancelMessage:
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
	o.ended()
}

// acknowledge deletes the messages whose receipt is committed, beside the guest. What can't be deleted now is tried again after
// the next commit.
func (o *operator) acknowledge() {
	keys := slices.Clone(o.c.abi.received.undeleted)
	if o.store == nil || len(keys) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.deleting || o.closed {
		return
	}
	o.deleting = true
	o.work.Go(func() {
		err := o.store.Acknowledge(o.ctx, o.id, keys...)
		o.mu.Lock()
		o.deleting = false
		if err == nil {
			o.deleted = append(o.deleted, keys...)
			o.gone = append(o.gone, keys...)
		}
		f := o.onNews
		if len(o.mail) == 0 {
			f = func() {} // else there is room for more receipts
		}
		o.mu.Unlock()
		f()
	})
}

// deleteRest deletes the messages whose receipt is committed and which no goroutine has deleted, when there are no more of
// those. What can't be deleted stays for who drives the coroutine next; one that has ended is removed with its messages.
func (o *operator) deleteRest() {
	r := &o.c.abi.received
	r.deleted(o.deleted)
	if o.store == nil || len(r.undeleted) == 0 {
		return
	}
	if o.store.Acknowledge(o.ctx, o.id, r.undeleted...) == nil {
		r.undeleted = nil
	}
}
