//go:build !linux || !(amd64 || arm64)

package linmem

import "errors"

// canMap says whether memories can be mapped. Here they are on Go's heap.
const canMap = false

func probe() error { return errors.ErrUnsupported }

func newSpace(c Config) space { return newSlice(c) }

func dropIdle(*Image) {}

func (i *Image) createFile(uint64, func([]byte) error) error { return errors.ErrUnsupported }

func (i *Image) closeFile() {}

func allocate(size int) []byte { return make([]byte, size) }

func deallocate([]byte) {}
