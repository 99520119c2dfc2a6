package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	wazerosys "github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

// verbs are what this program does when it starts itself anew: once for each measurement. wazero's code for one and the
// same module is at times several times as slow in one process as in another, by where its stack comes to lie; in one
// process all runs of a comparison would have the same luck.
var verbs = map[string]func(ctx context.Context, args []string) error{
	"run-plain":  runPlain,  // CACHE MODULE ARGS…: what the guest writes
	"run-durun":  runDurun,  // CACHE MODULE ARGS…: likewise
	"instrument": transform, // MODULE OUT
	"compile":    compile,   // MODULE: a compilation as JSON
	"await":      awaits,    // CACHE MODULE ARGS…: an awaiting as JSON
}

// childVariable in the environment tells the program that its arguments are a verb's.
const childVariable = "DURUN_COSTS_CHILD"

// runVerb does what a parent process asks for.
func runVerb(args []string) error {
	f := verbs[args[0]]
	if f == nil {
		return fmt.Errorf("no verb is called %q", args[0])
	}
	return f(context.Background(), args[1:])
}

// child runs a verb in a process of its own and returns what that wrote.
func child(ctx context.Context, args ...string) ([]byte, *os.ProcessState, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	// GORACE spares each process of the test the second that the race detector waits at the end.
	cmd.Env = append(os.Environ(), childVariable+"=1", "GORACE=atexit_sleep_ms=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, tail(append(out, stderr.Bytes()...)))
	}
	return out, cmd.ProcessState, nil
}

// tail is the end of what a child wrote, for an error.
func tail(b []byte) []byte { return bytes.TrimSpace(b[max(0, len(b)-2000):]) }

// features are those that durun's guests may use.
const features = api.CoreFeaturesV2 |
	experimental.CoreFeaturesTailCall |
	experimental.CoreFeaturesExtendedConst |
	experimental.CoreFeaturesExceptionHandling |
	experimental.CoreFeaturesTypedFunctionReferences

func engineConfig() wazero.RuntimeConfig {
	// As durun has it: without DWARF, which the running form has not.
	return wazero.NewRuntimeConfig().WithCoreFeatures(features).WithDebugInfoEnabled(false)
}

func compileContext(ctx context.Context) context.Context {
	return experimental.WithCompilationWorkers(ctx, goruntime.GOMAXPROCS(0))
}

// runPlain runs a program on wazero and nothing else. Its clock shows CPU time.
func runPlain(ctx context.Context, args []string) error {
	dir, path, args := args[0], args[1], args[2:]
	binary, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return err
	}
	engine := wazero.NewRuntimeWithConfig(ctx, engineConfig().WithCompilationCache(cache))
	wasi_snapshot_preview1.MustInstantiate(ctx, engine)
	code, err := engine.CompileModule(compileContext(ctx), binary)
	if err != nil {
		return err
	}
	config := wazero.NewModuleConfig().WithName("").WithArgs(programArgs(path, args)...).WithStdin(bytes.NewReader(nil)).
		WithStdout(os.Stdout).WithStderr(os.Stderr).WithSysWalltime().
		WithNanotime((&cpuClock{}).Mono, wazerosys.ClockResolution(clockStep))
	_, err = engine.InstantiateModule(ctx, code, config)
	if exit := (*wazerosys.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 0 {
		return nil
	}
	return err
}

// programArgs puts the program's name before its arguments.
func programArgs(path string, args []string) []string {
	return append([]string{strings.TrimSuffix(filepath.Base(path), ".wasm")}, args...)
}

// cpuClock is a guest's clock that shows CPU time. A sleep is over at once.
type cpuClock struct {
	slept time.Duration
	cpu   time.Duration // when last read, at the time read
	read  time.Time
}

// clockStep is how old the CPU time may be that a guest is told. Go's scheduler asks for the time again and again, and
// should not have its cost hidden behind that of system calls.
const clockStep = 100 * time.Microsecond

func (c *cpuClock) Wall() int64 { return time.Now().UnixNano() }

func (c *cpuClock) Mono() int64 {
	if now := time.Now(); now.Sub(c.read) >= clockStep {
		c.cpu, c.read = cpuTime(), now
	}
	return int64(c.cpu + c.slept)
}

func (c *cpuClock) Sleep(ctx context.Context, d time.Duration) error {
	c.slept += d
	return ctx.Err()
}

// stillClock stands still until somebody sleeps: however short a sleep is, it isn't over before it begins.
type stillClock struct{ now time.Duration }

func (c *stillClock) Wall() int64 { return int64(c.now) }
func (c *stillClock) Mono() int64 { return int64(c.now) }

func (c *stillClock) Sleep(ctx context.Context, d time.Duration) error {
	c.now += d
	return ctx.Err()
}

