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

// TestInitialImage compares the image that snapshots are taken against with the memory of a fresh instance.
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
		inst, err := m.instantiate(ctx)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		mem := inst.ExportedMemory(instrument.ExportMemory)
		if mem == nil {
			continue
		}
		if _, ok := m.original.InitialMemory(); !ok {
			t.Errorf("%s: the image has to be read from memory", file)
		}
		image := m.initialImage(inst)
		all, _ := mem.Read(0, mem.Size())
		if !bytes.HasPrefix(all, image) || len(bytes.Trim(all[len(image):], "\x00")) > 0 {
			t.Errorf("%s: the image of %d bytes isn't what memory has", file, len(image))
		}
		_ = inst.Close(ctx)
		compared++
	}
	if compared < 15 {
		t.Errorf("only %d programs with memory", compared)
	}
}
