package file

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/durun/durun/snapshot/bucket"
)

// TryLock implements [bucket.Locker] with flock: the lock is gone when the process is, however it ends.
func (b *Bucket) TryLock(ctx context.Context, key string) (func() error, error) {
	if err := check(ctx, "lock", key); err != nil {
		return nil, err
	}
	rel := lockPath(key)
	for try := 0; ; try++ {
		if _, err := b.mkdirs(lockDir); err != nil {
			return nil, wrap("lock", key, err)
		}
		l, err := b.fs.Lock(b.path(rel))
		if full(err) && b.lendSpare(rel) {
			l, err = b.fs.Lock(b.path(rel))
		}
		switch {
		case errors.Is(err, errHeld):
			return nil, &bucket.Error{Op: "lock", Key: key, Kind: bucket.ErrLocked}
		case errors.Is(err, fs.ErrNotExist) && try < 3:
			b.forget()
			continue
		case err != nil:
			return nil, wrap("lock", key, err)
		}
		// What one that died with the lock has left is not this one's.
		if info, err := l.Stat(); err != nil || info.Size() > 0 {
			if err == nil {
				err = writeNote(l, nil)
			}
			if err != nil {
				_ = l.Close()
				return nil, wrap("lock", key, err)
			}
		}
		b.spare.Do(b.makeSpare)
		b.mu.Lock()
		b.held[key] = l
		b.mu.Unlock()
		return sync.OnceValue(func() error {
			b.mu.Lock()
			delete(b.held, key)
			b.mu.Unlock()
			_ = b.fs.Remove(b.path(rel)) // before it is unlocked; see osFS.Lock
			return wrap("lock", key, l.Close())
		}), nil
	}
}

// spareLock is a file that no lock has for itself, and any can have where there is no room to make one: room is made by
// removing coroutines, which takes their locks.
const spareLock = lockDir + "/.spare"

// makeSpare makes the spare file, while there is room.
func (b *Bucket) makeSpare() {
	if f, err := b.fs.Create(b.path(spareLock)); err == nil {
		_ = f.Close()
	}
}

// lendSpare gives the spare file a lock's name, which takes no room, or next to none. All locks that have it are one: of two
// that are wanted at a time, one looks as if somebody held it.
func (b *Bucket) lendSpare(rel string) bool {
	err := b.fs.Link(b.path(spareLock), b.path(rel))
	return err == nil || errors.Is(err, fs.ErrExist)
}

func lockPath(key string) string { return lockDir + "/" + strings.ReplaceAll(key, "/", "+") }

// A lock file has its note's length, in four bytes, and the note. It starts after the first byte: Windows lets nobody else
// read what is locked. A file is never cut: closing one that was takes ext4 as long as an fsync.
const (
	noteOffset = 1
	noteHead   = 4
)

func writeNote(l lockFile, note []byte) error {
	_, err := l.WriteAt(append(binary.LittleEndian.AppendUint32(nil, uint32(len(note))), note...), noteOffset)
	return err
}

// SetNote implements [bucket.Noter].
func (b *Bucket) SetNote(key string, note []byte) error {
	// Held until it is written: a lock that is released is no longer there.
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.held[key]
	if l == nil {
		return &bucket.Error{Op: "note", Key: key, Kind: bucket.ErrNotExist}
	}
	return wrap("note", key, writeNote(l, note))
}

// Note implements [bucket.Noter].
func (b *Bucket) Note(key string, max int) ([]byte, error) {
	f, err := b.fs.Open(b.path(lockPath(key)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap("note", key, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, noteOffset, int64(noteHead+max)))
	if err != nil || len(data) < noteHead {
		return nil, wrap("note", key, err)
	}
	size, note := binary.LittleEndian.Uint32(data), data[noteHead:]
	return note[:min(uint64(size), uint64(len(note)))], nil
}

var _ bucket.Noter = (*Bucket)(nil)
