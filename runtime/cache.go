package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"

	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// The cache folder has (and is kept small: see cachelimit.go)
//
//	prepared/<key>     what is needed of a module to run it with the machine code at hand: see prepared
//	resume/<key>       the same of a resume module: see preparedResume
//	wazero/            machine code, in files of wazero's: see codecache.go
//	trimmed            an empty file
//
// Files are written whole or not at all, and have a checksum against damage. One that is damaged, another's or another
// version's is as good as none, and is made anew. That is all the protection there is: who can write to the folder can
// have programs run there anyway.

// Each kind of file begins with a line of its own, which counts its versions.
const (
	preparedMagic = "durun prepared module 1\n"
	resumeMagic   = "durun prepared resume module 1\n"
)

// The folders in a cache folder. What is being written has a name of its own until it is whole.
const (
	preparedFolder = "prepared"
	resumeFolder   = "resume"
	codeFolder     = "wazero"
	indexFolder    = "index" // in codeFolder

	unfinishedPrefix = ".new-"
)

// checksums of files. What they have to find is damage, and to hash 40 MB with SHA-256 would take as long as all else in a
// warm start.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// prepared is what is kept of a module: with it and the machine code, the module itself isn't needed, unless for
// continuations that no resume module has yet.
type prepared struct {
	size    int          // of the module, in bytes
	outline *wasm.Module // the module, internalised, with neither code nor data
	plan    *instrument.Plan
	image   memoryImage
	shell   []byte // of the running form: see shellOf
}

// outlineOf returns what prepared holds of an internalised module.
func outlineOf(m *wasm.Module) *wasm.Module {
	o := m.Hollow()
	o.Data, o.DataCount = nil, nil
	return o
}

