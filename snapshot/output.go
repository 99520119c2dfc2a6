package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/durun/durun/snapshot/bucket"
)

// Logs writes a coroutine's whole output, in order and each byte once: that of commits which are no longer there, then
// that of each commit. Standard output goes to stdout and standard error to stderr, either of which may be nil; to have
// both in one stream, give it twice.
//
// Errors: [ErrNotFound]; [ErrCorrupt], also for output that is missing; the writers' own. What came before the error has
// been written.
func (s *Store) Logs(ctx context.Context, id string, stdout, stderr io.Writer) error {
	return s.output(ctx, id, MaxSeq, writeTo(stdout, stderr))
}

// Lost is output that can't be read: that of the commits First to Last.
type Lost struct {
	First, Last uint64
	Err         error // [ErrCorrupt], or [ErrVersion] for what a newer durun has written
}

// SalvageLogs is Logs, but goes on past output that is damaged or missing: it calls lost in its place.
//
// Errors: as those of Logs, but for what lost was called for.
func (s *Store) SalvageLogs(ctx context.Context, id string, stdout, stderr io.Writer, lost func(Lost)) error {
	r := outputReader{s: s, id: id, next: 1, give: writeTo(stdout, stderr), lost: lost}
	return r.read(ctx, MaxSeq)
}

// writeTo returns a function that writes the output of a commit.
func writeTo(stdout, stderr io.Writer) func(uint64, []Output) error {
	return func(_ uint64, list []Output) error {
		for _, o := range list {
			w := stdout
			if o.Stream == 2 {
				w = stderr
			}
			if w == nil {
				continue
			}
			if _, err := w.Write(o.Data); err != nil {
				return err
			}
		}
		return nil
	}
}

// output calls f with the output of each commit up to last that wrote anything, in order.
func (s *Store) output(ctx context.Context, id string, last uint64, f func(seq uint64, output []Output) error) error {
	r := outputReader{s: s, id: id, next: 1, give: f}
	return r.read(ctx, last)
}

// outputReader reads the output of a coroutine, in order.
type outputReader struct {
	s    *Store
	id   string
	next uint64                                  // the first commit whose output has been neither given nor lost
	give func(seq uint64, output []Output) error // takes that of a commit
	lost func(Lost)                              // is told what can't be read; nil: reading ends there, with the error
}

// lose skips the output of the commits up to last, because of err, or returns that.
func (r *outputReader) lose(last uint64, err error) error {
	if r.lost == nil || !isDamage(err) {
		return err
	}
	r.lost(Lost{First: r.next, Last: last, Err: err})
	r.next = last + 1
	return nil
}

// isDamage tells what is wrong with an object from what is wrong with the store.
func isDamage(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion) }

// read reads the output of the commits up to last.
func (r *outputReader) read(ctx context.Context, last uint64) error {
	v, err := r.s.inventory(ctx, r.id)
	switch {
	case err == nil:
		err = r.readAll(ctx, v, min(last, v.newest()))
	case v != nil && r.lost != nil:
		// The newest commits are gone, and there are logs.
		if rerr := r.readAll(ctx, v, min(last, v.covered)); rerr != nil {
			err = rerr
		} else {
			err = r.lose(v.covered+1, err)
		}
	default:
		return err
	}
	if err != nil {
		return fmt.Errorf("output of coroutine %s: %w", r.id, err)
	}
	return nil
}

func (r *outputReader) readAll(ctx context.Context, v *inventory, last uint64) error {
	kept := v.kept()
	if err := r.fromLogs(ctx, min(last, v.covered)); err != nil {
		return err
	}
	for len(kept) > 0 && kept[len(kept)-1].seq > last {
		kept = kept[:len(kept)-1]
	}
	for some := range slices.Chunk(kept, 4*width) {
		fronts := r.s.outputFronts(ctx, r.id, some)
		for i, c := range some {
			// Those between are in a log, if they were dropped meanwhile.
			if err := r.fromLogs(ctx, c.seq-1); err != nil {
				return err
			}
			list, err := fronts[i].output(ctx, r.s)
			if errors.Is(err, bucket.ErrNotExist) {
				continue // dropped meanwhile: the next one, or the end, finds it in a log
			}
			if err != nil {
				if err := r.lose(c.seq, err); err != nil {
					return fmt.Errorf("commit %d: %w", c.seq, err)
				}
				continue
			}
			if len(list) > 0 {
				if err := r.give(c.seq, list); err != nil {
					return err
				}
			}
			r.next = c.seq + 1
		}
	}
	return r.fromLogs(ctx, last)
}

