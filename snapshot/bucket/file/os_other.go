//go:build !windows && (!unix || solaris || illumos || aix)

package file

import (
	"errors"
	"os"
)

// tryLock says that there are no locks here: the fence of the sequence numbers alone keeps drivers apart.
func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func syncDir(string) error { return nil }

func full(error) bool     { return false }
func readOnly(error) bool { return false }
func gone(error) bool     { return false }
func notDir(error) bool   { return false }
