package runtime

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
)

// all asks for the tests that take minutes.
var all = os.Getenv("DURUN_SPEC_ALL") != ""

// chosen returns a number that depends on a name.
func chosen(name string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return int(h.Sum32() >> 1)
}

// specModule is a module of the specification's suite, with the calls that its script makes.
type specModule struct {
	name  string // of the script, with the line
	m     *wasm.Module
	calls []specCall // that return, in the script's order
	traps []specCall // each ends the program
}

// specEntry is an export of a program that is made of a module of the suite: it makes some calls.
type specEntry struct {
	name  string
	calls []specCall
}

// batchSize is how many calls an entry makes.
const batchSize = 100

// entries puts the calls of a module together, those that trap alone.
func (s *specModule) entries() []specEntry {
	var list []specEntry
	for batch := range slices.Chunk(s.calls, batchSize) {
		list = append(list, specEntry{batch[0].name, batch})
	}
	for _, call := range s.traps {
		list = append(list, specEntry{call.name, []specCall{call}})
	}
	return list
}

// TestSpecSuspended runs the functions of the specification's suite on plain wazero, and under durun, where they are moved
// to fresh instances on their way:
//
//   - as they are, at every call of an imported function;
//   - with await points between their instructions, at some of those, chosen by name. DURUN_SPEC_ALL=1 makes it
//     ten times as many.
//
// Calls that return are made one after the other in one instance, as the suite wants it, a hundred at a time. A call that traps
// is made in an instance of its own, as a trap ends a program.
func TestSpecSuspended(t *testing.T) {
	withoutRace(t)
	var c counts
	t.Run("scripts", func(t *testing.T) {
		for _, s := range scripts(t) {
			if strings.HasPrefix(s.name, "v1/") && !all {
				c.add("left out: script of version 1, which version 2 has too")
				continue
			}
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				b, back := borrow(t)
				defer back()
				for _, m := range specModules(t, s, &c) {
					m.suspend(t, b, &c)
				}
			})
		}
	})
	c.log(t)
	for what, least := range map[string]int{
		"modules": 1080, "modules with calls that come to an import, moved at each": 3, "modules moved in between": 1030,
		"calls": 47000, "calls that trap": 1600, "moves in between": 12500, "moves at imports": 4,
	} {
		if c.n[what] < least {
			t.Errorf("%d %s: that can't be the whole suite, which has at least %d", c.n[what], what, least)
		}
	}
	for what, most := range map[string]int{
		"left out: refused": 2, "left out: entry with too many awaits, even if it has them at the heads of functions alone": 10,
		"left out: module that imports another one's functions": 36, "left out: module that imports another one's globals or references": 6,
		"left out: call of a module that package wasm refuses": 0, "left out: call with a reference of the host's that can't be null": 4,
		"batches that end early, as what another module would change is missing": 10,
	} {
		if all {
			most = 2 * most // with version 1
		}
		if c.n[what] > most {
			t.Errorf("%d %s: more than %d", c.n[what], what, most)
		}
	}
}

