package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/durun/durun/snapshot/bucket"
)

const (
	maxSize = 5 << 30 // bytes of an object that is put in one request
	maxKey  = 1024    // bytes of a key of the service, with the prefix
	maxPage = 1000    // entries of one answer to a listing

	// private is where the driver keeps objects of its own: no valid key's part starts with a dot.
	private  = ".durun/"
	probeKey = private + "if-none-match"

	markName = "Durun-Put" // the metadata with a Put's random number
)

// Bucket is a bucket in S3 or the like. It implements [bucket.Bucket] and [bucket.Clock]. Any number of goroutines and
// processes may use a bucket at once.
type Bucket struct {
	config      Config // complete
	url         string
	endpoint    *url.URL
	credentials *credentials.Credentials
	connections *http.Transport
	transport   recorder
	client      *minio.Core
	answered    atomic.Bool // the service has answered a request

	probing chan struct{} // held by who finds out about the next
	probed  atomic.Bool   // the service is known to hold the condition of a Put
}

// Open opens a bucket, which must exist. It finds credentials, and asks Amazon for the bucket's region if none is set;
// else it makes no request.
//
// Errors: [bucket.ErrURL] for a Config that makes no sense, [bucket.ErrPermission] without credentials,
// [bucket.ErrUnavailable].
func Open(ctx context.Context, c Config) (*Bucket, error) {
	fail := func(kind, err error) (*Bucket, error) {
		return nil, &bucket.Error{Op: "open", Key: c.URL(), Kind: kind, Err: err}
	}
	named := c
	c, err := c.complete()
	if err != nil {
		return fail(bucket.ErrUnavailable, err)
	}
	endpoint, err := c.check()
	if err != nil {
		return fail(bucket.ErrURL, err)
	}
	if c.Endpoint != "" {
		c.Endpoint = endpoint.String()
		named.Endpoint = c.Endpoint // whatever the environment of whoever reads the URL
	}
	c.RetryFor = cmp.Or(c.RetryFor, defaultRetryFor)
	roots, err := loadRoots(c.caBundle)
	if err != nil {
		return fail(bucket.ErrUnavailable, err)
	}
	if c.dial == nil {
		c.dial = dial
	}
	b := &Bucket{
		config: c, url: named.URL(), endpoint: endpoint,
		credentials: credentials.New(&provider{
			fixed:   credentials.Value{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken},
			profile: c.Profile,
		}),
		connections: newTransport(c.dial, cmp.Or(c.stall, stallTimeout), roots),
		probing:     make(chan struct{}, 1),
	}
	b.transport = recorder{b.connections, &b.answered}
	if _, err := b.credentials.GetWithContext(&credentials.CredContext{Client: http.DefaultClient, Context: ctx}); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return fail(bucket.ErrPermission, err)
	}
	if b.config.Region == "" && !s3utils.IsAmazonEndpoint(*endpoint) {
		b.config.Region = defaultRegion
	}
	if b.client, err = b.newClient(b.transport); err != nil {
		return fail(bucket.ErrURL, err)
	}
	if b.config.Region == "" {
		if err := b.findRegion(ctx); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// findRegion asks Amazon for the bucket's region. minio-go would as well, but each client anew.
func (b *Bucket) findRegion(ctx context.Context) error {
	err := b.retry(ctx, func(ctx context.Context, x *exchange) *failure {
		region, err := b.client.GetBucketLocation(ctx, b.config.Bucket)
		b.config.Region = region
		return b.fail("open", b.url, err, x)
	})
	if err != nil {
		return err
	}
	if b.client, err = b.newClient(b.transport); err != nil {
		return &bucket.Error{Op: "open", Key: b.url, Kind: bucket.ErrURL, Err: err}
	}
	return nil
}

// newClient returns a client that makes each request once.
func (b *Bucket) newClient(transport http.RoundTripper) (*minio.Core, error) {
	lookup := minio.BucketLookupAuto
	if b.config.PathStyle != nil {
		lookup = minio.BucketLookupDNS
		if *b.config.PathStyle {
			lookup = minio.BucketLookupPath
		}
	}
	client, err := minio.NewCore(b.endpoint.Host, &minio.Options{
		Creds: b.credentials, Secure: b.endpoint.Scheme == "https", Transport: transport,
		Region: b.config.Region, BucketLookup: lookup, MaxRetries: 1,
	})
	if err != nil {
		return nil, err
	}
	client.SetAppInfo("durun", version())
	return client, nil
}

// version is this module's version in the program that it is built into.
var version = sync.OnceValue(func() string {
	const module = "github.com/durun/durun"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module && m.Version != "" {
			return strings.Trim(m.Version, "()")
		}
	}
	return "devel"
})

