package instrument

import (
	"os"
	"testing"
	"time"
	"fmt"

	"github.com/durun/durun/runtime/internal/wasm"
)

func TestDev(t *testing.T) {
	path := os.Getenv("DEV_WASM")
	if path == "" { t.Skip() }
	data, err := os.ReadFile(path)
	if err != nil { t.Fatal(err) }
	t0 := time.Now()
	m, err := wasm.Decode(data)
	if err != nil { t.Fatal(err) }
	fmt.Println("decode", time.Since(t0)); t0 = time.Now()
	r, err := Transform(m, Config{Await: func(mod, name string) bool {
		return name == "poll_oneoff" || name == "fd_read" || name == "sched_yield" || name == "yield" || name == "checkpoint"
	}})
	if err != nil { t.Fatal(err) }
	fmt.Println("transform", time.Since(t0)); t0 = time.Now()
	out := r.Module.Encode()
	fmt.Println("encode", time.Since(t0), len(out)); t0 = time.Now()
	fmt.Printf("%+v ratio %.3f\n", r.Stats, float64(r.Stats.CodeAfter)/float64(r.Stats.CodeBefore))
	os.WriteFile("/tmp/dev/out.wasm", out, 0o644)
	m2, err := wasm.Decode(out)
	if err != nil { t.Fatal(err) }
	if err := wasm.Validate(m2); err != nil { t.Fatal(err) }
	fmt.Println("validate", time.Since(t0)); t0 = time.Now()
	enc := r.Plan.Encode()
	fmt.Println("plan", len(enc), time.Since(t0)); t0 = time.Now()
	p2, err := DecodePlan(enc)
	if err != nil { t.Fatal(err) }
	fmt.Println("plan decode", time.Since(t0)); t0 = time.Now()
	// every site's continuation
	n := 0
	step := len(p2.Sites)/200+1
	for i := 0; i < len(p2.Sites); i+=step {
		s := p2.Sites[i]
		if s.Function == 0 && s.Offset == 0 { continue }
		rm, err := p2.Resume(m, []Continuation{{s.Function, s.Offset, s.Slots}}, s.Function, 0)
		if err != nil { t.Fatal(i, err) }
		enc := rm.Encode()
		d, err := wasm.Decode(enc)
		if err != nil { t.Fatal(i, err) }
		if err := wasm.Validate(d); err != nil { os.WriteFile("/tmp/dev/bad.wasm", enc, 0o644); t.Fatal(i, s.Function, s.Offset, err) }
		n++
	}
	fmt.Println("conts", n, time.Since(t0))
}
