package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/durun/durun/snapshot/bucket/buckettest"
	"github.com/durun/durun/snapshot/bucket/s3"
)

// Version is the release of versitygw that the tests run against. The Makefile reads it here.
const Version = "v1.8.0"

// Variable names a versitygw to be used in place of the cached one.
const Variable = "DURUN_VERSITYGW"

// The service's only account.
const (
	AccessKeyID     = "durun"
	SecretAccessKey = "durun-secret"
)

// Server is a running service.
type Server struct {
	*buckettest.Proxy // clients speak to it

	buckets atomic.Int64
}

// Start runs a service until the test ends. Its standard error shows if the test fails.
func Start(tb testing.TB) *Server {
	tb.Helper()
	program := find(tb)
	// Not the test's own folder: the path of a socket may have some hundred bytes.
	dir, err := os.MkdirTemp("", "durun-s3-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	objects := filepath.Join(dir, "objects")
	if err := os.Mkdir(objects, 0o700); err != nil {
		tb.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	// It keeps metadata in extended attributes, which are there at once with their object. With files of their own for
	// metadata (--sidecar), which need no such file system, objects can't be read for a moment when several create them.
	cmd := exec.Command(program, "--port", socket, "--keep-alive", "--quiet", "posix", objects)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKeyID, "ROOT_SECRET_KEY="+SecretAccessKey)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start versitygw: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if tb.Failed() && output.Len() > 0 {
			tb.Logf("versitygw: %s", output.Bytes())
		}
	})

	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	if err := waitFor(dial, ended); err != nil {
		tb.Fatalf("versitygw: %v", err)
	}
	proxy, err := buckettest.NewProxy(dial)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			tb.Errorf("close the proxy: %v", err)
		}
	})
	return &Server{Proxy: proxy}
}

// find returns the path of versitygw, or ends the test.
func find(tb testing.TB) string {
	tb.Helper()
	if path := os.Getenv(Variable); path != "" {
		return path
	}
	dir := os.Getenv("XDG_CACHE_HOME")
	if home, err := os.UserHomeDir(); dir == "" && err == nil {
		dir = filepath.Join(home, ".cache")
	}
	path, err := exec.LookPath(filepath.Join(dir, "durun-tools", "versitygw-"+Version, "versitygw"))
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		tb.Fatalf("no S3 service to test against: %v; `make versitygw` installs it", err)
	default:
		tb.Skipf("no S3 service to test against: %v; `make versitygw` installs it", err)
	}
	return path
}

// waitFor returns when the service takes connections.
func waitFor(dial func(context.Context) (net.Conn, error), ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		conn, err := dial(ctx)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// NewBucket creates an empty bucket and returns how to open it.
func (s *Server) NewBucket(tb testing.TB) s3.Config {
	tb.Helper()
	name := fmt.Sprintf("bucket-%d", s.buckets.Add(1))
	err := s.Client(tb).MakeBucket(tb.Context(), name, minio.MakeBucketOptions{})
	if err != nil {
		tb.Fatalf("make bucket %s: %v", name, err)
	}
	return s3.Config{Bucket: name, Endpoint: s.URL(), AccessKeyID: AccessKeyID, SecretAccessKey: SecretAccessKey}
}

// Client returns a client for what the driver doesn't do.
func (s *Server) Client(tb testing.TB) *minio.Client {
	tb.Helper()
	client, err := minio.New(strings.TrimPrefix(s.URL(), "http://"), &minio.Options{
		Creds:     credentials.NewStaticV4(AccessKeyID, SecretAccessKey, ""),
		Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return client
}

// Open opens a bucket.
func Open(tb testing.TB, c s3.Config) *s3.Bucket {
	tb.Helper()
	b, err := s3.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
