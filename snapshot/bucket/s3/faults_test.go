package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
	"github.com/durun/durun/snapshot/bucket/s3"
	"github.com/durun/durun/snapshot/bucket/s3/s3test"
)

// random is data that no compression makes small, the same each time.
func random(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func put(t *testing.T, b bucket.Bucket, key string, data []byte) {
	t.Helper()
	if err := bucket.PutBytes(t.Context(), b, key, data); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, b bucket.Bucket, key string, data []byte) {
	t.Helper()
	got, err := bucket.ReadAll(t.Context(), b, key, 1<<30)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%s: %d bytes, %v; want %d", key, len(got), err, len(data))
	}
}

// ready opens a bucket whose first Put is behind it.
func ready(t *testing.T, c s3.Config) *s3.Bucket {
	t.Helper()
	b := s3test.Open(t, c)
	t.Cleanup(func() { b.Close() })
	if err := bucket.PutBytes(t.Context(), b, "ready", nil); err != nil && !errors.Is(err, bucket.ErrExist) {
		t.Fatal(err)
	}
	return b
}

// once is a plan that fails the n-th request of a method, from 0.
func once(method string, n int, f buckettest.HTTPFault) func(buckettest.Request) buckettest.HTTPFault {
	seen := 0
	return func(r buckettest.Request) buckettest.HTTPFault {
		if r.Method != method {
			return buckettest.HTTPFault{}
		}
		if seen++; seen-1 == n {
			return f
		}
		return buckettest.HTTPFault{}
	}
}

// TestLostAnswers is of PUTs that were done, of which the client doesn't hear, or may not have been.
func TestLostAnswers(t *testing.T) {
	server := s3test.Start(t)
	c := server.NewBucket(t)
	b, other := ready(t, c), ready(t, c)
	failed := s3test.Refuse(http.StatusInternalServerError, "InternalError")
	failed.After = true
	for i, f := range []buckettest.HTTPFault{{Drop: true, After: true}, failed, {Truncate: 1, After: true}} {
		mine := fmt.Sprintf("mine/%d", i)
		server.Plan(once(http.MethodPut, 0, f))
		put(t, b, mine, []byte("same"))
		want(t, b, mine, []byte("same"))
		if err := bucket.PutBytes(t.Context(), b, mine, []byte("same")); !errors.Is(err, bucket.ErrExist) {
			t.Errorf("another put of the same: %v", err)
		}

		// The request never came through, and somebody else put the very same bytes meanwhile: that is theirs.
		theirs := fmt.Sprintf("theirs/%d", i)
		reached, hold := make(chan struct{}), make(chan struct{})
		lost := buckettest.HTTPFault{Hold: hold, Drop: f.Drop || f.Truncate != 0, Status: f.Status, Body: f.Body}
		server.Plan(func(r buckettest.Request) buckettest.HTTPFault {
			if r.N > 0 {
				return buckettest.HTTPFault{}
			}
			close(reached)
			return lost
		})
		result := make(chan error)
		go func() { result <- bucket.PutBytes(t.Context(), b, theirs, []byte("same")) }()
		<-reached
		put(t, other, theirs, []byte("same"))
		close(hold)
		if err := <-result; !errors.Is(err, bucket.ErrExist) {
			t.Errorf("a put that somebody else was quicker with: %v", err)
		}
	}
}

// TestDamage flips bits of requests on their way.
func TestDamage(t *testing.T) {
	server := s3test.Start(t)
	b := ready(t, server.NewBucket(t))
	data := random(100_000)
	server.Plan(once(http.MethodPut, 0, buckettest.HTTPFault{Damage: true}))
	put(t, b, "k", data)
	if n := len(server.Requests()); n != 2 {
		t.Errorf("%v", server.Requests())
	}
	want(t, b, "k", data)
}

