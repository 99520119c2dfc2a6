package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/linmem"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

const (
	// ExitCodeTrap is the exit code of a coroutine whose guest trapped, as a shell reports an abort.
	ExitCodeTrap = 134
	// ExitCodeCancelled is that of a coroutine that was cancelled where its guest could not be told, as a shell reports a
	// termination.
	ExitCodeCancelled = 143
)

// StartConfig says how to start a coroutine.
type StartConfig struct {
	ID         string             // coroutine id, as [snapshot.ValidID] allows
	ModuleName string             // file name of the module, for people; may be empty
	Entry      string             // the export to call; default "_start", else "main"
	Args       []uint64           // its arguments as bits, one for each parameter
	Input      []byte             // what the guest reads with durun.input
	Hosts      []hostabi.Instance // an instance of each host module that the program imports; the coroutine closes them
	Stdout     io.Writer          // gets what the guest writes, as it writes it; nil for nobody. Its errors are ignored
	Stderr     io.Writer
	Grants     []snapshot.Grant // recorded in snapshots
	Limits     Limits
	// Base is a shared base to start from, see [snapshot.Store.Base]: a guest of the same module that is suspended. The
	// coroutine goes on from there, as one of its own: with what it wrote until then as its output, and Input for what the
	// guest reads with durun.input from then on, unless that is nil. One that waits in durun.yield reads what that
	// receives, so it can be given none. The hosts take over the base's state. Entry and Args, if they are given, must be the base's.
	// One chain may serve any number of starts.
	Base *snapshot.Chain
}

// Coroutine is one durable run of a module.
//
// Its methods are for one goroutine at a time.
type Coroutine struct {
	module  *Module
	id      string
	name    string // the module's
	entry   string
	args    []snapshot.Value
	grants  []snapshot.Grant
	hosts   []hostabi.Instance // by index in Runtime.modules; nil where the program has no use for one
	abi     *abi
	stdout  io.Writer
	stderr  io.Writer
	busy    atomic.Bool
	closed  bool
	parent  *snapshot.Parent   // the last commit
	lineage snapshot.Lineage   // of the commits
	atRoot  *snapshot.Snapshot // the state, without pages, of the chain's root, and
	atLast  *snapshot.Snapshot // of the last commit
	taken   *snapshot.Snapshot // what was captured last, if the guest has not run since
	output  []snapshot.Output
	written int // bytes in output
	status  snapshot.Status

	main    api.Module    // the instance of the running form
	resume  api.Module    // the instance of the resume module that last rebuilt the stack; nil if none has
	retired []api.Module  // earlier ones that could not be closed
	shape   *resumeModule // the module of which resume is an instance
	state   api.MutableGlobal
	memory  api.Memory
	linear  *linmem.Memory    // what the engine has for memory; nil without
	globals []api.Global      // the mutable ones, by index; nil until looked up
	refs    map[uint64]uint32 // what references to functions name, as function index + 1; made on first use
	guest   hostabi.Guest
	ctx     context.Context // of the current Resume

	// The guest runs in a coroutine of Go's: next runs it until it suspends or ends, stop ends it while it is suspended, and
	// suspend hands control back from inside.
	next    func() (struct{}, bool)
	stop    func()
	suspend func(struct{}) bool

	reentry

	limits Limits
	pace   pace
	onTick func() // called by the guest at each tick, nil for nobody; may block

	inStart    bool // the module's start function is on the stack
	stack      stack
	frames     []snapshot.Frame // of a suspended coroutine, once they are asked for, see captured
	pending    *pending
	native     experimental.Snapshot // the native stack at the await call
	natives    int                   // how many there have been in this call
	limit      int                   // of natives; other than maxNatives in tests
	exceptions exceptions
	inTry      bool // a frame is inside a try_table: wazero's copy lacks its handlers
	rewinding  bool
	closing    bool

	results []uint64
	exit    uint32
	endErr  error // of the guest's call, until the status is set from it
	err     error // why it failed
}

// pending is the await call at which a coroutine is suspended.
type pending struct {
	host  hostImport
	args  []uint64
	stack []uint64 // arguments, then results
	what  *hostabi.Pending
}

