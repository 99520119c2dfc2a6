package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// specCase is a module of the specification's test suite, with the verdict that the suite gives on it.
type specCase struct {
	dir     string // the feature: v1, v2, tail-call, …
	file    string
	line    int
	verdict string // the command in the suite
	data    []byte
	text    string // what the suite says is wrong
}

func (c specCase) String() string {
	return fmt.Sprintf("%s/%s (line %d, %s %q)", c.dir, c.file, c.line, c.verdict, c.text)
}

// valid reports whether the suite takes the module for a valid one. It may still fail to link or to start.
func (c specCase) valid() bool {
	switch c.verdict {
	case "module", "assert_unlinkable", "assert_uninstantiable":
		return true
	}
	return false
}

// specCases returns the suite that wazero is tested with, without modules in the text format.
func specCases(t testing.TB) []specCase {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatalf("locate wazero's test suite: %v", err)
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest")
	var cases []specCase
	text := 0
	files := 0
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".json" {
			return err
		}
		files++
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var script struct {
			Commands []struct {
				Type, Filename, Text string
				Line                 int
			}
		}
		if err := json.Unmarshal(raw, &script); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		rel, _ := filepath.Rel(root, path)
		dir, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
		for _, c := range script.Commands {
			if c.Filename == "" {
				continue
			}
			if filepath.Ext(c.Filename) != ".wasm" {
				text++
				continue
			}
			data, err := os.ReadFile(filepath.Join(filepath.Dir(path), c.Filename))
			if err != nil {
				return err
			}
			cases = append(cases, specCase{dir, c.Filename, c.Line, c.Type, data, c.Text})
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read wazero's test suite: %v", err)
	}
	t.Logf("%d scripts, %d binary modules; left out %d modules in the text format", files, len(cases), text)
	return cases
}

// wazeroFeatures are the features that durun turns on in wazero.
const wazeroFeatures = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst |
	experimental.CoreFeaturesExceptionHandling | experimental.CoreFeaturesTypedFunctionReferences

// wazeroVerdict returns the error with which wazero refuses a module.
func wazeroVerdict(t testing.TB, data []byte) (err error) {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(wazeroFeatures))
	defer r.Close(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("wazero panics: %v", p)
		}
	}()
	_, err = r.CompileModule(ctx, data)
	return err
}

func check(data []byte) (*Module, error) {
	m, err := Decode(data)
	if err != nil {
		return nil, err
	}
	return m, Validate(m)
}

// TestSpec runs every binary module of the suite through Decode and Validate. Where the verdict isn't the suite's, it
// must be wazero's with all features on: the suites of the older features call invalid what the newer ones allow.
func TestSpec(t *testing.T) {
	counts := map[string]int{}
	count := func(c specCase, what string) { counts[c.dir+": "+what]++ }
	total, accepted, refused := 0, 0, 0
	seen := map[Opcode]int{}
	for _, c := range specCases(t) {
		m, err := check(c.data)
		total++
		if c.dir == "threads" {
			// Not for durun. Some of the invalid ones are invalid for other reasons.
			if c.valid() && !errors.Is(err, ErrUnsupported) {
				t.Errorf("%v: error %v, want one that wraps ErrUnsupported", c, err)
			} else if err == nil {
				t.Errorf("%v: accepted", c)
			}
			count(c, "refused, unsupported feature")
			continue
		}
		if err != nil {
			refused++
			if f := (*FormatError)(nil); !errors.As(err, &f) {
				t.Errorf("%v: error %v, want a FormatError", c, err)
			} else if f.Offset < 0 || f.Offset > len(c.data) || f.Section == "" && f.Offset >= 8 && !strings.Contains(f.Msg, "section") {
				t.Errorf("%v: error %v doesn't say where", c, err)
			}
		}
		switch {
		case c.valid() && err == nil:
			accepted++
			count(c, "valid, accepted")
			roundTrip(t, c, m, counts)
			reencode(t, c, m, counts, seen)
		case c.valid():
			if w := wazeroVerdict(t, c.data); w == nil {
				t.Errorf("%v: %v", c, err)
			} else {
				count(c, "valid, refused as by wazero")
				t.Logf("%v: %v (wazero: %v)", c, err, w)
			}
		case err != nil:
			count(c, "invalid, refused")
		default:
			w := wazeroVerdict(t, c.data)
			if w != nil && strings.HasSuffix(w.Error(), "has an empty module name") {
				count(c, "invalid by its suite, accepted; refused by wazero for a rule of its own, no empty module names")
			} else if w != nil {
				t.Errorf("%v: accepted, wazero says %v", c, w)
			} else {
				count(c, "invalid by its suite, accepted as by wazero with all features")
				t.Logf("%v: accepted", c)
			}
		}
	}
	keys := make([]string, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		t.Logf("%5d %s", counts[k], k)
	}
	known := 0
	for _, op := range opcodes() {
		if known++; seen[op] == 0 {
			t.Errorf("%v stands in no valid module of the suite", op)
		}
	}
	t.Logf("%5d instructions, each in a valid module", known)
	if known != 447 {
		t.Errorf("the tables have %d instructions", known)
	}
	if total < 7500 || accepted < 2700 || refused < 4800 {
		t.Errorf("%d modules, %d accepted, %d refused: that can't be the whole suite", total, accepted, refused)
	}
}

