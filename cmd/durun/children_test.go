//go:build unix

package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFamilyKilled has a coroutine start two others, each of which starts two, and so on to the 127th, and kills the process that
// drives them, again and again. Each is driven to its end, once, and their sum is right.
func TestFamilyKilled(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "store"), 0o700); err != nil { // a first process may be killed before it has made one
		t.Fatal(err)
	}
	guest := filepath.Join("..", "..", "testdata", "wat", "coroutines.wasm")
	args := []string{"run", "--id", "family", "--entry", "tree", "--input", "@" + filepath.Join("testdata", "six"), guest}
	kills := 0
	for life := 0; ; life++ {
		p := start(t, dir, args...)
		// A moment that is nobody's choice; later each time, so that there is an end.
		kill := time.AfterFunc(time.Duration(20+5*life+rand.IntN(80))*time.Millisecond, func() { _ = p.Process.Kill() })
		code := p.end(t)
		kill.Stop()
		if code == 0 {
			break
		}
		if code != -1 {
			t.Fatalf("exit code %d: %s", code, p.err.String())
		}
		kills++
		var list []struct{ ID, Status string }
		if err := json.Unmarshal([]byte(durun(t, dir, 0, "ps", "-a", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		ended := false
		for _, c := range list {
			ended = ended || c.ID == "family" && c.Status == "completed"
		}
		if ended { // it was killed on its way out
			break
		}
		if len(list) > 0 { // else nothing has been committed
			args = []string{"resume", "family"}
		}
	}
	var family []struct{ ID, Status string }
	if err := json.Unmarshal([]byte(durun(t, dir, 0, "ps", "-a", "-o", "json")), &family); err != nil {
		t.Fatal(err)
	}
	if len(family) != 127 {
		t.Errorf("they are %d", len(family))
	}
	for _, c := range family {
		if c.Status != "completed" {
			t.Errorf("%s is %s", c.ID, c.Status)
		}
	}
	if got, want := durun(t, dir, 0, "result", "family"), "\x7f\x00\x00\x00\x00\x00\x00\x00"; got != want {
		t.Errorf("the sum is %q, want %q", got, want)
	}
	t.Logf("%d kills", kills)
}
