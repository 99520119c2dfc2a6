package runtime

import (
	"encoding/binary"
	"errors"

	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// memoryImage is what memory holds before anything of the guest runs: the runs of pages that aren't zero, ascending.
type memoryImage []memoryRun

type memoryRun struct {
	at   uint64 // address of data
	data []byte
}

// imageOf returns the image of a memory, which shares its bytes.
func imageOf(memory []byte) memoryImage {
	var m memoryImage
	end := func(at int) int { return min(at+snapshot.PageSize, len(memory)) }
	zero := func(at int) bool { return allZero(memory[at:end(at)]) }
	for at := 0; at < len(memory); at += snapshot.PageSize {
		if zero(at) {
			continue
		}
		start := at
		for end(at) < len(memory) && !zero(end(at)) {
			at = end(at)
		}
		m = append(m, memoryRun{uint64(start), memory[start:end(at)]})
	}
	return m
}

var zeroPage [snapshot.PageSize]byte

func allZero(page []byte) bool { return string(page) == string(zeroPage[:len(page)]) }

// fill writes the image into zeros. Zero pages are left alone, so that the system need not provide them.
func (m memoryImage) fill(mem []byte) {
	for _, r := range m {
		copy(mem[r.at:], r.data)
	}
}

// encode returns the image as bytes: of each run the address, the length, the bytes.
func (m memoryImage) encode() []byte {
	var b []byte
	for _, r := range m {
		b = binary.AppendUvarint(b, r.at)
		b = binary.AppendUvarint(b, uint64(len(r.data)))
		b = append(b, r.data...)
	}
	return b
}

var errImage = errors.New("not an image of this memory")

// decodeImage reads the image of the memory of a module. It shares the bytes of b.
func decodeImage(b []byte, module *wasm.Module) (memoryImage, error) {
	size := uint64(0)
	if len(module.Memories) > 0 {
		size = module.Memories[0].Min * snapshot.WasmPageSize
	}
	var m memoryImage
	for c := (cacheFile{data: b}); !c.done(); {
		r := memoryRun{at: c.number(), data: c.bytes()}
		if c.bad || r.at > size || uint64(len(r.data)) > size-r.at {
			return nil, errImage
		}
		m = append(m, r)
	}
	return m, nil
}
