// Command mkguests builds the guests into testdata/ and writes their manifest; `make guests` runs it, in the root of the
// repository. Names as arguments build these guests only; -check builds them elsewhere, and compares (`make guests-check`); -python
// fetches CPython instead (`make python`), -ruby CRuby (`make ruby`). The tools can be chosen by the environment: CLANG,
// SYSROOT, RUSTC, WAT2WASM, WASM_OPT.
package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/durun/durun/guests"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./guests/mkguests [-python | -ruby | [-check] NAME…]")
	}
	check := flag.Bool("check", false, "see whether the guests are what their sources make, where the toolchain is the one that built them")
	python := flag.Bool("python", false, "fetch CPython into the cache")
	ruby := flag.Bool("ruby", false, "fetch CRuby into the cache")
	flag.Parse()
	do := func() error { return run(flag.Args(), *check) }
	switch {
	case *python:
		do = func() error { return fetch(guests.CPython) }
	case *ruby:
		do = func() error { return fetch(guests.CRuby) }
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "mkguests:", err)
		os.Exit(1)
	}
}

// A language knows how to build one source file, or folder, into a module.
type language struct {
	sources  string                                 // a pattern
	folder   string                                 // of the module, under testdata/
	prefix   string                                 // of the module's name, before the source's
	versions [][]string                             // commands whose first line names a tool's version
	commands func(name, src, out string) [][]string // run in the source's folder; $TMP is a scratch folder, $ROOT the repository's
	env      []string
}

// linkFlags are what C guests want of the linker, by name.
var linkFlags = map[string][]string{
	"imported": {"-Wl,--import-memory", "-Wl,--import-table"},
}

func env(name, fallback string) string { return cmp.Or(os.Getenv(name), fallback) }

