package s3_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/s3"
	"github.com/durun/durun/snapshot/bucket/s3/s3test"
)

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
