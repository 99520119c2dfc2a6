package symbols

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/runtime/internal/wasm"
)

// source makes a unit of C of random functions, of which some are static, some call one that comes later, and some have
// literals or static variables.
func source(r *rand.Rand, unit int) string {
	var b strings.Builder
	types := []string{"int", "char *", "long long", "double", "short", "unsigned char"}
	const functions = 150
	b.WriteString("extern void use(const void *, ...);\n")
	signature := func(i int, parameters []string) string {
		storage := ""
		if i%3 == 1 {
			storage = "static "
		}
		return fmt.Sprintf("%sint unit%d_f%d(%s)", storage, unit, i, strings.Join(parameters, ", "))
	}
	var lists [][]string
	for i := range functions {
		var list []string
		for k := range r.IntN(5) {
			list = append(list, fmt.Sprintf("%s p%d", types[r.IntN(len(types))], k))
		}
		lists = append(lists, list)
		fmt.Fprintf(&b, "%s;\n", signature(i, list))
	}
	for i := range functions {
		fmt.Fprintf(&b, "%s {\n", signature(i, lists[i]))
		for k := range r.IntN(6) {
			fmt.Fprintf(&b, "  %s v%d = 0;\n  use(&v%d, v%d);\n", types[r.IntN(len(types))], k, k, k)
		}
		for k := range lists[i] {
			fmt.Fprintf(&b, "  use(0, p%d);\n", k)
		}
		switch r.IntN(3) {
		case 0:
			fmt.Fprintf(&b, "  use(\"literal %d of %d\");\n", i, unit)
		case 1:
			fmt.Fprintf(&b, "  static int s;\n  use(&s, s++);\n")
		}
		if other := (i + 1 + r.IntN(4)) % functions; i%2 == 0 {
			fmt.Fprintf(&b, "  unit%d_f%d(%s);\n", unit, other, strings.Join(slices.Repeat([]string{"0"}, len(lists[other])), ", "))
		}
		b.WriteString("  return 0;\n}\n\n")
	}
	// A table keeps the static ones.
	fmt.Fprintf(&b, "void *unit%d_table[] = {", unit)
	for i := range functions {
		fmt.Fprintf(&b, "(void *)unit%d_f%d, ", unit, i)
	}
	b.WriteString("};\n")
	return b.String()
}

// lose overwrites the addresses of functions with 0, and returns the module's names, which it removes.
func lose(t *testing.T, binary []byte) (*wasm.Module, []string) {
	t.Helper()
	m, err := wasm.Decode(binary)
	if err != nil {
		t.Fatal(err)
	}
	names := m.FunctionNames()
	m.Customs = slices.DeleteFunc(m.Customs, func(c wasm.Custom) bool { return c.Name == "name" })
	r := sections(m)
	r.read()
	if !r.located {
		t.Fatal("the addresses are lost already")
	}
	for i := range r.units {
		u := &r.units[i]
		c := &cursor{data: r.info[:u.end], at: int(u.entries)}
		for !c.bad && c.at < len(c.data) {
			a := r.entry(u, c)
			if a == nil {
				continue
			}
			for _, f := range a.attrs {
				at := c.at
				var v value
				if c.value(f, &v); f.name == attrLowPC {
					clear(r.info[at:c.at])
				}
			}
		}
	}
	return m, names
}

