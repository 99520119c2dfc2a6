package handler

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/durun/durun/hostabi"
)

// Call is what a handler is called with.
type Call struct {
	// Key is the call's idempotency key: the same for each attempt, in whichever process, and for no other call.
	Key       string
	Coroutine string // the id of the coroutine that calls
	Operation uint32 // the call's number in it
	Name      string // under which the handler was called
	Body      []byte // the argument; it must not be changed
	// Attempt counts from 1. An attempt that was throttled is repeated under the same number.
	Attempt int
}

// Func is a handler: it makes one attempt of a call, and returns the call's result, at most [hostabi.MaxPayload] bytes that
// nobody changes afterwards, or an error, see the package. It runs on any number of goroutines at the same time, and returns
// soon after ctx is done: when the attempt has taken too long, or the operation was cancelled.
type Func func(ctx context.Context, c Call) ([]byte, error)

// Set is a set of handlers, by name. The zero value is an empty one. It may be used by any number of goroutines; it must not
// be copied.
type Set struct {
	// OnRetry, if not nil, is told of each attempt that failed and will be repeated, and roughly when: a call's own pause, or
	// that of all calls of its name after throttling; calls that wait for their turn come on top. It is set before
	// the first call, and called from many goroutines.
	OnRetry func(c Call, err error, pause time.Duration)

	mu       sync.RWMutex
	handlers map[string]*handler

	callsMu sync.Mutex
	calls   int
	idle    chan struct{} // closed when there are no more calls; nil if nobody waits for that
}

// handler is what there is under a name. It is replaced as a whole, but for the gate.
type handler struct {
	run    Func
	policy Policy
	gate   *gate
}

