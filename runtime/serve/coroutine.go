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
	"strconv"
	"time"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

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
		return coroutine{ID: c.Coroutine, Status: unreadable, Seq: c.Seq, Error: c.Err.Error()}
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

// unreadable is the status of a coroutine whose newest commit is damaged.
const unreadable snapshot.Status = "unreadable"

// statuses are those that a coroutine can be described with.
var statuses = []snapshot.Status{
	snapshot.Running, snapshot.Suspended, snapshot.Completed, snapshot.Failed, snapshot.Cancelled, unreadable,
}

// maxLimit is the largest page of a list.
const maxLimit = 1000

// listQuery is what a request for a list asks for.
type listQuery struct {
	status []snapshot.Status // empty for all
	after  string            // empty for the beginning
	limit  int               // 0 for none
}

func parseListQuery(q url.Values) (l listQuery, err error) {
	for _, text := range q["status"] {
		status := snapshot.Status(text)
		if !slices.Contains(statuses, status) {
			return l, invalid(fmt.Sprintf("status=%q: there are %v", text, statuses))
		}
		l.status = append(l.status, status)
	}
	if l.after = q.Get("after"); l.after != "" {
		if err := snapshot.ValidID(l.after); err != nil {
			return l, err
		}
	}
	if text := q.Get("limit"); text != "" {
		if l.limit, err = strconv.Atoi(text); err != nil || l.limit < 1 || l.limit > maxLimit {
			return l, invalid(fmt.Sprintf("limit=%q: give a number from 1 to %d", text, maxLimit))
		}
	}
	return l, nil
}

func (l *listQuery) has(status snapshot.Status) bool {
	return len(l.status) == 0 || slices.Contains(l.status, status)
}

func (s *server) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	l, err := parseListQuery(q)
	switch {
	case err != nil:
		return err
	case l.limit == 0:
		return s.listAll(w, r, &l)
	}
	page := []coroutine{}
	for c, err := range s.store.ListAfter(r.Context(), l.after) {
		if err != nil {
			return err
		}
		d := s.describe(&c)
		if !l.has(d.Status) {
			continue
		}
		if len(page) == l.limit {
			q.Set("after", page[len(page)-1].ID)
			w.Header().Set("Link", fmt.Sprintf(`<?%s>; rel="next"`, q.Encode()))
			break
		}
		page = append(page, d)
	}
	body, err := json.Marshal(page)
	if err != nil {
		return err
	}
	serveBytes(w, r, "application/json", append(body, '\n'))
	return nil
}

// listAll answers with a list one after the other, as there may be very many.
func (s *server) listAll(w http.ResponseWriter, r *http.Request, l *listQuery) error {
	separator := "["
	for c, err := range s.store.ListAfter(r.Context(), l.after) {
		var next json.RawMessage
		if err == nil {
			d := s.describe(&c)
			if !l.has(d.Status) {
				continue
			}
			next, err = json.Marshal(d)
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
		writeJSON(w, http.StatusOK, []coroutine{})
		return nil
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
	body, err := json.Marshal(s.describe(&c))
	if err != nil {
		return err
	}
	serveBytes(w, r, "application/json", append(body, '\n'))
	return nil
}

// waitPoll is how often a request looks for the end of a coroutine that this scheduler doesn't drive.
const waitPoll = time.Second

// wait waits until a coroutine has ended, or the scheduler has given it up, as long as the request asks for.
func (s *server) wait(r *http.Request) error {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return invalid(fmt.Sprintf("wait=%q: give a duration, such as 30s", text))
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(d, s.MaxWait))
	defer cancel()
	err = s.waitFor(ctx, r.PathValue("id"))
	if ctx.Err() != nil && r.Context().Err() == nil {
		return nil // time is over
	}
	return err
}

func (s *server) waitFor(ctx context.Context, id string) error {
	for {
		if s.Scheduler.Drives(id) {
			if _, err := s.Scheduler.Wait(ctx, id); !errors.Is(err, runtime.ErrNotEnded) {
				return err
			}
			continue // it has been given up just now
		}
		// Somebody else may go on with it.
		c, err := s.store.Head(ctx, id)
		if err != nil || c.Status.Ended() {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(waitPoll):
		}
	}
}
