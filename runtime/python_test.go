package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/instrument"
)

// python returns stock CPython, and skips tests where it is left out.
func python(t *testing.T) []byte {
	t.Helper()
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
	return binary
}

// TestPython compares stock CPython, which nobody here built, three ways.
func TestPython(t *testing.T) {
	binary := python(t)
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

// TestPythonSpinning stops CPython in a loop of its own language, and in one of its C code.
func TestPythonSpinning(t *testing.T) {
	binary := python(t)
	m := compiledAs(t, binary, nil, instrument.Choices{})
	for _, script := range []string{"while True: pass", "list(iter(int, 1))", "pow(3, 10**9)", "import re; re.match('(a+)+b', 'a' * 60)"} {
		t.Run(script, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := newWorld(t, guests.Case{Guest: "python", Args: []string{"-S", "-c", "print(flush=True)\n" + script}})
			c, err := m.Start(ctx, StartConfig{ID: "python", Hosts: []hostabi.Instance{w.instance(t)}, Limits: Limits{Memory: 1 << 30}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ticks := 0
			c.onTick = func() {
				if len(c.output) > 0 {
					ticks++
				}
				if ticks == 100 {
					cancel()
				}
			}
			_, err = c.Resume(ctx)
			if !errors.Is(err, context.Canceled) || ticks != 100 {
				t.Errorf("error %v after %d ticks; output %q", err, ticks, w.err.String())
			}
		})
	}
}
