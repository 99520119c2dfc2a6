package runtime_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// TestJoins runs those examples that try all that an SDK offers, and print what comes of it: testdata/sdk has what. The SDKs
// don't offer the same.
func TestJoins(t *testing.T) {
	for _, test := range []struct{ sdk, example, want, result string }{
		{"go", "joins", "go-joins", "done"},
		{"tinygo", "joins", "go-joins", "done"},
		{"go", "goroutines", "go-goroutines", ""},
		{"rust", "joins", "rust-joins", "done"},
		{"c", "joins", "c-joins", "done"},
		{"assemblyscript", "joins", "assemblyscript-joins", "done"},
	} {
		t.Run(test.sdk+"/"+test.example, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(filepath.Join("testdata", "sdk", test.want+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			p := compileExample(t, test.sdk, test.example)
			p.each(t, "run", joinsRun, func(t *testing.T, _ *run, got outcome) {
				if got.status != snapshot.Completed || got.exit != 0 || got.result != test.result {
					t.Errorf("%s, exit code %d, result %q", got.status, got.exit, got.result)
				}
				if d := cmp.Diff(string(want), got.logs); d != "" {
					t.Errorf("output (-want +got):\n%s", d)
				}
			})
		})
	}
}

// joinsRun gives a program the handlers that it asks for.
func joinsRun() *run {
	set := &handler.Set{}
	r := &run{handlers: set, stdin: "one\nzwölf\nthree"}
	set.Handle("echo", func(_ context.Context, c handler.Call) ([]byte, error) { return c.Body, nil }, handler.Policy{})
	set.Handle("fail", func(_ context.Context, c handler.Call) ([]byte, error) {
		return nil, handler.Final(fmt.Errorf("no %s", c.Body))
	}, handler.Policy{})
	set.Handle("silent", func(context.Context, handler.Call) ([]byte, error) { return nil, nil }, handler.Policy{})
	set.Handle("block", func(ctx context.Context, _ handler.Call) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, handler.Policy{})
	set.Handle("stop", func(ctx context.Context, c handler.Call) ([]byte, error) {
		_, err := r.store.Send(ctx, c.Coroutine, snapshot.Message{Name: snapshot.CancelMessage, Key: c.Key})
		return nil, err
	}, handler.Policy{})
	return r
}
