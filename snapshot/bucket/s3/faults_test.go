package s3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

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

// TestRequests looks at what goes over the wire: one request for each operation, and for a Put the condition and the
// body's hash with it.
func TestRequests(t *testing.T) {
	server := s3test.Start(t)
	c := server.NewBucket(t)
	c.Prefix = "some/prefix"
	b := ready(t, c)
	name := "/" + c.Bucket + "/some/prefix/"
	ctx := t.Context()

	for _, size := range []int{0, 1000, 20 << 20} { // the last is beyond what minio-go would put in one piece
		data := random(size)
		key := fmt.Sprintf("k/%d", size)
		server.Plan(nil)
		put(t, b, key, data)
		sent := server.Requests()
		if len(sent) != 1 {
			t.Fatalf("a put of %d bytes: %v", size, sent)
		}
		r := sent[0]
		hash := sha256.Sum256(data)
		if r.Method != http.MethodPut || r.Target != name+key || r.Header.Get("If-None-Match") != "*" ||
			r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(hash[:]) || !strings.Contains(r.Header.Get("Authorization"), "if-none-match") {
			t.Errorf("a put of %d bytes: %v, %v", size, r, r.Header)
		}
		if !strings.Contains(r.Header.Get("User-Agent"), " durun/") {
			t.Errorf("user agent %q", r.Header.Get("User-Agent"))
		}
	}

	for what, do := range map[string]func() error{
		"HEAD":   func() error { _, err := b.Stat(ctx, "k/1000"); return err },
		"DELETE": func() error { return b.Delete(ctx, "k/0") },
		"GET":    func() error { _, err := bucket.ReadAll(ctx, b, "k/1000", 1000); return err },
		"GET  ": func() error {
			data, size, err := bucket.ReadRange(ctx, b, "k/1000", 100, 50)
			if len(data) != 50 || size != 1000 {
				return fmt.Errorf("%d bytes of %d, %w", len(data), size, err)
			}
			return err
		},
		"GET    ": func() error { _, _, err := bucket.First(ctx, b, bucket.ListOptions{Prefix: "k/"}); return err },
		"HEAD ":   func() error { _, err := b.Now(ctx); return err },
		"PUT":     func() error { return expect(bucket.PutBytes(ctx, b, "k/1000", nil), bucket.ErrExist) },
		"GET     ": func() error {
			for _, err := range b.List(ctx, bucket.ListOptions{}) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		server.Plan(nil)
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if sent := server.Requests(); len(sent) != 1 || sent[0].Method != strings.TrimSpace(what) {
			t.Errorf("%s: %v", what, sent)
		}
	}
}

func expect(err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("got %w, want %w", err, want)
	}
	return nil
}

// TestProbe counts what it costs to know that the service holds the condition.
func TestProbe(t *testing.T) {
	server := s3test.Start(t)
	c := server.NewBucket(t)
	for i, requests := range []int{3, 2, 2} { // made, refused, the object; refused, the object
		b := s3test.Open(t, c)
		server.Plan(nil)
		put(t, b, fmt.Sprint(i), nil)
		if sent := server.Requests(); len(sent) != requests {
			t.Errorf("the first put: %v", sent)
		}
		for e, err := range b.List(t.Context(), bucket.ListOptions{}) {
			if err != nil || strings.Contains(e.Key, "durun") {
				t.Errorf("listed: %+v, %v", e, err)
			}
		}
	}
}

