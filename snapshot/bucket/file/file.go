package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
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
	spare sync.Once   // the spare lock file was looked after

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
