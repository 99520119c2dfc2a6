package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// Driven returns a function that says whether somebody drives a coroutine now, and who, as far as that is known. It is
// for a moment's use: for many coroutines, it has looked at the store once.
func (s *Store) Driven(ctx context.Context) (func(id string) (Holder, bool), error) {
	if _, ok := s.b.(bucket.Locker); ok {
		return func(id string) (Holder, bool) {
			abandoned := s.hasNote(id)
			release, err := s.b.(bucket.Locker).TryLock(ctx, leasesPrefix+id)
			if err == nil {
				if abandoned { // the next one doesn't see that any more
					_ = s.settle(ctx, id)
				}
				_ = release()
			}
			if !errors.Is(err, bucket.ErrLocked) {
				return Holder{}, false
			}
			return s.noted(id), true
		}, nil
	}
	found, err := s.leases(ctx, leasesPrefix)
	if err != nil {
		return nil, fmt.Errorf("look for drivers: %w", err)
	}
	now, ok := s.storeTime(ctx)
	if !ok {
		now = time.Now()
	}
	held := map[string]Holder{}
	for _, f := range found {
		if now.Before(f.made.Add(f.holder.TTL)) && !f.holder.gone() {
			held[f.id] = f.holder
		}
	}
	return func(id string) (Holder, bool) {
		h, ok := held[id]
		return h, ok
	}, nil
}

// Computing lets others know that the program computes, since a time, after its wait of the last commit has ended, whose
// number is after. A lock says so at once, any other lease when it is renewed the next time. It may be called by any
// goroutine, also when the lease is held no more.
func (l *Lease) Computing(since time.Time, after uint64) {
	l.mu.Lock()
	l.computing, l.after = since.UTC().Truncate(time.Millisecond), after
	l.mu.Unlock()
	if l.release != nil {
		l.note()
	}
}

// says is what others can read of the lease.
func (l *Lease) says() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saying()
}

// saying is says for who holds the mutex.
func (l *Lease) saying() []byte {
	h := l.holder
	h.Computing, h.After = l.computing, l.after
	return h.encode()
}

// note writes that to the lock, where the bucket's locks have notes. What it says is for people; that it is there when the lock is
// free says that somebody has died with it.
func (l *Lease) note() {
	b, ok := l.s.b.(bucket.Noter)
	if !ok {
		return
	}
	// Release waits for it: after that the lock may be somebody else's.
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		_ = b.SetNote(leasesPrefix+l.id, l.saying())
	}
}

// noted returns who holds a coroutine's lock, as far as its note says.
func (s *Store) noted(id string) Holder {
	b, ok := s.b.(bucket.Noter)
	if !ok {
		return Holder{}
	}
	note, err := b.Note(leasesPrefix+id, maxLeaseObject)
	if err != nil || len(note) == 0 {
		return Holder{}
	}
	h := decodeHolder(note)
	if h.TTL = 0; h.gone() {
		return Holder{} // left by one that has died, and the next has not written its own yet
	}
	return h
}

// hasNote reports whether a coroutine's lock has a note, which one that is released has not: its holder is there, or has died.
func (s *Store) hasNote(id string) bool {
	b, ok := s.b.(bucket.Noter)
	if !ok {
		return false
	}
	note, err := b.Note(leasesPrefix+id, 1)
	return err == nil && len(note) > 0
}

// settle makes the newest commit of a coroutine durable, and the last log: whoever died may have put either, and not have
// come to see that it is. What is done for a commit that can be read has to be done after it.
func (s *Store) settle(ctx context.Context, id string) error {
	b, ok := s.b.(bucket.Syncer)
	if !ok {
		return nil
	}
	var keys []string
	if e, ok, err := s.first(ctx, id); err != nil {
		return err
	} else if ok {
		keys = append(keys, e.Key)
	}
	logs, _, err := s.listLogs(ctx, id)
	if err != nil {
		return err
	}
	if n := len(logs); n > 0 {
		keys = append(keys, logs[n-1].Key)
	}
	for _, key := range keys {
		if err := b.Sync(ctx, key); err != nil && !errors.Is(err, bucket.ErrNotExist) {
			return err
		}
	}
	return nil
}
