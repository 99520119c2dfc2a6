package runtime

import (
	"fmt"
	"strings"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// Operation describes an operation of a coroutine that it has not dropped.
type Operation struct {
	Number  uint32
	Kind    hostabi.OperationKind
	Name    string // as the guest gave it: of a spawn, the target, and its arguments after NUL bytes
	Key     string // its id for the world: the idempotency key of a call
	Begun   time.Time
	Due     time.Time // of a timer that has not ended
	Ended   bool
	Code    hostabi.Code // why it failed; 0 if it didn't
	Message string
	Size    int // bytes of its body, or of its result if it has ended
	// Progress is of a call that has not ended: how far it had come when the snapshot was taken. An attempt that fails is in one
	// within seconds, or within a minute if many have failed before; one that is under way need not be.
	Progress handler.Progress
}

// Operations returns what the coroutine has begun and not dropped, by number. It must not be running.
func (c *Coroutine) Operations() []Operation { return c.abi.describe() }

func (a *abi) describe() []Operation {
	list := make([]Operation, 0, len(a.ops.all))
	a.ops.each(func(o *operation) {
		described := Operation{
			Number: o.number, Kind: o.kind, Name: o.name, Key: a.key(o.number), Begun: o.begun, Due: o.due,
			Ended: o.ended, Code: o.code, Message: o.message, Size: len(o.body) + len(o.result),
		}
		if o.progress != nil {
			described.Progress = *o.progress
		}
		list = append(list, described)
	})
	return list
}

// OperationsOf returns the operations that a coroutine had when a snapshot was taken, by number.
func OperationsOf(s *snapshot.Snapshot) ([]Operation, error) {
	a, err := abiOf(s)
	if err != nil {
		return nil, fmt.Errorf("operations of coroutine %s: %w", s.Coroutine, err)
	}
	return a.describe(), nil
}

// ResultOf returns what the guest had set with durun.output when a snapshot was taken, nil if nothing.
func ResultOf(s *snapshot.Snapshot) ([]byte, error) {
	a, err := abiOf(s)
	if err != nil {
		return nil, fmt.Errorf("result of coroutine %s: %w", s.Coroutine, err)
	}
	return a.result, nil
}

// ParentOf returns the id of the coroutine that has spawned the one of a snapshot, and the key of the operation there; empty if
// it was started by nobody's spawn.
func ParentOf(s *snapshot.Snapshot) (id, key string, err error) {
	a, err := abiOf(s)
	if err != nil {
		return "", "", fmt.Errorf("parent of coroutine %s: %w", s.Coroutine, err)
	}
	return a.parent.id, a.parent.key, nil
}

// abiOf returns the state of the import module "durun" in a snapshot.
func abiOf(s *snapshot.Snapshot) (*abi, error) {
	a := newABI(s.Coroutine, nil)
	var parts []hostabi.Part
	for _, sec := range s.Host {
		if name, ok := strings.CutPrefix(sec.Name, hostabi.ModuleName+partSeparator); ok {
			parts = append(parts, hostabi.Part{Name: name, Data: sec.Data})
		}
	}
	for _, sec := range s.Host {
		if sec.Name != hostabi.ModuleName {
			continue
		}
		if err := a.RestoreParts(sec.Version, parts); err != nil {
			return a, err
		}
		return a, a.Restore(sec.Version, sec.Data)
	}
	return a, nil
}
