package snapshot

import (
	"bytes"
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
}{{"0.5MiB", 512 << 10, 40}, {"10MiB", 10 << 20, 40}, {"100000frames", 64 << 10, 100000}, {"dense", 2 * PageSize, 5}, {"small", 0, 5}}

// benchShape returns a snapshot of a shape; of the one without bytes some words of two pages have changed.
func benchShape(bytes, frames int) *Snapshot {
	if bytes == 0 {
		mem := make([]byte, WasmPageSize)
		for i := range 20 {
			mem[i*200], mem[8*PageSize+i*8] = byte(i+1), byte(i+1)
		}
		return benchSnapshot(DiffPages(mem, nil), frames)
	}
	mem, image := interpreter(bytes)
	return benchSnapshot(DiffPages(mem, image), frames)
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range shapes {
		b.Run(n.name, func(b *testing.B) {
			s := benchShape(n.bytes, n.frames)
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

// pythonStep returns a commit of an interpreter and the one after it, as measured of CPython that prints a line and
// sleeps: some pages change in a few words, the stack's in more, the frames don't, the host's clocks do.
func pythonStep(pages, frames int) (before, after *Snapshot) {
	mem, image := interpreter(512 << 10)
	step := func(seq uint64) *Snapshot {
		s := benchSnapshot(nil, frames)
		s.Seq, s.Time = seq, s.Time.Add(time.Duration(seq)*time.Millisecond)
		s.Parent = &Parent{Seq: seq - 1, Hash: HashOf([]byte{byte(seq)})}
		s.Await.Args = []Value{{I32, 0x1fa38, 0}, {I32, 0x1fa10, 0}, {I32, 1, 0}, {I32, 0x1fa0c, 0}}
		s.Await.Until, s.Await.Data = s.Time.Add(time.Millisecond), fmt.Appendf(nil, "%029d", seq*1000003)
		s.Globals = []Global{{0, Value{I32, 0x1f9e0, 0}}}
		s.Host = []Section{{"durun", 1, []byte{1}}, {"wasi_snapshot_preview1", 1, fmt.Appendf(nil, "%040d%040d%04d", 7, seq*1000003, 3)}}
		return s
	}
	before, after = step(41), step(42)
	before.Memory.Pages = DiffPages(bytes.Clone(mem), image)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range pages {
		p := mem[int(before.Memory.Pages[i*3].Number)*PageSize:][:PageSize]
		words := 4
		if i < 2 {
			words = 20
		}
		for range words {
			at := r.IntN(pageWords) * wordSize
			for k := range 1 + r.IntN(4) {
				p[at+k] ^= byte(1 + r.IntN(255))
			}
		}
	}
	now := DiffPages(mem, image)
	after.Memory.Pages = changedPages(now, before.Memory.Pages)
	l := Lineage{origin: Origin{Root: Ref{Seq: 30}, RootBytes: 600_000, Anchor: 31}, anchorBytes: 1000}
	after.Base = l.Base(SinceParent, 42, before)
	return before, after
}

var steps = []struct{ pages, frames int }{{10, 12}, {26, 44}}

func BenchmarkEncodeDelta(b *testing.B) {
	for _, n := range steps {
		b.Run(fmt.Sprintf("%dpages", n.pages), func(b *testing.B) {
			_, s := pythonStep(n.pages, n.frames)
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

func BenchmarkDecodeDelta(b *testing.B) {
	for _, n := range steps {
		b.Run(fmt.Sprintf("%dpages", n.pages), func(b *testing.B) {
			base, s := pythonStep(n.pages, n.frames)
			data := encode(b, s)
			b.ReportAllocs()
			for b.Loop() {
				d, err := DecodeDelta(data)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := d.State(base); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range shapes {
		b.Run(n.name, func(b *testing.B) {
			s := benchShape(n.bytes, n.frames)
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
