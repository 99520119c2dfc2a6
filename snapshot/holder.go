package snapshot

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Holder is who drives a coroutine.
type Holder struct {
	Host  string        // name of the machine; empty if unknown
	PID   int           // of the process there, as it sees itself; 0 if unknown
	Since time.Time     // when the lease was acquired, by the machine's clock; zero if unknown
	TTL   time.Duration // 0 for a lock

	// Computing is since when the program has computed, and After the number of the commit whose wait has ended before. It is
	// told of a program that has done so for a second or more, and counts if After is still the last commit. Zero if it waits,
	// or if nothing is known.
	Computing time.Time
	After     uint64

	owner   string // a random name of the lease, the same in each epoch
	process process
}

// process tells a process from all others that ever run, for whoever shares its kernel and process ids. Its fields are
// empty where the system doesn't tell.
type process struct {
	Boot  string `json:"boot,omitempty"`   // the kernel's id of this boot
	PIDs  string `json:"pid_ns,omitempty"` // of the namespace of its process id
	Start string `json:"start,omitempty"`  // when it started, as the kernel counts
}

// wireHolder is the content of a lease's object, and the note of a lock.
type wireHolder struct {
	Owner string    `json:"owner"`
	TTL   int64     `json:"ttl_ms"`
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since"`

	Computing time.Time `json:"computing,omitzero"`
	After     uint64    `json:"after,omitempty"`
	process
}

// maxLeaseObject is the most bytes of a lease's object that are read.
const maxLeaseObject = 4096

// newHolder returns this process as the holder of a new lease.
func newHolder() Holder {
	host, _ := os.Hostname()
	return Holder{Host: host, PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Millisecond), owner: rand.Text(), process: self()}
}

func (h *Holder) encode() []byte {
	data, err := json.Marshal(wireHolder{
		Owner: h.owner, TTL: h.TTL.Milliseconds(), Host: h.Host, PID: h.PID, Since: h.Since,
		Computing: h.Computing, After: h.After, process: h.process,
	})
	if err != nil {
		panic(err) // a time of a year that can't be
	}
	return append(data, '\n')
}

// decodeHolder reads a lease's object. What can't be read is nobody's, and holds as long as a lease does by default. So
// that who can write to the store can lock a coroutine, but not for ever without taking part, TTLs have a limit.
func decodeHolder(data []byte) Holder {
	var w wireHolder
	if err := json.Unmarshal(data, &w); err != nil {
		w = wireHolder{}
	}
	h := Holder{
		Host: w.Host, PID: w.PID, Since: w.Since, TTL: DefaultLease, Computing: w.Computing, After: w.After,
		owner: w.Owner, process: w.process,
	}
	if w.TTL > 0 {
		h.TTL = min(max(time.Duration(min(w.TTL, MaxLease.Milliseconds()))*time.Millisecond, MinLease), MaxLease)
	}
	return h
}

// gone reports whether the holder is known to have ended: it ran on this machine, and its process is no more.
func (h *Holder) gone() bool { return h.isHere() && ended(h.PID, h.process.Start) }

// dies reports whether the holder is known to have ended, or to be about to: its process has been killed.
func (h *Holder) dies() bool {
	return h.isHere() && (dying(h.PID, h.process.Start) || ended(h.PID, h.process.Start))
}

// isHere reports whether the holder is known to be a process whose id means the same to this one.
func (h *Holder) isHere() bool {
	me := self()
	return me.Boot != "" && me.PIDs != "" && h.process.Start != "" && h.PID > 0 &&
		h.process.Boot == me.Boot && h.process.PIDs == me.PIDs
}

// String names the holder in a message.
func (h Holder) String() string {
	if h.Host == "" && h.PID == 0 {
		return "somebody else"
	}
	return fmt.Sprintf("process %d on %q", h.PID, h.Host)
}

// DrivenError says that somebody else drives a coroutine, or has done so. It is [ErrBusy] for whoever wanted to drive it,
// and [ErrFenced] for whoever did until then.
type DrivenError struct {
	Coroutine string
	Holder    Holder // who; without Host and PID if that is not known
	Err       error  // ErrBusy or ErrFenced
	Cause     error  // how it was lost, where there is nobody to name; else nil
}

// Error implements error.
func (e *DrivenError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("coroutine %s: %v: %v", e.Coroutine, e.Err, e.Cause)
	}
	since := ""
	if !e.Holder.Since.IsZero() {
		since = ", since " + e.Holder.Since.Format("2006-01-02 15:04:05 MST")
	}
	return fmt.Sprintf("coroutine %s: %v: %v drives it%s", e.Coroutine, e.Err, e.Holder, since)
}

// Unwrap returns Err and Cause.
func (e *DrivenError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

// instant is a moment on this machine, by both of its clocks: the one stands still while the machine is suspended, the other
// may be set.
type instant struct {
	mono time.Duration
	wall time.Time
}

var origin = time.Now()

func now() instant {
	t := time.Now()
	return instant{mono: t.Sub(origin), wall: t.Round(0)}
}

// since returns how long ago an instant was, by the clock that says more.
func (s *Store) since(i instant) time.Duration {
	n := s.local()
	return max(n.mono-i.mono, n.wall.Sub(i.wall))
}