// TestDownloadsGoOn cuts the bodies of answers.
func TestDownloadsGoOn(t *testing.T) {
	server := s3test.Start(t)
	c := server.NewBucket(t)
	b := ready(t, c)
	data := random(3 << 20)
	put(t, b, "k", data)
	put(t, b, "gone", data)

	cut := func(r buckettest.Request) buckettest.HTTPFault {
		if r.Method == http.MethodGet {
			return buckettest.HTTPFault{Truncate: 1 << 20}
		}
		return buckettest.HTTPFault{}
	}
	server.Plan(cut)
	want(t, b, "k", data)
	if n := len(server.Requests()); n < 3 {
		t.Errorf("only %d requests", n)
	}
	got, size, err := bucket.ReadRange(t.Context(), b, "k", 12345, 2<<20)
	if err != nil || size != int64(len(data)) || !bytes.Equal(got, data[12345:12345+2<<20]) {
		t.Errorf("a range: %d bytes of %d, %v", len(got), size, err)
	}

	// Of an object that is another meanwhile, or that can't be had any more, there is no rest.
	server.Plan(cut)
	o, err := b.Get(t.Context(), "gone", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	if err := b.Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	put(t, b, "gone", random(4<<20))
	if n, err := io.Copy(io.Discard, o.Body); !errors.Is(err, bucket.ErrNotExist) || n > 2<<20 {
		t.Errorf("the rest of another object: %d bytes, %v", n, err)
	}
	c.RetryFor = 500 * time.Millisecond
	b = ready(t, c)
	first := true
	server.Plan(func(buckettest.Request) buckettest.HTTPFault {
		if first {
			first = false
			return buckettest.HTTPFault{Truncate: 1000}
		}
		return buckettest.HTTPFault{Drop: true}
	})
	_, err = bucket.ReadAll(t.Context(), b, "k", 1<<30)
	if e := (*bucket.Error)(nil); !errors.As(err, &e) || !errors.Is(err, bucket.ErrUnavailable) {
		t.Errorf("a body that breaks off for good: %v", err)
	}
}

// TestStall is of requests that are never answered, and answers that stop.
func TestStall(t *testing.T) {
	server := s3test.Start(t)
	b := ready(t, server.NewBucket(t).WithStall(150*time.Millisecond))
	for _, after := range []bool{false, true} {
		key := fmt.Sprintf("stall/%v", after)
		server.Plan(once(http.MethodPut, 0, buckettest.HTTPFault{Stall: true, After: after}))
		put(t, b, key, []byte("data"))
		want(t, b, key, []byte("data"))
	}
}

// TestRetriesEnd sees that a service that fails for good is an error in time, and that a context ends the waiting.
func TestRetriesEnd(t *testing.T) {
	server := s3test.Start(t)
	c := server.NewBucket(t)
	var b *s3.Bucket
	always := func(buckettest.Request) buckettest.HTTPFault {
		return s3test.Refuse(http.StatusServiceUnavailable, "SlowDown")
	}
	// Where the machine has much else to do, the time may be over before there was a second request.
	for c.RetryFor = 700 * time.Millisecond; ; c.RetryFor *= 4 {
		b = ready(t, c)
		server.Plan(always)
		start := time.Now()
		_, err := b.Stat(t.Context(), "k")
		if took := time.Since(start); !errors.Is(err, bucket.ErrUnavailable) || took > time.Minute {
			t.Fatalf("%v after %v, where there are %v for retries", err, took, c.RetryFor)
		}
		n := len(server.Requests())
		if n > 20 {
			t.Errorf("%d requests in %v", n, c.RetryFor)
		}
		if n > 1 {
			break
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	server.Plan(func(r buckettest.Request) buckettest.HTTPFault {
		cancel()
		return always(r)
	})
	if err := bucket.PutBytes(ctx, b, "k", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ended: %v", err)
	}

	// The service says when.
	server.Plan(func(r buckettest.Request) buckettest.HTTPFault {
		if r.N > 0 {
			return buckettest.HTTPFault{}
		}
		f := always(r)
		f.Header.Set("Retry-After", "1")
		return f
	})
	c.RetryFor = time.Minute
	patient := s3test.Open(t, c)
	start := time.Now()
	if _, err := patient.Stat(t.Context(), "ready"); err != nil || time.Since(start) < time.Second {
		t.Errorf("%v after %v, though it was to wait a second", err, time.Since(start))
	}
}

// TestUnreachable has no service at the address: an error at once if there never was one, else one after retries.
func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	b := s3test.Open(t, s3.Config{Bucket: "bucket", Endpoint: nobody, AccessKeyID: "a", SecretAccessKey: "b", RetryFor: time.Hour})
	if err := bucket.PutBytes(t.Context(), b, "k", nil); !errors.Is(err, bucket.ErrUnavailable) {
		t.Errorf("put: %v", err)
	}

	server := s3test.Start(t)
	c := server.NewBucket(t)
	c.RetryFor = 500 * time.Millisecond
	b = ready(t, c)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := b.Stat(t.Context(), "k"); !errors.Is(err, bucket.ErrUnavailable) {
		t.Errorf("stat: %v", err)
	}
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("it gave up after %v", took)
	}
}

// TestAnswers gives each error of the service its kind and advice, without a retry.
func TestAnswers(t *testing.T) {
	server := s3test.Start(t)
	b := ready(t, server.NewBucket(t))
	skewed := s3test.Refuse(http.StatusForbidden, "RequestTimeTooSkewed")
	skewed.Header.Set("Date", time.Now().Add(-20*time.Minute).UTC().Format(http.TimeFormat))
	region := s3test.Refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed")
	region.Header.Set("X-Amz-Bucket-Region", "eu-north-1")
	for _, c := range []struct {
		fault buckettest.HTTPFault
		kind  error
		text  string
	}{
		{s3test.Refuse(http.StatusForbidden, "AccessDenied"), bucket.ErrPermission, "must allow s3:PutObject"},
		{s3test.Refuse(http.StatusForbidden, "InvalidAccessKeyId"), bucket.ErrPermission, "check the credentials"},
		{s3test.Refuse(http.StatusForbidden, "SignatureDoesNotMatch"), bucket.ErrPermission, "secret key"},
		{skewed, bucket.ErrPermission, "is 20m"},
		{region, bucket.ErrUnavailable, "region=eu-north-1"},
		{s3test.Refuse(http.StatusMovedPermanently, "PermanentRedirect"), bucket.ErrUnavailable, "another region"},
		{s3test.Refuse(http.StatusNotFound, "NoSuchBucket"), bucket.ErrUnavailable, "create it"},
		{s3test.Refuse(http.StatusForbidden, "QuotaExceeded"), bucket.ErrFull, "QuotaExceeded"},
		{s3test.Refuse(http.StatusInsufficientStorage, "XMinioStorageFull"), bucket.ErrFull, "507"},
		{s3test.Refuse(http.StatusBadRequest, "EntityTooLarge"), bucket.ErrTooLarge, "EntityTooLarge"},
		{s3test.Refuse(http.StatusBadRequest, "KeyTooLongError"), bucket.ErrKey, "KeyTooLongError"},
		{s3test.Refuse(http.StatusNotImplemented, "NotImplemented"), bucket.ErrUnavailable, "doesn't know"},
		{s3test.Refuse(http.StatusTeapot, "SomethingNew"), bucket.ErrUnavailable, "HTTP 418 SomethingNew, request R1"},
		{buckettest.HTTPFault{Status: http.StatusNotFound, Body: "<html>"}, bucket.ErrUnavailable, ""},
		{s3test.Refuse(http.StatusPreconditionFailed, "PreconditionFailed"), bucket.ErrExist, ""},
	} {
		server.Plan(func(buckettest.Request) buckettest.HTTPFault { return c.fault })
		err := bucket.PutBytes(t.Context(), b, "k", []byte("data"))
		var e *bucket.Error
		if !errors.Is(err, c.kind) || !errors.As(err, &e) || e.Op != "put" || e.Key != "k" || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%d %s: %v; want %v and %q", c.fault.Status, c.fault.Body, err, c.kind, c.text)
		}
		if n := len(server.Requests()); n != 1 {
			t.Errorf("%v: %d requests", err, n)
		}
	}

	// An answer that doesn't say what is wrong is doubted, for a while. So are those to a HEAD, which have no body.
	bare := buckettest.HTTPFault{Status: http.StatusBadRequest, Body: "Bad Request"}
	server.Plan(once(http.MethodPut, 0, bare))
	put(t, b, "doubted", nil)
	server.Plan(func(buckettest.Request) buckettest.HTTPFault { return bare })
	if err := bucket.PutBytes(t.Context(), b, "k", nil); !errors.Is(err, bucket.ErrUnavailable) || len(server.Requests()) != 5 {
		t.Errorf("%v after %v", err, server.Requests())
	}

	// One among others that say that they are for a while is no more doubted for those.
	server.Plan(func(r buckettest.Request) buckettest.HTTPFault {
		switch {
		case r.N < 4:
			return s3test.Refuse(http.StatusServiceUnavailable, "SlowDown")
		case r.N == 4:
			return bare
		}
		return buckettest.HTTPFault{}
	})
	put(t, b, "slow/doubted", nil)

	server.Plan(once(http.MethodHead, 0, s3test.Refuse(http.StatusBadRequest, "RequestTimeout")))
	if _, err := b.Stat(t.Context(), "doubted"); err != nil {
		t.Error(err)
	}

	// Credentials that somebody renews are asked for again, once.
	server.Plan(once(http.MethodPut, 0, s3test.Refuse(http.StatusBadRequest, "ExpiredToken")))
	put(t, b, "expired", nil)
	server.Plan(func(buckettest.Request) buckettest.HTTPFault {
		return s3test.Refuse(http.StatusBadRequest, "ExpiredToken")
	})
	if err := bucket.PutBytes(t.Context(), b, "k", nil); !errors.Is(err, bucket.ErrPermission) || len(server.Requests()) != 2 {
		t.Errorf("%v after %v", err, server.Requests())
	}
}

