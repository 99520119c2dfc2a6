package bucket

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of errors that a bucket returns, to be asked for with errors.Is.
var (
	// ErrExist is returned by Put if the object exists already.
	ErrExist = errors.New("object exists")
	// ErrNotExist is returned for an object that isn't there.
	ErrNotExist = errors.New("no such object")
	// ErrPermission is returned where the storage forbids the operation: access rights, credentials, a read-only medium.
	ErrPermission = errors.New("permission denied")
	// ErrFull is returned by Put where the storage has no room left: a full disk, a quota.
	ErrFull = errors.New("storage is full")
	// ErrUnavailable is returned if the storage can't be reached, or is gone.
	ErrUnavailable = errors.New("storage unavailable")
	// ErrKey is returned for a key that [ValidKey] refuses, or that the bucket can't hold beside its present ones: a key
	// can't be an object and a folder.
	ErrKey = errors.New("invalid key")
	// ErrTooLarge is returned for an object larger than the caller allows, or than the storage takes.
	ErrTooLarge = errors.New("object too large")
	// ErrLocked is returned by TryLock if somebody holds the lock.
	ErrLocked = errors.New("locked")
	// ErrNoBucket is returned by an opener for a bucket that isn't there and that it doesn't make.
	ErrNoBucket = errors.New("there is no store")
	// ErrURL is returned by [OpenURL] and the drivers' openers for a URL that they can't make sense of.
	ErrURL = errors.New("invalid store URL")
)

// Error is a failed operation on a bucket.
type Error struct {
	Op   string // put, get, stat, list, delete, lock, open
	Key  string // the object's key, a prefix, or empty
	Kind error  // one of this package's sentinels, or nil if none applies
	Err  error  // the cause, or nil
}

// Error implements error.
func (e *Error) Error() string {
	parts := []string{e.Op}
	if e.Key != "" {
		parts[0] += " " + e.Key
	}
	if e.Kind != nil && (e.Err == nil || !strings.Contains(e.Err.Error(), e.Kind.Error())) {
		parts = append(parts, e.Kind.Error())
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// The limits of a key.
const (
	MaxKey     = 1024 // bytes of a key
	MaxSegment = 200  // bytes of a key's part between slashes
)

// ValidKey returns nil if a key is one to which every driver gives the same meaning, or an [*Error] of kind [ErrKey]:
// parts of letters, digits, '.', '_' and '-', none of which starts with '.', joined by single slashes, at most [MaxKey]
// bytes in all and [MaxSegment] a part. So no key can name a parent folder, a hidden file, a device or a stream.
func ValidKey(key string) error {
	bad := func(why string) error {
		shown := key
		if len(shown) > 64 {
			shown = shown[:64] + "…"
		}
		return &Error{Op: "key", Kind: ErrKey, Err: fmt.Errorf("%q %s", shown, why)}
	}
	if key == "" || len(key) > MaxKey {
		return bad(fmt.Sprintf("is not 1 to %d bytes long", MaxKey))
	}
	start := 0
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			c := key[i]
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
			case c == '.' && i > start:
			case c == '.':
				return bad("has a part that starts with a dot")
			default:
				return bad(fmt.Sprintf("has the byte %#02x", c))
			}
			continue
		}
		if i == start || i-start > MaxSegment {
			return bad(fmt.Sprintf("has a part that is not 1 to %d bytes long", MaxSegment))
		}
		start = i + 1
	}
	return nil
}