// Start begins a coroutine. Nothing of the guest runs before the first Resume. It returns an error for an entry that the
// module doesn't export, for arguments that don't fit it, for a host module that is imported and has no instance, and
// [snapshot.ErrRootKnown] if the module has forgotten a base since it was asked, see [Module.Known].
func (m *Module) Start(ctx context.Context, config StartConfig) (*Coroutine, error) {
	if config.Base != nil {
		return m.startFrom(ctx, config)
	}
	if config.Entry == "" {
		config.Entry = m.defaultEntry()
	}
	t, ok := m.entryType(config.Entry)
	if !ok {
		return nil, &ModuleError{Msg: fmt.Sprintf("the module exports no function %q; it exports %q", config.Entry, m.exports())}
	}
	args, err := valuesOf(t.Params, config.Args)
	if err != nil {
		return nil, fmt.Errorf("arguments of %s: %w", config.Entry, err)
	}
	if _, err := valuesOf(t.Results, make([]uint64, len(t.Results))); err != nil {
		return nil, &ModuleError{Msg: fmt.Sprintf("results of %s", config.Entry), Err: err}
	}
	c := &Coroutine{
		module: m, id: config.ID, name: config.ModuleName, entry: config.Entry, args: args, grants: config.Grants,
		stdout: config.Stdout, stderr: config.Stderr, status: snapshot.Suspended, abi: newABI(config.ID, config.Input),
	}
	room := int64(0)
	if c.limits, err = config.Limits.with(config.Grants); err == nil {
		room, err = m.room(c.limits, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("start coroutine %s: %w", config.ID, err)
	}
	if c.linear, err = m.newMemory(nil, 0, c.limits); err != nil {
		return nil, err
	}
	if err := c.init(ctx, config.Hosts); err != nil {
		c.freeMemory()
		return nil, err
	}
	c.setRoom(room)
	return c, nil
}

// valuesOf types bits.
func valuesOf(types []wasm.ValueType, bits []uint64) ([]snapshot.Value, error) {
	if len(types) != len(bits) {
		return nil, fmt.Errorf("%d values, where there are %d", len(bits), len(types))
	}
	var vs []snapshot.Value
	for i, t := range types {
		switch t {
		case wasm.I32, wasm.F32:
			vs = append(vs, snapshot.Value{Type: snapshot.ValueType(t), Lo: uint64(uint32(bits[i]))})
		case wasm.I64, wasm.F64:
			vs = append(vs, snapshot.Value{Type: snapshot.ValueType(t), Lo: bits[i]})
		default:
			return nil, errors.New("an entry takes and returns numbers only")
		}
	}
	return vs, nil
}

func (c *Coroutine) freeMemory() {
	if c.linear != nil {
		c.linear.Free()
		c.linear = nil
	}
}

// init makes the instance, with c.linear for memory, and takes the hosts.
func (c *Coroutine) init(ctx context.Context, hosts []hostabi.Instance) (err error) {
	m := c.module
	c.hosts = make([]hostabi.Instance, len(m.runtime.modules))
	c.hosts[0] = c.abi
	for _, h := range hosts {
		i := m.runtime.moduleIndex(h.Module())
		if i < 0 {
			return fmt.Errorf("host module %s: the runtime was configured without it", h.Module().Name)
		}
		c.hosts[i] = h
	}
	for _, im := range m.imports {
		if c.hosts[im.module] == nil {
			return fmt.Errorf("the program imports host module %s, and no instance of it was given", m.runtime.modules[im.module].Name)
		}
	}
	if c.main, err = m.instantiate(ctx, c.linear); err != nil {
		return err
	}
	c.state = c.main.ExportedGlobal(instrument.ExportState).(api.MutableGlobal)
	c.pace = pace{counter: c.main.ExportedGlobal(instrument.ExportTicks).(api.MutableGlobal), always: m.runtime.ticking}
	if mem := c.main.ExportedMemory(instrument.ExportMemory); mem != nil {
		c.memory = mem
	}
	c.abi.pending = c.Pending
	c.guest = hostabi.Guest{Memory: c.memory, Output: c.write, Coroutine: c.abi, Call: c.call}
	c.limit = maxNatives
	c.begin()
	return nil
}

// begin prepares the call into the guest.
func (c *Coroutine) begin() {
	c.closing, c.natives = false, 0
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.suspend = yield
		c.endErr = c.run()
	})
}

func (r *Runtime) moduleIndex(m *hostabi.Module) int {
	for i, other := range r.modules {
		if other == m {
			return i
		}
	}
	return -1
}