// opcodes returns all instructions that the tables have.
func opcodes() []Opcode {
	var ops []Opcode
	for _, prefix := range []Opcode{0, prefixMisc, prefixVector} {
		for i := range Opcode(256) {
			if _, ok := (prefix<<16 | i).Info(); ok {
				ops = append(ops, prefix<<16|i)
			}
		}
	}
	return ops
}

// roundTrip checks that encoding a decoded module gives the same bytes, or, where numbers were padded or types had
// their long form, bytes that decode to the same module and are a fixed point.
func roundTrip(t *testing.T, c specCase, m *Module, counts map[string]int) {
	t.Helper()
	out := m.Encode()
	if bytes.Equal(out, c.data) {
		counts["round trip: the same bytes"]++
		return
	}
	m2, err := Decode(out)
	if err != nil {
		t.Errorf("%v: decode what was encoded: %v", c, err)
		return
	}
	if !bytes.Equal(m2.Encode(), out) {
		t.Errorf("%v: the second encoding differs from the first", c)
	}
	if len(out) >= len(c.data) {
		t.Errorf("%v: %d bytes became %d other bytes", c, len(c.data), len(out))
	}
	if diff := diffModules(m, m2); diff != "" {
		t.Errorf("%v: the module changed (-before +after):\n%s", c, diff)
	}
	counts["round trip: shorter, the same module"]++
}

// diffModules compares modules without what depends on their place in a binary. An empty section is as good as none.
func diffModules(a, b *Module) string {
	normal := func(m *Module) Module {
		n := *m
		n.Customs = slices.Clone(m.Customs)
		for i := range n.Customs {
			n.Customs[i].After = lastPresent(m, n.Customs[i].After)
		}
		return n
	}
	return cmp.Diff(normal(a), normal(b), cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Module{}), cmpopts.IgnoreFields(Code{}, "FileOffset"))
}

// lastPresent returns the id of the last section with entries that is not after the section with the given id.
func lastPresent(m *Module, id byte) byte {
	for o := sectionOrder(id); o >= 0; o-- {
		if len(sections[o].encode(m, nil)) > 0 {
			return sections[o].id
		}
	}
	return 0
}

// reencode checks that AppendInstr and Reader are the inverse of each other on all bodies of a module.
func reencode(t *testing.T, c specCase, m *Module, counts map[string]int, seen map[Opcode]int) {
	t.Helper()
	for i := range m.Code {
		body := m.Code[i].Body()
		for r, in := NewReader(body), new(Instr); r.Next(in) == nil; {
			seen[in.Op]++
		}
		out, err := appendBody(nil, body, true)
		if err != nil {
			t.Errorf("%v: function %d: %v", c, i, err)
			continue
		}
		if bytes.Equal(out, body) {
			counts["bodies: the same bytes"]++
			continue
		}
		again, err := appendBody(nil, out, true)
		if err != nil || !bytes.Equal(again, out) || len(out) >= len(body) {
			t.Errorf("%v: function %d: %x became %x, then %x (%v)", c, i, body, out, again, err)
		}
		counts["bodies: shorter"]++
	}
}

// appendBody takes a body apart and puts it together again. With compare it checks each instruction.
func appendBody(dst, body []byte, compare bool) ([]byte, error) {
	r := NewReader(body)
	var in Instr
	for {
		err := r.Next(&in)
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
		n := len(dst)
		dst = AppendInstr(dst, &in)
		if !compare {
			continue
		}
		var back Instr
		if err := NewReader(dst[n:]).Next(&back); err != nil {
			return dst, fmt.Errorf("%v: %w", in.Op, err)
		}
		if in.String() != back.String() {
			return dst, fmt.Errorf("%v became %v", in.String(), back.String())
		}
	}
}
