package command

import (
	"bytes"
	"errors"
	"testing"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// TestModuleFile holds a module's bytes until the first commit has been made, and reads them from the store then.
func TestModuleFile(t *testing.T) {
	binary := []byte("\x00asm\x01\x00\x00\x00")
	p := &program{name: "m.wasm", file: newModuleFile("m.wasm", binary), given: &outside{}}
	s := &store{Store: snapshot.NewStore(bucket.NewMem())}
	ensure := p.ensure(s, nil)
	for call, what := range []string{"before the commit", "after it"} {
		if p.file.binary == nil {
			t.Errorf("%s the bytes are gone", what)
		}
		if err := ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := p.file.read(t.Context()); err != nil || !bytes.Equal(got, binary) {
			t.Errorf("read at call %d: %q, %v", call, got, err)
		}
	}
	if p.file.binary != nil {
		t.Error("the bytes are held on to")
	}
	if err := ensure(t.Context()); err != nil {
		t.Error(err)
	}
	p.file.store = snapshot.NewStore(bucket.NewMem())
	if _, err := p.file.read(t.Context()); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("from a store without it: %v", err)
	}
}
