package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// TestLives drives guests through a store, with chance to say at each await what becomes of them: they stay, are committed or
// not, leave and come back by the chain or by a complete snapshot, on this node or another, go on from a shared base, and
// lose old commits. What is left at the end is what a plain run leaves.
func TestLives(t *testing.T) {
	withoutRace(t)
	testdata := filepath.Join("..", "testdata")
	manifest, err := guests.Manifest(testdata)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := guests.Cases(testdata)
	if err != nil {
		t.Fatal(err)
	}
	// Enough commits for every part of the rule that keeps chains short.
	const endless = "begin 1 . cr 1 sleep 0 until"
	const counts = "0 !j begin @j 1 + !j @j . cr 1 sleep @j 120 = until"
	long := strings.Replace(noiseAndSleeps, endless, counts, 1)
	cases = append(cases, guests.Case{Name: "interp-long", Guest: "interp", Args: []string{"-c", long}})
	for _, c := range cases {
		if len(c.Dirs) > 0 {
			continue // memory tells of the folder, see compare
		}
		i := slices.IndexFunc(manifest, func(g guests.Guest) bool { return g.Name == c.Guest })
		if _, ok := unsupported[c.Guest]; ok {
			continue
		}
		binary, err := os.ReadFile(filepath.Join(testdata, filepath.FromSlash(manifest[i].File)))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			runs := live(t, binary, c, 4)
			if c.Name == "interp-long" && !slices.ContainsFunc(runs, func(l *life) bool { return l.anchors > 0 }) {
				t.Error("no chain was long enough to get a second anchor")
			}
		})
	}
	t.Run("python-gen", func(t *testing.T) {
		if testing.Short() {
			t.Skip("left out: -short")
		}
		binary, err := guests.Python()
		if errors.Is(err, fs.ErrNotExist) {
			t.Skipf("left out: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		script, err := os.ReadFile(filepath.Join("..", "guests", "python", "gen.py"))
		if err != nil {
			t.Fatal(err)
		}
		live(t, binary, guests.Case{
			Name: "python-gen", Guest: "python", Args: []string{"-c", string(script)}, Env: map[string]string{"PYTHONHASHSEED": "7"},
		}, 2)
	})
}

// live compares so many lives of a guest with a plain run.
func live(t *testing.T, binary []byte, c guests.Case, lives int) []*life {
	t.Helper()
	nodes := []*Module{compiled(t, binary, c.Globals), compiledAs(t, binary, c.Globals, otherChoices)}
	want := plain(t, binary, c.Entry, newWorld(t, c))
	var all []*life
	for seed := range uint64(lives) {
		w := newWorld(t, c)
		l := &life{
			t: t, world: w, nodes: nodes, store: snapshot.NewStore(bucket.NewMem()),
			rand: rand.New(rand.NewPCG(seed, 4)), steady: seed == 0,
		}
		got := durable(t, nodes[0], c.Entry, w, l.await)
		how := fmt.Sprintf("life %d, %s", seed, l)
		if d := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "memory" }, cmp.Ignore())); d != "" {
			t.Fatalf("%s: differs from plain wazero (-want +got):\n%s", how, d)
		}
		if !bytes.Equal(got.memory, want.memory) {
			t.Fatalf("%s: the final memory isn't that of plain wazero", how)
		}
		if l.id != "" {
			var logged bytes.Buffer
			if err := l.store.Logs(t.Context(), l.id, &logged, nil); err != nil || !strings.HasPrefix(want.Out, logged.String()) {
				t.Fatalf("%s: logs %q, %v; output %q", how, &logged, err, want.Out)
			}
		}
		t.Log(how)
		all = append(all, l)
	}
	return all
}

// life is what has become of one run of a guest.
type life struct {
	t      *testing.T
	world  *world
	nodes  []*Module
	store  *snapshot.Store
	rand   *rand.Rand
	steady bool // it is committed at each await, and its chain is never cut

	id                                      string // once it has a commit
	commits, failed, moves, complete, bases int
	anchors                                 int // that are not the first of their chain
}

