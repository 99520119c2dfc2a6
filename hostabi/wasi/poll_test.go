package wasi

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
)

// sub builds subscriptions. The userdata of the n-th is 100 + n.
type sub struct {
	tag     byte
	id      uint32 // clock or descriptor
	timeout uint64
	flags   uint16
}

func sleepFor(d time.Duration) sub {
	return sub{tag: eventClock, id: clockMonotonic, timeout: uint64(d)}
}

func (g *guest) subs(list []sub) uint64 {
	var b []byte
	for n, s := range list {
		e := make([]byte, subscriptionSize)
		le.PutUint64(e, uint64(100+n))
		e[8] = s.tag
		le.PutUint32(e[16:], s.id)
		le.PutUint64(e[24:], s.timeout)
		le.PutUint16(e[40:], s.flags)
		b = append(b, e...)
	}
	return g.put(b)
}

// poll is poll_oneoff. Events come as userdata minus 100.
func (g *guest) poll(list ...sub) (events []event, e errno) {
	g.t.Helper()
	in, out, result := g.subs(list), g.space(len(list)*eventSize), g.space(4)
	if e := g.call("poll_oneoff", in, out, uint64(len(list)), result); e != success {
		return nil, e
	}
	for n := range uint64(g.u32(result)) {
		b, _ := g.mem.Read(uint32(out+n*eventSize), eventSize)
		events = append(events, event{userdata: le.Uint64(b) - 100, error: errno(le.Uint16(b[8:])), kind: b[10], nbytes: le.Uint64(b[16:])})
	}
	return events, success
}

