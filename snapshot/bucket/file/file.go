package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	mrand "math/rand/v2"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

const (
	private = ".durun" // no key's part starts with a dot
	tmpDir  = private + "/tmp"
	lockDir = private + "/locks"

	// staleAfter is how old a temporary file must be before another process asks whether its writer is still there; it
	// covers the moment between the file's creation and its lock.
	staleAfter = time.Minute
	// staleUnlocked is the age at which it is removed where files can't be locked.
	staleUnlocked = 24 * time.Hour
	// cleanEvery is how often a bucket looks for stale files, at most.
	cleanEvery = 10 * time.Minute

	chunk     = 256 << 10
	maxSynced = 1 << 16

	// A put whose folder goes away meanwhile is done anew: eagerTries times at once, then after pauses of up to maxPause.
	eagerTries = 10
	maxTries   = 200
	maxPause   = 10 * time.Millisecond
)

var errHeld = errors.New("held")

// Bucket is a bucket in a folder. It implements [bucket.Bucket], [bucket.Noter], [bucket.Syncer] and [bucket.Spooler], and
// on Linux [bucket.Watcher].
// Any number of goroutines and processes may use a folder at once.
type Bucket struct {
	root   string
	fs     fsys
	noSync bool

	named atomic.Bool // files have to be made with a name here

	mu       sync.Mutex
	held     map[string]lockFile // by key
	synced   map[string]bool     // folders known to be durable in their parents, and so up to the root
	removals int                 // how many folders were removed, or found to be gone
	cleaned  time.Time
}

// Options are what may be chosen about a bucket in a folder. The zero value is what [Open] takes.
type Options struct {
	// NoSync leaves it to the operating system when an object becomes durable: Put and Delete don't call fsync, and are
	// several times as fast. Nothing is lost when a process dies, however it dies. When the machine does, what was put in
	// its last half minute or so may be missing, or be there with bytes missing, though Put had returned.
	NoSync bool
	// Existing opens a folder that is there, and makes none: [bucket.ErrNoBucket] is the error where there is none.
	Existing bool
}

// Open opens the bucket in the folder root, which is made, with mode 0700, if it is not there. A folder that can't be
// written to can still be read from.
//
// Errors: [bucket.ErrPermission], [bucket.ErrUnavailable], [bucket.ErrURL] if root is no folder.
func Open(root string) (*Bucket, error) { return OpenOptions(root, Options{}) }

// OpenOptions is Open with options.
func OpenOptions(root string, o Options) (*Bucket, error) {
	if o.Existing {
		if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
			return nil, &bucket.Error{Op: "open", Key: root, Kind: bucket.ErrNoBucket}
		}
	}
	b, err := open(osFS{}, root)
	if err != nil {
		return nil, err
	}
	if o.NoSync {
		b.leaveUnsynced()
	}
	return b, nil
}

// leaveUnsynced is for [Options].NoSync. The root folder is durable then, if this process made it: others rely on that.
func (b *Bucket) leaveUnsynced() { b.fs, b.noSync = unsyncedFS{b.fs}, true }

// OpenURL is the [bucket.Opener] of file:// and of plain paths. The URL's query may have sync=false, for [Options].NoSync,
// and create=false, for [Options].Existing; each may be true as well, which is how it is without.
func OpenURL(_ context.Context, u *url.URL) (bucket.Bucket, error) {
	fail := func(why string) (bucket.Bucket, error) {
		return nil, &bucket.Error{Op: "open", Key: u.String(), Kind: bucket.ErrURL, Err: errors.New(why)}
	}
	switch {
	case u.Host != "" && u.Host != "localhost":
		return fail(fmt.Sprintf("the folder of another host, %q; an absolute path needs three slashes: file:///path", u.Host))
	case u.Fragment != "" || u.User != nil:
		return fail("a folder has neither a user nor a fragment; write # as %23")
	case !strings.HasPrefix(u.Path, "/"):
		return fail("the path is not absolute")
	}
	o, err := optionsOf(u.RawQuery)
	if err != nil {
		return fail(err.Error())
	}
	root := u.Path
	if filepath.Separator == '\\' && len(root) > 2 && root[2] == ':' { // /C:/…
		root = root[1:]
	}
	b, err := OpenOptions(filepath.FromSlash(root), o)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// optionsOf reads a URL's query.
func optionsOf(query string) (o Options, err error) {
	values, err := url.ParseQuery(query)
	for name, v := range values {
		switch last := v[len(v)-1]; {
		case len(v) > 1, last != "true" && last != "false":
			err = errUnknownOption
		case name == "sync":
			o.NoSync = last == "false"
		case name == "create":
			o.Existing = last == "false"
		default:
			err = errUnknownOption
		}
	}
	if err != nil {
		return Options{}, errUnknownOption
	}
	return o, nil
}

var errUnknownOption = errors.New("the only options of a folder are sync=false and create=false, or =true; write a ? in its name as %3F")

func open(fsys fsys, root string) (*Bucket, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, &bucket.Error{Op: "open", Key: root, Kind: bucket.ErrURL, Err: err}
	}
	b := &Bucket{root: root, fs: fsys, held: map[string]lockFile{}, synced: map[string]bool{}}
	switch info, err := fsys.Stat(root); {
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		if to, err := filepath.EvalSymlinks(root); err != nil {
			return nil, wrap("open", root, err)
		} else if b.root = to; b.root != root {
			return open(fsys, to)
		}
	case err == nil && !info.IsDir():
		return nil, &bucket.Error{Op: "open", Key: root, Kind: bucket.ErrURL, Err: errors.New("it is not a folder")}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, wrap("open", root, err)
	case err != nil:
		if err := b.makeRoot(root); err != nil {
			return nil, wrap("open", root, err)
		}
	}
	return b, nil
}

