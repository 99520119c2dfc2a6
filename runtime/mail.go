package runtime

import (
	"context"
	"crypto/sha256"
	"maps"
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
	// inboxRetry is when an inbox, or a message, that could not be read is tried again: at first, and at most.
	inboxRetry, maxInboxRetry = time.Second, 10 * time.Second
	// unreadPatience is how long a message that the storage does not give, although it gives others, holds back those after it.
	unreadPatience = 2 * time.Minute
	// maxUndeleted is how many received messages may lie in the inbox, as far as is known, before others are received.
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

// full reports whether no more messages can be received before some are deleted.
func (r *receipts) full() bool { return len(r.undeleted) >= maxUndeleted }

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
	for _, op := range o.c.abi.ops.receivers() {
		o.want(op)
	}
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
	if o.wanted[op.name] {
		return false
	}
	o.wanted[op.name] = true
	return true
}

// narrow looks for no other messages than those that operations wait for, if the inbox has more than can be read at once. It reports
// whether they are fewer: what nobody waits for may have been before what somebody does.
func (o *operator) narrow() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.more {
		return false
	}
	before := len(o.wanted)
	clear(o.wanted)
	for _, op := range o.c.abi.ops.receivers() {
		o.wanted[op.name] = true
	}
	return len(o.wanted) < before
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
		wanted := append(slices.Collect(maps.Keys(o.wanted)), snapshot.CancelMessage)
		o.mu.Unlock()
		mail, more, err := o.store.Inbox(o.ctx, o.id, wanted...)
		var unreadable []snapshot.Message
		o.mu.Lock()
		if o.missed = err != nil; err == nil {
			// One that was deleted since the inbox was listed was received before.
			mail = slices.DeleteFunc(mail, func(m snapshot.Message) bool { return slices.Contains(o.gone, m.Key) })
			mail, unreadable = o.unread.sort(mail, o.now())
			o.mail, o.looked, o.unseen, o.more = mail, true, len(mail) > 0, more
		} else {
			o.unread.since, o.unread.holding = nil, false // it is not one message that the storage does not give
		}
		if err != nil || len(o.unread.since) > 0 {
			o.retry()
		} else {
			o.unread.failures = 0
		}
		again = o.refetch && !o.closed
		o.fetching, o.refetch = again, false
		f := o.onNews
		o.mu.Unlock()
		if report := o.outside.OnUnreadable; report != nil {
			for _, m := range unreadable {
				report(o.id, m)
			}
		}
		f() // also without mail: who drives may have waited with something until this is known
	}
}

// retry has the inbox read again after a while, which is longer each time in a row. With the lock held.
func (o *operator) retry() {
	u := &o.unread
	if u.retrying || o.closed {
		return
	}
	u.retrying = true
	d := min(inboxRetry<<min(u.failures, 8), maxInboxRetry)
	u.failures++
	time.AfterFunc(d, func() {
		o.mu.Lock()
		u.retrying = false
		o.mu.Unlock()
		o.fetch()
	})
}

// unreadMail is what an operator knows of the messages that could not be read.
type unreadMail struct {
	since    map[string]time.Time // by their keys, when the storage has first failed to give them
	holding  bool                 // one of these holds back others
	reported map[string]bool      // those that are passed over, by their keys
	retrying bool                 // the inbox will be read again because of this
	failures int                  // in a row
}

// sort returns, of what was read of an inbox, the messages that can be received, and those that were found to be unreadable just now.
// A message that is damaged is passed over: it is the same tomorrow. One that the storage does not give holds back those after it, all if its
// name is not known, so that a failure that passes changes no order; but not for ever.
func (u *unreadMail) sort(mail []snapshot.Message, now time.Time) (sound, unreadable []snapshot.Message) {
	before := u.since
	u.since, u.holding = map[string]time.Time{}, false
	held := map[string]bool{} // the names; the empty one stands for all
	for _, m := range mail {
		if m.Unread() {
			since, known := before[m.Key]
			if !known {
				since = now
			}
			if u.since[m.Key] = since; now.Sub(since) < unreadPatience {
				held[m.Name], u.holding = true, true
				continue
			}
		}
		switch {
		case m.Err == nil && (m.Name == snapshot.CancelMessage || !held[""] && !held[m.Name]):
			sound = append(sound, m)
		case m.Err != nil && !u.reported[m.Key]:
			if u.reported == nil {
				u.reported = map[string]bool{}
			}
			u.reported[m.Key] = true
			unreadable = append(unreadable, m)
		}
	}
	return sound, unreadable
}