func TestPoll(t *testing.T) {
	wall := uint64(newFakeClock().wall)
	const mono = uint64(monoStart)
	in := func(n int) []string { return []string{"hello\n"}[:n] }
	for _, c := range []struct {
		name    string
		input   []string // nil: no standard input
		subs    []sub
		want    []event
		e       errno
		kind    string // "" if it must not suspend
		elapsed time.Duration
	}{
		{name: "relative", subs: []sub{sleepFor(time.Second)}, want: []event{{}}, kind: hostabi.KindTimer, elapsed: time.Second},
		{name: "relative, realtime", subs: []sub{{id: clockRealtime, timeout: 5}}, want: []event{{}}, kind: hostabi.KindTimer, elapsed: 5},
		{name: "zero", subs: []sub{sleepFor(0)}, want: []event{{}}},
		{
			name: "absolute, monotonic", subs: []sub{{id: clockMonotonic, timeout: mono + 700, flags: subclockAbstime}},
			want: []event{{}}, kind: hostabi.KindTimer, elapsed: 700,
		},
		{
			name: "absolute, realtime", subs: []sub{{id: clockRealtime, timeout: wall + 900, flags: subclockAbstime}},
			want: []event{{}}, kind: hostabi.KindTimer, elapsed: 900,
		},
		{
			name: "far, realtime, in steps", subs: []sub{{id: clockRealtime, timeout: wall + uint64(time.Hour), flags: subclockAbstime}},
			want: []event{{}}, kind: hostabi.KindTimer, elapsed: time.Hour,
		},
		{name: "absolute, past", subs: []sub{{id: clockRealtime, timeout: wall - 1, flags: subclockAbstime}}, want: []event{{}}},
		{name: "absolute, past, monotonic", subs: []sub{{id: clockMonotonic, timeout: 1, flags: subclockAbstime}}, want: []event{{}}},
		{
			name: "earliest wins", subs: []sub{sleepFor(30), sleepFor(10), {id: clockRealtime, timeout: wall + 20, flags: subclockAbstime}},
			want: []event{{userdata: 1}}, kind: hostabi.KindTimer, elapsed: 10,
		},
		{
			name: "two at once, in order", subs: []sub{sleepFor(10), sleepFor(99), {id: clockRealtime, timeout: wall + 10, flags: subclockAbstime}},
			want: []event{{userdata: 0}, {userdata: 2}}, kind: hostabi.KindTimer, elapsed: 10,
		},
		{
			name: "clock that nobody has", subs: []sub{{id: 2, timeout: 9}, {id: 3, timeout: 9}, {id: 4, timeout: 9}},
			want: []event{{userdata: 0, error: eNotsup}, {userdata: 1, error: eNotsup}, {userdata: 2, error: eInval}},
		},
		{name: "unknown flag", subs: []sub{{id: 0, timeout: 9, flags: 2}}, e: eInval},
		{name: "unknown kind", subs: []sub{{tag: 3}}, e: eInval},
		{name: "none", e: eInval},
		{
			name: "files are ready", subs: []sub{sleepFor(50), {tag: eventFDRead, id: 3}, {tag: eventFDWrite, id: 1}, {tag: eventFDRead, id: 4}},
			want: []event{{userdata: 1, kind: eventFDRead}, {userdata: 2, kind: eventFDWrite}, {userdata: 3, kind: eventFDRead, nbytes: 4}},
		},
		{
			name: "no such descriptor", subs: []sub{{tag: eventFDRead, id: 9}, {tag: eventFDWrite, id: math.MaxUint32}},
			want: []event{{kind: eventFDRead, error: eBadf}, {userdata: 1, kind: eventFDWrite, error: eBadf}},
		},
		{name: "no input", subs: []sub{{tag: eventFDRead, id: 0}}, want: []event{{kind: eventFDRead}}},
		{
			name: "input", input: in(1), subs: []sub{{tag: eventFDRead, id: 0}},
			want: []event{{kind: eventFDRead, nbytes: 6}}, kind: hostabi.KindStdin,
		},
		{
			name: "end of input", input: in(0), subs: []sub{{tag: eventFDRead, id: 0}},
			want: []event{{kind: eventFDRead}}, kind: hostabi.KindStdin,
		},
	} {
		for _, move := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				dir := files(t, map[string]string{"f": "data"})
				config := Config{Mounts: []Mount{{Host: dir}}}
				if c.input != nil {
					config.Stdin = NewStdin(&lines{list: slices.Clone(c.input)})
				}
				g := newGuest(t, config)
				g.move = move
				g.open("f", openArgs{})
				start := g.clock.Mono()
				got, e := g.poll(c.subs...)
				if e != c.e || !slices.Equal(got, c.want) {
					t.Errorf("poll_oneoff = %+v, errno %d; want %+v, errno %d", got, e, c.want, c.e)
				}
				var kind string
				for n, p := range g.pending {
					if kind = p.Kind; n == 0 && kind == hostabi.KindTimer && p.Until.UnixNano() != int64(wall)+int64(c.elapsed) {
						t.Errorf("waited until %v", p.Until)
					}
				}
				if kind != c.kind {
					t.Errorf("waited for %q, want %q", kind, c.kind)
				}
				elapsed := time.Duration(g.clock.Mono() - start)
				// A move takes a nanosecond of the fake clock, which counts as time asleep.
				if move && c.elapsed > 0 {
					if elapsed < c.elapsed || elapsed > c.elapsed+1 {
						t.Errorf("took %v, want about %v", elapsed, c.elapsed)
					}
				} else if !move && elapsed != c.elapsed {
					t.Errorf("took %v, want %v", elapsed, c.elapsed)
				}
			})
		}
	}
}

func TestPollPointers(t *testing.T) {
	g := newGuest(t, Config{})
	in := g.subs([]sub{sleepFor(5)})
	out, result := g.space(eventSize), g.space(4)
	g.want(eFault, "poll_oneoff", 1<<16-subscriptionSize+1, out, 1, result)
	g.want(eFault, "poll_oneoff", in, 1<<16-eventSize+1, 1, result)
	g.want(eFault, "poll_oneoff", in, out, 1, 1<<16-3)
	g.want(eInval, "poll_oneoff", in, out, 1<<32-1, result)
	g.want(eInval, "poll_oneoff", in, out, maxSubscriptions+1, result)
	g.want(eFault, "poll_oneoff", in, out, maxSubscriptions, result)
	if len(g.pending) != 0 {
		t.Error("suspended in spite of a bad pointer")
	}
	// Events over the subscriptions.
	in = g.subs([]sub{sleepFor(0), sleepFor(0), sleepFor(0)})
	g.want(success, "poll_oneoff", in, in, 3, result)
	if g.u64(in) != 100 || g.u64(in+32) != 101 || g.u64(in+64) != 102 {
		t.Error("overlapping buffers lost events")
	}
}

