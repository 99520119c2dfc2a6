package wasi_test

import (
	"os"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/durun/durun/hostabi/wasi"
)

// TestFunctions runs guests/c/functions.c, which checks the functions one by one, on a folder of the host and on a volume in
// memory. What wazero answers the same is a case in testdata, too.
func TestFunctions(t *testing.T) {
	binary, err := os.ReadFile("../../testdata/guests/functions.wasm")
	if err != nil {
		t.Fatal(err)
	}
	p := newEngine(t, wazero.NewCompilationCache()).compile(t, binary)
	config := func(m wasi.Mount) wasi.Config {
		return wasi.Config{Args: []string{"functions"}, Env: []string{"A=1", "B="}, Mounts: []wasi.Mount{m}}
	}
	for name, mount := range map[string]wasi.Mount{
		"folder": {Host: t.TempDir(), Guest: "/"},
		"volume": {Memory: true, Guest: "/"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := p.runHere(t, config(mount), mount.Memory)
			if got.Exit != 0 || got.Err != "" || !strings.HasSuffix(got.Stdout, "close\n") {
				t.Errorf("exit code %d, %s, output:\n%s", got.Exit, got.Err, got.Stdout)
			}
		})
	}
}
