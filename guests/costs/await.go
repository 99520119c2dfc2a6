package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/durun/durun/hostabi"
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
	atOnce := 0                 // how many awaits are to complete at once: the clock is put forward
	var g *guest
	g, err := loadGuest(ctx, args[0], args[1], args[2:], interposer{await: func(p *hostabi.Pending, again func(*hostabi.Pending) *hostabi.Pending) *hostabi.Pending {
		if p == nil || atOnce == 0 {
			return p
		}
		atOnce--
		g.clock.now += time.Second
		return again(p)
	}})
	if err != nil {
		return err
	}
	defer g.close(ctx)
	c, err := g.start(ctx, "costs")
	if err != nil {
		return err
	}
	next := func() error {
		g.clock.now += time.Second
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
