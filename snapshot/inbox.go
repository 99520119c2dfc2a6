package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

const (
	// maxMessage is the most bytes of a message's object that are read: its data may have grown by compression's framing, by a
	// tag for each chunk that was sealed, and by a front and a digest.
	maxMessage = MaxMessageData + 1<<16
	// inboxBudget is how many bytes of data Inbox returns at once, and no less than what one message may have.
	inboxBudget = 64 << 20
)

func messagesPrefix(id string) string { return inboxPrefix + id + "/" }

// Receipt says what has become of a message that was sent.
type Receipt struct {
	Key  string    // of the message, the one that was made for it if it had none
	Sent time.Time // of the message
	// Duplicate says that a message of this key was there already, or was being received just now. That one counts, and
	// this one was dropped.
	Duplicate bool
	// Differs says that the message that was there has another name or other data.
	Differs bool
}

// Send puts a message into a coroutine's inbox, where it stays until the coroutine has received it. When Send returns, the
// message is durable. It is encrypted if the store has keys. Nobody need drive the coroutine; who does learns of it by an
// [InboxWatcher].
//
// If the coroutine ends at the same time it is not known whether it has received the message; it doesn't stay in the inbox then.
//
// Of several messages with one key the first counts, also if several are sent at once. That holds while the first is in the
// inbox; for keys of messages that were received the coroutine has to see to it. After an error other than those below it
// is not known whether the message was sent: to repeat it, give it the same key, as [NewMessageKey] makes them.
//
// Errors: [ErrNotFound]; [ErrEnded]; [ErrMessage]; [ErrID]; [ErrCorrupt] and [ErrVersion] of the coroutine's newest commit, or
// of a message with the same key that is there; a [*KeyError] if the coroutine is encrypted under a key that isn't there, so
// that what is secret in it does not lie open in a message.
func (s *Store) Send(ctx context.Context, id string, m Message) (Receipt, error) {
	r, err := s.send(ctx, id, m)
	if err != nil {
		return Receipt{}, fmt.Errorf("send %q to coroutine %s: %w", clipLabel(m.Name), id, err)
	}
	return r, nil
}

