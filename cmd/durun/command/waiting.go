package command

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/durun/durun/hostabi"
)

// When a wait is told of, and how often at most.
const (
	waitPatience = 3 * time.Second
	waitPause    = time.Minute
)

// waitNotice tells a person at a terminal what a coroutine waits for that stands still: it looks the same as one that hangs. It
// is a line of its own, since the guest may have left the cursor anywhere. Input has no need of it: the guest asks for that.
type waitNotice struct {
	w  io.Writer
	id string

	mu    sync.Mutex
	timer *time.Timer // of the wait going on, nil for none
	text  string      // told last
	told  time.Time
}

func newWaitNotice(w io.Writer, id string) *waitNotice { return &waitNotice{w: w, id: id} }

// wait is called when a wait for p begins, and with nil when it is over. Afterwards nothing is written about it.
func (n *waitNotice) wait(p *hostabi.Pending) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
	if p == nil || p.Kind == hostabi.KindStdin {
		return
	}
	what := waiting{Kind: p.Kind, Detail: p.Detail}
	if !p.Until.IsZero() {
		until := p.Until
		what.Until = &until
	}
	var timer *time.Timer
	timer = time.AfterFunc(waitPatience, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.timer == timer {
			n.tell(what)
		}
	})
	n.timer = timer
}

func (n *waitNotice) tell(what waiting) {
	now := time.Now()
	again := n.text != ""
	if again && (what.Detail == n.text || now.Sub(n.told) < waitPause) {
		return
	}
	advice := ""
	if !again {
		advice = " (Ctrl-C leaves it there, to be resumed)"
	}
	fmt.Fprintf(n.w, "durun: %s waits: %s%s\n", n.id, what.text(now), advice)
	n.text, n.told = what.Detail, now
}
