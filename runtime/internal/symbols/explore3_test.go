package symbols

import (
	"syscall"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/wasm"
)

func BenchmarkInfer(b *testing.B) {
	bin, _ := guests.Python()
	m, _ := wasm.Decode(bin)
	var r0, r1 syscall.Rusage
	syscall.Getrusage(0, &r0)
	b.ReportAllocs()
	for b.Loop() {
		Infer(m)
	}
	syscall.Getrusage(0, &r1)
	b.ReportMetric(float64(r1.Utime.Nano()-r0.Utime.Nano()+r1.Stime.Nano()-r0.Stime.Nano())/1e6/float64(b.N), "cpu-ms/op")
}
