package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

// How long work on a module takes before a person at a terminal, or a log, is told.
const (
	patienceTerminal = 300 * time.Millisecond
	patiencePlain    = 2 * time.Second
	spinInterval     = 100 * time.Millisecond
)

// isTerminal reports whether stream is a terminal that can rewrite a line.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// columnsOf returns how wide a terminal is, 0 if that isn't known.
func columnsOf(stream any) int {
	if f, ok := stream.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return 0
}

// progress tells a person what takes so long: work on a module, or a wait for somebody else. On a terminal it is a line that counts the seconds and goes away after;
// elsewhere it is one line, once, and only for long work. It writes nothing about work that is quickly done.
type progress struct {
	w        io.Writer
	text     func() string // what goes on
	later    string        // what to add where it is told once
	terminal bool
	columns  func() int    // how wide the terminal is, 0 if that isn't known
	patience time.Duration // where it is no terminal
	clock    func(time.Duration) <-chan time.Time

	mu   sync.Mutex
	step runtime.Step
	size int           // of the module, in bytes
	stop chan struct{} // of the work going on; nil for none
	done chan struct{} // closed when its line has been cleared
}

func newProgress(w io.Writer, text func() string) *progress {
	columns := func() int { return columnsOf(w) }
	return &progress{w: w, text: text, terminal: isTerminal(w), columns: columns, patience: patiencePlain, clock: time.After}
}

// newProgress is for work of the command's own; a message to come takes its line away.
func (a *app) newProgress(text func() string) *progress {
	p := newProgress(a.Stderr, text)
	if a.Patience > 0 {
		p.patience = a.Patience
	}
	a.setProgress(p)
	return p
}

// newModuleProgress is for work on the module called name.
func newModuleProgress(w io.Writer, name string) *progress {
	p := newProgress(w, nil)
	p.text = func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return fmt.Sprintf("%s: %s (%s)", printable(name), p.step, humanBytes(uint64(p.size)))
	}
	return p
}

// report takes what the runtime says.
func (p *progress) report(step runtime.Progress) {
	if step.Step == runtime.StepDone {
		p.end()
		return
	}
	p.mu.Lock()
	p.step, p.size = step.Step, max(p.size, step.Bytes) // what stands for a part of it is smaller
	p.mu.Unlock()
	p.begin()
}

// begin starts the display, unless it goes on already.
func (p *progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop == nil {
		p.stop, p.done = make(chan struct{}), make(chan struct{})
		go p.show(time.Now(), p.stop, p.done)
	}
}

// end stops the display and waits until it has gone.
func (p *progress) end() {
	p.mu.Lock()
	stop, done := p.stop, p.done
	p.stop, p.done = nil, nil
	p.mu.Unlock()
	if stop != nil {
		close(stop)
		<-done
	}
}

func (p *progress) show(start time.Time, stop, done chan struct{}) {
	defer close(done)
	patience := p.patience
	if p.terminal {
		patience = patienceTerminal
	}
	select {
	case <-stop:
		return
	case <-p.clock(patience):
	}
	if !p.terminal {
		fmt.Fprintf(p.w, "durun: %s%s\n", p.text(), p.later)
		return
	}
	const wheel = `|/-\`
	for width, n := 0, 0; ; n++ {
		line := oneRow(fmt.Sprintf("%c ", wheel[n%len(wheel)]), p.text(), fmt.Sprintf(" %.1f s", time.Since(start).Seconds()), p.columns())
		fmt.Fprintf(p.w, "\r%-*s", width, line)
		width = max(width, utf8.RuneCountInString(line))
		select {
		case <-stop:
			fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", width))
			return
		case <-p.clock(spinInterval):
		}
	}
}

// oneRow is a line that fits into a row of a terminal, 0 columns for one of any width: a longer one would go on in the next row, and
// what comes after a carriage return would leave the first row as it is. Of text a part is left out if need be. The last column
// stays empty.
func oneRow(before, text, after string, columns int) string {
	room := columns - 1 - utf8.RuneCountInString(before) - utf8.RuneCountInString(after)
	if runes := []rune(text); columns > 0 && len(runes) > room {
		text = string(runes[:max(room-1, 0)]) + "…"
	}
	return before + text + after
}

// withSnapshotProgress returns a context in which work on a large snapshot of coroutine id is shown, while it goes on. The
// caller calls end when it has.
func (a *app) withSnapshotProgress(ctx context.Context, id string) (_ context.Context, end func()) {
	doing := map[string]string{"compress": "compressing", "write": "writing", "read": "reading"}
	var now atomic.Pointer[snapshot.Progress]
	p := newProgress(a.Stderr, func() string {
		s := now.Load()
		return fmt.Sprintf("%s: %s its memory: %s of %s", id, cmp.Or(doing[s.What], s.What),
			humanBytes(uint64(s.Done)), humanBytes(uint64(s.Total)))
	})
	if a.Patience > 0 {
		p.patience = a.Patience
	}
	return snapshot.WithProgress(ctx, func(s snapshot.Progress) {
		now.Store(&s)
		if s.Done < s.Total {
			p.begin()
		} else {
			p.end()
		}
	}), p.end
}
