package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/durun/durun/hostabi/wasi"
)

// binaryen is a wasm-opt.
type binaryen struct {
	path    string
	version string // as it says itself
}

// findBinaryen returns nil and an error where there is no wasm-opt.
func (b *bench) findBinaryen() (*binaryen, error) {
	if b.short {
		return nil, errShort
	}
	path, err := exec.LookPath("wasm-opt")
	if err != nil {
		return nil, errors.New("there is no wasm-opt on the PATH; Debian's package is binaryen")
	}
	out, err := exec.CommandContext(b.ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", path, err)
	}
	version := strings.TrimSpace(string(out))
	b.report.Machine.Binaryen = version
	return &binaryen{path, version}, nil
}

// asyncified is what asyncify made of a module, and what that took.
type asyncified struct {
	Path  string  `json:"-"`
	CPU   float64 `json:"cpu"`   // seconds
	Bytes int64   `json:"bytes"` // of memory, at most
}

// flags are those that Binaryen's documentation asks for, with the same imports to suspend at as durun's, and the features
// that the guests use.
func (y *binaryen) flags() []string {
	var imports []string
	for _, f := range wasi.Module.Functions {
		if f.Await != nil {
			imports = append(imports, wasi.Module.Name+"."+f.Name)
		}
	}
	return []string{
		"--enable-bulk-memory", "--enable-sign-ext", "--enable-nontrapping-float-to-int", "--enable-mutable-globals",
		"--enable-multivalue", "--enable-reference-types", "--enable-simd",
		"--asyncify", "--pass-arg=asyncify-imports@" + strings.Join(imports, ","), "-O2",
	}
}

// asyncify runs wasm-opt, unless the cache has what it makes of this module.
func (y *binaryen) asyncify(b *bench, module string) (*asyncified, error) {
	binary, err := os.ReadFile(module)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\n%q\n", y.version, y.flags())
	_, _ = h.Write(binary)
	dir := filepath.Join(b.kept, "asyncify")
	a := &asyncified{Path: filepath.Join(dir, fmt.Sprintf("%.8x.wasm", h.Sum(nil)))}
	facts := strings.TrimSuffix(a.Path, ".wasm") + ".json"
	if data, err := os.ReadFile(facts); err == nil && json.Unmarshal(data, a) == nil {
		if _, err := os.Stat(a.Path); err == nil {
			return a, nil
		}
	}
	b.progress("asyncify of %s: once, as the result is kept in %s; CPython takes minutes", filepath.Base(module), dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	part := b.artefact("asyncified.wasm")
	cmd := exec.CommandContext(b.ctx, y.path, append(y.flags(), module, "-o", part)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, tail(out))
	}
	a.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	a.Bytes = peakMemory(cmd.ProcessState)
	data, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	// The module goes first: facts without a module count for nothing.
	if data, err := os.ReadFile(part); err != nil {
		return nil, err
	} else if err := os.WriteFile(a.Path, data, 0o644); err != nil {
		return nil, err
	}
	return a, os.WriteFile(facts, data, 0o644)
}
