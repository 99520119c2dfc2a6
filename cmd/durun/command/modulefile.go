package command

import (
	"context"
	"fmt"
	"sync"

	"github.com/durun/durun/snapshot"
)

// moduleFile is a module that was read from a file. A coroutine may sleep for days in a process that has such a file's bytes, which are
// most of what it takes; so they are held only until a commit in the store names the module, and read from there after.
type moduleFile struct {
	name string // for errors
	hash snapshot.Hash

	mu     sync.Mutex
	binary []byte
	store  *snapshot.Store // instead of binary
}

func newModuleFile(name string, binary []byte) *moduleFile {
	return &moduleFile{name: name, hash: snapshot.HashOf(binary), binary: binary}
}

// read returns the module.
func (m *moduleFile) read(ctx context.Context) ([]byte, error) {
	m.mu.Lock()
	binary, store := m.binary, m.store
	m.mu.Unlock()
	if store != nil {
		return store.Module(ctx, m.hash)
	}
	return binary, nil
}

// keep makes sure that a store has the module.
func (m *moduleFile) keep(ctx context.Context, store *snapshot.Store) error {
	binary, err := m.read(ctx)
	if err == nil {
		err = store.KeepModule(ctx, m.hash, binary)
	}
	if err != nil {
		return fmt.Errorf("keep module %s: %w", m.name, err)
	}
	return nil
}

// leaveTo holds the bytes no more: a store has them, and a coroutine that needs them.
func (m *moduleFile) leaveTo(store *snapshot.Store) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.binary, m.store = nil, store
}
