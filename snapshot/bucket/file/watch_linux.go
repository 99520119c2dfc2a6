package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/durun/durun/snapshot/bucket"
)

// watched is what an inotify watch on a folder is for: what comes into it, be it an object or a folder. That the folder itself
// goes is told in any case.
const watched = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

// watch watches folders with inotify(7): of each folder that is added those that exist from the root to it. When one
// comes to be, the next is watched, and what is in it already counts as new. Folders here are without their slash, "." for the root.
type watch struct {
	b      *Bucket
	f      *os.File // of the inotify instance
	fd     int
	notify func(folder string)
	done   chan struct{} // closed when run has returned

	mu      sync.Mutex
	folders map[string]bool
	above   map[string]int // how many of the folders, and of those above them, are directly in each
	names   map[int32]string
	numbers map[string]int32 // the newest of each folder: the number of one that was removed lives on until its last event
	err     error
	closed  bool
}

// Watch implements [bucket.Watcher] where the folder is one of the operating system. Errors: [bucket.ErrUnavailable] where the
// user has too many watches already.
func (b *Bucket) Watch(notify func(folder string)) (bucket.Watch, error) {
	if !b.onDisk() {
		return nil, errors.ErrUnsupported
	}
	fail := func(err error) (bucket.Watch, error) {
		return nil, &bucket.Error{Op: "watch", Key: b.root, Kind: bucket.ErrUnavailable, Err: err}
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fail(os.NewSyscallError("inotify_init1", err))
	}
	w := &watch{
		b: b, f: os.NewFile(uintptr(fd), "inotify"), fd: fd, notify: notify, done: make(chan struct{}),
		folders: map[string]bool{}, above: map[string]int{}, names: map[int32]string{}, numbers: map[string]int32{},
	}
	if err := w.number("."); err != nil {
		_ = w.f.Close()
		return fail(err)
	}
	go w.run()
	return w, nil
}

// number has a folder watched that is there.
func (w *watch) number(rel string) error {
	n, err := unix.InotifyAddWatch(w.fd, w.b.path(rel), watched)
	if err != nil {
		return os.NewSyscallError("inotify_add_watch", err)
	}
	w.names[int32(n)], w.numbers[rel] = rel, int32(n)
	return nil
}

// Add implements [bucket.Watch].
func (w *watch) Add(folder string) error {
	rel, ok := strings.CutSuffix(folder, "/")
	if !ok || bucket.ValidKey(rel) != nil {
		return &bucket.Error{Op: "watch", Key: folder, Kind: bucket.ErrKey, Err: errors.New("it is not a folder's")}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return &bucket.Error{Op: "watch", Key: folder, Kind: bucket.ErrUnavailable, Err: os.ErrClosed}
	}
	if w.folders[rel] {
		return nil
	}
	w.folders[rel] = true
	// From the first folder on that is not watched yet: it may be there, or come when the one above is watched.
	top := rel
	for dir := path.Dir(rel); ; dir = path.Dir(dir) {
		w.above[dir]++
		if w.above[dir] > 1 || dir == "." {
			break
		}
	}
	for dir := path.Dir(rel); dir != "."; dir = path.Dir(dir) {
		if _, ok := w.numbers[dir]; !ok {
			top = dir
		}
	}
	w.reach(top, nil)
	if w.err != nil {
		return &bucket.Error{Op: "watch", Key: folder, Kind: bucket.ErrUnavailable, Err: w.err}
	}
	return nil
}

// Remove implements [bucket.Watch].
func (w *watch) Remove(folder string) {
	rel := strings.TrimSuffix(folder, "/")
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.folders[rel] {
		return
	}
	delete(w.folders, rel)
	w.leave(rel)
	for dir := path.Dir(rel); ; dir = path.Dir(dir) {
		w.above[dir]--
		if w.above[dir] > 0 {
			break
		}
		delete(w.above, dir)
		if dir == "." {
			break
		}
		w.leave(dir)
	}
}

// leave stops watching a folder, if it is for nothing any more.
func (w *watch) leave(rel string) {
	n, ok := w.numbers[rel]
	if !ok || w.folders[rel] || w.above[rel] > 0 || w.closed {
		return
	}
	delete(w.numbers, rel)
	delete(w.names, n)
	_, _ = unix.InotifyRmWatch(w.fd, uint32(n)) // it may be gone already
}

// reach has a folder watched, if it is there, and those below it that are on the way to one that was added. It appends to
// found those that were added.
func (w *watch) reach(rel string, found []string) []string {
	switch err := w.number(rel); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return found // it will be noticed
	case err != nil:
		if w.err == nil {
			w.err = fmt.Errorf("%s: %w", rel, err)
		}
	}
	if w.folders[rel] {
		found = append(found, rel)
	}
	if w.above[rel] == 0 {
		return found
	}
	for e, err := range w.b.fs.ReadDir(w.b.path(rel)) {
		if err != nil {
			break // it has gone again
		}
		below := path.Join(rel, e.Name())
		if e.IsDir() && (w.folders[below] || w.above[below] > 0) {
			found = w.reach(below, found)
		}
	}
	return found
}

// run reads events until the watch is closed.
func (w *watch) run() {
	defer close(w.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		var found []string
		w.mu.Lock()
		switch {
		case w.closed:
			w.mu.Unlock()
			return
		case err != nil:
			w.err = err
		default:
			found = w.events(buf[:n])
		}
		w.mu.Unlock()
		for _, rel := range found {
			w.notify(rel)
		}
		if err != nil {
			w.notify("")
			return
		}
	}
}

// events sorts out what was read, and returns what is to be told: folders, with their slash, each once, or "".
func (w *watch) events(b []byte) []string {
	var told []string
	seen := map[string]bool{}
	tell := func(folder string) {
		if !seen[folder] {
			seen[folder] = true
			told = append(told, folder)
		}
	}
	for len(b) >= unix.SizeofInotifyEvent {
		number := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		name, _, _ := strings.Cut(string(b[unix.SizeofInotifyEvent:end]), "\x00")
		b = b[end:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			clear(w.names) // of some it was not told that they are gone
			clear(w.numbers)
			w.reach(".", nil)
			tell("")
			continue
		}
		dir, ok := w.names[number]
		switch {
		case !ok: // left
		case mask&unix.IN_IGNORED != 0:
			delete(w.names, number)
			if w.numbers[dir] == number {
				delete(w.numbers, dir)
			}
		case mask&unix.IN_ISDIR != 0:
			below := path.Join(dir, name)
			if w.folders[below] || w.above[below] > 0 {
				for _, rel := range w.reach(below, nil) {
					tell(rel + "/")
				}
			}
		case w.folders[dir]:
			tell(dir + "/")
		}
	}
	return told
}

// Err implements [bucket.Watch].
func (w *watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close implements [bucket.Watch].
func (w *watch) Close() error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	var err error
	if !closed {
		err = w.f.Close()
	}
	<-w.done
	return err
}

// onDisk reports whether the bucket is in the operating system's file system.
func (b *Bucket) onDisk() bool {
	fs := b.fs
	if u, ok := fs.(unsyncedFS); ok {
		fs = u.fsys
	}
	_, ok := fs.(osFS)
	return ok
}

var _ bucket.Watcher = (*Bucket)(nil)
