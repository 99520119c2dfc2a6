package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
)

var errHeld = errors.New("held")

// Bucket is a bucket in a folder. It implements [bucket.Bucket], [bucket.Locker] and [bucket.Syncer]. Any number of
// goroutines and processes may use a folder at once.
type Bucket struct {
	root string
	fs   fsys

	mu      sync.Mutex
	synced  map[string]bool // folders known to be durable in their parents
	cleaned time.Time
}

// Open opens the bucket in the folder root, which is made, with mode 0700, if it is not there. A folder that can't be
// written to can still be read from.
//
// Errors: [bucket.ErrPermission], [bucket.ErrUnavailable], [bucket.ErrURL] if root is no folder.
func Open(root string) (*Bucket, error) { return open(osFS{}, root) }

// OpenURL is the [bucket.Opener] of file:// and of plain paths.
func OpenURL(_ context.Context, u *url.URL) (bucket.Bucket, error) {
	fail := func(why string) (bucket.Bucket, error) {
		return nil, &bucket.Error{Op: "open", Key: u.String(), Kind: bucket.ErrURL, Err: errors.New(why)}
	}
	switch {
	case u.Host != "" && u.Host != "localhost":
		return fail(fmt.Sprintf("the folder of another host, %q; an absolute path needs three slashes: file:///path", u.Host))
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return fail("a folder has no options; write ? as %3F and # as %23")
	case !strings.HasPrefix(u.Path, "/"):
		return fail("the path is not absolute")
	}
	path := u.Path
	if filepath.Separator == '\\' && len(path) > 2 && path[2] == ':' { // /C:/…
		path = path[1:]
	}
	b, err := Open(filepath.FromSlash(path))
	if err != nil {
		return nil, err
	}
	return b, nil
}

func open(fsys fsys, root string) (*Bucket, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, &bucket.Error{Op: "open", Key: root, Kind: bucket.ErrURL, Err: err}
	}
	b := &Bucket{root: root, fs: fsys, synced: map[string]bool{}}
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
	path := filepath.ToSlash(b.root)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
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
	// Whoever empties a folder may remove it, and a cleaner may take a writer that was stopped for long for dead. Then
	// link finds nothing, and all is done anew.
	for try := 0; ; try++ {
		err := b.put(ctx, key, final, body, size)
		switch {
		case errors.Is(err, fs.ErrExist):
			return b.exists(key)
		case errors.Is(err, fs.ErrNotExist) && try < 10 && ctx.Err() == nil:
			b.forget()
			continue
		case err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrUnavailable, Err: err}
		}
		return wrap("put", key, err)
	}
}

// exists is what Put returns for an object that is there: ErrExist, once the object is durable.
func (b *Bucket) exists(key string) error {
	if err := b.sync(key); err != nil {
		return wrap("put", key, err)
	}
	return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrExist}
}

func (b *Bucket) put(ctx context.Context, key, final string, body io.ReaderAt, size int64) error {
	if err := b.mkdirs(filepath.Dir(key)); err != nil {
		return err
	}
	tmp, err := b.write(ctx, body, size)
	if err != nil {
		return err
	}
	err = b.link(tmp, final)
	_ = b.fs.Remove(tmp) // if that fails, a later writer cleans up
	if err != nil {
		return err
	}
	return b.fs.SyncDir(filepath.Dir(final))
}

func (b *Bucket) link(tmp, final string) error {
	err := b.fs.Link(tmp, final)
	if err != nil && (errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission)) {
		// vfat and exFAT answer EPERM.
		return fmt.Errorf("%w (a store needs a file system with hard links)", err)
	}
	return err
}

// write makes a durable temporary file and returns its name.
func (b *Bucket) write(ctx context.Context, body io.ReaderAt, size int64) (name string, err error) {
	if err := b.mkdirs(tmpDir); err != nil {
		return "", err
	}
	tmp := filepath.Join(b.root, filepath.FromSlash(tmpDir), strings.ToLower(rand.Text()))
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
	if data, ok := body.(bucket.Bytes); ok && int64(len(data)) == size {
		for len(data) > 0 {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			n, err := f.Write(data[:min(len(data), 16*chunk)])
			if err != nil {
				return "", err
			}
			data = data[n:]
		}
	} else if err := copyBody(ctx, f, body, size); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return tmp, nil
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

// mkdirs makes the folder of a key or of this driver below the root, and each parent, and makes every one of them
// durable once in a process: another process may have made it and died before its fsync.
func (b *Bucket) mkdirs(rel string) error {
	rel = filepath.ToSlash(rel)
	if rel == "." {
		return nil
	}
	b.mu.Lock()
	known := b.synced[rel]
	b.mu.Unlock()
	if known {
		return nil
	}
	parent := filepath.Dir(filepath.FromSlash(rel))
	if err := b.mkdirs(parent); err != nil {
		return err
	}
	if err := b.fs.Mkdir(b.path(rel)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := b.fs.Stat(b.path(rel)); err != nil {
		return err
	} else if !info.IsDir() {
		return &bucket.Error{Op: "put", Key: rel, Kind: bucket.ErrKey, Err: errors.New("there is an object of that name, which can't be a folder")}
	}
	if err := b.fs.SyncDir(b.path(filepath.ToSlash(parent))); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.synced) >= maxSynced {
		clear(b.synced)
	}
	b.synced[rel] = true
	return nil
}

func (b *Bucket) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.synced)
}

