package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/durun/durun/cmd/durun/command"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
	"github.com/durun/durun/snapshot/bucket/file"
	"github.com/durun/durun/snapshot/bucket/s3/s3test"
)

// asDurun makes the test binary the command itself, for tests that start processes on their own.
const asDurun = "DURUN_TEST_MAIN"

// noRaceSleep, as GORACE, spares each process the second that the race detector waits at the end.
const noRaceSleep = "atexit_sleep_ms=0"

// patience is how long a test waits for anything. It bounds what hangs, and measures nothing: no machine is that slow.
const patience = 5 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(asDurun) != "" {
		os.Exit(run())
	}
	if signal.Ignored(os.Interrupt) { // as in a job that a script has in the background; durun would go on ignoring it
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	testscript.Main(&cached{M: m}, map[string]func(){"durun": func() { os.Exit(run()) }})
}

// cacheFolder is where all tests keep prepared modules, so that each guest is prepared once.
var cacheFolder string

type cached struct{ *testing.M }

func (c *cached) Run() int {
	var err error
	if cacheFolder, err = os.MkdirTemp("", "durun-test-cache-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(cacheFolder)
	return c.M.Run()
}

// run is the command with more drivers: full://FOLDER?puts=N is a folder that takes N objects and is full then, and
// nolock://FOLDER is one without locks, as object storage is, with a clock if clock=true is given. It says nothing of slow
// work, which depends on the machine.
func run() int {
	c := config()
	c.Drivers["full"], c.Drivers["nolock"] = openFull, openNoLock
	c.Patience = time.Hour
	return command.Main(c, os.Args[1:])
}

func openNoLock(_ context.Context, u *url.URL) (bucket.Bucket, error) {
	b, err := file.Open(filepath.FromSlash(u.Path))
	if err != nil {
		return nil, err
	}
	hidden := buckettest.NoLock(b)
	if u.Query().Get("clock") == "true" {
		return clockBucket{hidden}, nil
	}
	return hidden, nil
}

type clockBucket struct{ bucket.Bucket }

func (clockBucket) Now(context.Context) (time.Time, error) { return time.Now(), nil }

type fullBucket struct {
	*file.Bucket
	puts int
}

func openFull(_ context.Context, u *url.URL) (bucket.Bucket, error) {
	puts, err := strconv.Atoi(u.Query().Get("puts"))
	if err != nil {
		return nil, err
	}
	b, err := file.Open(filepath.FromSlash(u.Path))
	if err != nil {
		return nil, err
	}
	return &fullBucket{b, puts}, nil
}

func (b *fullBucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if b.puts <= 0 {
		return &bucket.Error{Op: "put", Key: key, Kind: bucket.ErrFull, Err: syscall.ENOSPC}
	}
	b.puts--
	return b.Bucket.Put(ctx, key, body, size)
}

// TestScript runs testdata/script. Beyond testscript's own commands there are:
//
//	exits N COMMAND...         run a command and expect exit code N; stdout and stderr look at its output
//	until TEXT COMMAND...      run a command again and again until its standard output has the text
//	damage FILE OFFSET         flip a bit; a negative offset counts from the end
//	truncate FILE SIZE         cut a file; a negative size counts from the end
//
// $GUESTS, $WAT and $DATA are the folders of the guests that the repository has. A process that a script waits for in vain is
// told to say where it stands, and to end, when nine tenths of the test binary's time are over.
func TestScript(t *testing.T) { testscript.Run(t, scripts(t, "testdata/script")) }

// TestS3Script runs testdata/s3, with a store in S3, below a prefix. One request in twenty fails. $ENDPOINT and $BUCKET
// say where it is.
func TestS3Script(t *testing.T) {
	server := s3test.Start(t)
	c := server.NewBucket(t)
	server.Plan(s3test.Faults(t, 5))
	p := scripts(t, "testdata/s3")
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("BUCKET", c.Bucket)
		e.Setenv("ENDPOINT", c.Endpoint)
		e.Setenv("AWS_ENDPOINT_URL_S3", c.Endpoint)
		e.Setenv("AWS_ACCESS_KEY_ID", c.AccessKeyID)
		e.Setenv("AWS_SECRET_ACCESS_KEY", c.SecretAccessKey)
		e.Setenv("AWS_EC2_METADATA_DISABLED", "true")
		if err := setup(e); err != nil {
			return err
		}
		e.Setenv("DURUN_STORE", "s3://"+c.Bucket+"/"+filepath.Base(e.WorkDir))
		return nil
	}
	testscript.Run(t, p)
}

func scripts(t *testing.T, dir string) testscript.Params {
	t.Helper()
	guests, err := filepath.Abs("../../testdata/guests")
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("GUESTS", guests)
			e.Setenv("WAT", filepath.Join(filepath.Dir(guests), "wat"))
			e.Setenv("DATA", data)
			e.Setenv("DURUN_STORE", filepath.Join(e.WorkDir, "store"))
			e.Setenv("DURUN_CACHE", cacheFolder)
			e.Setenv("GORACE", noRaceSleep)
			return nil
		},
		Condition: func(c string) (bool, error) {
			name, ok := strings.CutPrefix(c, "exists:")
			if !ok {
				return false, fmt.Errorf("unknown condition %s", c)
			}
			_, err := os.Stat(name)
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    cmdExits,
			"until":    cmdUntil,
			"damage":   cmdDamage,
			"truncate": cmdTruncate,
		},
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND [ARGS...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until TEXT COMMAND [ARGS...]")
	}
	deadline := time.Now().Add(patience)
	for {
		_ = ts.Exec(args[1], args[2:]...)
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: no %q within %v", strings.Join(args[1:], " "), args[0], patience)
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // another process is at work
	}
}

// offsetIn is a position in a file of that size, counted from the end if negative.
func offsetIn(size int, s string) (int, error) {
	at, err := strconv.Atoi(s)
	if at < 0 {
		at += size
	}
	if err == nil && (at < 0 || at >= size) {
		err = fmt.Errorf("offset %s is outside of a file of %d bytes", s, size)
	}
	return at, err
}

func cmdDamage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage FILE OFFSET")
	}
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("there is no %s", args[0])
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		ts.Check(err)
		at, err := offsetIn(len(b), args[1])
		ts.Check(err)
		b[at] ^= 0x41
		ts.Check(os.Chmod(name, 0o666)) // objects in a store are read-only
		ts.Check(os.WriteFile(name, b, 0o666))
	}
}

func cmdTruncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: truncate FILE SIZE")
	}
	name := ts.MkAbs(args[0])
	info, err := os.Stat(name)
	ts.Check(err)
	at, err := offsetIn(int(info.Size()), args[1])
	ts.Check(err)
	ts.Check(os.Chmod(name, 0o666))
	ts.Check(os.Truncate(name, int64(at)))
}
