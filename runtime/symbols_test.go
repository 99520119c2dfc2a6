package runtime

import (
	"bytes"
	leb "encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/wasm"
)

// symbolsSource has a call at a line that a comment names, in a function, in one that is inlined into it, and in one that
// only one call away from an export.
const symbolsSource = `__attribute__((import_module("host"), import_name("wait"))) extern int host_wait(int);

static inline __attribute__((always_inline)) int inner(int x) {
  return host_wait(x) + 1; // inner
}

static inline __attribute__((always_inline)) int middle(int x) {
  return inner(x * 2) + 3; // middle
}

__attribute__((noinline)) static int leaf(int x) {
  int y = host_wait(x); // leaf
  return y * y;
}

__attribute__((export_name("entry"))) int outer(int x) {
  return middle(x) + leaf(x + 1); // outer
}
`

// buildC compiles C for wasm, or skips the test.
func buildC(t testing.TB, source string, flags ...string) []byte {
	t.Helper()
	for _, tool := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("left out: %v", err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "symbols.c"), []byte(source), 0o666); err != nil {
		t.Fatal(err)
	}
	// Not linked by clang: that runs wasm-opt where there is one, which removes names, and addresses from DWARF.
	for _, args := range [][]string{
		append([]string{"clang", "--target=wasm32", "-c", "-o", "symbols.o", "symbols.c"}, flags...),
		{"wasm-ld", "--no-entry", "-o", "symbols.wasm", "symbols.o"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() < 0 {
			t.Skipf("left out: %s crashes, as that of LLVM 14 does with DWARF 5: %v", args[0], err)
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	binary, err := os.ReadFile(filepath.Join(dir, "symbols.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// without returns the module without the custom sections whose names begin so. All else stays where it is: encoding the
// module anew would move code, and addresses with it.
func without(t testing.TB, binary []byte, prefix string) []byte {
	t.Helper()
	out := bytes.Clone(binary[:8])
	for at := 8; at < len(binary); {
		size, n := leb.Uvarint(binary[at+1:])
		start := at + 1 + n
		end := start + int(size)
		name := ""
		if binary[at] == 0 {
			length, n := leb.Uvarint(binary[start:])
			name = string(binary[start+n : start+n+int(length)])
		}
		if name == "" || !strings.HasPrefix(name, prefix) {
			out = append(out, binary[at:end]...)
		}
		at = end
	}
	return out
}

// callsOf returns where the function with that index is called, in order: function and offset.
func callsOf(t testing.TB, binary []byte, callee uint32) (at [][2]uint32) {
	t.Helper()
	m, err := wasm.Decode(binary)
	if err != nil {
		t.Fatal(err)
	}
	imported := len(m.FunctionNames()) - len(m.Code)
	for i := range m.Code {
		var in wasm.Instr
		r := wasm.NewReader(m.Code[i].Body())
		for r.Next(&in) == nil {
			if in.Op == wasm.OpCall && in.Index == callee {
				at = append(at, [2]uint32{uint32(imported + i), uint32(m.Code[i].BodyOffset + in.Offset)})
			}
		}
	}
	return at
}

func lineOf(source, comment string) int {
	before, _, _ := strings.Cut(source, "// "+comment+"\n")
	return strings.Count(before, "\n") + 1
}

func TestSymbols(t *testing.T) {
	for _, version := range []string{"-gdwarf-4", "-gdwarf-5"} {
		t.Run(version, func(t *testing.T) {
			binary := buildC(t, symbolsSource, "-O1", version)
			calls := callsOf(t, binary, 0)
			if len(calls) != 2 {
				t.Fatalf("host.wait is called at %v, not at two places", calls)
			}
			// wasm-ld lays them out in the order that they are mentioned in.
			outer := Location{Function: "outer", Inlined: []string{"inner", "middle"}, Line: lineOf(symbolsSource, "inner")}
			leaf := Location{Function: "leaf", Line: lineOf(symbolsSource, "leaf")}
			for _, c := range []struct {
				name   string
				binary []byte
				want   []Location
			}{
				{"all", binary, []Location{outer, leaf}},
				{"no name section", without(t, binary, "name"), []Location{outer, leaf}},
				{"no debug information", without(t, binary, ".debug_"), []Location{{Function: "outer"}, {Function: "leaf"}}},
				{"neither", without(t, without(t, binary, "name"), ".debug_"), []Location{{Function: "entry"}, {Function: "func[2]"}}},
				{"damaged lines", damage(t, binary, ".debug_line"), []Location{
					{Function: "outer", Inlined: outer.Inlined}, {Function: "leaf"},
				}},
				{"damaged abbreviations", damage(t, binary, ".debug_abbrev"), []Location{{Function: "outer"}, {Function: "leaf"}}},
			} {
				t.Run(c.name, func(t *testing.T) {
					s, err := NewSymbols(c.binary)
					if err != nil {
						t.Fatal(err)
					}
					for i, call := range callsOf(t, c.binary, 0) {
						got := s.Locate(call[0], call[1])
						if c.want[i].Line > 0 && filepath.Base(got.File) != "symbols.c" {
							t.Errorf("call %v: file %q", call, got.File)
						}
						got.File = ""
						if diff := cmp.Diff(c.want[i], got); diff != "" {
							t.Errorf("call %v (-want +got):\n%s", call, diff)
						}
					}
					if got := s.Locate(0, 0).Function; got != "host_wait" && got != "host.wait" {
						t.Errorf("the import is %q", got)
					}
					if got := s.Locate(1<<31, 1<<31).Function; got != "func[2147483648]" {
						t.Errorf("a function that there isn't is %q", got)
					}
				})
			}
		})
	}
}

// damage overwrites the first bytes of a custom section.
func damage(t testing.TB, binary []byte, section string) []byte {
	t.Helper()
	binary = bytes.Clone(binary)
	m, err := wasm.Decode(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range m.Customs { // their data are the binary's
		if c.Name == section {
			copy(c.Data, bytes.Repeat([]byte{0xff}, 16))
		}
	}
	return binary
}

// locateAll asks for each function of a module that is one, at its start.
func locateAll(binary []byte) {
	s, err := NewSymbols(binary)
	if err != nil {
		return
	}
	for i := range uint32(len(s.names)) {
		s.Locate(i, 1)
		s.Locate(i, 20)
	}
}

// TestSymbolsDamaged flips bits in debug information: no panic, and no long work.
func TestSymbolsDamaged(t *testing.T) {
	for _, level := range []string{"-O0", "-O1"} {
		binary := without(t, buildC(t, symbolsSource, level, "-gdwarf-4"), "name")
		r := rand.New(rand.NewPCG(1, 2))
		start := time.Now()
		for range 3000 {
			binary := bytes.Clone(binary)
			m, err := wasm.Decode(binary)
			if err != nil {
				t.Fatal(err)
			}
			for range 1 + r.IntN(4) {
				data := m.Customs[r.IntN(len(m.Customs))].Data
				data[r.IntN(len(data))] ^= 1 << r.IntN(8)
			}
			locateAll(binary)
		}
		if d := time.Since(start); d > time.Minute {
			t.Errorf("%s: %v", level, d)
		}
	}
}

// FuzzSymbols takes the sections apart from the module, so that the fuzzer works on them alone.
func FuzzSymbols(f *testing.F) {
	seed := func(binary []byte) {
		m, err := wasm.Decode(binary)
		if err != nil {
			f.Fatal(err)
		}
		sections := map[string][]byte{}
		for _, c := range m.Customs {
			sections[c.Name] = c.Data
		}
		f.Add(sections["name"], sections[".debug_info"], sections[".debug_abbrev"], sections[".debug_str"],
			sections[".debug_line"], sections[".debug_ranges"])
	}
	m := &wasm.Module{
		Types:     []wasm.FuncType{{}},
		Functions: []uint32{0, 0},
		Code:      []wasm.Code{{Raw: []byte{0, 0x0b}, BodyOffset: 1}, {Raw: []byte{0, 0x10, 0, 0x0b}, BodyOffset: 1}},
	}
	seed(m.Encode())
	if _, err := exec.LookPath("wasm-ld"); err == nil {
		seed(buildC(f, symbolsSource, "-O1", "-gdwarf-4"))
		seed(buildC(f, symbolsSource, "-O0", "-gdwarf-4"))
	}
	f.Fuzz(func(t *testing.T, name, info, abbrev, str, line, ranges []byte) {
		m := *m
		for section, data := range map[string][]byte{
			"name": name, ".debug_info": info, ".debug_abbrev": abbrev, ".debug_str": str, ".debug_line_str": str,
			".debug_line": line, ".debug_ranges": ranges, ".debug_rnglists": ranges, ".debug_addr": ranges,
		} {
			m.Customs = append(m.Customs, wasm.Custom{Name: section, Data: data, After: 10})
		}
		start := time.Now()
		locateAll(m.Encode())
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// TestSymbolsHostile has what makes debug/dwarf take all memory, or run for hours.
func TestSymbolsHostile(t *testing.T) {
	units := func(n int, unit []byte) []byte { return bytes.Repeat(unit, n) }
	wide := append([]byte{1, 0x11, 0}, bytes.Repeat([]byte{0x3f, 0x19}, 1<<16)...)
	for _, c := range []struct {
		name     string
		sections map[string][]byte
	}{
		{"units without contents", map[string][]byte{".debug_info": make([]byte, 1<<22)}},
		{"abbreviation of 65,536 attributes", map[string][]byte{
			".debug_abbrev": append(wide, 0, 0, 0),
			".debug_info":   units(1<<12, append([]byte{0, 1, 0, 0, 4, 0, 0, 0, 0, 0, 4}, bytes.Repeat([]byte{1}, 249)...)),
		}},
		{"string of a megabyte", map[string][]byte{
			".debug_abbrev": {1, 0x11, 1, 0x03, 0x0e, 0, 0, 0},
			".debug_str":    append(bytes.Repeat([]byte("x"), 1<<20), 0),
			".debug_info":   units(1<<14, []byte{12, 0, 0, 0, 4, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0}),
		}},
		{"line table of 2^40 directories", map[string][]byte{
			".debug_abbrev": {1, 0x11, 0, 0x10, 0x17, 0x11, 0x01, 0x12, 0x06, 0, 0, 0},
			".debug_info":   {21, 0, 0, 0, 5, 0, 1, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0},
			".debug_line": {
				30, 0, 0, 0, 5, 0, 4, 0, 20, 0, 0, 0, 1, 1, 1, 0xfb, 14, 1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0, 0,
				0, 0, 0, 0, 0, 0, 0,
			},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &wasm.Module{
				Types: []wasm.FuncType{{}}, Functions: []uint32{0}, Code: []wasm.Code{{Raw: []byte{0, 0x0b}, BodyOffset: 1}},
			}
			for name, data := range c.sections {
				m.Customs = append(m.Customs, wasm.Custom{Name: name, Data: data, After: 10})
			}
			binary := m.Encode()
			start := time.Now()
			allocated := testing.AllocsPerRun(1, func() { locateAll(binary) })
			if d := time.Since(start); d > 20*time.Second || allocated > 1e6 {
				t.Errorf("took %v and %.0f allocations", d, allocated)
			}
		})
	}
}

// TestSymbolsPython names the calls of CPython that its interpreter's stack has, from _start to time.sleep.
func TestSymbolsPython(t *testing.T) {
	binary, err := guests.Python()
	if err != nil {
		t.Skipf("left out: %v", err)
	}
	s, err := NewSymbols(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		function uint32
		want     Location
	}{
		{43, Location{Function: "_start"}},
		{4047, Location{Function: "_PyRun_AnyFileObject", Inferred: true}},
		{4048, Location{Function: "_PyRun_SimpleFileObject", Inferred: true}},
		{4053, Location{Function: "run_mod", Inferred: true}},
		{4055, Location{Function: "run_eval_code_obj", Inferred: true}},
		{3280, Location{Function: "PyEval_EvalCode", Inferred: true}},
		{3281, Location{Function: "_PyEval_Vector", Inferred: true}},
		{1191, Location{Function: "_PyEval_EvalFrame", Inferred: true}},
		{3283, Location{Function: "_PyEval_EvalFrameDefault", Inferred: true}},
		{747, Location{Function: "PyObject_Vectorcall", Inferred: true}},
		{1894, Location{Function: "cfunction_vectorcall_O", Inferred: true}},
		{8080, Location{Function: "time_sleep", Inferred: true}},
		{11285, Location{Function: "wasi_vfs_pack_fs"}},
		{11313, Location{Function: "func[11313]"}}, // of wasi-libc, which has no debug information
		{0, Location{Function: s.module.Imports[0].Module + "." + s.module.Imports[0].Name}},
	} {
		if diff := cmp.Diff(c.want, s.Locate(c.function, 1)); diff != "" {
			t.Errorf("function %d (-want +got):\n%s", c.function, diff)
		}
	}
}
