package handler

import (
	"context"
	"time"
)

type Call struct {
	Key, Coroutine string
	Operation      uint32
	Name           string
	Body           []byte
	Attempt        int
}
type Func func(ctx context.Context, c Call) ([]byte, error)
type Set struct{ F map[string]Func }

func (s *Set) Has(name string) bool { return s.F[name] != nil }
func (s *Set) Do(ctx context.Context, c Call, begun time.Time, onAttempt func(int)) ([]byte, error) {
	onAttempt(c.Attempt + 1)
	return s.F[c.Name](ctx, c)
}

type Policy struct{}

func (s *Set) Handle(name string, f Func, p Policy) {
	if s.F == nil {
		s.F = map[string]Func{}
	}
	s.F[name] = f
}
func Final(err error) error { return err }
