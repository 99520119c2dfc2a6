package bucket

import (
	"strings"
	"sync"
)

// Watcher is what a bucket may offer that learns of new objects without listing again and again.
type Watcher interface {
	// Watch begins to watch folders, none at first. notify is called with a folder soon after somebody, in whatever process, has
	// put an object directly into it; with "" if objects may have been put into any of them unnoticed; and now and
	// then for nothing. It may be called by any goroutine, several at a time and while Add runs, and must neither wait
	// nor call a method of the watch. It may miss what is done on other machines, where a file system is shared: who relies on it
	// looks for himself now and then. errors.ErrUnsupported says that this bucket can't watch after all.
	Watch(notify func(folder string)) (Watch, error)
}

// Watch is a watch on some of a bucket's folders. Any number of goroutines may use it.
type Watch interface {
	// Add has a folder watched, given as the beginning of its objects' keys up to and with a slash. It need not exist.
	// What is put after Add has returned is noticed.
	Add(folder string) error
	// Remove has a folder watched no longer.
	Remove(folder string)
	// Err returns why not all is noticed any more, such as a limit of the operating system; nil if it is.
	Err() error
	// Close ends the watch. After it has returned, notify is not called any more.
	Close() error
}

// folderOf returns the folder that an object is directly in.
func folderOf(key string) string { return key[:strings.LastIndexByte(key, '/')+1] }

// memWatch is a watch on a [Mem].
type memWatch struct {
	m       *Mem
	notify  func(string)
	mu      sync.RWMutex // held while notify is called, so that Close waits
	folders map[string]bool
	closed  bool
}

// Watch implements [Watcher]. notify is called before Put returns.
func (m *Mem) Watch(notify func(folder string)) (Watch, error) {
	w := &memWatch{m: m, notify: notify, folders: map[string]bool{}}
	m.watchMu.Lock()
	defer m.watchMu.Unlock()
	if m.watches == nil {
		m.watches = map[*memWatch]bool{}
	}
	m.watches[w] = true
	return w, nil
}

// noticed tells the watches of a new object.
func (m *Mem) noticed(key string) {
	m.watchMu.RLock()
	defer m.watchMu.RUnlock()
	for w := range m.watches {
		w.noticed(folderOf(key))
	}
}

func (w *memWatch) noticed(folder string) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if !w.closed && w.folders[folder] {
		w.notify(folder)
	}
}

// Add implements [Watch].
func (w *memWatch) Add(folder string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.folders[folder] = true
	return nil
}

// Remove implements [Watch].
func (w *memWatch) Remove(folder string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.folders, folder)
}

// Err implements [Watch].
func (w *memWatch) Err() error { return nil }

// Close implements [Watch].
func (w *memWatch) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.m.watchMu.Lock()
	defer w.m.watchMu.Unlock()
	delete(w.m.watches, w)
	return nil
}
