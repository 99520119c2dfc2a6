package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
)

// variant is one of the things that are compared.
type variant int

const (
	plain variant = iota
	durun
	asyncify
	numVariants
)

// asyncified returns what asyncify makes of a program, nil if it can't, or if what it makes doesn't run.
func (b *bench) asyncified(p program, path string, y *binaryen) (*asyncified, error) {
	if y == nil {
		return nil, nil
	}
	a, err := y.asyncify(b, path)
	if err == nil {
		_, _, err = child(b.ctx, append([]string{"run-plain", b.artefact("wazero"), a.Path}, p.args...)...)
	}
	switch {
	case err == nil:
		return a, nil
	case b.ctx.Err() != nil:
		return nil, err
	}
	b.leaveOut("asyncify of "+p.name, err)
	return nil, nil
}

// measureProgram runs a program in each variant, in turn, and adds its rows.
func (b *bench) measureProgram(p program, path string, a *asyncified) error {
	modules := [numVariants]string{plain: path, durun: path}
	if a != nil {
		modules[asyncify] = a.Path
	}
	once := func(v variant) (map[string]float64, error) {
		// Code of another durun must not be measured: so no cache but this run's.
		verb, cache := "run-plain", b.artefact("wazero")
		if v == durun {
			verb, cache = "run-durun", b.artefact("durun")
		}
		out, _, err := child(b.ctx, append([]string{verb, cache, modules[v]}, p.args...)...)
		if err != nil {
			return nil, err
		}
		return seconds(out), nil
	}
	var samples [numVariants]map[string][]float64
	for v := range samples {
		samples[v] = map[string][]float64{}
	}
	runs := b.rounds * p.repeat
	if b.short {
		runs = b.rounds
	}
	b.progress("%s: compile", p.name)
	for i := -1; i < runs; i++ { // the first turn is for the cache of compiled code
		if i >= 0 {
			b.progress("%s: run %d of %d", p.name, i+1, runs)
		}
		for v, module := range modules {
			if module == "" {
				continue
			}
			got, err := once(variant(v))
			if err != nil {
				return err
			}
			if i < 0 {
				continue
			}
			for name, s := range got {
				samples[v][name] = append(samples[v][name], s)
			}
		}
	}
	for _, g := range p.groups {
		if err := b.addGroup(g, samples, runs); err != nil {
			return err
		}
	}
	return nil
}

var secondsLine = regexp.MustCompile(`(?m)^(\w+) (\d+\.\d+(?:e-\d+)?)$`)

// seconds reads lines "name seconds".
func seconds(out []byte) map[string]float64 {
	t := map[string]float64{}
	for _, m := range secondsLine.FindAllSubmatch(out, -1) {
		if v, err := strconv.ParseFloat(string(m[2]), 64); err == nil {
			t[string(m[1])] = v
		}
	}
	return t
}

// addGroup adds a row for each part of a group, and for their mean.
func (b *bench) addGroup(g group, samples [numVariants]map[string][]float64, runs int) error {
	var logs [numVariants]float64
	rows := make([]row, 0, len(g.parts)+1)
	for _, part := range g.parts {
		r := row{Group: g.name, Name: part, Unit: unitRatio}
		base := samples[plain][part]
		for v := range samples {
			took := samples[v][part]
			if variant(v) == asyncify && len(samples[v]) == 0 {
				continue
			}
			if len(took) != runs || slices.Min(took) <= 0 {
				return fmt.Errorf("%d runs gave the times %v for part %q", runs, took, part)
			}
			ratios := make([]float64, runs)
			for i := range took {
				ratios[i] = took[i] / base[i]
			}
			if variant(v) == plain {
				r.PlainSeconds = summarise(took)
				continue
			}
			f := summarise(ratios)
			r.set(variant(v), f)
			logs[v] += math.Log(f.Median)
		}
		rows = append(rows, r)
	}
	if len(g.parts) > 1 {
		mean := row{Group: g.name, Name: meanName, Unit: unitRatio}
		for v := durun; v < numVariants; v++ {
			if rows[0].get(v) != nil {
				m := math.Exp(logs[v] / float64(len(g.parts)))
				mean.set(v, &figure{Median: m, Low: m, High: m, Runs: runs})
			}
		}
		rows = append(rows, mean)
	}
	b.report.Rows = append(b.report.Rows, rows...)
	return nil
}

