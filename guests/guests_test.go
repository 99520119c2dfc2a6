package guests_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/guests"
)

const testdata = "../testdata"

var update = flag.Bool("update", false, "write down what the guests do on plain wazero")

// TestManifest checks that what is committed is what was built: each module is in the manifest with its hash, each source
// has a module, and each guest has a case, but for those that plain wazero can't run.
func TestManifest(t *testing.T) {
	manifest, err := guests.Manifest(testdata)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := guests.Cases(testdata)
	if err != nil {
		t.Fatal(err)
	}
	var modules, sources []string
	for _, g := range manifest {
		modules = append(modules, filepath.Join(testdata, filepath.FromSlash(g.File)))
		sources = append(sources, filepath.Join("..", filepath.FromSlash(g.Source)))
		bin, err := g.Bytes(testdata)
		if err != nil {
			t.Error(err)
		}
		if len(g.Build) == 0 || len(g.Toolchain) == 0 {
			t.Errorf("%s: no build command or toolchain", g.Name)
		}
		if !needsDurun(bin) && !slices.ContainsFunc(cases, func(c guests.Case) bool { return c.Guest == g.Name }) {
			t.Errorf("%s: no case in cases.json runs it", g.Name)
		}
	}
	compare := func(what string, listed []string, patterns ...string) {
		var present []string
		for _, p := range patterns {
			found, err := filepath.Glob(p)
			if err != nil {
				t.Fatal(err)
			}
			present = append(present, found...)
		}
		for _, name := range present {
			if slices.Contains(guests.Unbuilt, strings.TrimPrefix(filepath.ToSlash(name), "../")) {
				continue
			}
			if !slices.Contains(listed, name) {
				t.Errorf("%s %s is not in the manifest; run `make guests`", what, name)
			}
		}
		for _, name := range listed {
			if !slices.Contains(present, name) {
				t.Errorf("%s %s is in the manifest and nowhere else", what, name)
			}
		}
	}
	compare("module", modules, testdata+"/guests/*.wasm", testdata+"/wat/*.wasm")
	compare("source", sources, "../guests/c/*.c", "../guests/c/examples/*.c", "../guests/assemblyscript/examples/*.ts",
		"../guests/asyncify/*.c", "../guests/eh/*.cc", "../guests/go/*", "../guests/rust/*.rs", "../guests/rust/examples/*.rs",
		testdata+"/wat/*.wat")
}

// needsDurun says whether a guest imports functions of durun that do something, where those that plain wazero is given return at once.
// The tests of package runtime and others run such guests.
func needsDurun(bin []byte) bool {
	return bytes.Contains(bin, []byte("\x05durun\x05begin")) || bytes.Contains(bin, []byte("\x05durun\x05input"))
}

// outcome is what a case wants to see.
type outcome struct {
	exit    uint32
	results []string
	trap    string
	awaits  int
	stdout  string
}

// TestCases runs each case on plain wazero, with awaits that return at once: what durun has to equal.
func TestCases(t *testing.T) {
	manifest, err := guests.Manifest(testdata)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := guests.Cases(testdata)
	if err != nil {
		t.Fatal(err)
	}
	cache := wazero.NewCompilationCache()
	defer cache.Close(t.Context())

	// In a group, which ends when all of its parallel cases have.
	t.Run("plain", func(t *testing.T) {
		for i := range cases {
			c := &cases[i]
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				at := slices.IndexFunc(manifest, func(g guests.Guest) bool { return g.Name == c.Guest })
				if at < 0 {
					t.Fatalf("no guest %q", c.Guest)
				}
				bin, err := manifest[at].Bytes(testdata)
				if err != nil {
					t.Fatal(err)
				}
				got := runPlain(t, cache, bin, c)
				if *update {
					c.Exit, c.Results, c.Awaits, c.Stdout = got.exit, got.results, got.awaits, got.stdout
					if c.Trap == "" {
						c.Trap, _, _ = strings.Cut(got.trap, "\n")
					}
				}
				if got.exit != c.Exit || !slices.Equal(got.results, c.Results) || got.awaits != c.Awaits || got.stdout != c.Stdout {
					t.Errorf("got %+v\nwant %+v", got, c)
				}
				if (got.trap == "") != (c.Trap == "") || !strings.Contains(got.trap, c.Trap) {
					t.Errorf("trap %q, want %q", got.trap, c.Trap)
				}
			})
		}
	})
	if *update {
		if err := guests.WriteCases(testdata, cases); err != nil {
			t.Fatal(err)
		}
	}
}

func runPlain(t *testing.T, cache wazero.CompilationCache, bin []byte, c *guests.Case) (got outcome) {
	ctx := t.Context()
	features := api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst |
		experimental.CoreFeaturesExceptionHandling
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features).WithCompilationCache(cache))
	defer r.Close(ctx)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		t.Fatal(err)
	}
	_, err := r.NewHostModuleBuilder("durun").
		NewFunctionBuilder().WithFunc(func(context.Context) { got.awaits++ }).Export("checkpoint").
		NewFunctionBuilder().WithFunc(func(context.Context, uint32, uint32) uint32 { got.awaits++; return 0 }).Export("yield").
		Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}

	providers, err := guests.Providers(bin, c.Globals)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range providers {
		if _, err := r.InstantiateWithConfig(ctx, p, wazero.NewModuleConfig().WithName(name)); err != nil {
			t.Fatal(err)
		}
	}

	var stdout, stderr bytes.Buffer
	config := wazero.NewModuleConfig().WithArgs(append([]string{c.Guest}, c.Args...)...).
		WithStdin(strings.NewReader(c.Stdin)).WithStdout(&stdout).WithStderr(&stderr).
		WithSysNanosleep().WithSysNanotime().WithSysWalltime().WithRandSource(rand.Reader).WithStartFunctions()
	for k, v := range c.Env {
		config = config.WithEnv(k, v)
	}
	fs := wazero.NewFSConfig()
	for place, files := range c.Dirs {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fs = fs.WithDirMount(dir, place)
	}

	entry := c.Entry
	if entry == "" {
		entry = "_start"
	}
	compiled, err := r.CompileModule(ctx, bin)
	if err != nil {
		t.Fatal(err)
	}
	var results []uint64
	mod, err := r.InstantiateModule(ctx, compiled, config.WithFSConfig(fs))
	if err == nil {
		results, err = mod.ExportedFunction(entry).Call(ctx)
	}
	var exit *sys.ExitError
	switch {
	case errors.As(err, &exit):
		got.exit = exit.ExitCode()
	case err != nil:
		got.trap = err.Error()
	default:
		for i, vt := range compiled.ExportedFunctions()[entry].ResultTypes() {
			got.results = append(got.results, fmt.Sprintf("%s:%x", api.ValueTypeName(vt), results[i]))
		}
	}
	got.stdout = stdout.String()
	if stderr.Len() > 0 {
		t.Logf("stderr: %s", stderr.Bytes())
	}
	return got
}
