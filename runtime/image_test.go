package runtime

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
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
		if imports(t, binary, "probe") {
			t.Logf("%s: left out: only `make bench` has the host module that it imports", g.Name)
			continue
		}
		m := compiled(t, binary, globals[g.Name])
		linear, err := m.newMemory(nil, 0, Limits{})
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
		image := make([]byte, len(all))
		if m.image.fill(image); !bytes.Equal(image, all) {
			t.Errorf("%s: the image isn't what memory has", file)
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

func TestImageEncoding(t *testing.T) {
	page := bytes.Repeat([]byte{7}, snapshot.PageSize)
	onePage := &wasm.Module{Memories: []wasm.Limits{{Min: 1}}}
	zeros := make([]byte, snapshot.PageSize)
	for name, image := range map[string][]byte{
		"nothing":         nil,
		"one page":        page,
		"zeros in front":  slices.Concat(zeros, zeros, page),
		"a hole":          slices.Concat(page, page, zeros, page),
		"less than pages": slices.Concat(page, zeros, []byte("rest")),
	} {
		b := imageOf(image).encode()
		got := make([]byte, len(image))
		decoded, err := decodeImage(b, onePage)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if decoded.fill(got); !bytes.Equal(got, image) || len(b) > len(bytes.ReplaceAll(image, zeros, nil))+10 {
			t.Errorf("%s: another image, of %d bytes", name, len(b))
		}
		if len(image) > 0 {
			if _, err := decodeImage(b[:len(b)-1], onePage); err == nil {
				t.Errorf("%s: cut, and taken", name)
			}
		}
	}
	for name, run := range map[string]memoryRun{
		"over the end": {snapshot.WasmPageSize - 1, []byte{1, 1}},
		"at the end":   {snapshot.WasmPageSize, []byte{1}},
		"near 2^64":    {1<<64 - 1, []byte{1, 1}},
	} {
		if _, err := decodeImage(memoryImage{run}.encode(), onePage); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := decodeImage(memoryImage{{0, []byte{1}}}.encode(), &wasm.Module{}); err == nil {
		t.Error("an image without a memory was taken")
	}
}

// imports reports whether a module imports from a host module.
func imports(t *testing.T, binary []byte, module string) bool {
	t.Helper()
	m, err := wasm.Decode(binary)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(m.Imports, func(im wasm.Import) bool { return im.Module == module })
}