func TestInfer(t *testing.T) {
	for _, tool := range []string{"clang", "wasm-ld", "wasm-opt"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("left out: %v", err)
		}
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	link := []string{"wasm-ld", "--no-entry", "--export-dynamic", "--allow-undefined", "-o", "out.wasm"}
	for unit := range 4 {
		name := fmt.Sprintf("unit%d", unit)
		if err := os.WriteFile(filepath.Join(dir, name+".c"), []byte(source(r, unit)), 0o666); err != nil {
			t.Fatal(err)
		}
		args := []string{"clang", "--target=wasm32", "-c", "-O0", "-gdwarf-4", "-o", name + ".o", name + ".c"}
		if unit == 2 {
			args = slices.DeleteFunc(args, func(a string) bool { return a == "-gdwarf-4" }) // one without debug information
		}
		run(args...)
		link = append(link, "--export="+name+"_table", name+".o")
	}
	run(link...)
	// It keeps names here, to compare with. Without it, clang's code at -O0 moves each value through a local.
	run("wasm-opt", "-O2", "-g", "-o", "out.wasm", "out.wasm")
	binary, err := os.ReadFile(filepath.Join(dir, "out.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	intact, err := wasm.Decode(bytes.Clone(binary))
	if err != nil {
		t.Fatal(err)
	}
	if Infer(intact) != nil {
		t.Error("names are inferred though there are addresses")
	}
	m, names := lose(t, bytes.Clone(binary))
	got := Infer(m)
	named, known := 0, 0
	for i, name := range names {
		if strings.HasPrefix(name, "unit") && !strings.HasPrefix(name, "unit2") {
			known++
		}
		switch {
		case i >= len(got) || got[i] == "":
		case got[i] != name:
			t.Errorf("function %d, %s, is named %s", i, name, got[i])
		default:
			named++
		}
	}
	t.Logf("%d of %d functions with debug information have names", named, known)
	if named < known/2 {
		t.Errorf("%d of %d functions have names", named, known)
	}

	// Damage may make names wrong, and nothing worse.
	for range 40 {
		m, _ := lose(t, bytes.Clone(binary))
		for _, c := range m.Customs {
			for range 1 + r.IntN(3) {
				c.Data[r.IntN(len(c.Data))] ^= 1 << r.IntN(8)
			}
		}
		Infer(m)
	}
}

// TestInferPython compares the names of CPython's functions with what its data say: the tables of methods and attributes
// of its types and modules have a name for Python and the function, and calls that report an error have the file and the
// line. Neither is what the names are inferred from.
func TestInferPython(t *testing.T) {
	binary, err := guests.Python()
	if err != nil {
		t.Skipf("left out: %v", err)
	}
	m, err := wasm.Decode(binary)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	names := Infer(m)
	took := time.Since(start)
	named := 0
	for _, name := range names {
		if name != "" {
			named++
		}
	}
	t.Logf("%d of %d functions have names, in %v", named, len(m.Code), took)
	if named < 6000 {
		t.Errorf("%d functions have names", named)
	}
	p := readPython(m)
	p.checkTables(t, names)
	p.checkLines(t, names)
}

// python is CPython's memory, before it starts.
type python struct {
	module *wasm.Module
	r      *information
	memory []byte
	table  []uint32
}

func readPython(m *wasm.Module) *python {
	p := &python{module: m, r: sections(m), table: functionTable(m)}
	p.r.read()
	p.r.work = 1 << 40
	for _, d := range m.Data {
		var in wasm.Instr
		if wasm.NewReader(d.Offset).Next(&in) != nil {
			continue
		}
		at := int(in.Const)
		if end := at + len(d.Init); end > len(p.memory) {
			p.memory = append(p.memory, make([]byte, end-len(p.memory))...)
		}
		copy(p.memory[at:], d.Init)
	}
	return p
}

func (p *python) word(at uint32) uint32 {
	c := cursor{data: p.memory, at: int(at)}
	return c.u32()
}

func (p *python) text(at uint32) string { return string(terminated(p.memory, uint64(at))) }

// aliases are what CPython's source calls things in the name of a function, by what Python calls them.
var aliases = map[string][]string{
	"__length_hint__": {"_len"}, "__getitem__": {"_subscript"}, "__traceback__": {"_tb"}, "__reversed__": {"_reverse", "_reviter"},
	"__enter__": {"ctxmanager_set_local"}, "__exit__": {"ctxmanager_restore_global"}, "localcontext": {"ctxmanager_new"},
	"setcontext": {"SetCurrentContext"}, "create_decimal_from_float": {"ctx_from_float"}, "co_lines": {"code_linesiterator"},
	"characters_written": {"OSError_written"}, "number_class": {"_class"}, "to_eng_string": {"_to_eng"}, "to_sci_string": {"_to_sci"},
	"normalize": {"qreduce"}, "remainder_near": {"qrem_near"}, "remainder": {"qrem"}, "divide": {"qdiv"}, "divide_int": {"qdivint"},
	"multiply": {"qmul"}, "subtract": {"qsub"}, "power": {"qpow"}, "to_integral": {"round_to_int"}, "to_integral_exact": {"round_to_intx"},
	"logical_invert": {"qinvert"}, "logical_and": {"qand"}, "logical_or": {"qor"}, "logical_xor": {"qxor"},
	"staticmeth": {"spamlist_specialmeth"}, "call_long_compact_api": {"check_long_compact_api"},
	"c_contiguous": {"c_contig"}, "f_contiguous": {"fortran_contig"}, "contiguous": {"_contig"},
	"enable_callback_tracebacks": {"enable_callback_trace"}, "__class_getitem__": {"Py_GenericAlias"},
	"_asyncio_future_blocking": {"_blocking"}, "persistent_id": {"persid"}, "persistent_load": {"persload"}, "conjugate": {"long_long_meth"},
	// Functions that do nothing are all one.
	"flush": {"stdprinter_noop"}, "test_empty_function": {"_opcode_get_specialization_stats"},
	"__copy__": {"hamt_iter_yield_keys"}, "_idfunc": {"hamt_iter_yield_values"},
}

// means says whether a function's name may be that of what Python calls so.
func means(function, name string) bool {
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "") }
	has := func(s string) bool { return strings.Contains(plain(function), plain(s)) }
	// Attributes of frames, generators and code have a letter or two in front.
	_, rest, _ := strings.Cut(name, "_")
	short := slices.Contains([]string{"f", "gi", "cr", "ag", "co"}, strings.TrimSuffix(name, "_"+rest)) || strings.HasPrefix(name, "_co_")
	return has(name) || slices.ContainsFunc(aliases[name], has) || short && has(strings.TrimPrefix(rest, "co_")) ||
		name == "rounding" && has("round") || name == "cell_contents" && has("_contents")
}

