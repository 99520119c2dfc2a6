package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/hostabi"
)

// serve starts a server, and returns a handler that calls it.
func serve(t *testing.T, handle http.HandlerFunc) Func {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return mustHTTP(t, server.URL, HTTPOptions{})
}

func mustHTTP(t *testing.T, address string, o HTTPOptions) Func {
	t.Helper()
	f, err := HTTP(address, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestHTTPRequest(t *testing.T) {
	var method, body string
	var header http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		method, header, body = r.Method+" "+r.RequestURI, r.Header, string(b)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "done")
	}))
	defer server.Close()
	address := strings.Replace(server.URL, "//", "//me:secret@", 1) + "/a%2Fb?x=1#fragment"
	f := mustHTTP(t, address, HTTPOptions{Header: http.Header{"X-Tenant": {"7"}}})
	for sent, kind := range map[string]string{
		`{"to": 1}`: "application/json", `3`: "application/json", "\x00": "application/octet-stream", "": "application/octet-stream",
	} {
		result, err := f(t.Context(), Call{Key: "job/ab/3", Coroutine: "job", Operation: 3, Name: "sénd", Body: []byte(sent), Attempt: 2})
		if string(result) != "done" || err != nil {
			t.Fatalf("result %q, error %v", result, err)
		}
		header.Del("Accept-Encoding")
		want := http.Header{
			"Authorization": {"Basic bWU6c2VjcmV0"}, "Content-Length": {strconv.Itoa(len(sent))}, "Content-Type": {kind},
			"Idempotency-Key": {"job/ab/3"}, "Durun-Attempt": {"2"}, "Durun-Coroutine": {"job"}, "Durun-Handler": {"sénd"},
			"User-Agent": {"durun"}, "X-Tenant": {"7"},
		}
		if diff := cmp.Diff(want, header); diff != "" {
			t.Errorf("header:\n%s", diff)
		}
		if method != "POST /a%2Fb?x=1" || body != sent {
			t.Errorf("%s with %q, want %q", method, body, sent)
		}
	}
}

func TestHTTPAnswers(t *testing.T) {
	type kind string
	const (
		result    kind = "result"
		retry     kind = "retry"
		final     kind = "final"
		throttled kind = "throttled"
	)
	for status, want := range map[int]kind{
		200: result, 201: result, 204: result,
		301: final, 302: final, 307: final, 308: final,
		400: final, 401: final, 404: final, 409: final, 422: final,
		408: retry, 425: retry, 500: retry, 501: retry, 502: retry, 504: retry, 599: retry,
		429: throttled, 503: throttled,
	} {
		f := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			if r.URL.Path != "/" {
				t.Errorf("%d: a redirect was followed", status)
			}
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "said")
		})
		body, err := f(t.Context(), Call{Body: []byte("x")})
		got := retry
		end, pause := finalEnd(err), (*Throttled)(nil)
		switch {
		case err == nil:
			got = result
		case end != nil:
			got = final
		case errors.As(err, &pause):
			got = throttled
			if pause.RetryAfter != 7*time.Second {
				t.Errorf("%d: a pause of %v", status, pause.RetryAfter)
			}
		}
		if got != want {
			t.Errorf("%d is %s, want %s", status, got, want)
		}
		if err != nil && (!strings.HasPrefix(err.Error(), strconv.Itoa(status)) || !strings.HasSuffix(err.Error(), ": said")) {
			t.Errorf("%d: error %v", status, err)
		}
		if err == nil && status != 204 && string(body) != "said" {
			t.Errorf("%d: result %q", status, body)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"120", "", 2 * time.Minute},
		{" 5 ", "", 5 * time.Second},
		{"-5", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{"18446744073709551615", "", MaxRetryAfter},
		{"99999999999999999999", "", 0},
		{"Tue, 24 Nov 2026 12:00:30 GMT", "", 30 * time.Second},
		{"Tue, 24 Nov 2026 11:00:00 GMT", "", 0},
		{"Tue, 24 Nov 2026 12:00:30 GMT", "Tue, 24 Nov 2026 12:00:20 GMT", 10 * time.Second},
		{"Tue, 24 Nov 2026 12:00:30 GMT", "yesterday", 30 * time.Second},
		{"Sun, 24 Nov 2126 12:00:30 GMT", "", MaxRetryAfter},
	} {
		if got := retryAfter(http.Header{"Retry-After": {c.value}, "Date": {c.date}}, now); got != c.want {
			t.Errorf("Retry-After %q at %q: %v, want %v", c.value, c.date, got, c.want)
		}
	}
}

