package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/snapshot"
)

var freeze = flag.Bool("freeze", false, "add a generation of frozen snapshots")

const frozenDir = "../testdata/snapshots"

// frozen is a snapshot that a build of durun took, and how the run ends that goes on from it. The snapshot is in <Name>.durun.
type frozen struct {
	Name    string   `json:"name"`
	Module  string   `json:"module"` // its file
	Clock   int64    `json:"clock"`  // the virtual clock
	Out     string   `json:"out,omitempty"`
	Err     string   `json:"err,omitempty"`
	Exit    uint32   `json:"exit,omitempty"`
	Trap    string   `json:"trap,omitempty"`
	Awaits  int      `json:"awaits"` // that are still to come
	Results []string `json:"results,omitempty"`
	Globals []string `json:"globals,omitempty"` // that hold no references
	Calls   string   `json:"calls,omitempty"`   // hash of the host calls
	Memory  string   `json:"memory,omitempty"`  // its SHA-256
}

// frozenRuntime returns a runtime for all modules of a generation.
func frozenRuntime(t *testing.T, choices instrument.Choices) *Runtime {
	t.Helper()
	r, err := New(context.Background(), NewConfig().WithModules(append([]*hostabi.Module{wasi.Module}, benchModules...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	r.choices = choices
	return r
}

func frozenHosts(t *testing.T, w *world) []hostabi.Instance {
	return append([]hostabi.Instance{w.instance(t)}, benchHosts()...)
}

// restoreFrozen restores an encoded snapshot in a world.
func restoreFrozen(t *testing.T, m *Module, data []byte, w *world) *Coroutine {
	t.Helper()
	s, err := snapshot.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Restore(context.Background(), s, RestoreConfig{
		Hash: snapshot.Digest(data), Hosts: frozenHosts(t, w), Stdout: &w.out, Stderr: &w.err,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// finish runs a coroutine to its end. each is called at every await, and returns the coroutine to go on with.
func finish(t *testing.T, c *Coroutine, w *world, each func(c *Coroutine) *Coroutine) frozen {
	t.Helper()
	ctx := context.Background()
	var end frozen
	for {
		if err := c.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Ended() {
			break
		}
		end.Awaits++
		c = each(c)
	}
	end.Out, end.Err, end.Exit = w.out.String(), w.err.String(), c.ExitCode()
	if err := c.Err(); err != nil {
		end.Trap = firstLine(err)
	}
	for _, r := range c.Results() {
		end.Results = append(end.Results, fmt.Sprintf("%x", r))
	}
	for _, i := range c.module.mutable {
		v, err := c.global(i)
		if err != nil {
			t.Fatal(err)
		}
		if v.Type != snapshot.FuncRef {
			end.Globals = append(end.Globals, fmt.Sprintf("%x:%x", v.Hi, v.Lo))
		}
	}
	if h := hashes(c.hosts); h != 0 {
		end.Calls = fmt.Sprintf("%x", h)
	}
	if c.memory != nil {
		view, _ := c.memory.Read(0, c.memory.Size())
		sum := sha256.Sum256(view)
		end.Memory = hex.EncodeToString(sum[:])
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return end
}

// TestFrozenSnapshots goes on from snapshots that earlier builds took, in a build of today and in one of which the transform
// chooses otherwise, moving at each await. See testdata/snapshots/README.md.
func TestFrozenSnapshots(t *testing.T) {
	withoutRace(t)
	if *freeze {
		freezeSnapshots(t)
	}
	generations, err := filepath.Glob(filepath.Join(frozenDir, "*", "index.json"))
	if err != nil || len(generations) == 0 {
		t.Fatalf("no generations (%v)", err)
	}
	for _, index := range generations {
		dir := filepath.Dir(index)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(index)
			if err != nil {
				t.Fatal(err)
			}
			var list []frozen
			if err := json.Unmarshal(data, &list); err != nil {
				t.Fatal(err)
			}
			known := map[string]bool{"index.json": true}
			for _, choices := range []instrument.Choices{{}, otherChoices} {
				r := frozenRuntime(t, choices)
				compiled := map[string]*Module{}
				for _, want := range list {
					known[want.Module], known[want.Name+".durun"] = true, true
					t.Run(want.Name, func(t *testing.T) {
						m := compiled[want.Module]
						if m == nil {
							binary, err := os.ReadFile(filepath.Join(dir, want.Module))
							if err != nil {
								t.Fatal(err)
							}
							if m, err = r.Compile(context.Background(), binary); err != nil {
								t.Fatal(err)
							}
							compiled[want.Module] = m
						}
						data, err := os.ReadFile(filepath.Join(dir, want.Name+".durun"))
						if err != nil {
							t.Fatal(err)
						}
						w := newWorld(t, guests.Case{})
						w.clock.now = want.Clock
						got := finish(t, restoreFrozen(t, m, data, w), w, func(c *Coroutine) *Coroutine { return moveFrozen(t, m, w, c) })
						got.Name, got.Module, got.Clock = want.Name, want.Module, want.Clock
						if d := cmp.Diff(want, got); d != "" {
							t.Errorf("it ends otherwise than it did (-want +got):\n%s", d)
						}
					})
				}
			}
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if !known[f.Name()] {
					t.Errorf("%s isn't in the index", filepath.Join(dir, f.Name()))
				}
			}
			if len(list) < 40 {
				t.Errorf("only %d snapshots", len(list))
			}
		})
	}
}

// moveFrozen takes a suspended coroutine through its encoded snapshot into a fresh instance.
func moveFrozen(t *testing.T, m *Module, w *world, c *Coroutine) *Coroutine {
	t.Helper()
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	data, err := snapshot.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return restoreFrozen(t, m, data, w)
}

// freezeSnapshots adds a generation.
func freezeSnapshots(t *testing.T) {
	old, err := os.ReadDir(frozenDir)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(frozenDir, fmt.Sprintf("%03d", len(slices.DeleteFunc(old, func(e os.DirEntry) bool { return !e.IsDir() }))+1))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := frozenRuntime(t, instrument.Choices{})
	var list []frozen
	const large = 60 << 10
	add := func(name, module string, binary []byte, c guests.Case) {
		m, err := r.Compile(context.Background(), binary)
		if err != nil {
			t.Logf("left out: %s: %v", name, err)
			return
		}
		defer m.Close(context.Background())
		type point struct {
			data     []byte
			clock    int64
			out, err int
		}
		var points []point
		w := newWorld(t, c)
		co, err := m.Start(context.Background(), StartConfig{
			ID: name, ModuleName: name + ".wasm", Entry: c.Entry, Hosts: frozenHosts(t, w), Stdout: &w.out, Stderr: &w.err,
		})
		if err != nil {
			t.Fatal(err)
		}
		end := finish(t, co, w, func(co *Coroutine) *Coroutine {
			s, err := co.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			data, err := snapshot.Encode(s)
			if err != nil {
				t.Fatal(err)
			}
			points = append(points, point{data, w.clock.now, w.out.Len(), w.err.Len()})
			return co
		})
		// Two or three of them, the last one always.
		stride := max(len(points)/2, 1)
		some := false
		for n := len(points) - 1; n >= 0; n -= stride {
			f := end
			p := points[n]
			if len(p.data) > large {
				continue
			}
			some = true
			f.Name, f.Module, f.Clock, f.Awaits = fmt.Sprintf("%s-%03d", name, n+1), module+".wasm", p.clock, len(points)-1-n
			f.Out, f.Err = end.Out[p.out:], end.Err[p.err:]
			list = append(list, f)
			write(t, filepath.Join(dir, f.Name+".durun"), p.data)
		}
		if some {
			write(t, filepath.Join(dir, module+".wasm"), binary)
		}
	}
	testdata := filepath.Join("..", "testdata")
	manifest, err := guests.Manifest(testdata)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := guests.Cases(testdata)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		// Small ones, that need nothing which is outside.
		if len(c.Dirs) > 0 || c.Stdin != "" || len(c.Globals) > 0 || strings.HasPrefix(c.Name, "go-") || strings.HasPrefix(c.Name, "rust-") {
			continue
		}
		i := slices.IndexFunc(manifest, func(g guests.Guest) bool { return g.Name == c.Guest })
		binary, err := os.ReadFile(filepath.Join(testdata, filepath.FromSlash(manifest[i].File)))
		if err != nil {
			t.Fatal(err)
		}
		add(c.Name, c.Guest, binary, c)
	}
	for seed := uint64(0); seed < 200; seed += 10 {
		name := fmt.Sprintf("generated-%d", seed)
		add(name, name, generated(randomBytes(seed)), guests.Case{Entry: "main"})
	}
	slices.SortFunc(list, func(a, b frozen) int { return strings.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(list); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "index.json"), b.Bytes())
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
