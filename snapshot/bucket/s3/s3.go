package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
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

	probing sync.Mutex
	probed  bool // the service is known to hold the condition of a Put
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
	if b.config.Region != "" {
		return b, nil
	}
	err = b.retry(ctx, func(ctx context.Context, x *exchange) *failure {
		region, err := b.client.GetBucketLocation(ctx, c.Bucket)
		b.config.Region = region
		return b.fail("open", b.url, err, x)
	})
	if err != nil {
		return nil, err
	}
	if b.client, err = b.newClient(b.transport); err != nil {
		return fail(bucket.ErrURL, err)
	}
	return b, nil
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

// Put implements [bucket.Bucket]: in one request, after the first.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := b.check(ctx, "put", key); err != nil {
		return err
	}
	if size > maxSize {
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrTooLarge, Err: fmt.Errorf("%d bytes; a single write takes up to %d", size, int64(maxSize))}
	}
	if err := b.probe(ctx); err != nil {
		return err
	}
	return b.put(ctx, key, body, size)
}

// probe makes sure that the service holds the condition of a Put, once for each bucket that is opened. The object that
// it puts stays, so that this takes one request from the second time on.
func (b *Bucket) probe(ctx context.Context) error {
	b.probing.Lock()
	defer b.probing.Unlock()
	if b.probed {
		return nil
	}
	body := bucket.Bytes("That this object can't be put again is what durun's commits rest on.\n")
	for range 2 {
		err := b.put(ctx, probeKey, body, int64(len(body)))
		if errors.Is(err, bucket.ErrExist) {
			b.probed = true
			return nil
		}
		if err != nil {
			return err
		}
	}
	return &bucket.Error{
		Op: "put", Key: probeKey, Kind: bucket.ErrUnavailable,
		Err: fmt.Errorf("%s overwrites an object in spite of If-None-Match: *, so that no commit would be safe there: use a service with conditional writes: %w",
			b.endpoint.Host, errors.ErrUnsupported),
	}
}

func (b *Bucket) put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	hash, err := hashBody(ctx, body, size)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &bucket.Error{Op: "put", Key: key, Err: err}
	}
	mark := strconv.FormatUint(rand.Uint64(), 36) + strconv.FormatUint(rand.Uint64(), 36)
	o := minio.PutObjectOptions{UserMetadata: map[string]string{markName: mark}, DisableContentSha256: true}
	o.SetMatchETagExcept("*")
	tried := false
	return b.retry(ctx, func(ctx context.Context, x *exchange) *failure {
		u := newUpload(body, size)
		_, err := b.client.PutObject(ctx, b.config.Bucket, b.name(key), u, size, "", hash, o)
		if err := u.close(); err != nil {
			return &failure{err: &bucket.Error{Op: "put", Key: key, Err: fmt.Errorf("read the body: %w", err)}}
		}
		f := b.fail("put", key, err, x)
		if f == nil {
			return nil
		}
		if f.exists && tried {
			return b.isOurs(ctx, key, mark, f)
		}
		if f.absent { // of a Put, so it is the bucket, or a proxy that knows no such path
			f.err = &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrUnavailable, Err: err}
		}
		tried = tried || x.sent
		return f
	})
}

// isOurs is for a Put that finds an object there, and has asked for it to be put before without hearing of the outcome:
// it returns nil if that object is this Put's, else f.
func (b *Bucket) isOurs(ctx context.Context, key, mark string, f *failure) *failure {
	ctx, x := watched(ctx)
	info, err := b.client.StatObject(ctx, b.config.Bucket, b.name(key), minio.StatObjectOptions{})
	if failed := b.fail("put", key, err, x); failed != nil {
		// If it is gone meanwhile, whose it was can't be known: the next try may put it.
		failed.retry = failed.retry || failed.absent
		return failed
	}
	if info.UserMetadata[markName] == mark {
		return nil
	}
	return f
}

// Get implements [bucket.Bucket]: in one request, but for ranges that are empty.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	if err := b.check(ctx, "get", key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, &bucket.Error{Op: "get", Key: key, Err: fmt.Errorf("negative offset %d", offset)}
	}
	if length == 0 {
		e, err := b.stat(ctx, "get", key)
		if err != nil {
			return nil, err
		}
		return &bucket.Object{Body: io.NopCloser(eof{}), Size: e.Size}, nil
	}
	o, err := b.get(ctx, key, offset, length, "")
	if err != nil {
		return nil, err
	}
	return &bucket.Object{
		Body: &download{b: b, ctx: ctx, key: key, etag: o.etag, at: offset, end: offset + o.length, body: o.body},
		Size: o.size,
	}, nil
}

// opened is the answer to a GET.
type opened struct {
	body   io.ReadCloser
	length int64 // that the body should have
	size   int64 // of the whole object
	etag   string
}

