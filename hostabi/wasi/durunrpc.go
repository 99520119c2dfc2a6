package wasi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/durun/durun/hostabi"
)

// rpcFile is an open /durun/rpc: a request is written, then its response is read.
type rpcFile struct {
	deviceBase
	request []byte   // what was written since the last response; empty if nothing was
	large   bool     // it was too large to keep
	parsed  *request // what it means, once that was asked for

	// Of a request to wait, from when it was first asked for:

	timed    bool
	deadline int64 // wall time in nanoseconds
}

// write takes a part of a request. What is left of the last response is gone.
func (f *rpcFile) write(b []byte) (int, errno) {
	if !f.canWrite() {
		return 0, eBadf
	}
	if len(b) == 0 {
		return 0, success
	}
	f.answer(nil)
	f.parsed, f.timed, f.deadline = nil, false, 0
	switch {
	case f.large:
	case len(f.request)+len(b) > maxRequestLine+hostabi.MaxPayload || !f.durun.hold(len(b)):
		f.forget()
		f.large = true
	default:
		f.request = append(f.request, b...)
	}
	return len(b), success
}

// forget forgets the request.
func (f *rpcFile) forget() {
	f.durun.buffered -= len(f.request)
	f.request, f.large, f.parsed, f.timed, f.deadline = nil, false, nil, false, 0
}

func (f *rpcFile) close() errno {
	f.forget()
	return f.deviceBase.close()
}

// asked returns the request, nil if there is none.
func (f *rpcFile) asked() *request {
	switch {
	case f.parsed != nil:
	case f.large:
		f.parsed = &request{err: refuse(hostabi.CodeLimit, "the request is too large")}
	case len(f.request) > 0:
		f.parsed = parseRequest(f.request)
	}
	return f.parsed
}

func (f *rpcFile) prepare(p *hostabi.Pending, nonblock bool) (*hostabi.Pending, errno) {
	r := f.asked()
	switch {
	case !f.canRead():
		return nil, eBadf
	case r == nil:
		return nil, success // the rest of the last response, or its end
	case f.i.coroutine == nil:
		return nil, eIO
	}
	var payload []byte
	err := r.err
	switch {
	case r.err != nil:
	case r.verb == "wait":
		if nonblock && p == nil && !f.over(r) {
			return nil, eAgain
		}
		var pending *hostabi.Pending
		if payload, pending, err = f.wait(r.wait, p); pending != nil {
			return pending, success
		}
	case r.verb == "yield":
		var pending *hostabi.Pending
		if payload, pending = f.i.coroutine.Yield(r.body, p); pending != nil {
			return pending, success
		}
	case r.verb == "checkpoint":
		if p == nil {
			return &hostabi.Pending{Kind: hostabi.KindCheckpoint, Detail: "nothing"}, success
		}
	default:
		payload, err = f.do(r)
	}
	f.forget()
	f.respond(payload, err)
	return nil, success
}

// respond makes the response.
func (f *rpcFile) respond(payload []byte, err error) {
	if err == nil {
		if f.answer(append([]byte("ok\n"), payload...)) {
			return
		}
		err = refuse(hostabi.CodeLimit, "too much is left unread")
	}
	var failed *hostabi.OperationError
	if !errors.As(err, &failed) {
		failed = &hostabi.OperationError{Code: hostabi.CodeFailed, Message: err.Error()}
	}
	head := fmt.Appendf(nil, "error %d %v\n", failed.Code, failed.Code)
	if !f.answer(append(head, failed.Message...)) {
		f.answer(head[:0])
	}
}

// do carries out a request that doesn't wait.
func (f *rpcFile) do(r *request) (payload []byte, err error) {
	co := f.i.coroutine
	switch r.verb {
	case "begin":
		var op uint32
		op, err = co.Begin(r.kind, r.name, r.body)
		payload = strconv.AppendUint(nil, uint64(op), 10)
	case "result":
		payload, err = co.Result(r.op)
	case "cancel":
		err = co.Cancel(r.op)
	case "drop":
		err = co.Drop(r.op)
	case "operations":
		payload = appendNumbers(nil, f.i.operations())
	case "input":
		payload = co.Input()
	case "output":
		co.SetOutput(r.body)
		f.durun.output = r.body
	case "id":
		payload = []byte(co.ID())
	}
	return payload, err
}

