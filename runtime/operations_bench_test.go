package runtime

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// BenchmarkOperations is a commit of a coroutine that waits for many operations, of which one has ended since the last: capture and
// encode what has changed. It ends another one each time.
func BenchmarkOperations(b *testing.B) {
	m := scriptGuest(b)
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ops := make([]uint32, n)
			for i := range ops {
				ops[i] = uint32(i + 1)
			}
			begins := func(h hostabi.Coroutine, _ *bytes.Buffer, _ *hostabi.Pending) *hostabi.Pending {
				for range ops {
					if _, err := h.Begin(hostabi.Call, "work", []byte(`{"to":"ada@example.org"}`)); err != nil {
						b.Fatal(err)
					}
				}
				return nil
			}
			script := &scripted{steps: []step{begins, awaitAll(ops...)}}
			c, err := m.Start(b.Context(), StartConfig{ID: "bench", Hosts: []hostabi.Instance{script}})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			resume(b, c)
			first, deltas, total := 0, 0, 0 // bytes of the first, which is full; number and bytes of deltas
			commit := func() {
				s, err := c.Capture()
				if err != nil {
					b.Fatal(err)
				}
				data, err := snapshot.Encode(s)
				if err != nil {
					b.Fatal(err)
				}
				m, err := snapshot.DecodeManifest(data)
				if err != nil {
					b.Fatal(err)
				}
				c.Committed(snapshot.Commit{Manifest: *m, Bytes: int64(len(data)), Hash: snapshot.Digest(data)})
				switch {
				case first == 0:
					first = len(data)
				case m.Kind == snapshot.KindDelta:
					deltas, total = deltas+1, total+len(data)
				}
			}
			commit()
			for i := 0; b.Loop(); i++ {
				// There has to be one that has not ended: if need be the same ends again, otherwise.
				o := c.abi.ops.get(ops[i*7919%n])
				o.ended = false
				c.abi.ops.end(o.number, 0, "", fmt.Appendf(nil, `{"sent":%d}`, i))
				commit()
			}
			b.ReportMetric(float64(first), "B/full")
			if deltas > 0 { // else they are all so small that they are full
				b.ReportMetric(float64(total)/float64(deltas), "B/delta")
			}
		})
	}
}
