package instrument

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/durun/durun/runtime/internal/wasm"
)

var update = flag.Bool("update", false, "write the goldens, and build the .wasm of each .wat (needs wat2wasm)")

// wat2wasm builds a case.
func wat2wasm(t testing.TB, wat, file string) {
	t.Helper()
	args := []string{"--enable-tail-call", "--enable-exceptions", "--enable-extended-const", "--debug-names", wat, "-o", file}
	if b := builders[strings.TrimSuffix(filepath.Base(wat), ".wat")]; b != nil {
		if err := os.WriteFile(file, b().Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if out, err := exec.Command("wat2wasm", args...).CombinedOutput(); err != nil {
		t.Fatalf("wat2wasm %s: %v\n%s", wat, err, out)
	}
}

// awaits are the await points of the cases.
func awaits(module, name string) bool { return module == "durun" || module == "lab" && name != "note" }

// cases returns the modules in a folder of testdata, by name.
func cases(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	wats, err := filepath.Glob(filepath.Join(dir, "*.wat"))
	if err != nil || len(wats) == 0 {
		t.Fatalf("no cases in %s (%v)", dir, err)
	}
	list := map[string][]byte{}
	for _, wat := range wats {
		name := strings.TrimSuffix(filepath.Base(wat), ".wat")
		file := strings.TrimSuffix(wat, ".wat") + ".wasm"
		if *update {
			wat2wasm(t, wat, file)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("%v; -update builds it", err)
		}
		list[name] = data
	}
	return list
}

// orphans fails for files of a folder that no case stands for.
func orphans(t *testing.T, dir string, known map[string][]byte, ext ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		e := filepath.Ext(f.Name())
		if _, ok := known[strings.TrimSuffix(f.Name(), e)]; !ok || !slices.Contains(ext, e) {
			t.Errorf("%s belongs to no case", filepath.Join(dir, f.Name()))
		}
	}
}

func decode(t testing.TB, data []byte) *wasm.Module {
	t.Helper()
	m, err := wasm.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := wasm.Validate(m); err != nil {
		t.Fatal(err)
	}
	return m
}

// features are those with which durun runs wazero.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst |
	experimental.CoreFeaturesExceptionHandling | experimental.CoreFeaturesTypedFunctionReferences

// engine returns a wazero runtime that compiles machine code.
func engine(t testing.TB) wazero.Runtime {
	ctx := context.Background()
	e := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features))
	t.Cleanup(func() { _ = e.Close(ctx) })
	return e
}

// accept checks that a module that was emitted is valid here and for wazero, and returns it as decoded from its bytes.
func accept(t testing.TB, e wazero.Runtime, m *wasm.Module) *wasm.Module {
	t.Helper()
	data := m.Encode()
	d, err := wasm.Decode(data)
	if err != nil {
		t.Fatalf("what was emitted doesn't decode: %v", err)
	}
	if err := wasm.Validate(d); err != nil {
		text, _ := dump(d)
		t.Fatalf("what was emitted is invalid: %v\n%s", err, text)
	}
	code, err := e.CompileModule(context.Background(), data)
	if err != nil {
		t.Fatalf("wazero refuses what was emitted: %v", err)
	}
	_ = code.Close(context.Background())
	return d
}

// firstAwait returns the index of the first imported function that is an await point.
func firstAwait(t testing.TB, m *wasm.Module) uint32 {
	t.Helper()
	list := awaitImports(m, Config{Await: awaits})
	if len(list) == 0 {
		t.Fatal("the module imports no await point")
	}
	return list[0]
}

// continuations returns one continuation for each site of a plan.
func continuations(p *Plan) []Continuation {
	var conts []Continuation
	for _, s := range p.Sites {
		if s.Offset > 0 { // the locals' declaration takes a byte
			conts = append(conts, Continuation{Function: s.Function, Offset: s.Offset, Slots: slices.Clone(s.Slots)})
		}
	}
	return conts
}

