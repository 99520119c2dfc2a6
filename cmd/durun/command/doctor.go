package command

import (
	"bytes"
	"context"
	_ "embed" // for the self-test's guest
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

type doctorOptions struct {
	format format
}

func newDoctorCommand(a *app) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what this machine and the store offer",
		Long: `Check what durun needs: that a small program can be suspended and resumed, that
the store can be reached, written and locked, refuses to create what is there
already (which keeps two drivers of a coroutine apart), and has the same time as
this machine; how long a durable write takes; how it is known what a program has
written to its memory (DURUN_TRACKING=compare or heap makes do with less); that
the cache folder can be used, and how full it is. Each line is ok, warn (it
works, with a drawback) or fail, and says what to do about it. What is written
for the check is removed again; a store that isn't there is not made.

The exit code is 0 without a fail, else 69. JSON is an array of objects with the
keys name, status, detail and advice.`,
		Example:           "  durun doctor\n  durun doctor --store /mnt/shared/durun",
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDoctor(cmd.Context(), a, o)
		},
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

// The verdicts of a check.
const (
	checkOK   = "ok"
	checkWarn = "warn"
	checkFail = "fail"
)

// finding is the outcome of a check, as JSON.
type finding struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"`
}

func runDoctor(ctx context.Context, a *app, o doctorOptions) error {
	findings := []finding{checkVersion(), checkEngine(), checkMemory(), checkSuspension(ctx)}
	findings = append(findings, checkStore(ctx, a)...)
	findings = append(findings, checkCache(), checkTerminal(a))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if o.format == formatJSON {
		if err := writeJSON(a.Stdout, findings); err != nil {
			return err
		}
	} else if err := writeFindings(a.Stdout, findings); err != nil {
		return err
	}
	if slices.ContainsFunc(findings, func(f finding) bool { return f.Status == checkFail }) {
		return exitStatus(exitUnavailable)
	}
	return nil
}

func writeFindings(w io.Writer, findings []finding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Status, f.Name, printable(f.Detail))
		if f.Advice != "" {
			fmt.Fprintf(t, "\t\t-> %s\n", strings.ReplaceAll(f.Advice, "\n", " "))
		}
	}
	return t.Flush()
}

func checkVersion() finding {
	v := buildVersion()
	return finding{"version", checkOK, fmt.Sprintf("durun %s, %s, wazero %s, snapshot format %d", v.Version, v.Go, v.Wazero, v.SnapshotFormat), ""}
}

// checkEngine says whether wazero compiles here. Its own test for that is not public: it needs amd64 (with SSE 4.1) or
// arm64, and a system that gives executable memory.
func checkEngine() finding {
	f := finding{Name: "engine", Status: checkOK, Detail: fmt.Sprintf("wazero compiles for %s/%s, %d processors", goruntime.GOOS, goruntime.GOARCH, goruntime.NumCPU())}
	systems := []string{"linux", "darwin", "freebsd", "netbsd", "dragonfly", "solaris", "windows"}
	if !slices.Contains([]string{"amd64", "arm64"}, goruntime.GOARCH) || !slices.Contains(systems, goruntime.GOOS) {
		f.Status = checkWarn
		f.Detail = fmt.Sprintf("wazero interprets on %s/%s", goruntime.GOOS, goruntime.GOARCH)
		f.Advice = "programs run correctly, but many times slower than on amd64 or arm64"
	}
	return f
}

// checkMemory says how it is known what a program has written to its memory.
func checkMemory() finding {
	f := finding{Name: "memory", Status: checkOK}
	how, why := runtime.Tracking()
	switch how {
	case "userfaultfd":
		f.Detail = "the kernel tells which pages a program has written (userfaultfd)"
	case "compare":
		f.Detail = "which pages a program has written is found by comparing them"
		f.Advice = "commits of large programs take up to milliseconds longer than where the kernel tells: Linux 6.7 or newer, with userfaultfd allowed"
	default:
		f.Detail = "programs' memories are copied and compared"
		f.Advice = "commits and resumes of large programs take milliseconds longer than on Linux"
	}
	if why != nil {
		f.Status = checkWarn
		f.Detail += fmt.Sprintf(": %v", why)
	}
	return f
}

