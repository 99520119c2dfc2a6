package runtime_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// python returns stock CPython, compiled, as a program that runs a script of the folder guests/python.
func python(t *testing.T) func(script string) *program {
	t.Helper()
	if testing.Short() {
		t.Skip("left out: -short")
	}
	if guests.RaceEnabled {
		t.Skip("left out: takes minutes with the race detector; make test runs it without")
	}
	binary, err := guests.Python()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("left out: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := runtime.New(t.Context(), runtime.NewConfig().WithModules(wasi.Module))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.WithoutCancel(t.Context())) })
	module, err := r.Compile(t.Context(), binary)
	if err != nil {
		t.Fatal(err)
	}
	return func(script string) *program {
		text, err := os.ReadFile(filepath.Join("..", "guests", "python", filepath.FromSlash(script)))
		if err != nil {
			t.Fatal(err)
		}
		return &program{
			args: []string{"python", "-c", string(text)}, env: []string{"PYTHONPATH=/durun/lib/python", "PYTHONHASHSEED=7"}, module: module,
		}
	}
}

// TestPythonSDK runs the examples of the Python module.
func TestPythonSDK(t *testing.T) {
	load := python(t)
	for _, example := range sdkExamples {
		t.Run(example.name, func(t *testing.T) { example.runs(t, load("examples/"+example.name+".py")) })
	}
}

// TestPythonModule runs a program that tries all of the Python module, and says itself what went wrong.
func TestPythonModule(t *testing.T) {
	p := python(t)("module.py")
	var r *run
	set := &handler.Set{}
	set.Handle("stop", func(ctx context.Context, c handler.Call) ([]byte, error) {
		_, err := r.store.Send(ctx, c.Coroutine, snapshot.Message{Name: runtime.CancelMessage, Key: "stop"})
		return nil, err
	}, handler.Policy{})
	set.Handle("echo", func(_ context.Context, c handler.Call) ([]byte, error) { return c.Body, nil }, handler.Policy{})
	set.Handle("fail", func(_ context.Context, c handler.Call) ([]byte, error) {
		return nil, handler.Final(errors.New(string(c.Body)))
	}, handler.Policy{})
	set.Handle("hang", func(ctx context.Context, _ handler.Call) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, handler.Policy{})
	p.each(t, "module", func() *run {
		r = &run{
			input: `{"ä": [1, 2.5, null]}`, handlers: set, echo: true,
			messages: []snapshot.Message{
				{Name: "word", Key: "1", Data: []byte(`"one"`)},
				{Name: "word", Key: "2", Data: []byte(`{"two": 2}`)},
				{Name: "raw", Key: "3", Data: []byte("not JSON")},
			},
		}
		return r
	}, func(t *testing.T, _ *run, got outcome) {
		if got.status != snapshot.Cancelled && got.status != snapshot.Completed || got.exit != 0 ||
			got.logs != "failures 0\ncancelled\n" || got.result != `{"failures":0}` {
			t.Errorf("%s, exit code %d, result %s, output\n%s", got.status, got.exit, got.result, got.logs)
		}
	})
}