// begin fixes when the wait ends in any case.
func (f *rpcFile) begin(w hostabi.Wait) {
	if !f.timed && w.Timeout >= 0 {
		f.timed, f.deadline = true, satAdd(f.i.clock.wall(), int64(w.Timeout))
	}
}

// wait waits, for prepare.
func (f *rpcFile) wait(w hostabi.Wait, p *hostabi.Pending) ([]byte, *hostabi.Pending, error) {
	f.begin(w)
	if f.durun.cancelled {
		f.durun.cancelled = false
		return nil, nil, &hostabi.OperationError{Code: hostabi.CodeCancelled}
	}
	// Of the timeout some may have passed, in an earlier read or a poll. The runtime is to be asked for the same each time.
	if f.timed {
		w.Timeout = time.Duration(max(0, satSub(f.deadline, f.i.clock.wall())))
		if p != nil && len(p.Data) == 8 {
			w.Timeout = time.Duration(le.Uint64(p.Data))
		}
	}
	ended, pending, err := f.i.coroutine.Await(w, p)
	if pending != nil {
		pending.Data = le.AppendUint64(nil, uint64(w.Timeout))
		return nil, pending, nil
	}
	return appendNumbers(nil, ended), nil, err
}

func (f *rpcFile) subscribe(w *wait) (ready bool, nbytes int) {
	r := f.asked()
	if r == nil || r.verb != "wait" || f.i.coroutine == nil || !f.canRead() || f.over(r) {
		return true, len(f.unread)
	}
	w.operations, w.ops = true, append(w.ops, r.open...)
	if f.timed {
		w.until(f.deadline)
	}
	return false, 0
}

// over says whether the wait that r asks for is over, or the guest is to be told something else. If it isn't, r.open are the
// operations that it still waits for.
func (f *rpcFile) over(r *request) bool {
	w := r.wait
	f.begin(w)
	if f.timed && f.deadline <= f.i.clock.wall() {
		return true
	}
	ended, err := f.ended(w.Ops)
	if err != nil || f.durun.cancelled {
		return true
	}
	var failed int
	is := make(map[uint32]bool, len(ended))
	for _, n := range ended {
		is[n] = true
		if w.Success {
			if _, err := f.i.coroutine.Result(n); err != nil {
				failed++
			}
		}
	}
	need := int(min(uint64(w.Min), uint64(len(w.Ops))))
	if len(ended)-failed >= need || w.Success && len(w.Ops)-failed < need {
		return true
	}
	r.open = r.open[:0]
	for _, n := range w.Ops {
		if !is[n] {
			r.open = append(r.open, n)
		}
	}
	return false
}

func (f *rpcFile) save() *deviceState {
	return &deviceState{Unread: f.unread, Request: f.request, Large: f.large, Timed: f.timed, Deadline: f.deadline}
}

func (f *rpcFile) restore(s *deviceState) error {
	if !f.durun.hold(len(s.Request)) {
		return errTooMuch
	}
	f.request, f.large, f.timed, f.deadline = s.Request, s.Large, s.Timed, s.Deadline
	if !f.answer(s.Unread) {
		return errTooMuch
	}
	return nil
}

// request is a request, as DURUN.md has them.
type request struct {
	verb string
	err  error // it makes no sense; nothing else counts

	kind hostabi.OperationKind // of begin
	name string
	body []byte // its body, or that of output or yield
	op   uint32 // of result, cancel and drop
	wait hostabi.Wait

	open []uint32 // of wait: the operations that have not ended, as they were last seen
}

// parseRequest reads a request. b is not kept.
func parseRequest(b []byte) *request {
	line, body, _ := bytes.Cut(b, []byte("\n"))
	r := &request{}
	if len(line) > maxRequestLine {
		r.err = refuse(hostabi.CodeLimit, "the request's first line has more than %d bytes", maxRequestLine)
		return r
	}
	if len(body) > hostabi.MaxPayload {
		r.err = refuse(hostabi.CodeLimit, "a body of %d bytes, at most %d are allowed", len(body), hostabi.MaxPayload)
		return r
	}
	words := strings.Split(string(line), " ")
	for n, w := range words {
		var err error
		if words[n], err = unescape(w); err != nil {
			r.err = err
			return r
		}
	}
	r.verb = words[0]
	r.err = r.parse(words[1:], body)
	return r
}

