package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// Times in this file are by the clock, as somebody who waits has them, but for the cycles of a small guest.

// measureCommits adds what it costs a program to commit, and to go on from a commit. args have it print and sleep for ever.
func (b *bench) measureCommits(name, path string, args []string) error {
	steps, restores, total := 2000, 200, 10000
	if b.short {
		steps, restores, total = 100, 10, 100
	}
	verb := func(into any, verb string, count int) error {
		return childJSON(b, into, append([]string{verb, b.artefact("durun"), strconv.Itoa(count), path}, args...)...)
	}
	var delta, delta99, bytes, slower, larger, pooled []float64
	var mebibytes float64
	for i := range b.rounds {
		b.progress("%s: captures, run %d of %d", name, i+1, b.rounds)
		var c capturing
		if err := verb(&c, "capture", steps); err != nil {
			return err
		}
		mebibytes = c.Mebibytes
		delta, delta99, bytes = append(delta, c.Delta.Micros), append(delta99, c.Delta.Micros99), append(bytes, c.Delta.Bytes)
		slower, larger = append(slower, c.Full.Micros/c.Delta.Micros), append(larger, c.Full.Bytes/c.Delta.Bytes)
		b.progress("%s: restores, run %d of %d", name, i+1, b.rounds)
		var r float64
		if err := verb(&r, "restore", restores); err != nil {
			return err
		}
		pooled = append(pooled, r)
	}
	fresh, cpu, err := b.freshProcess(name, path, args)
	if err != nil {
		return err
	}
	b.progress("%s: %d commits", name, total)
	var g []grown
	if err := verb(&g, "growth", total); err != nil {
		return err
	}
	group := fmt.Sprintf("%s, a small step with %.0f MiB of memory", name, mebibytes)
	add := func(name, unit string, values []float64) {
		b.report.Rows = append(b.report.Rows, row{Group: group, Name: name, Unit: unit, Durun: summarise(values)})
	}
	add("unwind, capture and encode what changed", unitMicroseconds, delta)
	add("the same, 99 of 100 within", unitMicroseconds, delta99)
	add("size of that commit", unitBytes, bytes)
	add("a full snapshot, against that: time", unitTimes, slower)
	add("a full snapshot, against that: size", unitTimes, larger)
	add("restore to the guest's next host call, in a process that has its root", unitMicroseconds, pooled)
	add("durun resume, from its start to the guest's next line", unitMilliseconds, fresh)
	add("the same in CPU time", unitMilliseconds, cpu)
	b.addGrowth(group, g)
	return nil
}

// captured is what one way to capture took.
type captured struct {
	Micros, Micros99 float64 // from the await to the encoded snapshot: the median, and what 99 of 100 don't exceed
	Bytes            float64 // the median
}

func summariseCaptures(micros, bytes []float64) captured {
	slices.Sort(micros)
	slices.Sort(bytes)
	return captured{Micros: median(micros), Micros99: micros[(len(micros)*99+99)/100-1], Bytes: median(bytes)}
}

// capturing is what it took a program to be captured at its awaits.
type capturing struct {
	Mebibytes   float64 // of memory
	Delta, Full captured
}

// capture runs a program twice, side by side, and captures one by what changed, as [runtime.Driver] does, and the other in full.
// The commits go nowhere.
func capture(ctx context.Context, args []string) error {
	steps, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var awaited time.Time
	g, err := loadGuest(ctx, args[0], args[2], args[3:], interposer{await: func(p *hostabi.Pending, _ func(*hostabi.Pending) *hostabi.Pending) *hostabi.Pending {
		awaited = time.Now()
		return p
	}})
	if err != nil {
		return err
	}
	defer g.close(ctx)
	var got capturing
	once := func(c *runtime.Coroutine, take func() (*snapshot.Snapshot, error)) (micros, bytes float64, err error) {
		if err := step(ctx, c); err != nil {
			return 0, 0, err
		}
		s, err := take()
		if err != nil {
			return 0, 0, err
		}
		data, err := snapshot.Encode(s)
		took := time.Since(awaited)
		if err != nil {
			return 0, 0, err
		}
		got.Mebibytes = float64(s.Memory.Size) / (1 << 20)
		_, commit, err := encoded(s)
		c.Committed(commit)
		return float64(took.Nanoseconds()) / 1e3, float64(len(data)), err
	}
	var coroutines [2]*runtime.Coroutine
	var micros, bytes [2][]float64
	const warm = 3 // the program's own beginning, and the first full commit
	for i := range coroutines {
		c, err := g.start(ctx, "costs")
		if err != nil {
			return err
		}
		defer c.Close()
		coroutines[i] = c
		for range warm {
			if _, _, err := once(c, c.Capture); err != nil {
				return err
			}
		}
	}
	const blocks = 10
	for range blocks {
		for i, c := range coroutines {
			take, n := c.Capture, max(steps/blocks, 1)
			if i == 1 {
				take, n = c.Snapshot, max(n/50, 1)
			}
			for range n {
				m, size, err := once(c, take)
				if err != nil {
					return err
				}
				micros[i], bytes[i] = append(micros[i], m), append(bytes[i], size)
			}
		}
	}
	got.Delta, got.Full = summariseCaptures(micros[0], bytes[0]), summariseCaptures(micros[1], bytes[1])
	return json.NewEncoder(os.Stdout).Encode(got)
}

