package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// TestEachInterrupted stops a command that works on several coroutines, just when it is done with one of them.
func TestEachInterrupted(t *testing.T) {
	a := &app{Config: Config{Stderr: io.Discard}}
	for stopAt, want := range []int{exitInterrupted, exitInterrupted, exitOK} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var done []string
		ids := []string{"a", "b", "c"}
		err := a.each(ctx, ids, func(id string) error {
			if done = append(done, id); len(done) > stopAt {
				cancel(&interruptError{os.Interrupt})
			}
			return nil
		})
		var stopped *interruptError
		code := exitOK
		if errors.As(err, &stopped) {
			code = stopped.exitCode()
		}
		if code != want || !slices.Equal(done, ids[:stopAt+1]) {
			t.Errorf("stopped after %v: %v", done, err)
		}
	}
}

// TestDamagedState has a snapshot that is sound, but for what a host module is to read of it. No bug of durun's is meant by that.
func TestDamagedState(t *testing.T) {
	mem := bucket.NewMem()
	run := func(verb string, args ...string) (code int, stderr string) {
		var out bytes.Buffer
		drivers := map[string]bucket.Opener{"mem": func(context.Context, *url.URL) (bucket.Bucket, error) { return mem, nil }}
		code = Main(Config{Stdout: io.Discard, Stderr: &out, Drivers: drivers}, append([]string{verb, "--store", "mem://"}, args...))
		return code, out.String()
	}
	guest := filepath.Join("..", "..", "..", "testdata", "guests", "exit.wasm")
	if code, text := run("run", "-d", "--no-cache", "--id", "good", guest); code != exitOK {
		t.Fatal(text)
	}
	store := snapshot.NewStore(mem)
	for _, module := range []string{hostabi.ModuleName, "wasi_snapshot_preview1"} {
		s, _, err := store.Latest(t.Context(), "good")
		if err != nil {
			t.Fatal(err)
		}
		s.Coroutine = "bad." + module
		i := slices.IndexFunc(s.Host, func(sec snapshot.Section) bool { return sec.Name == module })
		s.Host[i].Data = []byte{0xff}
		if _, err := store.Commit(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		code, text := run("resume", "--no-cache", s.Coroutine)
		advised := strings.Contains(text, "an earlier commit may do") && strings.Contains(text, "history")
		if code != exitData || !strings.Contains(text, hostabi.ErrState.Error()) || !advised {
			t.Errorf("resume: exit code %d, want %d, and advice; got:\n%s", code, exitData, text)
		}
		if module != hostabi.ModuleName {
			continue // nobody else reads it
		}
		for _, verb := range []string{"inspect", "result"} {
			if code, text := run(verb, s.Coroutine); code != exitData || strings.Contains(text, "bug") {
				t.Errorf("%s: exit code %d, want %d; got:\n%s", verb, code, exitData, text)
			}
		}
	}
}