// selftest is testdata/wat/generator.wat: it yields "1", "2" and "3".
//
//go:embed selftest.wasm
var selftest []byte

// checkSuspension suspends a small program, encodes it, and goes on from the bytes in a second runtime.
func checkSuspension(ctx context.Context) finding {
	start := time.Now()
	if err := suspendAndResume(ctx); err != nil {
		return finding{"suspension", checkFail, err.Error(), bugAdvice}
	}
	return finding{"suspension", checkOK, fmt.Sprintf("a small program was suspended and resumed, in %s", round(time.Since(start))), ""}
}

func suspendAndResume(ctx context.Context) (err error) {
	first, err := runtime.New(ctx, runtime.NewConfig())
	if err != nil {
		return err
	}
	defer closeInto(&err, func() error { return first.Close(ctx) })
	module, err := first.Compile(ctx, selftest)
	if err != nil {
		return err
	}
	c, err := module.Start(ctx, runtime.StartConfig{ID: "doctor"})
	if err != nil {
		return err
	}
	defer closeInto(&err, c.Close)
	if err := expectYield(ctx, c, "1"); err != nil {
		return err
	}
	s, err := c.Snapshot()
	if err != nil {
		return err
	}
	b, err := snapshot.Encode(s)
	if err != nil {
		return err
	}
	if s, err = snapshot.Decode(b); err != nil {
		return err
	}

	second, err := runtime.New(ctx, runtime.NewConfig())
	if err != nil {
		return err
	}
	defer closeInto(&err, func() error { return second.Close(ctx) })
	if module, err = second.Compile(ctx, selftest); err != nil {
		return err
	}
	restored, err := module.Restore(ctx, s, runtime.RestoreConfig{})
	if err != nil {
		return err
	}
	defer closeInto(&err, restored.Close)
	return expectYield(ctx, restored, "2")
}

func expectYield(ctx context.Context, c *runtime.Coroutine, want string) error {
	status, err := c.Resume(ctx)
	if err != nil {
		return err
	}
	if got, _ := c.Yielded(); status != snapshot.Suspended || string(got) != want {
		return fmt.Errorf("it yielded %q and is %s; %q and suspended was expected", got, status, want)
	}
	return nil
}

// slowWrite is how long a durable write may take before it is worth a word: a program waits that long at each await.
const slowWrite = 50 * time.Millisecond

func checkStore(ctx context.Context, a *app) []finding {
	found := finding{Name: "store", Status: checkOK}
	fail := func(err error) []finding {
		return []finding{{found.Name, checkFail, err.Error(), a.classify(err).advice}}
	}
	name, given, err := a.storeName()
	if err != nil {
		return fail(err)
	}
	b, err := a.openBucket(ctx, true)
	switch missing := (*missingStoreError)(nil); {
	case errors.As(err, &missing):
		var remove func()
		if b, remove, err = a.openBeside(ctx, missing.folder); err != nil {
			return fail(err)
		}
		defer remove()
		found.Detail = missing.folder + " is not there yet; checked beside it"
		if given != "" {
			found.Status, found.Advice = checkWarn, missingStoreAdvice
		}
	case err != nil:
		return fail(err)
	default:
		found.Detail = b.URL()
	}
	defer b.Close()
	if strings.HasPrefix(name, "mem:") {
		found.Status, found.Advice = checkWarn, "it ends with each command; use a folder"
	}
	findings := append([]finding{found}, a.checkKeys()...)
	if _, _, err := bucket.First(ctx, b, bucket.ListOptions{Prefix: "coroutines/"}); err != nil {
		advice := "check that the store exists and that you may read it"
		if errors.Is(err, bucket.ErrUnavailable) {
			advice = "check that the service can be reached, that the bucket exists, and its name"
		}
		return append(findings, finding{"store read", checkFail, err.Error(), advice})
	}
	findings = append(findings, checkWrite(ctx, b), checkCondition(ctx, b), checkLock(ctx, b))
	if c, ok := b.(bucket.Clock); ok {
		findings = append(findings, checkClock(ctx, c))
	}
	return findings
}

