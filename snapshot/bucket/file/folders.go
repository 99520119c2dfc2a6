package file

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"github.com/durun/durun/snapshot/bucket"
)

// maxSynced is how many folders are remembered to be durable.
const maxSynced = 1 << 16

// way is what has to be synced for something in a folder to be durable.
type way struct {
	folders  []string // that folder first, then the parents up to the first that is known to hold what is below it
	removals int      // what the bucket's was when they were looked at
}

// mkdirs makes a folder and each parent below the root, rel being slash-separated and relative to that. It returns what
// has to be synced to make the folder's new entries durable: every parent once in a process, since another process may
// have made the folder and died before its fsync.
func (b *Bucket) mkdirs(rel string) (way, error) { return b.walk(rel, true) }

// walk is mkdirs, or returns the same of a folder that is there.
func (b *Bucket) walk(rel string, mkdir bool) (way, error) {
	w := way{folders: []string{rel}}
	b.mu.Lock()
	w.removals = b.removals
	known := rel == "." || b.synced[rel]
	b.mu.Unlock()
	if known {
		return w, nil
	}
	up, err := b.walk(path.Dir(rel), mkdir)
	if err != nil {
		return w, err
	}
	if mkdir {
		if err := b.fs.Mkdir(b.path(rel)); err != nil && !errors.Is(err, fs.ErrExist) {
			return w, err
		}
	}
	if info, err := b.fs.Stat(b.path(rel)); err != nil {
		return w, err
	} else if !info.IsDir() {
		return w, &bucket.Error{Op: "put", Key: rel, Kind: bucket.ErrKey, Err: errors.New("there is an object of that name, which can't be a folder")}
	}
	w.folders = append(w.folders, up.folders...)
	return w, nil
}

// settle makes the entries of a way's folders durable. A journaling file system writes all of them with the first.
func (b *Bucket) settle(w way) error {
	for _, rel := range w.folders {
		if err := b.fs.SyncDir(b.path(rel)); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.removals != w.removals {
		return nil // a folder may have been made anew since, by somebody who is yet to sync it
	}
	if len(b.synced) >= maxSynced {
		clear(b.synced)
	}
	for _, rel := range w.folders[:len(w.folders)-1] {
		b.synced[rel] = true
	}
	return nil
}

func (b *Bucket) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.synced)
	b.removals++
}

// Sync implements [bucket.Syncer].
func (b *Bucket) Sync(ctx context.Context, key string) error {
	if err := check(ctx, "sync", key); err != nil {
		return err
	}
	return wrap("sync", key, b.sync(key))
}

// sync makes an object durable that is there. Its content is, as a rule, unless it was put with NoSync.
func (b *Bucket) sync(key string) error {
	if b.noSync {
		return nil
	}
	f, err := b.fs.Open(b.path(key))
	if err != nil {
		return err
	}
	err = f.Sync()
	_ = f.Close()
	if err != nil {
		return err
	}
	w, err := b.walk(path.Dir(key), false) // the object may be gone, and its folder: then that is to stay so
	if err != nil {
		return err
	}
	return b.settle(w)
}

// prune removes a folder and its parents below the root, as far as they are empty. It returns the first that stays.
func (b *Bucket) prune(dir string) string {
	for ; dir != "."; dir = path.Dir(dir) {
		b.mu.Lock()
		known := b.synced[dir]
		delete(b.synced, dir)
		b.removals++
		removals := b.removals
		b.mu.Unlock()
		if err := b.fs.Remove(b.path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) { // not empty, as a rule
			b.mu.Lock()
			if known && b.removals == removals {
				b.synced[dir] = true
			}
			b.mu.Unlock()
			break
		}
	}
	return dir
}
