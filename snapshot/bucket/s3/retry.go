package s3

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second

	doubtfulRetries = 4 // of an operation; failures beside those don't count
)

// backoff is how long to wait after the n-th failure in a row, n from 1: twice as long as the time before, with the
// half of it left to chance, so that many clients of one service that fails don't come back all at once.
func backoff(n int) time.Duration {
	d := maxBackoff
	if n < 8 {
		d = min(d, firstBackoff<<(n-1))
	}
	return d/2 + rand.N(d/2)
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// retry calls do until it succeeds, fails for good, or RetryFor has passed. do makes one request in the context that it
// gets, of which the exchange is recorded, and returns nil or what [Bucket.fail] made of its error.
func (b *Bucket) retry(ctx context.Context, do func(ctx context.Context, x *exchange) *failure) error {
	deadline := time.Now().Add(b.config.RetryFor)
	renewed, doubts := false, 0
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		attempt, x := watched(ctx)
		f := do(attempt, x)
		if f != nil && f.doubt {
			doubts++
		}
		switch {
		case f == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case f.expired && !renewed:
			renewed = true
			b.credentials.Expire()
			continue
		case !f.retry, doubts > doubtfulRetries:
			return f.err
		}
		wait := max(backoff(n), retryAfter(x.header))
		if time.Now().Add(wait).After(deadline) {
			return f.err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// retryAfter is the time that a service asks for, in seconds or as a date; 0 for none.
func retryAfter(h http.Header) time.Duration {
	s := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(s); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(0, at.Sub(now))
}
