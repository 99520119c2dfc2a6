package runtime

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/snapshot"
)

// TestParts restores a program with a volume from snapshots in which parts of its state are missing, or others' names.
func TestParts(t *testing.T) {
	binary, err := os.ReadFile("../testdata/guests/volume.wasm")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	m := compiled(t, binary, nil)
	w := newWorld(t, guests.Case{Guest: "volume", Args: []string{"/work"}, Dirs: map[string]map[string]string{"/work": {}}})
	c, err := m.Start(ctx, StartConfig{ID: "v", Hosts: []hostabi.Instance{w.host(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if status, err := c.Resume(ctx); err != nil || status != snapshot.Suspended {
		t.Fatal(status, err)
	}
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	whole := s.Host
	parts := slices.DeleteFunc(slices.Clone(whole), func(sec snapshot.Section) bool { return !strings.HasPrefix(sec.Name, wasi.ModuleName+"#") })
	if len(parts) == 0 {
		t.Fatal("the state has no parts")
	}
	restore := func(host []snapshot.Section) error {
		s.Host = host
		c, err := m.Restore(ctx, s, RestoreConfig{Hosts: []hostabi.Instance{w.host(t)}})
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	if err := restore(whole); err != nil {
		t.Error(err)
	}
	if err := restore(parts); !errors.Is(err, ErrMismatch) {
		t.Errorf("parts without a whole: %v", err)
	}
	without := func(name string) []snapshot.Section {
		return slices.DeleteFunc(slices.Clone(whole), func(sec snapshot.Section) bool { return sec.Name == name })
	}
	for _, p := range parts {
		if strings.Contains(p.Name, ".i") {
			if err := restore(without(p.Name)); err == nil {
				t.Errorf("without %s, which has inodes: no error", p.Name)
			}
		}
	}
	for _, name := range []string{"wasi_snapshot_preview1#1.i0000000000", "wasi_snapshot_preview1#x", "wasi_snapshot_preview1#", "other#0.i0000000000", "durun#x"} {
		if err := restore(append(slices.Clone(whole), snapshot.Section{Name: name, Version: 2, Data: []byte{0x80}})); err == nil {
			t.Errorf("with a part %s: no error", name)
		}
	}
}