// preparedKey names a prepared module: by the module, the transform's version, what suspends, and the globals offered, whose
// values are in the running form.
func (r *Runtime) preparedKey(module snapshot.Hash) string {
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

func (r *Runtime) readPrepared(key string) (*prepared, bool) {
	f, ok := r.readCacheFile(preparedFolder, key, preparedMagic)
	if !ok {
		return nil, false
	}
	p := &prepared{size: int(f.number())}
	outline, plan, image := f.bytes(), f.bytes(), f.bytes()
	p.shell = f.bytes()
	var err error
	if p.outline, err = wasm.Decode(outline); err == nil {
		p.plan, err = instrument.DecodePlan(plan)
	}
	if err == nil {
		p.image, err = decodeImage(image, p.outline)
	}
	return p, err == nil && f.done()
}

func (r *Runtime) writePrepared(key string, p *prepared) {
	f := newCacheFile(preparedMagic, key)
	f.addNumber(uint64(p.size))
	f.add(p.outline.Encode())
	f.add(p.plan.Encode())
	f.add(p.image.encode())
	f.add(p.shell)
	r.writeCacheFile(preparedFolder, key, f)
}

// preparedResume is what is kept of a resume module.
type preparedResume struct {
	// continuations has for each pair of frames, in the order of their keys, which continuation of the module stands for
	// the inner frame.
	continuations []uint32
	// slots has the types of each continuation's slots.
	slots [][]wasm.ValueType
	shell []byte // of the module
}

func (r *Runtime) readResume(key string) (*preparedResume, bool) {
	f, ok := r.readCacheFile(resumeFolder, key, resumeMagic)
	if !ok {
		return nil, false
	}
	p := &preparedResume{}
	for range f.count() {
		p.continuations = append(p.continuations, uint32(f.number()))
	}
	for range f.count() {
		var types []wasm.ValueType
		for range f.count() {
			types = append(types, wasm.ValueType(f.number()))
		}
		p.slots = append(p.slots, types)
	}
	p.shell = f.bytes()
	return p, f.done()
}

func (r *Runtime) writeResume(key string, p *preparedResume) {
	f := newCacheFile(resumeMagic, key)
	f.addNumber(uint64(len(p.continuations)))
	for _, c := range p.continuations {
		f.addNumber(uint64(c))
	}
	f.addNumber(uint64(len(p.slots)))
	for _, types := range p.slots {
		f.addNumber(uint64(len(types)))
		for _, t := range types {
			f.addNumber(uint64(t))
		}
	}
	f.add(p.shell)
	r.writeCacheFile(resumeFolder, key, f)
}

// cacheFile is the contents of a file, as they are written, or what is left of them as they are read: numbers, and bytes
// with their length before them. The line that says of what kind it is and the file's key stand in front, so that a file
// under another's name isn't taken for that; behind stands a checksum.
type cacheFile struct {
	data []byte
	bad  bool // something else was read than was written
}

func newCacheFile(magic, key string) *cacheFile {
	f := &cacheFile{data: []byte(magic)}
	f.add([]byte(key))
	return f
}

func (f *cacheFile) addNumber(n uint64) { f.data = binary.AppendUvarint(f.data, n) }

func (f *cacheFile) add(b []byte) {
	f.addNumber(uint64(len(b)))
	f.data = append(f.data, b...)
}

func (f *cacheFile) number() uint64 {
	v, n := binary.Uvarint(f.data)
	if n <= 0 {
		f.bad, f.data = true, nil
		return 0
	}
	f.data = f.data[n:]
	return v
}

// count reads a number of things that take at least a byte each.
func (f *cacheFile) count() int {
	n := f.number()
	if n > uint64(len(f.data)) {
		f.bad, f.data = true, nil
		return 0
	}
	return int(n)
}

func (f *cacheFile) bytes() []byte {
	n := f.count()
	b := f.data[:n:n]
	f.data = f.data[n:]
	return b
}

// done reports whether all was read, and all was well.
func (f *cacheFile) done() bool { return !f.bad && len(f.data) == 0 }

// readCacheFile reads a file. It returns false if there is none that is whole and its own.
func (r *Runtime) readCacheFile(folder, key, magic string) (*cacheFile, bool) {
	if r.config.cacheDir == "" {
		return nil, false
	}
	path := filepath.Join(r.config.cacheDir, folder, key)
	data, err := os.ReadFile(path)
	if err != nil || len(data) < len(magic)+crc32.Size || !bytes.HasPrefix(data, []byte(magic)) {
		return nil, false
	}
	body, sum := data[:len(data)-crc32.Size], data[len(data)-crc32.Size:]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(sum) {
		return nil, false
	}
	markUsed(path)
	f := &cacheFile{data: body[len(magic):]}
	return f, string(f.bytes()) == key
}

// writeCacheFile writes a file. The cache is a convenience: when it can't be written, nobody is told.
func (r *Runtime) writeCacheFile(folder, key string, f *cacheFile) {
	if r.config.cacheDir == "" {
		return
	}
	data := binary.LittleEndian.AppendUint32(f.data, crc32.Checksum(f.data, castagnoli))
	_ = writeFile(filepath.Join(r.config.cacheDir, folder, key), data)
	r.trimCache()
}

// writeFile writes a file whole or not at all.
func writeFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), unfinishedPrefix+"*")
	if err != nil {
		return err
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
	return err
}

// fetched is where a module comes from: it is fetched when something needs it that isn't in the cache, to transform it or to
// build continuations. It is kept from then on.
type fetched struct {
	hash  snapshot.Hash
	fetch func(context.Context) ([]byte, error)

	mu      sync.Mutex
	decoded *wasm.Module
	size    int
}

// decode returns the module, and its size in bytes. It returns a *[ModuleError] for bytes that aren't a module.
func (s *fetched) decode(ctx context.Context) (*wasm.Module, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decoded != nil {
		return s.decoded, s.size, nil
	}
	binary, err := s.fetch(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch module %v: %w", s.hash, err)
	}
	m, err := wasm.Decode(binary)
	if err != nil {
		return nil, 0, &ModuleError{Msg: "not a module that durun can run", Err: err}
	}
	s.decoded, s.size = m, len(binary)
	return m, s.size, nil
}