// specModules returns the modules of a script that have calls.
func specModules(t *testing.T, s script, c *counts) []*specModule {
	t.Helper()
	var list []*specModule
	names := map[string]*specModule{}
	var last *specModule
	for n := range s.Commands {
		cmd := &s.Commands[n]
		switch cmd.Type {
		case "module":
			last = nil
			if filepath.Ext(cmd.Filename) != ".wasm" {
				continue // counted by TestSpec
			}
			data, err := os.ReadFile(filepath.Join(s.dir, cmd.Filename))
			if err != nil {
				t.Fatal(err)
			}
			m, err := wasm.Decode(data)
			if err == nil {
				err = wasm.Validate(m)
			}
			if err != nil {
				continue // counted by TestSpec
			}
			last = &specModule{name: fmt.Sprintf("%s:%d", s.name, cmd.Line), m: m}
			list = append(list, last)
			if cmd.Name != "" {
				names[cmd.Name] = last
			}
		case "assert_return", "action", "assert_trap", "assert_exception", "assert_exhaustion":
			to := last
			if cmd.Action.Module != "" {
				to = names[cmd.Action.Module]
			}
			switch {
			case to == nil:
				c.add("left out: call of a module that package wasm refuses")
				continue
			case cmd.Action.Type != "invoke":
				c.add("left out: not a call, but a look at a global")
				continue
			case cmd.Type == "assert_exhaustion":
				c.add("left out: call that exhausts the stack, which is of another size")
				continue
			}
			call := specCall{name: fmt.Sprintf("%s:%d.%d", s.name, cmd.Line, n)}
			for _, e := range to.m.Exports {
				if e.Kind == wasm.ExternFunc && e.Name == cmd.Action.Field {
					call.function = e.Index
				}
			}
			for i, a := range cmd.Action.Args {
				in, ok := a.constant()
				if !ok {
					// The host's references can't be made by a program. Null is what all sides can have.
					p, err := wasm.NewEnv(to.m)
					if err != nil {
						t.Fatal(err)
					}
					t := p.FuncType(call.function).Params[i]
					in = wasm.Instr{Op: wasm.OpRefNull, Heap: t.Heap()}
					switch {
					case !t.IsNullable():
						to = nil
					case a.Value != "null":
						c.add("calls with null for a reference of the host's")
					}
				}
				call.args = append(call.args, in)
			}
			if to == nil {
				c.add("left out: call with a reference of the host's that can't be null")
				continue
			}
			if cmd.Type == "assert_return" || cmd.Type == "action" {
				to.calls = append(to.calls, call)
			} else {
				to.traps = append(to.traps, call)
			}
		}
	}
	return slices.DeleteFunc(list, func(m *specModule) bool { return len(m.calls)+len(m.traps) == 0 })
}

// specGlobals are those of the specification's test module.
var specGlobals = map[string]uint64{
	"global_i32": 666, "global_i64": 666, "global_f32": 0x4426a666, "global_f64": 0x4084d4cccccccccd,
}

// suspend runs the calls of a module.
func (s *specModule) suspend(t *testing.T, b *bench, c *counts) {
	c.add("modules")
	// Both sides run the module with memories, tables and globals of its own.
	m, err := instrument.Internalise(s.m, func(im *wasm.Import) (instrument.GlobalValue, error) {
		v, ok := specGlobals[im.Name]
		if !ok {
			return instrument.GlobalValue{}, fmt.Errorf("global %s of another module", im.Name)
		}
		return instrument.GlobalValue{Lo: v}, nil
	})
	if err != nil {
		c.add("left out: module that imports another one's globals or references")
		return
	}
	s = &specModule{s.name, m, s.calls, s.traps}
	imports := false
	for i := range m.Imports {
		im := &m.Imports[i]
		if im.Module != "spectest" || !strings.HasPrefix(im.Name, "print") {
			c.add("left out: module that imports another one's functions")
			return
		}
		imports = true
	}
	s.determined(t, b, c)
	every := specWay{density: nowhere, moves: 1 << 30, most: 1 << 30, what: "at imports"}
	if ran, _ := s.run(t, b, every, s.entries(), c); imports && ran {
		c.add("modules with calls that come to an import, moved at each")
	}
	pending := s.entries()
	for _, density := range []int{everywhere, 16, 128, heads} {
		w := specWay{density: density, moves: 10, most: 3000, what: "in between"}
		if all {
			w.moves, w.most = 100, 30000
		}
		_, pending = s.run(t, b, w, pending, c)
		if len(pending) == 0 {
			break
		}
	}
	if len(pending) == 0 {
		c.add("modules moved in between")
	}
	for range pending {
		c.add("left out: entry with too many awaits, even if it has them at the heads of functions alone")
	}
}

// specWay says how a module of the suite is run.
type specWay struct {
	density int // of await points, as inject has it
	moves   int // of an entry; at least
	most    int // awaits
	what    string
}

// determined checks the transform of the module as it is, with all imports await points, and with await points in between.
func (s *specModule) determined(t *testing.T, b *bench, c *counts) {
	binary := s.program(t, everywhere, nil)
	m, err := wasm.Decode(binary)
	if err != nil {
		t.Fatal(err)
	}
	oneIn := 8
	if all {
		oneIn = 1
	}
	for range determined(t, b.compiler, m, func(string, string) bool { return true }, oneIn) {
		c.add("sites")
	}
}