// run calls the guest: what is left of its stack, its start function and its entry.
func (c *Coroutine) run() error {
	ctx := &invocation{experimental.WithSnapshotter(context.Background()), c}
	call := func(f api.Function, args []snapshot.Value, n int) ([]uint64, error) {
		stack := make([]uint64, max(n, len(args)))
		for i, a := range args {
			stack[i] = a.Lo
		}
		err := f.CallWithStack(ctx, stack)
		return stack[:n], err
	}
	if c.resume != nil {
		c.rewinding = true
		f := c.resume.ExportedFunction(instrument.ExportResume)
		results, err := call(f, nil, len(f.Definition().ResultTypes()))
		if err != nil || c.closing || !c.inStart {
			c.results = results
			return err
		}
	} else if f := c.main.ExportedFunction(instrument.ExportStart); f != nil {
		c.inStart = true
		if _, err := call(f, nil, 0); err != nil || c.closing {
			return err
		}
	}
	c.inStart = false
	// Not from the Definition: to make those of a large module takes wazero v1.12 longer than all else in a warm start.
	t, _ := c.module.entryType(c.entry)
	results, err := call(c.main.ExportedFunction(c.entry), c.args, len(t.Results))
	c.results = results
	return err
}

// Resume drives the coroutine to its next await point or its end, and returns its status: suspended, completed or
// failed. A guest that traps or exits with a code other than 0 is no error of Resume.
//
// When ctx is done, the guest is stopped within some milliseconds, the coroutine is closed, and Resume returns ctx's error:
// the last snapshot is what is left. A host function that runs is waited for, as is a single instruction: to fill 4 GiB of memory
// takes a second.
//
// Errors: [ErrEnded], [ErrInUse], [ErrClosed], and ctx's; [ErrMismatch] if the stack of a restored coroutine can't be rebuilt,
// because its snapshot was made up.
func (c *Coroutine) Resume(ctx context.Context) (snapshot.Status, error) {
	if !c.busy.CompareAndSwap(false, true) {
		return "", ErrInUse
	}
	defer c.busy.Store(false)
	switch {
	case c.status.Ended():
		return c.status, ErrEnded
	case c.closed:
		return "", ErrClosed
	case ctx.Err() != nil:
		return c.status, fmt.Errorf("resume coroutine %s: %w", c.id, ctx.Err())
	}
	c.ctx, c.taken = ctx, nil
	if c.abi.cancel == cancelAsked && (c.pending == nil || !c.pending.what.Cancellable) {
		c.cancelled()
		return c.status, nil
	}
	if err := c.checkCPU(); err != nil {
		c.closing = true
		c.stop()
		return c.end(err)
	}
	c.pace.begin()
	defer c.account()
	if c.pending != nil {
		ready, err := c.completeAwait()
		if err != nil {
			return c.end(err)
		}
		if !ready {
			return c.status, nil
		}
		if c.natives >= c.limit || c.inTry {
			if err := c.rewind(ctx); err != nil {
				// The await call is complete, which it can't become twice: what it took from the host would be lost.
				return "", errors.Join(fmt.Errorf("resume coroutine %s: %w", c.id, err), c.close())
			}
		}
	}
	if _, suspended := c.next(); suspended {
		c.inTry = c.standsInTry()
		return c.status, nil
	}
	if c.rewinding {
		// Nothing of the guest's own has run: it hasn't failed, and what is in the store is as good as before.
		if c.endErr == nil {
			c.endErr = errors.New("it ends without the await call")
		}
		if strings.HasPrefix(c.endErr.Error(), "stack overflow") {
			err := fmt.Errorf("rebuild the stack of coroutine %s: its %d frames take more than the engine's stack holds, which has a fixed size", c.id, len(c.frames))
			return "", errors.Join(err, c.close())
		}
		err := fmt.Errorf("rebuild the stack of coroutine %s: %w: %w", c.id, ErrMismatch, c.endErr)
		return "", errors.Join(err, c.close())
	}
	return c.end(c.endErr)
}

// maxNatives is how many times in a row a coroutine goes on from a copy of its native stack. Each copy that wazero v1.12
// makes is 16 bytes larger than the last, for good; so once in a while the stack is built anew.
const maxNatives = 4096

