package wasi

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/durun/durun/hostabi"
)

// Stdin reads standard input for guests: in a goroutine, so that a wait for input can be given up, and never more than
// one call asked for, so that little is lost if the process ends (a fd_read's buffers, at most 64 KiB; for poll_oneoff 4 KiB).
// What was read and not consumed is not part of a snapshot, but stays in the Stdin:
// hand the same one to the next Instance of this process and nothing is lost.
//
// It may be used from several goroutines, by one Instance at a time.
type Stdin struct {
	r io.Reader

	mu      sync.Mutex
	buf     []byte        // read, and not yet consumed
	err     error         // io.EOF or why reading failed; final
	reading chan struct{} // closed when the read under way returns; nil if there is none
}

// NewStdin returns standard input from r.
func NewStdin(r io.Reader) *Stdin { return &Stdin{r: r} }

// fill starts to read up to n bytes, unless there are some, none will come, or a read is under way. The channel is
// closed when there may be news; it is nil if there are.
func (s *Stdin) fill(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf) > 0 || s.err != nil {
		return nil
	}
	if s.reading == nil {
		s.reading = make(chan struct{})
		go s.read(max(1, min(n, maxStdinRead)), s.reading)
	}
	return s.reading
}

func (s *Stdin) read(n int, done chan struct{}) {
	b := make([]byte, n)
	m, err := io.ReadAtLeast(s.r, b, 1)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	s.mu.Lock()
	s.buf = append(s.buf, b[:m]...)
	if m == 0 {
		s.err = err
	}
	s.reading = nil
	s.mu.Unlock()
	close(done)
}

// wait blocks until there is input or none will come; it asks for up to n bytes.
func (s *Stdin) wait(ctx context.Context, n int) error {
	for {
		news := s.fill(n)
		if news == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		}
	}
}

// ready says whether a take would return something, and how many bytes there are.
func (s *Stdin) ready() (n int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.buf), len(s.buf) > 0 || s.err != nil
}

// take moves buffered bytes into p. Without any it returns the final error.
func (s *Stdin) take(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	if n == 0 && len(p) > 0 {
		return 0, s.err
	}
	return n, nil
}

// Read reads what an Instance left, then on from the reader.
func (s *Stdin) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.wait(context.Background(), len(p)); err != nil {
		return 0, err
	}
	return s.take(p)
}

// stdinReady says whether fd_read of standard input would not wait, and how many bytes there are.
func (i *Instance) stdinReady() (n int, ok bool) {
	if i.stdinEOF || i.stdin == nil {
		return 0, true
	}
	return i.stdin.ready()
}

// readStdin is fd_read of standard input. Unless the end is known, it suspends before it consumes anything, even if
// input is there already: where a guest suspends must not depend on timing.
func (i *Instance) readStdin(g *hostabi.Guest, d *descriptor, args []uint64, p *hostabi.Pending) (errno, *hostabi.Pending) {
	result := uint32(args[3])
	v, total, e := iovecsAt(g, uint32(args[1]), uint32(args[2]))
	if e != success {
		return e, nil
	}
	if _, ok := bytesAt(g, result, 4); !ok {
		return eFault, nil
	}
	if total == 0 || i.stdinEOF || i.stdin == nil {
		i.stdinEOF = i.stdinEOF || total > 0
		return putU32(g, result, 0), nil
	}
	size := int(min(total, maxStdinRead))
	if _, ok := i.stdin.ready(); !ok && d.nonblock {
		i.stdin.fill(size)
		return eAgain, nil
	}
	if p == nil && !d.nonblock {
		return success, &hostabi.Pending{
			Kind: hostabi.KindStdin, Detail: "input from fd 0", Data: wait{stdin: true, size: size}.encode(),
		}
	}
	if _, ok := i.stdin.ready(); !ok {
		return success, p // woken early
	}
	n, e := readv(g, v, func(b []byte) (int, errno) {
		n, err := i.stdin.take(b)
		switch {
		case errors.Is(err, io.EOF):
			i.stdinEOF = true
		case err != nil:
			return 0, eIO
		}
		return n, success
	})
	if e != success {
		return e, nil
	}
	i.stdinEOF = i.stdinEOF && n == 0 // an end that was met after some bytes is told by the next call
	return putU32(g, result, n), nil
}
