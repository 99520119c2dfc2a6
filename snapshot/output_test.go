package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
)

// TestSalvageLogs reads the output of coroutines of ten commits, of which parts are damaged or missing.
func TestSalvageLogs(t *testing.T) {
	remove := func(t *testing.T, s *Store, keys ...string) {
		t.Helper()
		for _, key := range keys {
			if err := s.b.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, s *Store)
		want   []string // the lost commits
		output string
	}{
		"whole":        {func(*testing.T, *Store) {}, nil, outputOf(1, 10)},
		"whole, a log": {func(t *testing.T, s *Store) { fold(t, s, "p", 1, 4, true) }, nil, outputOf(1, 10)},
		"commits": {func(t *testing.T, s *Store) {
			flipAt(t, s.b, commitKey("p", 2), headerSize+5)
			flipAt(t, s.b, commitKey("p", 10), headerSize+5)
		}, []string{"2-2", "10-10"}, outputOf(1, 1) + outputOf(3, 9)},
		"missing commits": {func(t *testing.T, s *Store) {
			remove(t, s, commitKey("p", 1), commitKey("p", 5), commitKey("p", 6))
		}, []string{"1-1", "5-6"}, outputOf(2, 4) + outputOf(7, 10)},
		"a damaged log": {func(t *testing.T, s *Store) {
			fold(t, s, "p", 1, 2, true)
			fold(t, s, "p", 3, 5, true)
			fold(t, s, "p", 6, 7, true)
			flipAt(t, s.b, logKey("p", 5), -40)
		}, []string{"3-5"}, outputOf(1, 2) + outputOf(6, 10)},
		"all logs": {func(t *testing.T, s *Store) {
			fold(t, s, "p", 1, 2, true)
			fold(t, s, "p", 3, 5, true)
			flipAt(t, s.b, logKey("p", 2), -40)
			flipAt(t, s.b, logKey("p", 5), -40)
		}, []string{"1-5"}, outputOf(6, 10)},
		"a missing log": {func(t *testing.T, s *Store) {
			fold(t, s, "p", 1, 2, true)
			fold(t, s, "p", 3, 5, true)
			remove(t, s, logKey("p", 2))
		}, []string{"1-2"}, outputOf(3, 10)},
		"a damaged log that was merged": {func(t *testing.T, s *Store) {
			fold(t, s, "p", 1, 2, false)
			fold(t, s, "p", 1, 5, true)
			flipAt(t, s.b, logKey("p", 2), -40)
		}, nil, outputOf(1, 10)},
		"the newest commits": {func(t *testing.T, s *Store) {
			fold(t, s, "p", 1, 8, false)
			remove(t, s, commitKey("p", 9), commitKey("p", 10))
		}, []string{"9-9"}, outputOf(1, 8)},
	} {
		t.Run(name, func(t *testing.T) {
			s := storeWith(t, bucket.NewMem(), "p", 10)
			c.damage(t, s)
			var out bytes.Buffer
			var lost []string
			err := s.SalvageLogs(t.Context(), "p", &out, &out, func(l Lost) {
				if !errors.Is(l.Err, ErrCorrupt) {
					t.Errorf("%d to %d: %v", l.First, l.Last, l.Err)
				}
				lost = append(lost, fmt.Sprintf("%d-%d", l.First, l.Last))
			})
			if err != nil || out.String() != c.output || !slices.Equal(lost, c.want) {
				t.Errorf("lost %v, want %v; %v; output %q", lost, c.want, err, out.String())
			}
			if err := s.Logs(t.Context(), "p", nil, nil); errors.Is(err, ErrCorrupt) != (c.want != nil) {
				t.Errorf("without salvage: %v", err)
			}
		})
	}

	// What is wrong with the store, or with who reads, is no damage.
	s := storeWith(t, bucket.NewMem(), "p", 3)
	none := func(l Lost) { t.Errorf("lost: %+v", l) }
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SalvageLogs(stopped, "p", nil, nil, none); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if err := s.SalvageLogs(t.Context(), "q", nil, nil, none); !errors.Is(err, ErrNotFound) {
		t.Errorf("no coroutine: %v", err)
	}
	sealed := s.WithKeys(NewKeyring(NewKey()))
	commit(t, sealed, commitOf("p", 4))
	if err := s.SalvageLogs(t.Context(), "p", nil, nil, none); !errors.Is(err, ErrKey) {
		t.Errorf("without the key: %v", err)
	}
}

// giant is a bucket in which an object is said to be larger than any memory, as a sparse file is.
type giant struct {
	bucket.Bucket
	key string
}

func (b giant) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	if key != b.key || length >= 0 {
		return b.Bucket.Get(ctx, key, offset, length)
	}
	return &bucket.Object{Body: io.NopCloser(strings.NewReader("")), Size: 1 << 50}, nil
}

// TestGiantLog: an object in a log's place that no log can be as large as is damage, and no memory is asked for to hold it.
func TestGiantLog(t *testing.T) {
	b := bucket.NewMem()
	s := storeWith(t, b, "p", 3)
	fold(t, s, "p", 1, 2, true)
	s = NewStore(giant{b, logKey("p", 2)})
	if err := s.Logs(t.Context(), "p", io.Discard, io.Discard); !errors.Is(err, ErrCorrupt) {
		t.Errorf("logs: %v", err)
	}
	var out strings.Builder
	var lost []Lost
	err := s.SalvageLogs(t.Context(), "p", &out, &out, func(l Lost) { lost = append(lost, l) })
	if err != nil || out.String() != outputOf(3, 3) || len(lost) != 1 || lost[0].First != 1 || lost[0].Last != 2 {
		t.Errorf("salvaged %q, lost %v, %v", out.String(), lost, err)
	}
}