// rewind ends the call into the guest, which is suspended and so has no frames there, and prepares another that
// rebuilds the stack from the captured frames.
func (c *Coroutine) rewind(ctx context.Context) error {
	frames, err := c.captured()
	if err != nil {
		return err
	}
	c.stop()
	if err := c.prepareStack(ctx, frames, c.module.importIndex(c.pending.host)); err != nil {
		return err
	}
	c.state.Set(0)
	c.native = nil
	c.begin()
	return nil
}

// captured returns the frames of a suspended coroutine. Those that the guest has stored are put in the original module's terms
// when somebody asks for them.
func (c *Coroutine) captured() (_ []snapshot.Frame, err error) {
	if c.frames == nil && len(c.stack.sites) > 0 {
		if c.frames, err = c.stack.frames(c.module.plan, c.named); err != nil {
			return nil, fmt.Errorf("capture the stack of coroutine %s: %w", c.id, err)
		}
	}
	return c.frames, nil
}

// standsInTry reports whether a frame that the guest has just stored is inside a try_table.
func (c *Coroutine) standsInTry() bool {
	for _, f := range c.stack.sites {
		if int(f.site) < len(c.module.plan.Sites) && c.module.plan.Sites[f.site].Try {
			return true
		}
	}
	return false
}

// end settles the status of a coroutine whose guest has returned with err.
func (c *Coroutine) end(err error) (snapshot.Status, error) {
	var exit *sys.ExitError
	var capture *CaptureError
	var limit *LimitError
	switch {
	case errors.Is(err, errInterrupted) && c.ctx.Err() != nil:
		cause := c.ctx.Err()
		return "", errors.Join(fmt.Errorf("resume coroutine %s: %w", c.id, cause), c.close())
	case errors.As(err, &exit):
		c.status, c.exit = snapshot.Completed, exit.ExitCode()
		c.results = nil
	case errors.As(err, &capture):
		// The guest's stack is gone, and the trap was durun's: the error says what there is to say.
		c.status, c.exit, c.err = snapshot.Failed, ExitCodeTrap, capture
		c.results = nil
	case errors.As(err, &limit): // a trap of durun's as well
		c.status, c.exit, c.err = snapshot.Failed, ExitCodeTrap, limit
		c.results = nil
	case err != nil:
		c.status, c.exit, c.err = snapshot.Failed, ExitCodeTrap, err
		c.results = nil
	default:
		c.status = snapshot.Completed
	}
	if c.abi.cancel == cancelTold && c.exit != 0 && capture == nil {
		c.status = snapshot.Cancelled
	}
	c.pending, c.frames, c.host = nil, nil, hostCall{}
	c.abi.end()
	return c.status, nil
}

// Cancel asks the coroutine to end. A guest that waits in durun.wait, or by /durun, is told there, once, and may clean up: see
// hostabi/ABI.md. One that waits elsewhere, or has not run yet, ends at the next Resume. It must not be running.
//
// The request is part of the next commit. A message of the name [snapshot.CancelMessage] is the same for a coroutine that
// somebody drives.
func (c *Coroutine) Cancel() {
	if c.abi.cancel == cancelNone {
		c.abi.cancel = cancelAsked
	}
}

// cancelled ends a coroutine that does not run, without its guest.
func (c *Coroutine) cancelled() {
	c.closing = true
	c.stop()
	c.abi.cancel = cancelTold
	c.status, c.exit, c.results = snapshot.Cancelled, ExitCodeCancelled, nil
	c.pending, c.frames, c.native, c.host = nil, nil, nil, hostCall{}
	c.abi.end()
}

// await is the guest's call of a host function that may suspend.
func (c *Coroutine) await(ctx context.Context, mi, fi int, f *hostabi.Function, stack []uint64) {
	if c.rewinding {
		// The stack has been rebuilt up to here; the call itself was completed before.
		c.rewinding = false
		if c.pending == nil || c.pending.host != (hostImport{mi, fi}) {
			panic(errors.New("the rebuilt stack ends in another host call"))
		}
		copy(stack, c.pending.stack[:len(f.Results)])
		c.pending, c.frames = nil, nil
		return
	}
	c.checkContext()
	args := append([]uint64(nil), stack[:len(f.Params)]...)
	outer := c.enter(mi, fi)
	what := f.Await(c.ctx, &c.guest, c.hosts[mi], stack, nil)
	c.host = outer
	if what == nil {
		return
	}
	if c.nested > 0 {
		clear(stack[:len(f.Results)])
		c.refuse(f, hostImport{mi, fi}, what)
		return
	}
	c.pending = &pending{host: hostImport{mi, fi}, args: args, what: c.abi.ops.named(what)}
	c.abi.refused = nil // as it is after a restore
	c.native = experimental.GetSnapshotter(ctx).Snapshot()
	c.natives++
	c.stack.reset()
	clear(stack[:len(f.Results)])
	c.state.Set(1)
}