func dumpPlan(p *Plan) string {
	var b strings.Builder
	for i, s := range p.Sites {
		if s.Offset == 0 {
			fmt.Fprintf(&b, "call %d can't suspend\n", i)
			continue
		}
		fmt.Fprintf(&b, "site %d: func %d at %#x:", i, s.Function, s.Offset)
		for _, sl := range s.Slots {
			kind := "local"
			if sl.Operand {
				kind = "operand"
			}
			fmt.Fprintf(&b, " %s%d:%v", kind, sl.Index, sl.Type)
		}
		b.WriteString("\n")
	}
	if len(p.DroppedData) > 0 {
		fmt.Fprintf(&b, "may drop data segments %d\n", p.DroppedData)
	}
	return b.String()
}

// TestGolden compares the running form, the plan and the resume module of all sites with what they were.
func TestGolden(t *testing.T) {
	const dir = "testdata/golden"
	list := cases(t, dir)
	if !*update {
		orphans(t, dir, list, ".wat", ".wasm", ".golden")
	}
	e := engine(t)
	sites := 0
	for name, data := range list {
		t.Run(name, func(t *testing.T) {
			m := decode(t, data)
			r, err := Transform(m, Config{Await: awaits})
			if err != nil {
				t.Fatal(err)
			}
			text, err := dump(accept(t, e, r.Module))
			if err != nil {
				t.Fatal(err)
			}
			got := "== running form\n" + text + "== sites\n" + dumpPlan(r.Plan)
			await := firstAwait(t, m)
			outer := await
			conts := continuations(r.Plan)
			sites += len(conts)
			if len(conts) > 0 {
				outer = conts[0].Function
			}
			res, err := r.Plan.Resume(m, conts, outer, await)
			if err != nil {
				t.Fatal(err)
			}
			if text, err = dump(accept(t, e, res)); err != nil {
				t.Fatal(err)
			}
			got += "== resume module\n" + text
			file := filepath.Join(dir, name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v; -update writes it", err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("differs from %s (-want +got); -update writes it anew, and Version may want to be raised:\n%s", file, diff)
			}
		})
	}
	if len(list) < 12 || sites < 40 {
		t.Errorf("only %d cases with %d sites", len(list), sites)
	}
}

// modules returns all modules that the tests of this package have, by name.
func modules(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, dir := range []string{"testdata/golden", "testdata/regress", "../../../testdata/wat"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.wasm"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.Base(dir)+"/"+filepath.Base(f)] = data
		}
	}
	if len(all) < 30 {
		t.Fatalf("only %d modules", len(all))
	}
	return all
}

// TestDeterministic: the same module gives the same bytes, also from a plan that was stored.
func TestDeterministic(t *testing.T) {
	e := engine(t)
	refused := 0
	for name, data := range modules(t) {
		t.Run(name, func(t *testing.T) {
			first, err := Transform(decode(t, data), Config{Await: awaits})
			second, err2 := Transform(decode(t, data), Config{Await: awaits})
			if err != nil || err2 != nil {
				if err == nil || err2 == nil || err.Error() != err2.Error() {
					t.Fatalf("%v, then %v", err, err2)
				}
				refused++
				t.Skipf("left out: %v", err)
			}
			accept(t, e, first.Module)
			if !bytes.Equal(first.Module.Encode(), second.Module.Encode()) {
				t.Error("two transforms differ")
			}
			plan := first.Plan.Encode()
			if !bytes.Equal(plan, second.Plan.Encode()) {
				t.Error("two plans differ")
			}
			stored, err := DecodePlan(plan)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(plan, stored.Encode()) {
				t.Error("a plan that was decoded encodes to other bytes")
			}
			m := decode(t, data)
			for f := range uint32(len(m.Code) + len(m.Imports) + 1) {
				if first.Plan.MaySuspend(f) != stored.MaySuspend(f) {
					t.Errorf("function %d: the stored plan says that it may suspend: %v", f, stored.MaySuspend(f))
				}
			}
			conts := continuations(first.Plan)
			if len(conts) == 0 {
				return
			}
			await := firstAwait(t, m)
			a, err := first.Plan.Resume(m, conts, conts[0].Function, await)
			if err != nil {
				t.Fatal(err)
			}
			b, err := stored.Resume(m, conts, conts[0].Function, await)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a.Encode(), b.Encode()) {
				t.Error("two resume modules differ")
			}
			accept(t, e, a)
		})
	}
	if refused > 6 {
		t.Errorf("%d modules were refused", refused)
	}
}
