package handler

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// What a call costs beside its handler: in, and out with the result.
func BenchmarkDo(b *testing.B) {
	for name, p := range map[string]Policy{"free": {}, "attempt-timeout-off": {AttemptTimeout: -1}, "timeout": {Timeout: time.Hour}} {
		b.Run(name, func(b *testing.B) {
			var s Set
			s.Handle("f", func(context.Context, Call) ([]byte, error) { return nil, nil }, p)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Do(b.Context(), Call{Name: "f"}, time.Time{}, Progress{}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The same with many that wait for their turn.
func BenchmarkDoContended(b *testing.B) {
	var s Set
	s.Handle("f", func(context.Context, Call) ([]byte, error) { return nil, nil }, Policy{Concurrency: 8})
	b.ReportAllocs()
	b.SetParallelism(1000)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Do(b.Context(), Call{Name: "f"}, time.Time{}, Progress{}, nil); err != nil {
				b.Error(err)
			}
		}
	})
}

// The time from an endpoint's answer to the return of Do.
func BenchmarkHTTPAnswer(b *testing.B) {
	base := time.Now()
	var answered atomic.Int64 // nanoseconds from base
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered.Store(int64(time.Since(base))) }))
	defer server.Close()
	f, err := HTTP(server.URL, HTTPOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var s Set
	s.Handle("f", f, Policy{})
	var took []time.Duration
	for b.Loop() {
		if _, err := s.Do(b.Context(), Call{Name: "f", Body: []byte("{}")}, time.Time{}, Progress{}, nil); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(base)-time.Duration(answered.Load()))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/p99")
}
