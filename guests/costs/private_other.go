//go:build !linux

package main

import "errors"

// privateMemory is not known here.
func privateMemory() (int64, error) { return 0, errors.ErrUnsupported }
