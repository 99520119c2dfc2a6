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

// compile compiles a module with the engine. Trouble with wazero's cache folder is no reason to fail: a file that is
// damaged is removed with all others there, as they can't be told apart; and when a file can't be written (a full disk), the
// compiled code is in memory all the same, where a second call finds it.
func (r *Runtime) compile(ctx context.Context, binary []byte) (wazero.CompiledModule, error) {
	code, err := r.engine.CompileModule(compileContext(ctx), binary)
	if err == nil || r.cache == nil || ctx.Err() != nil {
		return code, err
	}
	// wazero has no sentinel for it.
	if strings.Contains(err.Error(), "compilationcache:") {
		folders, _ := filepath.Glob(filepath.Join(r.codeDir(), "*"))
		for _, f := range folders {
			_ = os.RemoveAll(f)
			// wazero makes it when the cache is opened only.
			_ = os.Mkdir(f, 0o700)
		}
	}
	return r.engine.CompileModule(compileContext(ctx), binary)
}

// codeDir is where wazero keeps compiled code.
func (r *Runtime) codeDir() string { return filepath.Join(r.config.cacheDir, "wazero") }

// transformKey names a transform's result: the module, the transform's version, and what suspends.
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
	path := r.transformPath(key)
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
