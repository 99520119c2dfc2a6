package runtime

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
)

// operation is one thing that a coroutine waits for, see ABI.md.
type operation struct {
	number   uint32
	kind     hostabi.OperationKind
	name     string
	body     []byte
	begun    time.Time
	due      time.Time         // of a timer
	progress *handler.Progress // of a call that has not ended, nil before its first attempt; not changed, but replaced

	cancelling bool // of a child: it was asked to end
	dropped    bool // of a child: the guest has forgotten it, and it has not ended
	ended      bool
	code       hostabi.Code // why it failed; 0 if it didn't
	message    string
	result     []byte

	// Not in snapshots:

	at      int  // index in the list
	fresh   bool // begun since the last commit
	awaited int  // how often the pending wait names it
}

// size is what counts for hostabi.MaxPayloads.
func (o *operation) size() int { return len(o.name) + len(o.body) + len(o.message) + len(o.result) }

// operations are a coroutine's operations that it has not dropped. They are its own: what happens outside comes in by end.
type operations struct {
	last uint32 // the number given last
	all  map[uint32]*operation
	list []*operation // by number; nil for those that are gone
	size int          // bytes, of all
	groupedOperations

	fresh   []*operation          // begun since the last commit
	given   []uint32              // cancelled or dropped since the last commit
	recvs   []*operation          // that have not ended, by number; perhaps some that have
	failing map[uint32]*operation // calls that have not ended, and of which an attempt has failed
	wait    *opsWait              // of the pending call
	awaited []*operation          // those of which awaited is not 0
}

// get returns an operation that the guest knows, nil if there is none of that number.
func (t *operations) get(number uint32) *operation {
	if o := t.all[number]; o != nil && !o.dropped {
		return o
	}
	return nil
}

// begin adds an operation.
func (t *operations) begin(kind hostabi.OperationKind, name string, body []byte, now time.Time) (*operation, error) {
	if err := checkOperation(kind, name, body); err != nil {
		return nil, err
	}
	o := &operation{number: t.last + 1, kind: kind, name: name, body: slices.Clone(body), begun: now}
	switch {
	case len(t.all) >= hostabi.MaxOperations:
		return nil, refuse(hostabi.CodeLimit, "%d operations: drop those that are of no more use", hostabi.MaxOperations)
	case t.size+o.size() > hostabi.MaxPayloads:
		return nil, refuse(hostabi.CodeLimit, "operations with more than %d MiB: drop those that are of no more use", hostabi.MaxPayloads>>20)
	case o.number == maxOperation:
		return nil, refuse(hostabi.CodeLimit, "%d operations in one life", maxOperation)
	}
	if kind == hostabi.Timer {
		d := max(0, time.Duration(binary.LittleEndian.Uint64(body)))
		o.due, o.body = now.Add(min(d, maxTimer)), nil
	}
	t.last++
	t.add(o)
	t.begins(o)
	return o, nil
}

const (
	// maxOperation is the highest number of an operation: an i32 that isn't negative.
	maxOperation = 1<<31 - 1
	// maxTimer is as long as a time in nanoseconds, as snapshots have it, is sure not to overflow.
	maxTimer = 100 * 365 * 24 * time.Hour
)

// checkOperation returns an error for what is no operation.
func checkOperation(kind hostabi.OperationKind, name string, body []byte) error {
	longest := hostabi.MaxName
	text := name
	switch kind {
	case hostabi.Timer:
		if len(body) != 8 {
			return refuse(hostabi.CodeInvalid, "a timer's body has %d bytes: it is nanoseconds, 8 bytes", len(body))
		}
	case hostabi.Call:
		if name == "" {
			return refuse(hostabi.CodeInvalid, "a call without a name")
		}
	case hostabi.Recv:
		if name == "" || len(body) > 0 {
			return refuse(hostabi.CodeInvalid, "a recv has a name and no body")
		}
	case hostabi.Spawn:
		longest = hostabi.MaxSpawnName
		text = strings.ReplaceAll(name, "\x00", "") // before each argument
	default:
		return refuse(hostabi.CodeInvalid, "operations of kind %d are not known", uint32(kind))
	}
	switch {
	case len(name) > longest:
		return refuse(hostabi.CodeLimit, "a name of %d bytes, at most %d are allowed", len(name), longest)
	case len(body) > hostabi.MaxPayload:
		return refuse(hostabi.CodeLimit, "a body of %d bytes, at most %d are allowed", len(body), hostabi.MaxPayload)
	case kind == hostabi.Spawn:
		text, _, _ = strings.Cut(name, "\x00") // arguments may be anything
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return refuse(hostabi.CodeInvalid, "the name %.100q is not UTF-8, or has control characters", text)
	}
	return nil
}

