package command

import (
	"encoding/binary"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// ticks is a clock by hand: each tick ends one wait, and returns when the next one has begun.
type ticks struct {
	waits chan time.Duration
	fire  chan time.Time
}

func (c *ticks) after(d time.Duration) <-chan time.Time {
	c.waits <- d
	return c.fire
}

// screen is a terminal's line as it stands.
type screen struct {
	mu  sync.Mutex
	all strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

var _ io.Writer = (*screen)(nil)

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		terminal bool
		patience time.Duration
		ticks    int
		want     func(s string) bool
	}{
		{"quick at a terminal", true, patienceTerminal, 0, func(s string) bool { return s == "" }},
		{"quick in a log", false, patiencePlain, 0, func(s string) bool { return s == "" }},
		{"slow at a terminal", true, patienceTerminal, 2, func(s string) bool {
			lines := strings.Split(s, "\r")
			return strings.Contains(s, "x.wasm: compiling (2.00 MiB)") && !strings.Contains(s, "\n") &&
				strings.TrimSpace(lines[len(lines)-2]) == "" && lines[len(lines)-1] == "" // cleared
		}},
		{"slow in a log", false, patiencePlain, 1, func(s string) bool {
			return s == "durun: x.wasm: compiling (2.00 MiB); later runs take it from the cache\n"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			clock, out := &ticks{make(chan time.Duration, 1), make(chan time.Time)}, &screen{}
			p := newModuleProgress(out, "x.wasm")
			p.terminal, p.later, p.clock = test.terminal, laterCached, clock.after
			p.report(runtime.Progress{Step: runtime.StepCompile, Bytes: 2 << 20})
			if d := <-clock.waits; d != test.patience {
				t.Errorf("patience of %v, want %v", d, test.patience)
			}
			for range test.ticks {
				clock.fire <- time.Time{}
				if test.terminal {
					<-clock.waits
				}
			}
			p.report(runtime.Progress{Step: runtime.StepDone})
			if got := out.String(); !test.want(got) {
				t.Errorf("written: %q", got)
			}
			p.end() // again, without harm
		})
	}
}

// TestSnapshotProgress has work on a large snapshot take longer than anybody's patience.
func TestSnapshotProgress(t *testing.T) {
	written := make(lines, 1)
	a := &app{Config: Config{Stderr: written, Patience: time.Nanosecond}}
	ctx, end := a.withSnapshotProgress(t.Context(), "big")
	defer end()
	store := snapshot.NewStore(bucket.NewMem())
	pages := make([]snapshot.Page, 20_000)
	for i := range pages {
		data := make([]byte, snapshot.PageSize)
		binary.LittleEndian.PutUint32(data, uint32(i)+1)
		pages[i] = snapshot.Page{Number: uint32(i), Data: data}
	}
	_, err := store.Commit(ctx, &snapshot.Snapshot{
		Coroutine: "big", Seq: 1, Time: time.Unix(1, 0), Status: snapshot.Suspended, Entry: "main",
		Await:  &snapshot.Await{Import: "durun.checkpoint", Kind: "checkpoint"},
		Memory: snapshot.Memory{Size: 2000 * snapshot.WasmPageSize, Pages: pages},
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-written:
		if !strings.HasPrefix(line, "durun: big: compressing its memory: ") {
			t.Errorf("it says %q", line)
		}
	default:
		t.Error("it says nothing")
	}
}

// lines takes what is written, as far as there is room.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

func TestOneRow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		columns int
		want    string
	}{
		{0, "| größer.wasm: compiling 1.2 s"},
		{31, "| größer.wasm: compiling 1.2 s"},
		{30, "| größer.wasm: compili… 1.2 s"},
		{12, "| gr… 1.2 s"},
		{3, "| … 1.2 s"},
	} {
		if got := oneRow("| ", "größer.wasm: compiling", " 1.2 s", test.columns); got != test.want {
			t.Errorf("%d columns: %q, want %q", test.columns, got, test.want)
		}
	}
}