// restore restores a program from a store in memory, in a process that has done so before, and runs it to its next host
// call. The commits are of all depths that chains have. It prints the median, in microseconds.
func restore(ctx context.Context, args []string) error {
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var called time.Time // the first call after the time was last set to zero
	note := func() {
		if called.IsZero() {
			called = time.Now()
		}
	}
	g, err := loadGuest(ctx, args[0], args[2], args[3:], interposer{call: note})
	if err != nil {
		return err
	}
	defer g.close(ctx)
	const id = "costs"
	store := snapshot.NewStore(bucket.NewMem())
	c, err := g.start(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var micros []float64
	for i := range count + 2 {
		if err := commitStep(ctx, c, store); err != nil {
			return err
		}
		began := time.Now()
		restored, err := g.restore(ctx, store, id)
		if err != nil {
			return err
		}
		called = time.Time{}
		err = step(ctx, restored)
		if took := called.Sub(began); i >= 2 && !called.IsZero() { // the first ones bring the root, and compile
			micros = append(micros, float64(took.Nanoseconds())/1e3)
		}
		if err := restored.Close(); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
	if len(micros) < count {
		return fmt.Errorf("the guest made a call between %d of %d awaits only", len(micros), count)
	}
	slices.Sort(micros)
	return json.NewEncoder(os.Stdout).Encode(median(micros))
}

// freshProcess starts durun resume and waits for the first line of the guest. It returns milliseconds by the clock, and of CPU
// time, which show less of what else the machine does.
func (b *bench) freshProcess(name, path string, args []string) (millis, cpu []float64, err error) {
	b.progress("build cmd/durun")
	program := b.artefact("durun-command")
	if goruntime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.CommandContext(b.ctx, "go", "build", "-o", program, "./cmd/durun").CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("build cmd/durun: %w\n%s", err, tail(out))
	}
	store, err := os.MkdirTemp(b.kept, "costs-resume-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(store)
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(b.ctx, program, args...)
		cmd.Env = append(os.Environ(), "DURUN_STORE="+store, "DURUN_CACHE="+b.artefact("command-cache"))
		return cmd
	}
	if out, err := command(append([]string{"run", "-d", "--id", "costs", path}, args...)...).CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("durun run: %w\n%s", err, tail(out))
	}
	for i := range b.rounds + 1 { // the first one compiles
		b.progress("%s: durun resume, run %d of %d", name, i, b.rounds)
		cmd := command("resume", "costs")
		took, err := firstByte(cmd)
		if err != nil {
			return nil, nil, err
		}
		if i > 0 {
			millis = append(millis, float64(took.Microseconds())/1e3)
			cpu = append(cpu, float64((cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()).Microseconds())/1e3)
		}
	}
	return millis, cpu, nil
}

// firstByte runs a command until it has written something, and kills it.
func firstByte(cmd *exec.Cmd) (time.Duration, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_, err = io.ReadFull(out, make([]byte, 1))
	took := time.Since(began)
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
	if err != nil {
		return 0, fmt.Errorf("%s has written nothing: %w", cmd, err)
	}
	return took, nil
}

// measureCycle adds how often a small guest goes through a store in memory.
func (b *bench) measureCycle() error {
	turn := 2 * time.Second
	if b.short {
		turn /= 20
	}
	var rates []float64
	for i := range b.rounds {
		b.progress("a small guest's cycles, run %d of %d", i+1, b.rounds)
		var rate float64
		if err := childJSON(b, &rate, "cycle", b.artefact("durun"), turn.String()); err != nil {
			return err
		}
		rates = append(rates, rate)
	}
	b.report.Rows = append(b.report.Rows, row{
		Group: groupSmall, Name: "suspend, encode, put to memory, restore and resume, on one processor", Unit: unitPerSecond, Durun: summarise(rates),
	})
	return nil
}