// Sync implements [bucket.Syncer].
func (b *Bucket) Sync(ctx context.Context, key string) error {
	if err := check(ctx, "sync", key); err != nil {
		return err
	}
	return wrap("sync", key, b.sync(key))
}

func (b *Bucket) sync(key string) error {
	if err := b.mkdirs(filepath.Dir(key)); err != nil {
		return err
	}
	return b.fs.SyncDir(filepath.Dir(b.path(key)))
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
	entries, err := b.fs.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
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
	if err := ctx.Err(); err != nil {
		yield(bucket.Entry{}, err)
		return false
	}
	entries, err := b.fs.ReadDir(b.path(folder))
	if errors.Is(err, fs.ErrNotExist) || notDir(err) {
		if _, gone := b.fs.Stat(b.root); gone == nil {
			return true
		}
		err = &bucket.Error{Op: "list", Key: folder, Kind: bucket.ErrUnavailable, Err: err} // unmounted, or removed
	}
	if err != nil {
		yield(bucket.Entry{}, wrap("list", folder, err))
		return false
	}
	// In the order of keys a folder's name counts with its slash.
	order := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(order(a), order(b)) })
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			yield(bucket.Entry{}, err)
			return false
		}
		key := folder + order(e)
		// The part that differs from the prefix: what lies in a folder named by the prefix has all of it.
		if !strings.HasPrefix(key, o.Prefix) || bucket.ValidKey(folder+e.Name()) != nil {
			continue
		}
		if e.IsDir() {
			switch {
			case o.Folders:
				if key > o.StartAfter && !yield(bucket.Entry{Key: key}, nil) {
					return false
				}
			case key > o.StartAfter || strings.HasPrefix(o.StartAfter, key):
				if !b.list(ctx, key, o, yield) {
					return false
				}
			}
			continue
		}
		if key <= o.StartAfter || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			yield(bucket.Entry{}, wrap("list", key, err))
			return false
		}
		if !yield(bucket.Entry{Key: key, Size: info.Size(), ModTime: info.ModTime()}, nil) {
			return false
		}
	}
	return true
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
	case errors.Is(err, fs.ErrNotExist), notDir(err):
		return nil
	case err != nil:
		return wrap("delete", key, err)
	}
	dir := filepath.Dir(key)
	for ; dir != "."; dir = filepath.Dir(dir) {
		b.mu.Lock()
		delete(b.synced, filepath.ToSlash(dir))
		b.mu.Unlock()
		if b.fs.Remove(b.path(filepath.ToSlash(dir))) != nil {
			break // not empty, as a rule
		}
	}
	if err := b.fs.SyncDir(b.path(filepath.ToSlash(dir))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrap("delete", key, err)
	}
	return nil
}

// TryLock implements [bucket.Locker] with flock: the lock is gone when the process is, however it ends.
func (b *Bucket) TryLock(ctx context.Context, key string) (func() error, error) {
	if err := check(ctx, "lock", key); err != nil {
		return nil, err
	}
	rel := lockDir + "/" + strings.ReplaceAll(key, "/", "+")
	for try := 0; ; try++ {
		if err := b.mkdirs(lockDir); err != nil {
			return nil, wrap("lock", key, err)
		}
		l, err := b.fs.Lock(b.path(rel))
		switch {
		case errors.Is(err, errHeld):
			return nil, &bucket.Error{Op: "lock", Key: key, Kind: bucket.ErrLocked}
		case errors.Is(err, fs.ErrNotExist) && try < 3:
			b.forget()
			continue
		case err != nil:
			return nil, wrap("lock", key, err)
		}
		return sync.OnceValue(func() error {
			_ = b.fs.Remove(b.path(rel)) // before it is unlocked; see osFS.Lock
			return wrap("lock", key, l.Close())
		}), nil
	}
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
	_ bucket.Locker = (*Bucket)(nil)
	_ bucket.Syncer = (*Bucket)(nil)
	_ handle        = osFile{(*os.File)(nil)}
)
