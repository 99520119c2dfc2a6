package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/durun/durun/guests"
)

// TestRuby compares stock CRuby three ways, whose fibers and exceptions unwind and rewind the stack by themselves.
func TestRuby(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: -short")
	}
	withoutRace(t)
	binary, err := guests.CRuby.Bytes()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("left out: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join("..", "guests", "ruby", "fibers.rb"))
	if err != nil {
		t.Fatal(err)
	}
	var input strings.Builder
	for i := range 80 {
		fmt.Fprintf(&input, "%02d", i*7%100)
	}
	o := compare(t, binary, guests.Case{
		Name: "ruby-fibers", Guest: "ruby", Args: []string{"-e", string(script)}, Stdin: input.String(),
	})
	if o.Exit != 3 || len(o.Out) == 0 {
		t.Errorf("exit code %d, output %q, errors %q", o.Exit, o.Out, o.Err)
	}
}
