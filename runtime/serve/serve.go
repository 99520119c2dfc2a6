package serve

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

// Config says what is served. Scheduler must be set.
type Config struct {
	Scheduler *runtime.Scheduler
	// Programs are what can be started, by name. Of each a request gives ID, Input and further Args.
	Programs map[string]runtime.Program
	// MaxBody is the largest body that is read, in bytes; 0 stands for [hostabi.MaxPayload].
	MaxBody int64
	// MaxWait is the longest time that a request may wait for an end; 0 stands for a minute. [http.Server.Shutdown] waits as
	// long.
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
	s := &server{Config: c, store: c.Scheduler.Store(), mux: http.NewServeMux()}
	for pattern, f := range s.routes() {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	return s
}

type server struct {
	Config
	store *snapshot.Store
	mux   *http.ServeMux
}

// routes are what is served, by the patterns of [http.ServeMux]: one for GET takes HEAD as well.
func (s *server) routes() map[string]func(http.ResponseWriter, *http.Request) error {
	return map[string]func(http.ResponseWriter, *http.Request) error{
		"POST /coroutines":                      s.start,
		"GET /coroutines":                       s.list,
		"GET /coroutines/{id}":                  s.get,
		"DELETE /coroutines/{id}":               s.remove,
		"GET /coroutines/{id}/result":           s.result,
		"GET /coroutines/{id}/output":           s.output,
		"POST /coroutines/{id}/messages/{name}": s.send,
		"POST /coroutines/{id}/resume":          s.resume,
		"POST /coroutines/{id}/cancel":          s.cancel,
	}
}

// ServeHTTP implements [http.Handler].
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// What can't be read of a query would be left out: a start without its id, for example, makes one more each time.
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
		s.fail(w, r, invalid("the query can't be read: "+err.Error()))
		return
	}
	h, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	u := &unrouted{header: http.Header{}}
	h.ServeHTTP(u, r)
	if allow := u.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
	}
	s.fail(w, r, u.err())
}

func (s *server) start(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	p, ok := s.Programs[q.Get("program")]
	if !ok {
		return invalid(fmt.Sprintf("there is no program %q", q.Get("program")))
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
	w.Header().Set("Location", mountedPath(r)+"/"+id)
	writeJSON(w, http.StatusCreated, s.describe(&c))
	return nil
}

func (s *server) result(w http.ResponseWriter, r *http.Request) error {
	if err := s.wait(r); err != nil {
		return err
	}
	id := r.PathValue("id")
	o, err := s.Scheduler.Outcome(r.Context(), id)
	switch {
	case errors.Is(err, runtime.ErrNotEnded):
		return &apiError{http.StatusConflict, "not_ended", id + " has not ended"}
	case err != nil:
		return err
	case o.Status != snapshot.Completed:
		return &apiError{http.StatusUnprocessableEntity, "failed", describeFailure(id, &o)}
	}
	w.Header().Set("Vary", "Accept")
	contentType := "application/octet-stream"
	if acceptsJSON(r) && json.Valid(o.Result) {
		contentType = "application/json"
	}
	serveBytes(w, r, contentType, o.Result)
	return nil
}

// describeFailure says how a coroutine has ended that has no result.
func describeFailure(id string, o *runtime.Outcome) string {
	text := fmt.Sprintf("%s is %s, exit code %d", id, o.Status, o.ExitCode)
	if o.Err != nil {
		text += ": " + o.Err.Error()
	}
	return text
}

// acceptsJSON reports whether a request names JSON as what it takes.
func acceptsJSON(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			if t, _, err := mime.ParseMediaType(part); err == nil && t == "application/json" {
				return true
			}
		}
	}
	return false
}

// serveBytes answers with bytes, a range of them, or 304 if the client has them already.
func serveBytes(w http.ResponseWriter, r *http.Request, contentType string, b []byte) {
	sum := sha256.Sum256(b)
	h := w.Header()
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("Cache-Control", "no-cache") // without asking again
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (s *server) output(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	var stdout, stderr io.Writer
	switch stream := r.URL.Query().Get("stream"); stream {
	case "", "stdout":
		stdout = w
	case "stderr":
		stderr = w
	case "all":
		stdout, stderr = w, w
	default:
		return invalid(fmt.Sprintf("stream=%q: give stdout, stderr or all", stream))
	}
	// What was written before can be read though the newest commit can't.
	if _, err := s.store.Head(r.Context(), id); err != nil && !isDamage(err) {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return nil
	}
	var lost losses
	err := s.store.SalvageLogs(r.Context(), id, stdout, stderr, lost.add)
	if err == nil {
		err = lost.err(id)
	}
	if err != nil {
		s.report(r, err)
		_ = http.NewResponseController(w).Flush() // what there is reaches the client
		panic(http.ErrAbortHandler)               // and does not look whole
	}
	return nil
}

// losses is what of a coroutine's output can't be read.
type losses struct {
	commits uint64
	first   snapshot.Lost
}

func (l *losses) add(lost snapshot.Lost) {
	if l.commits == 0 {
		l.first = lost
	}
	l.commits += lost.Last - lost.First + 1
}

// err is the error for it, nil if all could be read.
func (l *losses) err(id string) error {
	if l.commits == 0 {
		return nil
	}
	return fmt.Errorf("output of coroutine %s: that of %d commits is lost, from commit %d on: %w", id, l.commits, l.first.First, l.first.Err)
}

// isDamage tells what is wrong with the coroutine in the store from what is wrong with a request or the storage.
func isDamage(err error) bool {
	return errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, snapshot.ErrVersion)
}

func (s *server) send(w http.ResponseWriter, r *http.Request) error {
	if name := r.PathValue("name"); strings.HasPrefix(name, snapshot.ReservedMessages) {
		return invalid(fmt.Sprintf("message %q: names that begin with %q are durun's own", name, snapshot.ReservedMessages))
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
	writeJSON(w, http.StatusAccepted, map[string]any{"key": receipt.Key, "duplicate": receipt.Duplicate})
	return nil
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

func (s *server) remove(w http.ResponseWriter, r *http.Request) error {
	if err := s.Scheduler.Remove(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// mountedPath is a request's path as the client has it: with what [http.StripPrefix] takes off.
func mountedPath(r *http.Request) string {
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		return u.EscapedPath()
	}
	return r.URL.EscapedPath()
}

// body reads a request's body.
func (s *server) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &apiError{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body has more than %d bytes", s.MaxBody)}
	case err != nil:
		return nil, invalid("the body can't be read: " + err.Error())
	}
	return b, nil
}
