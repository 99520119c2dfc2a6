package runtime

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/instrument"
)

// features is the language that durun's guests may use: all that wazero v1.12 runs, threads excepted.
const features = api.CoreFeaturesV2 |
	experimental.CoreFeaturesTailCall |
	experimental.CoreFeaturesExtendedConst |
	experimental.CoreFeaturesExceptionHandling |
	experimental.CoreFeaturesTypedFunctionReferences

// maxPages is the size that a memory can have, in pages of 64 KiB: one less than the language allows, as wazero's
// api.Memory gives the size of one of 4 GiB as 0.
const maxPages = 1<<16 - 1

// Runtime compiles modules and holds what they share. It is safe for concurrent use.
type Runtime struct {
	config  Config
	engine  wazero.Runtime
	cache   wazero.CompilationCache
	modules []*hostabi.Module  // durun's own first
	choices instrument.Choices // other than what the transform does, in tests
	ticking bool               // guests tick wherever they count, in tests

	codeMu sync.Mutex // held while the cache of compiled code is used

	mu     sync.Mutex
	closed bool
	opened map[*Module]struct{} // and not closed
}

// New returns a runtime. It fails if the cache folder can't be used.
func New(ctx context.Context, config Config) (*Runtime, error) {
	rc := engineConfig()
	r := &Runtime{
		config:  config,
		modules: append([]*hostabi.Module{abiModule}, config.modules...),
		opened:  map[*Module]struct{}{},
	}
	if config.cacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(r.codeDir())
		if err != nil {
			return nil, fmt.Errorf("open cache folder %s: %w", config.cacheDir, err)
		}
		r.cache = cache
		rc = rc.WithCompilationCache(cache)
	}
	r.engine = wazero.NewRuntimeWithConfig(ctx, rc)
	if err := r.instantiateHosts(ctx); err != nil {
		_ = r.Close(ctx)
		return nil, err
	}
	return r, nil
}

// engineConfig is how wazero is set up, but for its cache.
func engineConfig() wazero.RuntimeConfig {
	return wazero.NewRuntimeConfig().WithCoreFeatures(features).WithDebugInfoEnabled(false).WithMemoryLimitPages(maxPages)
}

func (r *Runtime) instantiateHosts(ctx context.Context) error {
	for mi, m := range r.modules {
		b := r.engine.NewHostModuleBuilder(m.Name)
		for fi := range m.Functions {
			f := &m.Functions[fi]
			if f.Await != nil && (slices.Contains(f.Params, api.ValueTypeExternref) || slices.Contains(f.Results, api.ValueTypeExternref)) {
				return fmt.Errorf("offer host function %s.%s: an await point takes and returns numbers only, as its arguments are part of snapshots", m.Name, f.Name)
			}
			b = b.NewFunctionBuilder().
				WithGoModuleFunction(hostFunction(mi, fi, f), f.Params, f.Results).
				Export(f.Name)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("offer host module %s: %w", m.Name, err)
		}
	}
	return instantiateFrames(ctx, r.engine)
}

// hostFunction returns what the engine calls for function fi of module mi.
func hostFunction(mi, fi int, f *hostabi.Function) api.GoModuleFunc {
	if f.Await != nil {
		return func(ctx context.Context, _ api.Module, stack []uint64) {
			current(ctx).await(ctx, mi, fi, f, stack)
		}
	}
	return func(ctx context.Context, _ api.Module, stack []uint64) {
		c := current(ctx)
		c.checkContext()
		outer := c.enter(mi, fi)
		f.Call(c.ctx, &c.guest, c.hosts[mi], stack)
		c.host = outer
	}
}

// Close closes the runtime's modules, and releases what it holds. Its coroutines must have been closed, and schedulers that use
// it. To compile or start something afterwards is [ErrClosed]; to close it twice is nothing.
func (r *Runtime) Close(ctx context.Context) error {
	r.mu.Lock()
	opened, closed := r.opened, r.closed
	r.opened, r.closed = nil, true
	r.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	for m := range opened {
		errs = append(errs, m.Close(ctx))
	}
	errs = append(errs, r.engine.Close(ctx))
	if r.cache != nil {
		errs = append(errs, r.cache.Close(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close runtime: %w", err)
	}
	return nil
}

var errClosedRuntime = fmt.Errorf("the runtime is %w", ErrClosed)

// checkOpen returns an error if the runtime is closed, for when something has failed, which says nothing of the module then.
func (r *Runtime) checkOpen() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosedRuntime
	}
	return nil
}

// opens notes a module, which the runtime closes if nobody else does.
func (r *Runtime) opens(m *Module) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosedRuntime
	}
	r.opened[m] = struct{}{}
	return nil
}

// closes notes that a module is closed.
func (r *Runtime) closes(m *Module) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.opened, m)
}

// compileContext returns the context for compiling: with as many workers as there are processors, but at least two: wazero looks
// for the end of the context only where it has several.
func compileContext(ctx context.Context) context.Context {
	return experimental.WithCompilationWorkers(ctx, max(2, goruntime.GOMAXPROCS(0)))
}

// invocation is the context of a call into a guest. It carries the coroutine.
type invocation struct {
	context.Context
	c *Coroutine
}

type coroutineKey struct{}

// Value implements context.Context.
func (i *invocation) Value(key any) any {
	if key == (coroutineKey{}) {
		return i.c
	}
	return i.Context.Value(key)
}

// current returns the coroutine whose guest is calling.
func current(ctx context.Context) *Coroutine { return ctx.Value(coroutineKey{}).(*Coroutine) }