// deliver gives messages to those operations that wait for them, and notes a request to end.
func (o *operator) deliver() {
	a := o.c.abi
	o.mu.Lock()
	mail, looked, deleted := o.mail, o.looked, o.deleted
	o.mail, o.looked, o.unseen, o.deleted, o.blocked = nil, false, false, nil, false
	o.mu.Unlock()
	a.received.deleted(deleted)
	if looked {
		// What was deleted may have been read just before.
		o.sort(slices.DeleteFunc(mail, func(m snapshot.Message) bool { return slices.Contains(deleted, m.Key) }))
	}
	for _, m := range o.box[snapshot.CancelMessage] {
		if a.cancel == cancelNone {
			a.cancel = cancelAsked
			o.ended()
		}
		if !a.received.full() { // it is the same if it comes again
			o.receive(m)
		}
	}
	delete(o.box, snapshot.CancelMessage)
	if len(o.box) == 0 {
		return
	}
	for _, op := range a.ops.receivers() {
		waiting := o.box[op.name]
		switch {
		case len(waiting) == 0:
		case a.received.full():
			o.mu.Lock()
			o.blocked = true
			o.mu.Unlock()
			return
		case len(waiting[0].Data) > a.ops.room(op):
			a.ops.end(op.number, hostabi.CodeLimit, noRoom, nil) // the message stays
			o.ended()
		default:
			o.receive(waiting[0])
			a.ops.end(op.number, 0, "", waiting[0].Data)
			waiting[0].Data = nil
			if o.box[op.name] = waiting[1:]; len(waiting) == 1 {
				delete(o.box, op.name)
			}
		}
	}
}

// sort puts those messages into the box that have not been received, in place of what is there.
func (o *operator) sort(mail []snapshot.Message) {
	r := &o.c.abi.received
	clear(o.box)
	for _, m := range mail {
		switch {
		case slices.Contains(r.undeleted, m.Key):
			// To be deleted.
		case r.has(m.Key):
			if !r.full() {
				r.undeleted = append(r.undeleted, m.Key) // sent twice
			}
		default:
			o.box[m.Name] = append(o.box[m.Name], m)
		}
	}
}

func (o *operator) receive(m snapshot.Message) {
	o.c.abi.received.add(m.Key)
	o.ended()
}

// acknowledge deletes the messages whose receipt is committed, beside the guest.
func (o *operator) acknowledge() {
	if o.store == nil || len(o.c.abi.received.undeleted) == 0 {
		return
	}
	o.mu.Lock()
	o.due = slices.Clone(o.c.abi.received.undeleted)
	o.mu.Unlock()
	o.deleteDue()
}

// deleteDue deletes messages, unless a goroutine does that. What can't be deleted now is tried again.
func (o *operator) deleteDue() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.deleting || o.closed {
		return
	}
	o.deleting = true
	o.work.Go(func() {
		for {
			o.mu.Lock()
			keys := o.due
			if o.due = nil; len(keys) == 0 || o.closed {
				o.deleting = false
				o.mu.Unlock()
				return
			}
			o.mu.Unlock()
			err := o.remove(o.ctx, keys)
			o.mu.Lock()
			if err != nil {
				if o.deleting = false; o.due == nil {
					o.due = keys
				}
				if !o.closed {
					time.AfterFunc(inboxRetry, o.deleteDue)
				}
				o.mu.Unlock()
				return
			}
			o.deleted = append(o.deleted, keys...)
			o.gone = append(o.gone, keys...)
			o.due = slices.DeleteFunc(o.due, func(key string) bool { return slices.Contains(keys, key) })
			f, more := o.onNews, o.more
			if !o.blocked {
				f = func() {} // else there is room for more receipts
			}
			o.mu.Unlock()
			f()
			if more {
				o.fetch()
			}
		}
	})
}

// remove deletes messages from the inbox.
func (o *operator) remove(ctx context.Context, keys []string) error {
	if o.lease != nil {
		return o.lease.Acknowledge(ctx, keys...)
	}
	return o.store.Acknowledge(ctx, o.id, keys...)
}

// deleteRest deletes the messages whose receipt is committed and which no goroutine has deleted, when there are no more of
// those. It takes its own time for that, since nobody comes after it if the coroutine has ended. What can't be deleted stays for who
// drives the coroutine next; one that has ended is removed with its messages, and [snapshot.Store.Collect] finds them before.
func (o *operator) deleteRest() {
	r := &o.c.abi.received
	r.deleted(o.deleted)
	if o.store == nil || len(r.undeleted) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.ctx), patience)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		if o.remove(ctx, r.undeleted) == nil {
			r.undeleted = nil
			return
		}
		if !o.c.Status().Ended() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
