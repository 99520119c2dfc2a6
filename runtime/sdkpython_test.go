package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/guests"
	"github.com/durun/durun/hostabi"
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
	module := compileWASI(t, binary)
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
		_, err := r.store.Send(ctx, c.Coroutine, snapshot.Message{Name: snapshot.CancelMessage, Key: "stop"})
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

// TestPythonChild spawns functions in a program that runs by asyncio.run, which calls them in the children as durun.run does.
func TestPythonChild(t *testing.T) {
	p := python(t)("examples/sleep.py")
	p.args[2] = `
import asyncio, durun

def square(n):
    return n * n

async def cube(n):
    await asyncio.sleep(0.01)
    return n**3

async def main():
    print(await durun.gather(durun.spawn(square, 3), durun.spawn(cube, 2)))

asyncio.run(main())
`
	p.each(t, "asyncio", func() *run { return &run{} }, printed("[9, 8]\n"))
}

// TestPythonCancelled cancels programs: one that is cancelled ends without a word of its own, and others that end with an exception
// say which. asyncio needs no module durun in the program for it.
func TestPythonCancelled(t *testing.T) {
	load := python(t)
	for _, c := range []struct{ name, program, want string }{
		{"plain", `
import durun
try:
    durun.recv("never").result()
finally:
    durun.sleep(0.01).result()
    print("cleaned")
`, "cleaned\n"},
		{"asyncio", `
import asyncio
async def work(name):
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0.01)
        print(name, "cleaned")
async def main():
    background = asyncio.create_task(work("background"))
    async with asyncio.TaskGroup() as group:
        group.create_task(work("member"))
asyncio.run(main())
`, "member cleaned\nbackground cleaned\n"},
		{"fails meanwhile", `
import durun
try:
    durun.recv("never").result()
except durun.Cancelled:
    raise ValueError("broken") from None
`, `Traceback (most recent call last):
  File "<string>", line 6, in <module>
ValueError: broken
`},
		{"cancels something itself", `
import durun
durun.sleep(0).result()
timer = durun.sleep(1000)
timer.cancel()
try:
    timer.result()
except durun.Cancelled:
    durun.recv("never").result()
`, ""},
	} {
		p := load("examples/sleep.py")
		p.args[2] = c.program
		p.each(t, c.name, func() *run { return &run{cancelled: true} }, func(t *testing.T, _ *run, got outcome) {
			if got.status != snapshot.Cancelled || got.exit != 1 || got.logs != c.want {
				t.Errorf("%s, exit code %d, output\n%s\nwant\n%s", got.status, got.exit, got.logs, c.want)
			}
		})
	}
	p := load("examples/sleep.py")
	p.args[2] = "import durun\ntimer = durun.sleep(1000)\ntimer.cancel()\ntimer.result()"
	p.each(t, "not cancelled", func() *run { return &run{} }, func(t *testing.T, _ *run, got outcome) {
		if got.status != snapshot.Completed || got.exit != 1 || !strings.HasSuffix(got.logs, "CancelledError: timer was cancelled\n") {
			t.Errorf("%s, exit code %d, output\n%s", got.status, got.exit, got.logs)
		}
	})
}

// TestDurunWithoutDriver drives programs that wait for timers by files under /durun, as an embedder may who needs nothing but
// Resume and Wait: alone, and beside standard input on which nothing comes.
func TestDurunWithoutDriver(t *testing.T) {
	t.Run("operations", func(t *testing.T) {
		resumeAndWait(t, compileExample(t, "go", "sleep"), "tick 1\ntick 2\ntick 3\n")
	})
	t.Run("beside standard input", func(t *testing.T) {
		p := python(t)("examples/sleep.py")
		p.args[2] = `
import durun, os, select
op = durun.sleep(0.05)
events = os.open("/durun/events", os.O_RDONLY)
print([fd == events for fd in select.select([0, events], [], [])[0]], op.done())
`
		resumeAndWait(t, p, "[True] True\n")
	})
}

func resumeAndWait(t *testing.T, p *program, want string) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	in, out := io.Pipe()
	defer out.Close()
	var stdout bytes.Buffer
	host, err := wasi.New(wasi.Config{Args: p.args, Env: p.env, Durun: true, Stdin: in})
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.module.Start(ctx, runtime.StartConfig{ID: "alone", Hosts: []hostabi.Instance{host}, Stdout: &stdout})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for {
		status, err := c.Resume(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status.Ended() {
			break
		}
		if err := c.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if stdout.String() != want {
		t.Errorf("prints %q, want %q", &stdout, want)
	}
}
