package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const (
	dialTimeout  = 5 * time.Second
	stallTimeout = 30 * time.Second // without a byte in either direction
	idleTimeout  = 30 * time.Second // services close idle connections after about as long
	idlePerHost  = 64               // restores and many coroutines at once read in parallel
)

// newTransport is HTTP/1.1 over connections that are kept, and given up when they stall. roots are the authorities that
// certificates may come from, nil for the system's.
func newTransport(dial dialFunc, stall time.Duration, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &patientConn{conn, stall}, nil
		},
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns:        2 * idlePerHost,
		MaxIdleConnsPerHost: idlePerHost,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true, // objects come as they are stored
	}
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

var dial dialFunc = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext

// loadRoots adds the certificates of a file to the system's; nil if no file is named.
func loadRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the certificates: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", path)
	}
	return pool, nil
}

// patientConn is a connection on which a read or write times out when nothing has moved for a while. A time-out for a
// whole request would have to know how large a body is, and how fast the network.
type patientConn struct {
	net.Conn
	patience time.Duration
}

func (c *patientConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *patientConn) Write(p []byte) (int, error) {
	// Both deadlines: the answer can't come before the request has been sent, and a read waits for it all the while.
	if err := c.SetDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// exchange is what the transport saw of the last request of one attempt. minio-go's errors tell less.
type exchange struct {
	sent   bool
	status int         // 0 without an answer
	header http.Header // of the answer
	at     time.Time   // when the answer came
	err    error       // why there was none
}

type exchangeKey struct{}

// watched returns a context whose requests are recorded.
func watched(ctx context.Context) (context.Context, *exchange) {
	x := &exchange{}
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// recorder is a transport that fills in the exchange of a request's context.
type recorder struct {
	next     http.RoundTripper
	answered *atomic.Bool // set when the service has ever answered
}

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err == nil {
		r.answered.Store(true)
	}
	if x, ok := req.Context().Value(exchangeKey{}).(*exchange); ok {
		*x = exchange{sent: true, at: time.Now(), err: err}
		if err == nil {
			x.status, x.header = resp.StatusCode, resp.Header
		}
	}
	return resp, err
}

// inContext is a transport for requests that minio-go makes without their caller's context.
type inContext struct {
	next http.RoundTripper
	ctx  context.Context //nolint:containedctx // it is the point
}

func (t inContext) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.next.RoundTrip(req.WithContext(t.ctx))
}
