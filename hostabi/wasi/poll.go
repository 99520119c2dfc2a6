package wasi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/durun/durun/hostabi"
)

// event is what poll_oneoff reports.
type event struct {
	userdata uint64
	error    errno
	kind     byte
	nbytes   uint64 // for fd_read: how much there is, if known
}

// pollOneoff waits for the first of the subscriptions. It reports all that happened, in the guest's order.
//
// It is an await point if nothing has happened yet. The monotonic time at the first call travels in the Pending, so that
// relative times count from there.
func pollOneoff(i *Instance, g *hostabi.Guest, args []uint64, p *hostabi.Pending) (errno, *hostabi.Pending) {
	in, out, count, result := uint32(args[0]), uint32(args[1]), uint32(args[2]), uint32(args[3])
	if count == 0 || count > maxSubscriptions {
		return eInval, nil
	}
	subs, ok := bytesAt(g, in, uint64(count)*subscriptionSize)
	if !ok {
		return eFault, nil
	}
	events, ok := bytesAt(g, out, uint64(count)*eventSize)
	if !ok {
		return eFault, nil
	}
	if _, ok := bytesAt(g, result, 4); !ok {
		return eFault, nil
	}

	mono, wall := i.clock.mono(), i.clock.wall()
	w := wait{start: mono, size: pollStdinRead}
	if p != nil {
		was, err := decodeWait(p.Data)
		if err != nil {
			panic(err) // not the guest's doing: the snapshot is damaged
		}
		w.start = was.start
	}

	var ready []event
	for ; len(subs) > 0; subs = subs[subscriptionSize:] {
		ev := event{userdata: le.Uint64(subs), kind: subs[8]}
		var done bool
		var e errno
		switch ev.kind {
		case eventClock:
			done, ev.error, e = w.subscribeClock(subs[16:], mono, wall)
		case eventFDRead, eventFDWrite:
			done, ev.nbytes, ev.error = i.subscribeFD(int32(le.Uint32(subs[16:])), ev.kind, &w)
		default:
			e = eInval
		}
		if e != success {
			return e, nil
		}
		if done {
			ready = append(ready, ev)
		}
	}

	if len(ready) == 0 {
		return success, w.pending(p, mono, wall)
	}
	if w.stdin {
		i.stdin.fill(w.size) // so that a guest that only ever polls gets its input some day
	}
	clear(events)
	for n, ev := range ready { // subs and events may overlap: subs is not read any more
		b := events[n*eventSize:]
		le.PutUint64(b, ev.userdata)
		le.PutUint16(b[8:], uint16(ev.error))
		b[10] = ev.kind
		le.PutUint64(b[16:], ev.nbytes)
	}
	return putU32(g, result, uint32(len(ready))), nil
}

// subscribeClock looks at a clock subscription, the union's content in b. done says that it happened, failed that it
// can't; otherwise w waits for it too.
func (w *wait) subscribeClock(b []byte, mono, wall int64) (done bool, failed, e errno) {
	id, timeout, flags := le.Uint32(b), le.Uint64(b[8:]), le.Uint16(b[24:])
	if flags&^subclockAbstime != 0 {
		return false, success, eInval
	}
	at := int64(min(timeout, math.MaxInt64))
	switch {
	case id > clockThreadCPU:
		return true, eInval, success
	case id > clockMonotonic:
		return true, eNotsup, success
	case flags&subclockAbstime == 0:
		// A relative time is not affected when somebody sets the wall clock.
		at = satAdd(w.start, at)
	case id == clockRealtime:
		if at <= wall {
			return true, success, success
		}
		w.until(at)
		return false, success, success
	}
	if at <= mono {
		return true, success, success
	}
	w.hasMono, w.mono = true, minIf(w.hasMono, w.mono, at)
	return false, success, success
}

// until adds a wall deadline.
func (w *wait) until(at int64) { w.hasWall, w.wall = true, minIf(w.hasWall, w.wall, at) }

func minIf(has bool, a, b int64) int64 {
	if has {
		return min(a, b)
	}
	return b
}

// subscribeFD looks at a subscription for a descriptor. Only standard input and the devices under /durun ever let wait.
func (i *Instance) subscribeFD(fd int32, kind byte, w *wait) (done bool, nbytes uint64, failed errno) {
	d := i.fds.get(fd)
	switch {
	case d == nil:
		return true, 0, eBadf
	case kind == eventFDWrite:
		return true, 0, success
	case d.kind == kindStdin && i.stdin.messages:
		if i.stdin.eof {
			return true, 0, success
		}
		rest, ok, e := i.stdin.receive(i.coroutine)
		if !ok && e == success {
			w.messages, w.ops = true, append(w.ops, i.stdin.op)
			return false, 0, success
		}
		return true, uint64(len(rest)), e
	case d.kind == kindStdin:
		i.stdin.pull()
		n, ok := i.stdin.ready()
		w.stdin = w.stdin || !ok
		return ok, uint64(n), success
	case d.kind == kindDevice:
		if d.broken() {
			return true, 0, eIO
		}
		ready, n := w.device(d.file.(device))
		return ready, uint64(n), success
	case d.kind == kindFile:
		st, e := d.file.stat()
		if e != 0 {
			return true, 0, e
		}
		if off, e := d.file.seek(0, 1); e == 0 && st.Size > off {
			nbytes = uint64(st.Size - off)
		}
		return true, nbytes, success
	default:
		return true, 0, success
	}
}

