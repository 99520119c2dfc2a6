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

// DefaultInboxInterval is how often an [InboxWatcher] looks for messages where it isn't told.
const DefaultInboxInterval = time.Second

const (
	// askSingly is for how many coroutines each inbox is listed by itself. For more there is one listing of all.
	askSingly = 4
	// eager is how much more often it is looked after a message has come: others may be on their way.
	eager = 4
	// carefree is how much less often it is looked where the bucket tells of messages.
	carefree = 10
	// maxShare limits what looking takes to one part in so many of the time.
	maxShare = 4
	// maxInboxBackoff is how long it is waited, at most, after an error.
	maxInboxBackoff = 30 * time.Second
)

// InboxWatcherOptions says how an [InboxWatcher] watches. The zero value is what most want.
type InboxWatcherOptions struct {
	// Interval is how often it looks for messages where the bucket doesn't tell of them; 0 stands for
	// [DefaultInboxInterval]. It looks more often after one has come, and less often if looking takes long.
	Interval time.Duration
	// OnError is called with what keeps it from looking, each time; nil for nobody. It goes on trying.
	OnError func(error)
}

// InboxWatcher tells when messages come, for any number of coroutines at once: a process needs one. Where the bucket can
// watch ([bucket.Watcher]: in memory, and a folder on Linux), it is told of each message at once, and looks
// around only now and then, for what comes from other machines. Elsewhere it looks once in an interval, with one listing for
// all. It is one goroutine, however many it watches for. Its methods may be called by any number of goroutines.
type InboxWatcher struct {
	s *Store
	o InboxWatcherOptions

	turn sync.Mutex   // held while ids are added to told, or removed
	told bucket.Watch // nil if the bucket doesn't tell
	deaf sync.Once    // that not all ids could be added is an error once

	mu    sync.Mutex
	ids   map[string]*watchedInbox
	until time.Time // when it is looked next, zero for never: there is nothing to look for

	wake   chan struct{} // that until has changed
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

// watchedInbox is the inbox of a coroutine.
type watchedInbox struct {
	watchers map[*func()]bool
	seen     []seenMessage // ascending; those that were there when it was last looked
}

// seenMessage tells a message's object from one of the same name that was put later.
type seenMessage struct {
	object string
	made   time.Time
}

// NewInboxWatcher returns a watcher for the coroutines of a store, none at first. The caller closes it, before the store's
// bucket.
func NewInboxWatcher(s *Store, o InboxWatcherOptions) *InboxWatcher {
	if o.Interval <= 0 {
		o.Interval = DefaultInboxInterval
	}
	w := &InboxWatcher{s: s, o: o, ids: map[string]*watchedInbox{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	if b, ok := s.b.(bucket.Watcher); ok {
		told, err := b.Watch(w.heard)
		if err == nil {
			w.told = told
		} else if !errors.Is(err, errors.ErrUnsupported) {
			w.failed(err)
		}
	}
	go w.run()
	return w
}

// Watch has notify called soon after a message has come for a coroutine, until stop; and now and then for nothing. It is not
// told of messages that were there before: who calls Watch and then looks into the inbox misses none. notify must neither
// wait, nor send a message, nor call a method of the watcher; it may be called once more just after stop. The coroutine need not
// exist.
func (w *InboxWatcher) Watch(id string, notify func()) (stop func()) {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	in := w.ids[id]
	if in == nil {
		in = &watchedInbox{watchers: map[*func()]bool{}}
		w.ids[id] = in
	}
	in.watchers[&notify] = true
	first := len(in.watchers) == 1
	w.mu.Unlock()
	if first {
		if w.told != nil {
			if err := w.told.Add(messagesPrefix(id)); err != nil {
				w.deaf.Do(func() { w.failed(err) })
			}
		}
		w.lookWithin(w.interval())
	}
	return sync.OnceFunc(func() { w.stop(id, &notify) })
}

func (w *InboxWatcher) stop(id string, notify *func()) {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	in := w.ids[id]
	delete(in.watchers, notify)
	last := len(in.watchers) == 0
	if last {
		delete(w.ids, id)
	}
	w.mu.Unlock()
	if last && w.told != nil {
		w.told.Remove(messagesPrefix(id))
	}
}

// Close ends the watcher: nobody is notified after.
func (w *InboxWatcher) Close() error {
	w.cancel()
	<-w.done
	w.turn.Lock()
	defer w.turn.Unlock()
	if w.told == nil {
		return nil
	}
	return w.told.Close()
}

func (w *InboxWatcher) failed(err error) {
	if w.o.OnError != nil {
		w.o.OnError(fmt.Errorf("look for messages: %w", err))
	}
}

// interval returns how often it is looked.
func (w *InboxWatcher) interval() time.Duration {
	if w.told != nil && w.told.Err() == nil {
		return w.o.Interval * carefree
	}
	return w.o.Interval
}

// lookWithin has it looked within a time.
func (w *InboxWatcher) lookWithin(d time.Duration) {
	until := time.Now().Add(d)
	w.mu.Lock()
	sooner := w.until.IsZero() || until.Before(w.until)
	if sooner {
		w.until = until
	}
	w.mu.Unlock()
	if sooner {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// heard is told by the bucket that something was put into a folder, or "" that something may have been.
func (w *InboxWatcher) heard(folder string) {
	if folder == "" {
		w.lookWithin(0)
		return
	}
	w.notify(strings.TrimSuffix(strings.TrimPrefix(folder, inboxPrefix), "/"))
}

func (w *InboxWatcher) notify(id string) {
	if w.ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	var list []*func()
	if in := w.ids[id]; in != nil {
		for notify := range in.watchers {
			list = append(list, notify)
		}
	}
	w.mu.Unlock()
	for _, notify := range list {
		(*notify)()
	}
}

// run looks when it is time.
func (w *InboxWatcher) run() {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := w.o.Interval // after the next look at which nothing has come
	for {
		w.mu.Lock()
		until := w.until
		w.mu.Unlock()
		var due <-chan time.Time
		if !until.IsZero() {
			timer.Reset(time.Until(until))
			due = timer.C
		}
		select {
		case <-w.ctx.Done():
			return
		case <-w.wake:
			continue
		case <-due:
		}
		w.mu.Lock()
		w.until = time.Time{}
		idle := len(w.ids) == 0
		w.mu.Unlock()
		if idle {
			continue
		}
		start := time.Now()
		came, err := w.look()
		took := time.Since(start)
		switch most := w.interval(); {
		case w.ctx.Err() != nil:
			return
		case err != nil:
			w.failed(err)
			pause = min(max(2*pause, w.o.Interval), maxInboxBackoff)
		case came && most == w.o.Interval:
			pause = w.o.Interval / eager
		default:
			pause = min(2*pause, most)
		}
		w.lookWithin(max(pause, maxShare*took))
	}
}

// look lists the inboxes, and notifies those to which something has come. It reports whether there are any.
func (w *InboxWatcher) look() (came bool, err error) {
	w.mu.Lock()
	prefixes := []string{inboxPrefix}
	if len(w.ids) <= askSingly {
		prefixes = prefixes[:0]
		for id := range w.ids {
			prefixes = append(prefixes, messagesPrefix(id))
		}
	}
	w.mu.Unlock()
	there := map[string][]seenMessage{}
	for _, prefix := range prefixes {
		for e, err := range w.s.b.List(w.ctx, bucket.ListOptions{Prefix: prefix}) {
			if err != nil {
				return false, err
			}
			id, object, ok := strings.Cut(strings.TrimPrefix(e.Key, inboxPrefix), "/")
			if !ok || !isMessageObject(object) {
				continue
			}
			w.mu.Lock()
			_, wanted := w.ids[id]
			w.mu.Unlock()
			if wanted {
				there[id] = append(there[id], seenMessage{object, e.ModTime})
			}
		}
	}
	var list []string
	w.mu.Lock()
	for id, in := range w.ids {
		if in.seen == nil && there[id] == nil {
			continue
		}
		if slices.ContainsFunc(there[id], func(m seenMessage) bool { return !in.has(m) }) {
			list = append(list, id)
		}
		in.seen = there[id]
	}
	w.mu.Unlock()
	for _, id := range list {
		w.notify(id)
	}
	return len(list) > 0, nil
}

// has reports whether a message was there when it was last looked.
func (in *watchedInbox) has(m seenMessage) bool {
	i, ok := slices.BinarySearchFunc(in.seen, m.object, func(s seenMessage, object string) int { return strings.Compare(s.object, object) })
	return ok && in.seen[i].made.Equal(m.made)
}
