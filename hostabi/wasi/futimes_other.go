//go:build !linux

package wasi

import (
	"errors"
	"os"
)

// futimes sets the times of an open file. Only Linux can portably enough.
func futimes(*os.File, int64, int64) error { return errors.ErrUnsupported }