// start loads a program for durun and begins a coroutine.
func start(ctx context.Context, cache, path string, args []string, clock wasi.Clock, wrap func(*wasi.Instance) hostabi.Instance, module *hostabi.Module) (*runtime.Coroutine, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := runtime.New(ctx, runtime.NewConfig().WithModules(module).WithCacheDir(cache))
	if err != nil {
		return nil, err
	}
	m, err := r.Compile(ctx, binary)
	if err != nil {
		return nil, err
	}
	host, err := wasi.New(wasi.Config{Args: programArgs(path, args), Clock: clock})
	if err != nil {
		return nil, err
	}
	return m.Start(ctx, runtime.StartConfig{
		ID: "costs", Hosts: []hostabi.Instance{wrap(host)}, Stdout: os.Stdout, Stderr: os.Stderr,
	})
}

// runDurun runs a program to its end as durun does, but for commits. Its clock shows CPU time.
func runDurun(ctx context.Context, args []string) error {
	wrap := func(i *wasi.Instance) hostabi.Instance { return i }
	c, err := start(ctx, args[0], args[1], args[2:], &cpuClock{}, wrap, wasi.Module)
	if err != nil {
		return err
	}
	for {
		status, err := c.Resume(ctx)
		switch {
		case err != nil:
			return err
		case c.Err() != nil:
			return c.Err()
		case status.Ended() && c.ExitCode() != 0:
			return fmt.Errorf("the program's exit code is %d", c.ExitCode())
		case status.Ended():
			return nil
		}
		if err := c.Wait(ctx); err != nil {
			return err
		}
	}
}

// transform makes a module's running form.
func transform(_ context.Context, args []string) error {
	binary, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	out, _, err := runtime.Instrument(binary, wasi.Module)
	if err != nil {
		return err
	}
	return os.WriteFile(args[1], out, 0o644)
}

// compilation is how long it took to compile a module.
type compilation struct {
	CPU, Wall float64 // in seconds
}

// compile compiles a module as wazero does at a first run.
func compile(ctx context.Context, args []string) error {
	binary, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	engine := wazero.NewRuntimeWithConfig(ctx, engineConfig())
	wall, cpu := time.Now(), cpuTime()
	if _, err := engine.CompileModule(compileContext(ctx), binary); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(compilation{CPU: (cpuTime() - cpu).Seconds(), Wall: time.Since(wall).Seconds()})
}

// awaiting is what it took a program to suspend and go on.
type awaiting struct {
	Frames int     // on the guest's stack
	Micros float64 // for one await that suspends, less the time for one that completes at once
}

// awaits runs a program that sleeps forever, with the same stack each time. It compares awaits that suspend, and go on in the
// same process, with ones that complete at once.
func awaits(ctx context.Context, args []string) error {
	const count, pairs = 50, 20 // 1,000 suspensions: fewer than after which a resident stack is rebuilt
	clock := &stillClock{}
	atOnce := 0 // how many awaits are to complete at once
	c, err := start(ctx, args[0], args[1], args[2:], clock,
		func(i *wasi.Instance) hostabi.Instance { return &eagerInstance{i} }, eager(&atOnce, clock))
	if err != nil {
		return err
	}
	next := func() error {
		clock.now += time.Second
		status, err := c.Resume(ctx)
		switch {
		case err != nil:
			return err
		case status != snapshot.Suspended:
			return errors.Join(errors.New("the program ended"), c.Err())
		}
		return nil
	}
	if err := next(); err != nil {
		return err
	}
	s, err := c.Snapshot()
	if err != nil {
		return err
	}
	var differences []float64
	for range pairs {
		began := cpuTime()
		for range count {
			if err := next(); err != nil {
				return err
			}
		}
		suspending := cpuTime() - began
		atOnce = count - 1
		began = cpuTime()
		if err := next(); err != nil { // the last one suspends
			return err
		}
		differences = append(differences, float64((suspending-(cpuTime()-began)).Nanoseconds())/1e3/(count-1))
	}
	slices.Sort(differences)
	return json.NewEncoder(os.Stdout).Encode(awaiting{Frames: len(s.Frames), Micros: median(differences)})
}

// eagerInstance is an instance of WASI for the module that [eager] returns.
type eagerInstance struct{ *wasi.Instance }

var eagerModule = &hostabi.Module{Name: wasi.Module.Name}

// Module implements [hostabi.Instance].
func (i *eagerInstance) Module() *hostabi.Module { return eagerModule }

// eager returns WASI whose next *atOnce awaits complete at once, whatever they wait for: the clock is put forward.
func eager(atOnce *int, clock *stillClock) *hostabi.Module {
	inner := func(i hostabi.Instance) hostabi.Instance { return i.(*eagerInstance).Instance }
	for _, f := range wasi.Module.Functions {
		if call := f.Call; call != nil {
			f.Call = func(ctx context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64) {
				call(ctx, g, inner(i), stack)
			}
		} else {
			await := f.Await
			f.Await = func(ctx context.Context, g *hostabi.Guest, i hostabi.Instance, stack []uint64, p *hostabi.Pending) *hostabi.Pending {
				p = await(ctx, g, inner(i), stack, p)
				if p == nil || *atOnce == 0 {
					return p
				}
				*atOnce--
				clock.now += time.Second
				return await(ctx, g, inner(i), stack, p)
			}
		}
		eagerModule.Functions = append(eagerModule.Functions, f)
	}
	return eagerModule
}
