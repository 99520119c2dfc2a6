package runtime

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
)

var all = os.Getenv("DURUN_SPEC_ALL") != ""

// sampled reports whether to run something of which there is too much to run all of it.
func sampled(name string, oneIn uint32) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()%oneIn == 0
}

// TestSpecSuspended takes functions of the specification's suite, puts await points between their instructions, and runs
// them on plain wazero, and under durun, where they are moved to fresh instances on their way. It takes a sample, of which
// the calls and await points are chosen by name; DURUN_SPEC_ALL=1 makes it some thirty times as large.
func TestSpecSuspended(t *testing.T) {
	withoutRace(t)
	var c counts
	t.Run("scripts", func(t *testing.T) {
		for _, s := range scripts(t) {
			if strings.HasPrefix(s.name, "v1/") {
				continue // v2 has the same, and more
			}
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				b, back := borrow(t)
				defer back()
				for i := range s.Commands {
					if s.Commands[i].Type == "module" && filepath.Ext(s.Commands[i].Filename) == ".wasm" {
						suspendModule(t, b, s, i, &c)
					}
				}
			})
		}
	})
	c.log(t)
	if c.n["calls"] < 250 || c.n["moves"] < 1000 || c.n["modules"] < 100 {
		t.Error("that can't be the sample")
	}
}

// suspendModule runs calls of the module that command n of a script loads.
func suspendModule(t *testing.T, b *bench, s script, n int, c *counts) {
	data, err := os.ReadFile(filepath.Join(s.dir, s.Commands[n].Filename))
	if err != nil {
		t.Fatal(err)
	}
	type call struct {
		name     string
		function uint32
		args     []wasm.Instr
	}
	var calls []call
	m, err := wasm.Decode(data)
	if err == nil {
		err = wasm.Validate(m)
	}
	if err != nil {
		return // counted by TestSpec
	}
	oneIn := uint32(30)
	if strings.HasPrefix(s.name, "v2/simd") || strings.HasPrefix(s.name, "v2/f32") || strings.HasPrefix(s.name, "v2/f64") {
		oneIn = 300 // thousands of calls of functions of one instruction
	}
	if all {
		oneIn /= 30
	}
	for i := n + 1; i < len(s.Commands) && s.Commands[i].Type != "module"; i++ {
		cmd := &s.Commands[i]
		switch cmd.Type {
		case "assert_return", "action", "assert_trap", "assert_exception":
		default:
			continue
		}
		name := fmt.Sprintf("%s:%d.%d", s.name, cmd.Line, i)
		if cmd.Action.Type != "invoke" || cmd.Action.Module != "" || !sampled(name, oneIn) {
			continue
		}
		one := call{name: name}
		ok := false
		for _, e := range m.Exports {
			if e.Kind == wasm.ExternFunc && e.Name == cmd.Action.Field {
				one.function, ok = e.Index, true
			}
		}
		for _, a := range cmd.Action.Args {
			in, number := a.constant()
			one.args = append(one.args, in)
			ok = ok && number
		}
		if !ok {
			c.add("left out: call with a reference as argument")
			continue
		}
		calls = append(calls, one)
	}
	if len(calls) == 0 {
		return
	}
	var mod *Module
	var binary []byte
	for z := everywhere; mod == nil; z++ {
		i, err := inject(m, z)
		if err != nil {
			t.Fatal(err)
		}
		for k := range calls {
			i.entry(calls[k].name, calls[k].function, calls[k].args)
		}
		if binary, err = i.binary(); err != nil {
			t.Fatal(err)
		}
		mod, err = b.runtime.Compile(context.Background(), binary)
		if err == nil {
			break
		}
		var u *instrument.UnsupportedError
		var e *ModuleError
		switch {
		case z < outermost && errors.As(err, &u):
		case errors.As(err, &u), errors.As(err, &e) && strings.Contains(err.Error(), "imports what nobody provides"):
			for range calls {
				c.add("left out: call in a module that is refused")
			}
			return
		default:
			t.Fatalf("%s:%d: %v", s.name, s.Commands[n].Line, err)
		}
	}
	c.add("modules")
	defer mod.Close(context.Background())
	for k := range calls {
		t.Run(strings.ReplaceAll(calls[k].name, "/", "_"), func(t *testing.T) {
			suspendCall(t, b, mod, binary, calls[k].name, c)
		})
	}
}

func suspendCall(t *testing.T, b *bench, mod *Module, binary []byte, name string, c *counts) {
	want := b.original(t, b.interpreter, binary, name)
	const many = 5000
	if want.Awaits > many {
		c.add(fmt.Sprintf("left out: call with more than %d awaits", many))
		return
	}
	moves := 8
	if all {
		moves = 12
	}
	stride := max(want.Awaits/moves, 1)
	n := len(name) % stride // another one for each
	b.compare(t, mod, name, want, func() bool {
		if n++; n%stride != 0 {
			return false
		}
		c.add("moves")
		return true
	}, n%4 == 0)
	c.add("calls")
	if want.Awaits == 0 {
		c.add("calls without an await")
	}
	if want.Trap != "" {
		c.add("calls that trap")
	}
}
