package runtime

import (
	"github.com/durun/durun/hostabi"
)

// Config configures a [Runtime]. It is immutable: each WithX returns a changed copy. The zero value is the default.
type Config struct {
	cacheDir   string
	cacheLimit int64 // 0 for the default, negative for none
	modules    []*hostabi.Module
	progress   func(Progress)
}

// NewConfig returns the default configuration: no cache folder, no host modules but "durun", no progress.
func NewConfig() Config { return Config{} }

// WithCacheDir keeps transformed modules and compiled code in folder dir, so that the next process need not make them
// again. The folder is created when needed; several processes may share it. Default: "", in memory only.
func (c Config) WithCacheDir(dir string) Config {
	c.cacheDir = dir
	return c
}

// WithCacheLimit bounds the cache folder: beyond so many bytes what was used least recently is removed, now and then, by who
// writes to it. What another process uses can be removed as well: it is made anew when it is needed. 0 stands for no
// limit. Default: [DefaultCacheLimit].
func (c Config) WithCacheLimit(bytes int64) Config {
	if c.cacheLimit = bytes; bytes <= 0 {
		c.cacheLimit = -1
	}
	return c
}

// WithModules offers host modules to the programs that the runtime compiles, for example wasi.Module. Each coroutine
// brings its own instance of each module that its program imports, see [StartConfig].
func (c Config) WithModules(m ...*hostabi.Module) Config {
	c.modules = append(c.modules[:len(c.modules):len(c.modules)], m...)
	return c
}

// WithProgress has f called as work proceeds that may take seconds. f must be quick; it is called from the goroutine
// that asked for the work.
func (c Config) WithProgress(f func(Progress)) Config {
	c.progress = f
	return c
}

// Progress says what a runtime is busy with.
type Progress struct {
	Step  Step
	Bytes int // size of the module at work
}

// Step is a stage of [Runtime.Compile] or [Module.Restore].
type Step string

// The steps. StepDone is the last of each call that reported any.
const (
	StepTransform Step = "making suspendable"
	StepCompile   Step = "compiling"
	StepResume    Step = "compiling the suspended calls"
	StepDone      Step = "done"
)
