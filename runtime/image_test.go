package runtime

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/instrument"
)

// TestInitialImage compares the memory of a fresh instance, and the image that snapshots are taken against, with what the
// data segments make of memory when the engine applies them.
func TestInitialImage(t *testing.T) {
	withoutRace(t)
	ctx := context.Background()
	testdata := filepath.Join("..", "testdata")
	manifest, err := guests.Manifest(testdata)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := guests.Cases(testdata)
	if err != nil {
		t.Fatal(err)
	}
	globals := map[string]map[string]string{}
	for _, c := range cases {
		globals[c.Guest] = c.Globals
	}
	compared := 0
	for _, g := range manifest {
		file := filepath.Join(testdata, filepath.FromSlash(g.File))
		binary, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := compiled(t, binary, globals[g.Name])
		linear, err := m.newMemory(nil, 0)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		inst, err := m.instantiate(ctx, linear)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		mem := inst.ExportedMemory(instrument.ExportMemory)
		if mem == nil {
			continue
		}
		all, _ := mem.Read(0, mem.Size())
		if !bytes.HasPrefix(all, m.image) || len(bytes.Trim(all[len(m.image):], "\x00")) > 0 {
			t.Errorf("%s: the image of %d bytes isn't what memory has", file, len(m.image))
		}
		original, err := m.original(ctx)
		if err != nil {
			t.Fatal(err)
		}
		running, err := instrument.Transform(original, instrument.Config{Await: m.runtime.isAwait})
		if err != nil {
			t.Fatal(err)
		}
		code, err := m.runtime.engine.CompileModule(compileContext(ctx), running.Module.Encode())
		if err != nil {
			t.Fatal(err)
		}
		filled, err := m.runtime.engine.InstantiateModule(ctx, code, instanceConfig)
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := filled.Memory().Read(0, mem.Size()); !bytes.Equal(all, want) {
			t.Errorf("%s: an instance's memory isn't what its data segments make", file)
		}
		_ = filled.Close(ctx)
		_ = code.Close(ctx)
		_ = inst.Close(ctx)
		linear.Free()
		compared++
	}
	if compared < 15 {
		t.Errorf("only %d programs with memory", compared)
	}
}
