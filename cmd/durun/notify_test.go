//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/durun/durun/guests"
)

// notifyRate is how many mails a second the outside world allows.
const notifyRate = 120

// outside is a world that fails: it answers with errors, asks for patience, and dies between its work and its answer.
type outside struct {
	*httptest.Server
	came   chan struct{} // an event for each request to send
	over   chan struct{} // closed when results were stored
	mu     sync.Mutex
	random *rand.Rand
	starts []time.Time
	calls  map[string]int    // by idempotency key
	sent   map[string]string // addresses, by idempotency key: what a receiver that remembers keys accepts
	stored map[string]notifyResult
}

// notifyResult is what notify_users stores at the end.
type notifyResult struct {
	OpID    string `json:"opid"`
	Results []struct {
		Sent string `json:"sent"`
	} `json:"results"`
}

func newOutside(t *testing.T, seed uint64) *outside {
	o := &outside{came: make(chan struct{}, 1<<20), over: make(chan struct{}), random: rand.New(rand.NewPCG(seed, 0)), calls: map[string]int{}, sent: map[string]string{}, stored: map[string]notifyResult{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /send", func(w http.ResponseWriter, r *http.Request) { o.send(t, w, r) })
	mux.HandleFunc("POST /store", func(w http.ResponseWriter, r *http.Request) {
		var result notifyResult
		o.decode(t, r, &result)
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.stored) == 0 {
			close(o.over)
		}
		o.stored[r.Header.Get("Idempotency-Key")] = result
		fmt.Fprint(w, `{"ok":true}`)
	})
	o.Server = httptest.NewServer(mux)
	t.Cleanup(o.Close)
	return o
}

func (o *outside) decode(t *testing.T, r *http.Request, into any) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil { // a killed client's request may be cut short
		t.Logf("%s: %v", r.URL, err)
		panic(http.ErrAbortHandler)
	}
}

func (o *outside) send(t *testing.T, w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	var mail struct {
		To string `json:"to"`
	}
	o.decode(t, r, &mail)
	key := r.Header.Get("Idempotency-Key")
	o.came <- struct{}{}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.starts = append(o.starts, at)
	o.calls[key]++
	if was, ok := o.sent[key]; ok && was != mail.To {
		t.Errorf("key %s: first for %s, now for %s", key, was, mail.To)
	}
	switch dice := o.random.Float64(); {
	case dice < 0.20:
		http.Error(w, "try again", http.StatusInternalServerError)
	case dice < 0.22:
		w.Header().Set("Retry-After", "0")
		http.Error(w, "slow down", http.StatusTooManyRequests)
	case dice < 0.27: // it does its work, and dies before it can say so
		o.sent[key] = mail.To
		panic(http.ErrAbortHandler)
	default:
		o.sent[key] = mail.To
		fmt.Fprintf(w, `{"sent":%q}`, mail.To)
	}
}

// await waits until so many more requests to send have come from a process, or the results were stored.
func (o *outside) await(t *testing.T, p *process, n int) {
	t.Helper()
	for range n {
		select {
		case <-o.came:
		case <-o.over:
			return
		case <-time.After(p.patience):
			p.quit()
			t.Fatalf("no request in %v; exit code %d, stderr:\n%s", p.patience, p.end(t), p.err.String())
		}
	}
}

// TestNotifyUsers runs the field's example in each language: send a mail to each address of a list, in parallel, under a rate
// limit, to a world that fails; then store the results. The process is killed again and again.
//
// DURUN_NOTIFY is how many addresses there are, DURUN_NOTIFY_KILLS how many times each program is killed.
func TestNotifyUsers(t *testing.T) {
	addresses, kills := number(t, "DURUN_NOTIFY", 60), number(t, "DURUN_NOTIFY_KILLS", 5)
	root := filepath.Join("..", "..")
	for i, language := range []string{"c", "assemblyscript", "rust", "go", "python"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel() // they wait, most of the time
			notifyUsers(t, uint64(i), addresses, kills, notifyProgram(t, root, language)...)
		})
	}
}

