//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/file"
	"github.com/durun/durun/snapshot/bucket/s3/s3test"
)

// The environment of TestAlternate and TestAlternateS3, for long runs:
//
//	DURUN_ALTERNATE_ROUNDS=1000 go test ./cmd/durun -run AlternateS3 -v -timeout 2h
const (
	alternateRounds = "DURUN_ALTERNATE_ROUNDS"
	alternateSeed   = "DURUN_ALTERNATE_SEED"
	alternateFaults = "DURUN_ALTERNATE_FAULTS" // per cent of requests
)

// roundLines is how many lines of the program's output a round may take.
const roundLines = 5

// TestAlternate has two processes drive one coroutine in turn. The one that does is killed at a random moment, told to
// stop, or paused until the other has taken over; sometimes the other tries before that. The output is that of a run that
// nobody disturbed.
func TestAlternate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	alternate(t, &alternation{dir: dir, store: noLock(dir, "clock=true"), open: func() bucket.Bucket {
		b, err := file.Open(filepath.Join(dir, "store"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}})
}

// TestAlternateS3 does that in a real S3 service, between which and the processes requests fail now and then.
func TestAlternateS3(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	c := server.NewBucket(t)
	server.Plan(s3test.Faults(t, number(t, alternateFaults, 10)))
	c.Prefix = "alternate"
	a := &alternation{
		dir: t.TempDir(), faulty: true,
		store: []string{"--store", "s3://" + c.Bucket + "/" + c.Prefix + "?endpoint=" + url.QueryEscape(server.URL())},
		open: func() bucket.Bucket {
			server.Plan(nil)
			return s3test.Open(t, c)
		},
	}
	a.env = []string{"AWS_ACCESS_KEY_ID=" + c.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey}
	alternate(t, a)
}

func alternate(t *testing.T, a *alternation) {
	if goruntime.GOOS != "linux" {
		t.Skip("other systems don't tell processes apart: each round would wait for a lease to run out")
	}
	rounds := number(t, alternateRounds, 16)
	seed := uint64(number(t, alternateSeed, 1))
	a.t, a.r, a.ends = t, rand.New(rand.NewPCG(seed, 0)), map[string]int{}
	lines := rounds*roundLines*4 + 20 // on a busy machine a driver is well ahead of its reader
	program := fmt.Sprintf("0 !i begin @i 1 + !i @i . cr 3 sleep @i %d = until 1 1 1 1 1 1 1", lines)
	cur := a.start("run", "--id", "x", guest(t, a.dir, "interp.wasm"), "-c", program)
	for range 2 { // then something is committed
		if !cur.line() {
			t.Fatalf("the first run ended early; stderr:\n%s", cur.err.String())
		}
	}
	began := time.Now()
	done := 0
	for n := range rounds {
		if cur = a.round(cur); cur == nil {
			break // the program has come to its end before it could be stopped
		}
		done++
		if (n+1)%50 == 0 {
			t.Logf("%d rounds in %v: %v", n+1, time.Since(began).Round(time.Second), a.ends)
		}
	}
	if done < rounds/2 {
		t.Errorf("only %d rounds of %d", done, rounds)
	}
	for cur != nil && !a.ended(cur) {
		cur = a.start("resume", "x")
	}
	t.Logf("seed %d: %d rounds in %v; how the processes ended: %v", seed, done, time.Since(began).Round(time.Millisecond), a.ends)

	store := snapshot.NewStore(a.open())
	defer store.Bucket().Close()
	var want, got bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&want, "%d \n", i+1)
	}
	if err := store.Logs(t.Context(), "x", &got, &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("the output has %d bytes, want %d:\n%s", got.Len(), want.Len(), &got)
	}
	history, err := store.History(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range history {
		if c.Err != nil || c.Seq != history[0].Seq+uint64(i) {
			t.Fatalf("commit %d is number %d from %d on; %v", c.Seq, i+1, history[0].Seq, c.Err)
		}
	}
}