// clipLabel is a name for an error, which may be about its length.
func clipLabel(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func (s *Store) send(ctx context.Context, id string, m Message) (Receipt, error) {
	if err := m.validate(); err != nil {
		return Receipt{}, err
	}
	head, err := s.Head(ctx, id)
	switch {
	case err != nil:
		return Receipt{}, err
	case head.Status.Ended():
		return Receipt{}, fmt.Errorf("%w: %s", ErrEnded, head.Status)
	case head.Locked:
		return Receipt{}, &KeyError{Need: head.Key, Have: s.keys.IDs()}
	}
	if m.Sent.IsZero() {
		m.Sent = sendTime(time.Now())
	}
	m.Sent = m.Sent.Round(0).UTC()
	if m.Key == "" {
		m.Key = messageKeyAt(m.Sent)
	}
	r := Receipt{Key: m.Key, Sent: m.Sent}
	object := s.keys.newObject()
	key := messagesPrefix(id) + messageObject(id, m.Key, s.keys.byID(s.keys.first()))
	data, err := encodeMessage(id, &m, object)
	if err != nil {
		return Receipt{}, err
	}
	err = bucket.PutBytes(ctx, s.b, key, data)
	if errors.Is(err, bucket.ErrExist) {
		r.Duplicate = true
		r.Differs, err = s.differs(ctx, id, key, &m)
	}
	if err != nil {
		return Receipt{}, err
	}
	// The coroutine may have been removed in between, with all messages that were there. Then this one must not wait for
	// another one of that id.
	_, seq, err := s.newest(ctx, id)
	if err == nil && seq < head.Seq {
		err = fmt.Errorf("coroutine %s: %w in %s: it was removed just now", id, ErrNotFound, s.b.URL())
	}
	if errors.Is(err, ErrNotFound) && !r.Duplicate {
		if derr := s.b.Delete(context.WithoutCancel(ctx), key); derr != nil {
			err = errors.Join(err, derr)
		}
	}
	if err == nil && seq > head.Seq && !r.Duplicate {
		// It may have ended in between. Whether or not it has received this one, nobody else will, nor may delete it.
		if head, herr := s.Head(ctx, id); herr == nil && head.Status.Ended() {
			_ = s.b.Delete(context.WithoutCancel(ctx), key) // else Collect does
		}
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return Receipt{}, err
	}
	return r, nil
}

// differs reports whether the message that is there under a key is another one. If it is gone, it was received.
func (s *Store) differs(ctx context.Context, id, key string, m *Message) (bool, error) {
	there, err := s.readMessage(ctx, id, key)
	switch {
	case errors.Is(err, bucket.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("a message with this key is there already, and: %w", err)
	}
	return !there.same(m), nil
}

// readMessage reads and verifies a message.
func (s *Store) readMessage(ctx context.Context, id, key string) (*parsedMessage, error) {
	data, err := bucket.ReadAll(ctx, s.b, key, maxMessage)
	if errors.Is(err, bucket.ErrTooLarge) {
		err = corrupt("header", 16, "%v", err)
	}
	var p *parsedMessage
	if err == nil {
		p, err = decodeMessage(data, s.keys)
	}
	if err == nil {
		err = p.isMessage(id, strings.TrimPrefix(key, messagesPrefix(id)))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return p, nil
}

// Inbox returns the messages that wait for a coroutine and have one of some names, or all if none is given: those that
// were sent first, come first. It returns no more than 64 MiB of data at a time, and reports if there is more: of each name it leaves
// out the last, which come when those before were acknowledged, or when fewer names are asked for. Of messages with the same key
// there is one. A message may have been received before, by a driver that died before it could acknowledge it.
//
// A message that can't be read has its Err set, and stands where it belongs as far as that is known; else, if the storage fails it
// ([Message.Unread]), before all that may have been sent after it. Who wants messages in order waits with those.
//
// Errors: [ErrID]; those of the bucket, if the inbox can't be listed, or if more messages can't be read than can.
func (s *Store) Inbox(ctx context.Context, id string, names ...string) (list []Message, more bool, err error) {
	fail := func(err error) ([]Message, bool, error) {
		return nil, false, fmt.Errorf("messages of coroutine %s: %w", id, err)
	}
	var reads reads
	waiting, err := s.waiting(ctx, id, names, &reads)
	if err != nil {
		return fail(err)
	}
	room := int64(inboxBudget)
	full := map[string]bool{} // names of which there is more
	waiting = slices.DeleteFunc(waiting, func(w waitingMessage) bool {
		switch {
		case w.Err != nil:
			return false
		case full[w.Name] || w.Bytes > room:
			full[w.Name] = true
			return true
		}
		room -= w.Bytes
		return false
	})
	gone := make([]bool, len(waiting))
	err = parallel(ctx, width, len(waiting), func(ctx context.Context, i int) error {
		w := &waiting[i]
		if w.Err != nil || w.whole {
			return nil
		}
		var p *parsedMessage
		err := untilSound(func() (err error) {
			p, err = s.readMessage(ctx, id, messagesPrefix(id)+w.object)
			return err
		})
		switch {
		case errors.Is(err, bucket.ErrNotExist):
			gone[i] = true
		case isMessageProblem(err):
			w.broken(err)
		case err != nil:
			w.Err = err
			return reads.fail(ctx, err)
		default:
			w.Message = p.Message
		}
		return nil
	})
	if err == nil {
		err = reads.err()
	}
	if err != nil {
		return fail(err)
	}
	list = make([]Message, 0, len(waiting))
	for i := range waiting {
		if !gone[i] {
			list = append(list, waiting[i].Message)
		}
	}
	return list, len(full) > 0, nil
}

// PeekInbox returns the messages that wait for a coroutine, in order, without their data. Errors: as Inbox.
func (s *Store) PeekInbox(ctx context.Context, id string) ([]Message, error) {
	var reads reads
	waiting, err := s.waiting(ctx, id, nil, &reads)
	if err == nil {
		err = reads.err()
	}
	if err != nil {
		return nil, fmt.Errorf("messages of coroutine %s: %w", id, err)
	}
	list := make([]Message, len(waiting))
	for i := range waiting {
		list[i] = waiting[i].Message
		list[i].Data = nil
	}
	return list, nil
}

// isMessageProblem reports whether an error is about a message, and not about the storage.
func isMessageProblem(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion) || errors.Is(err, ErrKey)
}

// untilSound calls a function that reads an object, and once more if what it has read is damaged: that may have come on the way.
func untilSound(read func() error) error {
	err := read()
	if errors.Is(err, ErrCorrupt) {
		err = read()
	}
	return err
}

// reads counts reads of an inbox, to tell a failure of the storage to read one message from one to read any. It is safe for
// concurrent use.
type reads struct {
	mu           sync.Mutex
	good, failed int
	last         error
}

// maxFailedReads is how many reads have to fail, and be more than went well, for no more to be tried.
const maxFailedReads = 8

func (r *reads) succeed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.good++
}

// fail notes that a read has failed. It returns an error if it is no use to go on.
func (r *reads) fail(ctx context.Context, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed++
	r.last = err
	if ctx.Err() != nil || r.failed >= maxFailedReads && r.failed > r.good {
		return err
	}
	return nil
}

// err returns an error if more reads have failed than went well.
func (r *reads) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed > r.good {
		return r.last
	}
	return nil
}