// Neither the guest nor a log is to see what is in a URL.
func TestHTTPHidesTheURL(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	server.Close() // nobody is there
	f := mustHTTP(t, "http://me:hunter2@"+u.Host+"/token-hunter2?key=hunter2", HTTPOptions{})
	_, err = f(t.Context(), Call{})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), u.Host) {
		t.Errorf("error %v", err)
	}
	for address, want := range map[string]string{
		"http://me:hunter2@host:port/": "invalid port",
		"http://me:hunter2%zz@host/":   "invalid URL escape",
		"ftp://me:hunter2@host/":       "http://HOST/PATH",
		"http:///hunter2":              "http://HOST/PATH",
		"http://:80/hunter2":           "http://HOST/PATH",
		"/hunter2":                     "http://HOST/PATH",
		"":                             "http://HOST/PATH",
	} {
		_, err := HTTP(address, HTTPOptions{})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", address, err, want)
		}
	}
}

func TestHTTPLargeAnswers(t *testing.T) {
	for name, status := range map[string]int{"result": 200, "error": 500} {
		for _, known := range []bool{true, false} {
			f := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if known {
					w.Header().Set("Content-Length", strconv.Itoa(hostabi.MaxPayload+1))
				}
				w.WriteHeader(status)
				_, _ = w.Write(bytes.Repeat([]byte("x"), hostabi.MaxPayload+1))
			})
			body, err := f(t.Context(), Call{})
			if body != nil || err == nil || len(err.Error()) > maxText+100 || errors.Is(err, &hostabi.OperationError{Code: hostabi.CodeLimit}) != (status == 200) {
				t.Errorf("%s, length told: %v: %d bytes, error %v", name, known, len(body), err)
			}
		}
	}
	f := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, hostabi.MaxPayload)) })
	if body, err := f(t.Context(), Call{}); len(body) != hostabi.MaxPayload || err != nil {
		t.Errorf("%d bytes, error %v", len(body), err)
	}
}

// A receiver that dies after its work gets one request for each attempt, also on a connection that was used before, where
// net/http would like to repeat requests that have an idempotency key.
func TestHTTPLostConnections(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, body := range []string{"x", ""} {
			requests := map[string]int{}
			var mu sync.Mutex
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				requests[r.Header.Get("Idempotency-Key")]++
				if r.Proto != protocol {
					t.Errorf("the protocol is %s", r.Proto)
				}
				if strings.HasPrefix(r.Header.Get("Idempotency-Key"), "dies") {
					panic(http.ErrAbortHandler)
				}
			}))
			server.EnableHTTP2 = protocol == "HTTP/2.0"
			server.StartTLS()
			f := mustHTTP(t, server.URL, HTTPOptions{Transport: server.Client().Transport})
			for i := range 5 {
				if _, err := f(t.Context(), Call{Key: "lives" + strconv.Itoa(i), Body: []byte(body)}); err != nil {
					t.Error(err)
				}
				if _, err := f(t.Context(), Call{Key: "dies" + strconv.Itoa(i), Body: []byte(body)}); err == nil || finalEnd(err) != nil {
					t.Errorf("a lost connection: error %v", err)
				}
			}
			server.Close()
			mu.Lock() // the last receiver has died with its connection, and may not have told yet
			if len(requests) != 10 {
				t.Errorf("%s, body %q: requests %v", protocol, body, requests)
			}
			for key, n := range requests {
				if n != 1 {
					t.Errorf("%s, body %q: %d requests of %s", protocol, body, n, key)
				}
			}
			mu.Unlock()
		}
	}
}

func TestHTTPCancelled(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	f := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		close(left)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if _, err := f(ctx, Call{Body: []byte("x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	<-left
}

// notify is the outside of the field's example: it fails, throttles, and dies after its work.
type notify struct {
	mu       sync.Mutex
	rnd      *rand.Rand
	accepted map[string]int
	requests int
}

func (n *notify) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests++
	roll := n.rnd.Float64()
	switch {
	case roll < 0.2:
		http.Error(w, "try again", http.StatusInternalServerError)
		return
	case roll < 0.22:
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return
	}
	n.accepted[r.Header.Get("Idempotency-Key")]++
	if roll < 0.27 {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, "sent")
}

func TestHTTPFailures(t *testing.T) {
	const n = 300
	outside := notify{rnd: rand.New(rand.NewPCG(5, 6)), accepted: map[string]int{}}
	server := httptest.NewServer(&outside)
	defer server.Close()
	var s Set
	s.Handle("send", mustHTTP(t, server.URL, HTTPOptions{}), Policy{Backoff: 5 * time.Millisecond})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			result, err := s.Do(t.Context(), Call{Name: "send", Key: fmt.Sprint(i), Body: []byte("{}")}, time.Time{}, Progress{}, nil)
			if string(result) != "sent" || err != nil {
				t.Errorf("call %d: %q, %v", i, result, err)
			}
		})
	}
	wg.Wait()
	if len(outside.accepted) != n || outside.requests < n*5/4 {
		t.Errorf("%d requests, %d keys", outside.requests, len(outside.accepted))
	}
}
