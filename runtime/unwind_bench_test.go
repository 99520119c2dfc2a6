package runtime

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/snapshot"
)

// patient is WASI whose awaits wait for themselves, in the host, for as many times as patience says: the guest sleeps, and
// is not suspended.
type patient struct {
	*wasi.Instance
	module   *hostabi.Module
	patience int
}

func (p *patient) Module() *hostabi.Module { return p.module }

func patientModule() *hostabi.Module {
	m := &hostabi.Module{Name: wasi.Module.Name, Functions: slices.Clone(wasi.Module.Functions)}
	for i := range m.Functions {
		f := m.Functions[i]
		if f.Await == nil {
			if f.Call != nil {
				m.Functions[i].Call = func(ctx context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
					f.Call(ctx, g, i.(*patient).Instance, stack)
				}
			}
			continue
		}
		m.Functions[i].Await = func(ctx context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64, what *hostabi.Pending) *hostabi.Pending {
			p := i.(*patient)
			suspends := p.patience == 0
			for {
				var args [8]uint64
				copy(args[:], stack[:len(f.Params)])
				if what = f.Await(ctx, g, p.Instance, stack, what); what == nil || suspends {
					return what
				}
				copy(stack, args[:len(f.Params)])
				if p.patience--; p.patience == 0 {
					suspends = true
				}
				if err := p.Wait(ctx, what); err != nil {
					panic(err)
				}
			}
		}
	}
	return m
}

// BenchmarkUnwind is what it costs a CPython that sleeps in a loop to be suspended: it compares, in turn, sleeps that
// suspend with the same sleeps spent in the host function.
func BenchmarkUnwind(b *testing.B) {
	ctx := context.Background()
	for _, depth := range []int{0, 6} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			module := patientModule()
			r, err := New(ctx, NewConfig().WithModules(module))
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close(ctx)
			m, err := r.Compile(ctx, pythonBinary(b))
			if err != nil {
				b.Fatal(err)
			}
			source := fmt.Sprintf("import time\ndef f(n):\n  if n: list(map(f, [n-1]))\n  while not n: time.sleep(1e-9)\nf(%d)", depth)
			inst, err := wasi.New(wasi.Config{Args: []string{"python", "-c", source}, Clock: &virtualClock{}})
			if err != nil {
				b.Fatal(err)
			}
			host := &patient{Instance: inst, module: module}
			c, err := m.Start(ctx, StartConfig{ID: "bench", Hosts: []hostabi.Instance{host}})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			resume(b, c)
			const sleeps = 500
			var suspended, patient []float64
			for b.Loop() {
				start := time.Now()
				for range sleeps {
					resume(b, c)
				}
				suspended = append(suspended, float64(time.Since(start).Nanoseconds())/sleeps)
				host.patience = sleeps
				start = time.Now()
				resume(b, c)
				patient = append(patient, float64(time.Since(start).Nanoseconds())/sleeps)
			}
			if c.Status() != snapshot.Suspended {
				b.Fatal(c.Status(), c.Err())
			}
			slices.Sort(suspended)
			slices.Sort(patient)
			s, p := suspended[len(suspended)/2], patient[len(patient)/2]
			b.ReportMetric(s-p, "ns/unwind")
			b.ReportMetric(s, "ns/suspended")
			b.ReportMetric(p, "ns/patient")
			b.ReportMetric(float64(len(c.stack.sites)), "frames")
			b.ReportMetric(0, "ns/op")
		})
	}
}
