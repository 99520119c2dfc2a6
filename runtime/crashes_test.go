package runtime

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// TestCrashes lets the process die at one operation of the store after the other, while programs that suspend at every call of
// WASI write to both streams, and to files of a volume. What they wrote is in the log once, in order, however far they had
// come without a commit.
func TestCrashes(t *testing.T) {
	for _, c := range []struct {
		program guests.Case
		stdout  string
		stderr  string
	}{
		{
			guests.Case{Guest: "functions", Args: []string{"arguments", "stdio", "poll", "sockets"}, Dirs: map[string]map[string]string{"/": {}}},
			"arguments\ntwo buffers\nstdio\npoll\nsockets\n", "to standard error\n",
		},
		{
			guests.Case{Guest: "volume", Args: []string{"/work"}, Dirs: map[string]map[string]string{"/work": {}}},
			"entry 1\nentry 2\nentry 3\n", "",
		},
	} {
		t.Run(c.program.Guest, func(t *testing.T) {
			t.Parallel()
			crashEverywhere(t, c.program, [2]string{c.stdout, c.stderr})
		})
	}
}

func crashEverywhere(t *testing.T, program guests.Case, want [2]string) {
	binary, err := os.ReadFile("../testdata/guests/" + program.Guest + ".wasm")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := testRuntime(t, everyCall)
	m, err := r.Compile(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	host := func() []hostabi.Instance {
		w := newWorld(t, program)
		return []hostabi.Instance{suspendingInstance{w.instance(t)}}
	}
	// drive starts the program, or goes on with it, in a new process, as it were.
	drive := func(store *snapshot.Store) (snapshot.Status, error) {
		var c *Coroutine
		chain, err := store.Chain(ctx, "out", 0, nil)
		switch {
		case errors.Is(err, snapshot.ErrNotFound):
			c, err = m.Start(ctx, StartConfig{ID: "out", Hosts: host()})
		case err == nil && chain.Commit.Status.Ended():
			return chain.Commit.Status, nil
		case err == nil:
			c, err = m.RestoreChain(ctx, chain, RestoreConfig{Hosts: host()})
		}
		if err != nil {
			return "", err
		}
		defer c.Close()
		d := Driver{Store: store}
		return d.Drive(ctx, c)
	}
	logs := func(store *snapshot.Store) [2]string {
		var out, err bytes.Buffer
		if e := store.Logs(ctx, "out", &out, &err); e != nil {
			t.Fatal(e)
		}
		return [2]string{out.String(), err.String()}
	}
	whole := snapshot.NewStore(bucket.NewMem())
	if status, err := drive(whole); err != nil || status != snapshot.Completed {
		t.Fatal(status, err)
	}
	if d := cmp.Diff(want, logs(whole)); d != "" {
		t.Fatalf("without a crash:\n%s", d)
	}
	crashes, step := 0, 1
	if guests.RaceEnabled {
		step = 5 // the run without it does all
	}
	for _, after := range []bool{false, true} {
		for n := 0; ; n += step {
			b := buckettest.NewFaulty(bucket.NewMem(), buckettest.CrashAt(n, after))
			store := snapshot.NewStore(b)
			status, err := drive(store)
			if err == nil && status == snapshot.Completed {
				break // it needs no more operations than that
			}
			crashes++
			b.Plan(nil)
			if status, err = drive(store); err != nil || status != snapshot.Completed {
				t.Fatalf("crash at %d: %s, %v", n, status, err)
			}
			if d := cmp.Diff(want, logs(store)); d != "" {
				t.Fatalf("crash at operation %d, which was %s:\n%s", n, map[bool]string{true: "done", false: "not done"}[after], d)
			}
		}
	}
	t.Logf("%d crashes", crashes)
	if crashes*step < 50 {
		t.Errorf("only %d crashes", crashes)
	}
}
