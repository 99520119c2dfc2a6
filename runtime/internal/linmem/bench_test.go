package linmem

import (
	"slices"
	"testing"
	"time"
)

// pythonSize is the size of the memory of a CPython that has imported a few modules.
const pythonSize = 31 << 20

// eachTrackingBench is eachTracking for benchmarks.
func eachTrackingBench(b *testing.B, f func(b *testing.B, mode tracking)) {
	for _, mode := range []tracking{userfaultfd, compare, heap} {
		b.Run(mode.String(), func(b *testing.B) {
			if mode != heap && !canMap {
				b.Skip("memories aren't mapped on this platform")
			}
			if mode == userfaultfd {
				if err := probe(); err != nil {
					b.Skip(err)
				}
			}
			f(b, mode)
		})
	}
}

// python returns an image without holes, of the size of CPython's memory.
func python(b *testing.B, mode tracking) *Image {
	return makeImage(b, mode, pythonSize, func(mem []byte) {
		for p := range uint32(pythonSize / PageSize) {
			pageOf(mem, p)[1] = byte(p%255 + 1)
		}
	})
}

// touch writes to n pages, spread over the memory.
func touch(mem []byte, n int) {
	for i := range n {
		mem[len(mem)/n*i]++
	}
}

// BenchmarkStep is a small step of a CPython: it writes to 16 pages, of which a commit is taken. See the metrics for its parts:
// the writes, telling, and remembering.
func BenchmarkStep(b *testing.B) {
	eachTrackingBench(b, func(b *testing.B, mode tracking) {
		image := python(b, mode)
		defer image.Release()
		m := makeMemory(b, Config{Image: image, Size: pythonSize, Max: 256 << 20, tracking: mode})
		defer m.Free()
		touch(m.Bytes(), 500)
		m.Full()
		m.Committed()
		m.Delta()
		m.Committed()
		b.ReportAllocs()
		var write, tell, remember stopwatch
		for b.Loop() {
			write.start()
			touch(m.Bytes(), 16)
			write.stop()
			tell.start()
			changes, ok := m.Delta()
			tell.stop()
			if !ok || len(changes) != 16 {
				b.Fatal(len(changes), ok)
			}
			remember.start()
			m.Committed()
			remember.stop()
		}
		write.report(b, "write")
		tell.report(b, "tell")
		remember.report(b, "remember")
	})
}

// BenchmarkStart is a CPython that starts, writes to 300 pages, commits once and ends: in a mapping that was kept from the
// last time, and in a new one.
func BenchmarkStart(b *testing.B) {
	eachTrackingBench(b, func(b *testing.B, mode tracking) {
		for _, kept := range []bool{true, false} {
			b.Run(map[bool]string{true: "kept", false: "new"}[kept], func(b *testing.B) {
				image := python(b, mode)
				defer image.Release()
				var start, write, commit, free stopwatch
				for b.Loop() {
					start.start()
					m := makeMemory(b, Config{Image: image, Size: pythonSize, Max: 256 << 20, tracking: mode})
					start.stop()
					write.start()
					touch(m.Bytes(), 300)
					write.stop()
					commit.start()
					m.Delta()
					m.Committed()
					commit.stop()
					free.start()
					m.Free()
					free.stop()
					if !kept {
						dropIdle(image)
					}
				}
				start.report(b, "start")
				write.report(b, "write")
				commit.report(b, "commit")
				free.report(b, "free")
			})
		}
	})
}

// BenchmarkDerive makes the image of a snapshot of a CPython that lists 500 pages.
func BenchmarkDerive(b *testing.B) {
	eachTrackingBench(b, func(b *testing.B, mode tracking) {
		initial := makeImage(b, mode, pythonSize, func(mem []byte) { touch(mem[:4<<20], 500) })
		defer initial.Release()
		for b.Loop() {
			image, err := initial.derive(mode, pythonSize, nil, func(mem []byte) error { touch(mem, 500); return nil })
			if err != nil {
				b.Fatal(err)
			}
			image.Release()
		}
	})
}

// BenchmarkSmall is a guest of 64 KiB that starts, writes to 3 pages, commits once and ends.
func BenchmarkSmall(b *testing.B) {
	eachTrackingBench(b, func(b *testing.B, mode tracking) {
		image := makeImage(b, mode, wasmPageSize, func(mem []byte) { mem[1024] = 1 })
		defer image.Release()
		b.ReportAllocs()
		for b.Loop() {
			m := makeMemory(b, Config{Image: image, Size: wasmPageSize, Max: maxSize, tracking: mode})
			touch(m.Bytes(), 3)
			if changes, _ := m.Delta(); len(changes) != 3 {
				b.Fatal(len(changes))
			}
			m.Committed()
			m.Free()
		}
	})
}

// stopwatch measures a part of a benchmark, of which it reports the median.
type stopwatch struct {
	since time.Time
	times []time.Duration
}

func (s *stopwatch) start() { s.since = time.Now() }

func (s *stopwatch) stop() { s.times = append(s.times, time.Since(s.since)) }

func (s *stopwatch) report(b *testing.B, part string) {
	slices.Sort(s.times)
	b.ReportMetric(float64(s.times[len(s.times)/2].Nanoseconds())/1000, part+"-µs")
}
