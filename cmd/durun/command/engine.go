package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

const (
	cacheVariable     = "DURUN_CACHE"
	cacheSizeVariable = "DURUN_CACHE_SIZE"
)

// laterCached is for work whose result is kept.
const laterCached = "; later runs take it from the cache"

// engine is a runtime with this command's cache folder, host modules and progress display.
type engine struct {
	*runtime.Runtime
	name     string // of the module, for messages
	progress *progress
}

// newEngine returns an engine for the module called name. A cache that can't be used is no error, only slower.
func (a *app) newEngine(ctx context.Context, name string, noCache bool) (*engine, error) {
	e := &engine{name: name, progress: newModuleProgress(a.Stderr, name)}
	if a.Patience > 0 {
		e.progress.patience = a.Patience
	}
	a.setProgress(e.progress)
	config := runtime.NewConfig().WithModules(wasi.Module).WithProgress(e.progress.report)
	cached := config
	if !noCache {
		limit, err := cacheLimit()
		if err != nil {
			return nil, err
		}
		dir, err := cacheDir()
		if err == nil && dir != "" {
			cached, e.progress.later = config.WithCacheDir(dir).WithCacheLimit(limit), laterCached
		}
		if err != nil {
			a.warnNoCache(err)
		}
	}
	r, err := runtime.New(ctx, cached)
	if err != nil && ctx.Err() == nil {
		a.warnNoCache(err)
		e.progress.later = ""
		r, err = runtime.New(ctx, config)
	}
	if err != nil {
		return nil, fmt.Errorf("set up the runtime: %w", err)
	}
	e.Runtime = r
	return e, nil
}

func (a *app) warnNoCache(err error) {
	fmt.Fprintf(a.Stderr, "durun: going on without a cache of prepared modules: %v\n", err)
}

func (e *engine) compile(ctx context.Context, file *moduleFile) (*runtime.Module, error) {
	return e.prepared(e.Open(ctx, file.hash, file.read))
}

// open compiles a module that the store has, which is read only if the cache lacks what was made of it.
func (e *engine) open(ctx context.Context, store *store, module snapshot.Hash) (*runtime.Module, error) {
	return e.prepared(e.Open(ctx, module, func(ctx context.Context) ([]byte, error) { return store.Module(ctx, module) }))
}

func (e *engine) prepared(m *runtime.Module, err error) (*runtime.Module, error) {
	e.progress.end()
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", printable(e.name), err)
	}
	return m, nil
}

func (e *engine) close(ctx context.Context) error {
	e.progress.end()
	return e.Close(context.WithoutCancel(ctx))
}

// cacheDir is the folder of prepared modules, empty for none: $DURUN_CACHE, else durun under the XDG cache directory,
// else the platform's.
func cacheDir() (string, error) {
	if dir, ok := os.LookupEnv(cacheVariable); ok {
		if dir == "" {
			return "", nil
		}
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) { // a relative one is to be ignored
		return filepath.Join(dir, "durun"), nil
	}
	dir, err := userCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w; set %s to a folder", err, cacheVariable)
	}
	return filepath.Join(dir, "durun"), nil
}

// cacheLimit is how many bytes the folder of prepared modules may have, 0 for any number: $DURUN_CACHE_SIZE, else the
// runtime's default.
func cacheLimit() (int64, error) {
	s := os.Getenv(cacheSizeVariable)
	switch s {
	case "":
		return runtime.DefaultCacheLimit, nil
	case "0":
		return 0, nil
	}
	n, err := parseSize(s)
	if err != nil {
		return 0, usageError("%s: %w; 0 stands for no limit", cacheSizeVariable, err)
	}
	return n, nil
}

// userCacheDir is the platform's folder for caches. [os.UserCacheDir] refuses a relative $XDG_CACHE_HOME, which is to be ignored.
func userCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err == nil || os.Getenv("XDG_CACHE_HOME") == "" {
		return dir, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache"), nil
}
