package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/snapshot"
)

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
	host, err := wasi.New(wasi.Config{Args: programArgs(args[1], args[2:]), Clock: clock})
	if err != nil {
		return err
	}
	c, err := start(ctx, args[0], args[1], &eagerInstance{host, eager(&atOnce, clock)})
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

// eagerInstance is an instance of WASI for a module that [eager] made.
type eagerInstance struct {
	*wasi.Instance
	module *hostabi.Module
}

// Module implements [hostabi.Instance].
func (i *eagerInstance) Module() *hostabi.Module { return i.module }

// eager returns WASI whose next *atOnce awaits complete at once, whatever they wait for: the clock is put forward.
func eager(atOnce *int, clock *stillClock) *hostabi.Module {
	type (
		instance = hostabi.Instance
		pending  = hostabi.Pending
	)
	inner := func(i instance) instance { return i.(*eagerInstance).Instance }
	m := &hostabi.Module{Name: wasi.Module.Name}
	for _, f := range wasi.Module.Functions {
		if call := f.Call; call != nil {
			f.Call = func(ctx context.Context, g *hostabi.Guest, i instance, stack []uint64) { call(ctx, g, inner(i), stack) }
		} else {
			await := f.Await
			f.Await = func(ctx context.Context, g *hostabi.Guest, i instance, stack []uint64, p *pending) *pending {
				p = await(ctx, g, inner(i), stack, p)
				if p == nil || *atOnce == 0 {
					return p
				}
				*atOnce--
				clock.now += time.Second
				return await(ctx, g, inner(i), stack, p)
			}
		}
		m.Functions = append(m.Functions, f)
	}
	return m
}

// stillClock stands still until somebody sleeps: however short a sleep is, it isn't over before it begins.
type stillClock struct{ now time.Duration }

func (c *stillClock) Wall() int64 { return int64(c.now) }
func (c *stillClock) Mono() int64 { return int64(c.now) }

func (c *stillClock) Sleep(ctx context.Context, d time.Duration) error {
	c.now += d
	return ctx.Err()
}