// TestWrongCredentials and the like against the real service.
func TestWrongCredentials(t *testing.T) {
	server := s3test.Start(t)
	c := server.NewBucket(t)
	for _, change := range []func(*s3.Config){
		func(c *s3.Config) { c.AccessKeyID = "nobody" },
		func(c *s3.Config) { c.SecretAccessKey = "guessed-wrong" },
	} {
		bad := c
		change(&bad)
		b := s3test.Open(t, bad)
		if err := bucket.PutBytes(t.Context(), b, "k", nil); !errors.Is(err, bucket.ErrPermission) {
			t.Errorf("put: %v", err)
		}
		if _, _, err := bucket.First(t.Context(), b, bucket.ListOptions{}); !errors.Is(err, bucket.ErrPermission) {
			t.Errorf("list: %v", err)
		}
	}
	c.Bucket = "no-such-bucket"
	b := s3test.Open(t, c)
	if err := bucket.PutBytes(t.Context(), b, "k", nil); !errors.Is(err, bucket.ErrUnavailable) || !strings.Contains(err.Error(), "create it") {
		t.Errorf("put: %v", err)
	}
	if _, _, err := bucket.First(t.Context(), b, bucket.ListOptions{}); !errors.Is(err, bucket.ErrUnavailable) {
		t.Errorf("list: %v", err)
	}
}
