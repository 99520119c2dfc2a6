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
			release, err := s.b.(bucket.Locker).TryLock(ctx, leasesPrefix+id)
			if err == nil {
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

// note writes that to the lock, where the bucket's locks have notes. It is for people: nothing depends on it.
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
