package command

import (
	"context"
	"errors"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
)

// lockBucket fails to lock.
type lockBucket struct {
	*bucket.Mem
	err error
}

func (b lockBucket) TryLock(context.Context, string) (func() error, error) { return nil, b.err }

// TestCheckLockAdvice has no lock for different reasons: only where nothing else is known it is the file system's fault.
func TestCheckLockAdvice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want string
	}{
		{&bucket.Error{Op: "lock", Kind: bucket.ErrPermission}, "check that you may write to the store"},
		{&bucket.Error{Op: "lock", Kind: bucket.ErrFull}, "make room"},
		{errors.New("no locks available"), "use a store on a file system with locks"},
	} {
		f := checkLock(t.Context(), lockBucket{bucket.NewMem(), test.err})
		if f.Status != checkFail || f.Advice != test.want {
			t.Errorf("%v: %s, advice %q; want %s, %q", test.err, f.Status, f.Advice, checkFail, test.want)
		}
	}
}