func (p *python) checkTables(t *testing.T, names []string) {
	python := map[uint32][]string{}
	for i := range p.r.units {
		u := &p.r.units[i]
		c := &cursor{data: p.r.info[:u.end], at: int(u.entries)}
		for !c.bad && c.at < len(c.data) {
			a := p.r.entry(u, c)
			if a == nil {
				continue
			}
			var name string
			var address, typ uint32
			for _, f := range a.attrs {
				var v value
				c.value(f, &v)
				switch f.name {
				case attrName:
					name = strings.ToLower(p.r.text(f, &v))
				case attrLocation:
					address, _ = location(v.block)
				case attrType:
					typ = u.reference(f, &v)
				}
			}
			if a.tag != tagVariable || address == 0 {
				continue
			}
			// PyMethodDef has a name, a function, flags and a text; PyGetSetDef a name, two functions, a text and a pointer.
			size, functions := uint32(16), uint32(1)
			if strings.Contains(name, "getset") {
				size, functions = 20, 2
			}
			all := uint32(p.r.ctype(u, typ).size)
			if functions == 1 && !strings.Contains(name, "method") || all%size != 0 {
				continue
			}
			for at := address; at < address+all; at += size {
				for k := range functions {
					if f := p.word(at + 4 + 4*k); f > 0 && f < uint32(len(p.table)) && p.text(p.word(at)) != "" {
						python[p.table[f]] = append(python[p.table[f]], p.text(p.word(at)))
					}
				}
			}
		}
	}
	right, without := 0, 0
	for f, list := range python {
		switch {
		case names[f] == "":
			without++
		case slices.ContainsFunc(list, func(name string) bool { return means(names[f], name) }):
			right++
		default:
			t.Errorf("function %d is named %s, and is Python's %s", f, names[f], strings.Join(list, ", "))
		}
	}
	t.Logf("of %d functions in tables %d are right, %d have no name", len(python), right, without)
	if right < 2000 {
		t.Errorf("only %d functions in tables have the right name", right)
	}
}

func (p *python) checkLines(t *testing.T, names []string) {
	type start struct {
		line uint32
		name string
	}
	starts := map[string][]start{} // by file
	for i := range p.r.units {
		u := &p.r.units[i]
		c := &cursor{data: p.r.info[:u.end], at: int(u.entries)}
		a := p.r.entry(u, c)
		if a == nil || !isC(u.language) {
			continue
		}
		file := ""
		for _, f := range a.attrs {
			var v value
			if c.value(f, &v); f.name == attrName {
				file = p.r.text(f, &v)
			}
		}
		for _, f := range p.r.functions[u.functions[0]:u.functions[1]] {
			if f.file == 1 { // the unit's own
				starts[file] = append(starts[file], start{f.line, f.name})
			}
		}
		slices.SortFunc(starts[file], func(a, b start) int { return int(a.line) - int(b.line) })
	}
	right, without := 0, 0
	imported := len(names) - len(p.module.Code)
	for i := range p.module.Code {
		if p.inlines(i) {
			continue // those may be the lines of others
		}
		var list []string
		var in wasm.Instr
		file := ""
		r := wasm.NewReader(p.module.Code[i].Body())
		for r.Next(&in) == nil {
			if in.Op != wasm.OpI32Const {
				file = ""
				continue
			}
			line := uint32(in.Const)
			if s := starts[strings.TrimPrefix(file, "./")]; len(s) > 0 && line > 0 && line < 30000 {
				k, _ := slices.BinarySearchFunc(s, line+1, func(s start, line uint32) int { return int(s.line) - int(line) })
				if k > 0 && !slices.Contains(list, s[k-1].name) {
					list = append(list, s[k-1].name)
				}
			}
			file = p.text(line)
		}
		if len(list) != 1 {
			continue
		}
		switch name := names[imported+i]; name {
		case list[0]:
			right++
		case "":
			without++
		default:
			t.Errorf("function %d is named %s, and has lines of %s", imported+i, name, list[0])
		}
	}
	t.Logf("of functions with lines %d are right, %d have no name", right, without)
	if right < 100 {
		t.Errorf("only %d functions with lines have the right name", right)
	}
}

// inlines says whether the code of a function has more than one frame.
func (p *python) inlines(i int) bool {
	var s scanner
	s.filter = make([]uint64, 1<<14)
	var b body
	s.scan(&b, &p.module.Types[p.module.Functions[i]], p.module.Code[i].Body())
	return b.frames > 1
}

func BenchmarkInfer(b *testing.B) {
	binary, err := guests.Python()
	if err != nil {
		b.Skipf("left out: %v", err)
	}
	m, err := wasm.Decode(binary)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		Infer(m)
	}
}
