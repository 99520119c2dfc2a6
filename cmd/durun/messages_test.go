//go:build unix

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket/file"
)

// TestKillWhileReceiving kills drivers with kill -9, again and again, while messages come: each twice, under the same key. Each
// is received once, in order.
func TestKillWhileReceiving(t *testing.T) {
	t.Parallel()
	const messages = 120
	// So many messages may be under way: a driver receives those that are there at one go, with one commit.
	ahead := make(chan struct{}, 10)
	dir := t.TempDir()
	durun(t, dir, 0, "run", "-d", "--id", "m", "testdata/messages.wasm")
	b, err := file.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	store := snapshot.NewStore(b)
	var want strings.Builder
	sent := make(chan error, 1)
	for i := range messages {
		fmt.Fprintf(&want, "message %d\n", i)
	}
	want.WriteString("quit\n")
	go func() {
		sent <- func() error {
			for i := range messages {
				select {
				case ahead <- struct{}{}:
				case <-t.Context().Done():
					return t.Context().Err()
				}
				m := snapshot.Message{Name: "line", Key: fmt.Sprint("key ", i), Data: fmt.Appendf(nil, "message %d", i)}
				for range 2 {
					if r, err := store.Send(t.Context(), "m", m); err != nil || r.Differs {
						return fmt.Errorf("message %d: %+v, %w", i, r, err)
					}
				}
			}
			_, err := store.Send(t.Context(), "m", snapshot.Message{Name: "line", Data: []byte("quit")})
			return err
		}()
	}()
	kills, received := 0, 0
	know := func(n int) { // that so many have been received
		for ; received < n; received++ {
			<-ahead
		}
	}
	for {
		head, err := store.Head(t.Context(), "m")
		if err != nil {
			t.Fatal(err)
		}
		if head.Status.Ended() { // it was killed just after its last commit
			break
		}
		var logs bytes.Buffer // with what was committed when nobody read any more
		if err := store.Logs(t.Context(), "m", &logs, nil); err != nil {
			t.Fatal(err)
		}
		know(bytes.Count(logs.Bytes(), []byte("message")))
		p := startLines(t, dir, "resume", "m")
		quit := false
		// Later and later, so that there is an end: until the commit all that it receives is lost with it.
		for n := rand.IntN(16 + kills); n >= 0 && !quit; n-- {
			line := p.line(t)
			if line == "" {
				t.Fatalf("it ended by itself, with exit code %d; stderr:\n%s", p.end(t), p.err.String())
			}
			var i int
			if _, err := fmt.Sscanf(line, "message %d\n", &i); err == nil {
				know(i + 1)
			}
			quit = line == "quit\n"
		}
		if quit {
			if code := p.end(t); code != 0 {
				t.Fatalf("exit code %d; stderr:\n%s", code, p.err.String())
			}
			break
		}
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.end(t)
		kills++
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills", kills)
	if diff := cmp.Diff(want.String(), durun(t, dir, 0, "logs", "m")); diff != "" {
		t.Errorf("killed %d times (-want +got):\n%s", kills, diff)
	}
	if out := durun(t, dir, 0, "check"); strings.Contains(out, "damaged") {
		t.Error(out)
	}
}
