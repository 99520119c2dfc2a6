package wasi

import (
	"slices"
	"strconv"

	"github.com/durun/durun/hostabi"
)

// eventsFile is an open /durun/events.
type eventsFile struct {
	deviceBase
	told []uint32 // the operations that it has told, but for those that were dropped since; ascending
}

// look returns the operations that have not been told: those that have ended, and those that have not. Both ascend.
func (f *eventsFile) look() (ended, open []uint32) {
	all := f.i.operations()
	open = make([]uint32, 0, len(all))
	told, next := f.told[:0], 0
	for _, n := range all {
		for next < len(f.told) && f.told[next] < n {
			next++ // it was dropped
		}
		if next < len(f.told) && f.told[next] == n {
			told = append(told, n)
			next++
		} else {
			open = append(open, n)
		}
	}
	f.told = told
	ended, err := f.ended(open)
	if err != nil {
		return nil, open
	}
	open = slices.DeleteFunc(open, func(n uint32) bool {
		_, ok := slices.BinarySearch(ended, n)
		return ok
	})
	return ended, open
}

func (f *eventsFile) prepare(p *hostabi.Pending, nonblock bool) (*hostabi.Pending, errno) {
	switch {
	case !f.canRead():
		return nil, eBadf
	case len(f.unread) > 0:
		return nil, success
	case f.i.coroutine == nil:
		return nil, eIO
	}
	ended, open := f.look()
	var lines []byte
	if f.durun.cancelled {
		lines = append(lines, "cancelled\n"...)
	}
	for _, n := range ended {
		lines = append(strconv.AppendUint(lines, uint64(n), 10), '\n')
	}
	switch {
	case len(lines) > 0:
		if !f.answer(lines) {
			return nil, eNomem
		}
		f.durun.cancelled = false
		f.told = append(f.told, ended...)
		slices.Sort(f.told)
		return nil, success
	case nonblock:
		return nil, eAgain
	}
	w := wait{operations: true, ops: open}
	return w.pending(p, f.i.clock.mono(), f.i.clock.wall()), success
}

func (f *eventsFile) subscribe(w *wait) (ready bool, nbytes int) {
	if len(f.unread) > 0 || !f.canRead() || f.i.coroutine == nil {
		return true, len(f.unread)
	}
	ended, open := f.look()
	if len(ended) > 0 || f.durun.cancelled {
		return true, 0
	}
	w.operations, w.ops = true, append(w.ops, open...)
	return false, 0
}

func (f *eventsFile) save() *deviceState {
	return &deviceState{Unread: f.unread, Told: encodeNumbers(f.told)}
}

func (f *eventsFile) restore(s *deviceState) error {
	told, err := decodeNumbers(s.Told)
	if err != nil {
		return err
	}
	f.told = told
	if !f.answer(s.Unread) {
		return errTooMuch
	}
	return nil
}
