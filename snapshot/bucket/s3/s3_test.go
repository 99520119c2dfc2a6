package s3_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
	"github.com/durun/durun/snapshot/bucket/s3"
	"github.com/durun/durun/snapshot/bucket/s3/s3test"
)

func TestConformance(t *testing.T) {
	server := s3test.Start(t)
	buckettest.Run(t, func(t *testing.T) bucket.Bucket { return s3test.Open(t, server.NewBucket(t)) })
}

// TestConformanceWithFaults expects the same of a service and a network that fail now and then.
func TestConformanceWithFaults(t *testing.T) {
	server := s3test.Start(t)
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		server.Plan(nil)
		c := server.NewBucket(t)
		server.Plan(s3test.Faults(t, 15))
		return s3test.Open(t, c)
	})
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