// TestPollDeadline holds that neither a restore nor the wall clock moves a deadline.
func TestPollDeadline(t *testing.T) {
	g := newGuest(t, Config{})
	in, out, result := g.subs([]sub{sleepFor(10 * time.Second)}), g.space(eventSize), g.space(4)
	_, p := g.start("poll_oneoff", nil, in, out, 1, result)
	data := g.save()
	g.clock.advance(4*time.Second - 1)
	g.clock.mono = 5 // another machine
	g.inst = g.newInstance()
	if err := g.inst.Restore(StateVersion, data); err != nil {
		t.Fatal(err)
	}
	if _, again := g.start("poll_oneoff", p, in, out, 1, result); again != p {
		t.Fatalf("after 4 of 10 s: %v", again)
	}
	g.clock.wall += int64(time.Hour) // somebody sets the clock; sleeping is not affected
	if _, again := g.start("poll_oneoff", p, in, out, 1, result); again != p {
		t.Fatalf("after the wall clock was set: %v", again)
	}
	before := g.clock.mono
	if err := g.inst.Wait(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if d := time.Duration(g.clock.mono - before); d != 6*time.Second {
		t.Errorf("slept another %v, want 6s", d)
	}
	if e, again := g.start("poll_oneoff", p, in, out, 1, result); again != nil || e != success || g.u32(result) != 1 {
		t.Errorf("then: errno %d, %v, %d events", e, again, g.u32(result))
	}
}

// TestPollForever is a timeout that is longer than time goes.
func TestPollForever(t *testing.T) {
	g := newGuest(t, Config{})
	for _, s := range []sub{
		{id: clockMonotonic, timeout: math.MaxUint64},
		{id: clockRealtime, timeout: math.MaxUint64, flags: subclockAbstime},
		{id: clockMonotonic, timeout: math.MaxInt64},
	} {
		in := g.subs([]sub{s})
		_, p := g.start("poll_oneoff", nil, in, g.space(eventSize), 1, g.space(4))
		if p == nil || p.Until.Year() < 2200 {
			t.Errorf("%+v: waits for %+v", s, p)
		}
	}
}

func TestPollStdinOrTimeout(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	g := newGuest(t, Config{Stdin: &lines{block: block}})
	got, e := g.poll(sub{tag: eventFDRead, id: 0}, sleepFor(time.Minute))
	if e != success || len(got) != 1 || got[0].userdata != 1 {
		t.Errorf("poll = %+v, errno %d; want the timeout", got, e)
	}
	if p := g.pending[0]; p.Kind != hostabi.KindStdin || p.Until.IsZero() {
		t.Errorf("waited for %+v", p)
	}

	// Input that is in time.
	g = newGuest(t, Config{Stdin: &lines{list: []string{"x"}}})
	g.clock.frozen = true
	got, e = g.poll(sleepFor(time.Minute), sub{tag: eventFDRead, id: 0})
	if e != success || len(got) != 1 || got[0].userdata != 1 || got[0].nbytes != 1 {
		t.Errorf("poll = %+v, errno %d; want the input", got, e)
	}
	g.wantRead(0, 10, "x")
}

// TestPollStdinNonblocking is a guest that only ever looks.
func TestPollStdinNonblocking(t *testing.T) {
	g := newGuest(t, Config{Stdin: &lines{list: []string{"late"}}})
	g.poll(sub{tag: eventFDRead, id: 0}, sleepFor(0)) // starts to read
	if err := g.inst.stdin.reader.wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	got, e := g.poll(sub{tag: eventFDRead, id: 0}, sleepFor(0))
	if e != success || len(got) != 2 || got[0].nbytes != 4 || len(g.pending) != 0 {
		t.Errorf("poll = %+v, errno %d, after %d await points", got, e, len(g.pending))
	}
}