// waitingMessage is a message in an inbox.
type waitingMessage struct {
	Message
	object string    // its name
	made   time.Time // by the bucket's clock
	order  time.Time // its place: when it was sent, and not later
	whole  bool      // its data is there, if it has any
}

// broken makes it one that can't be read.
func (w *waitingMessage) broken(err error) {
	w.Message, w.order = Message{Key: w.object, Sent: w.made, Err: err}, w.made
}

// unread makes it one of which nothing could be read.
func (w *waitingMessage) unread(err error) {
	w.broken(err)
	if w.order = (time.Time{}); isMessageKey(w.object) {
		w.order = messageKeyTime(w.object)
	}
}

// waiting returns the messages that wait for a coroutine, or those of some names, in order: their manifests, and the data
// of short ones.
func (s *Store) waiting(ctx context.Context, id string, names []string, reads *reads) ([]waitingMessage, error) {
	if err := ValidID(id); err != nil {
		return nil, err
	}
	objects, err := s.messageObjects(ctx, id)
	if err != nil {
		return nil, err
	}
	all := make([]waitingMessage, len(objects))
	err = parallel(ctx, width, len(objects), func(ctx context.Context, i int) error {
		w := &all[i]
		w.object, w.made = strings.TrimPrefix(objects[i].Key, messagesPrefix(id)), objects[i].ModTime.UTC()
		err := untilSound(func() error { return s.peekMessage(ctx, id, w) })
		switch {
		case isMessageProblem(err):
			w.broken(err)
		case errors.Is(err, bucket.ErrNotExist):
			w.object = "" // received meanwhile
		case err != nil:
			w.unread(err)
			return reads.fail(ctx, err)
		default:
			w.order = w.Sent
		}
		reads.succeed()
		return nil
	})
	if err != nil {
		return nil, err
	}
	asked := make(map[string]bool, len(names))
	for _, name := range names {
		asked[name] = true
	}
	all = slices.DeleteFunc(all, func(w waitingMessage) bool {
		return w.object == "" || w.Err == nil && len(names) > 0 && !asked[w.Name]
	})
	slices.SortFunc(all, func(a, b waitingMessage) int {
		if c := a.order.Compare(b.order); c != 0 {
			return c
		}
		return strings.Compare(a.object, b.object)
	})
	// The same key may be in objects of several names, if the store's key has changed.
	seen := map[string]bool{}
	all = slices.DeleteFunc(all, func(w waitingMessage) bool {
		again := seen[w.Key]
		seen[w.Key] = true
		return again
	})
	return all, nil
}

