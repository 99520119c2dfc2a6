package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// held is what a process holds.
type held struct {
	goroutines  int
	descriptors int // 0 where the system doesn't tell
	mappings    int // likewise
	heap        uint64
	objects     uint64
}

func holds(t *testing.T) held {
	t.Helper()
	debug.FreeOSMemory() // collects twice: what has finalizers is gone after the second time
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	h := held{goroutines: goruntime.NumGoroutine(), heap: m.HeapAlloc, objects: m.HeapObjects}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		h.descriptors = len(fds)
	}
	if maps, err := os.ReadFile("/proc/self/maps"); err == nil {
		h.mappings = bytes.Count(maps, []byte("\n"))
	}
	return h
}

// noiseAndSleeps is a program for interp that puts noise on its stack, so that its snapshots aren't tiny, and sleeps for ever.
const noiseAndSleeps = `1 !n 0 !i begin @n 6364136223846793005 * 1442695040888963407 + !n @n @i 1 + !i 1500 @i < until begin 1 . cr 1 sleep 0 until`

// TestNothingStays starts, suspends, commits, restores and closes coroutines, many times, and compares what the process holds
// then with what it held after some. DURUN_CYCLES says how many times.
func TestNothingStays(t *testing.T) {
	withoutRace(t)
	cycles := 10000
	if testing.Short() {
		cycles = 1000
	}
	if v := os.Getenv("DURUN_CYCLES"); v != "" {
		var err error
		if cycles, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range []struct {
		name, file, entry string
		args              []string
	}{
		{"small memory", "wat/generator.wasm", "main", nil},
		{"mapped memory", "guests/interp.wasm", "", []string{"interp", "-c", noiseAndSleeps}},
	} {
		t.Run(g.name, func(t *testing.T) {
			binary, err := os.ReadFile(filepath.Join("..", "testdata", filepath.FromSlash(g.file)))
			if err != nil {
				t.Fatal(err)
			}
			m := compiled(t, binary, nil)
			clock := &virtualClock{}
			hosts := func() []hostabi.Instance {
				i, err := wasi.New(wasi.Config{Args: g.args, Clock: clock})
				if err != nil {
					t.Fatal(err)
				}
				return []hostabi.Instance{i}
			}
			cycle := func() { liveOnce(t, m, g.entry, hosts) }
			for range 300 {
				cycle()
			}
			before, began := holds(t), time.Now()
			for range cycles {
				cycle()
			}
			took, after := time.Since(began), holds(t)
			t.Logf("%d cycles, %v each; before %+v, after %+v", cycles, took/time.Duration(cycles), before, after)
			if after.goroutines > before.goroutines || after.descriptors > before.descriptors {
				t.Error("goroutines or descriptors stay")
			}
			// Go's heap makes mappings of its own, and the kernel merges and splits them; idle memories are kept, up to 64.
			if after.mappings > before.mappings+100 {
				t.Error("mappings stay")
			}
			// Fewer than one object in 20 cycles, and half a MiB of what comes and goes.
			if after.objects > before.objects+500+uint64(cycles)/20 || after.heap > before.heap+512<<10 {
				t.Error("memory stays")
			}
		})
	}
}

// TestSchedulerKeepsNothing has a scheduler drive coroutines of each sort to their end, some at a time, and compares what it holds
// then with what it held after some.
func TestSchedulerKeepsNothing(t *testing.T) {
	withoutRace(t)
	m := waiters(t)
	s := newTestScheduler(t, m, SchedulerConfig{Memory: 1 << 20, Handlers: echoing(answer)})
	entries := []string{"steps", "parent", "approve", "fan"}
	live := func(id, entry string) error {
		input := number32(2)
		if entry == "approve" {
			input = nanoseconds(-1)
		}
		if _, err := s.Start(t.Context(), Program{ID: id, Module: m, Entry: entry, Input: input}); err != nil {
			return err
		}
		if entry == "approve" {
			if _, err := s.Send(t.Context(), id, snapshot.Message{Name: "approval"}); err != nil {
				return err
			}
		}
		if _, err := s.Wait(t.Context(), id); err != nil {
			return err
		}
		return s.Remove(t.Context(), id)
	}
	liveAll := func(n int) {
		var lives sync.WaitGroup
		for i := range 16 {
			lives.Go(func() {
				for range n / 16 {
					if err := live(fmt.Sprint("c", i), entries[i%len(entries)]); err != nil {
						t.Error(err)
					}
				}
			})
		}
		lives.Wait()
	}
	liveAll(480)
	before := holds(t)
	const n = 1600
	liveAll(n)
	after := holds(t)
	t.Logf("%d lives; before %+v, after %+v", n, before, after)
	if after.objects > before.objects+n/4 || after.heap > before.heap+512<<10 {
		t.Error("memory stays")
	}
	if st := s.Stats(); st.Coroutines+st.Resident+st.Ready > 0 || st.Bytes > 0 {
		t.Errorf("%+v", st)
	}
}

// TestRuntimeKeepsNothing makes and closes runtimes, with schedulers, and compares what the process holds then with what it held
// after the first.
func TestRuntimeKeepsNothing(t *testing.T) {
	binary := waitersBinary(t)
	ctx := t.Context()
	cycle := func() {
		r, err := New(ctx, NewConfig())
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Compile(ctx, binary)
		if err != nil {
			t.Fatal(err)
		}
		s := NewScheduler(r, SchedulerConfig{Store: snapshot.NewStore(bucket.NewMem())})
		if _, err := s.Start(ctx, Program{ID: "p", Module: m, Entry: "guardian"}); err != nil {
			t.Error(err)
		}
		if err := errors.Join(s.Close(ctx), r.Close(ctx)); err != nil {
			t.Error(err)
		}
	}
	cycle()
	before := holds(t)
	const n = 20
	for range n {
		cycle()
	}
	after := holds(t)
	t.Logf("before %+v, after %+v", before, after)
	// What ends may not be over yet of the last one.
	if after.goroutines > before.goroutines+n/2 || after.descriptors > before.descriptors+n/2 {
		t.Error("goroutines or descriptors stay")
	}
}

// liveOnce is the life of a coroutine: three commits, a restore from the last one and from the snapshot, and its deletion.
func liveOnce(t *testing.T, m *Module, entry string, hosts func() []hostabi.Instance) {
	t.Helper()
	const id = "c"
	ctx := context.Background()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store := snapshot.NewStore(bucket.NewMem())
	c, err := m.Start(ctx, StartConfig{ID: id, Entry: entry, Hosts: hosts()})
	check(err)
	var last *snapshot.Snapshot
	step := func() {
		t.Helper()
		check(c.Wait(ctx))
		status, err := c.Resume(ctx)
		check(err)
		if status != snapshot.Suspended {
			t.Fatalf("%v: %v", status, c.Err())
		}
		last, err = c.Capture()
		check(err)
		commit, err := store.Commit(ctx, last)
		check(err)
		c.Committed(commit)
	}
	step()
	step()
	check(c.Close())
	c, err = m.RestoreFrom(ctx, store, id, 0, RestoreConfig{Hosts: hosts()})
	check(err)
	step()
	whole, err := c.Snapshot()
	check(err)
	data, err := snapshot.Encode(whole)
	check(err)
	check(c.Close())
	whole, err = snapshot.Decode(data)
	check(err)
	c, err = m.Restore(ctx, whole, RestoreConfig{Hash: snapshot.Digest(data), Hosts: hosts()})
	check(err)
	check(c.Close())
}