func languages() []language {
	clang, sysroot := env("CLANG", "clang"), env("SYSROOT", "/usr")
	rustc := env("RUSTC", "/usr/bin/rustc")
	wat2wasm := env("WAT2WASM", "wat2wasm")
	wasmOpt := env("WASM_OPT", "wasm-opt")
	return []language{
		{
			sources:  "guests/c/*.c",
			folder:   "guests",
			versions: [][]string{{clang, "--version"}, {"dpkg-query", "-W", "-f", "${Package} ${Version}", "wasi-libc"}},
			commands: func(name, src, out string) [][]string {
				// Two steps: a linking clang that sees -O2 runs wasm-opt where one is installed, and loses the names.
				link := []string{clang, "--target=wasm32-wasi", "--sysroot=" + sysroot, "-Wl,-z,stack-size=1048576", "-Wl,--strip-debug"}
				return [][]string{
					{clang, "--target=wasm32-wasi", "--sysroot=" + sysroot, "-O2", "-Wall", "-Wextra", "-c", "-o", "$TMP/" + name + ".o", src},
					append(append(link, linkFlags[name]...), "-o", out, "$TMP/"+name+".o"),
				}
			},
		},
		{
			// The examples of the SDK, which is a header.
			sources:  "guests/c/examples/*.c",
			folder:   "guests",
			prefix:   "c-",
			versions: [][]string{{clang, "--version"}, {"dpkg-query", "-W", "-f", "${Package} ${Version}", "wasi-libc"}},
			commands: func(name, src, out string) [][]string {
				target := []string{clang, "--target=wasm32-wasi", "--sysroot=" + sysroot}
				return [][]string{
					append(target[:3:3], "-std=c99", "-O2", "-Wall", "-Wextra", "-I..", "-c", "-o", "$TMP/"+name+".o", src),
					append(target[:3:3], "-Wl,--strip-debug", "-o", out, "$TMP/"+name+".o"),
				}
			},
		},
		{
			// The examples of the SDK, which is a package like any other to them.
			sources:  "guests/assemblyscript/examples/*.ts",
			folder:   "guests",
			prefix:   "assemblyscript-",
			versions: [][]string{{"node", "-p", "'node ' + process.version"}},
			commands: func(_, src, out string) [][]string {
				return [][]string{
					{"npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", "$TMP", "assemblyscript@0.28.20", ".."},
					{
						"node", "$TMP/node_modules/assemblyscript/bin/asc.js", src, "--config", "../asconfig.json", "--path", "$TMP/node_modules",
						"-O", "--debug", "-o", out,
					},
				}
			},
		},
		{
			// Programs with coroutines of their own, by Binaryen's Asyncify: of what they import only its own functions switch.
			sources:  "guests/asyncify/*.c",
			folder:   "guests",
			versions: [][]string{{clang, "--version"}, {"dpkg-query", "-W", "-f", "${Package} ${Version}", "wasi-libc"}, {wasmOpt, "--version"}},
			commands: func(name, src, out string) [][]string {
				return [][]string{
					{clang, "--target=wasm32-wasi", "--sysroot=" + sysroot, "-O2", "-Wall", "-Wextra", "-c", "-o", "$TMP/" + name + ".o", src},
					{clang, "--target=wasm32-wasi", "--sysroot=" + sysroot, "-Wl,-z,stack-size=1048576", "-Wl,--strip-debug", "-o", "$TMP/" + name + ".wasm", "$TMP/" + name + ".o"},
					{wasmOpt, "--asyncify", "--pass-arg=asyncify-ignore-imports", "-O2", "-g", "-o", out, "$TMP/" + name + ".wasm"},
				}
			},
		},
		{
			// clang 14 writes the exception instructions of old, which a later Binaryen than Debian's translates.
			sources:  "guests/eh/*.cc",
			folder:   "guests",
			versions: [][]string{{clang, "--version"}, {"dpkg-query", "-W", "-f", "${Package} ${Version}", "wasi-libc"}},
			commands: func(name, src, out string) [][]string {
				compile := []string{clang, "--target=wasm32-wasi", "--sysroot=" + sysroot, "-O2", "-Wall", "-std=c++17", "-nostdinc++", "-fwasm-exceptions", "-c", "-o"}
				return [][]string{
					append(compile[:len(compile):len(compile)], "$TMP/"+name+".o", src),
					append(compile[:len(compile):len(compile)], "$TMP/runtime.o", "runtime/runtime.cc"),
					{clang, "--target=wasm32-wasi", "--sysroot=" + sysroot, "-Wl,-z,stack-size=1048576", "-Wl,--strip-debug", "-o", "$TMP/" + name + ".wasm", "$TMP/" + name + ".o", "$TMP/runtime.o"},
					{"npm", "install", "--silent", "--no-fund", "--prefix", "$TMP", "binaryen@132.0.0"},
					{
						"node", "$TMP/node_modules/binaryen/bin/wasm-opt", "--mvp-features", "--enable-exception-handling", "--enable-reference-types",
						"--enable-multivalue", "--enable-bulk-memory", "--enable-sign-ext", "--enable-mutable-globals", "--enable-nontrapping-float-to-int",
						"--translate-to-exnref", "-g", "-o", out, "$TMP/" + name + ".wasm",
					},
				}
			},
		},
		{
			sources:  "guests/go/*",
			folder:   "guests",
			versions: [][]string{{"go", "version"}},
			commands: func(_, src, out string) [][]string {
				return [][]string{{"go", "build", "-trimpath", "-buildvcs=false", "-o", out, "./" + src}}
			},
			env: []string{"GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWASM="},
		},
		{
			sources:  "guests/rust/*.rs",
			folder:   "guests",
			versions: [][]string{{rustc, "--version"}},
			commands: func(_, src, out string) [][]string {
				return [][]string{{rustc, "--edition=2021", "--target=wasm32-wasi", "-O", "-C", "strip=debuginfo", "-o", out, src}}
			},
		},
		{
			// The examples of the SDK. The crate is compiled without cargo, whose output depends on where it runs.
			sources:  "guests/rust/examples/*.rs",
			folder:   "guests",
			prefix:   "rust-",
			versions: [][]string{{rustc, "--version"}},
			commands: func(_, src, out string) [][]string {
				// Where a panic comes from is told by the path of the source, which shall not be this machine's.
				compile := []string{rustc, "--edition=2021", "--target=wasm32-wasi", "-O", "--remap-path-prefix=$ROOT=."}
				return [][]string{
					append(compile[:len(compile):len(compile)], "--crate-type=rlib", "--crate-name=durun", "--cfg", `feature="std"`, "-o", "$TMP/libdurun.rlib", "../durun/src/lib.rs"),
					append(compile[:len(compile):len(compile)], "--extern", "durun=$TMP/libdurun.rlib", "-C", "strip=debuginfo", "-o", out, src),
				}
			},
		},
		{
			sources:  "testdata/wat/*.wat",
			folder:   "wat",
			versions: [][]string{{wat2wasm, "--version"}},
			commands: func(_, src, out string) [][]string {
				// --enable-all would have wabt type ref.func as a typed reference, which no table.set then takes.
				return [][]string{{wat2wasm, "--debug-names", "--enable-tail-call", "--enable-extended-const", "-o", out, src}}
			},
		},
	}
}

