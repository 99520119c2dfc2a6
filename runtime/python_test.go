package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/durun/durun/guests"
)

// TestPython compares stock CPython, which nobody here built, three ways.
func TestPython(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: -short")
	}
	withoutRace(t)
	binary, err := guests.Python()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("left out: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join("..", "guests", "python", "gen.py"))
	if err != nil {
		t.Fatal(err)
	}
	o := compare(t, binary, guests.Case{
		Name: "python-gen", Guest: "python", Args: []string{"-c", string(script)}, Env: map[string]string{"PYTHONHASHSEED": "7"},
	})
	if o.Exit != 9 || len(o.Out) == 0 {
		t.Errorf("exit code %d, output %q, errors %q", o.Exit, o.Out, o.Err)
	}
}