// wait is what a suspended call waits for, the first of all. It is in Pending.Data, but for ops, which are the Pending's own.
type wait struct {
	start   int64 // monotonic time when the guest called
	hasMono bool
	mono    int64 // earliest monotonic deadline
	hasWall bool
	wall    int64 // earliest wall deadline
	stdin   bool
	size    int // how much to read

	messages   bool     // standard input, where it comes from messages
	operations bool     // operations of the coroutine, and that it is to be cancelled
	ops        []uint32 // those that have not ended, for both; may be empty

	devices map[device]polled // those that were looked at
}

// polled is what a poll found of a device.
type polled struct {
	ready  bool
	nbytes int
}

// device looks at a device, once however often it is subscribed to: there may be many operations behind it.
func (w *wait) device(d device) (ready bool, nbytes int) {
	p, ok := w.devices[d]
	if !ok {
		p.ready, p.nbytes = d.subscribe(w)
		if w.devices == nil {
			w.devices = map[device]polled{}
		}
		w.devices[d] = p
	}
	return p.ready, p.nbytes
}

const waitSize = 1 + 3*8 + 4

func (w wait) encode() []byte {
	b := make([]byte, 0, waitSize)
	var flags byte
	for n, set := range []bool{w.hasMono, w.hasWall, w.stdin, w.operations, w.messages} {
		if set {
			flags |= 1 << n
		}
	}
	b = append(b, flags)
	for _, v := range []int64{w.start, w.mono, w.wall} {
		b = le.AppendUint64(b, uint64(v))
	}
	return le.AppendUint32(b, uint32(w.size))
}

func decodeWait(b []byte) (w wait, err error) {
	if len(b) != waitSize || b[0] == 0 || b[0] > 31 {
		return w, fmt.Errorf("wasi: what the call waits for does not decode: %d bytes", len(b))
	}
	w.hasMono, w.hasWall, w.stdin, w.operations, w.messages = b[0]&1 != 0, b[0]&2 != 0, b[0]&4 != 0, b[0]&8 != 0, b[0]&16 != 0
	w.start, w.mono, w.wall = int64(le.Uint64(b[1:])), int64(le.Uint64(b[9:])), int64(le.Uint64(b[17:]))
	w.size = int(min(le.Uint32(b[25:]), maxStdinRead))
	return w, nil
}

// pending describes w to the runtime. It returns what the call returned before, if it still waits for that.
func (w wait) pending(before *hostabi.Pending, mono, wall int64) *hostabi.Pending {
	p := &hostabi.Pending{Kind: hostabi.KindTimer, Detail: "sleep", Data: w.encode()}
	if w.hasMono || w.hasWall {
		until := int64(math.MaxInt64)
		if w.hasMono {
			until = satAdd(wall, satSub(w.mono, mono))
		}
		if w.hasWall {
			until = min(until, w.wall)
		}
		p.Until = time.Unix(0, until).UTC()
	}
	events := w.operations || w.messages
	p.Quiet = !w.stdin && len(w.ops) == 0
	if events {
		slices.Sort(w.ops)
		p.Ops, p.Min, p.Cancellable = slices.Compact(w.ops), 1, w.operations
		p.Kind, p.Detail = hostabi.KindOperations, describeOps(len(p.Ops))
	}
	if w.messages && len(p.Ops) == 1 {
		p.Detail = "input from messages"
	}
	if w.stdin {
		p.Kind, p.Detail = hostabi.KindStdin, "input from fd 0"
		if events {
			p.Detail += " or operations"
		}
	}
	if (w.stdin || w.messages) && !p.Until.IsZero() {
		p.Detail += " or a timeout"
	}
	if before == nil || !bytes.Equal(p.Data, before.Data) || !slices.Equal(p.Ops, before.Ops) {
		return p
	}
	if p.Kind == hostabi.KindOperations && !before.Until.IsZero() && before.Until.UnixNano() <= wall {
		return p // somebody has set the wall clock
	}
	return before
}

// describeOps says for people what a wait for n operations is for.
func describeOps(n int) string {
	switch n {
	case 0:
		return "its cancellation"
	case 1:
		return "an operation"
	}
	return fmt.Sprintf("%d operations", n)
}

// maxWallSleep is how long a wait for a wall time goes without a look at the wall clock.
const maxWallSleep = 10 * time.Second

// wait blocks until w is over.
func (i *Instance) wait(ctx context.Context, w wait) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// No goroutine for that: it would wake another processor, and have the kernel tell that one, too, which pages are to be
	// watched, at each commit of a guest that waits for a moment only.
	defer context.AfterFunc(i.open, func() { cancel(ErrClosed) })()
	if w.stdin {
		if _, ok := i.stdin.ready(); ok {
			return nil
		}
		go func() {
			if i.stdin.reader.wait(ctx, w.size) == nil {
				cancel(errInput)
			}
		}()
	}
	switch err := i.sleep(ctx, w); {
	case err == nil, errors.Is(context.Cause(ctx), errInput):
		return nil
	case errors.Is(context.Cause(ctx), ErrClosed):
		return ErrClosed
	default:
		return err
	}
}

// sleep blocks until the first of w's deadlines, if it has any, or ctx is done.
func (i *Instance) sleep(ctx context.Context, w wait) error {
	if !w.hasMono && !w.hasWall {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		left := time.Duration(math.MaxInt64)
		if w.hasMono {
			left = time.Duration(satSub(w.mono, i.clock.mono()))
		}
		if w.hasWall {
			// In steps: somebody may set the wall clock.
			left = min(left, time.Duration(satSub(w.wall, i.clock.wall())), maxWallSleep)
		}
		if left <= 0 {
			return nil
		}
		if err := i.clock.host.Sleep(ctx, left); err != nil {
			return err
		}
	}
}

// errInput ends a wait because there is input.
var errInput = errors.New("wasi: input")