func number(t *testing.T, name string, usual int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// alternation is a coroutine that is driven in turn.
type alternation struct {
	t      *testing.T
	dir    string
	store  []string             // the flag
	env    []string             // of the processes
	open   func() bucket.Bucket // when all is over
	faulty bool                 // the store may be unavailable
	r      *rand.Rand
	ends   map[string]int
}

// driver is a process that drives the coroutine.
type driver struct {
	*process
	t     *testing.T
	lines chan string // closed at the end of its output
}

func (a *alternation) start(verb string, args ...string) *driver {
	a.t.Helper()
	flags := append(append([]string{}, a.store...), "--lease", "2s")
	if a.r.IntN(2) == 0 {
		flags = append(flags, "--keep", "5") // so that numbers of commits become free
	}
	p := prepare(a.t, a.dir, with(verb, flags, args...)...)
	p.Env = append(p.Env, a.env...)
	out, err := p.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	p.begin(a.t)
	d := &driver{process: p, t: a.t, lines: make(chan string, 1<<16)}
	go func() {
		defer close(d.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			d.lines <- s.Text()
		}
	}()
	return d
}

// line waits for a line of output; false is the end.
func (d *driver) line() bool {
	d.t.Helper()
	late := time.AfterFunc(d.patience, d.quit)
	_, ok := <-d.lines
	if !late.Stop() {
		d.t.Fatalf("durun %s wrote no line in %v, and ended with exit code %d; stderr:\n%s", strings.Join(d.Args[1:], " "), d.patience, d.rest(), d.err.String())
	}
	return ok
}

// rest waits for the process to end by itself, and returns its exit code, -1 if a signal ended it.
func (d *driver) rest() int {
	d.t.Helper()
	code := d.end(d.t)
	for range d.lines {
	}
	return code
}

func (d *driver) signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.Process.Signal(s); err != nil && !strings.Contains(err.Error(), "already finished") {
		d.t.Fatal(err)
	}
}

// expect counts how a process ended that was not to reach the program's end.
func (a *alternation) expect(d *driver, code int) {
	a.t.Helper()
	switch {
	case code == -1:
		a.ends["killed"]++
	case code == 75 && strings.Contains(d.err.String(), "busy"):
		a.ends["busy"]++
	case code == 75:
		a.ends["fenced off"]++
	case code == 79 || code == 130:
		a.ends["told to stop"]++
	case code == 69 && a.faulty:
		a.ends["no store"]++
	default:
		a.t.Fatalf("a driver ended with exit code %d; stderr:\n%s", code, d.err.String())
	}
}

// round lets the driver go on for a moment, and another one take over. It returns nil if the program came to its end.
func (a *alternation) round(cur *driver) *driver {
	a.t.Helper()
	var next *driver
	if a.r.IntN(4) == 0 {
		next = a.start("resume", "x") // too early
	}
	if a.r.IntN(3) == 0 {
		select { // perhaps before it drives at all
		case <-time.After(time.Duration(a.r.IntN(150)) * time.Millisecond):
		case <-cur.lines:
		}
	} else {
		for range 1 + a.r.IntN(roundLines-1) {
			cur.line()
		}
	}
	switch how := a.r.IntN(20); how {
	case 0: // paused, until the other has gone on
		cur.signal(syscall.SIGSTOP)
		for next = a.running(next); !next.line(); next = a.running(nil) {
			if a.ended(next) { // and cur before it could be paused
				cur.signal(syscall.SIGCONT)
				a.ended(cur)
				return nil
			}
		}
		cur.signal(syscall.SIGCONT)
		code := cur.rest()
		if code == 7 || code == -1 {
			a.t.Fatalf("a driver that was paused ended with exit code %d; stderr:\n%s", code, cur.err.String())
		}
		a.expect(cur, code)
		return next
	case 1:
		cur.signal(syscall.SIGINT)
	default:
		cur.signal(syscall.SIGKILL)
	}
	if a.ended(cur) {
		if next != nil {
			a.ended(next)
		}
		return nil
	}
	return a.running(next)
}

// ended waits for a process to end, and reports whether the program had come to its end: in it, or in an earlier one, which
// was killed right after that.
func (a *alternation) ended(d *driver) bool {
	a.t.Helper()
	code := d.rest()
	if code == 7 || code == 64 && strings.Contains(d.err.String(), "coroutine has ended: completed, exit code 7") {
		return true
	}
	a.expect(d, code)
	return false
}

// running returns the driver, or another one if there is none.
func (a *alternation) running(d *driver) *driver {
	a.t.Helper()
	if d == nil {
		d = a.start("resume", "x")
	}
	return d
}