func refuse(code hostabi.Code, format string, args ...any) error {
	return &hostabi.OperationError{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (t *operations) add(o *operation) {
	if t.all == nil {
		t.all = map[uint32]*operation{}
	}
	t.all[o.number], o.at = o, len(t.list)
	t.list = append(t.list, o)
	t.size += o.size()
	t.group(o)
	if o.kind == hostabi.Recv && !o.ended {
		if gone := len(t.recvs) - len(t.all); gone > 32 && gone > len(t.all) {
			t.receivers()
		}
		t.recvs = append(t.recvs, o)
	}
}

// begins has an operation started after the next commit.
func (t *operations) begins(o *operation) {
	if gone := len(t.fresh) - len(t.all); gone > 32 && gone > len(t.all) {
		t.fresh = slices.DeleteFunc(t.fresh, func(o *operation) bool { return t.all[o.number] != o })
	}
	o.fresh = true
	t.fresh = append(t.fresh, o)
}

// started forgets which operations are fresh, and returns them.
func (t *operations) started() []*operation {
	fresh := t.fresh
	t.fresh = nil
	for _, o := range fresh {
		o.fresh = false
	}
	return fresh
}

// receivers returns the operations that wait for messages, by number.
func (t *operations) receivers() []*operation {
	t.recvs = slices.DeleteFunc(t.recvs, func(o *operation) bool { return o.ended || t.all[o.number] != o })
	return t.recvs
}

// each calls f with the operations that the guest knows, by number.
func (t *operations) each(f func(*operation)) {
	for _, o := range t.list {
		if o != nil && !o.dropped {
			f(o)
		}
	}
}

// end ends an operation: well if code is 0. It returns false if there is none that has not ended.
func (t *operations) end(number uint32, code hostabi.Code, message string, result []byte) bool {
	o := t.all[number]
	if o == nil || o.ended {
		return false
	}
	if o.dropped { // nobody asks how
		t.remove(o)
		return true
	}
	room := t.room(o)
	switch {
	case code != 0:
		result = nil
	case len(result) > hostabi.MaxPayload:
		code, message, result = hostabi.CodeLimit, fmt.Sprintf("a result of %d bytes, at most %d are allowed", len(result), hostabi.MaxPayload), nil
	case len(result) > room:
		code, message, result = hostabi.CodeLimit, noRoom, nil
	}
	t.size -= o.size()
	t.advance(o, nil)
	o.ended, o.code, o.message, o.result = true, code, limitText(message, min(maxMessage, max(room, minMessage))), result
	o.body = nil // of no more use
	t.size += o.size()
	if t.wait != nil {
		t.wait.ended(o)
	}
	return true
}

// advance notes how far a call has come, nil for nowhere.
func (t *operations) advance(o *operation, p *handler.Progress) {
	t.touch(o)
	if o.progress = p; p == nil || p.Err == "" {
		delete(t.failing, o.number)
		return
	}
	if t.failing == nil {
		t.failing = map[uint32]*operation{}
	}
	t.failing[o.number] = o
}

// room returns how many bytes the result of an operation may have.
func (t *operations) room(o *operation) int {
	return hostabi.MaxPayloads - (t.size - len(o.body))
}

var noRoom = fmt.Sprintf("the operations of the coroutine have more than %d MiB: drop those that are of no more use", hostabi.MaxPayloads>>20)

const (
	// maxMessage is the longest message of a failure that is kept, in bytes.
	maxMessage = 16 << 10
	// minMessage is how long a message may be although there is no room: so long that all operations with one are still less than what
	// a state may have, see [abi.decode].
	minMessage = 128
)

// limitText makes s valid UTF-8, of about n bytes at most.
func limitText(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	cut := n
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// due ends the timers whose time has come, of those that the pending call waits for.
func (t *operations) due(now time.Time) {
	w := t.wait
	for w != nil && len(w.timers) > 0 && !w.timers[0].due.After(now) {
		t.end(w.timers[0].number, 0, "", nil)
		w.timers = w.timers[1:]
	}
}

// look returns an operation as it is now: a timer ends when somebody looks.
func (t *operations) look(number uint32, now time.Time) *operation {
	o := t.get(number)
	if o != nil && o.kind == hostabi.Timer && !o.ended && !o.due.After(now) {
		t.end(number, 0, "", nil)
	}
	return o
}

// cancel gives an operation up.
func (t *operations) cancel(o *operation) {
	switch {
	case o.ended:
	case o.kind == hostabi.Spawn && !o.fresh:
		if !o.cancelling {
			o.cancelling = true
			t.touch(o)
			t.given = append(t.given, o.number)
		}
	default:
		t.end(o.number, hostabi.CodeCancelled, "", nil)
		if !o.fresh {
			t.given = append(t.given, o.number)
		}
	}
}

// drop forgets an operation. Of a child that has been started the table has to know until it has ended: who drives the coroutine
// may die before it has come to ask the child.
func (t *operations) drop(o *operation) {
	if !o.ended && !o.fresh {
		t.given = append(t.given, o.number)
	}
	if o.kind != hostabi.Spawn || o.ended || o.fresh {
		t.remove(o)
		return
	}
	t.size -= o.size()
	o.dropped, o.cancelling, o.name, o.body = true, true, "", nil
	t.touch(o)
}

func (t *operations) remove(o *operation) {
	t.advance(o, nil)
	t.ungroup(o)
	delete(t.all, o.number)
	t.size -= o.size()
	o.name, o.body, o.message, o.result = "", nil, "", nil // others may have it on their lists for a while
	t.list[o.at] = nil
	if len(t.list) > 32 && len(t.list) > 2*len(t.all) {
		t.list = slices.DeleteFunc(t.list, func(o *operation) bool { return o == nil })
		for i, o := range t.list {
			o.at = i
		}
	}
}

// waiting reports whether operations were begun or given up that a commit has to know of before they happen: timers that the
// guest has set just count on.
func (t *operations) waiting() bool {
	return len(t.given) > 0 || slices.ContainsFunc(t.fresh, func(o *operation) bool {
		return o.kind != hostabi.Timer && !o.ended && t.all[o.number] == o
	})
}

// timersOnly reports whether all of these operations are timers.
func (t *operations) timersOnly(numbers []uint32) bool {
	return !slices.ContainsFunc(numbers, func(n uint32) bool { return t.get(n).kind != hostabi.Timer })
}

// dueBy returns when n of these operations will have ended as they are timers, zero if there are fewer.
func (t *operations) dueBy(numbers []uint32, n int) time.Time {
	var due []time.Time
	for _, number := range numbers {
		if o := t.get(number); o.kind == hostabi.Timer && !o.ended {
			due = append(due, o.due)
		}
	}
	switch {
	case n < 1 || len(due) < n:
		return time.Time{}
	case n == 1: // of many, as a rule, who are waited for again and again
		return slices.MinFunc(due, time.Time.Compare)
	case n == len(due):
		return slices.MaxFunc(due, time.Time.Compare)
	}
	slices.SortFunc(due, time.Time.Compare)
	return due[n-1]
}

// opsWait counts what is still to come for a wait to be over, so that each end costs the same however many it waits for.
type opsWait struct {
	need    int // ends, or successes, still to come
	spare   int // failures that there may still be, if successes count
	success bool
	timers  []*operation // those awaited that have not ended, the first due first
}

// over reports whether the wait is over.
func (w *opsWait) over() bool { return w.need <= 0 || w.success && w.spare < 0 }

// ended counts an operation.
func (w *opsWait) ended(o *operation) {
	if w.success && o.code != 0 {
		w.spare -= o.awaited
		return
	}
	w.need -= o.awaited
}

// newWait returns what is still to come until min of the operations have ended.
func (t *operations) newWait(numbers []uint32, least uint32, success bool) *opsWait {
	need := int(min(uint64(least), uint64(len(numbers))))
	w := &opsWait{need: need, spare: len(numbers) - need, success: success}
	for _, o := range t.awaited {
		o.awaited = 0
	}
	t.awaited = t.awaited[:0]
	for _, n := range numbers {
		if o := t.get(n); o != nil {
			if o.awaited++; o.awaited == 1 {
				t.awaited = append(t.awaited, o)
			}
		}
	}
	for _, o := range t.awaited {
		switch {
		case o.ended:
			w.ended(o)
		case o.kind == hostabi.Timer:
			w.timers = append(w.timers, o)
		}
	}
	slices.SortStableFunc(w.timers, func(a, b *operation) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.number, b.number))
	})
	return w
}

