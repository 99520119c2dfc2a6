package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/durun/durun/hostabi"
)

// HTTPOptions are what an HTTP handler may have beside its URL.
type HTTPOptions struct {
	// Header is sent with each request, a token for example.
	Header http.Header
	// Transport makes the requests. nil stands for one of the handler's own, which keeps as many connections as the policy allows
	// attempts at once, for 90 s, and uses the proxy of the environment.
	Transport http.RoundTripper
}

// HTTP returns a handler that posts a call's body to a URL, http or https. A user and password in it are sent as basic
// authentication, and never shown.
//
// The request's Content-Type is application/json if that is what the body is, else application/octet-stream. It has the headers
//
//	Idempotency-Key  [Call.Key]
//	Durun-Attempt    [Call.Attempt]
//	Durun-Coroutine  [Call.Coroutine]
//	Durun-Handler    [Call.Name]
//
// The answer's status decides:
//
//	2xx        its body is the result
//	429, 503   throttled, for as long as Retry-After says, in seconds or as a date
//	408, 425   the attempt is repeated, as these ask for
//	other 4xx  final
//	3xx        final: redirects are not followed, since the one who was given the call's body is the one who was named
//	other      the attempt is repeated
//
// So it is if the connection is lost. What an answer that isn't 2xx says goes into the message, up to 4 KiB.
//
// Error: the URL isn't one of http or https with a host.
func HTTP(address string, o HTTPOptions) (Func, error) {
	u, err := url.Parse(address)
	if err != nil {
		// url.Error has the whole address in it.
		if parse := (*url.Error)(nil); errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, fmt.Errorf("not a URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, errors.New("not a URL of the form http://HOST/PATH or https://HOST/PATH")
	}
	h := &httpHandler{header: o.Header.Clone()}
	if h.header == nil {
		h.header = http.Header{}
	}
	if u.User != nil {
		password, _ := u.User.Password()
		r := http.Request{Header: h.header}
		r.SetBasicAuth(u.User.Username(), password)
		u.User = nil
	}
	u.Fragment = ""
	h.url, h.host = u.String(), u.Host
	if h.header.Get("User-Agent") == "" {
		h.header.Set("User-Agent", "durun")
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   math.MaxInt, // there are never more than attempts at once
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
		}
	}
	h.client = &http.Client{
		Transport:     o.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return h.do, nil
}

type httpHandler struct {
	url, host string
	header    http.Header
	client    *http.Client
}

// idempotencyKey is the header Idempotency-Key in a spelling that net/http doesn't know. If it saw a request with one
// it would repeat it by itself when a connection that was kept is lost, however far the receiver got, and without regard to the rate.
const idempotencyKey = "idempotency-key"

func (h *httpHandler) do(ctx context.Context, c Call) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(c.Body))
	if err != nil {
		return nil, Final(err)
	}
	r.Header = h.header.Clone()
	kind := "application/octet-stream"
	if json.Valid(c.Body) {
		kind = "application/json"
	}
	r.Header.Set("Content-Type", kind)
	r.Header[idempotencyKey] = []string{c.Key}
	r.Header.Set("Durun-Attempt", strconv.Itoa(c.Attempt))
	r.Header.Set("Durun-Coroutine", c.Coroutine)
	r.Header.Set("Durun-Handler", c.Name)
	answer, err := h.client.Do(r)
	if err != nil {
		// url.Error has the address in it, which may hold a secret.
		if with := (*url.Error)(nil); errors.As(err, &with) {
			err = with.Err
		}
		return nil, fmt.Errorf("post to %s: %w", h.host, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 == 2 {
		return h.result(answer)
	}
	err = h.refusal(answer)
	switch s := answer.StatusCode; {
	case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable:
		return nil, &Throttled{RetryAfter: retryAfter(answer.Header, time.Now()), Err: err}
	case s == http.StatusRequestTimeout, s == http.StatusTooEarly:
		return nil, err
	case s/100 == 3, s/100 == 4:
		return nil, Final(err)
	}
	return nil, err
}

// result reads the body of a good answer.
func (h *httpHandler) result(answer *http.Response) ([]byte, error) {
	if answer.ContentLength > hostabi.MaxPayload {
		return nil, tooLarge()
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, hostabi.MaxPayload+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer of %s: %w", h.host, err)
	case len(body) > hostabi.MaxPayload:
		return nil, tooLarge()
	}
	return body, nil
}

// refusal is the error for another answer: its status and what it says. If that can't be read, the status will do.
func (h *httpHandler) refusal(answer *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(answer.Body, maxText))
	// What is left of a short body is read, so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10)
	message := strings.TrimSpace(strconv.Itoa(answer.StatusCode) + " " + http.StatusText(answer.StatusCode))
	if answer.StatusCode/100 == 3 {
		message += " (redirects are not followed)"
	}
	if said := text(string(body)); said != "" {
		message += ": " + said
	}
	return errors.New(message)
}

// retryAfter reads how long an answer asks to wait (RFC 9110, section 10.2.3), 0 if it doesn't say. A date is taken by the
// answerer's own clock, if it shows that.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(MaxRetryAfter/time.Second))) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if theirs, err := http.ParseTime(h.Get("Date")); err == nil {
		now = theirs
	}
	return min(max(0, until.Sub(now)), MaxRetryAfter)
}