// fromLogs gives the output of the commits up to last that is still to be given, from logs.
func (r *outputReader) fromLogs(ctx context.Context, last uint64) error {
	// While logs are merged, one that is listed may be gone when it is read, and a listing may have neither those that
	// were merged nor the new one. The next listing has it.
	for try := 0; r.next <= last; {
		before := r.next
		ahead, err := r.fromListedLogs(ctx, last)
		bad := isDamage(err)
		switch {
		case bad && r.lost == nil, err != nil && !bad && !errors.Is(err, bucket.ErrNotExist):
			return err
		case r.next > before:
			try = 0
			continue
		case !bad && try < retries:
			try++
			continue
		}
		missing := last
		if ahead > 0 {
			missing = min(last, ahead-1)
		}
		if !bad {
			err = outputMissing(r.next, missing)
		}
		if err := r.lose(missing, err); err != nil {
			return err
		}
		try = 0
	}
	return nil
}

// fromListedLogs is one attempt of fromLogs, and may not come to the end. Then it returns the first commit of a log that lies
// ahead, 0 for none. Logs may overlap, and one that has been merged into a later one may be there still, though not those
// before it: each says which commits it covers. Past a log that is damaged it goes on, and returns the error in the end.
func (r *outputReader) fromListedLogs(ctx context.Context, last uint64) (ahead uint64, damaged error) {
	logs, _, err := r.s.listLogs(ctx, r.id)
	if err != nil {
		return 0, err
	}
	for _, e := range logs {
		if e.Key < logKey(r.id, r.next) {
			continue // it ends before
		}
		w, entries, err := r.s.readLog(ctx, r.id, e.Key)
		if isDamage(err) {
			if damaged == nil {
				damaged = err
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		if w.First > r.next {
			// What lies between may be in a later one that reaches back.
			if ahead == 0 || w.First < ahead {
				ahead = w.First
			}
			continue
		}
		for _, e := range entries {
			if e.seq < r.next || e.seq > last {
				continue
			}
			if err := r.give(e.seq, e.output); err != nil {
				return 0, err
			}
		}
		if r.next = min(w.Last, last) + 1; r.next > last {
			return 0, nil
		}
		ahead = 0 // it may have been reached
	}
	return ahead, damaged
}

// outputFront is the first part of a commit, which has its output if that is small.
type outputFront struct {
	key  string
	data []byte
	w    *wireManifest
	err  error // why there is nothing of this
}

// outputFronts reads the fronts of commits, several at a time: output may be large, and fronts are not.
func (s *Store) outputFronts(ctx context.Context, id string, list []listed) []outputFront {
	fronts := make([]outputFront, len(list))
	_ = parallel(ctx, width, len(list), func(ctx context.Context, i int) error {
		fronts[i] = s.outputFront(ctx, id, list[i].seq)
		return nil // those before are to be given all the same
	})
	return fronts
}

func (s *Store) outputFront(ctx context.Context, id string, seq uint64) outputFront {
	key := commitKey(id, seq)
	data, w, snap, _, err := s.front(ctx, key)
	if err == nil {
		err = isCommit(w.manifest(snap), id, seq)
	}
	return outputFront{key, data, w, err}
}

// commitOutput reads the output of a commit, and little more.
func (s *Store) commitOutput(ctx context.Context, id string, seq uint64) ([]Output, error) {
	f := s.outputFront(ctx, id, seq)
	return f.output(ctx, s)
}

// output reads what is missing of a commit's output, and decodes it.
func (f *outputFront) output(ctx context.Context, s *Store) ([]Output, error) {
	if f.err != nil {
		return nil, f.err
	}
	data, w := f.data, f.w
	sec := w.section(sectionOutput)
	if sec.Raw == 0 {
		return nil, nil
	}
	h, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	// The output is the first section.
	start := headerSize + int64(h.manifest)
	stored := data[start:]
	if have := uint64(len(stored)); have < sec.Stored {
		more, _, err := bucket.ReadRange(ctx, s.b, f.key, int64(len(data)), int64(sec.Stored-have))
		if err != nil {
			return nil, err
		}
		stored = append(stored, more...)
	}
	if uint64(len(stored)) < sec.Stored {
		return nil, corrupt("output", len(stored), "truncated: %d bytes of %d", len(stored), sec.Stored)
	}
	return decodeOutput(sec, stored[:sec.Stored], w.Output)
}
