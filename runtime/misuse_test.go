package runtime

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// TestAfterClose uses what has been closed. That says nothing of the module, which is what a child would fail with for good.
func TestAfterClose(t *testing.T) {
	ctx := t.Context()
	r, err := New(ctx, NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	binary := waitersBinary(t)
	var modules []*Module
	for range 2 {
		m, err := r.Compile(ctx, binary)
		if err != nil {
			t.Fatal(err)
		}
		modules = append(modules, m)
	}
	start := func(m *Module) (*Coroutine, error) {
		return m.Start(ctx, StartConfig{ID: "a", Entry: "approve", Input: nanoseconds(-1)})
	}
	c, err := start(modules[1])
	if err != nil {
		t.Fatal(err)
	}
	for what, close := range map[string]func() error{
		"coroutine": c.Close,
		"module":    func() error { return modules[0].Close(ctx) },
	} {
		if err := errors.Join(close(), close()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, resume := c.Resume(ctx)
	_, capture := c.Capture()
	_, start0 := start(modules[0])
	if err := errors.Join(r.Close(ctx), r.Close(ctx)); err != nil {
		t.Errorf("runtime: %v", err)
	}
	_, start1 := start(modules[1])
	_, compile := r.Compile(ctx, binary)
	for what, err := range map[string]error{
		"Resume": resume, "Wait": c.Wait(ctx), "Capture": capture, "Start of a module": start0,
		"Start of a runtime": start1, "Compile": compile,
	} {
		if !errors.Is(err, ErrClosed) || errors.As(err, new(*ModuleError)) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	if err := errors.Join(modules[0].Close(ctx), modules[1].Close(ctx)); err != nil {
		t.Errorf("modules after their runtime: %v", err)
	}
}

// TestStartRefused starts what is no program, and what nobody waits for any more: there is no coroutine then.
func TestStartRefused(t *testing.T) {
	m := waiters(t)
	s := newTestScheduler(t, m, SchedulerConfig{})
	if _, err := s.Start(t.Context(), Program{ID: "a"}); err == nil {
		t.Error("it was started without a module")
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Start(done, Program{ID: "a", Module: m, Entry: "approve"}); !errors.Is(err, context.Canceled) {
		t.Errorf("started when its context was done: %v", err)
	}
	if s.Drives("a") {
		t.Error("it is driven")
	}
}

// TestCloseTwice closes a scheduler, which waits for a guest that computes for ever, and closes it again with less patience.
func TestCloseTwice(t *testing.T) {
	m := waiters(t)
	store := snapshot.NewStore(bucket.NewMem())
	s := NewScheduler(m.runtime, SchedulerConfig{Store: store})
	if _, err := s.Start(t.Context(), Program{ID: "waits", Module: m, Entry: "approve", Input: nanoseconds(-1)}); err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() {
		_, err := s.Start(context.Background(), Program{ID: "spins", Module: m, Entry: "spin"})
		started <- err
	}()
	for spins := false; !spins; {
		time.Sleep(time.Millisecond) //nolint:forbidigo // that it runs has no event
		s.mu.Lock()
		spins = s.tasks["spins"] != nil && s.tasks["spins"].state == taskTurn
		s.mu.Unlock()
	}
	patient := make(chan error, 1)
	go func() { patient <- s.Close(context.Background()) }()
	for closing := false; !closing; {
		s.mu.Lock()
		closing = s.closing
		s.mu.Unlock()
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(s.Close(done), <-patient, s.Close(t.Context())); err != nil {
		t.Error(err)
	}
	if err := <-started; err == nil {
		t.Error("what computes for ever was started")
	}
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("closed, it has %+v", st)
	}
	if head, err := store.Head(t.Context(), "waits"); err != nil || head.Status != snapshot.Suspended {
		t.Errorf("%+v, %v", head, err)
	}
}
