package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// checkedStore has a coroutine of deltas on a base, which has dropped some, one of deltas on its own, one of full
// snapshots only, and a module and a base of nobody; encrypted under the first of a ring's keys.
func checkedStore(t testing.TB, b bucket.Bucket, r *Keyring) (*Store, map[string]*model) {
	t.Helper()
	ctx := t.Context()
	s := storeWith(t, b, "full", 0).WithKeys(r)
	var last Commit
	for seq := uint64(1); seq <= 4; seq++ {
		snap := commitOf("full", seq)
		if seq > 1 {
			snap.Parent = last.AsParent()
		}
		last = commit(t, s, snap)
	}
	base, of := putBase(t, s, "base", []byte("a module"))
	models := map[string]*model{
		"based": newModel("based", []byte("a module"), rand.New(rand.NewPCG(1, 1)), base, of),
		"own":   newModel("own", wasm, rand.New(rand.NewPCG(2, 2)), nil, Commit{}),
	}
	for n := range 60 {
		if err := models["own"].commit(ctx, s); err != nil {
			t.Fatal(err)
		}
		if n < 12 {
			if err := models["based"].commit(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.Retain(ctx, "based", Policy{Keep: 5}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Retain(ctx, "own", Policy{Keep: 20}); err != nil {
		t.Fatal(err)
	}
	if n, m := len(seqsOf(t, s, "based")), len(seqsOf(t, s, "own")); n != 12 || m <= 20 || m == 60 {
		t.Errorf("%d and %d commits are left", n, m)
	}
	putBase(t, s, "idle", []byte("an idle module"))
	if _, err := s.PutModule(ctx, []byte("nobody's")); err != nil {
		t.Fatal(err)
	}
	return s, models
}

// problems is what a check finds, in short.
func problems(t testing.TB, s *Store, ids ...string) []string {
	t.Helper()
	c, err := s.Check(t.Context(), CheckOptions{IDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, p := range c.Problems {
		if !errors.Is(p.Err, ErrCorrupt) && !errors.Is(p.Err, ErrVersion) {
			t.Errorf("%s: %v", p.Key, p.Err)
		}
		list = append(list, fmt.Sprintf("%s %s %d %d/%d", p.Key, p.Coroutine, p.Commit, p.Resumable, p.Newest))
	}
	return list
}

func TestCheck(t *testing.T) {
	b := bucket.NewMem()
	s, models := checkedStore(t, b, nil)
	var mu sync.Mutex
	var objects int
	var read int64
	c, err := s.Check(t.Context(), CheckOptions{Progress: func(n int, bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		objects, read = max(objects, n), max(read, bytes)
	}})
	if err != nil || len(c.Problems) != 0 || len(c.Leftovers) != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if all := keys(t, b, ""); c.Objects != len(all) || c.Bytes != sizeOf(t, b) || objects != c.Objects || read != c.Bytes {
		t.Errorf("%d objects of %d, %d bytes of %d; progress %d, %d", c.Objects, len(all), c.Bytes, sizeOf(t, b), objects, read)
	}
	for _, inMemory := range []int64{0, 5000} { // as if they were large
		s.inMemory = inMemory
		if got := problems(t, s); got != nil {
			t.Errorf("of large objects: %v", got)
		}
	}
	if _, err := s.Check(t.Context(), CheckOptions{IDs: []string{"none"}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("of no coroutine: %v", err)
	}
	if c, err := s.Check(t.Context(), CheckOptions{IDs: []string{"full"}}); err != nil || c.Objects != 5 { // with its module
		t.Errorf("of one: %+v, %v", c, err)
	}
	// Leftovers are no damage.
	late, _ := newModel("own", wasm, models["own"].rnd, nil, Commit{}).next()
	if err := bucket.PutBytes(t.Context(), b, commitKey("own", 2), encode(t, late)); err != nil {
		t.Fatal(err)
	}
	commit(t, s, commitOf("gone", 1))
	if err := bucket.PutBytes(t.Context(), b, coroutinePrefix("gone")+tombstone, nil); err != nil {
		t.Fatal(err)
	}
	fold(t, s, "half", 1, 3, false)
	want := []string{coroutinePrefix("gone") + tombstone, commitKey("own", 2), commitKey("gone", 1), logKey("half", 3)}
	slices.Sort(want)
	if c, err := s.Check(t.Context(), CheckOptions{}); err != nil || len(c.Problems) != 0 || !slices.Equal(c.Leftovers, want) {
		t.Errorf("leftovers: %+v, %v; want %v", c, err, want)
	}
}

// TestCheckFindsDamage damages each object in the store in turn, in several ways: each is named, and what is said to be
// resumable is.
func TestCheckFindsDamage(t *testing.T) {
	pristine := bucket.NewMem()
	checkedStore(t, pristine, nil)
	all := keys(t, pristine, "")
	for i, key := range all {
		size := func() int {
			e, err := pristine.Stat(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			return int(e.Size)
		}()
		for name, change := range map[string]func(data []byte) []byte{
			"a bit":   func(d []byte) []byte { d[(i*7919)%size] ^= 1; return d }, // of the right size
			"cut":     func(d []byte) []byte { return d[:size*2/3] },
			"removed": func([]byte) []byte { return nil },
		} {
			b := bucket.NewMem()
			for _, k := range all {
				data, err := bucket.ReadAll(t.Context(), pristine, k, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				if k == key {
					data = change(bytes.Clone(data))
				}
				if data != nil {
					if err := bucket.PutBytes(t.Context(), b, k, data); err != nil {
						t.Fatal(err)
					}
				}
			}
			checkDamage(t, NewStore(b), key, name)
		}
	}
}

func checkDamage(t *testing.T, s *Store, key, what string) {
	t.Helper()
	c, err := s.Check(t.Context(), CheckOptions{})
	if err != nil {
		t.Fatalf("%s of %s: %v", what, key, err)
	}
	id, isCommit := strings.CutPrefix(key, coroutinesPrefix)
	id, _, _ = strings.Cut(id, "/")
	if what == "removed" {
		switch {
		case key == commitKey("full", 4), key == commitKey("own", 60), key == commitKey("based", 12): // the commit before it is the newest then
			return
		case key == baseKey("idle"), key == moduleKey(HashOf([]byte("nobody's"))), key == moduleKey(HashOf([]byte("an idle module"))):
			if key == baseKey("idle") || key == moduleKey(HashOf([]byte("nobody's"))) {
				if len(c.Problems) != 0 {
					t.Errorf("%s of %s: %+v", what, key, c.Problems)
				}
				return
			}
		case strings.HasPrefix(key, logsPrefix): // then the commits that it covered are missing, unless later ones need them
			if dropped := strings.HasPrefix(key, logsPrefix+"own/"); dropped == (len(c.Problems) == 0) {
				t.Errorf("%s of %s: %+v", what, key, c.Problems)
			}
			return
		}
	}
	if !slices.ContainsFunc(c.Problems, func(p Problem) bool { return p.Key == key }) {
		t.Fatalf("%s of %s: found %+v", what, key, c.Problems)
	}
	for _, p := range c.Problems {
		if isCommit && p.Coroutine != id {
			t.Errorf("%s of %s: touches %s", what, key, p.Coroutine)
		}
		if p.Coroutine == "" {
			continue
		}
		// What is said holds, and is the best that can be said.
		_, _, newestErr := s.Latest(t.Context(), p.Coroutine)
		module := func(seq uint64) bool {
			c, err := s.peek(t.Context(), p.Coroutine, seq, commitKey(p.Coroutine, seq))
			if err != nil || c.Err != nil {
				return false
			}
			_, err = s.Module(t.Context(), c.Module)
			return err == nil
		}
		if resumes := newestErr == nil && module(p.Newest); resumes != (p.Resumable == p.Newest) {
			t.Errorf("%s of %s: %s resumable at %d of %d, but latest: %v", what, key, p.Coroutine, p.Resumable, p.Newest, newestErr)
		}
		if p.Resumable > 0 && p.Resumable < p.Newest {
			if err := s.Export(t.Context(), p.Coroutine, p.Resumable, new(bytes.Buffer)); err != nil {
				t.Errorf("%s of %s: export %d: %v", what, key, p.Resumable, err)
			}
		}
		if p.Resumable < p.Newest {
			for seq := p.Resumable + 1; seq <= p.Newest; seq++ {
				if s.Export(t.Context(), p.Coroutine, seq, new(bytes.Buffer)) == nil {
					t.Errorf("%s of %s: %s is said to be resumable at %d, but is at %d", what, key, p.Coroutine, p.Resumable, seq)
				}
			}
		}
	}
}

// TestCheckGrantedModules: a module from which children may be started is needed, though the coroutine can be resumed without.
func TestCheckGrantedModules(t *testing.T) {
	b := bucket.NewMem()
	s := storeWith(t, b, "p", 0)
	tool := []byte("what its children are started from")
	snap := commitOf("p", 1)
	snap.Grants = []Grant{{Kind: GrantModule, Name: "tool", Value: HashOf(tool).String()}}
	commit(t, s, snap)
	want := []string{moduleKey(HashOf(tool)) + " p 0 1/1"}
	for _, ids := range [][]string{nil, {"p"}} {
		if got := problems(t, s, ids...); !slices.Equal(got, want) {
			t.Errorf("missing, check of %v: %v, want %v", ids, got, want)
		}
	}
	if err := bucket.PutBytes(t.Context(), b, moduleKey(HashOf(tool)), []byte("something else")); err != nil {
		t.Fatal(err)
	}
	for _, ids := range [][]string{nil, {"p"}} {
		if got := problems(t, s, ids...); !slices.Equal(got, want) {
			t.Errorf("damaged, check of %v: %v, want %v", ids, got, want)
		}
	}
}

// TestCheckMoved finds commits that are sound in themselves, and in the wrong place.
func TestCheckMoved(t *testing.T) {
	for name, c := range map[string]struct {
		from, to string
		want     string
	}{
		"another coroutine's": {commitKey("own", 58), commitKey("full", 3), commitKey("full", 3) + " full 3 4/4"},
		"another number's":    {commitKey("full", 2), commitKey("full", 3), commitKey("full", 3) + " full 3 4/4"},
		"another base":        {baseKey("idle"), baseKey("base"), baseKey("base") + " based 0 0/12"},
	} {
		b := bucket.NewMem()
		s, _ := checkedStore(t, b, nil)
		data, err := bucket.ReadAll(t.Context(), b, c.from, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		replace(t, b, c.to, data)
		if got := problems(t, s); !slices.Contains(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	// One of the same number and coroutine, by another driver.
	s, m := checkedStore(t, bucket.NewMem(), nil)
	other := newModel("own", wasm, rand.New(rand.NewPCG(3, 3)), nil, Commit{})
	o := NewStore(bucket.NewMem())
	for range 60 {
		if err := other.commit(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	data, err := bucket.ReadAll(t.Context(), o.b, commitKey("own", 60), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, s.b, commitKey("own", 60), data)
	if got := problems(t, s, "own"); !slices.Equal(got, []string{commitKey("own", 60) + " own 60 59/60"}) {
		t.Errorf("another's commit: %v", got)
	}
	if _, err := m["own"], s.Export(t.Context(), "own", 59, new(bytes.Buffer)); err != nil {
		t.Error(err)
	}
}

// TestCheckFails tells what the storage can't do from damage.
func TestCheckFails(t *testing.T) {
	mem := bucket.NewMem()
	checkedStore(t, mem, nil)
	f := buckettest.NewFaulty(mem, nil)
	s := NewStore(f)
	if _, err := s.Check(t.Context(), CheckOptions{}); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(f.Ops()); n += 5 {
		f.Plan(buckettest.FailAt(n, bucket.ErrUnavailable, false))
		if c, err := s.Check(t.Context(), CheckOptions{}); !errors.Is(err, bucket.ErrUnavailable) {
			t.Fatalf("at operation %d: %+v, %v", n, c, err)
		}
		f.Plan(nil)
	}
}

// forgetful is a bucket one of whose listings of logs misses all of them, as one of a folder may in which each is deleted after
// its name was read, and the next was made before.
type forgetful struct {
	bucket.Bucket
	in int // listings until then
}

func (b *forgetful) List(ctx context.Context, o bucket.ListOptions) iter.Seq2[bucket.Entry, error] {
	if strings.HasPrefix(o.Prefix, logsPrefix) {
		if b.in--; b.in == 0 {
			return func(func(bucket.Entry, error) bool) {}
		}
	}
	return b.Bucket.List(ctx, o)
}

// TestCheckLooksAgain finds logs gone that were just listed, several times, and then misses them in a listing: as long as commits
// are dropped neither is damage.
func TestCheckLooksAgain(t *testing.T) {
	mem := bucket.NewMem()
	s := storeWith(t, mem, "p", 5)
	if _, err := s.Retain(t.Context(), "p", Policy{Keep: 1}); err != nil {
		t.Fatal(err)
	}
	const overtaken = maxOvertaken
	gone := 0
	b := &forgetful{in: overtaken + 1, Bucket: buckettest.NewFaulty(mem, func(o buckettest.Op) buckettest.Fault {
		if o.Name != "get" || !strings.HasPrefix(o.Key, logsPrefix) || gone == overtaken {
			return buckettest.Fault{}
		}
		gone++
		return buckettest.Fault{Before: &bucket.Error{Op: "get", Key: o.Key, Kind: bucket.ErrNotExist}}
	})}
	if list := problems(t, NewStore(b), "p"); len(list) > 0 {
		t.Errorf("problems %q", list)
	}
	if gone != overtaken || b.in > 0 {
		t.Errorf("logs were found gone %d times, %d listings before they were missed", gone, b.in)
	}
}

// TestCheckBesideDriver checks a coroutine that is driven and whose commits are dropped.
func TestCheckBesideDriver(t *testing.T) {
	onFastBuckets(t, func(t *testing.T, b bucket.Bucket) {
		ctx := t.Context()
		s := NewStore(b)
		if _, err := s.PutModule(ctx, wasm); err != nil {
			t.Fatal(err)
		}
		m := newModel("p", wasm, rand.New(rand.NewPCG(1, 1)), nil, Commit{})
		if err := m.commit(ctx, s); err != nil {
			t.Fatal(err)
		}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := s.Check(ctx, CheckOptions{})
				if err != nil || len(c.Problems) > 0 {
					t.Errorf("check: %+v, %v", c.Problems, err)
				}
			}
		}()
		for n := range 200 {
			if err := m.commit(ctx, s); err != nil {
				t.Fatal(err)
			}
			if n%8 == 0 {
				if _, err := s.Retain(ctx, "p", Policy{Keep: 1}); err != nil {
					t.Error(err)
				}
			}
		}
		close(stop)
		<-done
	})
}