// cycle has a small guest leave memory and come back at each await.
func cycle(ctx context.Context, args []string) error {
	turn, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	g, err := loadGenerator(ctx, args[0])
	if err != nil {
		return err
	}
	defer g.close(ctx)
	goruntime.GOMAXPROCS(1)
	const id = "costs"
	store := snapshot.NewStore(bucket.NewMem())
	c, err := g.start(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	once := func() error {
		if err := commitStep(ctx, c, store); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
		c, err = g.restore(ctx, store, id)
		return err
	}
	for range 100 {
		if err := once(); err != nil {
			return err
		}
	}
	n, began, cpu := 0, time.Now(), cpuTime()
	for ; time.Since(began) < turn; n++ {
		if err := once(); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(float64(n) / (cpuTime() - cpu).Seconds())
}

// grown is what a coroutine has become after some commits.
type grown struct {
	Commits      int
	Micros       float64 // to restore it, the median of some times
	Reads        int     // objects that are read for this
	ReadBytes    int64
	Objects      int // that the store has of it
	ObjectsBytes int64
}

// growthAt are the numbers of commits after which growth looks.
var growthAt = []int{1, 10, 100, 1000, 10000}

// growth has a driver commit a program many times, of which it keeps ten.
func growth(ctx context.Context, args []string) error {
	total, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	g, err := loadGuest(ctx, args[0], args[2], args[3:], interposer{})
	if err != nil {
		return err
	}
	defer g.close(ctx)
	const id = "costs"
	b := &countingBucket{Bucket: bucket.NewMem()}
	store := snapshot.NewStore(b)
	c, err := g.start(ctx, id)
	if err != nil {
		return err
	}
	defer c.Close()
	var all []grown
	var failed error
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := runtime.Driver{Store: store, Retain: snapshot.Policy{Keep: 10}}
	d.OnRetain = func(_ snapshot.Retained, err error) {
		if err != nil {
			failed = err
			stop()
		}
	}
	d.OnCommit = func(commit snapshot.Commit) {
		if n := int(commit.Seq); slices.Contains(growthAt, n) {
			at, err := look(ctx, g, store, b, id)
			if err != nil {
				failed = err
				stop()
			}
			at.Commits = n
			all = append(all, at)
		}
		if int(commit.Seq) == total {
			stop()
		}
	}
	if _, err := d.Drive(ctx, c); ctx.Err() == nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

// look restores a coroutine and counts.
func look(ctx context.Context, g *guest, store *snapshot.Store, b *countingBucket, id string) (at grown, err error) {
	var micros []float64
	for i := range 12 {
		reads, bytes := b.reads.Load(), b.bytes.Load()
		began := time.Now()
		// By a chain that is read in full: this module has the root at hand, but another node has not.
		chain, err := store.Chain(ctx, id, 0, nil)
		if err != nil {
			return at, err
		}
		hosts, err := g.hosts()
		if err != nil {
			return at, err
		}
		c, err := g.module.RestoreChain(ctx, chain, runtime.RestoreConfig{Hosts: hosts})
		if err != nil {
			return at, err
		}
		took := time.Since(began)
		at.Reads, at.ReadBytes = int(b.reads.Load()-reads), b.bytes.Load()-bytes
		if err := c.Close(); err != nil {
			return at, err
		}
		if i > 0 {
			micros = append(micros, float64(took.Nanoseconds())/1e3)
		}
	}
	slices.Sort(micros)
	at.Micros = median(micros)
	for e, err := range b.List(ctx, bucket.ListOptions{}) {
		if err != nil {
			return at, err
		}
		at.Objects++
		at.ObjectsBytes += e.Size
	}
	return at, nil
}

// countingBucket counts what is read.
type countingBucket struct {
	bucket.Bucket
	reads, bytes atomic.Int64
}

// Get implements [bucket.Bucket].
func (b *countingBucket) Get(ctx context.Context, key string, offset, length int64) (*bucket.Object, error) {
	o, err := b.Bucket.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	b.reads.Add(1)
	o.Body = &countingBody{o.Body, b}
	return o, nil
}

type countingBody struct {
	io.ReadCloser
	b *countingBucket
}

func (r *countingBody) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.b.bytes.Add(int64(n))
	return n, err
}

// addGrowth adds a row for each thing that could grow.
func (b *bench) addGrowth(group string, g []grown) {
	for _, r := range []struct {
		name, unit string
		value      func(grown) float64
	}{
		{"restore", unitMicroseconds, func(g grown) float64 { return g.Micros }},
		{"objects read for this", unitCount, func(g grown) float64 { return float64(g.Reads) }},
		{"bytes read for this", unitKilobytes, func(g grown) float64 { return float64(g.ReadBytes) / 1e3 }},
		{"objects in the store", unitCount, func(g grown) float64 { return float64(g.Objects) }},
		{"bytes in the store", unitKilobytes, func(g grown) float64 { return float64(g.ObjectsBytes) / 1e3 }},
	} {
		added := row{Group: group, Name: "10 commits kept: " + r.name, Unit: r.unit}
		for _, at := range g {
			added.After = append(added.After, after{at.Commits, r.value(at)})
		}
		b.report.Rows = append(b.report.Rows, added)
	}
}
