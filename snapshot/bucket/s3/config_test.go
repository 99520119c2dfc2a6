package s3

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/durun/durun/snapshot/bucket"
)

// bare takes all AWS settings away, and gives the test files of its own.
func bare(t *testing.T, config, secrets string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	dir := t.TempDir()
	for name, f := range map[string]struct{ variable, text string }{
		"config": {"AWS_CONFIG_FILE", config}, "credentials": {"AWS_SHARED_CREDENTIALS_FILE", secrets},
	} {
		path := filepath.Join(dir, name)
		t.Setenv(f.variable, path)
		if f.text == "" {
			continue
		}
		if err := os.WriteFile(path, []byte(f.text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func ptr[T any](v T) *T { return &v }

func TestParseURL(t *testing.T) {
	for in, want := range map[string]Config{
		"s3://bucket":          {Bucket: "bucket"},
		"s3://bucket/":         {Bucket: "bucket"},
		"s3://my.bucket/a/b/":  {Bucket: "my.bucket", Prefix: "a/b"},
		"s3://bucket?region=x": {Bucket: "bucket", Region: "x"},
		"s3://bucket/p?endpoint=http://localhost:9000&path-style=false&profile=me": {
			Bucket: "bucket", Prefix: "p", Endpoint: "http://localhost:9000", PathStyle: ptr(false), Profile: "me",
		},
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseURL(u)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
		if back, err := url.Parse(got.URL()); err != nil {
			t.Errorf("%s: %v", got.URL(), err)
		} else if again, err := ParseURL(back); err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%s, and back: %+v, %v", got.URL(), again, err)
		}
	}
	for in, why := range map[string]string{
		"s3://":                                "bucket",
		"s3:///prefix":                         "bucket",
		"s3://ab":                              "bucket",
		"s3://UPPER":                           "bucket",
		"s3://bucket:80":                       "endpoint=",
		"s3://user:pass@bucket":                "credentials",
		"s3://bucket#x":                        "fragment",
		"s3://bucket/a b":                      "prefix",
		"s3://bucket/../x":                     "prefix",
		"s3://bucket/a//b":                     "prefix",
		"s3://bucket?nonsense=1":               "known are",
		"s3://bucket?region=a&region=b":        "more than once",
		"s3://bucket?path-style=maybe":         "path-style",
		"s3://bucket?endpoint=ftp://x":         "http",
		"s3://bucket?endpoint=http://x/path":   "no more",
		"s3://bucket?endpoint=http://a:b@x":    "no more",
		"s3://bucket?%zz":                      "",
		"s3://fast--use1-az4--x-s3":            "directory bucket",
		"s3://bucket?endpoint=http://%41:b:c/": "",
	} {
		u, err := url.Parse(in)
		if err != nil {
			continue
		}
		_, err = ParseURL(u)
		if !errors.Is(err, bucket.ErrURL) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v; want %q", in, err, why)
		}
		if err != nil && strings.Contains(err.Error(), "pass") && !strings.Contains(in, "path") {
			t.Errorf("%s: %v shows the secret", in, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("s3://bucket/p?endpoint=http://localhost:9000&path-style=false")
	f.Add("s3://b.c-d?region=%26%3D")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		c, err := ParseURL(u)
		if err != nil {
			if !errors.Is(err, bucket.ErrURL) {
				t.Errorf("%v", err)
			}
			return
		}
		back, err := url.Parse(c.URL())
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseURL(back); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%q: %+v, and back: %+v, %v", s, c, again, err)
		}
	})
}

const awsConfig = `
# a comment
[default]
region = eu-west-1   ; another
output=json

[profile minio]
region=eu-north-1
services = local
s3 =
    addressing_style = virtual
    max_concurrent_requests = 20
cli_pager =

[ profile  other ]
endpoint_url = http://everything:1

[services local]
s3 =
  endpoint_url = http://localhost:9000
dynamodb =
  endpoint_url = http://localhost:8000
this line means nothing
`

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		in   Config
		want Config
	}{
		{"file", nil, Config{}, Config{Region: "eu-west-1"}},
		{"variables", map[string]string{"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b", "AWS_ENDPOINT_URL": "http://c"}, Config{}, Config{Region: "a", Endpoint: "http://c"}},
		{"default region", map[string]string{"AWS_DEFAULT_REGION": "b"}, Config{}, Config{Region: "b"}},
		{
			"for S3",
			map[string]string{"AWS_ENDPOINT_URL_S3": "http://d", "AWS_ENDPOINT_URL": "http://c"},
			Config{},
			Config{Region: "eu-west-1", Endpoint: "http://d"},
		},
		{
			"given",
			map[string]string{"AWS_REGION": "a", "AWS_ENDPOINT_URL": "http://c"},
			Config{Region: "mine", Endpoint: "http://e", PathStyle: ptr(true), Profile: "minio"},
			Config{Region: "mine", Endpoint: "http://e", PathStyle: ptr(true), Profile: "minio"},
		},
		{
			"profile",
			map[string]string{"AWS_PROFILE": "minio"},
			Config{},
			Config{Region: "eu-north-1", Endpoint: "http://localhost:9000", PathStyle: ptr(false)},
		},
		{"profile for all services", nil, Config{Profile: "other"}, Config{Profile: "other", Endpoint: "http://everything:1"}},
		{
			"ignored",
			map[string]string{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": "http://c"},
			Config{Profile: "minio"},
			Config{Profile: "minio", Region: "eu-north-1", PathStyle: ptr(false)},
		},
		{"no such profile", map[string]string{"AWS_PROFILE": "none"}, Config{}, Config{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bare(t, awsConfig, "")
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			got, err := c.in.complete()
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

const awsCredentials = `
[default]
aws_access_key_id = default-id
aws_secret_access_key = default-secret
[minio]
aws_access_key_id = minio-id
aws_secret_access_key = minio-secret
aws_session_token = minio-token
[half]
aws_access_key_id = half-id
[role]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = default
`

func TestCredentials(t *testing.T) {
	for _, c := range []struct {
		name    string
		env     map[string]string
		secrets string
		config  Config
		want    string // the access key, or
		err     string // a part of the error
	}{
		{"nothing", nil, "", Config{}, "", "no credentials found"},
		{"variables", map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s", "AWS_PROFILE": "minio"}, awsCredentials, Config{}, "id", ""},
		{"half of them", map[string]string{"AWS_ACCESS_KEY_ID": "id"}, awsCredentials, Config{}, "", "only one"},
		{"default profile", nil, awsCredentials, Config{}, "default-id", ""},
		{"profile", map[string]string{"AWS_PROFILE": "minio"}, awsCredentials, Config{}, "minio-id", ""},
		{"a profile that is given", map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s"}, awsCredentials, Config{Profile: "minio"}, "minio-id", ""},
		{"keys that are given", map[string]string{"AWS_PROFILE": "minio"}, awsCredentials, Config{AccessKeyID: "k", SecretAccessKey: "s"}, "k", ""},
		{"half a profile", map[string]string{"AWS_PROFILE": "half"}, awsCredentials, Config{}, "", "profile half"},
		{"no such profile", map[string]string{"AWS_PROFILE": "none"}, awsCredentials, Config{}, "", "profile none"},
		{"a role", map[string]string{"AWS_PROFILE": "role"}, awsCredentials, Config{}, "", "role_arn is not supported"},
		{"a container that doesn't answer", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/"}, "", Config{}, "", "the role of this container"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bare(t, "", c.secrets)
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			c.config.Bucket, c.config.Region = "bucket", "here"
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			b, err := Open(ctx, c.config)
			if c.err != "" {
				if !errors.Is(err, bucket.ErrPermission) || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			v, err := b.credentials.GetWithContext(&credentials.CredContext{Context: ctx})
			if err != nil || v.AccessKeyID != c.want {
				t.Errorf("got %q, %v", v.AccessKeyID, err)
			}
		})
	}
}

func TestURLNamesEndpoint(t *testing.T) {
	bare(t, "", awsCredentials)
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://localhost:9000/")
	b, err := Open(t.Context(), Config{Bucket: "bucket", Prefix: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := b.URL(), "s3://bucket/p?endpoint=http://localhost:9000"; got != want {
		t.Errorf("got %s", got)
	}
}

// TestAmazon sees where requests go if no region is set: first to ask for it, then to the region's own endpoint.
func TestAmazon(t *testing.T) {
	bare(t, "", awsCredentials)
	var hosts []string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts = append(hosts, r.Method+" "+r.Host+r.URL.RequestURI())
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">eu-central-1</LocationConstraint>`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer service.Close()
	c := Config{Bucket: "bucket", Prefix: "p", Endpoint: "http://s3.amazonaws.com"}
	c.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, service.Listener.Addr().String())
	}
	b, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stat(t.Context(), "k"); !errors.Is(err, bucket.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
	want := []string{"GET bucket.s3.amazonaws.com/?location=", "HEAD bucket.s3.dualstack.eu-central-1.amazonaws.com/p/k"}
	if !slices.Equal(hosts, want) {
		t.Errorf("requests %q, want %q", hosts, want)
	}
}

// TestCertificates has a service whose certificate the system doesn't know.
func TestCertificates(t *testing.T) {
	service := httptest.NewTLSServer(http.NotFoundHandler())
	service.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	defer service.Close()
	bare(t, "", awsCredentials)
	stat := func() error {
		b, err := Open(t.Context(), Config{Bucket: "bucket", Endpoint: service.URL, RetryFor: time.Millisecond})
		if err != nil {
			return err
		}
		_, err = b.Stat(t.Context(), "k")
		return err
	}
	if err := stat(); !errors.Is(err, bucket.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown: %v", err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	t.Setenv("AWS_CA_BUNDLE", path)
	if err := stat(); !errors.Is(err, bucket.ErrUnavailable) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := stat(); !errors.Is(err, bucket.ErrNotExist) {
		t.Errorf("known: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{1: firstBackoff, 2: 2 * firstBackoff, 5: 16 * firstBackoff, 8: maxBackoff, 100: maxBackoff} {
		for range 50 {
			if d := backoff(n); d < want/2 || d > want {
				t.Errorf("after failure %d: %v, want up to %v", n, d, want)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	const date = "Tue, 24 Nov 2026 10:00:00 GMT"
	for after, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "-3": 0, "soon": 0, "Tue, 24 Nov 2026 10:00:07 GMT": 7 * time.Second, "Tue, 24 Nov 2026 09:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {after}, "Date": {date}}); got != want {
			t.Errorf("%q: %v, want %v", after, got, want)
		}
	}
}

// TestExtent has answers that don't fit the question.
func TestExtent(t *testing.T) {
	for _, c := range []struct {
		status         int
		header, value  string
		offset, length int64
		size, n        int64 // or -1 for an error
	}{
		{200, "Content-Length", "100", 0, -1, 100, 100},
		{200, "Content-Length", "100", 0, 10, 100, 10},
		{200, "Content-Length", "5", 0, 10, 5, 5},
		{200, "Content-Length", "100", 10, 10, -1, 0},
		{200, "", "", 0, -1, -1, 0},
		{200, "Content-Length", "-1", 0, -1, -1, 0},
		{206, "Content-Range", "bytes 10-19/100", 10, 10, 100, 10},
		{206, "Content-Range", "bytes 10-12/13", 10, 10, 13, 3},
		{206, "Content-Range", "bytes 11-19/100", 10, 10, -1, 0},
		{206, "Content-Range", "bytes 10-9/100", 10, 10, -1, 0},
		{206, "Content-Range", "bytes 10-19/15", 10, 10, -1, 0},
		{206, "Content-Range", "bytes 10-29/100", 10, 10, -1, 0},
		{206, "Content-Range", "bytes 10-19/*", 10, 10, -1, 0},
		{206, "", "", 10, 10, -1, 0},
	} {
		size, n, err := extent(c.status, http.Header{c.header: {c.value}}, c.offset, c.length)
		if c.size < 0 && err != nil {
			continue
		}
		if err != nil || size != c.size || n != c.n {
			t.Errorf("%d %s %q for %d+%d: %d of %d, %v", c.status, c.header, c.value, c.offset, c.length, n, size, err)
		}
	}
}

// TestCredentialsGone has credentials that can't be renewed when they have expired.
func TestCredentialsGone(t *testing.T) {
	bare(t, "", "")
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "<Error><Code>ExpiredToken</Code></Error>")
	}))
	defer service.Close()
	b, err := Open(t.Context(), Config{Bucket: "bucket", Endpoint: service.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	err = bucket.PutBytes(t.Context(), b, "k", nil)
	if !errors.Is(err, bucket.ErrPermission) || !strings.Contains(err.Error(), "no credentials found") {
		t.Errorf("put: %v", err)
	}
}