// get makes a GET request. With an etag, only that object will do.
func (b *Bucket) get(ctx context.Context, key string, offset, length int64, etag string) (o opened, err error) {
	var options minio.GetObjectOptions
	switch {
	case length < 0 && offset > 0:
		options.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	case length > 0:
		last := offset + length - 1
		if last < offset { // too large for an int64
			options.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		} else {
			options.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, last))
		}
	}
	if etag != "" {
		options.Set("If-Match", `"`+etag+`"`)
	}
	err = b.retry(ctx, func(ctx context.Context, x *exchange) *failure {
		body, info, header, err := b.client.GetObject(ctx, b.config.Bucket, b.name(key), options)
		if err != nil && x.status == http.StatusRequestedRangeNotSatisfiable {
			o, err = b.pastEnd(ctx, key, x)
			return asFailure(err)
		}
		if f := b.fail("get", key, err, x); f != nil {
			if f.exists { // the condition is another's here
				f.err = &bucket.Error{Op: "get", Key: key, Kind: bucket.ErrNotExist, Err: errors.New("it was replaced while it was read")}
			}
			return f
		}
		o = opened{body: body, etag: info.ETag}
		if o.size, o.length, err = extent(x.status, header, offset, length); err != nil {
			_ = body.Close()
			return &failure{err: &bucket.Error{Op: "get", Key: key, Kind: bucket.ErrUnavailable, Err: err}, retry: true, doubt: true}
		}
		return nil
	})
	return o, err
}

// asFailure is for an error of an operation that has done its retries.
func asFailure(err error) *failure {
	if err == nil {
		return nil
	}
	return &failure{err: err}
}

// pastEnd is for a range that begins at or after an object's end.
func (b *Bucket) pastEnd(ctx context.Context, key string, x *exchange) (opened, error) {
	o := opened{body: io.NopCloser(eof{})}
	if size, ok := strings.CutPrefix(x.header.Get("Content-Range"), "bytes */"); ok {
		if n, err := strconv.ParseInt(size, 10, 64); err == nil {
			o.size = n
			return o, nil
		}
	}
	e, err := b.stat(ctx, "get", key)
	o.size = e.Size
	return o, err
}

// extent returns an object's size and the length of the answer's body. The body of a whole object is taken for a range
// only if that begins at 0.
func extent(status int, h http.Header, offset, length int64) (size, n int64, err error) {
	if status == http.StatusPartialContent {
		var first, last int64
		if _, err := fmt.Sscanf(h.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err != nil || first != offset || last < first || size <= last {
			return 0, 0, fmt.Errorf("a range from %d on was asked for, and the answer has Content-Range: %q", offset, h.Get("Content-Range"))
		}
		return size, last - first + 1, nil
	}
	if offset > 0 {
		return 0, 0, fmt.Errorf("a range from %d on was asked for, and the answer has all of the object", offset)
	}
	if size, err = strconv.ParseInt(h.Get("Content-Length"), 10, 64); err != nil || size < 0 {
		return 0, 0, fmt.Errorf("the answer has no length")
	}
	if length >= 0 {
		return size, min(size, length), nil
	}
	return size, size, nil
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

// List implements [bucket.Bucket], in one request for each thousand entries.
func (b *Bucket) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	return func(yield func(bucket.Entry, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(bucket.Entry{}, err)
			return
		}
		// A prefix that no key can have need not be sent to where it may mean something.
		if p := strings.TrimSuffix(o.Prefix, "/"); o.Prefix != "" && bucket.ValidKey(p) != nil {
			return
		}
		last, token := o.StartAfter, ""
		for {
			page, err := b.page(ctx, o, token)
			if err != nil {
				yield(bucket.Entry{}, err)
				return
			}
			for _, e := range b.entries(page) {
				if e.Key <= last {
					continue // a folder that StartAfter is in
				}
				last = e.Key
				if !yield(e, nil) {
					return
				}
			}
			if !page.IsTruncated {
				return
			}
			token = page.NextContinuationToken
		}
	}
}

// page makes one request of a listing.
func (b *Bucket) page(ctx context.Context, o bucket.ListOptions, token string) (page minio.ListBucketV2Result, err error) {
	delimiter, after := "", ""
	if o.Folders {
		delimiter = "/"
	}
	if o.StartAfter != "" && token == "" {
		after = b.name(o.StartAfter)
	}
	limit := maxPage
	if o.Limit > 0 {
		limit = min(limit, o.Limit)
	}
	err = b.retry(ctx, func(ctx context.Context, x *exchange) *failure {
		// minio-go's listing by pages takes no context, and that with one hides where a page ends, between which
		// objects and folders are to be merged.
		client, err := b.newClient(inContext{b.transport, ctx})
		if err != nil {
			return &failure{err: &bucket.Error{Op: "list", Key: o.Prefix, Err: err}}
		}
		page, err = client.ListObjectsV2(b.config.Bucket, b.name(o.Prefix), after, token, delimiter, limit)
		return b.fail("list", o.Prefix, err, x)
	})
	return page, err
}

// entries are the objects and folders of a page, in the order of their keys, without those of other people.
func (b *Bucket) entries(page minio.ListBucketV2Result) []bucket.Entry {
	var entries []bucket.Entry
	add := func(name string, size int64, at time.Time) {
		key, ok := strings.CutPrefix(name, b.name(""))
		if ok && bucket.ValidKey(strings.TrimSuffix(key, "/")) == nil {
			entries = append(entries, bucket.Entry{Key: key, Size: size, ModTime: at})
		}
	}
	for _, o := range page.Contents {
		if !strings.HasSuffix(o.Key, "/") { // an object that some tools make to stand for a folder
			add(o.Key, o.Size, o.LastModified)
		}
	}
	for _, p := range page.CommonPrefixes {
		add(p.Prefix, 0, time.Time{})
	}
	slices.SortFunc(entries, func(a, b bucket.Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
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
