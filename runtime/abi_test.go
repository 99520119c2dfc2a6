package runtime

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
)

// types writes value types as ABI.md does.
func types(list []api.ValueType) string {
	var names []string
	for _, t := range list {
		names = append(names, api.ValueTypeName(t))
	}
	return "(" + strings.Join(names, ", ") + ")"
}

// TestABIDocument holds ABI.md to what there is: the functions with their types and which of them are await points, the kinds of
// operations, and the codes.
func TestABIDocument(t *testing.T) {
	text, err := os.ReadFile("../hostabi/ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	var functions []string
	for _, f := range abiModule.Functions {
		results := types(f.Results)
		if len(f.Results) == 1 {
			results = strings.Trim(results, "()")
		}
		line := fmt.Sprintf("%s: %s → %s", f.Name, types(f.Params), results)
		if f.Await != nil {
			line += ", await"
		}
		functions = append(functions, line)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)\\((.*)\\)(?: → \\w+)?` \\| `(.*)` \\| (\\*\\*await\\*\\*)?").FindAllStringSubmatch(string(text), -1) {
		line := m[1] + ": " + m[3]
		if m[4] != "" {
			line += ", await"
		}
		documented = append(documented, line)
		if names, params := strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' }), strings.Count(strings.Split(m[3], "→")[0], "i"); len(names) != params {
			t.Errorf("%s has %d parameters by name and %d by type", m[1], len(names), params)
		}
	}
	slices.Sort(functions)
	slices.Sort(documented)
	if diff := cmp.Diff(functions, documented); diff != "" {
		t.Errorf("functions (-there are +in the document):\n%s", diff)
	}

	// A table of numbers and names; it ends where the next heading comes.
	numbered := func(heading string) (names []string) {
		_, section, found := strings.Cut(string(text), "\n### "+heading+"\n")
		if !found {
			t.Fatalf("no section %q", heading)
		}
		section, _, _ = strings.Cut(section, "\n### ")
		section, _, _ = strings.Cut(section, "\n## ")
		for i, m := range regexp.MustCompile(`(?m)^\| (\d+) \| (\w+) \|`).FindAllStringSubmatch(section, -1) {
			if m[1] != strconv.Itoa(i+1) {
				t.Errorf("%s: %s is number %d of the table", heading, m[0], i+1)
			}
			names = append(names, m[2])
		}
		return names
	}
	var kinds, codes []string
	for k := hostabi.OperationKind(1); !strings.HasPrefix(k.String(), "kind "); k++ {
		kinds = append(kinds, k.String())
	}
	for c := hostabi.Code(1); !strings.HasPrefix(c.String(), "code "); c++ {
		codes = append(codes, c.String())
	}
	if diff := cmp.Diff(kinds, numbered("begin")); diff != "" {
		t.Errorf("kinds (-there are +in the document):\n%s", diff)
	}
	if diff := cmp.Diff(codes, numbered("Codes")); diff != "" {
		t.Errorf("codes (-there are +in the document):\n%s", diff)
	}
}

// TestABIOfSDKs holds what the SDKs in C and AssemblyScript say of codes to what there is. That they import functions of the right
// types is seen when their examples are loaded.
func TestABIOfSDKs(t *testing.T) {
	want := 0 // codes, with 0 for none
	for !strings.HasPrefix(hostabi.Code(want).String(), "code ") {
		want++
	}
	for _, sdk := range []struct{ file, pattern string }{
		{"c/durun.h", `DURUN_([A-Z]+) = (\d+),`},
		{"assemblyscript/assembly/code.ts", `(?m)^  (\w+) = (\d+),`},
	} {
		text, err := os.ReadFile(filepath.Join("../guests", sdk.file))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range regexp.MustCompile(sdk.pattern).FindAllStringSubmatch(string(text), -1) {
			code, _ := strconv.Atoi(m[2])
			if name := hostabi.Code(code).String(); strings.ToLower(m[1]) != name {
				t.Errorf("%s: %s = %d, which is %s", sdk.file, m[1], code, name)
			}
			if !strings.Contains(string(text), `"`+hostabi.Code(code).String()+`"`) {
				t.Errorf("%s: code %d has no name", sdk.file, code)
			}
			n++
		}
		if n != want {
			t.Errorf("%s has %d codes, want %d", sdk.file, n, want)
		}
	}
}

// TestSetOutput sets a result that its owner, who writes it piece by piece, goes on to change. What a driver was given stays as it was.
func TestSetOutput(t *testing.T) {
	c := start(t, testRuntime(t), counter(hostabi.ModuleName, hostabi.FuncCheckpoint, 1), StartConfig{})
	value := []byte("abc")
	c.abi.SetOutput(value)
	given := c.Result()
	if allocs := testing.AllocsPerRun(10, func() { c.abi.SetOutput(value) }); allocs > 0 {
		t.Error("a result is copied whenever it is set")
	}
	value[0] = 'x'
	c.abi.SetOutput(value[:2])
	if got := c.Result(); string(got) != "xb" || string(given) != "abc" {
		t.Errorf("results %q and %q, want abc and xb", given, got)
	}
}

// TestRefusedBegin has a guest ask why it could not begin an operation: at once, after one that could, and after it has suspended.
func TestRefusedBegin(t *testing.T) {
	const buf, size = 4096, 64
	why := abiCall(hostabi.FuncMessage, 0, buf, size)
	tooLong := abiCall(hostabi.FuncBegin, uint32(hostabi.Recv), 0, hostabi.MaxSpawnName-10, 0, 0)
	for _, test := range []struct {
		name  string
		calls [][]byte
		want  string
	}{
		{"nothing", [][]byte{why}, ""},
		{"kind", [][]byte{abiCall(hostabi.FuncBegin, 77, 0, 0, 0, 0), why}, "operations of kind 77 are not known"},
		{"length", [][]byte{tooLong, why}, "a name of 65526 bytes, at most 256 are allowed"},
		{"none", [][]byte{tooLong, abiCall(hostabi.FuncBegin, uint32(hostabi.Timer), 0, 0, 0, 8), why}, ""},
		{"suspended", [][]byte{tooLong, abiCall(hostabi.FuncCheckpoint), why}, ""},
	} {
		script := slices.Concat(test.calls...)
		length := 4 * uint32(len(script)/24-1) // where the guest keeps it
		script = slices.Concat(script, abiCall(hostabi.FuncYield, length, 4), abiCall(hostabi.FuncYield, buf, size))
		c := start(t, testRuntime(t), abiCalls(script), StartConfig{})
		var yielded []string
		for {
			status, err := c.Resume(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if status != snapshot.Suspended {
				break
			}
			if value, is := c.Yielded(); is {
				yielded = append(yielded, string(value))
			}
		}
		want := []string{
			string(binary.LittleEndian.AppendUint32(nil, uint32(len(test.want)))),
			test.want + strings.Repeat("\x00", size-len(test.want)),
		}
		if diff := cmp.Diff(want, yielded); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}