// URL implements [bucket.Bucket]. It names the endpoint even if that comes from the environment.
func (b *Bucket) URL() string { return b.url }

// Close implements [bucket.Bucket].
func (b *Bucket) Close() error {
	b.connections.CloseIdleConnections()
	return nil
}

// name is the service's name for a key.
func (b *Bucket) name(key string) string {
	if b.config.Prefix == "" {
		return key
	}
	return b.config.Prefix + "/" + key
}

// Stat implements [bucket.Bucket], in one request.
func (b *Bucket) Stat(ctx context.Context, key string) (bucket.Entry, error) {
	if err := b.check(ctx, "stat", key); err != nil {
		return bucket.Entry{}, err
	}
	return b.stat(ctx, "stat", key)
}

func (b *Bucket) stat(ctx context.Context, op, key string) (e bucket.Entry, err error) {
	err = b.retry(ctx, func(ctx context.Context, x *exchange) *failure {
		info, err := b.client.StatObject(ctx, b.config.Bucket, b.name(key), minio.StatObjectOptions{})
		e = bucket.Entry{Key: key, Size: info.Size, ModTime: info.LastModified}
		if err == nil && e.Size < 0 {
			return &failure{err: &bucket.Error{Op: op, Key: key, Kind: bucket.ErrUnavailable, Err: errors.New("the answer has no length")}}
		}
		return b.fail(op, key, err, x)
	})
	if err != nil {
		return bucket.Entry{}, err
	}
	return e, nil
}

// Delete implements [bucket.Bucket], in one request.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := b.check(ctx, "delete", key); err != nil {
		return err
	}
	return b.retry(ctx, func(ctx context.Context, x *exchange) *failure {
		err := b.client.RemoveObject(ctx, b.config.Bucket, b.name(key), minio.RemoveObjectOptions{})
		f := b.fail("delete", key, err, x)
		if f != nil && f.absent {
			return nil
		}
		return f
	})
}

// Now implements [bucket.Clock]: the Date of an answer, which is of whole seconds.
func (b *Bucket) Now(ctx context.Context) (now time.Time, err error) {
	err = b.retry(ctx, func(ctx context.Context, x *exchange) *failure {
		_, err := b.client.StatObject(ctx, b.config.Bucket, b.name(probeKey), minio.StatObjectOptions{})
		if f := b.fail("now", "", err, x); f != nil && !f.absent {
			return f
		}
		if now, err = http.ParseTime(x.header.Get("Date")); err != nil {
			return &failure{err: &bucket.Error{Op: "now", Kind: bucket.ErrUnavailable, Err: fmt.Errorf("the answer has no date: %w", err)}}
		}
		return nil
	})
	return now, err
}

// check holds a key to the rules of all drivers, and to this one's.
func (b *Bucket) check(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := bucket.ValidKey(key); err != nil {
		var e *bucket.Error
		errors.As(err, &e)
		e.Op = op
		return e
	}
	if n := len(b.name(key)); n > maxKey {
		return &bucket.Error{Op: op, Key: key, Kind: bucket.ErrKey, Err: fmt.Errorf("with the prefix it has %d bytes, at most %d are allowed", n, maxKey)}
	}
	return nil
}

var (
	_ bucket.Bucket = (*Bucket)(nil)
	_ bucket.Clock  = (*Bucket)(nil)
)
