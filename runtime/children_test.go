package runtime

import (
	"errors"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
)

// TestSpawnUnknown is a child of a module that the run was not given: its parent is told so.
func TestSpawnUnknown(t *testing.T) {
	m := waiters(t)
	s := newTestScheduler(t, m, SchedulerConfig{})
	failed := make(chan error, 1)
	child := Child{ID: "p.1", Parent: "p", Key: "p/0/1", Module: m.Hash(), Target: "module:none"}
	s.Spawn(t.Context(), child, func(_ []byte, err error) { failed <- err })
	select {
	case err := <-failed:
		if !errors.Is(err, &hostabi.OperationError{Code: hostabi.CodeDenied}) {
			t.Errorf("%v, want that it is denied", err)
		}
	case <-time.After(time.Minute):
		t.Error("nothing was heard of the child")
	}
}
