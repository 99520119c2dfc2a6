package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/file"
)

// sink is where commits go, or what stands for the least that they could cost there.
type sink string

const (
	sinkMemory  sink = "memory"  // commits to a bucket in memory
	sinkFolder  sink = "folder"  // commits to a folder
	sinkNoSync  sink = "no sync" // commits to a folder, with --sync=false
	sinkPuts    sink = "puts"    // no commits: objects of a commit's size, put into a folder
	sinkFiles   sink = "files"   // no commits: new files, written where they belong and fsynced, with their folder
	sinkAppends sink = "appends" // no commits: appends to one file for each writer, and fsyncs of it
)

const groupStore = "commits of a small guest" // in the report

var writers = []int{1, 2, 4, 16, 64}

// storing is how many times a second each sink was written to, by so many writers at once.
type storing map[sink]map[int]float64

// measureStore adds how many commits a store takes. As a disk's speed varies, those to a folder are compared with files
// written by the same number of writers a moment before.
func (b *bench) measureStore() error {
	turn := time.Second / 2
	if b.short {
		turn = time.Second / 50
	}
	rates := map[sink]map[int][]float64{}
	// In the cache's file system, as that of temporary files may be no disk at all. It is removed at last, since that keeps
	// a disk busy after it is done.
	dir, err := os.MkdirTemp(b.kept, "costs-store-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i := range b.rounds {
		b.progress("store: run %d of %d", i+1, b.rounds)
		var got storing
		if err := childJSON(b, &got, "store", b.artefact("durun"), dir, turn.String(), strconv.Itoa(i)); err != nil {
			return err
		}
		for s, byWriters := range got {
			if rates[s] == nil {
				rates[s] = map[int][]float64{}
			}
			for n, rate := range byWriters {
				rates[s][n] = append(rates[s][n], rate)
			}
		}
	}
	add := func(unit, what string, n int, values []float64) {
		name := fmt.Sprintf("%s, %d at once", what, n)
		b.report.Rows = append(b.report.Rows, row{Group: groupStore, Name: name, Unit: unit, Durun: summarise(values)})
	}
	const toFolder = "to a folder"
	for _, n := range writers {
		add(unitPerSecond, toFolder, n, rates[sinkFolder][n])
	}
	for _, n := range writers {
		add(unitTimes, toFolder+", against new files that are fsynced with their folder", n, divide(rates[sinkFolder][n], rates[sinkFiles][n]))
	}
	for _, n := range writers {
		add(unitTimes, "objects put without a guest, against the same", n, divide(rates[sinkPuts][n], rates[sinkFiles][n]))
	}
	add(unitPerSecond, "appends to a file that are fsynced, for comparison", 1, rates[sinkAppends][1])
	add(unitPerSecond, toFolder+" with --sync=false", 1, rates[sinkNoSync][1])
	add(unitPerSecond, "to memory", 1, rates[sinkMemory][1])
	return nil
}

