package runtime

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/runtime/internal/wasm"
	"github.com/durun/durun/snapshot"
)

// stack is the frames of a coroutine, as words on their way from or to the guest.
type stack struct {
	words []uint64
	// While unwinding, innermost first: the site of each frame, and where its words end.
	sites []frameEnd
	// The frames, as indices of sites, in which there is a reference that nobody can name, and of what type. kind is that of
	// the frame that comes next.
	unnamed []unnamed
	kind    uint32
	// While rewinding: the continuations to call, outermost first, and what has been used of both.
	continuations []uint32
	nextFrame     int
	nextWord      int
}

type frameEnd struct {
	site uint32
	end  int
}

type unnamed struct {
	site, kind uint32
}

func (s *stack) reset() {
	s.unnamed, s.kind = s.unnamed[:0], 0
	s.words, s.sites, s.continuations = s.words[:0], s.sites[:0], s.continuations[:0]
	s.nextFrame, s.nextWord = 0, 0
}

// save takes values of a frame, and its site when they are the last.
func (s *stack) save(values []uint64, site uint64) {
	s.words = append(s.words, values...)
	if id := int32(uint32(site)); id >= 0 {
		s.sites = append(s.sites, frameEnd{uint32(id), len(s.words)})
		if s.kind != 0 {
			s.unnamed = append(s.unnamed, unnamed{uint32(id), s.kind})
			s.kind = 0
		}
	}
}

// next returns the next continuation.
func (s *stack) next() uint64 {
	i := s.nextFrame
	s.nextFrame++
	if i >= len(s.continuations) {
		panic(fmt.Errorf("the stack has only %d frames", i))
	}
	return uint64(s.continuations[i])
}

// load hands out the next values.
func (s *stack) load(values []uint64) {
	if copy(values, s.words[s.nextWord:]) < len(values) {
		panic(fmt.Errorf("a frame asks for more than was stored"))
	}
	s.nextWord += len(values)
}

// instantiateFrames offers the module through which emitted code moves frames.
func instantiateFrames(ctx context.Context, engine wazero.Runtime) error {
	i64s := make([]api.ValueType, instrument.MaxValues)
	for i := range i64s {
		i64s[i] = api.ValueTypeI64
	}
	b := engine.NewHostModuleBuilder(instrument.HostModule)
	export := func(name string, params, results []api.ValueType, f func(c *Coroutine, stack []uint64)) {
		b = b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, stack []uint64) {
			f(current(ctx), stack)
		}), params, results).Export(name)
	}
	export(instrument.ImportUnwound, nil, nil, func(c *Coroutine, _ []uint64) { c.unwound() })
	export(instrument.ImportTick, nil, nil, func(c *Coroutine, _ []uint64) { c.tick() })
	export(instrument.ImportTry, nil, nil, func(c *Coroutine, _ []uint64) { c.beforeTry() })
	export(instrument.ImportNext, nil, []api.ValueType{api.ValueTypeI32}, func(c *Coroutine, stack []uint64) {
		stack[0] = c.stack.next()
	})
	const funcref = api.ValueType(0x70)
	export(instrument.ImportRef, []api.ValueType{funcref}, i64s[:1], func(*Coroutine, []uint64) {}) // its bits are what it is known by
	export(instrument.ImportUnnamed, []api.ValueType{api.ValueTypeI32}, nil, func(c *Coroutine, stack []uint64) {
		c.stack.kind = uint32(stack[0])
	})
	const exnref = api.ValueType(0x69)
	export(instrument.ImportKeep, []api.ValueType{exnref}, nil, func(c *Coroutine, stack []uint64) { c.exceptions.keep(stack) })
	for n := range instrument.MaxValues + 1 {
		params := append(i64s[:n:n], api.ValueTypeI32)
		export(instrument.ImportSave(n), params, nil, func(c *Coroutine, stack []uint64) {
			c.stack.save(stack[:n], stack[n])
		})
		if n > 0 {
			export(instrument.ImportLoad(n), nil, i64s[:n], func(c *Coroutine, stack []uint64) {
				c.stack.load(stack[:n])
			})
		}
	}
	if _, err := b.Instantiate(ctx); err != nil {
		return fmt.Errorf("offer host module %s: %w", instrument.HostModule, err)
	}
	return nil
}

// frames returns the unwound stack in the original module's terms, outermost first. named tells which function a reference is
// to, as in [snapshot.Value].
func (s *stack) frames(plan *instrument.Plan, named func(ref uint64) (uint64, error)) ([]snapshot.Frame, error) {
	frames := make([]snapshot.Frame, len(s.sites))
	total := 0
	for _, f := range s.sites {
		if int(f.site) >= len(plan.Sites) {
			return nil, fmt.Errorf("frame of unknown site %d", f.site)
		}
		total += len(plan.Sites[f.site].Slots)
	}
	slots := make([]snapshot.Slot, 0, total)
	begin := 0
	for i, f := range s.sites {
		site := &plan.Sites[f.site]
		words := s.words[begin:f.end]
		begin = f.end
		if len(words) != site.Words() {
			return nil, fmt.Errorf("frame of site %d has %d words, not %d", f.site, len(words), site.Words())
		}
		first := len(slots)
		for _, sl := range site.Slots {
			v := snapshot.Value{Type: snapshotType(sl.Type), Lo: words[0]}
			words = words[1:]
			switch {
			case sl.Type == wasm.V128:
				v.Hi, words = words[0], words[1:]
			case sl.Type.IsRef():
				var err error
				if v.Lo, err = named(v.Lo); err != nil {
					return nil, &CaptureError{
						Function: site.Function, HasFunction: true, Offset: int(site.Offset),
						Reason: fmt.Sprintf("a value that is live across the call (%s %d): %v", kindOf(sl), sl.Index, err),
					}
				}
			}
			slots = append(slots, snapshot.Slot{Operand: sl.Operand, Index: sl.Index, Value: v})
		}
		frames[len(frames)-1-i] = snapshot.Frame{
			Function: site.Function, Offset: site.Offset, Slots: slots[first:len(slots):len(slots)],
		}
	}
	return frames, nil
}

func kindOf(s instrument.Slot) string {
	if s.Operand {
		return "operand"
	}
	return "local"
}