// makeRoot makes the root folder and its parents, durably.
func (b *Bucket) makeRoot(dir string) error {
	parent := filepath.Dir(dir)
	err := b.fs.Mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := b.makeRoot(parent); err != nil {
			return err
		}
		err = b.fs.Mkdir(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return b.fs.SyncDir(parent)
}

// URL implements [bucket.Bucket].
func (b *Bucket) URL() string {
	root := filepath.ToSlash(b.root)
	if !strings.HasPrefix(root, "/") {
		root = "/" + root
	}
	u := url.URL{Scheme: "file", Path: root}
	if b.noSync {
		u.RawQuery = "sync=false"
	}
	return u.String()
}

// Close implements [bucket.Bucket].
func (b *Bucket) Close() error { return nil }

func (b *Bucket) path(key string) string { return filepath.Join(b.root, filepath.FromSlash(key)) }

// Put implements [bucket.Bucket].
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := check(ctx, "put", key); err != nil {
		return err
	}
	final := b.path(key)
	switch info, err := b.fs.Stat(final); {
	case err == nil && info.IsDir():
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrKey, Err: errors.New("there is a folder of that name")}
	case err == nil:
		return b.exists(key)
	}
	b.clean()
	err := b.putAgain(ctx, key, final, body, size)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return b.exists(key)
	}
	b.prune(path.Dir(key)) // which may have been made for this
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrUnavailable, Err: err}
	}
	return wrap("put", key, err)
}

// putAgain puts until no folder goes away meanwhile. Whoever empties a folder may remove it, and a cleaner may take a writer
// that was stopped for long for dead: then link finds nothing, and all is done anew. Nothing is, once the object was there.
// Each such failure is due to a deletion elsewhere, and a put leaves what it has made to its next try: puts don't fail each
// other, and somebody always gets on.
func (b *Bucket) putAgain(ctx context.Context, key, final string, body io.ReaderAt, size int64) error {
	for try := 0; ; try++ {
		err := b.put(ctx, key, final, body, size)
		if !errors.Is(err, fs.ErrNotExist) || try == maxTries {
			return err
		}
		if _, gone := b.fs.Stat(b.root); gone != nil {
			return err // unmounted, or removed
		}
		b.forget()
		if try < eagerTries {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(mrand.N(maxPause)): // out of step with whoever deletes
		}
	}
}

// exists is what Put returns for an object that is there: ErrExist, once the object is durable, or was deleted meanwhile.
func (b *Bucket) exists(key string) error {
	if err := b.sync(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrap("put", key, err)
	}
	return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrExist}
}

func (b *Bucket) put(ctx context.Context, key, final string, body io.ReaderAt, size int64) error {
	way, err := b.mkdirs(path.Dir(key))
	if err != nil {
		return err
	}
	err = errNoUnnamed
	if !b.named.Load() {
		err = b.putUnnamed(ctx, final, body, size)
	}
	if errors.Is(err, errNoUnnamed) {
		b.named.Store(true)
		err = b.putNamed(ctx, final, body, size)
	}
	if err != nil {
		return err
	}
	if err := b.settle(way); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := b.fs.Stat(b.root); err != nil {
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrUnavailable, Err: err} // unmounted, or removed
	}
	// The folder has gone, so the object has: somebody who waited for it has deleted it. To put it again would be once too often.
	b.forget()
	return nil
}

// putUnnamed writes and publishes an object, of which nothing is left if the process dies between.
func (b *Bucket) putUnnamed(ctx context.Context, final string, body io.ReaderAt, size int64) (err error) {
	f, err := b.fs.CreateUnnamed(filepath.Dir(final))
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if err := write(ctx, f, body, size); err != nil {
		return err
	}
	return f.Link(final)
}

