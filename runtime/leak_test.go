package runtime

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
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
