package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// apiError is an error as the client gets it.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.message }

// invalid is the error for a request that can't be understood.
func invalid(message string) error { return &apiError{http.StatusBadRequest, "invalid", message} }

// fail answers with an error.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := classify(err)
	if e.status >= 500 {
		s.report(r, err)
	}
	if e.status == http.StatusServiceUnavailable || e.code == "busy" {
		w.Header().Set("Retry-After", "1")
	}
	message := strings.ReplaceAll(e.message, " in "+s.store.Bucket().URL(), "") // where the store is concerns no client
	writeJSON(w, e.status, map[string]any{"error": map[string]string{"code": e.code, "message": message}})
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
	case errors.Is(err, snapshot.ErrBusy), errors.Is(err, bucket.ErrLocked):
		return &apiError{http.StatusConflict, "busy", text}
	case errors.Is(err, runtime.ErrEnded), errors.Is(err, snapshot.ErrEnded):
		return &apiError{http.StatusConflict, "ended", text}
	case errors.Is(err, runtime.ErrNotEnded):
		return &apiError{http.StatusConflict, "not_ended", text}
	case errors.Is(err, runtime.ErrAwaited):
		return &apiError{http.StatusConflict, "awaited", text}
	case errors.Is(err, snapshot.ErrID), errors.Is(err, snapshot.ErrMessage), errors.As(err, &module):
		return &apiError{http.StatusBadRequest, "invalid", text}
	case errors.Is(err, runtime.ErrClosed), errors.As(err, &storage),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &apiError{http.StatusServiceUnavailable, "unavailable", "try again later"}
	}
	return &apiError{http.StatusInternalServerError, "internal", "something is wrong here, not with the request"}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // nobody listens any more
}

// unrouted takes the answer that [http.ServeMux] has for a request that is for none of its patterns: a status and headers. Its
// text is not the JSON that clients expect.
type unrouted struct {
	header http.Header
	status int
}

func (u *unrouted) Header() http.Header         { return u.header }
func (u *unrouted) WriteHeader(status int)      { u.status = status }
func (u *unrouted) Write(b []byte) (int, error) { return len(b), nil }

// err is the answer as an error.
func (u *unrouted) err() error {
	if u.status == http.StatusMethodNotAllowed {
		return &apiError{u.status, "method_not_allowed", "this path takes " + u.header.Get("Allow")}
	}
	return &apiError{http.StatusNotFound, "not_found", "there is nothing at this path"}
}