// notifyProgram returns the arguments of run for the example notify_users of an SDK: flags, a module, and its arguments.
func notifyProgram(t *testing.T, root, language string) []string {
	t.Helper()
	const example = "notify_users"
	if guests.RaceEnabled && (language == "go" || language == "python") {
		t.Skip("left out: takes a minute to compile with the race detector; make test runs it without")
	}
	switch language {
	case "go":
		out := filepath.Join(t.TempDir(), example+".wasm")
		cmd := exec.Command("go", "build", "-o", out, "./"+example)
		cmd.Dir = filepath.Join(root, "guests", "go", "examples")
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build the Go example: %v\n%s", err, text)
		}
		return []string{out}
	case "python":
		if _, err := guests.CPython.Bytes(); errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		cpython, err := guests.CPython.Path()
		if err != nil {
			t.Fatal(err)
		}
		source, err := os.ReadFile(filepath.Join(root, "guests", "python", "examples", example+".py"))
		if err != nil {
			t.Fatal(err)
		}
		return []string{"--env", "PYTHONPATH=/durun/lib/python", cpython, "-c", string(source)}
	}
	return []string{filepath.Join(root, "testdata", "guests", language+"-"+example+".wasm")}
}

// notifyUsers runs a program, of which run takes these arguments.
func notifyUsers(t *testing.T, seed uint64, addresses, kills int, program ...string) {
	dir := t.TempDir()
	world := newOutside(t, seed)
	var input struct {
		OpID   string   `json:"opid"`
		Emails []string `json:"emails"`
	}
	input.OpID = "op-1"
	for i := range addresses {
		input.Emails = append(input.Emails, fmt.Sprintf("u%d@example.org", i))
	}
	data, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "input.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	run := []string{
		"run", "--id", "n", "--input", "@" + filepath.Join(dir, "input.json"),
		"--handler", "send_email=" + world.URL + "/send", "--handler", "store_results=" + world.URL + "/store",
		"--limit", fmt.Sprintf("send_email=rate=%d/s,concurrency=64,backoff=20ms,max-backoff=500ms", notifyRate),
	}
	p := start(t, dir, append(run, program...)...)
	committed(t, dir, "n", 1)
	killed := 0
	for killed < kills {
		// Right away, or when it has done some of the work. It may have ended by then.
		world.await(t, p, rand.IntN(2*addresses/kills+1))
		_ = p.Process.Signal(syscall.SIGKILL)
		if code := p.end(t); code == 0 {
			break
		}
		killed++
		p = start(t, dir, "resume", "n")
	}
	if killed == kills {
		p.patience = 10 * time.Minute
		if code := p.end(t); code != 0 {
			t.Fatalf("exit code %d; stderr:\n%s", code, p.err.String())
		}
	}
	world.check(t, dir, input.Emails)
	t.Logf("%d kills, %d requests under %d keys", killed, len(world.starts), len(world.calls))
}

// check looks at what has come of it all.
func (o *outside) check(t *testing.T, dir string, emails []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if got, want := durun(t, dir, 0, "logs", "n"), fmt.Sprintf("stored %d\n", len(emails)); got != want {
		t.Errorf("the log is %q, want %q", got, want)
	}
	// By a receiver that remembers keys each address has got one mail.
	var got []string
	for _, to := range o.sent {
		got = append(got, to)
	}
	want := slices.Sorted(slices.Values(emails))
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%d mails were accepted under %d keys, want one for each of %d addresses", len(got), len(o.sent), len(want))
	}
	if len(o.stored) != 1 {
		t.Errorf("results were stored under %d keys, want one", len(o.stored))
	}
	for _, result := range o.stored {
		var sent []string
		for _, r := range result.Results {
			sent = append(sent, r.Sent)
		}
		if !slices.Equal(sent, emails) || result.OpID != "op-1" {
			t.Errorf("the stored results are not those of all addresses in order: %q %.200q", result.OpID, sent)
		}
	}
	// At the receiver requests may come closer to each other than they were sent, if one is held up on the way.
	const jitter = 250 * time.Millisecond
	slices.SortFunc(o.starts, time.Time.Compare)
	for i := range o.starts {
		for j := i + 1; j < len(o.starts); j++ {
			within := o.starts[j].Sub(o.starts[i])
			if n := j - i + 1; float64(n) > notifyRate*(within+jitter).Seconds()+1 {
				t.Fatalf("%d requests within %v, where %d a second are allowed", n, within, notifyRate)
			}
		}
	}
}
