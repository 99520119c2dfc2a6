package file

import (
	"errors"
	"path/filepath"
	"time"
)

const (
	// staleAfter is how old a temporary file must be before another process asks whether its writer is still there; it
	// covers the moment between the file's creation and its lock.
	staleAfter = time.Minute
	// staleUnlocked is the age at which it is removed where files can't be locked.
	staleUnlocked = 24 * time.Hour
	// cleanEvery is how often a bucket looks for stale files, at most.
	cleanEvery = 10 * time.Minute
)

// clean removes the temporary files of writers that have died.
func (b *Bucket) clean() {
	b.mu.Lock()
	now := time.Now()
	due := now.Sub(b.cleaned) >= cleanEvery
	if due {
		b.cleaned = now
	}
	b.mu.Unlock()
	if !due {
		return
	}
	dir := b.path(tmpDir)
	for e, err := range b.fs.ReadDir(dir) {
		if err != nil {
			return
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < staleAfter {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := b.fs.Open(name)
		if err != nil {
			continue
		}
		dead, err := f.TryLock()
		if errors.Is(err, errors.ErrUnsupported) {
			dead = now.Sub(info.ModTime()) >= staleUnlocked
		}
		if filepath.Separator == '\\' { // an open file can't be removed there
			_ = f.Close()
		}
		if dead {
			_ = b.fs.Remove(name)
		}
		_ = f.Close()
	}
}
