package buckettest

import (
	"context"
	"errors"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// NoLock returns b without its locks, as a bucket of an object storage is. The clock, if b has one, stays.
func NoLock(b bucket.Bucket) bucket.Bucket { return noLock{b} }

type noLock struct {
	bucket.Bucket
}

// Now implements [bucket.Clock].
func (n noLock) Now(ctx context.Context) (time.Time, error) {
	if c, ok := n.Bucket.(bucket.Clock); ok {
		return c.Now(ctx)
	}
	return time.Time{}, errors.ErrUnsupported
}