// store writes to each sink, with each number of writers, for a time, cut into slices so that the sinks to be compared
// take turns. DIR is on the disk that is measured, and gets a folder of the given name.
func store(ctx context.Context, args []string) error {
	cache, dir := args[0], filepath.Join(args[1], args[3])
	turn, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	const slices = 8
	r, err := runtime.New(ctx, runtime.NewConfig().WithModules(wasi.Module).WithCacheDir(cache))
	if err != nil {
		return err
	}
	defer r.Close(ctx)
	module, err := compileGenerator(ctx, r)
	if err != nil {
		return err
	}
	size := 0 // of a commit
	first, err := newWriters(ctx, sinkMemory, 1, module, dir, &size)
	if err != nil {
		return err
	}
	if err := first[0](); err != nil {
		return err
	}
	got := storing{}
	take := func(n int, sinks ...sink) error {
		runs := make([]*writing, len(sinks))
		for i, s := range sinks {
			place := filepath.Join(dir, fmt.Sprintf("%s-%d", s, n))
			if err := os.Mkdir(place, 0o700); err != nil {
				return err
			}
			w, err := newWriters(ctx, s, n, module, place, &size)
			if err == nil {
				runs[i], err = newWriting(w)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		for slice := range slices {
			for i := range runs {
				if i = (i + slice) % len(runs); slice%2 == 1 { // nobody always follows the same one
					i = len(runs) - 1 - i
				}
				if err := runs[i].run(turn / slices); err != nil {
					return fmt.Errorf("%s, %d writers: %w", sinks[i], n, err)
				}
			}
		}
		for i, s := range sinks {
			if got[s] == nil {
				got[s] = map[int]float64{}
			}
			got[s][n] = float64(runs[i].count) / runs[i].took.Seconds()
		}
		return nil
	}
	for _, n := range writers {
		if err := take(n, sinkFolder, sinkFiles, sinkPuts); err != nil {
			return err
		}
	}
	// What is not synced would be written in the time of others, if it came before them.
	for _, s := range []sink{sinkAppends, sinkMemory, sinkNoSync} {
		if err := take(1, s); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// compileGenerator makes a guest of one page of memory that yields for ever.
func compileGenerator(ctx context.Context, r *runtime.Runtime) (*runtime.Module, error) {
	binary, err := os.ReadFile(filepath.Join("testdata", "wat", "generator.wasm"))
	if err != nil {
		return nil, err
	}
	// "while i < 3" becomes "while i < 2^32-1".
	const atMost3, endless = "\x41\x03\x49", "\x41\x7f\x49"
	if bytes.Count(binary, []byte(atMost3)) != 1 {
		return nil, errors.New("the guest generator.wasm is another than it was")
	}
	return r.Compile(ctx, bytes.Replace(binary, []byte(atMost3), []byte(endless), 1))
}

// writer writes once.
type writer func() error

// newWriters returns n writers to a sink in a folder. To begin with *size is 0; it becomes the size of a commit, and that
// of what is written where there are no commits.
func newWriters(ctx context.Context, s sink, n int, module *runtime.Module, dir string, size *int) ([]writer, error) {
	var b bucket.Bucket
	var err error
	switch s {
	case sinkMemory:
		b = bucket.NewMem()
	default:
		b, err = file.OpenOptions(filepath.Join(dir, "store"), file.Options{NoSync: s == sinkNoSync})
	}
	if err != nil {
		return nil, err
	}
	w := make([]writer, n)
	for i := range w {
		id := fmt.Sprintf("w%d", i)
		switch s {
		case sinkPuts:
			w[i] = newPuts(ctx, b, id, *size)
		case sinkFiles:
			w[i], err = newFiles(filepath.Join(dir, id), *size)
		case sinkAppends:
			w[i], err = newAppends(filepath.Join(dir, id), *size)
		default:
			w[i], err = newCommits(ctx, module, snapshot.NewStore(b), id, size)
		}
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// newCommits makes a coroutine. The writer runs it to its next await, captures it and commits.
func newCommits(ctx context.Context, module *runtime.Module, store *snapshot.Store, id string, size *int) (writer, error) {
	c, err := module.Start(ctx, runtime.StartConfig{ID: id, Entry: "main"})
	if err != nil {
		return nil, err
	}
	return func() error {
		status, err := c.Resume(ctx)
		switch {
		case err != nil:
			return err
		case status != snapshot.Suspended:
			return errors.Join(errors.New("the guest ended"), c.Err())
		}
		s, err := c.Capture()
		if err != nil {
			return err
		}
		commit, err := store.Commit(ctx, s)
		if err != nil {
			return err
		}
		if *size == 0 {
			*size = int(commit.Bytes)
		}
		c.Committed(commit)
		return c.Wait(ctx)
	}, nil
}

// newPuts returns a writer that puts objects into a folder of their own.
func newPuts(ctx context.Context, b bucket.Bucket, id string, size int) writer {
	data := bytes.Repeat([]byte{0xa5}, size)
	i := 0
	return func() error {
		i++
		return bucket.PutBytes(ctx, b, fmt.Sprintf("%s/%016x", id, i), data)
	}
}

// newFiles makes a folder. The writer makes a new file in it, durably.
func newFiles(dir string, size int) (writer, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	data := bytes.Repeat([]byte{0xa5}, size)
	i := 0
	return func() error {
		i++
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%016x", i)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	}, nil
}

// newAppends makes a file. The writer appends to it, durably.
func newAppends(path string, size int) (writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	data := bytes.Repeat([]byte{0xa5}, size)
	return func() error {
		_, err := f.Write(data)
		return errors.Join(err, f.Sync())
	}, nil
}

// writing is how often some writers have written.
type writing struct {
	writers []writer
	count   int
	took    time.Duration
}

// newWriting has each write once, uncounted: that makes folders, and more.
func newWriting(writers []writer) (*writing, error) {
	for _, write := range writers {
		if err := write(); err != nil {
			return nil, err
		}
	}
	return &writing{writers: writers}, nil
}

// run has all write at once, again and again, for a time.
func (w *writing) run(d time.Duration) error {
	var wg sync.WaitGroup
	counts, errs := make([]int, len(w.writers)), make([]error, len(w.writers))
	began := time.Now()
	for i, write := range w.writers {
		wg.Go(func() {
			for errs[i] == nil && time.Since(began) < d {
				errs[i] = write()
				counts[i]++
			}
		})
	}
	wg.Wait()
	w.took += time.Since(began)
	for _, n := range counts {
		w.count += n
	}
	return errors.Join(errs...)
}