// measureTransform adds what it takes to make and compile the forms of a module, and their size.
func (b *bench) measureTransform(name, path string, a *asyncified) error {
	running := b.artefact("running.wasm")
	var made, peak []float64
	for i := range b.rounds {
		b.progress("%s: transform, run %d of %d", name, i+1, b.rounds)
		_, state, err := child(b.ctx, "instrument", path, running)
		if err != nil {
			return err
		}
		made = append(made, (state.UserTime() + state.SystemTime()).Seconds())
		peak = append(peak, float64(peakMemory(state))/1e6)
	}
	group := name + ", preparation"
	seconds := row{Group: group, Name: "transform", Unit: unitSeconds, Durun: summarise(made)}
	memory := row{Group: group, Name: "memory of the transform, at most", Unit: unitMegabytes, Durun: summarise(peak)}
	modules := [numVariants]string{plain: path, durun: running}
	if a != nil {
		modules[asyncify] = a.Path
		seconds.Asyncify = summarise([]float64{a.CPU})
		memory.Asyncify = summarise([]float64{float64(a.Bytes) / 1e6})
	}
	rows := []row{seconds, memory}
	if slices.Max(peak) == 0 {
		b.leaveOut(memory.Name, errors.New("this system doesn't tell"))
		rows = rows[:1]
	}

	size := row{Group: group, Name: "size of the code", Unit: unitRatio}
	var before float64
	var cpu, wall [numVariants][]float64
	for v, module := range modules {
		if module == "" {
			continue
		}
		n, err := codeSize(module)
		if err != nil {
			return err
		}
		if variant(v) == plain {
			before = float64(n)
			continue
		}
		size.set(variant(v), summarise([]float64{float64(n) / before}))
	}
	for i := range b.rounds {
		b.progress("%s: compile, run %d of %d", name, i+1, b.rounds)
		for v, module := range modules {
			if module == "" {
				continue
			}
			var c compilation
			if err := childJSON(b, &c, "compile", module); err != nil {
				return err
			}
			cpu[v], wall[v] = append(cpu[v], c.CPU), append(wall[v], c.Wall)
		}
	}
	compileCPU := row{Group: group, Name: "compiling", Unit: unitRatio, PlainSeconds: summarise(cpu[plain])}
	compileWall := row{Group: group, Name: "compiling, by the clock", Unit: unitRatio, PlainSeconds: summarise(wall[plain])}
	for v := durun; v < numVariants; v++ {
		if modules[v] != "" {
			compileCPU.set(v, summarise(divide(cpu[v], cpu[plain])))
			compileWall.set(v, summarise(divide(wall[v], wall[plain])))
		}
	}
	b.report.Rows = append(append(b.report.Rows, rows...), size, compileCPU, compileWall)
	return nil
}

func divide(a, b []float64) []float64 {
	q := make([]float64, len(a))
	for i := range a {
		q[i] = a[i] / b[i]
	}
	return q
}

func childJSON(b *bench, into any, args ...string) error {
	out, _, err := child(b.ctx, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("what the verb %s wrote: %w\n%s", args[0], err, tail(out))
	}
	return nil
}

// codeSize returns the size of a module's code section.
func codeSize(path string) (int, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	bad := fmt.Errorf("%s: not a WebAssembly module with code", path)
	if len(binary) < 8 {
		return 0, bad
	}
	for rest := binary[8:]; len(rest) > 1; {
		size, n := uint32At(rest[1:])
		if n == 0 || uint64(size) > uint64(len(rest)-1-n) {
			return 0, bad
		}
		if rest[0] == 10 {
			return int(size), nil
		}
		rest = rest[1+n+int(size):]
	}
	return 0, bad
}

// uint32At decodes LEB128. n is its length, 0 if there is none.
func uint32At(b []byte) (v uint32, n int) {
	for n < 5 && n < len(b) {
		v |= uint32(b[n]&0x7f) << (7 * n)
		n++
		if b[n-1] < 0x80 {
			return v, n
		}
	}
	return 0, 0
}

// measureAwaits adds what an await costs a coroutine that stays in its process.
func (b *bench) measureAwaits(name, path string, sleeper []string) error {
	var micros []float64
	var frames int
	for i := range b.rounds {
		b.progress("%s: await, run %d of %d", name, i+1, b.rounds)
		var a awaiting
		if err := childJSON(b, &a, append([]string{"await", b.artefact("durun"), path}, sleeper...)...); err != nil {
			return err
		}
		frames, micros = a.Frames, append(micros, a.Micros)
	}
	b.report.Rows = append(b.report.Rows, row{
		Group: name + groupResident, Name: fmt.Sprintf("unwind %d frames and go on", frames), Unit: unitMicroseconds, Durun: summarise(micros),
	})
	return nil
}

const groupResident = ", an await without leaving the process"

// measureRebuild adds what it costs to rebuild CPython's stack at an await.
func (b *bench) measureRebuild(name string) error {
	b.progress("%s: the stack rebuilt in place, and wazero's copy of it", name)
	native, rebuilt, err := b.benchmarkAwait()
	if err != nil {
		return err
	}
	b.report.Rows = append(b.report.Rows, row{
		Group: name + groupResident, Name: "rebuild the stack in place, against wazero's copy of it, by the clock",
		Unit: unitTimes, Durun: summarise(divide(rebuilt, native)),
	})
	return nil
}

// benchmarkAwait runs a benchmark of package runtime, as how a stack is put back is that package's own affair. It returns
// nanoseconds.
func (b *bench) benchmarkAwait() (native, rebuilt []float64, err error) {
	cmd := exec.CommandContext(b.ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkAwait$",
		"-benchtime", "300x", "-count", strconv.Itoa(min(b.rounds, 5)), "./runtime") // each prepares CPython, which takes seconds
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w\n%s", cmd, err, tail(out))
	}
	native, rebuilt = awaitTimes(out)
	if len(native) == 0 || len(native) != len(rebuilt) {
		return nil, nil, fmt.Errorf("%s: no figures in its output\n%s", cmd, tail(out))
	}
	return native, rebuilt, nil
}

var awaitLine = regexp.MustCompile(`(?m)^BenchmarkAwait/rewind-after-(\d+)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op`)

// awaitTimes reads the output of BenchmarkAwait, which rebuilds the stack after so many awaits as its names say.
func awaitTimes(out []byte) (native, rebuilt []float64) {
	for _, m := range awaitLine.FindAllSubmatch(out, -1) {
		v, err := strconv.ParseFloat(string(m[2]), 64)
		switch {
		case err != nil:
		case string(m[1]) == "1":
			rebuilt = append(rebuilt, v)
		default:
			native = append(native, v)
		}
	}
	return native, rebuilt
}
