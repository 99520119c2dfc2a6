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
)

// verbs are what this program does when it starts itself anew: once for each measurement. wazero's code for one and the
// same module is at times several times as slow in one process as in another, by where its stack comes to lie; in one
// process all runs of a comparison would have the same luck.
var verbs = map[string]func(ctx context.Context, args []string) error{
	"run-plain":  runPlain,       // CACHE MODULE ARGS…: what the guest writes
	"run-durun":  runDurun,       // CACHE MODULE ARGS…: likewise
	"instrument": transform,      // MODULE OUT
	"compile":    compile,        // MODULE: a compilation as JSON
	"await":      awaits,         // CACHE MODULE ARGS…: an awaiting as JSON
	"store":      store,          // CACHE DIR DURATION NAME: a storing as JSON
	"capture":    capture,        // CACHE COUNT MODULE ARGS…: a capturing as JSON
	"restore":    restore,        // CACHE COUNT MODULE ARGS…: microseconds as JSON
	"cycle":      cycle,          // CACHE DURATION: cycles in a second of CPU time, as JSON
	"growth":     growth,         // CACHE COUNT MODULE ARGS…: what a coroutine has grown to, as JSON
	"together":   together,       // CACHE COUNT MODULE ARGS…: a crowd as JSON
	"small":      small,          // CACHE COUNT: a crowd as JSON
	"sleepers":   sleepers,       // CACHE DIR COUNT: a dormitory as JSON
	"steps":      steps,          // CACHE memory|folder DIR COUNT DURATION: steps a second, as JSON
	"latency":    measureLatency, // CACHE DURATION: a latency as JSON
	"join":       join,           // CACHE COUNT: milliseconds as JSON
	"timers":     timers,         // CACHE COUNT SPEED: an alarm as JSON
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

// start loads a program for durun and begins a coroutine.
func start(ctx context.Context, cache, path string, host hostabi.Instance) (*runtime.Coroutine, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := runtime.New(ctx, runtime.NewConfig().WithModules(host.Module()).WithCacheDir(cache))
	if err != nil {
		return nil, err
	}
	m, err := r.Compile(ctx, binary)
	if err != nil {
		return nil, err
	}
	return m.Start(ctx, runtime.StartConfig{ID: "costs", Hosts: []hostabi.Instance{host}, Stdout: os.Stdout, Stderr: os.Stderr})
}

// runDurun runs a program to its end as durun does, but for commits. Its clock shows CPU time.
func runDurun(ctx context.Context, args []string) error {
	host, err := wasi.New(wasi.Config{Args: programArgs(args[1], args[2:]), Clock: &cpuClock{}})
	if err != nil {
		return err
	}
	c, err := start(ctx, args[0], args[1], host)
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
