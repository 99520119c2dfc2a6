package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// Config says what is served. Scheduler must be set.
type Config struct {
	Scheduler *runtime.Scheduler
	// Programs are what can be started, by name. Of each a request gives ID, Input and further Args.
	Programs map[string]runtime.Program
	// MaxBody is the largest body that is read, in bytes; 0 stands for [hostabi.MaxPayload].
	MaxBody int64
	// MaxWait is the longest time that a request may wait for an end; 0 stands for a minute.
	MaxWait time.Duration
	// OnError is called with errors that are answered with 500 or 503, whose text the client doesn't get; nil for nobody.
	OnError func(r *http.Request, err error)
}

// New returns the handler. It is safe for concurrent use.
func New(c Config) http.Handler {
	if c.MaxBody <= 0 {
		c.MaxBody = hostabi.MaxPayload
	}
	if c.MaxWait <= 0 {
		c.MaxWait = time.Minute
	}
	s := &server{Config: c, store: c.Scheduler.Store()}
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /coroutines":                      s.start,
		"GET /coroutines":                       s.list,
		"GET /coroutines/{id}":                  s.get,
		"GET /coroutines/{id}/result":           s.result,
		"GET /coroutines/{id}/output":           s.output,
		"POST /coroutines/{id}/messages/{name}": s.send,
		"POST /coroutines/{id}/resume":          s.resume,
		"POST /coroutines/{id}/cancel":          s.cancel,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	return mux
}

type server struct {
	Config
	store *snapshot.Store
}

// coroutine is what is told of one.
type coroutine struct {
	ID         string          `json:"id"`
	Status     snapshot.Status `json:"status"`
	Module     string          `json:"module"` // SHA-256
	ModuleName string          `json:"module_name"`
	Seq        uint64          `json:"seq"`
	Waiting    *waiting        `json:"waiting"`
	ExitCode   *uint32         `json:"exit_code"` // nil until the end
	Updated    *time.Time      `json:"updated"`
	Error      string          `json:"error,omitempty"`
}

type waiting struct {
	Kind   string     `json:"kind"`
	Detail string     `json:"detail"`
	Until  *time.Time `json:"until"` // nil if only an event ends it
}

// describe tells of a coroutine what its last commit says.
func (s *server) describe(c *snapshot.Commit) coroutine {
	if c.Err != nil {
		return coroutine{ID: c.Coroutine, Status: "unreadable", Seq: c.Seq, Error: c.Err.Error()}
	}
	d := coroutine{
		ID: c.Coroutine, Status: c.Status, Module: c.Module.String(), ModuleName: c.ModuleName, Seq: c.Seq, Updated: &c.Time, Error: c.Error,
	}
	if a := c.Await; a != nil {
		d.Waiting = &waiting{Kind: a.Kind, Detail: a.Detail}
		if !a.Until.IsZero() {
			d.Waiting.Until = &a.Until
		}
	}
	switch {
	case c.Status.Ended():
		d.ExitCode = &c.ExitCode
	case s.Scheduler.Drives(c.Coroutine):
		d.Status = snapshot.Running
	}
	return d
}

func (s *server) start(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	p, ok := s.Programs[q.Get("program")]
	if !ok {
		return &apiError{http.StatusBadRequest, "invalid", fmt.Sprintf("there is no program %q", q.Get("program"))}
	}
	var err error
	if p.Input, err = s.body(w, r); err != nil {
		return err
	}
	p.ID, p.Args = q.Get("id"), append(slices.Clip(p.Args), q["arg"]...)
	id, err := s.Scheduler.Start(r.Context(), p)
	if err != nil {
		return err
	}
	c, err := s.store.Head(r.Context(), id)
	if err != nil {
		return err
	}
	w.Header().Set("Location", r.URL.JoinPath(url.PathEscape(id)).Path)
	return writeJSON(w, http.StatusCreated, s.describe(&c))
}

func (s *server) list(w http.ResponseWriter, r *http.Request) error {
	// One after the other, as there may be very many.
	var next json.RawMessage
	separator := "["
	for c, err := range s.store.List(r.Context()) {
		if err == nil {
			next, err = json.Marshal(s.describe(&c))
		}
		switch {
		case err != nil && separator == "[":
			return err
		case err != nil:
			s.report(r, err)
			panic(http.ErrAbortHandler) // a list that is cut off must not look whole
		case separator == "[":
			w.Header().Set("Content-Type", "application/json")
		}
		if _, err := fmt.Fprintf(w, "%s\n%s", separator, next); err != nil {
			return nil // nobody listens any more
		}
		separator = ","
	}
	if separator == "[" {
		return writeJSON(w, http.StatusOK, []coroutine{})
	}
	_, _ = io.WriteString(w, "\n]\n")
	return nil
}

