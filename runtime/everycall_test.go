package runtime

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
)

// everyCall is WASI of which every function suspends the guest before it does anything.
var everyCall = suspending(wasi.Module)

// The first byte of the data of a Pending of everyCall.
const (
	beforeCall = 0 // the function has not been called yet
	inCall     = 1 // the rest is the data of the Pending that it has returned
)

// suspending returns a module whose functions suspend first, and then do what those of m do.
func suspending(m *hostabi.Module) *hostabi.Module {
	out := &hostabi.Module{Name: m.Name, Globals: m.Globals}
	for _, f := range m.Functions {
		out.Functions = append(out.Functions, hostabi.Function{
			Name: f.Name, Params: f.Params, Results: f.Results,
			Await: func(ctx context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
				if p == nil {
					return &hostabi.Pending{Kind: hostabi.KindCheckpoint, Detail: f.Name, Data: []byte{beforeCall}}
				}
				inner := i.(suspendingInstance).Instance
				if f.Call != nil {
					f.Call(ctx, g, inner, stack)
					return nil
				}
				var was *hostabi.Pending
				if p.Data[0] == inCall {
					was = unwrap(p)
				}
				now := f.Await(ctx, g, inner, stack, was)
				switch now {
				case nil:
					return nil
				case was:
					return p
				}
				wrapped := *now
				wrapped.Data = append([]byte{inCall}, now.Data...)
				return &wrapped
			},
		})
	}
	return out
}

func unwrap(p *hostabi.Pending) *hostabi.Pending {
	inner := *p
	inner.Data = p.Data[1:]
	return &inner
}

// suspendingInstance is an instance for everyCall.
type suspendingInstance struct{ *wasi.Instance }

func (suspendingInstance) Module() *hostabi.Module { return everyCall }

func (i suspendingInstance) Wait(ctx context.Context, p *hostabi.Pending) error {
	if p.Data[0] == beforeCall {
		return ctx.Err()
	}
	return i.Instance.Wait(ctx, unwrap(p))
}

// TestEveryCall suspends programs at every call of WASI, and moves them there into a fresh instance. They must not notice.
func TestEveryCall(t *testing.T) {
	ctx := context.Background()
	testdata := filepath.Join("..", "testdata")
	manifest, err := guests.Manifest(testdata)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := guests.Cases(testdata)
	if err != nil {
		t.Fatal(err)
	}
	// Functions of WASI that answer otherwise than wazero's, and the others on a folder of the host.
	cases = append(cases,
		guests.Case{
			Name: "c-functions-others", Guest: "functions", Args: []string{"poll", "pread", "renumber", "preopens", "sockets"},
			Dirs: map[string]map[string]string{"/": {}}, Stdout: "poll\npread\nrenumber\npreopens\nsockets\n",
		},
		guests.Case{
			Name: "c-functions-folder", Guest: "functions",
			Args:   []string{"symlinks", "folders", "advise", "times", "flags", "readdir", "pread", "seek", "truncate", "paths", "slashes", "links", "renames", "renumber"},
			Dirs:   map[string]map[string]string{"/": {"file": ""}},
			Stdout: "symlinks\nfolders\nadvise\ntimes\nflags\nreaddir\npread\nseek\ntruncate\npaths\nslashes\nlinks\nrenames\nrenumber\n",
		},
	)
	files := map[string]string{}
	for _, g := range manifest {
		files[g.Name] = filepath.Join(testdata, filepath.FromSlash(g.File))
	}
	r := testRuntime(t, everyCall)
	compiled := map[string]*Module{}
	total, all := 0, 200
	if guests.RaceEnabled {
		all = 40 // the run without it does more
	}
	for _, c := range cases {
		binary, err := os.ReadFile(files[c.Guest])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(binary, []byte(wasi.ModuleName)) {
			continue // calls nothing of WASI
		}
		t.Run(c.Name, func(t *testing.T) {
			if guests.RaceEnabled && len(binary) > 1<<20 {
				t.Skipf("left out: with the race detector, wazero takes minutes to compile %d bytes; make test runs it without", len(binary))
			}
			m := compiled[c.Guest]
			if m == nil {
				if m, err = r.Compile(ctx, binary); err != nil {
					t.Fatal(err)
				}
				compiled[c.Guest] = m
			}
			w := newWorld(t, c)
			w.wrap = func(i *wasi.Instance) hostabi.Instance { return suspendingInstance{i} }
			calls, moves := 0, 0
			got := durable(t, m, c.Entry, w, func(c *Coroutine) *Coroutine {
				// Some programs ask for the time again and again: later on, most calls only suspend.
				if calls++; calls > all && calls%37 != 0 {
					return c
				}
				moves++
				return move(t, m, w, c)
			})
			t.Logf("%d calls, %d moves", calls, moves)
			total += moves
			exit := c.Exit
			if c.Trap != "" {
				exit = ExitCodeTrap
			}
			if got.Out != c.Stdout || got.Exit != exit || !strings.Contains(got.Trap, c.Trap) || (got.Trap == "") != (c.Trap == "") {
				t.Errorf("exit code %d, trap %q, want %d, %q; output:\n%s\nwant:\n%s", got.Exit, got.Trap, exit, c.Trap, got.Out, c.Stdout)
			}
		})
	}
	if total < 100 {
		t.Errorf("only %d moves in all", total)
	}
}

// TestEveryCallPython does the same to CPython while it starts up and works with files in a volume.
func TestEveryCallPython(t *testing.T) {
	binary := python(t)
	ctx := context.Background()
	r := testRuntime(t, everyCall)
	m, err := r.Compile(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	const script = `
import os, time
with open('/here/a', 'w') as f: f.write('hello')
os.rename('/here/a', '/here/b')
f = open('/here/b', 'r+'); os.unlink('/here/b'); f.seek(0, 2); f.write(' world'); f.seek(0)
time.sleep(0.01)
print(f.read(), os.listdir('/here'), input())`
	w := newWorld(t, guests.Case{
		Guest: "python", Args: []string{"-S", "-c", script}, Stdin: "line\n", Dirs: map[string]map[string]string{"/here": {}},
	})
	w.wrap = func(i *wasi.Instance) hostabi.Instance { return suspendingInstance{i} }
	calls, moves := 0, 0
	got := durable(t, m, "", w, func(c *Coroutine) *Coroutine {
		// Each place in the program from which it calls needs a resume module of its own.
		if calls++; calls%5 != 0 {
			return c
		}
		moves++
		return move(t, m, w, c)
	})
	t.Logf("%d calls, %d moves", calls, moves)
	if got.Out != "hello world [] line\n" || got.Exit != 0 {
		t.Errorf("%+v", got)
	}
	if calls < 100 {
		t.Errorf("only %d calls", calls)
	}
}