// run runs entries of a module in one way. It reports whether it ran any, and returns those that have too many awaits for it.
func (s *specModule) run(t *testing.T, b *bench, w specWay, entries []specEntry, c *counts) (ran bool, rest []specEntry) {
	ctx := context.Background()
	binary := s.program(t, w.density, entries)
	engine := b.compiler
	if len(s.m.Tags) > 0 {
		engine = b.interpreter
	}
	wanted := make([]aftermath, len(entries))
	b.limit = w.most
	defer func() { b.limit = 0 }()
	var now []int
	for i := range entries {
		wanted[i] = b.original(t, engine, binary, entries[i].name)
		switch {
		case strings.Contains(wanted[i].Trap, errManyAwaits.Error()):
			rest = append(rest, entries[i])
		case w.density == nowhere && wanted[i].Awaits == 0:
		default:
			now = append(now, i)
		}
	}
	if len(now) == 0 {
		return false, rest
	}
	mod, err := b.runtime.Compile(ctx, binary)
	if err != nil {
		if u := (*instrument.UnsupportedError)(nil); !errors.As(err, &u) {
			t.Fatalf("%s: %v", s.name, err)
		}
		t.Logf("%s: %v", s.name, err)
		c.add("left out: refused")
		return false, nil
	}
	defer mod.Close(ctx)
	for _, i := range now {
		e, want := &entries[i], wanted[i]
		ok := t.Run(strings.ReplaceAll(e.name, "/", "_"), func(t *testing.T) {
			s.entry(t, b, mod, e, want, w, c)
		})
		if !ok && len(e.calls) > 1 {
			s.blame(t, b, engine, e, w)
		}
	}
	return true, rest
}

// program returns the module with await points and entries.
func (s *specModule) program(t *testing.T, density int, entries []specEntry) []byte {
	t.Helper()
	i, err := inject(s.m, density)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		i.entry(e.name, e.calls)
	}
	binary, err := i.binary()
	if err != nil {
		t.Fatalf("%s: the injector made an invalid module: %v", s.name, err)
	}
	return binary
}

// entry compares one entry.
func (s *specModule) entry(t *testing.T, b *bench, mod *Module, e *specEntry, want aftermath, w specWay, c *counts) {
	moves := w.moves
	if len(want.memory) > 32<<20 {
		moves = 1 // each takes seconds
	}
	stride := max(want.Awaits/moves, 1)
	first := chosen(e.name) % stride
	at := func(n int) bool { return n%stride == first }
	ways := []way{moved}
	if stride == 1 && want.Awaits < 100 || chosen(e.name)%8 == 0 {
		ways = append(ways, rebuilt)
	}
	b.compare(t, mod, e.name, want, at, ways...)
	for n := range want.Awaits {
		if at(n) {
			c.add("moves " + w.what)
		}
	}
	if w.density == nowhere {
		return
	}
	for range e.calls {
		c.add("calls")
	}
	if want.Awaits == 0 {
		c.add("entries without an await")
	}
	if want.Trap != "" {
		c.add("calls that trap")
		if len(e.calls) > 1 {
			c.add("batches that end early, as what another module would change is missing")
		}
	}
}

// blame runs the calls of an entry that failed one by one.
func (s *specModule) blame(t *testing.T, b *bench, engine wazero.Runtime, e *specEntry, w specWay) {
	for _, call := range e.calls {
		single := specEntry{call.name, []specCall{call}}
		binary := s.program(t, w.density, []specEntry{single})
		t.Run("alone "+strings.ReplaceAll(call.name, "/", "_"), func(t *testing.T) {
			want := b.original(t, engine, binary, call.name)
			mod, err := b.runtime.Compile(context.Background(), binary)
			if err != nil {
				t.Fatal(err)
			}
			defer mod.Close(context.Background())
			b.compare(t, mod, call.name, want, func(int) bool { return true }, moved)
		})
	}
}
