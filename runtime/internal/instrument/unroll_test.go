package instrument

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/runtime/internal/wasm"
)

// TestUnrolled has loops go round so and so often, in the running form as in the original, and looks at what they count.
func TestUnrolled(t *testing.T) {
	ctx := context.Background()
	original := decode(t, cases(t, "testdata/golden")["unrolled"])
	r, err := Transform(original, Config{Await: awaits})
	if err != nil {
		t.Fatal(err)
	}
	e := engine(t)
	defineHost(t, e, r.Module)
	instance := func(m *wasm.Module) api.Module {
		inst, err := e.InstantiateWithConfig(ctx, m.Encode(), wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		return inst
	}
	plain, running := instance(original), instance(r.Module)
	ticks := running.ExportedGlobal(ExportTicks).(api.MutableGlobal)
	const enough = 1 << 60
	counted := func() uint64 {
		n := enough - ticks.Get()
		ticks.Set(enough)
		return n
	}
	counted()
	for _, name := range []string{"digits", "collatz", "below", "switch", "short", "suspends"} {
		f, g := plain.ExportedFunction(name), running.ExportedFunction(name)
		for n := range uint64(100) {
			want, err := f.Call(ctx, n)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := g.Call(ctx, n); err != nil || got[0] != want[0] {
				t.Fatalf("%s(%d) is %d, want %d (%v)", name, n, got, want, err)
			}
		}
	}
	const rounds = 1 << 16
	for _, c := range []struct {
		name     string
		n        uint64
		min, max uint64
	}{
		{"below", 2 * rounds, rounds / maxCopies, 5 * rounds}, // with the call behind the loop, once for both copies; else 9
		{"suspends", rounds, rounds, 20 * rounds},
	} {
		counted()
		if _, err := running.ExportedFunction(c.name).Call(ctx, c.n); err != nil {
			t.Fatal(err)
		}
		if n := counted(); n < c.min || n > c.max {
			t.Errorf("%s counts %d in %d rounds, want %d to %d", c.name, n, rounds, c.min, c.max)
		}
	}
}
