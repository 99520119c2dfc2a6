package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

func TestMem(t *testing.T) {
	buckettest.Run(t, func(*testing.T) bucket.Bucket { return bucket.NewMem() })
}

// TestNoLock holds what hides locks to the contract, which has to do without.
func TestNoLock(t *testing.T) {
	b := buckettest.NoLock(bucket.NewMem())
	if _, ok := b.(bucket.Locker); ok {
		t.Error("it has locks")
	}
	if _, err := b.(bucket.Clock).Now(t.Context()); err != nil {
		t.Errorf("its clock: %v", err)
	}
	if _, err := buckettest.NoLock(struct{ bucket.Bucket }{b}).(bucket.Clock).Now(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("the clock of a bucket without one: %v", err)
	}
	buckettest.Run(t, func(*testing.T) bucket.Bucket { return buckettest.NoLock(bucket.NewMem()) })
}

// TestFaulty holds the wrapper, at rest, to the contract of what it wraps.
func TestFaulty(t *testing.T) {
	buckettest.Run(t, func(*testing.T) bucket.Bucket { return buckettest.NewFaulty(bucket.NewMem(), nil) })
}

func TestFaultyPlans(t *testing.T) {
	ctx := t.Context()
	f := buckettest.NewFaulty(bucket.NewMem(), buckettest.FailAt(0, bucket.ErrFull, false))
	if err := bucket.PutBytes(ctx, f, "k", nil); !errors.Is(err, bucket.ErrFull) {
		t.Errorf("got %v", err)
	}
	if _, err := f.Stat(ctx, "k"); !errors.Is(err, bucket.ErrNotExist) {
		t.Errorf("a put that failed before was done: %v", err)
	}
	f.Plan(buckettest.FailAt(0, buckettest.ErrInjected, true))
	if err := bucket.PutBytes(ctx, f, "k", []byte("data")); !errors.Is(err, buckettest.ErrInjected) {
		t.Errorf("got %v", err)
	}
	if e, err := f.Stat(ctx, "k"); err != nil || e.Size != 4 {
		t.Errorf("a put that failed after was not done: %v, %v", e, err)
	}
	f.Plan(func(buckettest.Op) buckettest.Fault {
		return buckettest.Fault{Before: buckettest.ErrInjected, Short: 2}
	})
	if got, err := bucket.ReadAll(ctx, f, "k", 10); !errors.Is(err, buckettest.ErrInjected) {
		t.Errorf("short read: %q, %v", got, err)
	}
	f.Plan(buckettest.CrashAt(1, true))
	for i, want := range []bool{false, true, true} {
		if _, err := f.Stat(ctx, "k"); errors.Is(err, buckettest.ErrInjected) != want {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	if len(f.Ops()) != 3 || f.Ops()[2].String() != "#2 stat k" {
		t.Errorf("operations: %v", f.Ops())
	}
}

func TestErrorText(t *testing.T) {
	for want, err := range map[string]*bucket.Error{
		"put k: storage is full: no space left": {Op: "put", Key: "k", Kind: bucket.ErrFull, Err: errors.New("no space left")},
		"lock k: open f: permission denied":     {Op: "lock", Key: "k", Kind: bucket.ErrPermission, Err: errors.New("open f: permission denied")},
		"list: no such object":                  {Op: "list", Kind: bucket.ErrNotExist},
		"open u: it is no folder":               {Op: "open", Key: "u", Err: errors.New("it is no folder")},
	} {
		if got := err.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestOpenURL(t *testing.T) {
	var got *url.URL
	openers := map[string]bucket.Opener{
		"mem": bucket.OpenMem,
		"file": func(_ context.Context, u *url.URL) (bucket.Bucket, error) {
			got = u
			return bucket.NewMem(), nil
		},
	}
	abs := func(p string) string {
		a, err := filepath.Abs(p)
		if err != nil {
			t.Fatal(err)
		}
		return filepath.ToSlash(a)
	}
	for in, path := range map[string]string{
		"file:///a/b%20c": "/a/b c",
		"/a/50%25 off?#":  abs("/a/50%25 off?#"),
		"rel/x":           abs("rel/x"),
		"./s3://x":        abs("./s3://x"),
	} {
		got = nil
		if _, err := bucket.OpenURL(t.Context(), in, openers); err != nil || got == nil || got.Path != path {
			t.Errorf("%s: path %v, %v; want %s", in, got, err, path)
		}
	}
	if _, err := bucket.OpenURL(t.Context(), "mem://", openers); err != nil {
		t.Error(err)
	}
	for _, in := range []string{"", "s3://bucket", "mem://name", "mem://?sync=false", "file://%zz", "mem:", "file:/a"} {
		if _, err := bucket.OpenURL(t.Context(), in, openers); !errors.Is(err, bucket.ErrURL) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// BenchmarkMem puts and gets commits as a store does, among those of n other coroutines.
func BenchmarkMem(b *testing.B) {
	ctx := context.Background()
	data := make([]byte, 1000)
	for _, n := range []int{0, 1_000_000} {
		m := bucket.NewMem()
		for i := range n {
			if err := bucket.PutBytes(ctx, m, fmt.Sprintf("coroutines/%x/%016x", uint32(i)*2654435761, i), nil); err != nil {
				b.Fatal(err)
			}
		}
		commit := func(i int) string { return fmt.Sprintf("coroutines/p%d/%016x", i%100, ^uint64(0)-uint64(i)) }
		b.Run(fmt.Sprintf("put and delete/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := bucket.PutBytes(ctx, m, commit(i), data); err != nil {
					b.Fatal(err)
				}
				if err := m.Delete(ctx, commit(i-10_000)); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := bucket.PutBytes(ctx, m, "coroutines/q/fffffffffffffffe", data); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("first and get/%d", n), func(b *testing.B) {
			for b.Loop() {
				e, _, err := bucket.First(ctx, m, bucket.ListOptions{Prefix: "coroutines/q/"})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := bucket.ReadAll(ctx, m, e.Key, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
		if n == 0 {
			continue
		}
		b.Run(fmt.Sprintf("list folders/%d", n), func(b *testing.B) {
			for b.Loop() {
				for _, err := range m.List(ctx, bucket.ListOptions{Prefix: "coroutines/", Folders: true}) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
