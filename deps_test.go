// Package durun_test holds what concerns the whole repository.
package durun_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/durun/durun"

// sdks are what an embedder must not link unless it asks for it: clients of clouds and of message brokers.
var sdks = []string{
	"cloud.google.com/go/...",
	"github.com/Azure/...",
	"github.com/aws/...",
	"github.com/minio/...",
	"github.com/nats-io/...",
	"gocloud.dev/...",
}

// embedded is what a program links that imports the packages for embedders: docs/embedding.md says so.
var embedded = []string{
	"./...",
	"std",
	"github.com/fxamacker/cbor/v2",
	"github.com/klauspost/compress/...",
	"github.com/tetratelabs/wazero/...",
	"github.com/x448/float16", // of cbor
	"golang.org/x/sys/...",
}

// rules say which imports there are not, as ARCHITECTURE.md draws it. A pattern is a path, or a path and "/..." for it and
// all below; the paths are relative to the module where they start with "./".
var rules = []struct {
	from   string
	except []string // of from
	never  []string // not reached by any way
	direct []string // not imported, but may be reached
	only   []string // if set, nothing else is reached, but for the standard library and from itself
	later  bool     // from need not exist yet
}{
	{from: "./runtime/internal/wasm", only: []string{"std"}},
	{
		from:  "./runtime/internal/instrument/...",
		never: []string{"./snapshot/...", "./hostabi/...", "./runtime", "./cmd/...", "./runtime/internal/linmem/..."},
		later: true,
	},
	{from: "./runtime/internal/linmem", only: []string{"std", "golang.org/x/sys/..."}},
	{
		from:  "./snapshot/...",
		never: []string{"github.com/tetratelabs/wazero/...", "./runtime/...", "./hostabi/...", "./cmd/..."},
	},
	{from: "./snapshot", never: append([]string{"./snapshot/bucket/file", "./snapshot/bucket/s3/..."}, sdks...)},
	{from: "./snapshot/bucket/...", except: []string{"./snapshot/bucket/buckettest"}, never: []string{"./snapshot"}},
	{from: "./snapshot/bucket/...", except: []string{"./snapshot/bucket/s3/..."}, never: sdks},
	{from: "./...", except: []string{"./snapshot/bucket/s3/..."}, direct: sdks},
	{from: "./hostabi/...", never: append([]string{"./runtime/...", "./cmd/..."}, sdks...)},
	{
		from:   "./runtime/...",
		except: []string{"./runtime/worker/..."},
		never:  append([]string{"./cmd/...", "github.com/spf13/...", "./snapshot/bucket/file", "./snapshot/bucket/s3/...", "./snapshot/bucket/mem"}, sdks...),
	},
	// What an embedder links beside its choice of drivers.
	{from: "./runtime/...", only: embedded},
	{from: "./hostabi/...", only: embedded},
	{from: "./snapshot/bucket/file", only: embedded},
	{
		from:   "./runtime/handler",
		never:  []string{"./runtime", "./runtime/internal/...", "./snapshot/..."},
		direct: []string{"github.com/tetratelabs/wazero/..."},
	},
	// The compiler keeps the command out of runtime/internal; that it brings no engine of its own is for this.
	{from: "./cmd/...", direct: []string{"./runtime/internal/..."}},
	{from: "./...", except: []string{"./guests/..."}, never: []string{"./guests/..."}},
	{from: "./...", never: []string{"github.com/stretchr/...", "github.com/pkg/errors"}},
}

// pkg is what `go list -json` says of one package.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

func TestDependencies(t *testing.T) {
	pkgs := list(t)
	for _, r := range rules {
		found := false
		for _, path := range slices.Sorted(maps.Keys(pkgs)) {
			p := pkgs[path]
			if !match(r.from, path) || slices.ContainsFunc(r.except, func(e string) bool { return match(e, path) }) {
				continue
			}
			found = true
			for _, dep := range p.Deps {
				is := func(pattern string) bool { return match(pattern, dep) }
				if slices.ContainsFunc(r.never, is) {
					t.Errorf("%s reaches %s: %s", path, dep, strings.Join(way(pkgs, path, dep), " → "))
				}
				if r.only != nil && !pkgs[dep].Standard && !match(r.from, dep) && !slices.ContainsFunc(r.only, is) {
					t.Errorf("%s may reach %v only, and reaches %s: %s", path, r.only, dep, strings.Join(way(pkgs, path, dep), " → "))
				}
			}
			for _, dep := range p.Imports {
				if slices.ContainsFunc(r.direct, func(pattern string) bool { return match(pattern, dep) }) {
					t.Errorf("%s imports %s", path, dep)
				}
			}
		}
		if !found && !r.later {
			t.Errorf("the rule for %s meets no package", r.from)
		}
	}
}

// list describes the packages of this module and all they reach.
func list(t *testing.T) map[string]*pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	pkgs := map[string]*pkg{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs[p.ImportPath] = &p
	}
}

// match says whether the pattern means the package.
func match(pattern, path string) bool {
	if rest, ok := strings.CutPrefix(pattern, "./"); ok {
		if pattern = module + "/" + rest; rest == "..." {
			pattern = module + "/..."
		}
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == tree || strings.HasPrefix(path, tree+"/")
	}
	return path == pattern
}

// way finds a shortest chain of imports.
func way(pkgs map[string]*pkg, from, to string) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at == to {
			var chain []string
			for ; at != ""; at = before[at] {
				chain = append(chain, at)
			}
			slices.Reverse(chain)
			return chain
		}
		for _, next := range pkgs[at].Imports {
			if _, seen := before[next]; !seen && pkgs[next] != nil {
				before[next] = at
				queue = append(queue, next)
			}
		}
	}
	return []string{from, "?", to}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"./snapshot", module + "/snapshot", true},
		{"./snapshot", module + "/snapshot/bucket", false},
		{"./snapshot/...", module + "/snapshot/bucket", true},
		{"./snapshot/...", module + "/snapshots", false},
		{"./...", module + "/cmd/durun", true},
		{"./...", "fmt", false},
		{"github.com/minio/...", "github.com/minio/minio-go/v7", true},
	} {
		if got := match(c.pattern, c.path); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.path, got)
		}
	}
}
