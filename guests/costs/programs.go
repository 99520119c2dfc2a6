package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/durun/durun/guests"
)

// A program prints "name seconds" for each part of what it does.
type program struct {
	name   string
	find   func(*bench) (path string, err error) // an error: it is left out
	args   []string
	groups []group
	repeat int  // runs in each round: more for one that takes a moment only
	small  bool // part of a smoke test
	whole  bool // measure the transform and awaits, too

	// For a program that is measured whole:
	sleeper []string // arguments to sleep forever in the same place
	steps   []string // arguments to print and sleep for ever
}

// group is some parts of a program, with a name for the table.
type group struct {
	name  string
	parts []string
}

const pythonLoad = `
import time, json
def fib(n): return n if n < 2 else fib(n-1) + fib(n-2)
def loop():
    s = 0
    for i in range(1000000): s += i * i
def table():
    d = {}
    for i in range(200000): d[str(i)] = i
    sorted(d.keys())
def trips():
    for _ in range(400): json.loads(json.dumps(list(range(500))))
for name, part in ("loop", loop), ("fib", lambda: fib(28)), ("dict", table), ("json", trips):
    start = time.perf_counter(); part(); print(name, time.perf_counter() - start)
`

// pythonSleeper sleeps in calls through C, as calls from Python to Python take no frame of C.
const pythonSleeper = `
import time
def down(n):
    if n: list(map(down, (n - 1,)))
    while not n: time.sleep(1e-9)
down(3)
`

// pythonSteps does little between one sleep and the next, with much in memory.
const pythonSteps = `
import time
data = [i * 3 for i in range(500000)]
i = 0
while True:
    data[i % 500 * 1000] += 1
    print(i, data[i % 500 * 1000], flush=True)
    time.sleep(1e-3)
    i += 1
`

var programs = []program{
	{
		name: "CPython 3.12", find: findPython, args: []string{"-c", pythonLoad}, repeat: 1,
		groups:  []group{{"CPython 3.12", []string{"loop", "fib", "dict", "json"}}},
		whole:   true,
		sleeper: []string{"-c", pythonSleeper},
		steps:   []string{"-c", pythonSteps},
	},
	{
		name: "interpreter in C", find: findBuilt("interp"), args: []string{"bench"}, repeat: 3, small: true,
		groups: []group{{"bytecode interpreter in C", []string{"fib", "loop", "strings"}}},
	},
	{
		name: "calls in C", find: findBuilt("calls"), repeat: 3, small: true,
		groups: []group{
			{"C in which every call may suspend", []string{"fib", "qsort", "tree", "dispatch"}},
			{"C that can't suspend", []string{"leaf"}},
		},
	},
	{
		name: "Go guest", find: buildGo, repeat: 1,
		groups: []group{{"Go", []string{"json", "sort", "fib", "channels"}}},
	},
}

var errShort = errors.New("a smoke test has the small programs only (no -short for all)")

func findPython(*bench) (string, error) {
	if _, err := guests.Python(); err != nil {
		return "", err
	}
	return guests.PythonPath()
}

// findBuilt returns the way to a guest that the repository has.
func findBuilt(name string) func(*bench) (string, error) {
	return func(*bench) (string, error) {
		path := filepath.Join("testdata", "guests", name+".wasm")
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%w; run in the root of the repository", err)
		}
		return path, nil
	}
}

// goGuest is the source of a guest that is built here, with the Go there is.
const goGuest = "guests/go/bench"

func buildGo(b *bench) (string, error) {
	b.progress("build %s for wasip1", goGuest)
	path := b.artefact("bench.wasm")
	cmd := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", path, "./"+goGuest)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWASM=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", goGuest, err, tail(out))
	}
	return path, nil
}