// openBeside opens a store in a new folder, and returns what removes that. It is where a folder that isn't there would be made, so
// that what is found out holds for that as well.
func (a *app) openBeside(ctx context.Context, folder string) (_ bucket.Bucket, remove func(), err error) {
	parent := filepath.Dir(folder)
	for {
		if _, err := os.Stat(parent); !errors.Is(err, fs.ErrNotExist) || parent == filepath.Dir(parent) {
			break
		}
		parent = filepath.Dir(parent)
	}
	dir, err := os.MkdirTemp(parent, ".durun-doctor-*")
	if err != nil {
		return nil, nil, &exitError{
			code: exitUnavailable, err: fmt.Errorf("%s is not there and can't be made: %w", folder, err),
			advice: "say where the store is with --store or " + storeVariable,
		}
	}
	remove = func() { _ = os.RemoveAll(dir) }
	b, err := bucket.OpenURL(ctx, dir, a.Drivers)
	if err != nil {
		remove()
	}
	return b, remove, err
}

const mayWrite = "check that you may write to the store"

// writeAdvice says what to do about a store that can't be written to: otherwise, if the error doesn't tell.
func writeAdvice(err error, otherwise string) string {
	switch {
	case errors.Is(err, bucket.ErrFull):
		return "make room"
	case errors.Is(err, bucket.ErrPermission):
		return mayWrite
	}
	return otherwise
}

// checkWrite writes a few small objects, reads one and removes them.
func checkWrite(ctx context.Context, b bucket.Bucket) finding {
	f := finding{Name: "store write"}
	fail := func(err error) finding {
		otherwise := mayWrite
		if errors.Is(err, errors.ErrUnsupported) {
			otherwise = "use another store"
		}
		f.Status, f.Detail, f.Advice = checkFail, err.Error(), writeAdvice(err, otherwise)
		return f
	}
	body := bytes.Repeat([]byte("durun doctor\n"), 316) // about a page
	var times []time.Duration
	for range 5 {
		key := "doctor/" + snapshot.NewID()
		start := time.Now()
		err := bucket.PutBytes(ctx, b, key, body)
		times = append(times, time.Since(start))
		if err != nil {
			return fail(err)
		}
		got, err := bucket.ReadAll(ctx, b, key, int64(len(body)))
		if derr := b.Delete(context.WithoutCancel(ctx), key); err == nil {
			err = derr
		}
		if err == nil && !bytes.Equal(got, body) {
			err = errors.New("what was read is not what was written")
		}
		if err != nil {
			return fail(err)
		}
	}
	slices.Sort(times)
	median := times[len(times)/2]
	f.Status, f.Detail = checkOK, fmt.Sprintf("a durable write takes %s", round(median))
	if median > slowWrite {
		f.Status, f.Advice = checkWarn, "each await of a program waits that long; a store on a faster disk, or nearer, helps"
	}
	return f
}

// checkCondition sees whether an object that exists is refused, and whether of several at once one is made.
func checkCondition(ctx context.Context, b bucket.Bucket) finding {
	f := finding{Name: "store fence", Status: checkFail, Advice: "use another store: commits would overwrite each other unseen"}
	key := "doctor/" + snapshot.NewID()
	defer func() { _ = b.Delete(context.WithoutCancel(ctx), key) }()
	const writers = 4
	results := make(chan error, writers)
	for i := range writers {
		go func() { results <- bucket.PutBytes(ctx, b, key, []byte{byte(i)}) }()
	}
	made := 0
	for range writers {
		switch err := <-results; {
		case err == nil:
			made++
		case !errors.Is(err, bucket.ErrExist):
			f.Detail, f.Advice = err.Error(), writeAdvice(err, mayWrite)
		}
	}
	if f.Detail != "" {
		return f
	}
	if made != 1 {
		f.Detail = fmt.Sprintf("of %d writers of one object %d were told that they had made it", writers, made)
		return f
	}
	return finding{f.Name, checkOK, "of several writers of one commit one succeeds", ""}
}

