package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/durun/durun/snapshot/bucket"
)

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
		if _, err := fmt.Sscanf(h.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err != nil || first != offset || last < first || size <= last || length >= 0 && last-first >= length {
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

// maxResumes is how many times in a row a download may break off without a byte before it is given up.
const maxResumes = 5

// download is the body of a Get: it reads on where a connection broke off.
type download struct {
	b      *Bucket
	ctx    context.Context //nolint:containedctx // a body is read under its Get's context
	key    string
	etag   string // of the object, so that its rest is of the same
	at     int64  // the next byte's offset
	end    int64  // offset after the last
	body   io.ReadCloser
	broken int // times in a row
	err    error
}

func (d *download) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:min(int64(len(p)), d.end-d.at)]
	for d.at < d.end {
		n, err := d.body.Read(p)
		d.at += int64(n)
		if n > 0 {
			d.broken = 0
			return n, nil // an error comes again with the next read
		}
		if err == nil {
			continue
		}
		if err := d.resume(err); err != nil {
			d.err = err
			return 0, err
		}
	}
	return 0, io.EOF
}

// resume opens the rest of the object.
func (d *download) resume(cause error) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if d.broken++; d.broken > maxResumes || d.etag == "" {
		return &bucket.Error{Op: "get", Key: d.key, Kind: bucket.ErrUnavailable, Err: fmt.Errorf("its body broke off at byte %d: %w", d.at, cause)}
	}
	if err := sleep(d.ctx, backoff(d.broken)); err != nil {
		return err
	}
	_ = d.body.Close()
	d.body = io.NopCloser(eof{})
	o, err := d.b.get(d.ctx, d.key, d.at, d.end-d.at, d.etag)
	if err != nil {
		return err
	}
	d.body = o.body
	return nil
}

func (d *download) Close() error {
	d.err = errors.New("read from a closed object")
	return d.body.Close()
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
