package s3

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/durun/durun/snapshot/bucket"
)

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