func (s *server) get(w http.ResponseWriter, r *http.Request) error {
	if err := s.wait(r); err != nil {
		return err
	}
	c, err := s.store.Head(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.describe(&c))
}

// wait waits for the end of a coroutine, as long as the request asks for.
func (s *server) wait(r *http.Request) error {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return &apiError{http.StatusBadRequest, "invalid", fmt.Sprintf("wait=%q: give a duration, such as 30s", text)}
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(d, s.MaxWait))
	defer cancel()
	_, err = s.Scheduler.Wait(ctx, r.PathValue("id"))
	if errors.Is(err, runtime.ErrNotEnded) || ctx.Err() != nil && r.Context().Err() == nil {
		return nil
	}
	return err
}

func (s *server) result(w http.ResponseWriter, r *http.Request) error {
	if err := s.wait(r); err != nil {
		return err
	}
	id := r.PathValue("id")
	o, err := s.Scheduler.Outcome(r.Context(), id)
	switch {
	case errors.Is(err, runtime.ErrNotEnded):
		return &apiError{http.StatusConflict, "not_ended", fmt.Sprintf("%s has not ended", id)}
	case err != nil:
		return err
	case o.Status != snapshot.Completed:
		return &apiError{http.StatusUnprocessableEntity, "failed", fmt.Sprintf("%s is %s, exit code %d", id, o.Status, o.ExitCode)}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(o.Result)
	return nil
}

func (s *server) output(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if _, err := s.store.Head(r.Context(), id); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := s.store.Logs(r.Context(), id, w, nil); err != nil {
		s.report(r, err)
		panic(http.ErrAbortHandler) // some of it may have been sent
	}
	return nil
}

func (s *server) send(w http.ResponseWriter, r *http.Request) error {
	if name := r.PathValue("name"); strings.HasPrefix(name, snapshot.ReservedMessages) {
		return &apiError{http.StatusBadRequest, "invalid", fmt.Sprintf("message %q: names that begin with %q are durun's own", name, snapshot.ReservedMessages)}
	}
	data, err := s.body(w, r)
	if err != nil {
		return err
	}
	receipt, err := s.Scheduler.Send(r.Context(), r.PathValue("id"), snapshot.Message{
		Name: r.PathValue("name"), Key: r.Header.Get("Idempotency-Key"), Data: data,
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, map[string]any{"key": receipt.Key, "duplicate": receipt.Duplicate})
}

func (s *server) resume(w http.ResponseWriter, r *http.Request) error {
	if err := s.Scheduler.Resume(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *server) cancel(w http.ResponseWriter, r *http.Request) error {
	if err := s.Scheduler.Cancel(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// body reads a request's body.
func (s *server) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &apiError{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body has more than %d bytes", s.MaxBody)}
	case err != nil:
		return nil, &apiError{http.StatusBadRequest, "invalid", "the body can't be read: " + err.Error()}
	}
	return b, nil
}

// apiError is an error as the client gets it.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.message }

// fail answers with an error.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := classify(err)
	if e.status >= 500 {
		s.report(r, err)
	}
	_ = writeJSON(w, e.status, map[string]any{"error": map[string]string{"code": e.code, "message": e.message}})
}

func (s *server) report(r *http.Request, err error) {
	if s.OnError != nil {
		s.OnError(r, err)
	}
}

// classify says how an error is answered.
func classify(err error) *apiError {
	var e *apiError
	var module *runtime.ModuleError
	var storage *bucket.Error
	text := err.Error()
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, snapshot.ErrNotFound):
		return &apiError{http.StatusNotFound, "not_found", text}
	case errors.Is(err, snapshot.ErrExist):
		return &apiError{http.StatusConflict, "exists", text}
	case errors.Is(err, snapshot.ErrBusy):
		return &apiError{http.StatusConflict, "busy", text}
	case errors.Is(err, runtime.ErrEnded), errors.Is(err, snapshot.ErrEnded):
		return &apiError{http.StatusConflict, "ended", text}
	case errors.Is(err, snapshot.ErrID), errors.Is(err, snapshot.ErrMessage), errors.As(err, &module):
		return &apiError{http.StatusBadRequest, "invalid", text}
	case errors.Is(err, runtime.ErrClosed), errors.As(err, &storage), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &apiError{http.StatusServiceUnavailable, "unavailable", "try again later"}
	}
	return &apiError{http.StatusInternalServerError, "internal", "something is wrong here, not with the request"}
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // nobody listens any more
	return nil
}
