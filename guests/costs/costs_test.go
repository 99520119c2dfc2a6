package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/snapshot"
)

// TestMain makes the test binary the program itself where that starts itself anew.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// testBench is a bench of one round in the root of the repository, with a cache of its own.
func testBench(t *testing.T) *bench {
	t.Chdir(filepath.Join("..", ".."))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	b, err := newBench(t.Context(), 1, false, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

// TestSmoke runs what -short runs.
func TestSmoke(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	var out, log bytes.Buffer
	if err := run(t.Context(), []string{"-short", "-o", "json"}, &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, log.Bytes())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, p := range programs {
		for _, g := range p.groups {
			for _, part := range g.parts {
				if p.small {
					want = append(want, g.name+": "+part)
				}
			}
		}
	}
	commits, small, operations := 0, 0, 0
	for _, row := range r.Rows {
		if row.Name == meanName {
			continue
		}
		if row.Group == groupStore {
			if commits++; row.Durun == nil || row.Durun.Median <= 0 || row.Unit == unitTimes && row.Durun.Median > 100 {
				t.Errorf("%s: %s: %v %s", row.Group, row.Name, row.Durun, row.Unit)
			}
			continue
		}
		if row.Group == groupOperations {
			if operations++; row.Durun == nil || row.Durun.Median <= 0 {
				t.Errorf("%s: %s: %v", row.Group, row.Name, row.Durun)
			}
			continue
		}
		if row.Group == groupSmall {
			// When all are evicted there may be less than before.
			if small++; row.Durun == nil || row.Durun.Median <= 0 && row.Unit != unitMebibytes {
				t.Errorf("%s: %s: %v", row.Group, row.Name, row.Durun)
			}
			continue
		}
		got = append(got, row.Group+": "+row.Name)
		// Wide enough for any machine; what it catches is a figure of something else.
		if row.PlainSeconds == nil || row.Durun == nil || row.Durun.Median < 0.05 || row.Durun.Median > 20 {
			t.Errorf("%s: %s: plain %v, durun %v", row.Group, row.Name, row.PlainSeconds, row.Durun)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("figures (-want +got):\n%s", d)
	}
	if want := 3*len(writers) + 3; commits != want {
		t.Errorf("%d figures of commits, want %d", commits, want)
	}
	for _, l := range r.LeftOut {
		if strings.HasPrefix(l.What, groupSmall) { // memory, where the system doesn't tell
			small += 2
		}
	}
	if small != 6 {
		t.Errorf("%d figures of small guests, want 6", small)
	}
	if operations != 11 {
		t.Errorf("%d figures of operations, want 11", operations)
	}
	for _, p := range programs {
		left := slices.ContainsFunc(r.LeftOut, func(l leftOut) bool { return l.What == p.name && l.Reason != "" })
		if left == p.small {
			t.Errorf("%s: left out: %v", p.name, left)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-o", "xml"}, {"-only", "some"}, {"more"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	if err := runVerb([]string{"walk"}); err == nil {
		t.Error("an unknown verb gives no error")
	}
}

// TestTransformAndAwaits measures of a small program what `make bench` measures of CPython.
func TestTransformAndAwaits(t *testing.T) {
	b := testBench(t)
	path, err := findBuilt("interp")(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.measureTransform("interp", path, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.measureAwaits("interp", path, []string{"-c", "begin 1 sleep 0 until"}); err != nil {
		t.Fatal(err)
	}
	if got, want := len(b.report.Rows), 6-len(b.report.LeftOut); got != want {
		t.Errorf("%d rows, want %d; left out: %v", got, want, b.report.LeftOut)
	}
	for _, row := range b.report.Rows {
		// How long an await takes can be measured as nothing where the clock is coarse.
		if row.Durun == nil || row.Durun.Median <= 0 && row.Unit != unitMicroseconds {
			t.Errorf("%s: %s: %v", row.Group, row.Name, row.Durun)
		}
		if row.Name == "size of the code" && (row.Durun.Median < 0.9 || row.Durun.Median > 3) {
			t.Errorf("the code is %.2f times the original's", row.Durun.Median)
		}
	}
}

// TestCommits measures of a small program what `make bench` measures of CPython.
func TestCommits(t *testing.T) {
	// What it builds is built already, in Go's cache.
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
	b := testBench(t)
	b.short = true
	path, err := findBuilt("interp")(b)
	if err != nil {
		t.Fatal(err)
	}
	steps := []string{"-c", "begin 1 . cr 1 sleep 0 until"}
	if err := b.measureCommits("interp", path, steps); err != nil {
		t.Fatal(err)
	}
	const figures, growing = 8, 5
	if len(b.report.Rows) != figures+growing {
		t.Fatalf("%d rows", len(b.report.Rows))
	}
	for _, row := range b.report.Rows[:figures] {
		if row.Durun == nil || row.Durun.Median <= 0 {
			t.Errorf("%s: %s: %v", row.Group, row.Name, row.Durun)
		}
	}
	for _, row := range b.report.Rows[figures:] {
		if len(row.After) != 3 || row.After[2].Commits != 100 || row.After[0].Value <= 0 {
			t.Errorf("%s: %v", row.longName(), row.After)
		}
	}
	if err := b.measureTogether("interp", path, steps); err != nil {
		t.Fatal(err)
	}
	if got, want := len(b.report.Rows), figures+growing+2-2*len(b.report.LeftOut); got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
}

// TestGrowth checks that what a coroutine takes, of which some commits are kept, doesn't grow with their number.
func TestGrowth(t *testing.T) {
	b := testBench(t)
	path, err := findBuilt("interp")(b)
	if err != nil {
		t.Fatal(err)
	}
	var got []grown
	// It puts noise on its stack first, so that the root is worth a chain.
	const program = `1 !n 0 !i begin @n 6364136223846793005 * 1442695040888963407 + !n @n @i 1 + !i 1500 @i < until begin 1 . cr 1 sleep 0 until`
	if err := childJSON(b, &got, "growth", b.artefact("durun"), "1000", path, "-c", program); err != nil {
		t.Fatal(err)
	}
	want := []int{1, 10, 100, 1000}
	for i, g := range got {
		if i >= len(want) || g.Commits != want[i] {
			t.Fatalf("after %d commits, want %d", g.Commits, want)
		}
		// A pass drops commits every 64, and one that is slow lets 512 more be made.
		const most = snapshot.MaxDeltas + 2
		if root := got[0].ObjectsBytes; g.Reads > most || g.ReadBytes > 3*root || g.Objects > 10+10*64+3*most || g.Micros <= 0 {
			t.Errorf("after %d commits: %+v", g.Commits, g)
		}
	}
	if last := got[len(got)-1]; len(got) != len(want) || last.Reads < 2 {
		t.Errorf("%d times, at last %+v", len(got), last)
	}
}

// TestAwaitsEnd checks that a program which doesn't sleep forever is no basis for a figure.
func TestAwaitsEnd(t *testing.T) {
	b := testBench(t)
	path, err := findBuilt("interp")(b)
	if err != nil {
		t.Fatal(err)
	}
	err = b.measureAwaits("interp", path, []string{"-c", "1 sleep 1 sleep"})
	if err == nil || !strings.Contains(err.Error(), "the program ended") {
		t.Errorf("error %v", err)
	}
}

// TestAsyncify runs wasm-opt, and checks that it isn't run for the same module again.
func TestAsyncify(t *testing.T) {
	b := testBench(t)
	y, err := b.findBinaryen()
	if err != nil {
		t.Skipf("left out: %v", err)
	}
	path, err := findBuilt("interp")(b)
	if err != nil {
		t.Fatal(err)
	}
	made, err := y.asyncify(b, path)
	if err != nil {
		t.Fatal(err)
	}
	y.path = filepath.Join(t.TempDir(), "nosuch")
	again, err := y.asyncify(b, path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(made, again); d != "" {
		t.Errorf("from the cache (-made +again):\n%s", d)
	}
	before, err := codeSize(path)
	if err != nil {
		t.Fatal(err)
	}
	after, err := codeSize(made.Path)
	if err != nil {
		t.Fatal(err)
	}
	if after <= before {
		t.Errorf("asyncify made %d bytes of code of %d", after, before)
	}
	p := program{name: "interp", args: []string{"-c", "1 ."}}
	if a, err := b.asyncified(p, path, y); err != nil || a == nil || len(b.report.LeftOut) > 0 {
		t.Errorf("%v, %v; left out: %v", a, err, b.report.LeftOut)
	}
	p.args = []string{"-c", "no such word"} // the program fails
	if a, err := b.asyncified(p, path, y); err != nil || a != nil || len(b.report.LeftOut) != 1 {
		t.Errorf("%v, %v; left out: %v", a, err, b.report.LeftOut)
	}
	y.version += " of another kind"
	if _, err := y.asyncify(b, path); err == nil {
		t.Error("another wasm-opt takes the same cache")
	}
}

// TestWithoutBinaryen checks what is said where nothing but Go is installed.
func TestWithoutBinaryen(t *testing.T) {
	b := testBench(t)
	t.Setenv("PATH", t.TempDir())
	if _, err := b.findBinaryen(); err == nil || !strings.Contains(err.Error(), "binaryen") {
		t.Errorf("asyncify: %v", err)
	}
	if _, err := findPython(b); err == nil || !strings.Contains(err.Error(), "make python") {
		t.Errorf("CPython: %v", err)
	}
}

// TestGoGuest runs the Go guest where Go's programs usually run, with a small part of its work.
func TestGoGuest(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	out, err := exec.CommandContext(t.Context(), "go", "run", "./"+goGuest, "1000").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := seconds(out)
	i := slices.IndexFunc(programs, func(p program) bool { return p.name == "Go guest" })
	for _, part := range programs[i].groups[0].parts {
		if _, ok := got[part]; !ok {
			t.Errorf("no part %q in %q", part, out)
		}
	}
}

// TestBenchmarkAwait holds the names that [bench.benchmarkAwait] relies on.
func TestBenchmarkAwait(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "..", "runtime", "bench_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"func BenchmarkAwait(b *testing.B)", `"rewind-after-%d"`, "{maxNatives, 1}"} {
		if !bytes.Contains(source, []byte(text)) {
			t.Errorf("runtime/bench_test.go has no %s", text)
		}
	}
	native, rebuilt := awaitTimes([]byte(`goos: linux
BenchmarkAwait/rewind-after-4096-2         	     300	     72051 ns/op	        35.00 frames
BenchmarkAwait/rewind-after-1         	     300	   1900000.5 ns/op	        35.00 frames
PASS
`))
	if d := cmp.Diff([][]float64{{72051}, {1900000.5}}, [][]float64{native, rebuilt}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSeconds(t *testing.T) {
	got := seconds([]byte("fib 0.126389\njson 4.7e-05\nnot 1 this\nchecksum 15\nhash 1.5x\n"))
	if d := cmp.Diff(map[string]float64{"fib": 0.126389, "json": 4.7e-05}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSummarise(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   figure
	}{
		{[]float64{3}, figure{3, 3, 3, 1}},
		{[]float64{2, 1}, figure{1.5, 1, 2, 2}},
		{[]float64{9, 1, 3, 2, 8, 4, 7}, figure{4, 2, 8, 7}},
	} {
		if d := cmp.Diff(&c.want, summarise(c.values)); d != "" {
			t.Errorf("%v (-want +got):\n%s", c.values, d)
		}
	}
}

func TestCodeSize(t *testing.T) {
	const header = "\x00asm\x01\x00\x00\x00"
	for _, c := range []struct {
		module string
		want   int // -1 for an error
	}{
		{header + "\x01\x02aa" + "\x0a\x83\x00bcd", 3},
		{header + "\x01\x02aa", -1},
		{header + "\x01\x7f", -1},
		{header + "\x01\x80", -1},
		{"", -1},
	} {
		path := filepath.Join(t.TempDir(), "m.wasm")
		if err := os.WriteFile(path, []byte(c.module), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := codeSize(path)
		if err != nil {
			got = -1
		}
		if got != c.want {
			t.Errorf("%q: %d, %v; want %d", c.module, got, err, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	f := func(low, median, high float64) *figure { return &figure{Median: median, Low: low, High: high, Runs: 7} }
	r := &report{
		Machine: machine{OS: "plan9", Arch: "mips", Processors: 2, Go: "go1.26", Wazero: "1.12.0", Binaryen: "wasm-opt version 108"},
		Rounds:  7,
		Rows: []row{
			{Group: "C", Name: "fib", Unit: unitRatio, PlainSeconds: f(1, 2, 3), Durun: f(0.9, 1.004, 1.1), Asyncify: f(1.2, 1.5, 1.8)},
			{Group: "C", Name: "loop", Unit: unitRatio, PlainSeconds: f(1, 2, 3), Durun: f(0.9, 1.1, 1.1), Asyncify: f(1.2, 12.3, 1.8)},
			{Group: "C", Name: meanName, Unit: unitRatio, Durun: f(1.05, 1.05, 1.05), Asyncify: f(4.3, 4.3, 4.3)},
			{Group: "made", Name: "memory", Unit: unitMegabytes, Durun: f(100, 120, 130)},
			{Group: "made", Name: "time", Unit: unitSeconds, Durun: f(0.5, 0.5, 0.5), Asyncify: f(90, 91.2, 99)},
			{Group: "grows", Name: "read", Unit: unitKilobytes, After: []after{{1, 2.5}, {10, 21}}},
		},
		LeftOut: []leftOut{{"CPython", "not there"}},
	}
	var encoded bytes.Buffer
	if err := writeJSON(&encoded, r); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(path, encoded.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		flag string
		want string
	}{
		{"text", "-o=text", `                             PLAIN WAZERO  DURUN                      ASYNCIFY
C
  fib                        2.00 s        1.00 (0.90 to 1.10)        1.50 (1.20 to 1.80)
  loop                       2.00 s        1.10 (0.90 to 1.10)        12 (1.20 to 1.80)
  geometric mean             -             1.05                       4.30
made
  memory                     -             120 MB (100 MB to 130 MB)  -
  time                       -             0.50 s                     91 s (90 s to 99 s)
grows
  read, after 1, 10 commits  -             2.5 kB, 21 kB              -

Medians of 7 rounds or more, with quartiles; without a unit they are ratios to plain wazero. Times are CPU time; those of commits and restores are by the clock.
plan9/mips, 2 processors (of a kind not known), go1.26, wazero 1.12.0, wasm-opt version 108.
Left out: CPython: not there.
`}, {"markdown", "-md", `| what | durun | Binaryen's asyncify |
| --- | --- | --- |
| C: geometric mean of fib, loop | 1.05 (1.00, 1.10) | 4.30 (1.50, 12) |
| made: memory | 120 MB | - |
| made: time | 0.50 s | 91 s |
| grows: read, after 1, 10 commits | 2.5 kB, 21 kB | - |

Medians of 7 rounds or more, of CPU time (of commits and restores, by the clock), on plan9/mips, 2 processors (of a kind not known), go1.26, wazero 1.12.0, wasm-opt version 108.
Left out: CPython: not there.
`}, {"JSON", "-o=json", encoded.String()},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-from", path, c.flag}, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, out.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}
