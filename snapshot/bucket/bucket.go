package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"
)

// Bucket is a store of immutable objects. All methods may be called by any number of goroutines at once, and other
// processes may work on the same bucket meanwhile. Every error is an [*Error], except a context's own.
type Bucket interface {
	// Put creates the object key from the size bytes of body, only if no such object exists: of several concurrent
	// writers, in whatever processes, exactly one succeeds and the others get [ErrExist]. Readers see the object whole or
	// not at all. When Put returns nil the object outlives a crash of the machine; the same is true of the existing object
	// when it returns ErrExist. After any other error the object may be there, whole, or not: the caller may repeat the
	// Put and compare. The body is read at any offset, more than once if the driver retries, by one goroutine at a time,
	// and not after Put has returned. A [Bytes] spares drivers a copy.
	//
	// Errors: [ErrExist], [ErrKey], [ErrPermission], [ErrFull], [ErrTooLarge], [ErrUnavailable].
	Put(ctx context.Context, key string, body io.ReaderAt, size int64) error

	// Get opens the length bytes at offset of an object; a negative length reads to the end. A range that goes beyond the
	// end is clipped, to nothing if need be; a negative offset is an error. The caller closes the object's body.
	//
	// Errors: [ErrNotExist], [ErrKey], [ErrPermission], [ErrUnavailable]; those of the body are like Get's.
	Get(ctx context.Context, key string, offset, length int64) (*Object, error)

	// Stat returns an object's entry. Errors: as for Get.
	Stat(ctx context.Context, key string) (Entry, error)

	// List iterates over the objects in ascending byte order of their keys, and stops after the first error. An object that exists
	// throughout is listed exactly once; one that is created or deleted meanwhile is or isn't. No match is not an error.
	List(ctx context.Context, o ListOptions) iter.Seq2[Entry, error]

	// Delete removes an object; that it was not there is no error.
	//
	// Errors: [ErrKey], [ErrPermission], [ErrUnavailable].
	Delete(ctx context.Context, key string) error

	// URL names the bucket as [OpenURL] takes it, without credentials.
	URL() string

	// Close releases what the bucket holds. No other method may be called after, or be running.
	Close() error
}

// Locker is what a bucket may offer beyond the five verbs: exclusive locks that die with the process which holds them,
// so that a driver killed with kill -9 is known to be dead at once.
type Locker interface {
	// TryLock takes the lock key, which is unrelated to the object of that name, or returns [ErrLocked] at once if
	// anybody holds it, in this process or another. Release gives it up; it may be called more than once.
	// errors.ErrUnsupported says that this bucket has no locks after all.
	TryLock(ctx context.Context, key string) (release func() error, err error)
}

// Noter is a [Locker] whose locks have a note each: what their holder says to others, for as long as it holds them.
type Noter interface {
	Locker
	// SetNote sets the note of a lock that was taken by this bucket and is held; a new lock has none. It is not durable.
	//
	// Errors: [ErrNotExist] if this bucket does not hold the lock.
	SetNote(key string, note []byte) error
	// Note returns a lock's note, at most its first max bytes, and nothing where there is none. It is for a lock that somebody
	// holds: what it returns of another one means nothing.
	Note(key string, max int) ([]byte, error)
}

// Syncer is what a bucket may offer whose objects can be seen shortly before they are durable.
type Syncer interface {
	// Sync returns when an object that somebody else put is as durable as if Put had just returned.
	Sync(ctx context.Context, key string) error
}

// Clock is what a bucket may offer that keeps time for all who use it: the clock of the storage service.
type Clock interface {
	// Now returns the time by the bucket's clock, which gives objects their ModTime. It may be up to two seconds behind,
	// and does not run backwards by more than that. errors.ErrUnsupported says that this bucket has no clock after all.
	//
	// Errors: [ErrPermission], [ErrUnavailable].
	Now(ctx context.Context) (time.Time, error)
}

// Spooler is what a bucket may offer that has a place for large temporary files: what is put needs one if it is too large
// for memory, and where the system keeps temporary files may be memory too.
type Spooler interface {
	// TempDir returns the folder. What a dead process has left there is removed in time.
	TempDir() (string, error)
}

// ListOptions selects what List returns.
type ListOptions struct {
	Prefix     string // only keys with this prefix; it need not end at a slash
	StartAfter string // only keys greater than this
	Folders    bool   // give keys that have a slash after the prefix once, as their part up to and with that slash
	Limit      int    // a hint: the caller takes no more entries than this; 0 for unknown
}

// Entry is an object in a listing. If its key ends in a slash it stands for a folder (see [ListOptions]), which may
// rarely be empty, and has neither size nor time.
type Entry struct {
	Key     string
	Size    int64     // bytes
	ModTime time.Time // when it was created, by the bucket's clock
}

// Folder reports whether the entry stands for a folder.
func (e Entry) Folder() bool { return len(e.Key) > 0 && e.Key[len(e.Key)-1] == '/' }

// Object is an object opened for reading.
type Object struct {
	Body io.ReadCloser // the range asked for
	Size int64         // of the whole object, in bytes
}

// Bytes is a body for Put from memory.
type Bytes []byte

// ReadAt implements io.ReaderAt.
func (b Bytes) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(b).ReadAt(p, off) }

// PutBytes creates the object key from data, only if absent. Errors: as [Bucket].Put.
func PutBytes(ctx context.Context, b Bucket, key string, data []byte) error {
	return b.Put(ctx, key, Bytes(data), int64(len(data)))
}

// ReadAll reads a whole object of at most limit bytes. A larger one is [ErrTooLarge]; other errors as [Bucket].Get.
func ReadAll(ctx context.Context, b Bucket, key string, limit int64) ([]byte, error) {
	o, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	if o.Size > limit {
		return nil, &Error{Op: "get", Key: key, Kind: ErrTooLarge, Err: fmt.Errorf("%d bytes, at most %d expected", o.Size, limit)}
	}
	return readBody(ctx, key, o.Body, o.Size)
}

// ReadRange reads length bytes at offset, or less at the object's end, and returns them with the object's whole size.
// A negative length reads to the end. Errors: as [Bucket].Get.
func ReadRange(ctx context.Context, b Bucket, key string, offset, length int64) ([]byte, int64, error) {
	o, err := b.Get(ctx, key, offset, length)
	if err != nil {
		return nil, 0, err
	}
	defer o.Body.Close()
	n := max(0, o.Size-offset)
	if length >= 0 {
		n = min(n, length)
	}
	data, err := readBody(ctx, key, o.Body, n)
	return data, o.Size, err
}

// readBody reads exactly n bytes: the size comes from the bucket, which has the object.
func readBody(ctx context.Context, key string, r io.Reader, n int64) ([]byte, error) {
	if n > math.MaxInt-1 {
		return nil, &Error{Op: "get", Key: key, Kind: ErrTooLarge}
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the object ends early: %w", io.ErrUnexpectedEOF)
		}
		var e *Error
		if errors.As(err, &e) {
			return nil, err
		}
		return nil, &Error{Op: "get", Key: key, Err: err}
	}
	return data, nil
}

// First returns the first entry of a listing. ok is false if there is none.
func First(ctx context.Context, b Bucket, o ListOptions) (e Entry, ok bool, err error) {
	o.Limit = 1
	for e, err := range b.List(ctx, o) {
		return e, err == nil, err
	}
	return Entry{}, false, nil
}