// putNamed does it where a file has to have a name at all times.
func (b *Bucket) putNamed(ctx context.Context, final string, body io.ReaderAt, size int64) error {
	tmp, err := b.temporary(ctx, body, size)
	if err != nil {
		return err
	}
	err = b.fs.Link(tmp, final)
	_ = b.fs.Remove(tmp) // if that fails, a later writer cleans up
	if err != nil && (errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission)) {
		// vfat and exFAT answer EPERM.
		return fmt.Errorf("%w (a store needs a file system with hard links)", err)
	}
	return err
}

// temporary makes a durable temporary file and returns its name.
func (b *Bucket) temporary(ctx context.Context, body io.ReaderAt, size int64) (name string, err error) {
	if _, err := b.mkdirs(tmpDir); err != nil {
		return "", err
	}
	tmp := b.path(tmpDir + "/" + strings.ToLower(rand.Text()))
	f, err := b.fs.Create(tmp)
	if err != nil {
		return "", err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			_ = b.fs.Remove(tmp)
		}
	}()
	if _, err := f.TryLock(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return "", err
	}
	return tmp, write(ctx, f, body, size)
}

// TempDir implements [bucket.Spooler].
func (b *Bucket) TempDir() (string, error) {
	if _, err := b.mkdirs(tmpDir); err != nil {
		return "", wrap("put", tmpDir, err)
	}
	return b.path(tmpDir), nil
}

// write fills a file and makes its content durable.
func write(ctx context.Context, f handle, body io.ReaderAt, size int64) error {
	if data, ok := body.(bucket.Bytes); ok && int64(len(data)) == size {
		for len(data) > 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := f.Write(data[:min(len(data), 16*chunk)])
			if err != nil {
				return err
			}
			data = data[n:]
		}
	} else if err := copyBody(ctx, f, body, size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return ctx.Err()
}

func copyBody(ctx context.Context, f handle, body io.ReaderAt, size int64) error {
	buf := make([]byte, min(chunk, size))
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), size-at)]
		if n, err := body.ReadAt(part, at); n < len(part) {
			return fmt.Errorf("read the body at %d: %w", at+int64(n), err)
		}
		if _, err := f.Write(part); err != nil {
			return err
		}
		at += int64(len(part))
	}
	return nil
}

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

// Get implements [bucket.Bucket].
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	if err := check(ctx, "get", key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, &bucket.Error{Op: "get", Key: key, Err: fmt.Errorf("negative offset %d", offset)}
	}
	f, err := b.fs.Open(b.path(key))
	if err != nil {
		return nil, wrap("get", key, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		_ = f.Close()
		return nil, wrap("get", key, err)
	}
	size := info.Size()
	n := max(0, size-offset)
	if length >= 0 {
		n = min(n, length)
	}
	return &bucket.Object{Body: &body{ctx: ctx, key: key, f: f, r: io.NewSectionReader(f, offset, n)}, Size: size}, nil
}

// body reads an object while its context lasts.
type body struct {
	ctx context.Context
	key string
	f   io.Closer
	r   io.Reader
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = wrap("get", b.key, err)
	}
	return n, err
}

func (b *body) Close() error { return b.f.Close() }

// Stat implements [bucket.Bucket].
func (b *Bucket) Stat(ctx context.Context, key string) (bucket.Entry, error) {
	if err := check(ctx, "stat", key); err != nil {
		return bucket.Entry{}, err
	}
	info, err := b.fs.Stat(b.path(key))
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return bucket.Entry{}, wrap("stat", key, err)
	}
	return bucket.Entry{Key: key, Size: info.Size(), ModTime: info.ModTime()}, nil
}

// List implements [bucket.Bucket].
func (b *Bucket) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	return func(yield func(bucket.Entry, error) bool) {
		folder := o.Prefix[:strings.LastIndexByte(o.Prefix, '/')+1]
		if folder != "" && bucket.ValidKey(folder[:len(folder)-1]) != nil {
			return // no key has such a prefix
		}
		b.list(ctx, folder, o, yield)
	}
}

// list walks one folder, given as a key's prefix with its slash, and returns false once it is to stop.
func (b *Bucket) list(ctx context.Context, folder string, o bucket.ListOptions, yield func(bucket.Entry, error) bool) bool {
	// A folder is read whole, but where a limit is given, no more of it is kept and sorted than the caller will take; the
	// rest, should it be wanted, is in later turns.
	done := ""
	for limit := o.Limit; ; limit *= 2 {
		names, err := b.names(ctx, folder, o, done, limit)
		if err != nil {
			yield(bucket.Entry{}, err)
			return false
		}
		for _, name := range names {
			if !b.visit(ctx, folder+name, o, yield) {
				return false
			}
		}
		if limit <= 0 || len(names) < limit {
			return true
		}
		done = names[len(names)-1]
	}
}