func (l *life) String() string {
	return fmt.Sprintf("%d commits, %d that failed, %d restores of chains, %d of complete snapshots, %d starts from bases, %d later anchors",
		l.commits, l.failed, l.moves, l.complete, l.bases, l.anchors)
}

// one is true once in n times.
func (l *life) one(n int) bool { return l.rand.IntN(n) == 0 }

// await is called at each await with the coroutine, and returns the one to go on with.
func (l *life) await(c *Coroutine) *Coroutine {
	l.t.Helper()
	ctx := context.Background()
	if l.one(4) {
		c.limit = 1 // its stack is rebuilt
	}
	if !l.steady && l.one(4) {
		return c
	}
	if l.one(8) {
		// Somebody looks at it.
		_, err := c.Snapshot()
		l.check(err)
	}
	s, err := c.Capture()
	l.check(err)
	if l.one(8) {
		// The store is full, and the driver goes on regardless.
		l.failed++
		return c
	}
	commit, err := l.store.Commit(ctx, s)
	l.check(err)
	c.Committed(commit)
	l.id = c.ID()
	l.commits++
	if o := commit.Origin; o != nil && o.Anchor == commit.Seq && commit.Seq > o.Root.Seq+1 && o.Root.Seq > 0 {
		l.anchors++
	}
	if l.one(10) {
		_, err := l.store.Retain(ctx, l.id, snapshot.Policy{Keep: 1 + l.rand.IntN(5)})
		l.check(err)
	}
	m := l.nodes[l.rand.IntN(len(l.nodes))]
	if l.one(10) {
		forgetRoots(m)
	}
	switch n := l.rand.IntN(8); {
	case n < 3:
		return c
	case n == 3 && !l.steady:
		l.complete++
		whole, commit, err := l.store.Latest(ctx, l.id)
		l.check(err)
		l.check(c.Close())
		c, err = m.Restore(ctx, whole, RestoreConfig{Hash: commit.Hash, Hosts: l.hosts(), Stdout: &l.world.out, Stderr: &l.world.err})
		l.check(err)
	case n == 4 && !l.steady && c.module == l.nodes[0]:
		return l.fromBase(c, m)
	default:
		l.moves++
		l.check(c.Close())
		c, err = m.RestoreFrom(ctx, l.store, l.id, 0, RestoreConfig{Hosts: l.hosts(), Stdout: &l.world.out, Stderr: &l.world.err})
		l.check(err)
	}
	return c
}

// fromBase makes a shared base of a coroutine, and starts another from there.
func (l *life) fromBase(c *Coroutine, m *Module) *Coroutine {
	l.t.Helper()
	ctx := context.Background()
	l.bases++
	s, err := c.Snapshot()
	l.check(err)
	whole := *s
	whole.Output = nil
	// A base has all that the guest wrote, and so shows it.
	for _, o := range []struct {
		stream uint8
		data   []byte
	}{{1, l.world.out.Bytes()}, {2, l.world.err.Bytes()}} {
		if len(o.data) > 0 {
			whole.Output = append(whole.Output, snapshot.Output{Stream: o.stream, Data: bytes.Clone(o.data)})
		}
	}
	name := fmt.Sprintf("base-%d", l.bases)
	_, err = l.store.PutBase(ctx, name, &whole)
	l.check(err)
	l.check(c.Close())
	base, err := l.store.Base(ctx, name, nil)
	l.check(err)
	l.world.out.Reset()
	l.world.err.Reset()
	c, err = m.Start(ctx, StartConfig{
		ID: "from-" + name, Hosts: l.hosts(), Stdout: &l.world.out, Stderr: &l.world.err, Base: base,
	})
	l.check(err)
	return c
}

func (l *life) hosts() []hostabi.Instance { return []hostabi.Instance{l.world.instance(l.t)} }

func (l *life) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("%s: %v", l, err)
	}
}

// forgetRoots has a module forget the roots that it has at hand, as it does when they are too many.
func forgetRoots(m *Module) {
	im := &m.images
	im.mu.Lock()
	defer im.mu.Unlock()
	for im.order.Len() > 0 {
		im.forget(im.order.Back())
	}
}