// describe says for people what a wait is for: "call send_email", "2 messages approval", "7 operations".
func (t *operations) describe(numbers []uint32) string {
	var first *operation
	waiting, same := 0, true
	for _, n := range numbers {
		o := t.get(n)
		if o == nil || o.ended {
			continue
		}
		if first == nil {
			first = o
		}
		same = same && o.kind == first.kind && o.target() == first.target()
		waiting++
	}
	switch {
	case waiting == 0:
		return "a time-out"
	case same:
		return first.describe(waiting)
	}
	return fmt.Sprintf("%d operations", waiting)
}

// maxTrouble is how much of an error is part of what a wait is for, in bytes: for tables.
const maxTrouble = 80

// trouble says for people how far the first of these operations has come of which an attempt has failed; empty if there is none.
func (t *operations) trouble(numbers []uint32) string {
	if len(t.failing) == 0 {
		return ""
	}
	for _, n := range numbers {
		o := t.failing[n]
		if o == nil {
			continue
		}
		which := ""
		if len(numbers) > 1 {
			which = fmt.Sprintf("operation %d, ", n)
		}
		return fmt.Sprintf(" (%s%s: %s)", which, attemptText(o.progress), limitText(o.progress.Err, maxTrouble))
	}
	return ""
}

// attemptText says for people how far a call has come.
func attemptText(p *handler.Progress) string {
	text := fmt.Sprintf("attempt %d", p.Attempt)
	if p.Throttled > 0 {
		text += fmt.Sprintf(", throttled %d×", p.Throttled)
	}
	return text
}

// named returns what a call waits for, with words for it.
func (t *operations) named(p *hostabi.Pending) *hostabi.Pending {
	if p.Detail == "" && len(p.Ops) > 0 {
		p.Detail = t.describe(p.Ops)
	}
	return p
}

// describe says for people what n operations such as this one are.
func (o *operation) describe(n int) string {
	one, many := "child", "children"
	switch o.kind {
	case hostabi.Timer:
		one, many = "sleep", "sleeps"
	case hostabi.Call:
		one, many = "call", "calls"
	case hostabi.Recv:
		one, many = "message", "messages"
	}
	text := one
	if n > 1 {
		text = fmt.Sprintf("%d %s", n, many)
	}
	return strings.TrimSpace(text + " " + o.target())
}

// target is what an operation is about, for people: a handler, a message, a child's program.
func (o *operation) target() string {
	if o.kind == hostabi.Timer {
		return "" // its name says less than the time does
	}
	target, _, _ := strings.Cut(o.name, "\x00")
	return target
}