func run(only []string, check bool) error {
	manifest, err := guests.Manifest("testdata")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	old := map[string]guests.Guest{}
	for _, g := range manifest {
		old[g.Name] = g
	}
	tmp, err := os.MkdirTemp("", "mkguests-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	testdata := "testdata"
	if check {
		testdata = filepath.Join(tmp, "testdata")
	}

	var list []guests.Guest
	var differ []string
	for _, lang := range languages() {
		sources, err := filepath.Glob(lang.sources)
		if err != nil {
			return err
		}
		var toolchain []string
		for _, src := range sources {
			if slices.Contains(guests.Unbuilt, filepath.ToSlash(src)) {
				continue
			}
			base := filepath.Base(src)
			name := lang.prefix + strings.TrimSuffix(base, filepath.Ext(base))
			if g, ok := old[name]; ok && len(only) > 0 && !slices.Contains(only, name) {
				list = append(list, g)
				continue
			}
			if toolchain == nil {
				if toolchain, err = lang.versionsOf(); err != nil {
					return err
				}
			}
			g := guests.Guest{
				Name:      name,
				File:      lang.folder + "/" + name + ".wasm",
				Source:    filepath.ToSlash(src),
				Toolchain: toolchain,
			}
			if was := old[name].Toolchain; check && !slices.Equal(toolchain, was) {
				fmt.Printf("%-28s not checked: it is built by %q, and here is %q\n", name, was, toolchain)
				list = append(list, g)
				continue
			}
			if err := lang.build(&g, src, testdata, tmp); err != nil {
				return fmt.Errorf("build %s: %w", name, err)
			}
			fmt.Printf("%-28s %8d bytes  %s\n", name, g.Size, g.SHA256[:16])
			list = append(list, g)
			if was := old[name]; !slices.Equal(g.Build, was.Build) || g.SHA256 != was.SHA256 {
				differ = append(differ, name)
			}
		}
	}
	for _, name := range only {
		if !slices.ContainsFunc(list, func(g guests.Guest) bool { return g.Name == name }) {
			return fmt.Errorf("no guest is called %s", name)
		}
	}
	if check {
		if len(differ) > 0 {
			return fmt.Errorf("not what their sources make: %s; run `make guests`", strings.Join(differ, ", "))
		}
		return nil
	}
	slices.SortFunc(list, func(a, b guests.Guest) int { return cmp.Compare(a.File, b.File) })
	return guests.WriteManifest("testdata", list)
}

func (l language) versionsOf() ([]string, error) {
	var out []string
	for _, v := range l.versions {
		b, err := exec.Command(v[0], v[1:]...).Output()
		if err != nil && v[0] == "dpkg-query" {
			continue // not on Debian
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w; on Debian 12 the guests need the packages that .ci/run names", v[0], err)
		}
		first, _, _ := strings.Cut(string(b), "\n")
		if v[0] == env("WAT2WASM", "wat2wasm") {
			first = "wabt " + first
		}
		out = append(out, first)
	}
	return out, nil
}

// build runs the language's commands, with the module going to a folder like testdata, and writes down what they made.
func (l language) build(g *guests.Guest, src, testdata, tmp string) error {
	dir := filepath.Dir(src)
	module := filepath.Join(testdata, filepath.FromSlash(g.File))
	if err := os.MkdirAll(filepath.Dir(module), 0o755); err != nil {
		return err
	}
	out, err := filepath.Rel(dir, filepath.Join("testdata", filepath.FromSlash(g.File)))
	if err != nil {
		return err
	}
	out = filepath.ToSlash(out)
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	inPlace := strings.NewReplacer("$TMP", tmp, "$ROOT", root)
	for _, argv := range l.commands(g.Name, filepath.Base(src), out) {
		g.Build = append(g.Build, strings.Join(append(slices.Clone(l.env), argv...), " "))
		for i := range argv {
			if argv[i] = inPlace.Replace(argv[i]); argv[i] == out && filepath.IsAbs(module) {
				argv[i] = module
			}
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), l.env...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
		}
	}
	if err := os.Chmod(module, 0o644); err != nil {
		return err
	}
	b, err := os.ReadFile(module)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	g.SHA256, g.Size = hex.EncodeToString(sum[:]), int64(len(b))
	return nil
}
