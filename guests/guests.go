// Package guests describes the programs under guests/ and testdata/ to this repository's tests and tools: how each was
// built, and how each behaves on plain wazero. It reads JSON and runs nothing. It is no part of durun's API, and only tests
// and guests/mkguests may import it.
package guests

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Guest is a built program.
type Guest struct {
	Name      string   `json:"name"`
	File      string   `json:"file"`      // the .wasm, relative to testdata/
	Source    string   `json:"source"`    // relative to the repository's root
	Toolchain []string `json:"toolchain"` // what each tool says of its version
	Build     []string `json:"build"`     // the commands, run in the source's folder
	SHA256    string   `json:"sha256"`    // of the .wasm, in hex
	Size      int64    `json:"size"`      // of the .wasm, in bytes
}

// Case is one run of a guest, and what it does on plain wazero: Stdout, and Exit or Results or Trap.
type Case struct {
	Name    string                       `json:"name"`
	Guest   string                       `json:"guest"`
	Entry   string                       `json:"entry,omitempty"` // an export; empty: _start
	Args    []string                     `json:"args,omitempty"`  // without the program's name
	Env     map[string]string            `json:"env,omitempty"`
	Stdin   string                       `json:"stdin,omitempty"`
	Dirs    map[string]map[string]string `json:"dirs,omitempty"`    // by place in the guest: files and their text
	Globals map[string]string            `json:"globals,omitempty"` // that the guest imports, by "module.name": "i32:a", "mut i64:ff"
	Exit    uint32                       `json:"exit,omitempty"`
	Results []string                     `json:"results,omitempty"` // of the entry: type:hex bits
	Trap    string                       `json:"trap,omitempty"`    // part of the error's text
	Awaits  int                          `json:"awaits,omitempty"`  // calls of durun.yield and durun.checkpoint
	Stdout  string                       `json:"stdout,omitempty"`
}

// Unbuilt are sources of which testdata/ has no module: what runs one builds it, and some are a part of others.
var Unbuilt = []string{
	"guests/assemblyscript/examples/json.ts", "guests/go/bench", "guests/go/durun", "guests/go/examples", "guests/rust/examples/json.rs",
}

// Manifest reads the guests that the repository ships. Testdata is the path of the folder of that name.
func Manifest(testdata string) ([]Guest, error) {
	return read[Guest](filepath.Join(testdata, "guests", "manifest.json"))
}

// Cases reads the runs of them.
func Cases(testdata string) ([]Case, error) {
	return read[Case](filepath.Join(testdata, "guests", "cases.json"))
}

func read[T any](name string) ([]T, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list []T
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("decode %s: %w", name, err)
	}
	return list, nil
}

// WriteManifest writes what [Manifest] reads.
func WriteManifest(testdata string, list []Guest) error {
	return write(filepath.Join(testdata, "guests", "manifest.json"), list)
}

// WriteCases writes what [Cases] reads.
func WriteCases(testdata string, list []Case) error {
	return write(filepath.Join(testdata, "guests", "cases.json"), list)
}

func write(name string, list any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(list); err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// Bytes reads the guest's module and checks it against the manifest.
func (g Guest) Bytes(testdata string) ([]byte, error) {
	name := filepath.Join(testdata, filepath.FromSlash(g.File))
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != g.SHA256 || int64(len(b)) != g.Size {
		return nil, fmt.Errorf("%s differs from the manifest: %d bytes, SHA-256 %x; build it with `make guests`", name, len(b), sum)
	}
	return b, nil
}