// Handle sets the handler of a name. One that is there already is replaced for attempts to come of calls to come; calls under way
// keep the one with which they began, and both are held to the new limits of rate and concurrency together.
func (s *Set) Handle(name string, f Func, p Policy) {
	if f == nil {
		panic("handler: Handle with a nil Func")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handlers == nil {
		s.handlers = map[string]*handler{}
	}
	h := &handler{run: f, policy: p.withDefaults(), gate: &gate{}}
	if old := s.handlers[name]; old != nil {
		h.gate = old.gate
	}
	h.gate.configure(h.policy)
	s.handlers[name] = h
}

// Has reports whether there is a handler of that name.
func (s *Set) Has(name string) bool {
	return s.handler(name) != nil
}

func (s *Set) handler(name string) *handler {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.handlers[name]
}

// errTimeout is the cause of the end of a context in which an operation's or an attempt's time was up.
var errTimeout = errors.New("time is up")

// Progress is how far a call has come that has not ended. [Set.Do] tells of it, and goes on from what another process was told.
type Progress struct {
	Attempt   int       // the number of the last attempt, 0 before the first
	Throttled int       // how often attempts of that number were throttled
	Started   time.Time // when the last attempt started
	// Err is why the last attempt failed of those that have ended, as one line of printable UTF-8, at most [MaxProgressErr] bytes;
	// empty if none has.
	Err string
	// Next is before when there is no other attempt; zero while one is under way. Calls that wait for their turn come on top.
	Next time.Time
}

// MaxProgressErr is how long the text of an error is in a [Progress], in bytes.
const MaxProgressErr = 200

// next is the number of the next attempt. One that was under way in a process that has died had a number of its own.
func (p *Progress) next() int {
	if p.Throttled > 0 && !p.Next.IsZero() {
		return p.Attempt
	}
	return p.Attempt + 1
}

// starts notes that an attempt starts.
func (p *Progress) starts(number int, now time.Time) {
	if number != p.Attempt {
		p.Attempt, p.Throttled = number, 0
	}
	p.Started, p.Next = wall(now), time.Time{}
}

// failed notes why the attempt failed, and the pause after it.
func (p *Progress) failed(err error, throttled bool, pause time.Duration) {
	if throttled {
		p.Throttled++
	}
	p.Err, p.Next = line(err.Error()), wall(time.Now().Add(pause))
}

// wall is a time as others have it: by the wall clock alone.
func wall(t time.Time) time.Time { return t.Round(0).UTC() }

// Do carries out a call: it tries until there is a result or an end, as the name's [Policy] says, and waits in between for
// its turn. c.Attempt is Do's to set. begun is when the operation was begun, the zero time for now; before is what is known of
// attempts by other processes, from where the numbers go on, and the last pause. onProgress, if not nil, is told on Do's goroutine of each
// attempt, before it starts and when it has failed and will be repeated.
//
// The error is ctx's own when that is done before there is a result; else a [*hostabi.OperationError] with one of these
// codes, and a message for people: at most some 4 KiB of printable UTF-8.
//
//   - [hostabi.CodeDenied]: there is no handler of that name;
//   - [hostabi.CodeFailed]: the handler says that it is of no use to try again;
//   - [hostabi.CodeTimeout]: the time of the policy is over, whether or not an attempt was made;
//   - [hostabi.CodeExhausted]: there were as many attempts as the policy allows, and the last one failed;
//   - [hostabi.CodeLimit]: the result is longer than [hostabi.MaxPayload].
func (s *Set) Do(ctx context.Context, c Call, begun time.Time, before Progress, onProgress func(Progress)) ([]byte, error) {
	s.count(1)
	defer s.count(-1)
	h := s.handler(c.Name)
	if h == nil {
		return nil, operationError(hostabi.CodeDenied, "there is no handler %q", c.Name)
	}
	if onProgress == nil {
		onProgress = func(Progress) {}
	}
	parent := ctx
	if h.policy.Timeout > 0 {
		now := time.Now()
		if begun.IsZero() || begun.After(now) { // after: on the clock of another machine
			begun = now
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, begun.Add(h.policy.Timeout), errTimeout)
		defer cancel()
	}
	p := before
	var last error // of the attempts
	if p.Err != "" {
		last = errors.New(p.Err)
	}
	// ended is the error of a call that is over because ctx is done.
	ended := func() error {
		if err := parent.Err(); err != nil {
			return err
		}
		if last == nil {
			return operationError(hostabi.CodeTimeout, "no attempt has ended within %v", h.policy.Timeout)
		}
		return operationError(hostabi.CodeTimeout, "no success within %v; the last attempt: %s", h.policy.Timeout, text(last.Error()))
	}
	if left := h.policy.left(&before); left > 0 && !sleep(ctx, left) {
		return nil, ended()
	}
	failures := 0 // of attempts that have ended: those that a dying process cut off count, and say nothing of the service
	for c.Attempt = p.next(); ; {
		turn, err := h.gate.enter(ctx)
		if err != nil {
			return nil, ended()
		}
		p.starts(c.Attempt, turn.start)
		onProgress(p)
		var result []byte
		result, err = h.attempt(ctx, c)
		pause := h.gate.leave(turn, err, h.policy.pause)
		if err == nil {
			return result, nil
		}
		if end := finalEnd(err); end != nil {
			return nil, end
		}
		if ctx.Err() == nil || last == nil || !errors.Is(err, ctx.Err()) { // that the time was up says less than what came before
			last = err
		}
		if ctx.Err() != nil {
			return nil, ended()
		}
		throttled := errors.As(err, new(*Throttled))
		if !throttled {
			if h.policy.MaxAttempts > 0 && c.Attempt >= h.policy.MaxAttempts {
				return nil, operationError(hostabi.CodeExhausted, "%d attempts; the last one: %s", c.Attempt, text(err.Error()))
			}
			failures++
			pause = h.policy.pause(failures)
		}
		p.failed(err, throttled, pause)
		onProgress(p)
		s.retry(c, err, pause)
		if throttled { // the gate pauses
			continue
		}
		if !sleep(ctx, pause) {
			return nil, ended()
		}
		c.Attempt++
	}
}

// count counts the calls under way.
func (s *Set) count(by int) {
	s.callsMu.Lock()
	defer s.callsMu.Unlock()
	if s.calls += by; s.calls == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// Wait waits until no call is under way, or ctx is done. After calls were cancelled it takes as long as their handlers need to
// notice: an [Exec] until its processes are killed. A process that ended before would leave those behind.
func (s *Set) Wait(ctx context.Context) {
	s.callsMu.Lock()
	if s.calls == 0 {
		s.callsMu.Unlock()
		return
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.callsMu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

func (s *Set) retry(c Call, err error, pause time.Duration) {
	if s.OnRetry != nil {
		s.OnRetry(c, err, pause)
	}
}

// attempt calls the handler once.
func (h *handler) attempt(ctx context.Context, c Call) ([]byte, error) {
	inner := ctx
	if h.policy.AttemptTimeout > 0 {
		var cancel context.CancelFunc
		inner, cancel = context.WithTimeoutCause(ctx, h.policy.AttemptTimeout, errTimeout)
		defer cancel()
	}
	result, err := h.guarded(inner, c)
	switch {
	case err != nil && inner.Err() != nil && ctx.Err() == nil:
		return nil, &attemptTimeout{h.policy.AttemptTimeout, err}
	case err != nil:
		return nil, err
	case len(result) > hostabi.MaxPayload:
		return nil, tooLarge()
	}
	return result, nil
}

// attemptTimeout says that an attempt took too long. err is what the handler made of it.
type attemptTimeout struct {
	limit time.Duration
	err   error
}

func (e *attemptTimeout) Unwrap() error { return e.err }

func (e *attemptTimeout) Error() string {
	text := fmt.Sprintf("not done within %v", e.limit)
	if !errors.Is(e.err, context.DeadlineExceeded) { // which says the same
		text += ": " + e.err.Error()
	}
	return text
}

// guarded turns a panic into an error.
func (h *handler) guarded(ctx context.Context, c Call) (result []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			result, err = nil, &PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	return h.run(ctx, c)
}

// sleep waits, and reports whether it did so to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