// TestServiceWithoutCondition is a service that overwrites, whatever it is told.
func TestServiceWithoutCondition(t *testing.T) {
	var puts atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			puts.Add(1)
		}
		w.Header().Set("ETag", `"x"`)
	}))
	defer service.Close()
	b := s3test.Open(t, s3.Config{Bucket: "bucket", Endpoint: service.URL, AccessKeyID: "a", SecretAccessKey: "b"})
	for range 2 {
		err := bucket.PutBytes(t.Context(), b, "commit", []byte("data"))
		if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, bucket.ErrUnavailable) || !strings.Contains(err.Error(), "conditional writes") {
			t.Errorf("put: %v", err)
		}
	}
	if n := puts.Load(); n != 4 {
		t.Errorf("%d requests to put, want 4: the probe's, twice each", n)
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
	c.RetryFor = 500 * time.Millisecond
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
	c.RetryFor = 700 * time.Millisecond
	b := ready(t, c)
	always := func(buckettest.Request) buckettest.HTTPFault {
		return s3test.Refuse(http.StatusServiceUnavailable, "SlowDown")
	}
	server.Plan(always)
	start := time.Now()
	_, err := b.Stat(t.Context(), "k")
	if took := time.Since(start); !errors.Is(err, bucket.ErrUnavailable) || took > 5*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	if n := len(server.Requests()); n < 2 || n > 20 {
		t.Errorf("%d requests", n)
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
	start = time.Now()
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

// TestPrefixes keeps two prefixes of one bucket apart, and other people's objects out.
func TestPrefixes(t *testing.T) {
	server := s3test.Start(t)
	c := server.NewBucket(t)
	all := ready(t, c)
	c.Prefix = "a"
	a := ready(t, c)
	c.Prefix = "a/b"
	ab := ready(t, c)
	put(t, a, "k", []byte("a"))
	put(t, ab, "k", []byte("ab"))
	put(t, all, "ab/k", []byte("neither"))
	want(t, all, "a/b/k", []byte("ab"))
	for b, keys := range map[*s3.Bucket][]string{
		all: {"a/b/k", "a/b/ready", "a/k", "a/ready", "ab/k", "ready"}, a: {"b/k", "b/ready", "k", "ready"}, ab: {"k", "ready"},
	} {
		var got []string
		for e, err := range b.List(t.Context(), bucket.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Key)
		}
		if !slices.Equal(got, keys) {
			t.Errorf("%s lists %q", b.URL(), got)
		}
	}
	long := strings.Repeat("k", bucket.MaxSegment)
	key := strings.Join([]string{long, long, long, long, long}, "/")
	put(t, all, key, nil)
	c.Prefix = strings.Repeat("p", 100)
	if err := bucket.PutBytes(t.Context(), s3test.Open(t, c), key, nil); !errors.Is(err, bucket.ErrKey) {
		t.Errorf("a key that is too long with its prefix: %v", err)
	}
}

// TestListings compares listings of random keys in pages of random sizes with those of a bucket in memory. Between the
// keys there are some that are none of durun's.
func TestListings(t *testing.T) {
	server := s3test.Start(t)
	c := server.NewBucket(t)
	c.Prefix = "p"
	b, mem := ready(t, c), bucket.NewMem()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	// A service on a file system can't have an object where a folder is.
	folders, objects := []string{"a", "a-", "a.", "a0", "b", "Z"}, []string{"ab", "a-b", "a.b", "a0b", "c", "_"}
	key := func() string {
		var k string
		for range r.IntN(3) {
			k += folders[r.IntN(len(folders))] + "/"
		}
		return k + objects[r.IntN(len(objects))]
	}
	put(t, mem, "ready", nil)
	for range 40 {
		k := key()
		for _, b := range []bucket.Bucket{b, mem} {
			if err := bucket.PutBytes(t.Context(), b, k, []byte(k)); err != nil && !errors.Is(err, bucket.ErrExist) {
				t.Fatal(err)
			}
		}
	}
	service := server.Client(t)
	for _, name := range []string{"p/a b", "p/.hidden", "p/ä", "p/.x/y", "p/c d/e", "p2/a", "o"} {
		if _, err := service.PutObject(t.Context(), c.Bucket, name, strings.NewReader("x"), 1, minio.PutObjectOptions{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	list := func(b bucket.Bucket, o bucket.ListOptions) string {
		var s strings.Builder
		for e, err := range b.List(t.Context(), o) {
			if err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
			fmt.Fprintf(&s, "%s %d\n", e.Key, e.Size)
		}
		return s.String()
	}
	for range 50 {
		o := bucket.ListOptions{Folders: r.IntN(2) == 0, Limit: []int{0, 1, 2, 5, 1000}[r.IntN(5)]}
		if r.IntN(3) > 0 {
			o.Prefix = key()[:1]
			if k := key(); r.IntN(2) == 0 {
				o.Prefix = k[:strings.LastIndexByte(k, '/')+1]
			}
		}
		if r.IntN(2) == 0 {
			o.StartAfter = key()
		}
		if got, want := list(b, o), list(mem, o); got != want {
			t.Errorf("list %+v:\n%swant\n%s", o, got, want)
		}
	}
}

// TestTooLarge doesn't read the body.
func TestTooLarge(t *testing.T) {
	b := s3test.Open(t, s3.Config{Bucket: "bucket", Endpoint: "http://localhost:1", AccessKeyID: "a", SecretAccessKey: "b"})
	if err := b.Put(t.Context(), "k", nil, 5<<30+1); !errors.Is(err, bucket.ErrTooLarge) {
		t.Errorf("put: %v", err)
	}
}
