package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/internal/wasm"
)

// hostCall is a host function that runs.
type hostCall struct {
	at     hostImport
	active bool
}

// reentry is the state of a coroutine whose host functions call its guest.
//
// A host function is in the middle of the stack then, which can't be captured. So when an await call below it has to wait,
// the guest is unwound as far as the host's call, as it would be to suspend: that tells where it stands. But then the call
// fails, and the frames are forgotten.
type reentry struct {
	host   hostCall // the host function that runs
	nested int      // calls into the guest that host functions have made and that haven't returned
	middle hostCall // the host function that made the innermost of these
	// refused is why the innermost call fails; nil as long as it doesn't. It is set while the guest unwinds.
	refused *hostabi.ReentryError
	// idle has functions of the guest that nobody is calling, by export, for the next call. One can't be called while it
	// runs, and to make one takes twenty times as long as a call.
	idle map[string][]api.Function
}

// enter notes that a host function begins to run. Its caller puts back what was before when it has returned; if it panics,
// whoever takes that does.
func (c *Coroutine) enter(module, function int) (outer hostCall) {
	outer = c.host
	c.host = hostCall{hostImport{module, function}, true}
	return outer
}

// maxNested is how many calls into a guest may be nested. Each takes some of Go's stack, whose overflow would end the
// process.
const maxNested = 1000

// call implements hostabi.Guest.Call.
func (c *Coroutine) call(ctx context.Context, export string, args ...uint64) ([]uint64, error) {
	fail := func(err error) ([]uint64, error) { return nil, fmt.Errorf("call the guest's %s: %w", export, err) }
	host := c.host
	if !host.active {
		return fail(errors.New("no host function of this coroutine runs that could"))
	}
	t, ok := c.module.entryType(export)
	if !ok {
		return fail(fmt.Errorf("the module exports no such function; it exports %q", c.module.exports()))
	}
	params, err := valuesOf(t.Params, args)
	if err != nil {
		return fail(fmt.Errorf("arguments: %w", err))
	}
	if _, err := valuesOf(t.Results, make([]uint64, len(t.Results))); err != nil {
		return fail(fmt.Errorf("results: %w", err))
	}
	if c.nested >= maxNested {
		return fail(fmt.Errorf("host functions and the guest have called each other %d times, which is as deep as they may", maxNested))
	}
	if ctx.Err() != nil {
		return fail(fmt.Errorf("%w: %w", errInterrupted, ctx.Err()))
	}
	words := make([]uint64, max(len(t.Params), len(t.Results)))
	for i, p := range params {
		words[i] = p.Lo
	}

	// Below, the coroutine is as in a call of its own. Above it may be suspended: a host function may run then, to complete
	// its call.
	outer, outerStack, outerCtx, state := c.reentry, c.stack, c.ctx, c.state.Get()
	if ctx != outerCtx { // whose end it need not know of
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(outerCtx, cancel)()
	}
	c.host, c.middle, c.refused = hostCall{}, host, nil
	c.nested++
	c.stack, c.ctx = stack{}, ctx
	c.state.Set(0)
	f := c.takeIdle(export)
	err = f.CallWithStack(&invocation{context.Background(), c}, words)
	c.idle[export] = append(c.idle[export], f)
	refused := c.refused
	c.host, c.middle, c.refused, c.nested = outer.host, outer.middle, outer.refused, outer.nested
	c.stack, c.ctx = outerStack, outerCtx
	c.state.Set(state)

	switch {
	case refused != nil:
		return nil, refused
	case errors.Is(err, errInterrupted) && ctx.Err() != nil:
		return fail(fmt.Errorf("%w: %w", errInterrupted, ctx.Err()))
	case err != nil:
		return fail(err)
	}
	for i, r := range t.Results {
		if r == wasm.I32 || r == wasm.F32 {
			words[i] = uint64(uint32(words[i])) // the engine leaves the upper half as it was
		}
	}
	return words[:len(t.Results)], nil
}

func (c *Coroutine) takeIdle(export string) api.Function {
	if c.idle == nil {
		c.idle = map[string][]api.Function{}
	}
	fs := c.idle[export]
	if len(fs) == 0 {
		return c.main.ExportedFunction(export)
	}
	f := fs[len(fs)-1]
	c.idle[export] = fs[:len(fs)-1]
	return f
}

// refuse begins the end of a call by a host function, in which an await call has to wait for something.
func (c *Coroutine) refuse(await *hostabi.Function, at hostImport, what *hostabi.Pending) {
	modules := c.module.runtime.modules
	middle := modules[c.middle.at.module]
	c.refused = &hostabi.ReentryError{
		Host:  middle.Name + "." + middle.Functions[c.middle.at.function].Name,
		Await: modules[at.module].Name + "." + await.Name,
		For:   what.Detail,
	}
	c.stack.reset()
	c.state.Set(1)
}

// refusedAt completes the error when the guest has been unwound, and ends the host function's call.
func (c *Coroutine) refusedAt() {
	c.state.Set(0)
	e := c.refused
	if sites := c.stack.sites; len(sites) > 0 && int(sites[0].site) < len(c.module.plan.Sites) {
		s := &c.module.plan.Sites[sites[0].site]
		e.Function, e.Offset, e.HasFunction = s.Function, s.Offset, true
		e.Name = c.module.outline.FunctionNames()[s.Function]
	}
	panic(e)
}
