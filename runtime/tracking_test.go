package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime/internal/linmem"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// trackedChild in the environment has TestTrackings print the commits of its guests: it is the folder of compiled code.
const trackedChild = "DURUN_TEST_TRACKED"

// TestTrackings commits what guests do in processes that know in different ways what was written. The commits are the same, to
// the byte.
func TestTrackings(t *testing.T) {
	withoutRace(t)
	if cache := os.Getenv(trackedChild); cache != "" {
		printCommits(t, cache)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	run := func(tracking string) string {
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestTrackings$", "-test.timeout=5m")
		cmd.Env = append(os.Environ(), trackedChild+"="+cache, "DURUN_TRACKING="+tracking)
		if testing.Short() {
			cmd.Args = append(cmd.Args, "-test.short")
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("tracking %q: %v\n%s", tracking, err, out)
		}
		used, commits, ok := bytes.Cut(out, []byte("\n"))
		if !ok || bytes.Count(commits, []byte("\n")) < 100 {
			t.Fatalf("tracking %q: few commits:\n%s", tracking, out)
		}
		t.Logf("tracking %q: %s", tracking, used)
		return string(commits)
	}
	want := run("heap")
	for _, tracking := range []string{"compare", ""} {
		if d := cmp.Diff(want, run(tracking)); d != "" {
			t.Errorf("the commits with tracking %q (-heap +here):\n%s", tracking, d)
		}
	}
}

// printCommits prints how writes are tracked, and a line for each commit of some guests.
func printCommits(t *testing.T, cache string) {
	tracking, err := linmem.Tracking()
	fmt.Fprintln(os.Stdout, tracking, err)
	ctx := context.Background()
	r, err := New(ctx, NewConfig().WithModules(wasi.Module).WithCacheDir(cache))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(ctx)
	guest := func(path string) []byte {
		binary, err := os.ReadFile(filepath.Join("..", "testdata", filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		return binary
	}
	commits := func(binary []byte, entry string, args ...string) {
		m, err := r.Compile(ctx, binary)
		if err != nil {
			t.Fatal(err)
		}
		b := bucket.NewMem()
		commitAll(t, m, snapshot.NewStore(b), entry, args)
		for e, err := range b.List(ctx, bucket.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			data, err := bucket.ReadAll(ctx, b, e.Key, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(os.Stdout, "%s %s %d %x\n", args, e.Key, len(data), sha256.Sum256(data))
		}
	}
	commits(guest("guests/interp.wasm"), "", "interp", "-c", noiseAndSleeps)
	commits(guest("wat/memgrow.wasm"), "main", "memgrow")
	commits(guest("guests/recursion.wasm"), "", "recursion", "2", "3", "40")
	if testing.Short() {
		return
	}
	python, err := guests.Python()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		t.Fatal(err)
	}
	const steps = "import time, json\nd = list(range(99999))\nfor i in range(60):\n  d[i * 997] += 1; print(i); time.sleep(1)\n  if i % 20 == 9: d += d"
	commits(python, "", "python", "-c", steps)
}

// commitAll commits a guest to its end, or 100 times. After each seventh commit it goes on from the store.
func commitAll(t *testing.T, m *Module, store *snapshot.Store, entry string, args []string) {
	ctx := context.Background()
	w := newWorld(t, guests.Case{Guest: args[0], Args: args[1:], Env: map[string]string{"PYTHONHASHSEED": "7"}})
	hosts := func() []hostabi.Instance { return []hostabi.Instance{w.instance(t)} }
	c, err := m.Start(ctx, StartConfig{ID: "c", Entry: entry, Hosts: hosts()})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if err := c.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Capture()
		if err != nil {
			t.Fatal(err)
		}
		s.Time = time.Unix(1_800_000_000+int64(n), 0).UTC()
		commit, err := store.Commit(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		c.Committed(commit)
		if status.Ended() {
			break
		}
		if n%7 == 6 {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if c, err = m.RestoreFrom(ctx, store, "c", 0, RestoreConfig{Hosts: hosts()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