// unwound is called by the guest's outermost frame when all frames are stored. In a call by a host function it ends that with
// an error, and so it ends the guest if that holds what can't be captured. Else it hands control to whoever drives the
// coroutine; driven on, it puts back the native stack as it was in the await call, and returns into that.
func (c *Coroutine) unwound() {
	if c.nested > 0 {
		c.refusedAt()
	}
	if len(c.stack.unnamed) > 0 {
		c.state.Set(0)
		panic(c.cantCapture(c.stack.unnamed[0]))
	}
	if e := c.checkForeign(); e != nil {
		c.state.Set(0)
		if len(c.stack.sites) > 0 {
			c.locate(e, c.stack.sites[0].site)
		}
		panic(e)
	}
	if !c.module.holdsExceptions {
		c.exceptions.release()
	}
	if !c.suspend(struct{}{}) {
		c.closing = true
		return
	}
	c.state.Set(0)
	results := c.pending.stack
	native := c.native
	c.pending, c.frames, c.native = nil, nil, nil
	native.Restore(results)
}

// locate has the error say at which call the guest is suspended.
func (c *Coroutine) locate(e *CaptureError, site uint32) {
	s := &c.module.plan.Sites[site]
	e.Function, e.Name, e.Offset, e.HasFunction = s.Function, c.module.outline.FunctionNames()[s.Function], int(s.Offset), true
}

// cantCapture returns the error for a frame with a reference that nobody can name.
func (c *Coroutine) cantCapture(u unnamed) error {
	e := &CaptureError{
		Reason: "an externref that isn't null is live across the call, and nobody can say in another process what it refers to",
	}
	c.locate(e, u.site)
	if u.kind == instrument.NotNullExn {
		e.Reason = "an exnref that isn't null, a caught exception, is live across the call, and can't be taken to another process"
	}
	return e
}

// completeAwait tries to complete the await call. It returns false if it has to wait on, and an error if the
// call ends the guest.
func (c *Coroutine) completeAwait() (ready bool, err error) {
	p := c.pending
	f := &c.module.runtime.modules[p.host.module].Functions[p.host.function]
	p.stack = append(p.stack[:0], p.args...)
	for len(p.stack) < len(f.Results) {
		p.stack = append(p.stack, 0)
	}
	defer func() {
		c.host = hostCall{}
		if r := recover(); r != nil {
			e, ok := r.(error)
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("%s: %w", f.Name, e)
		}
	}()
	c.enter(p.host.module, p.host.function)
	what := f.Await(c.ctx, &c.guest, c.hosts[p.host.module], p.stack, p.what)
	if what != nil {
		p.what = c.abi.ops.named(what)
		return false, nil
	}
	p.stack = p.stack[:len(f.Results)]
	return true, nil
}

// checkContext stops the guest if the current Resume's context is done.
func (c *Coroutine) checkContext() {
	if c.ctx.Err() != nil {
		panic(errInterrupted)
	}
}

// MaxOutput is how much, in bytes, a guest may write to its standard streams between two commits, which have to hold it.
// A guest that writes more traps, as does one that changes between them more than [snapshot.MaxStretches] times.
const MaxOutput = 256 << 20

// write takes what the guest writes to its standard output or error.
func (c *Coroutine) write(stream uint8, p []byte) error {
	if len(p) > MaxOutput-c.written {
		panic(fmt.Errorf("durun: more than %d MiB of output without an await point between: a commit has to hold it", MaxOutput>>20))
	}
	n := len(c.output)
	same := n > 0 && c.output[n-1].Stream == stream
	if !same && n == snapshot.MaxStretches {
		panic(fmt.Errorf("durun: more than %d changes between standard output and error without an await point between: a commit has to hold them", n))
	}
	c.written += len(p)
	if same {
		c.output[n-1].Data = append(c.output[n-1].Data, p...)
	} else {
		c.output = append(c.output, snapshot.Output{Stream: stream, Data: append([]byte(nil), p...)})
	}
	c.show(stream, p)
	return nil
}

