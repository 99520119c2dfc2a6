package snapshot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// interpreter returns 31 MiB of memory like an interpreter's, changed from its image by about n bytes: pointers, small
// integers, text and some noise.
func interpreter(n int) (mem, image []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	const size = 31 << 20
	image = make([]byte, size)
	for i := 0; i < 4<<20; i += 4 {
		image[i], image[i+1] = byte(r.Uint32()), byte(i>>10)
	}
	mem = append([]byte(nil), image...)
	words := []string{"import ", "return ", "self.", "None", "__init__", "def ", "for i in range("}
	for changed := 0; changed < n; changed += PageSize {
		page := mem[int(r.Uint32()%(size/PageSize))*PageSize:][:PageSize]
		switch r.Uint32() % 4 {
		case 0: // text
			for at := 0; at < len(page); {
				at += copy(page[at:], words[r.IntN(len(words))])
			}
		case 1: // noise
			for i := 0; i < len(page)/4; i++ {
				page[i] = byte(r.Uint32())
			}
		default: // objects: reference count, type, pointers
			for at := 0; at+16 <= len(page); at += 16 {
				page[at] = byte(r.IntN(5))
				page[at+4], page[at+5], page[at+6] = byte(r.IntN(16)*16), 0x41, 0x12
				page[at+8], page[at+9], page[at+10] = byte(r.Uint32()), byte(r.IntN(64)), 0x01
			}
		}
	}
	return mem, image
}

func withFrames(n int) []Frame {
	frames := make([]Frame, n)
	for i := range frames {
		frames[i] = Frame{Function: uint32(1000 + i%7), Offset: uint32(40 + i%7*11), Slots: []Slot{
			{Index: 1, Value: Value{Type: I32, Lo: uint64(0x110000 + i*64)}},
			{Index: 4, Value: Value{Type: I64, Lo: uint64(i)}},
			{Operand: true, Index: 0, Value: Value{Type: F64, Lo: 0x3ff0000000000000}},
		}}
	}
	return frames
}

func benchSnapshot(pages []Page, frames int) *Snapshot {
	return &Snapshot{
		Module: HashOf([]byte("m")), ModuleName: "python.wasm", Coroutine: "bench", Seq: 1,
		Time: time.Unix(1700000000, 1).UTC(), Status: Suspended, Entry: "_start",
		Await:  &Await{Import: "wasi_snapshot_preview1.poll_oneoff", Kind: "timer", Detail: "sleep"},
		Frames: withFrames(frames), Memory: Memory{Size: 31 << 20, Pages: pages},
	}
}

func BenchmarkDiffPages(b *testing.B) {
	mem, image := interpreter(512 << 10)
	b.SetBytes(int64(len(mem)))
	for b.Loop() {
		DiffPages(mem, image)
	}
}

var shapes = []struct {
	name          string
	bytes, frames int
}{{"0.5MiB", 512 << 10, 40}, {"10MiB", 10 << 20, 40}, {"100000frames", 64 << 10, 100000}, {"small", 2 * PageSize, 5}}

func BenchmarkEncode(b *testing.B) {
	for _, n := range shapes {
		b.Run(n.name, func(b *testing.B) {
			mem, image := interpreter(n.bytes)
			s := benchSnapshot(DiffPages(mem, image), n.frames)
			b.SetBytes(int64(len(s.Memory.Pages)) * PageSize)
			b.ReportAllocs()
			var data []byte
			for b.Loop() {
				var err error
				if data, err = Encode(s); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data)), "encoded-bytes")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range shapes {
		b.Run(n.name, func(b *testing.B) {
			mem, image := interpreter(n.bytes)
			s := benchSnapshot(DiffPages(mem, image), n.frames)
			data, err := Encode(s)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(s.Memory.Pages)) * PageSize)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecodeManifest(b *testing.B) {
	data, err := Encode(benchSnapshot(nil, 5))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := DecodeManifest(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCommitMem(b *testing.B) {
	store := NewStore(bucket.NewMem())
	mem := make([]byte, 2*PageSize)
	copy(mem, "hello")
	i := 0
	for b.Loop() {
		s := benchSnapshot(DiffPages(mem, nil), 5)
		s.Coroutine = fmt.Sprintf("c%d", i)
		if _, err := store.Commit(context.Background(), s); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