// checkKeys says under what the store is encrypted, if anything.
func (a *app) checkKeys() []finding {
	keys, err := a.keyring()
	switch ids := keys.IDs(); {
	case err != nil:
		return []finding{{"store key", checkFail, err.Error(), a.classify(err).advice}}
	case len(ids) > 0:
		return []finding{{"store key", checkOK, fmt.Sprintf("%v encrypts; %s", ids[0], count(len(ids), "key decrypts", "keys decrypt")), ""}}
	}
	return nil
}

// badSkew is how far the machine's clock may be from the store's: times that are shown, and those at which programs wake
// up, are off by as much. S3 refuses requests from a quarter of an hour on.
const badSkew = 10 * time.Second

// checkClock compares the store's clock with the machine's.
func checkClock(ctx context.Context, c bucket.Clock) finding {
	f := finding{Name: "store clock"}
	before := time.Now()
	theirs, err := c.Now(ctx)
	if err != nil {
		f.Status, f.Detail = checkFail, err.Error()
		return f
	}
	took := time.Since(before)
	skew := before.Add(took / 2).Sub(theirs)
	switch {
	case skew.Abs() < badSkew:
		f.Status, f.Detail = checkOK, fmt.Sprintf("agrees with this machine's; an answer takes %s", round(took))
		return f
	case skew > 0:
		f.Detail = fmt.Sprintf("this machine's clock is %s ahead", skew.Round(time.Second))
	default:
		f.Detail = fmt.Sprintf("this machine's clock is %s behind", -skew.Round(time.Second))
	}
	f.Status, f.Advice = checkWarn, "set the clock"
	return f
}

// checkLock takes a lock and sees whether it holds.
func checkLock(ctx context.Context, b bucket.Bucket) finding {
	f := finding{Name: "store lock", Status: checkOK}
	none := fmt.Sprintf("none here: drivers take leases (%v by default, see durun run --lease)", snapshot.DefaultLease)
	l, ok := b.(bucket.Locker)
	if !ok {
		f.Detail = none
		return f
	}
	key := "doctor/" + snapshot.NewID()
	release, err := l.TryLock(ctx, key)
	if errors.Is(err, errors.ErrUnsupported) {
		f.Detail = none
		return f
	}
	fail := func(err error) finding {
		f.Status, f.Detail, f.Advice = checkFail, err.Error(), writeAdvice(err, "use a store on a file system with locks")
		return f
	}
	if err != nil {
		return fail(err)
	}
	second, err := l.TryLock(ctx, key)
	if err == nil {
		_ = second()
		err = errors.New("a lock was given to two at once")
	}
	if !errors.Is(err, bucket.ErrLocked) {
		_ = release()
		return fail(err)
	}
	if err := release(); err != nil {
		return fail(err)
	}
	f.Status, f.Detail = checkOK, "a lock is exclusive, and ends with its process"
	return f
}

func checkCache() finding {
	f := finding{Name: "cache"}
	dir, err := cacheDir()
	if err == nil && dir == "" {
		f.Status, f.Detail, f.Advice = checkWarn, "off: "+cacheVariable+" is empty", "each run prepares its module anew"
		return f
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o777)
	}
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".doctor-*"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		f.Status, f.Detail = checkWarn, err.Error()
		f.Advice = "each run prepares its module anew; set " + cacheVariable + " to a folder that you may write to"
		return f
	}
	f.Status, f.Detail = checkOK, dir+", "+humanBytes(uint64(runtime.CacheUsage(dir)))
	switch limit, err := cacheLimit(); {
	case err != nil:
		f.Status, f.Detail, f.Advice = checkFail, err.Error(), "no program can be run until then"
	case limit == 0:
		f.Detail += ", without a limit"
	default:
		f.Detail += " of at most " + humanBytes(uint64(limit))
	}
	return f
}

func checkTerminal(a *app) finding {
	name := func(stream any) string {
		if isTerminal(stream) {
			return "a terminal"
		}
		return "not a terminal"
	}
	return finding{"terminal", checkOK, fmt.Sprintf("standard input is %s, output %s, error %s", name(a.Stdin), name(a.Stdout), name(a.Stderr)), ""}
}

// round gives a time three digits.
func round(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