// show passes output on to whoever watches.
func (c *Coroutine) show(stream uint8, p []byte) {
	w := c.stdout
	if stream == 2 {
		w = c.stderr
	}
	if w != nil {
		// Somebody who watches and goes away must not change what the guest does.
		_, _ = w.Write(p)
	}
}

// ID returns the coroutine's id.
func (c *Coroutine) ID() string { return c.id }

// Status returns the status. A coroutine that has not run yet is suspended.
func (c *Coroutine) Status() snapshot.Status { return c.status }

// Pending returns what a suspended coroutine waits for; nil before the first Resume and after the end.
func (c *Coroutine) Pending() *hostabi.Pending {
	if c.pending == nil {
		return nil
	}
	return c.pending.what
}

// Wait blocks until what the coroutine waits for may have happened, or ctx is done; then it returns ctx's error. It
// returns at once if the coroutine doesn't wait for anything that the host knows of.
func (c *Coroutine) Wait(ctx context.Context) error {
	if !c.busy.CompareAndSwap(false, true) {
		return ErrInUse
	}
	defer c.busy.Store(false)
	if c.closed {
		return ErrClosed
	}
	if c.pending == nil {
		return nil
	}
	p := c.pending.what
	wait := c.hosts[c.pending.host.module].Wait
	switch {
	case p.Kind == hostabi.KindOperations || p.Kind == hostabi.KindYield: // the runtime's own, whichever module's function it is
		wait = c.abi.Wait
	case len(p.Ops) > 0:
		wait = first(wait, c.abi.waitOperations)
	}
	if err := wait(ctx, p); err != nil {
		return fmt.Errorf("wait for coroutine %s: %w", c.id, err)
	}
	return nil
}

// first returns a function that waits by both, and is over with whichever is over first.
func first(f, g func(context.Context, *hostabi.Pending) error) func(context.Context, *hostabi.Pending) error {
	return func(ctx context.Context, p *hostabi.Pending) error {
		ctx, over := context.WithCancel(ctx)
		defer over()
		other := make(chan error, 1)
		go func() {
			defer over()
			other <- g(ctx, p)
		}()
		err := f(ctx, p)
		over()
		if err2 := <-other; err2 == nil {
			return nil
		}
		return err
	}
}

// Yielded returns the value that the guest handed out with durun.yield, while the coroutine is suspended there.
func (c *Coroutine) Yielded() (value []byte, ok bool) {
	if c.pending == nil || c.pending.what.Kind != hostabi.KindYield {
		return nil, false
	}
	return c.pending.what.Data, true
}

// Send sets the value that the guest receives from the durun.yield at which it is suspended. Without it, the guest
// receives an empty one. value must not be changed afterwards.
func (c *Coroutine) Send(value []byte) { c.abi.reply = value }

// Result returns what the guest set with durun.output, nil if nothing.
func (c *Coroutine) Result() []byte { return slices.Clone(c.abi.result) }

// Results returns the entry's results as bits, once the coroutine has completed by a plain return.
func (c *Coroutine) Results() []uint64 {
	if c.status != snapshot.Completed {
		return nil
	}
	return c.results
}

// ExitCode returns the guest's exit code once it has ended: 0 after a plain return, [ExitCodeTrap] after a trap.
func (c *Coroutine) ExitCode() uint32 { return c.exit }

// Err returns why a failed coroutine failed: the trap, with the stack at it.
func (c *Coroutine) Err() error { return c.err }

// Close releases the coroutine's memory and host instances. It must not be running.
func (c *Coroutine) Close() error {
	if !c.busy.CompareAndSwap(false, true) {
		return ErrInUse
	}
	defer c.busy.Store(false)
	return c.close()
}

func (c *Coroutine) close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.stop()
	if c.linear != nil {
		c.followMemory() // what it has grown to is to be given back as well
	}
	ctx := context.Background()
	var errs []error
	for _, inst := range append(c.retired, c.resume, c.main) {
		if inst != nil {
			errs = append(errs, inst.Close(ctx))
		}
	}
	c.freeMemory()
	for _, h := range c.hosts {
		if h != nil {
			errs = append(errs, h.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close coroutine %s: %w", c.id, err)
	}
	return nil
}
