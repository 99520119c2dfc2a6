package wasi

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/durun/durun/hostabi"
)

// Stdin reads standard input for guests: in a goroutine, so that a wait for input can be given up, and never more than
// one call asked for, so that little is lost if the process ends (a fd_read's buffers, at most 64 KiB; for poll_oneoff 4 KiB).
// What an Instance has taken over and its guest not yet consumed is part of the snapshot. The rest stays in the Stdin: hand
// the same one to the next Instance of this process and nothing is lost.
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

// giveBack puts bytes back, to be taken first.
func (s *Stdin) giveBack(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = slices.Concat(p, s.buf)
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

// stdinState is where a guest's standard input comes from, and how far it was read. All but the reader is captured.
type stdinState struct {
	reader *Stdin // nil is an empty one
	eof    bool   // the guest was told so

	// ahead was read, and not yet consumed. It may come from the state: of it so many bytes at the end do not, because they
	// were read since.
	ahead []byte
	fresh int
	mu    sync.Mutex // held by release, which Close calls, and ready, which a Wait beside it may

	messages bool   // it comes from messages, and not from reader
	op       uint32 // that receives, or has received, the message of which the next byte is; 0 for none
	pos      int    // where in that message
}

// stdinMessage is the name of the messages that are standard input.
const stdinMessage = "stdin"

// pull takes over what was read ahead, so that the next commit has it.
func (s *stdinState) pull() {
	if s.reader == nil || len(s.ahead) > 0 {
		return
	}
	n, ok := s.reader.ready()
	if !ok || n == 0 {
		return
	}
	b := make([]byte, n)
	n, _ = s.reader.take(b)
	s.ahead, s.fresh = b[:n], n
}

// release gives back to the reader what no state has: another Instance of this process may want it.
func (s *stdinState) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := min(s.fresh, len(s.ahead)); n > 0 {
		s.reader.giveBack(s.ahead[len(s.ahead)-n:])
	}
	s.ahead, s.fresh = nil, 0
}

// fill starts to read up to n bytes, unless there are some.
func (s *stdinState) fill(n int) {
	if s.reader != nil && !s.messages && len(s.ahead) == 0 {
		s.reader.fill(n)
	}
}

// ready says whether fd_read would not wait, and how many bytes there are.
func (s *stdinState) ready() (n int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.ahead) > 0:
		return len(s.ahead), true
	case s.eof || s.reader == nil:
		return 0, true
	}
	return s.reader.ready()
}

// take moves bytes into b. Without any it returns the final error.
func (s *stdinState) take(b []byte) (int, error) {
	if len(s.ahead) == 0 {
		return s.reader.take(b)
	}
	n := copy(b, s.ahead)
	s.ahead = s.ahead[n:]
	return n, nil
}

// receive returns what is left of the message that is being read, having begun to receive one if there is none. An empty
// one is the end of the input. ok is false if there is none yet.
func (s *stdinState) receive(c hostabi.Coroutine) (rest []byte, ok bool, e errno) {
	if c == nil {
		return nil, false, eIO
	}
	if s.op == 0 {
		op, err := c.Begin(hostabi.Recv, stdinMessage, nil)
		if err != nil {
			return nil, false, eIO // the guest has too many operations
		}
		s.op, s.pos = op, 0
	}
	data, err := c.Result(s.op)
	switch {
	case errors.Is(err, &hostabi.OperationError{Code: hostabi.CodePending}):
		return nil, false, success
	case errors.Is(err, &hostabi.OperationError{Code: hostabi.CodeUnknown}):
		s.op = 0 // the guest has dropped all that it found
		return s.receive(c)
	case err != nil:
		return nil, false, eIO
	}
	return data[min(s.pos, len(data)):], true, success
}

// operations are the coroutine's, but for the one that is standard input.
func (i *Instance) operations() []uint32 {
	return slices.DeleteFunc(i.coroutine.Operations(), func(op uint32) bool { return op == i.stdin.op })
}

// readMessages is fd_read of standard input that comes from messages. What was received is part of the state, so it is read
// without suspending.
func (i *Instance) readMessages(g *hostabi.Guest, d *descriptor, v iovecs, total, result uint32) (errno, *hostabi.Pending) {
	s := &i.stdin
	if total == 0 || s.eof {
		return putU32(g, result, 0), nil
	}
	rest, ok, e := s.receive(g.Coroutine)
	switch {
	case e != success:
		return e, nil
	case !ok && d.nonblock:
		return eAgain, nil
	case !ok:
		return success, &hostabi.Pending{
			Kind: hostabi.KindOperations, Detail: "input from messages", Data: wait{messages: true}.encode(), Ops: []uint32{s.op}, Min: 1,
		}
	}
	s.eof = len(rest) == 0
	n, e := readv(g, v, func(b []byte) (int, errno) {
		n := copy(b, rest)
		rest, s.pos = rest[n:], s.pos+n
		return n, success
	})
	if len(rest) == 0 {
		_ = g.Coroutine.Drop(s.op) // it is there: it has just been read
		s.op, s.pos = 0, 0
	}
	if e != success {
		return e, nil
	}
	return putU32(g, result, n), nil
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
	s := &i.stdin
	if s.messages {
		return i.readMessages(g, d, v, total, result)
	}
	s.pull()
	if total == 0 || len(s.ahead) == 0 && (s.eof || s.reader == nil) {
		s.eof = s.eof || total > 0
		return putU32(g, result, 0), nil
	}
	size := int(min(total, maxStdinRead))
	if _, ok := s.ready(); !ok && d.nonblock {
		s.fill(size)
		return eAgain, nil
	}
	if p == nil && !d.nonblock {
		return success, &hostabi.Pending{
			Kind: hostabi.KindStdin, Detail: "input from fd 0", Data: wait{stdin: true, size: size}.encode(),
		}
	}
	if _, ok := s.ready(); !ok {
		return success, p // woken early
	}
	n, e := readv(g, v, func(b []byte) (int, errno) {
		n, err := s.take(b)
		switch {
		case errors.Is(err, io.EOF):
			s.eof = true
		case err != nil:
			return 0, eIO
		}
		return n, success
	})
	if e != success {
		return e, nil
	}
	s.eof = s.eof && n == 0 // an end that was met after some bytes is told by the next call
	return putU32(g, result, n), nil
}