// visit gives the entry for an object or a folder, or those in the folder. It returns false once the listing is to stop.
func (b *Bucket) visit(ctx context.Context, key string, o bucket.ListOptions, yield func(bucket.Entry, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(bucket.Entry{}, err)
		return false
	}
	if e := (bucket.Entry{Key: key}); e.Folder() {
		if o.Folders {
			return yield(e, nil)
		}
		return b.list(ctx, key, o, yield)
	}
	info, err := b.fs.Stat(b.path(key))
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.Mode().IsRegular():
		return true // deleted meanwhile
	case err != nil:
		yield(bucket.Entry{}, wrap("list", key, err))
		return false
	}
	return yield(bucket.Entry{Key: key, Size: info.Size(), ModTime: info.ModTime()}, nil)
}

// names returns the names of the objects in a folder that a listing is to give, and of the folders that it is to give or
// to walk, which end in a slash: in the order of keys, after the name done, and only the first ones if limit is positive.
func (b *Bucket) names(ctx context.Context, folder string, o bucket.ListOptions, done string, limit int) ([]string, error) {
	// A folder named by the prefix has all of it in its own name, what lies in one above it the rest.
	rest := o.Prefix[min(len(o.Prefix), len(folder)):]
	after, started := strings.CutPrefix(o.StartAfter, folder)
	if !started {
		if after = ""; folder < o.StartAfter {
			return nil, nil
		}
	}
	var names []string
	last := "" // of the names kept so far, if there are enough of them
	first := func() {
		slices.Sort(names)
		if names = names[:min(limit, len(names))]; len(names) == limit {
			last = names[limit-1]
		}
	}
	for e, err := range b.fs.ReadDir(b.path(folder)) {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) || notDir(err) {
			if _, gone := b.fs.Stat(b.root); gone == nil {
				return nil, nil
			}
			err = &bucket.Error{Op: "list", Key: folder, Kind: bucket.ErrUnavailable, Err: err} // unmounted, or removed
		}
		if err != nil {
			return nil, wrap("list", folder, err)
		}
		name := e.Name()
		if len(folder)+len(name) > bucket.MaxKey || bucket.ValidKey(name) != nil {
			continue
		}
		inside := false // what is to be listed may be in this folder, though it comes before StartAfter itself
		switch {
		case e.IsDir():
			name += "/" // in the order of keys it counts
			inside = !o.Folders && strings.HasPrefix(after, name)
		case !e.Type().IsRegular():
			continue
		}
		if !strings.HasPrefix(name, rest) || name <= after && !inside || name <= done || last != "" && name > last {
			continue
		}
		names = append(names, name)
		if limit > 0 && len(names) >= 2*limit+100 {
			first()
		}
	}
	if limit > 0 {
		first()
	} else {
		slices.Sort(names)
	}
	return names, nil
}

// Delete implements [bucket.Bucket]. It removes folders that become empty.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := check(ctx, "delete", key); err != nil {
		return err
	}
	name := b.path(key)
	if info, err := b.fs.Stat(name); err == nil && info.IsDir() {
		return nil // no object
	}
	switch err := b.fs.Remove(name); {
	case errors.Is(err, fs.ErrNotExist):
		b.prune(path.Dir(key)) // who has deleted it may have died just then
		return nil
	case notDir(err):
		return nil
	case err != nil:
		return wrap("delete", key, err)
	}
	// Somebody else may remove the folder that is left, and die before having synced that.
	for dir := b.prune(path.Dir(key)); ; dir = path.Dir(dir) {
		if err := b.fs.SyncDir(b.path(dir)); !errors.Is(err, fs.ErrNotExist) || dir == "." {
			return wrap("delete", key, err)
		}
	}
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

func check(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := bucket.ValidKey(key)
	var e *bucket.Error
	if errors.As(err, &e) {
		e.Op = op
	}
	return err
}

// wrap makes an operating system's error a bucket's.
func wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	var e *bucket.Error
	if errors.As(err, &e) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e = &bucket.Error{Op: op, Key: key, Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist), notDir(err):
		e.Kind = bucket.ErrNotExist
	case errors.Is(err, fs.ErrPermission), readOnly(err):
		e.Kind = bucket.ErrPermission
	case full(err):
		e.Kind = bucket.ErrFull
	case gone(err):
		e.Kind = bucket.ErrUnavailable
	}
	return e
}

var (
	_ bucket.Bucket = (*Bucket)(nil)
	_ bucket.Syncer = (*Bucket)(nil)
	_ handle        = osFile{(*os.File)(nil)}
)