// parse reads what follows the verb.
func (r *request) parse(args []string, body []byte) error {
	least, most, bodied := 0, 0, false
	switch r.verb {
	case "begin":
		least, most, bodied = 1, math.MaxInt, true
	case "wait":
		least, most = 2, math.MaxInt
	case "result", "cancel", "drop":
		least, most = 1, 1
	case "output", "yield":
		bodied = true
	case "input", "checkpoint", "id", "operations":
	default:
		return invalid("a request can't begin with %.100q", r.verb)
	}
	switch {
	case len(args) < least:
		return invalid("%s: something is missing after it", r.verb)
	case len(args) > most:
		return invalid("%s: it has no argument %.100q", r.verb, args[most])
	case !bodied && len(body) > 0:
		return invalid("%s: it has no body", r.verb)
	}
	switch r.verb {
	case "begin":
		return r.parseBegin(args[0], args[1:], body)
	case "wait":
		return r.parseWait(args[0], args[1], args[2:])
	case "result", "cancel", "drop":
		return parseOp(args[0], &r.op)
	}
	r.body = bytes.Clone(body)
	return nil
}

// parseBegin reads what is to begin.
func (r *request) parseBegin(kind string, args []string, body []byte) error {
	names := 1 // how many arguments are left at most
	switch kind {
	case "timer":
		r.kind = hostabi.Timer
		if len(args) == 0 {
			return invalid("begin timer: nanoseconds are missing")
		}
		ns, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return invalid("begin timer: %.100q are no nanoseconds", args[0])
		}
		if len(body) > 0 {
			return invalid("begin timer: it has no body")
		}
		args, body = args[1:], binary.LittleEndian.AppendUint64(nil, uint64(ns))
	case "call":
		r.kind = hostabi.Call
	case "recv":
		r.kind = hostabi.Recv
	case "spawn":
		r.kind = hostabi.Spawn
		names = len(args)
		for _, a := range args {
			if strings.IndexByte(a, 0) >= 0 {
				return invalid("begin spawn: %.100q has a NUL byte", a)
			}
		}
	default:
		return invalid("begin: there is no kind %.100q", kind)
	}
	if len(args) > names {
		return invalid("begin %s: it has no argument %.100q", kind, args[names])
	}
	r.name = strings.Join(args, "\x00") // see hostabi.MaxSpawnName
	r.body = bytes.Clone(body)
	return nil
}

// parseWait reads what is to be waited for.
func (r *request) parseWait(least, timeout string, ops []string) error {
	least, r.wait.Success = strings.CutPrefix(least, "+")
	n, err := strconv.ParseUint(least, 10, 31)
	if err != nil {
		return invalid("wait: %.100q is no number of operations", least)
	}
	r.wait.Min, r.wait.Timeout = uint32(n), -1
	if timeout != "-" {
		ns, err := strconv.ParseInt(timeout, 10, 64)
		if err != nil {
			return invalid("wait: %.100q are no nanoseconds", timeout)
		}
		r.wait.Timeout = time.Duration(ns)
	}
	if len(ops) > hostabi.MaxOperations {
		return refuse(hostabi.CodeLimit, "wait: %d operations, there can't be more than %d", len(ops), hostabi.MaxOperations)
	}
	r.wait.Ops = make([]uint32, len(ops))
	for i, s := range ops {
		if err := parseOp(s, &r.wait.Ops[i]); err != nil {
			return err
		}
	}
	return nil
}

func parseOp(s string, op *uint32) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return invalid("%.100q is no operation's number", s)
	}
	*op = uint32(n)
	return nil
}

// unescape decodes percent-encoding (RFC 3986, 2.1).
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for len(s) > 0 {
		if s[0] != '%' {
			b, s = append(b, s[0]), s[1:]
			continue
		}
		if len(s) < 3 {
			return "", invalid("%.100q ends in the middle of an encoded byte", s)
		}
		n, err := strconv.ParseUint(s[1:3], 16, 8)
		if err != nil {
			return "", invalid("%.3q is no encoded byte", s)
		}
		b, s = append(b, byte(n)), s[3:]
	}
	return string(b), nil
}

func refuse(code hostabi.Code, format string, args ...any) error {
	return &hostabi.OperationError{Code: code, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error { return refuse(hostabi.CodeInvalid, format, args...) }

func isCancelled(err error) bool {
	return errors.Is(err, &hostabi.OperationError{Code: hostabi.CodeCancelled})
}

// appendNumbers appends numbers with spaces between them.
func appendNumbers(b []byte, list []uint32) []byte {
	for n, v := range list {
		if n > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	return b
}
