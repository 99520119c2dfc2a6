package snapshot

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// TestListAfter goes on with a listing after ids that are there, and after ones that are not.
func TestListAfter(t *testing.T) {
	onBuckets(t, func(t *testing.T, b bucket.Bucket) {
		s := NewStore(b)
		for _, id := range []string{"a", "a.1", "a.10", "a0", "b-1", "b"} {
			storeWith(t, b, id, 1)
		}
		for after, want := range map[string]string{
			"":     "a.1 a.10 a a0 b-1 b",
			"a.1":  "a.10 a a0 b-1 b",
			"a.2":  "a a0 b-1 b",
			"a":    "a0 b-1 b",
			"aa":   "b-1 b",
			"b-1":  "b",
			"b":    "",
			"zzzz": "",
		} {
			var ids []string
			for c, err := range s.ListAfter(t.Context(), after) {
				if err != nil || c.Err != nil {
					t.Fatal(err, c.Err)
				}
				ids = append(ids, c.Coroutine)
			}
			if got := strings.Join(ids, " "); got != want {
				t.Errorf("after %q: %s, want %s", after, got, want)
			}
		}
		for _, err := range s.ListAfter(t.Context(), "a/") {
			if !errors.Is(err, ErrID) {
				t.Errorf("after no id: %v", err)
			}
		}
	})
}

// TestListBesideDropping lists a coroutine whose newest commit is dropped, since there is a newer one, before it is read.
func TestListBesideDropping(t *testing.T) {
	b := bucket.NewMem()
	s := storeWith(t, b, "p", 1)
	dropped := false
	slow := NewStore(buckettest.NewFaulty(b, func(o buckettest.Op) buckettest.Fault {
		if o.Name == "get" && !dropped {
			dropped = true
			commit(t, s, commitOf("p", 2))
			fold(t, s, "p", 1, 1, true)
		}
		return buckettest.Fault{}
	}))
	var seqs []uint64
	for c, err := range slow.List(t.Context()) {
		if err != nil || c.Err != nil {
			t.Fatal(err, c.Err)
		}
		seqs = append(seqs, c.Seq)
	}
	if !slices.Equal(seqs, []uint64{2}) {
		t.Errorf("listed: commits %v, want 2", seqs)
	}
}