// messageObjects lists the objects in a coroutine's inbox.
func (s *Store) messageObjects(ctx context.Context, id string) ([]bucket.Entry, error) {
	var list []bucket.Entry
	for e, err := range s.b.List(ctx, bucket.ListOptions{Prefix: messagesPrefix(id)}) {
		if err != nil {
			return nil, err
		}
		if isMessageObject(strings.TrimPrefix(e.Key, messagesPrefix(id))) {
			list = append(list, e)
		}
	}
	return list, nil
}

// peekMessage reads a message's manifest, and its data if it is short.
func (s *Store) peekMessage(ctx context.Context, id string, w *waitingMessage) error {
	key := messagesPrefix(id) + w.object
	h, data, size, err := s.head(ctx, key)
	if err != nil {
		return err
	}
	var p *parsedMessage
	if w.whole = int64(len(data)) == size; w.whole {
		p, err = decodeMessage(data, s.keys)
	} else {
		p, err = parseMessage(h, data, s.keys)
	}
	if err == nil {
		err = p.isMessage(id, w.object)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	w.Message = p.Message
	return nil
}

// Acknowledge deletes messages by their keys: the coroutine has received them, and that was committed. That one isn't there
// is no error. Who drives the coroutine under a lease uses [Lease.Acknowledge].
//
// Errors: [ErrID]; those of the bucket. Some messages may be gone then, and others not.
func (s *Store) Acknowledge(ctx context.Context, id string, keys ...string) error {
	if err := ValidID(id); err != nil {
		return err
	}
	var objects []string
	for _, key := range keys {
		for _, master := range s.senders() {
			if name := messagesPrefix(id) + messageObject(id, key, master); !slices.Contains(objects, name) {
				objects = append(objects, name)
			}
			if isMessageObject(key) {
				break // whatever it is encrypted under
			}
		}
	}
	err := parallel(ctx, width, len(objects), func(ctx context.Context, i int) error { return s.b.Delete(ctx, objects[i]) })
	if err != nil {
		return fmt.Errorf("acknowledge messages of coroutine %s: %w", id, err)
	}
	return nil
}

// senders returns the keys under which messages may have been sent that this store can read, zero for plain ones.
func (s *Store) senders() []Key {
	list := []Key{{}}
	if s.keys != nil {
		list = append(list, s.keys.keys...)
	}
	return list
}

// Acknowledge is [Store.Acknowledge] for the lease's holder. It stops if the lease is lost, so that messages to a coroutine
// of that id which others have created since are left alone.
func (l *Lease) Acknowledge(ctx context.Context, keys ...string) error {
	return l.guarded().Acknowledge(ctx, l.id, keys...)
}

// Cancel ends the coroutine as it stands, without running it: it makes a commit, as the newest, whose status is Cancelled and
// with an exit code, and whose error is the reason. The commit has the state of the hosts, so that what is known of operations and children
// stays known; globals and memory are gone. What waits in the inbox stays, and is nobody's ([Store.Collect]).
//
// Errors: [ErrNotFound]; [ErrEnded]; [ErrCorrupt], [ErrVersion] and [ErrKey] of the newest commit; as [Lease.Commit].
func (l *Lease) Cancel(ctx context.Context, exitCode uint32, reason string) (Commit, error) {
	fail := func(err error) (Commit, error) {
		return Commit{}, fmt.Errorf("cancel coroutine %s: %w", l.id, err)
	}
	chain, err := l.s.Chain(ctx, l.id, 0, nil)
	if err != nil {
		return fail(err)
	}
	if chain.Commit.Status.Ended() {
		return fail(fmt.Errorf("%w: %s", ErrEnded, chain.Commit.Status))
	}
	last, err := chain.State()
	if err != nil {
		return fail(err)
	}
	end := &Snapshot{
		Module: last.Module, ModuleName: last.ModuleName, Coroutine: l.id,
		Seq: chain.Commit.Seq + 1, Parent: chain.Commit.AsParent(), Time: time.Now().Round(0).UTC(),
		Status: Cancelled, ExitCode: exitCode, Error: reason,
		Entry: last.Entry, Args: last.Args, Host: last.Host, Grants: last.Grants,
	}
	return l.Commit(ctx, end)
}
