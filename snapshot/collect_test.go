package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// sums is what was reclaimed, by kind.
func sums(c Collected) map[ObjectKind]int {
	m := map[ObjectKind]int{}
	for _, r := range c.Reclaimed {
		m[r.Kind] = r.Objects
	}
	return m
}

func collect(t testing.TB, s *Store, o CollectOptions) Collected {
	t.Helper()
	c, err := s.Collect(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range slices.Concat(c.Damaged, c.Skipped) {
		t.Errorf("collect: %v", err)
	}
	return c
}

// putBase keeps a base of a module.
func putBase(t testing.TB, s *Store, name string, module []byte) (*Snapshot, Commit) {
	t.Helper()
	m := newModel(name, module, rand.New(rand.NewPCG(1, 2)), nil, Commit{})
	snap, _ := m.next()
	if _, err := s.PutModule(context.Background(), module); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutBase(context.Background(), name, snap); err != nil {
		t.Fatal(err)
	}
	base, err := s.Base(context.Background(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if snap, err = base.Snapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	return snap, base.Commit
}

func TestCollect(t *testing.T) {
	ctx := t.Context()
	b := bucket.NewMem()
	s := storeWith(t, b, "p", 5)
	unused, usedByBase := []byte("nobody's"), []byte("a base's")
	if _, err := s.PutModule(ctx, unused); err != nil {
		t.Fatal(err)
	}
	putBase(t, s, "base", usedByBase)
	// A deletion that was cut short, and an import that was.
	commit(t, s, commitOf("gone", 1))
	if err := bucket.PutBytes(ctx, b, coroutinePrefix("gone")+tombstone, nil); err != nil {
		t.Fatal(err)
	}
	fold(t, s, "half", 1, 3, false)

	before := keys(t, b, "")
	dry := CollectOptions{Policy: Policy{Keep: 2}, DryRun: true}
	if got, want := sums(collect(t, s, dry)), (map[ObjectKind]int{ObjectCommit: 3, ObjectLeftover: 3, ObjectModule: 1}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dry run: %v, want %v", got, want)
	}
	if after := keys(t, b, ""); !slices.Equal(before, after) {
		t.Errorf("a dry run changed %v to %v", before, after)
	}

	// What is shared is condemned first.
	c := collect(t, s, CollectOptions{Policy: Policy{Keep: 2}, Grace: time.Hour})
	if got := sums(c); got[ObjectCommit] != 3 || got[ObjectModule] != 0 || got[ObjectLeftover] != 2 { // the log is young
		t.Errorf("reclaimed %v", got)
	}
	if len(c.Condemned) != 1 || c.Condemned[0].Name != HashOf(unused).String() || c.Condemned[0].Bytes != int64(len(unused)) ||
		c.Condemned[0].After.Sub(c.Condemned[0].Since) != time.Hour || time.Since(c.Condemned[0].Since) > time.Minute {
		t.Errorf("condemned %+v", c.Condemned)
	}
	if got := seqsOf(t, s, "p"); !slices.Equal(got, []uint64{4, 5}) {
		t.Errorf("history %v", got)
	}
	// Again before the time is over, and after.
	if c = collect(t, s, CollectOptions{Grace: time.Hour}); len(c.Reclaimed) != 0 || len(c.Condemned) != 1 {
		t.Errorf("again: %+v", c)
	}
	later := NewStore(later{b, 61 * time.Minute})
	if c = collect(t, later, CollectOptions{Grace: time.Hour}); sums(c)[ObjectModule] != 1 || sums(c)[ObjectLeftover] != 1 || len(c.Condemned) != 0 {
		t.Errorf("later: %+v", c)
	}
	if _, err := s.Module(ctx, HashOf(unused)); !errors.Is(err, ErrNotFound) {
		t.Errorf("the module: %v", err)
	}
	want := append(keys(t, b, modulesPrefix), "bases/base", commitKey("p", 4), commitKey("p", 5), logKey("p", 3))
	if after := keys(t, b, ""); len(after) != len(want) || len(want) != 6 {
		t.Errorf("left %v", after)
	}
	// Bases go only when they are asked for; and then the module.
	collect(t, s, CollectOptions{})
	if got := keys(t, b, basesPrefix); len(got) != 1 {
		t.Errorf("bases %v", got)
	}
	if c = collect(t, s, CollectOptions{Bases: true}); sums(c)[ObjectBase] != 1 {
		t.Errorf("bases: %+v", c)
	}
	if c = collect(t, s, CollectOptions{}); sums(c)[ObjectModule] != 1 {
		t.Errorf("the base's module: %+v", c)
	}
	if left := keys(t, b, condemnedPrefix); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	if got := logsOf(t, s, "p"); got != outputOf(1, 5) {
		t.Errorf("logs %q", got)
	}
}

// TestEmptyMark: a mark of which a loss of power has taken the content away condemns as well.
func TestEmptyMark(t *testing.T) {
	b := bucket.NewMem()
	s := NewStore(b)
	h, err := s.PutModule(t.Context(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	collect(t, s, CollectOptions{Grace: time.Hour})
	replace(t, b, markKey(moduleKey(h)), nil)
	if c := collect(t, s, CollectOptions{Grace: time.Hour}); len(c.Condemned) != 1 {
		t.Errorf("before the time is over: %+v", c)
	}
	if c := collect(t, NewStore(later{b, 61 * time.Minute}), CollectOptions{Grace: time.Hour}); sums(c)[ObjectModule] != 1 {
		t.Errorf("after it: %+v", c)
	}
	if left := keys(t, b, ""); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// TestRescue uses a module and a base that are condemned.
func TestRescue(t *testing.T) {
	ctx := t.Context()
	b := bucket.NewMem()
	s := NewStore(b)
	snap, of := putBase(t, s, "base", wasm)
	age := CollectOptions{Grace: time.Hour, Bases: true}
	hour := NewStore(later{b, 61 * time.Minute})
	if c := collect(t, s, age); len(c.Condemned) != 1 { // the base; it needs the module
		t.Fatalf("condemned %+v", c.Condemned)
	}
	if _, err := s.Base(ctx, "base", nil); err != nil {
		t.Fatal(err)
	}
	if c := collect(t, hour, age); len(c.Reclaimed) != 0 || len(c.Condemned) != 1 {
		t.Errorf("a base that was taken into use: %+v", c)
	}
	if err := s.KeepBase(ctx, "base", of.Hash); err != nil {
		t.Error(err)
	}
	if err := s.KeepBase(ctx, "base", Hash{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("another base: %v", err)
	}
	// The first commit makes it needed.
	m := newModel("p", wasm, rand.New(rand.NewPCG(1, 1)), snap, of)
	if err := m.commit(ctx, s); err != nil {
		t.Fatal(err)
	}
	collect(t, hour, age)
	if c := collect(t, hour, CollectOptions{Bases: true}); len(c.Reclaimed)+len(c.Condemned) != 0 {
		t.Errorf("in use: %+v", c)
	}
	m.check(t, s)
	var used *InUseError
	if err := s.DeleteBase(ctx, "base"); !errors.Is(err, ErrInUse) || !errors.As(err, &used) || !slices.Equal(used.Coroutines, []string{"p"}) ||
		!strings.Contains(err.Error(), "base base: in use: needed by p") {
		t.Errorf("delete: %v", err)
	}
	if err := s.DeleteBase(ctx, "other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete one that isn't there: %v", err)
	}
	if left := keys(t, b, condemnedPrefix); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	if err := s.Delete(ctx, "p"); err != nil {
		t.Fatal(err)
	}
	// The module, condemned, and put again.
	if err := s.DeleteBase(ctx, "base"); err != nil {
		t.Error(err)
	}
	collect(t, s, age)
	if _, err := s.PutModule(ctx, wasm); err != nil {
		t.Fatal(err)
	}
	if c := collect(t, hour, age); len(c.Reclaimed) != 0 || len(c.Condemned) != 1 {
		t.Errorf("a module that was put again: %+v", c)
	}
	if c := collect(t, s, CollectOptions{}); sums(c)[ObjectModule] != 1 {
		t.Errorf("at last: %+v", c)
	}
	if err := s.KeepBase(ctx, "base", of.Hash); !errors.Is(err, ErrNotFound) {
		t.Errorf("a base that is gone: %v", err)
	}
	if left := keys(t, b, ""); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// TestCollectUnsure condemns nothing as long as something can't be read that may need it.
func TestCollectUnsure(t *testing.T) {
	for name, damage := range map[string]func(s *Store){
		"a commit": func(s *Store) { flipAt(t, s.b, commitKey("p", 2), headerSize+3) },
		"a base":   func(s *Store) { flipAt(t, s.b, baseKey("base"), headerSize+3) },
	} {
		s := storeWith(t, bucket.NewMem(), "p", 2)
		putBase(t, s, "base", wasm)
		if _, err := s.PutModule(t.Context(), []byte("nobody's")); err != nil {
			t.Fatal(err)
		}
		damage(s)
		c, err := s.Collect(t.Context(), CollectOptions{Policy: Policy{Keep: 1}})
		if err != nil || len(c.Damaged) != 1 || !errors.Is(c.Damaged[0], ErrCorrupt) || sums(c)[ObjectModule] != 0 || len(c.Condemned) != 0 {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		if err := s.DeleteBase(t.Context(), "base"); (name == "a commit") != errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: delete the base: %v", name, err)
		}
	}
}

// TestCollectBusy leaves alone what somebody works on.
func TestCollectBusy(t *testing.T) {
	s := NewStore(bucket.NewMem())
	fold(t, s, "p", 1, 3, false)
	lease, err := s.Acquire(t.Context(), "p", LeaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c := collect(t, s, CollectOptions{}); len(c.Reclaimed) != 0 {
		t.Errorf("%+v", c)
	}
	if err := lease.Release(); err != nil {
		t.Fatal(err)
	}
	if c := collect(t, s, CollectOptions{}); sums(c)[ObjectLeftover] != 1 {
		t.Errorf("%+v", c)
	}
}

// TestSweepAnnounced waits for a deletion that was announced, and not for ever.
func TestSweepAnnounced(t *testing.T) {
	ctx := t.Context()
	b := bucket.NewMem()
	key := moduleKey(HashOf(wasm))
	s := storeWith(t, b, "p", 0)
	m, err := s.condemn(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	// It is announced; then somebody wants the module; then it is deleted.
	announced, asked := make(chan struct{}), make(chan struct{})
	var once sync.Once
	user := NewStore(buckettest.NewFaulty(b, func(o buckettest.Op) buckettest.Fault {
		if o.Name == "list" && strings.HasPrefix(o.Key, condemnedPrefix) && len(keys(t, b, condemnedPrefix)) == 1 {
			once.Do(func() { close(asked) }) // the mark is gone, and the announcement is seen
		}
		return buckettest.Fault{}
	}))
	sweeper := NewStore(buckettest.NewFaulty(b, func(o buckettest.Op) buckettest.Fault {
		if o.Name == "delete" && o.Key == key {
			close(announced)
			<-asked
		}
		return buckettest.Fault{}
	}))
	var wg sync.WaitGroup
	wg.Go(func() {
		if done, err := sweeper.sweep(ctx, key, m); err != nil || !done {
			t.Errorf("sweep: %v, %v", done, err)
		}
	})
	wg.Go(func() {
		<-announced
		if _, err := user.PutModule(ctx, wasm); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if _, err := s.Module(ctx, HashOf(wasm)); err != nil {
		t.Errorf("the module: %v", err)
	}
	if left := keys(t, b, condemnedPrefix); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	// An announcement without a deletion, by one that died, is removed by a later collection.
	if err := bucket.PutBytes(ctx, b, sweepKey(key), nil); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	if _, err := s.PutModule(limited, wasm); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("put while it is announced: %v", err)
	}
	commit(t, s, commitOf("p", 1))
	collect(t, NewStore(later{b, time.Hour}), CollectOptions{})
	if _, err := s.PutModule(ctx, wasm); err != nil {
		t.Error(err)
	}
}

// TestCollectBesideWriters starts coroutines from a few modules and bases, and removes them, while collectors that give no
// grace run all the time, and bases are deleted. What a coroutine needs is there when it has started, or the start fails.
func TestCollectBesideWriters(t *testing.T) {
	onFastBuckets(t, func(t *testing.T, b bucket.Bucket) {
		ctx, cancel := context.WithCancel(t.Context())
		s := NewStore(b)
		modules := [][]byte{[]byte("module 0"), []byte("module 1"), []byte("module 2")}
		var collectors, writers sync.WaitGroup
		passes := 0
		var passed sync.Cond
		passed.L = new(sync.Mutex)
		for i := range 3 {
			collectors.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					var err error
					if i == 2 {
						if err = s.DeleteBase(ctx, fmt.Sprintf("base%d", n%2)); errors.Is(err, ErrNotFound) || errors.Is(err, ErrInUse) {
							err = nil
						}
					} else {
						var c Collected
						if c, err = s.Collect(ctx, CollectOptions{Bases: i == 0, Policy: Policy{Keep: 2}}); err == nil && len(c.Damaged)+len(c.Skipped) > 0 {
							err = errors.Join(slices.Concat(c.Damaged, c.Skipped)...)
						}
					}
					if err != nil && ctx.Err() == nil && !errors.Is(err, errOvertaken) {
						t.Errorf("collect: %v", err)
					}
					passed.L.Lock()
					passes++
					passed.L.Unlock()
					passed.Broadcast()
				}
			})
		}
		// Many writers are paused before their first commits, which is when it matters, until collectors have come by.
		slow := NewStore(buckettest.NewFaulty(b, func(o buckettest.Op) buckettest.Fault {
			if o.Name == "put" && strings.HasSuffix(o.Key, commitKey("", 1)[len(coroutinePrefix("")):]) && rand.IntN(2) == 0 {
				passed.L.Lock()
				for until := passes + 1 + rand.IntN(5); passes < until; {
					passed.Wait()
				}
				passed.L.Unlock()
			}
			return buckettest.Fault{}
		}))
		var mu sync.Mutex
		started, lost := 0, 0
		for w := range 4 {
			writers.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(w), 7))
				for n := range 25 {
					ok, err := startOne(ctx, slow, fmt.Sprintf("w%d-%d", w, n), modules[rnd.IntN(3)], rnd)
					if err != nil {
						t.Errorf("start: %v", err)
					}
					mu.Lock()
					if started++; !ok {
						lost++
					}
					mu.Unlock()
				}
			})
		}
		writers.Wait()
		cancel()
		collectors.Wait()
		t.Logf("%d of %d starts found their base gone", lost, started)
		if lost == started {
			t.Error("nothing was started")
		}
		for c, err := range s.List(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Latest(t.Context(), c.Coroutine); err != nil {
				t.Error(err)
			}
			if _, err := s.Module(t.Context(), c.Module); err != nil {
				t.Error(err)
			}
		}
	})
}

// startOne starts a coroutine as a driver does, looks whether all that it needs is there, and perhaps removes it. It
// reports false if its base was deleted at that moment, in which case there is no coroutine.
func startOne(ctx context.Context, s *Store, id string, module []byte, rnd *rand.Rand) (bool, error) {
	ensure := func() error { _, err := s.PutModule(ctx, module); return err }
	if err := ensure(); err != nil {
		return false, err
	}
	m := newModel(id, module, rnd, nil, Commit{})
	if rnd.IntN(2) == 0 {
		name := fmt.Sprintf("base%d", rnd.IntN(2))
		snap, _ := newModel(name, []byte("module 0"), rand.New(rand.NewPCG(1, 1)), nil, Commit{}).next()
		if _, err := s.PutModule(ctx, []byte("module 0")); err != nil {
			return false, err
		}
		if _, err := s.PutBase(ctx, name, snap); err != nil && !errors.Is(err, ErrExist) {
			return false, err
		}
		chain, err := s.Base(ctx, name, nil)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		base, err := chain.Snapshot(ctx)
		if err != nil {
			return false, err
		}
		of := chain.Commit
		m = newModel(id, []byte("module 0"), rnd, base, of)
		module = m.module
		keep := ensure
		ensure = func() error { return errors.Join(keep(), s.KeepBase(ctx, name, of.Hash)) }
	}
	if err := ensure(); errors.Is(err, ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := m.commit(ctx, s); err != nil {
		return false, err
	}
	if err := ensure(); errors.Is(err, ErrNotFound) {
		return false, s.Delete(ctx, id)
	} else if err != nil {
		return false, err
	}
	for range 3 {
		if err := m.commit(ctx, s); err != nil {
			return false, err
		}
		if _, _, err := s.Latest(ctx, id); err != nil {
			return false, err
		}
		if _, err := s.Module(ctx, HashOf(module)); err != nil {
			return false, err
		}
	}
	if rnd.IntN(2) == 0 {
		return true, s.Delete(ctx, id)
	}
	return true, nil
}

// TestHouseAnyOrder commits, drops, collects, removes and starts again at random, with crashes anywhere: the newest
// state, the whole output and each commit of the history are exact.
func TestHouseAnyOrder(t *testing.T) {
	for range many(5, 1) {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			ctx := t.Context()
			rnd := rand.New(rand.NewPCG(seed, 0))
			mem := bucket.NewMem()
			s := NewStore(mem)
			base, of := putBase(t, s, "base", wasm)
			f := buckettest.NewFaulty(mem, nil)
			faulty := NewStore(f)
			models := map[string]*model{}
			for range 60 {
				id := fmt.Sprintf("c%d", rnd.IntN(3))
				m := models[id]
				if m == nil {
					m = newModel(id, wasm, rnd, nil, Commit{})
					if rnd.IntN(2) == 0 {
						m = newModel(id, wasm, rnd, base, of)
					}
					models[id] = m
				}
				for range 1 + rnd.IntN(12) {
					if err := m.commit(ctx, s); err != nil {
						t.Fatal(err)
					}
				}
				f.Plan(buckettest.CrashAt(rnd.IntN(120), rnd.IntN(2) == 0))
				policy := Policy{Keep: rnd.IntN(4)}
				var err error
				what := rnd.IntN(3)
				switch what {
				case 0:
					_, err = faulty.Retain(ctx, id, policy)
				case 1:
					_, err = faulty.Collect(ctx, CollectOptions{Policy: policy})
				case 2:
					if rnd.IntN(3) == 0 {
						if err = faulty.Delete(ctx, id); err == nil {
							delete(models, id)
						} else if _, lerr := s.Head(ctx, id); errors.Is(lerr, ErrNotFound) {
							delete(models, id)
						}
					}
				}
				if err != nil && !errors.Is(err, buckettest.ErrInjected) {
					t.Fatal(err)
				}
				for _, m := range models {
					m.check(t, s)
				}
				if m := models[id]; m != nil {
					m.checkHistory(t, s)
				}
			}
			f.Plan(nil)
			for id := range models {
				if _, err := s.Retain(ctx, id, Policy{Keep: 1}); err != nil {
					t.Fatal(err)
				}
				if n := len(seqsOf(t, s, id)); n > MaxDeltas+2 {
					t.Errorf("%d commits are left for one", n)
				}
				models[id].check(t, s)
				models[id].checkHistory(t, s)
			}
		})
	}
}

// TestCollectCrashes crashes a collection at each operation. Nothing that is needed is lost, and the next one does the rest.
func TestCollectCrashes(t *testing.T) {
	ctx := t.Context()
	for n := 0; ; n++ {
		begun := false
		for mode, plan := range map[string]func(buckettest.Op) buckettest.Fault{
			"crash before": buckettest.CrashAt(n, false), "crash after": buckettest.CrashAt(n, true),
			"fault before": buckettest.FailAt(n, bucket.ErrUnavailable, false), "fault after": buckettest.FailAt(n, buckettest.ErrInjected, true),
			"full disk": buckettest.FailAt(n, bucket.ErrFull, false),
		} {
			mem := bucket.NewMem()
			s := storeWith(t, mem, "p", 5)
			fold(t, s, "half", 1, 3, false)
			if _, err := s.PutModule(ctx, []byte("nobody's")); err != nil {
				t.Fatal(err)
			}
			commit(t, s, commitOf("gone", 1))
			if err := bucket.PutBytes(ctx, mem, coroutinePrefix("gone")+tombstone, nil); err != nil {
				t.Fatal(err)
			}
			f := buckettest.NewFaulty(mem, plan)
			_, err := NewStore(f).Collect(ctx, CollectOptions{Policy: Policy{Keep: 2}})
			ops := f.Ops()
			begun = begun || len(ops) > n
			fail := func(format string, args ...any) {
				t.Fatalf("%s at operation %d of %v, which gave %v: %s", mode, n, ops, err, fmt.Sprintf(format, args...))
			}
			whole := func() {
				if _, c, err := s.Latest(ctx, "p"); err != nil || c.Seq != 5 || logsOf(t, s, "p") != outputOf(1, 5) {
					fail("commit %d, %v, output %q", c.Seq, err, logsOf(t, s, "p"))
				}
				if _, err := s.Module(ctx, HashOf(wasm)); err != nil {
					fail("%v", err)
				}
			}
			whole()
			// An announcement may be left: whoever comes next waits, or finds it old.
			collect(t, NewStore(later{mem, time.Hour}), CollectOptions{Policy: Policy{Keep: 2}})
			collect(t, NewStore(later{mem, time.Hour}), CollectOptions{Policy: Policy{Keep: 2}})
			whole()
			if left := keys(t, mem, ""); len(left) != 4 {
				fail("left %v", left)
			}
		}
		if !begun {
			if n < 20 {
				t.Errorf("only %d operations", n)
			}
			return
		}
	}
}

// TestCollectFullDisk collects where nothing can be put at first: what takes no room goes, and makes some.
func TestCollectFullDisk(t *testing.T) {
	ctx := t.Context()
	mem := bucket.NewMem()
	s := storeWith(t, mem, "p", 30)
	commit(t, s, commitOf("gone", 1))
	if err := bucket.PutBytes(ctx, mem, coroutinePrefix("gone")+tombstone, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutModule(ctx, []byte("nobody's")); err != nil {
		t.Fatal(err)
	}
	full := NewStore(&limited{Mem: mem})
	c, err := full.Collect(ctx, CollectOptions{Policy: Policy{Keep: 1}})
	if err != nil || len(c.Damaged)+len(c.Skipped) > 0 || sums(c)[ObjectCommit] != 29 || sums(c)[ObjectModule] != 1 || sums(c)[ObjectLeftover] != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if got := logsOf(t, s, "p"); got != outputOf(1, 30) {
		t.Errorf("logs %q", got)
	}
	// Where there is nothing of that kind, it says so, and loses nothing.
	none := NewStore(&limited{Mem: mem})
	commit(t, s, commitOf("r", 1))
	commit(t, s, commitOf("r", 2))
	c, err = none.Collect(ctx, CollectOptions{Policy: Policy{Keep: 1}})
	if err != nil || len(c.Skipped) != 1 || !errors.Is(c.Skipped[0], bucket.ErrFull) {
		t.Errorf("no room at all: %+v, %v", c, err)
	}
	if got := logsOf(t, s, "r"); got != outputOf(1, 2) {
		t.Errorf("logs %q", got)
	}
}

// TestDeleteBaseCrashes crashes the deletion of a base at each operation.
func TestDeleteBaseCrashes(t *testing.T) {
	ctx := t.Context()
	for _, needed := range []bool{false, true} {
		for n := 0; ; n++ {
			begun := false
			for mode, plan := range map[string]func(buckettest.Op) buckettest.Fault{
				"crash before": buckettest.CrashAt(n, false), "crash after": buckettest.CrashAt(n, true),
				"fault before": buckettest.FailAt(n, bucket.ErrUnavailable, false),
			} {
				mem := bucket.NewMem()
				s := NewStore(mem)
				base, of := putBase(t, s, "base", wasm)
				m := newModel("p", wasm, rand.New(rand.NewPCG(1, 1)), nil, Commit{})
				if needed {
					m = newModel("p", wasm, m.rnd, base, of)
				}
				if err := m.commit(ctx, s); err != nil {
					t.Fatal(err)
				}
				f := buckettest.NewFaulty(mem, plan)
				first := NewStore(f).DeleteBase(ctx, "base")
				begun = begun || len(f.Ops()) > n
				m.check(t, s)
				collect(t, NewStore(later{mem, time.Hour}), CollectOptions{})
				if err := s.DeleteBase(ctx, "base"); needed != errors.Is(err, ErrInUse) || !needed && err != nil && !errors.Is(err, ErrNotFound) {
					t.Fatalf("%s at operation %d, which gave %v; then %v", mode, n, first, err)
				}
				m.check(t, s)
				if left := keys(t, mem, condemnedPrefix); len(left) != 0 {
					t.Fatalf("%s at operation %d: left %v", mode, n, left)
				}
			}
			if !begun {
				break
			}
		}
	}
}

// TestCollectGrantedModules: a module that only grants name is kept as long as a commit has them, encrypted or not.
func TestCollectGrantedModules(t *testing.T) {
	ctx := context.Background()
	for name, store := range map[string]*Store{
		"plain": NewStore(bucket.NewMem()), "encrypted": NewStore(bucket.NewMem()).WithKeys(ringOf(1)),
	} {
		t.Run(name, func(t *testing.T) {
			own, other := []byte("the program"), []byte("what its children are started from")
			m := newModel("p", own, rand.New(rand.NewPCG(1, 2)), nil, Commit{})
			snap, _ := m.next()
			for _, module := range [][]byte{own, other} {
				if _, err := store.PutModule(ctx, module); err != nil {
					t.Fatal(err)
				}
			}
			snap.Grants = []Grant{
				{Kind: GrantModule, Name: "tool", Value: HashOf(other).String()},
				{Kind: GrantModule, Name: "bad", Value: "no hash"},
				{Kind: GrantModule, Name: "again", Value: HashOf(other).String()},
			}
			if _, err := store.Commit(ctx, snap); err != nil {
				t.Fatal(err)
			}
			head, err := NewStore(store.Bucket()).Head(ctx, "p") // without a key
			if err != nil || len(head.Modules) != 1 || head.Modules[0] != HashOf(other) {
				t.Errorf("the manifest names the modules %v, %v", head.Modules, err)
			}
			if got := collect(t, NewStore(store.Bucket()), CollectOptions{}); sums(got)[ObjectModule] != 0 {
				t.Errorf("collected: %v", got.Reclaimed)
			}
			if _, err := store.Module(ctx, HashOf(other)); err != nil {
				t.Error(err)
			}
			if err := store.Delete(ctx, "p"); err != nil {
				t.Fatal(err)
			}
			if got := collect(t, store, CollectOptions{}); sums(got)[ObjectModule] != 2 {
				t.Errorf("collected after it was deleted: %v", got.Reclaimed)
			}
		})
	}
}
