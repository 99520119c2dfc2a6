package buckettest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Request is a request that a [Proxy] has received.
type Request struct {
	N      int // counts the requests, from 0
	Method string
	Target string // path and query
	Header http.Header
}

// String returns the request as it shows in a test's output.
func (r Request) String() string { return fmt.Sprintf("#%d %s %s", r.N, r.Method, r.Target) }

// HTTPFault says what a [Proxy] does with a request. The zero HTTPFault passes it on, and the answer back.
type HTTPFault struct {
	// Delay is how long the request is held before anything is done with it.
	Delay time.Duration
	// Hold, if not nil, holds the request until it is closed.
	Hold <-chan struct{}
	// Drop closes the connection in place of an answer.
	Drop bool
	// Status, if not 0, is answered in place of the service, with Header and Body.
	Status int
	Header http.Header
	Body   string
	// Stall gives no answer at all, until the client goes away.
	Stall bool
	// After passes the request on before Drop, Status or Stall take the service's answer away: what was asked for is done.
	After bool
	// Truncate, if not 0, closes the connection after so many bytes of the answer's body.
	Truncate int64
	// Damage flips a bit in the middle of the request's body.
	Damage bool
}

// Proxy stands between clients and a service that speaks HTTP, and fails requests according to a plan.
type Proxy struct {
	server    http.Server
	transport http.Transport
	url       string
	stop      context.CancelFunc

	mu       sync.Mutex
	plan     func(Request) HTTPFault
	requests []Request
}

// NewProxy starts a proxy on a port of its own, for the service that dial connects to. Without a [Proxy.Plan] it passes
// everything on.
func NewProxy(dial func(context.Context) (net.Conn, error)) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Proxy{url: "http://" + listener.Addr().String(), stop: stop}
	p.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	p.transport.DisableCompression = true
	p.transport.MaxIdleConnsPerHost = 64
	p.server.Handler = http.HandlerFunc(p.serve)
	p.server.BaseContext = func(net.Listener) context.Context { return ctx }
	p.server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // connections are meant to break
	go func() { _ = p.server.Serve(listener) }()
	return p, nil
}

// URL is the proxy's address: http://HOST:PORT.
func (p *Proxy) URL() string { return p.url }

// Plan sets another plan, and starts counting anew. It is asked for one request at a time. Nil passes everything on.
func (p *Proxy) Plan(plan func(Request) HTTPFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.requests = plan, nil
}

// Requests returns the requests since the plan was set.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.requests...)
}

// Close stops the proxy, and breaks all its connections.
func (p *Proxy) Close() error {
	p.stop()
	err := p.server.Close()
	p.transport.CloseIdleConnections()
	return err
}

func (p *Proxy) fault(r *http.Request) HTTPFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	request := Request{len(p.requests), r.Method, r.URL.RequestURI(), r.Header.Clone()}
	p.requests = append(p.requests, request)
	if p.plan == nil {
		return HTTPFault{}
	}
	return p.plan(request)
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	f := p.fault(r)
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		}
	}
	if f.Hold != nil {
		select {
		case <-f.Hold:
		case <-r.Context().Done():
		}
	}
	refused := f.Drop || f.Status != 0 || f.Stall
	if refused && !f.After {
		refuse(w, r, f)
		return
	}
	resp, err := p.forward(r, f.Damage)
	if err != nil {
		panic(http.ErrAbortHandler) // as if it were the service that had closed the connection
	}
	defer resp.Body.Close()
	if refused {
		_, _ = io.Copy(io.Discard, resp.Body)
		refuse(w, r, f)
		return
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	body := io.Reader(resp.Body)
	if f.Truncate > 0 {
		body = io.LimitReader(body, f.Truncate)
	}
	_, err = io.Copy(w, body)
	if f.Truncate > 0 {
		_ = http.NewResponseController(w).Flush()
	}
	if err != nil || f.Truncate > 0 {
		panic(http.ErrAbortHandler)
	}
}

// refuse answers in place of the service, or not at all.
func refuse(w http.ResponseWriter, r *http.Request, f HTTPFault) {
	switch {
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.Stall:
		_, _ = io.Copy(io.Discard, r.Body) // the server notices a client's end only once it has the whole request
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(f.Status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, f.Body)
	}
}

func (p *Proxy) forward(r *http.Request, damage bool) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", r.Host
	out.RequestURI = ""
	switch {
	case r.ContentLength == 0:
		out.Body = http.NoBody
	case damage:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		out.Body = io.NopCloser(bytes.NewReader(body))
	}
	return p.transport.RoundTrip(out)
}
