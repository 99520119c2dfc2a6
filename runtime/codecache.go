package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tetratelabs/wazero"

	"github.com/durun/durun/runtime/internal/wasm"
)

// wazero keeps compiled code in files, by the SHA-256 of a module. To load one takes decoding and validating the module
// first, all of its code, which takes several times as long as loading the machine code, and finds nothing new. So wazero
// is given another module to load: the shell, which is the module with functions that only trap. Its name in wazero's
// folder is given to the machine code of the module itself. All that wazero takes from the module besides machine code is the
// same in both.
//
// What must not happen is that wazero compiles a shell, finding no file or one that it doesn't like, and the guest traps. So
// the file is held open while wazero loads it: if it still stands in its place afterwards, it was there all the time, for
// wazero replaces a file only by another.
//
// wazero also trusts its files but for a checksum over the machine code: a flipped bit elsewhere in one makes a program run
// astray. So for each shell the folder "index" has a file, named by the shell's SHA-256, with the name of wazero's file
// and a checksum of that.

// shellSection is the name of a custom section with the SHA-256 of the module whose shell it is: without it, modules that
// differ in code alone would have the same shell.
const shellSection = "durun.shell"

// shellOf returns the shell of a module, which encodes to binary.
func shellOf(m *wasm.Module, binary []byte) []byte {
	s := m.Hollow()
	sum := sha256.Sum256(binary)
	s.Customs = append(s.Customs, wasm.Custom{Name: shellSection, Data: sum[:]})
	return s.Encode()
}

// codeDir is where compiled code is kept.
func (r *Runtime) codeDir() string { return filepath.Join(r.config.cacheDir, codeFolder) }

// loadCode returns the code of the module that has a shell. It returns false if it isn't in the cache, or not as it was
// written.
func (r *Runtime) loadCode(ctx context.Context, shell []byte) (wazero.CompiledModule, bool) {
	if r.cache == nil {
		return nil, false
	}
	r.codeMu.Lock()
	defer r.codeMu.Unlock()
	key := shellKey(shell)
	index := r.codeIndex(key)
	name, sum, ok := readCodeIndex(index)
	if !ok {
		return nil, false
	}
	path := filepath.Join(r.codeDir(), filepath.FromSlash(name))
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer func() { _ = f.Close() }()
	if got, err := checksum(f); err != nil || got != sum {
		return nil, false
	}
	code, err := r.engine.CompileModule(ctx, shell)
	if err != nil {
		return nil, false
	}
	opened, err := f.Stat()
	if err == nil {
		var inPlace fs.FileInfo
		if inPlace, err = os.Stat(path); err == nil && os.SameFile(opened, inPlace) {
			markUsed(index)
			return code, true
		}
	}
	_ = code.Close(ctx)
	return nil, false
}

// compile compiles a module, keeps the code for its shell, and returns it. Trouble with the cache folder is no reason to fail.
func (r *Runtime) compile(ctx context.Context, binary, shell []byte) (wazero.CompiledModule, error) {
	if r.cache == nil {
		return r.engine.CompileModule(compileContext(ctx), binary)
	}
	if err := r.keepCode(ctx, binary, shell); err == nil {
		if code, ok := r.loadCode(ctx, shell); ok {
			return code, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r.codeMu.Lock()
	defer r.codeMu.Unlock()
	r.sweepCode()
	code, err := r.engine.CompileModule(compileContext(ctx), binary)
	if err != nil && ctx.Err() == nil {
		// When a file can't be written (a full disk), the compiled code is in memory all the same, where a second call finds it.
		code, err = r.engine.CompileModule(compileContext(ctx), binary)
	}
	return code, err
}

// keepCode compiles a module, and puts the code into the folder under its shell's name. It works in a folder of its own, where
// the files are those of the module and of its shell for sure.
func (r *Runtime) keepCode(ctx context.Context, binary, shell []byte) (err error) {
	if err := os.MkdirAll(r.codeDir(), 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(r.codeDir(), unfinishedPrefix+"*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	compileIn := func(sub string, binary []byte) (file string, err error) {
		sub = filepath.Join(dir, sub)
		cache, err := wazero.NewCompilationCacheWithDir(sub)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, cache.Close(ctx)) }()
		engine := wazero.NewRuntimeWithConfig(ctx, engineConfig().WithCompilationCache(cache))
		defer func() { err = errors.Join(err, engine.Close(ctx)) }()
		if _, err := engine.CompileModule(compileContext(ctx), binary); err != nil {
			return "", err
		}
		files, err := filepath.Glob(filepath.Join(sub, "wazero-*", "*"))
		if err != nil || len(files) != 1 {
			return "", fmt.Errorf("the engine has written %d files of code: %w", len(files), errors.ErrUnsupported)
		}
		return files[0], nil
	}
	code, err := compileIn("module", binary)
	if err != nil {
		return err
	}
	named, err := compileIn("shell", shell)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(filepath.Join(dir, "shell"), named)
	if err != nil {
		return err
	}
	f, err := os.Open(code)
	if err != nil {
		return err
	}
	sum, err := checksum(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	path := filepath.Join(r.codeDir(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Rename(code, path); err != nil {
		return err
	}
	key := shellKey(shell)
	err = writeFile(r.codeIndex(key), fmt.Appendf(nil, "%s %s %s\n", key, filepath.ToSlash(name), sum))
	r.trimCache()
	return err
}

func shellKey(shell []byte) string {
	sum := sha256.Sum256(shell)
	return hex.EncodeToString(sum[:])
}

func (r *Runtime) codeIndex(key string) string { return filepath.Join(r.codeDir(), indexFolder, key) }

// readCodeIndex returns the name of the file with the code for a shell, with slashes, and its checksum.
func readCodeIndex(index string) (name, sum string, ok bool) {
	data, err := os.ReadFile(index)
	if err != nil {
		return "", "", false
	}
	fields := strings.Fields(string(data))
	if len(fields) != 3 || fields[0] != filepath.Base(index) {
		return "", "", false
	}
	name, sum = fields[1], fields[2]
	return name, sum, filepath.IsLocal(filepath.FromSlash(name)) && strings.HasPrefix(name, "wazero-")
}

// checksum returns the length and the checksum of a file as text.
func checksum(f io.Reader) (string, error) {
	sum := crc32.New(castagnoli)
	n, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{f}, make([]byte, 256<<10))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%08x", n, sum.Sum32()), nil
}

// sweepCode removes the files of code that no index names: what wazero writes on its own has no checksum.
func (r *Runtime) sweepCode() {
	known := map[string]bool{}
	indexed, _ := filepath.Glob(filepath.Join(r.codeDir(), indexFolder, "*"))
	for _, i := range indexed {
		if name, _, ok := readCodeIndex(i); ok {
			known[filepath.Join(r.codeDir(), filepath.FromSlash(name))] = true
		}
	}
	files, _ := filepath.Glob(filepath.Join(r.codeDir(), "wazero-*", "*"))
	for _, f := range files {
		if !known[f] {
			_ = os.Remove(f)
		}
	}
}
