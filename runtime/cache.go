package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tetratelabs/wazero"

	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/snapshot"
)

// A file of the transform cache is: magic, the length of the plan as 8 bytes little-endian, the plan, the running form,
// and the SHA-256 of all before it. A file that is damaged or of another version is as good as none.
const transformMagic = "durun transform 1\n"

// compile compiles a module with the engine. Trouble with the cache folder is no reason to fail: what can't be trusted there
// is removed, and made anew; and when a file can't be written (a full disk), the compiled code is in memory all the same,
// where a second call finds it.
func (r *Runtime) compile(ctx context.Context, binary []byte) (wazero.CompiledModule, error) {
	if r.cache == nil {
		return r.engine.CompileModule(compileContext(ctx), binary)
	}
	r.codeMu.Lock()
	defer r.codeMu.Unlock()
	index := filepath.Join(r.codeDir(), "index", fmt.Sprintf("%x", sha256.Sum256(binary)))
	indexed := r.checkCode(index)
	before := r.codeFiles()
	code, err := r.engine.CompileModule(compileContext(ctx), binary)
	if err != nil && ctx.Err() == nil {
		code, err = r.engine.CompileModule(compileContext(ctx), binary)
	}
	if err == nil && !indexed {
		r.indexCode(index, before)
	}
	return code, err
}

// wazero trusts its files but for a checksum over the machine code: a flipped bit elsewhere in one makes a program run
// astray. So for each module compiled the folder "index" has a file, named by the module's SHA-256, with the name of
// wazero's file and the SHA-256 of that.

// checkCode makes sure that wazero finds no damaged file for a module: it removes the file if it isn't as the index says, and
// if the index doesn't say, all files that no index names. It reports whether the index has the module's file.
func (r *Runtime) checkCode(index string) bool {
	name, sum, ok := readCodeIndex(index)
	if ok {
		path := filepath.Join(r.codeDir(), filepath.FromSlash(name))
		data, err := os.ReadFile(path)
		if got := sha256.Sum256(data); err == nil && hex.EncodeToString(got[:]) == sum {
			return true
		}
		_ = os.Remove(path)
	}
	_ = os.Remove(index)
	known := map[string]bool{}
	others, _ := filepath.Glob(filepath.Join(filepath.Dir(index), "*"))
	for _, o := range others {
		if name, _, ok := readCodeIndex(o); ok {
			known[name] = true
		}
	}
	for name := range r.codeFiles() {
		if !known[name] {
			_ = os.Remove(filepath.Join(r.codeDir(), filepath.FromSlash(name)))
		}
	}
	return false
}

func readCodeIndex(index string) (name, sum string, ok bool) {
	data, err := os.ReadFile(index)
	if err != nil {
		return "", "", false
	}
	name, sum, ok = strings.Cut(strings.TrimSuffix(string(data), "\n"), " ")
	return name, sum, ok && filepath.IsLocal(filepath.FromSlash(name)) && strings.HasPrefix(name, "wazero-") && len(sum) == 2*sha256.Size
}

// codeFiles returns the names of wazero's files, relative to the folder and with slashes.
func (r *Runtime) codeFiles() map[string]bool {
	files := map[string]bool{}
	paths, _ := filepath.Glob(filepath.Join(r.codeDir(), "wazero-*", "*"))
	for _, p := range paths {
		if rel, err := filepath.Rel(r.codeDir(), p); err == nil && filepath.Ext(p) != ".tmp" {
			files[filepath.ToSlash(rel)] = true
		}
	}
	return files
}

// indexCode writes the index of a module that has just been compiled. If it isn't clear which file is the module's, because
// another process has written one as well, there will be none: then the next process compiles the module again.
func (r *Runtime) indexCode(index string, before map[string]bool) {
	var added []string
	for name := range r.codeFiles() {
		if !before[name] {
			added = append(added, name)
		}
	}
	if len(added) != 1 {
		return
	}
	data, err := os.ReadFile(filepath.Join(r.codeDir(), filepath.FromSlash(added[0])))
	if err != nil {
		return
	}
	writeCacheFile(index, fmt.Appendf(nil, "%s %x\n", added[0], sha256.Sum256(data)))
}

// codeDir is where wazero keeps compiled code.
func (r *Runtime) codeDir() string { return filepath.Join(r.config.cacheDir, "wazero") }

// transformKey names a transform's result: the module, the transform's version, what suspends, and the globals offered,
// whose values are in the running form.
func (r *Runtime) transformKey(module snapshot.Hash) string {
	h := sha256.New()
	_, _ = h.Write(module[:])
	_, _ = fmt.Fprintf(h, "transform %d\n", instrument.Version)
	for _, m := range r.modules {
		for _, f := range m.Functions {
			if f.Await != nil {
				_, _ = fmt.Fprintf(h, "%q %q\n", m.Name, f.Name)
			}
		}
		for _, g := range m.Globals {
			_, _ = fmt.Fprintf(h, "global %q %q %#x %t %#x %#x\n", m.Name, g.Name, g.Type, g.Mutable, g.Value, g.High)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (r *Runtime) transformPath(key string) string {
	return filepath.Join(r.config.cacheDir, "transform", key)
}

func (r *Runtime) readTransform(key string) (*instrument.Plan, []byte, bool) {
	if r.config.cacheDir == "" {
		return nil, nil, false
	}
	data, err := os.ReadFile(r.transformPath(key))
	if err != nil || len(data) < len(transformMagic)+8+sha256.Size || !bytes.HasPrefix(data, []byte(transformMagic)) {
		return nil, nil, false
	}
	body, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, nil, false
	}
	rest := body[len(transformMagic):]
	n := binary.LittleEndian.Uint64(rest)
	rest = rest[8:]
	if n > uint64(len(rest)) {
		return nil, nil, false
	}
	plan, err := instrument.DecodePlan(rest[:n])
	if err != nil {
		return nil, nil, false
	}
	return plan, rest[n:], true
}

// writeTransform keeps a transform's result. The cache is a convenience: when it can't be written, nobody is told.
func (r *Runtime) writeTransform(key string, plan *instrument.Plan, running []byte) {
	if r.config.cacheDir == "" {
		return
	}
	p := plan.Encode()
	b := make([]byte, 0, len(transformMagic)+8+len(p)+len(running)+sha256.Size)
	b = append(b, transformMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(p)))
	b = append(append(b, p...), running...)
	sum := sha256.Sum256(b)
	b = append(b, sum[:]...)
	writeCacheFile(r.transformPath(key), b)
}

// writeCacheFile writes a file whole or not at all.
func writeCacheFile(path string, b []byte) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}
