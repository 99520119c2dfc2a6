package runtime_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
)

// TestNewerState resumes and looks into a coroutine whose operations a newer durun has saved: that is told as such.
func TestNewerState(t *testing.T) {
	ctx := t.Context()
	r, module := compiled(ctx)
	defer r.Close(ctx)
	c, err := module.Start(ctx, runtime.StartConfig{ID: "ten-calls", Entry: "fan", Input: binary.LittleEndian.AppendUint32(nil, 10)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if ops, err := runtime.OperationsOf(s); err != nil || len(ops) != 10 {
		t.Fatalf("%d operations, %v", len(ops), err)
	}
	for i := range s.Host {
		if s.Host[i].Name == hostabi.ModuleName {
			s.Host[i].Version = 1000
		}
	}
	if _, err := runtime.OperationsOf(s); !errors.Is(err, hostabi.ErrStateVersion) {
		t.Errorf("its operations: %v", err)
	}
	if _, err := module.Restore(ctx, s, runtime.RestoreConfig{}); !errors.Is(err, hostabi.ErrStateVersion) {
		t.Errorf("a restore: %v", err)
	}
}
