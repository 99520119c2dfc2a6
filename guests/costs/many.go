package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/file"
)

const groupSmall = "a small guest with 64 KiB of memory" // in the report

// crowd is the memory that coroutines take which are in a process together.
type crowd struct {
	Each float64 // bytes of private memory of each, while it is suspended
	Left float64 // bytes of all together when they are closed
}

// measureTogether adds what memory coroutines take that started from one base, and have made a step.
func (b *bench) measureTogether(name, path string, args []string) error {
	counts := []int{200, 1000}
	if b.short {
		counts = []int{10}
	}
	for _, n := range counts {
		if err := b.addCrowd(name+", from one base", n, unitMebibytes, 1<<20, "together", append([]string{path}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// measureSmallGuests adds what small guests take while they wait, in memory and in a folder.
func (b *bench) measureSmallGuests() error {
	resident, inFolder := 10000, 100000
	if b.short {
		resident, inFolder = 100, 1000
	}
	if err := b.addCrowd(groupSmall, resident, unitKibibytes, 1<<10, "small"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.kept, "costs-sleepers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.progress("%d small guests in a folder", inFolder)
	var d dormitory
	if err := childJSON(b, &d, "sleepers", b.artefact("durun"), dir, strconv.Itoa(inFolder)); err != nil {
		return err
	}
	b.progress("%d small guests in a folder: remove it", inFolder)
	add := func(name, unit string, value float64) {
		b.report.Rows = append(b.report.Rows, row{Group: groupSmall, Name: name, Unit: unit, Durun: summarise([]float64{value})})
	}
	add(fmt.Sprintf("listing a folder of %d, for each", inFolder), unitMicroseconds, d.ListMicros)
	add("size of each there", unitBytes, d.Bytes)
	add("a step of one there, against one that is alone", unitTimes, d.Beside)
	return nil
}

// addCrowd runs a verb that gives a crowd of n, in some rounds, and adds rows. unit has so many bytes.
func (b *bench) addCrowd(group string, n int, unit string, bytes float64, verb string, args ...string) error {
	if _, err := privateMemory(); errors.Is(err, errors.ErrUnsupported) {
		b.leaveOut(group+": memory", err)
		return nil
	}
	var each, left []float64
	for i := range min(b.rounds, 3) {
		b.progress("%s: %d in memory, run %d", group, n, i+1)
		var c crowd
		if err := childJSON(b, &c, append([]string{verb, b.artefact("durun"), strconv.Itoa(n)}, args...)...); err != nil {
			return err
		}
		each, left = append(each, c.Each/bytes), append(left, c.Left/(1<<20))
	}
	b.report.Rows = append(
		b.report.Rows,
		row{Group: group, Name: fmt.Sprintf("private memory of each of %d that wait in a process", n), Unit: unit, Durun: summarise(each)},
		row{Group: group, Name: "left of all of it when they are evicted", Unit: unitMebibytes, Durun: summarise(left)},
	)
	return nil
}

// together starts coroutines from one base and runs each for a step.
func together(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	g, err := loadGuest(ctx, args[0], args[2], args[3:], interposer{})
	if err != nil {
		return err
	}
	defer g.close(ctx)
	const name = "costs"
	store := snapshot.NewStore(bucket.NewMem())
	c, err := g.start(ctx, name)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := step(ctx, c); err != nil {
		return err
	}
	s, err := c.Snapshot()
	if err != nil {
		return err
	}
	if _, err := store.PutBase(ctx, name, s); err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	begin := func(id string) (*runtime.Coroutine, error) {
		base, err := store.Base(ctx, name, g.module.Known)
		if err != nil {
			return nil, err
		}
		c, err := g.startFrom(ctx, id, base)
		if err == nil {
			err = commitStep(ctx, c, store)
		}
		return c, err
	}
	return countCrowd(n, begin)
}

// small starts small guests and runs each for a step.
func small(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	g, err := loadGenerator(ctx, args[0])
	if err != nil {
		return err
	}
	defer g.close(ctx)
	return countCrowd(n, func(id string) (*runtime.Coroutine, error) {
		c, err := g.start(ctx, id)
		if err == nil {
			err = step(ctx, c)
		}
		return c, err
	})
}

// countCrowd begins n coroutines and prints what memory they took: a [crowd].
func countCrowd(n int, begin func(id string) (*runtime.Coroutine, error)) error {
	all := make([]*runtime.Coroutine, 0, n)
	end := func() error {
		var errs []error
		for _, c := range all {
			errs = append(errs, c.Close())
		}
		clear(all)
		all = all[:0]
		return errors.Join(errs...)
	}
	defer func() { _ = end() }()
	add := func(id string) error {
		c, err := begin(id)
		if c != nil {
			all = append(all, c)
		}
		return err
	}
	if err := add("first"); err != nil { // it brings what all share
		return err
	}
	settle()
	before, err := privateMemory()
	if err != nil {
		return err
	}
	for i := range n {
		if err := add(fmt.Sprintf("c%d", i)); err != nil {
			return err
		}
	}
	settle()
	during, err := privateMemory()
	if err != nil {
		return err
	}
	if err := end(); err != nil {
		return err
	}
	settle()
	gone, err := privateMemory()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(crowd{Each: float64(during-before) / float64(n), Left: float64(gone - before)})
}

// dormitory is what it is like among coroutines that wait in a folder.
type dormitory struct {
	ListMicros float64 // to list them, for each
	Bytes      float64 // size of the newest commit of each
	Beside     float64 // what a step of one takes there, of what it takes in a folder of its own
}

// sleepers puts coroutines into a folder. That power may fail is not their concern.
func sleepers(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	g, err := loadGenerator(ctx, args[0])
	if err != nil {
		return err
	}
	defer g.close(ctx)
	open := func(name string) (*snapshot.Store, error) {
		b, err := file.OpenOptions(filepath.Join(args[1], name), file.Options{NoSync: true})
		return snapshot.NewStore(b), err
	}
	full, err := open("full")
	if err != nil {
		return err
	}
	alone, err := open("alone")
	if err != nil {
		return err
	}
	c, err := g.start(ctx, "first")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := step(ctx, c); err != nil {
		return err
	}
	s, err := c.Snapshot()
	if err != nil {
		return err
	}
	if _, err := alone.Commit(ctx, s); err != nil {
		return err
	}
	var d dormitory
	id := func(i int) string { return fmt.Sprintf("c%07d", i) }
	for i := range n {
		one := *s
		one.Coroutine = id(i)
		commit, err := full.Commit(ctx, &one)
		if err != nil {
			return err
		}
		d.Bytes = float64(commit.Bytes)
	}
	listed, began := 0, time.Now()
	for commit, err := range full.List(ctx) {
		if err = errors.Join(err, commit.Err); err != nil {
			return err
		}
		listed++
	}
	d.ListMicros = float64(time.Since(began).Nanoseconds()) / 1e3 / float64(n)
	if listed != n {
		return fmt.Errorf("%d coroutines are listed, of %d", listed, n)
	}
	stores, ids := []*snapshot.Store{full, alone}, []string{id(n / 2), "first"}
	var took [2][]float64
	for range 200 {
		for i, store := range stores {
			began := time.Now()
			c, err := g.restore(ctx, store, ids[i])
			if err != nil {
				return err
			}
			if err := errors.Join(commitStep(ctx, c, store), c.Close()); err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(began).Seconds())
		}
	}
	d.Beside = summarise(divide(took[0], took[1])).Median
	return json.NewEncoder(os.Stdout).Encode(d)
}

// settle gives back what memory it can.
func settle() {
	goruntime.GC()
	debug.FreeOSMemory()
}
