package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

// guest is a program that suspends again and again, with what its coroutines have of the outside: a clock that they share.
type guest struct {
	runtime *runtime.Runtime
	module  *runtime.Module
	wasi    *hostabi.Module // WASI, interposed
	args    []string
	entry   string // empty for the usual one
	clock   stillClock
}

// interposer stands between a program and WASI. Either function may be nil.
type interposer struct {
	// call is called before each call of a function that doesn't wait.
	call func()
	// await gets what a function has returned that may wait, and returns what the program gets to see; again calls the function
	// once more.
	await func(p *hostabi.Pending, again func(*hostabi.Pending) *hostabi.Pending) *hostabi.Pending
}

// module returns WASI with i before it.
func (i interposer) module() *hostabi.Module {
	type (
		instance = hostabi.Instance
		pending  = hostabi.Pending
	)
	inner := func(i instance) instance { return i.(*interposed).Instance }
	m := &hostabi.Module{Name: wasi.Module.Name}
	for _, f := range wasi.Module.Functions {
		if call := f.Call; call != nil {
			f.Call = func(ctx context.Context, g *hostabi.Guest, in instance, stack []uint64) {
				if i.call != nil {
					i.call()
				}
				call(ctx, g, inner(in), stack)
			}
		} else {
			await := f.Await
			f.Await = func(ctx context.Context, g *hostabi.Guest, in instance, stack []uint64, p *pending) *pending {
				again := func(p *pending) *pending { return await(ctx, g, inner(in), stack, p) }
				if p = again(p); i.await != nil {
					p = i.await(p, again)
				}
				return p
			}
		}
		m.Functions = append(m.Functions, f)
	}
	return m
}

// interposed is an instance of WASI for a module that an interposer made.
type interposed struct {
	*wasi.Instance
	module *hostabi.Module
}

// Module implements [hostabi.Instance].
func (i *interposed) Module() *hostabi.Module { return i.module }

// loadGuest loads a program for durun, with compiled code from the folder cache if it is there.
func loadGuest(ctx context.Context, cache, path string, args []string, i interposer) (*guest, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	g := &guest{wasi: i.module(), args: programArgs(path, args)}
	if g.runtime, err = runtime.New(ctx, runtime.NewConfig().WithModules(g.wasi).WithCacheDir(cache)); err != nil {
		return nil, err
	}
	if g.module, err = g.runtime.Compile(ctx, binary); err != nil {
		return nil, errors.Join(err, g.runtime.Close(ctx))
	}
	return g, nil
}

// loadGenerator loads a program with one page of memory that yields for ever.
func loadGenerator(ctx context.Context, cache string) (*guest, error) {
	g := &guest{wasi: interposer{}.module(), entry: "main"}
	var err error
	if g.runtime, err = runtime.New(ctx, runtime.NewConfig().WithModules(g.wasi).WithCacheDir(cache)); err != nil {
		return nil, err
	}
	if g.module, err = compileGenerator(ctx, g.runtime); err != nil {
		return nil, errors.Join(err, g.runtime.Close(ctx))
	}
	return g, nil
}

func (g *guest) close(ctx context.Context) { _ = g.runtime.Close(ctx) }

// hosts returns what one coroutine has of the outside.
func (g *guest) hosts() ([]hostabi.Instance, error) {
	i, err := wasi.New(wasi.Config{Args: g.args, Clock: &g.clock})
	if err != nil {
		return nil, err
	}
	return []hostabi.Instance{&interposed{i, g.wasi}}, nil
}

// start begins a coroutine.
func (g *guest) start(ctx context.Context, id string) (*runtime.Coroutine, error) {
	return g.startFrom(ctx, id, nil)
}

// startFrom begins a coroutine from a shared base, unless that is nil.
func (g *guest) startFrom(ctx context.Context, id string, base *snapshot.Chain) (*runtime.Coroutine, error) {
	hosts, err := g.hosts()
	if err != nil {
		return nil, err
	}
	return g.module.Start(ctx, runtime.StartConfig{ID: id, Entry: g.entry, Hosts: hosts, Base: base})
}

// restore goes on with a coroutine from its last commit.
func (g *guest) restore(ctx context.Context, store *snapshot.Store, id string) (*runtime.Coroutine, error) {
	hosts, err := g.hosts()
	if err != nil {
		return nil, err
	}
	return g.module.RestoreFrom(ctx, store, id, 0, runtime.RestoreConfig{Hosts: hosts})
}

// step runs a coroutine to its next await.
func step(ctx context.Context, c *runtime.Coroutine) error {
	if err := c.Wait(ctx); err != nil {
		return err
	}
	status, err := c.Resume(ctx)
	switch {
	case err != nil:
		return err
	case status != snapshot.Suspended:
		return errors.Join(errors.New("the program ended"), c.Err())
	}
	return nil
}

// commitStep runs a coroutine to its next await and commits that.
func commitStep(ctx context.Context, c *runtime.Coroutine, store *snapshot.Store) error {
	if err := step(ctx, c); err != nil {
		return err
	}
	s, err := c.Capture()
	if err != nil {
		return err
	}
	commit, err := store.Commit(ctx, s)
	if err != nil {
		return err
	}
	c.Committed(commit)
	return nil
}

// encoded encodes a snapshot, and tells the coroutine that it is committed: for commits that go nowhere.
func encoded(s *snapshot.Snapshot) ([]byte, snapshot.Commit, error) {
	data, err := snapshot.Encode(s)
	if err != nil {
		return nil, snapshot.Commit{}, err
	}
	m, err := snapshot.DecodeManifest(data)
	if err != nil {
		return nil, snapshot.Commit{}, err
	}
	return data, snapshot.Commit{Manifest: *m, Bytes: int64(len(data)), Hash: snapshot.Digest(data)}, nil
}

// stillClock stands still until somebody sleeps: however short a sleep is, it isn't over before it begins.
type stillClock struct{ now time.Duration }

func (c *stillClock) Wall() int64 { return int64(c.now) }
func (c *stillClock) Mono() int64 { return int64(c.now) }

func (c *stillClock) Sleep(ctx context.Context, d time.Duration) error {
	c.now += d
	return ctx.Err()
}
