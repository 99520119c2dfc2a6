package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// TestSchedulerFaults has each fourth operation of the store fail, before it is done or after. What can be tried again is.
func TestSchedulerFaults(t *testing.T) {
	m := waiters(t)
	var healthy atomic.Bool
	healthy.Store(true)
	faults := 0
	random := rand.New(rand.NewPCG(5, 5)) // the plan is asked for one operation at a time
	faulty := buckettest.NewFaulty(bucket.NewMem(), func(op buckettest.Op) buckettest.Fault {
		if healthy.Load() || op.Name == "lock" || random.IntN(4) > 0 {
			return buckettest.Fault{}
		}
		faults++
		err := &bucket.Error{Op: op.Name, Key: op.Key, Kind: buckettest.ErrInjected, Err: buckettest.ErrInjected}
		if random.IntN(2) == 0 && op.Name == "put" {
			return buckettest.Fault{After: err}
		}
		return buckettest.Fault{Before: err}
	})
	store := snapshot.NewStore(faulty)
	outcomes := make(chan Outcome, 100)
	begin := make(chan struct{})
	late := func(_ context.Context, c handler.Call) ([]byte, error) {
		<-begin
		return c.Body, nil
	}
	s := newTestScheduler(t, m, SchedulerConfig{
		Store: store, Memory: 1, Clock: newFastClock(1000), Handlers: echoing(late),
		OnEnd: func(id string, o Outcome) {
			if !strings.Contains(id, ".") {
				outcomes <- o
			}
		},
	})
	want := map[string][]uint32{"fan": {4950, 0}, "steps": {1225}, "tree": {15, 0}, "parent": {156, 1}}
	input := map[string]uint32{"fan": 100, "steps": 50, "tree": 3, "parent": 14}
	for entry := range want {
		if _, err := s.Start(t.Context(), Program{ID: entry, Module: m, Entry: entry, Input: number32(input[entry])}); err != nil {
			t.Fatal(err)
		}
	}
	healthy.Store(false)
	close(begin)
	for range want {
		if o := <-outcomes; o.Status != snapshot.Completed {
			t.Errorf("%+v", o)
		}
	}
	healthy.Store(true)
	if faults < 10 {
		t.Errorf("only %d faults", faults)
	}
	for entry, want := range want {
		if o := ends(t, s, entry); fmt.Sprint(numbers(o.Result)) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", entry, numbers(o.Result), want)
		}
	}
}

// TestSchedulerApart has one coroutine meet with each thing that may go wrong, beside one that is well.
func TestSchedulerApart(t *testing.T) {
	mem := bucket.NewMem()
	store := snapshot.NewStore(mem)
	script := scriptGuest(t)
	var panics atomic.Bool
	steps := []step{
		func(hostabi.Coroutine, *bytes.Buffer, *hostabi.Pending) *hostabi.Pending {
			if panics.Load() {
				panic("a host function's fault")
			}
			return nil
		},
		begin(hostabi.Recv, "go", nil), awaitAll(1),
		func(hostabi.Coroutine, *bytes.Buffer, *hostabi.Pending) *hostabi.Pending {
			if panics.Load() {
				panic("a host function's fault")
			}
			return nil
		},
	}
	type end struct {
		id string
		Outcome
	}
	ended := make(chan end, 10)
	refuse := errors.New("no hosts for it")
	s := newTestScheduler(t, script, SchedulerConfig{
		Store: store, Memory: 1,
		Hosts: func(_ context.Context, r HostsRequest) ([]hostabi.Instance, error) {
			if r.ID == "hostless" && r.Restored {
				return nil, refuse
			}
			return []hostabi.Instance{&scripted{steps: steps}}, nil
		},
		OnEnd: func(id string, o Outcome) { ended <- end{id, o} },
	})
	for _, id := range []string{"well", "damaged", "hostless", "removed", "panics"} {
		if _, err := s.Start(t.Context(), Program{ID: id, Module: script}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Start(t.Context(), Program{ID: "well", Module: script}); !errors.Is(err, snapshot.ErrExist) {
		t.Errorf("a second one of that id: %v", err)
	}
	if _, err := s.Start(t.Context(), Program{ID: "odd", Module: script, Entry: "nothing"}); !errors.As(err, new(*ModuleError)) {
		t.Errorf("an entry that isn't there: %v", err)
	}
	for st := s.Stats(); st.Resident+st.Running+st.Ready > 0; st = s.Stats() { // until all have left memory
		time.Sleep(time.Millisecond) //nolint:forbidigo // an eviction has no event
	}
	head, err := store.Head(t.Context(), "damaged")
	if err != nil {
		t.Fatal(err)
	}
	damageCommit(t, mem, "damaged", head.Seq)
	if err := store.Delete(t.Context(), "removed"); err != nil {
		t.Fatal(err)
	}
	panics.Store(true)
	want := map[string]error{"damaged": snapshot.ErrCorrupt, "hostless": refuse, "removed": snapshot.ErrNotFound, "panics": nil}
	for id := range want {
		_, err := s.Send(t.Context(), id, snapshot.Message{Name: "go"})
		if err != nil && id != "removed" && id != "damaged" {
			t.Fatal(err)
		}
		s.mu.Lock()
		if task := s.tasks[id]; task != nil {
			s.rouse(task)
		}
		s.mu.Unlock()
	}
	for range len(want) {
		o := <-ended
		switch want := want[o.id]; {
		case want != nil && (o.Status != snapshot.Suspended || !errors.Is(o.Err, want)):
			t.Errorf("%s: %+v, want %v", o.id, o.Outcome, want)
		case want == nil && (o.Err == nil || !strings.Contains(o.Err.Error(), "a host function's fault")):
			t.Errorf("%s: %+v", o.id, o.Outcome)
		}
	}
	panics.Store(false)
	if _, err := s.Send(t.Context(), "well", snapshot.Message{Name: "go"}); err != nil {
		t.Fatal(err)
	}
	if o := <-ended; o.Status != snapshot.Completed {
		t.Errorf("the one that is well: %+v", o)
	}
}

// damageCommit changes a byte of a coroutine's commit.
func damageCommit(t *testing.T, b bucket.Bucket, id string, seq uint64) {
	t.Helper()
	key := fmt.Sprintf("coroutines/%s/%016x", id, ^uint64(0)-seq)
	data, err := bucket.ReadAll(t.Context(), b, key, 1<<20)
	if err == nil {
		err = b.Delete(t.Context(), key)
	}
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := bucket.PutBytes(t.Context(), b, key, data); err != nil {
		t.Fatal(err)
	}
}

// TestSchedulerBusy has somebody else drive coroutines: one that the scheduler is to resume, and one that it let go.
func TestSchedulerBusy(t *testing.T) {
	m := waiters(t)
	store := snapshot.NewStore(bucket.NewMem())
	s := newTestScheduler(t, m, SchedulerConfig{Store: store, Memory: 1, Clock: newFastClock(100)})
	for _, id := range []string{"a", "b"} {
		if _, err := s.Start(t.Context(), Program{ID: id, Module: m, Entry: "approve", Input: nanoseconds(-1)}); err != nil {
			t.Fatal(err)
		}
	}
	var others []*snapshot.Lease
	for _, id := range []string{"a", "b"} {
		for {
			lease, err := store.Acquire(t.Context(), id, snapshot.LeaseOptions{})
			if errors.Is(err, snapshot.ErrBusy) {
				continue // it has not left memory yet
			}
			if err != nil {
				t.Fatal(err)
			}
			others = append(others, lease)
			break
		}
	}
	// "a" is ended by the other driver, "b" is given back.
	for _, id := range []string{"a", "b"} {
		if _, err := s.Send(t.Context(), id, snapshot.Message{Name: "approval", Data: []byte("yes")}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := m.RestoreFrom(t.Context(), store, "a", 0, RestoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := Driver{Store: store, Lease: others[0], Outside: &Outside{}}
	if status, err := d.Drive(t.Context(), c); err != nil || status != snapshot.Completed {
		t.Fatal(status, err)
	}
	if o := ends(t, s, "a"); o.Status != snapshot.Completed || string(o.Result) != "yes" {
		t.Errorf("ended elsewhere: %+v", o)
	}
	if !s.Drives("b") {
		t.Error("it was forgotten while somebody else drove it")
	}
	if err := errors.Join(others[0].Release(), others[1].Release()); err != nil {
		t.Fatal(err)
	}
	if o := ends(t, s, "b"); o.Status != snapshot.Completed || string(o.Result) != "yes" {
		t.Errorf("given back: %+v", o)
	}
}

// TestSchedulerJoin has one coroutine make ten thousand calls at once, and more than memory has room for beside it.
func TestSchedulerJoin(t *testing.T) {
	m := waiters(t)
	s := newTestScheduler(t, m, SchedulerConfig{Memory: 1, Handlers: echoing(answer)})
	const n = 10_000
	began := time.Now()
	if _, err := s.Start(t.Context(), Program{ID: "fan", Module: m, Entry: "fan", Input: number32(n)}); err != nil {
		t.Fatal(err)
	}
	if o := ends(t, s, "fan"); fmt.Sprint(numbers(o.Result)) != fmt.Sprint([]uint32{n * (n - 1) / 2, 0}) {
		t.Errorf("%+v", o)
	}
	t.Logf("%d calls in %v", n, time.Since(began))
}

// TestChildLimits asks for more children, and deeper ones, than the scheduler takes on.
func TestChildLimits(t *testing.T) {
	m := waiters(t)
	s := newTestScheduler(t, m, SchedulerConfig{MaxCoroutines: 4, MaxDepth: 2})
	if _, err := s.Start(t.Context(), Program{ID: "many", Module: m, Entry: "parent", Input: number32(8)}); err != nil {
		t.Fatal(err)
	}
	if got := numbers(ends(t, s, "many").Result); len(got) != 2 || got[1] < 1 || got[1] > 5 {
		t.Errorf("of 8 children, where 4 coroutines are taken on, %v failed", got)
	}
	if _, err := s.Start(t.Context(), Program{ID: "deep", Module: m, Entry: "tree", Input: number32(1)}); err != nil {
		t.Fatal(err)
	}
	ends(t, s, "deep")
	s = newTestScheduler(t, m, SchedulerConfig{MaxDepth: 2})
	if _, err := s.Start(t.Context(), Program{ID: "deep", Module: m, Entry: "tree", Input: number32(3)}); err != nil {
		t.Fatal(err)
	}
	if o := ends(t, s, "deep"); numbers(o.Result)[0] != 7 {
		t.Errorf("a tree of depth 3, cut off at 2: %+v", numbers(o.Result))
	}
}

// TestChildProgram says what a child is given.
func TestChildProgram(t *testing.T) {
	hash := snapshot.HashOf([]byte("other"))
	parent := Child{
		ID: "p.1", Parent: "p", Module: snapshot.HashOf([]byte("own")), ModuleName: "own.wasm", Entry: "main",
		Program: []string{"own.wasm", "-v"}, Env: []string{"A=1", "DURUN_PARENT=older"},
		Grants: []snapshot.Grant{{Kind: snapshot.GrantModule, Name: "tool", Value: hash.String()}, {Kind: snapshot.GrantModule, Name: "bad", Value: "x"}},
	}
	for _, c := range []struct {
		target, module, entry string
		args, want            []string
		code                  hostabi.Code
	}{
		{"", "own.wasm", "main", nil, []string{"own.wasm", "-v"}, 0},
		{"work", "own.wasm", "work", []string{"a", "b"}, []string{"own.wasm", "a", "b"}, 0},
		{"module:tool", "tool", "", nil, []string{"tool", "-v"}, 0},
		{"module:tool/run", "tool", "run", []string{""}, []string{"tool", ""}, 0},
		{"module:none", "", "", nil, nil, hostabi.CodeDenied},
		{"module:bad", "", "", nil, nil, hostabi.CodeFailed},
	} {
		child := parent
		child.Target, child.Args = c.target, c.args
		p, module, err := child.program()
		if c.code != 0 {
			if codeOf(err) != c.code {
				t.Errorf("%q: %v, want %v", c.target, err, c.code)
			}
			continue
		}
		if err != nil || p.ModuleName != c.module || p.Entry != c.entry || !slices.Equal(p.Args, c.want) || (module == hash) != (c.module == "tool") {
			t.Errorf("%q %q: %+v of %v, %v", c.target, c.args, p, module, err)
		}
		if want := []string{"A=1", "DURUN_PARENT=p"}; !slices.Equal(p.Env, want) {
			t.Errorf("%q: environment %q", c.target, p.Env)
		}
	}
}

// TestChildRefused starts children that can't be: the error says why, and there is no child.
func TestChildRefused(t *testing.T) {
	m := waiters(t)
	store := snapshot.NewStore(bucket.NewMem())
	if err := m.keep(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	s := newTestScheduler(t, m, SchedulerConfig{Store: store})
	for target, want := range map[string]string{"module:none": `no module "none"`, "none": "none"} {
		refused := make(chan error, 1)
		s.Spawn(t.Context(), Child{ID: "p.1", Parent: "p", Key: "p/00000000/1", Module: m.Hash(), Target: target}, func(_ []byte, err error) {
			refused <- err
		})
		if err := <-refused; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("spawn %s: %v, want %q", target, err, want)
		}
	}
}

// TestChildFailure looks at what a parent is told of a child that didn't end well: it names the child.
func TestChildFailure(t *testing.T) {
	long := bytes.Repeat([]byte("ä"), maxMessage)
	for want, o := range map[string]Outcome{
		"failed: child p.1: exit code 3":       {Status: snapshot.Completed, ExitCode: 3},
		"failed: child p.1: exit code 2: why":  {Status: snapshot.Completed, ExitCode: 2, Result: []byte("why\n")},
		"failed: child p.1: exit code 1":       {Status: snapshot.Completed, ExitCode: 1, Result: []byte("no text \xff")},
		"failed: child p.1: exit code 5":       {Status: snapshot.Completed, ExitCode: 5, Result: []byte("\x07\x00\x00\x00")},
		"cancelled: child p.1 was cancelled":   {Status: snapshot.Cancelled, ExitCode: 1},
		"failed: child p.1: unreachable":       {Status: snapshot.Failed, Err: errors.New("unreachable")},
		"denied: the run was given no program": {Err: refuse(hostabi.CodeDenied, "the run was given no program")},

		"failed: child p.1: exit code 4: " + string(long[:maxMessage]) + "…": {Status: snapshot.Completed, ExitCode: 4, Result: long},
	} {
		e := &ending{Outcome: o}
		if _, err, ended := e.asChild("p.1"); !ended || err == nil || err.Error() != want {
			t.Errorf("%+v: %v, %v, want %q", o, err, ended, want)
		}
	}
}

// TestOrphan resumes a child whose parent has ended without having come to tell it.
func TestOrphan(t *testing.T) {
	m := waiters(t)
	store := snapshot.NewStore(bucket.NewMem())
	s := newTestScheduler(t, m, SchedulerConfig{Store: store})
	if _, err := s.Start(t.Context(), Program{ID: "p", Module: m, Entry: "guardian"}); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := store.Head(t.Context(), "p.1"); err == nil {
			break
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	s = newTestScheduler(t, m, SchedulerConfig{Store: store})
	if n, err := s.ResumeAll(t.Context()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if o := ends(t, s, "p.1"); o.Status != snapshot.Cancelled {
		t.Errorf("%+v", o)
	}
}

// TestOrphanInStorm resumes such a child while the store fails: that it is to end is not forgotten.
func TestOrphanInStorm(t *testing.T) {
	m := waiters(t)
	mem := bucket.NewMem()
	s := newTestScheduler(t, m, SchedulerConfig{Store: snapshot.NewStore(mem)})
	if _, err := s.Start(t.Context(), Program{ID: "p", Module: m, Entry: "guardian"}); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := s.config.Store.Head(t.Context(), "p.1"); err == nil {
			break
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.config.Store.Delete(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	var looks, puts atomic.Int32
	faulty := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		err := &bucket.Error{Op: op.Name, Key: op.Key, Kind: buckettest.ErrInjected, Err: buckettest.ErrInjected}
		switch {
		case strings.HasPrefix(op.Key, "coroutines/p/") && looks.Add(1) == 1, // what has become of the parent
			op.Name == "put" && strings.HasPrefix(op.Key, "coroutines/p.1/") && puts.Add(1) <= 3: // that the guest has been told
			return buckettest.Fault{Before: err}
		}
		return buckettest.Fault{}
	})
	s = newTestScheduler(t, m, SchedulerConfig{Store: snapshot.NewStore(faulty), Clock: newFastClock(100)})
	if err := s.Resume(t.Context(), "p.1"); err != nil {
		t.Fatal(err)
	}
	if o := ends(t, s, "p.1"); o.Status != snapshot.Cancelled || puts.Load() < 3 {
		t.Errorf("%+v after %d puts", o, puts.Load())
	}
}

// TestCancelChildInStorm asks a child to end while no message can be left for it, and no commit of it can be made at first.
func TestCancelChildInStorm(t *testing.T) {
	m := waiters(t)
	var storm atomic.Bool
	var faults atomic.Int32
	faulty := buckettest.NewFaulty(bucket.NewMem(), func(op buckettest.Op) buckettest.Fault {
		if !storm.Load() || op.Name != "put" || strings.HasPrefix(op.Key, "coroutines/") && faults.Add(1) > 2 {
			return buckettest.Fault{}
		}
		return buckettest.Fault{Before: &bucket.Error{Op: op.Name, Key: op.Key, Kind: buckettest.ErrInjected, Err: buckettest.ErrInjected}}
	})
	s := newTestScheduler(t, m, SchedulerConfig{Store: snapshot.NewStore(faulty), Clock: newFastClock(100)})
	if _, err := s.Start(t.Context(), Program{ID: "c", Module: m, Entry: "approve", Input: nanoseconds(-1)}); err != nil {
		t.Fatal(err)
	}
	storm.Store(true)
	if err := s.CancelChild(t.Context(), Child{ID: "c"}); err == nil {
		t.Error("a message was left")
	}
	if o := ends(t, s, "c"); o.Status != snapshot.Cancelled || faults.Load() < 2 {
		t.Errorf("%+v after %d faults", o, faults.Load())
	}
}

// TestGivenUpChild has a child that can't be driven on, and its parent wait until somebody has put it right and resumed it.
func TestGivenUpChild(t *testing.T) {
	m := waiters(t)
	mem := bucket.NewMem()
	store := snapshot.NewStore(mem)
	s := newTestScheduler(t, m, SchedulerConfig{Store: store})
	if _, err := s.Start(t.Context(), Program{ID: "p", Module: m, Entry: "guardian"}); err != nil {
		t.Fatal(err)
	}
	for {
		if head, err := store.Head(t.Context(), "p.1"); err == nil && head.Seq > 0 {
			break
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	head, err := store.Head(t.Context(), "p.1")
	if err != nil {
		t.Fatal(err)
	}
	damageCommit(t, mem, "p.1", head.Seq)
	givenUp := make(chan Outcome, 1)
	s = newTestScheduler(t, m, SchedulerConfig{Store: store, OnEnd: func(id string, o Outcome) {
		if id == "p.1" {
			givenUp <- o
		}
	}})
	if err := s.Resume(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	if o := <-givenUp; o.Status != snapshot.Suspended || !errors.Is(o.Err, snapshot.ErrCorrupt) {
		t.Fatalf("%+v", o)
	}
	damageCommit(t, mem, "p.1", head.Seq) // as it was
	if err := s.Resume(t.Context(), "p.1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Send(t.Context(), "p.1", snapshot.Message{Name: "approval", Data: []byte("at last")}); err != nil {
		t.Fatal(err)
	}
	if o := ends(t, s, "p"); string(o.Result) != "at last" {
		t.Errorf("%+v", o)
	}
	if len(s.parents) > 0 {
		t.Errorf("parents wait for %v", s.parents)
	}
}

// TestChildEndedElsewhere has a child that one scheduler can't drive, and another one drives to its end: the first, which
// drives the parent, notices, and nobody tells it.
func TestChildEndedElsewhere(t *testing.T) {
	m := waiters(t)
	mem := bucket.NewMem()
	s := newTestScheduler(t, m, SchedulerConfig{Store: snapshot.NewStore(mem)})
	if _, err := s.Start(t.Context(), Program{ID: "p", Module: m, Entry: "guardian"}); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := s.config.Store.Head(t.Context(), "p.1"); err == nil {
			break
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	unfit := errors.New("this node can't have it")
	givenUp := make(chan Outcome, 2)
	here := newTestScheduler(t, m, SchedulerConfig{
		Store: snapshot.NewStore(mem), Clock: newFastClock(1000),
		Hosts: func(_ context.Context, r HostsRequest) ([]hostabi.Instance, error) {
			if r.ID == "p.1" {
				return nil, unfit
			}
			return nil, nil
		},
		OnEnd: func(id string, o Outcome) {
			if id == "p.1" {
				givenUp <- o
			}
		},
	})
	if err := here.Resume(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	if o := <-givenUp; !errors.Is(o.Err, unfit) {
		t.Fatalf("%+v", o)
	}
	there := newTestScheduler(t, m, SchedulerConfig{Store: snapshot.NewStore(mem)})
	if err := there.Resume(t.Context(), "p.1"); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Send(t.Context(), "p.1", snapshot.Message{Name: "approval", Data: []byte("from there")}); err != nil {
		t.Fatal(err)
	}
	if o := ends(t, here, "p"); string(o.Result) != "from there" {
		t.Errorf("%+v", o)
	}
	if o := <-givenUp; o.Status != snapshot.Completed {
		t.Errorf("%+v", o)
	}
	here.mu.Lock()
	defer here.mu.Unlock()
	if len(here.parents) > 0 {
		t.Errorf("parents wait for %v", here.parents)
	}
}

// fewLocks is a bucket with a number of locks that can be held at a time, as files can be open.
type fewLocks struct {
	*bucket.Mem
	most, held atomic.Int32
}

func (b *fewLocks) TryLock(ctx context.Context, key string) (func() error, error) {
	if b.held.Add(1) > b.most.Load() {
		b.held.Add(-1)
		return nil, &bucket.Error{Op: "lock", Key: key, Err: syscall.EMFILE}
	}
	unlock, err := b.Mem.TryLock(ctx, key)
	if err != nil {
		b.held.Add(-1)
		return nil, err
	}
	return func() error {
		defer b.held.Add(-1)
		return unlock()
	}, nil
}

// TestManyFiles has more coroutines wait than the process may have files open, although there is memory for all.
func TestManyFiles(t *testing.T) {
	m := waiters(t)
	b := &fewLocks{Mem: bucket.NewMem()}
	b.most.Store(20)
	s := newTestScheduler(t, m, SchedulerConfig{Store: snapshot.NewStore(b)})
	const n = 100
	began := time.Now()
	for i := range n {
		for {
			_, err := s.Start(t.Context(), Program{ID: fmt.Sprintf("c%d", i), Module: m, Entry: "approve", Input: nanoseconds(-1)})
			if err == nil {
				break
			}
			// Until others have left memory.
			if !errors.Is(err, syscall.EMFILE) || time.Since(began) > time.Minute {
				t.Fatalf("%d were started, then: %v", i, err)
			}
			goruntime.Gosched()
		}
	}
	for i := range n {
		id := fmt.Sprintf("c%d", i)
		if _, err := s.Send(t.Context(), id, snapshot.Message{Name: "approval", Data: []byte("yes")}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		id := fmt.Sprintf("c%d", i)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		o, err := s.Wait(ctx, id)
		cancel()
		if err != nil || string(o.Result) != "yes" {
			t.Errorf("%s: %+v, %v", id, o, err)
		}
	}
}

// TestPanickingWait has a host module panic where it waits, beside the scheduler's workers.
func TestPanickingWait(t *testing.T) {
	m := scriptGuest(t)
	s := newTestScheduler(t, m, SchedulerConfig{Hosts: func(context.Context, HostsRequest) ([]hostabi.Instance, error) {
		waits := func(_ hostabi.Coroutine, _ *bytes.Buffer, p *hostabi.Pending) *hostabi.Pending {
			if p == nil {
				p = &hostabi.Pending{Kind: hostabi.KindStdin}
			}
			return p
		}
		return []hostabi.Instance{&scripted{steps: []step{waits}, wait: func(context.Context) error { panic("a host module's fault") }}}, nil
	}})
	if _, err := s.Start(t.Context(), Program{ID: "c", Module: m}); err != nil {
		t.Fatal(err)
	}
	o, err := s.Wait(t.Context(), "c")
	if errors.Is(err, ErrNotEnded) {
		return // it was given up before we asked
	}
	if err != nil || o.Status != snapshot.Suspended || o.Err == nil || !strings.Contains(o.Err.Error(), "a host module's fault") {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestSchedulerWASI has programs that know nothing of durun sleep, by the machine's clock and by a scheduler's that is fast.
func TestSchedulerWASI(t *testing.T) {
	for _, speed := range []int64{1, 50} {
		binary := guestOf(t, "interp")
		m := compiled(t, binary, nil)
		s := newTestScheduler(t, m, SchedulerConfig{
			Clock: newFastClock(speed), Memory: 1,
			Hosts: func(_ context.Context, r HostsRequest) ([]hostabi.Instance, error) {
				i, err := wasi.New(wasi.Config{Args: r.Args, Env: r.Env})
				return []hostabi.Instance{i}, err
			},
		})
		began := time.Now()
		for i := range 10 {
			id := fmt.Sprintf("nap-%d", i)
			if _, err := s.Start(t.Context(), Program{ID: id, Module: m, Args: []string{"interp", "-c", "0 !i begin @i 1 + !i @i . cr 4 sleep @i 9 = until"}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			id := fmt.Sprintf("nap-%d", i)
			if o := ends(t, s, id); o.Status != snapshot.Completed {
				t.Errorf("%s: %+v", id, o)
			}
			if got := strings.Join(strings.Fields(logsOf(t, s.config.Store, id)), " "); got != "1 2 3 4 5 6 7 8 9" {
				t.Errorf("%s wrote %q", id, got)
			}
		}
		if took := time.Since(began); took < 36*time.Millisecond {
			t.Errorf("nine naps of 4 ms took %v", took)
		}
	}
}

// TestSchedulerSlowHost has a guest sleep by a clock that is behind the scheduler's: it is not asked again and again.
func TestSchedulerSlowHost(t *testing.T) {
	m := compiled(t, guestOf(t, "interp"), nil)
	clock := &countingClock{Clock: wasi.SystemClock()}
	s := newTestScheduler(t, m, SchedulerConfig{
		Clock: newFastClock(1000),
		Hosts: func(_ context.Context, r HostsRequest) ([]hostabi.Instance, error) {
			i, err := wasi.New(wasi.Config{Args: r.Args, Clock: clock})
			return []hostabi.Instance{i}, err
		},
	})
	if _, err := s.Start(t.Context(), Program{ID: "nap", Module: m, Args: []string{"interp", "-c", "1 . cr 200 sleep 2 . cr"}}); err != nil {
		t.Fatal(err)
	}
	if o := ends(t, s, "nap"); o.Status != snapshot.Completed {
		t.Errorf("%+v", o)
	}
	if n := clock.asked.Load(); n > 100 {
		t.Errorf("the clock was asked %d times", n)
	}
}

type countingClock struct {
	wasi.Clock
	asked atomic.Int32
}

func (c *countingClock) Mono() int64 {
	c.asked.Add(1)
	return c.Clock.Mono()
}

// TestHandlersTwice counts how often a call is carried out whose coroutine leaves memory meanwhile: once.
func TestHandlersTwice(t *testing.T) {
	m := waiters(t)
	var calls atomic.Int32
	release := make(chan struct{})
	s := newTestScheduler(t, m, SchedulerConfig{Memory: 1, Handlers: echoing(func(_ context.Context, c handler.Call) ([]byte, error) {
		calls.Add(1)
		<-release
		return c.Body, nil
	})})
	if _, err := s.Start(t.Context(), Program{ID: "fan", Module: m, Entry: "fan", Input: number32(5)}); err != nil {
		t.Fatal(err)
	}
	for st := s.Stats(); st.Resident+st.Running+st.Ready > 0 || calls.Load() < 5; st = s.Stats() {
		time.Sleep(time.Millisecond) //nolint:forbidigo // an eviction has no event
	}
	close(release)
	if o := ends(t, s, "fan"); fmt.Sprint(numbers(o.Result)) != "[10 0]" || calls.Load() != 5 {
		t.Errorf("%+v, after %d calls", o, calls.Load())
	}
}

func guestOf(t *testing.T, name string) []byte {
	t.Helper()
	binary, err := os.ReadFile(filepath.Join("..", "testdata", "guests", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// TestChildModule starts children of other modules: one that was given, one that wasn't, and one without such an
// entry.
func TestChildModule(t *testing.T) {
	store := snapshot.NewStore(bucket.NewMem())
	hash, err := store.PutModule(t.Context(), waitersBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	m := scriptGuest(t)
	steps := []step{
		begin(hostabi.Spawn, "module:tool/child", number32(21)), begin(hostabi.Spawn, "module:other", nil),
		begin(hostabi.Spawn, "module:tool/none", nil), awaitAll(1, 2, 3), results(1, 2, 3),
	}
	s := newTestScheduler(t, m, SchedulerConfig{
		Store: store, Memory: 1,
		Hosts: func(_ context.Context, r HostsRequest) ([]hostabi.Instance, error) {
			if strings.Contains(r.ID, ".") {
				return nil, nil
			}
			return []hostabi.Instance{&scripted{steps: steps}}, nil
		},
	})
	grants := []snapshot.Grant{{Kind: snapshot.GrantModule, Name: "tool", Value: hash.String()}}
	if _, err := s.Start(t.Context(), Program{ID: "s", Module: m, Grants: grants}); err != nil {
		t.Fatal(err)
	}
	if o := ends(t, s, "s"); o.Status != snapshot.Completed {
		t.Fatalf("%+v", o)
	}
	got := logsOf(t, store, "s")
	for _, want := range []string{`1: "*\x00\x00\x00" <nil>`, `2: "" denied: the run was given no module "other"`, `3: "" failed: the module exports no function "none"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if _, err := store.Head(t.Context(), "s.3"); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("the child that can't be started: %v", err)
	}
}

// TestSchedulerTwoNodes has two schedulers drive the same coroutines: whoever has the lease does, and the other one watches.
func TestSchedulerTwoNodes(t *testing.T) {
	mem := bucket.NewMem()
	var nodes []*Scheduler
	var outcomes [2]atomic.Int32
	m := waiters(t)
	for i := range outcomes {
		nodes = append(nodes, newTestScheduler(t, m, SchedulerConfig{
			Store: snapshot.NewStore(mem), Memory: 1, Clock: newFastClock(50), Handlers: echoing(answer),
			OnEnd: func(_ string, o Outcome) {
				outcomes[i].Add(1)
				if o.Status == snapshot.Suspended {
					t.Errorf("given up: %v", o.Err)
				}
			},
		}))
	}
	want := map[string][]uint32{"fan": {4950, 0}, "steps": {190}, "tree": {15, 0}, "parent": {156, 1}}
	input := map[string]uint32{"fan": 100, "steps": 20, "tree": 3, "parent": 14}
	for entry := range want {
		if _, err := nodes[0].Start(t.Context(), Program{ID: entry, Module: m, Entry: entry, Input: number32(input[entry])}); err != nil {
			t.Fatal(err)
		}
		if err := nodes[1].Resume(t.Context(), entry); err != nil && !errors.Is(err, ErrEnded) {
			t.Fatal(err)
		}
	}
	for _, s := range nodes {
		if err := s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		for entry, want := range want {
			if o := ends(t, s, entry); o.Status != snapshot.Completed || fmt.Sprint(numbers(o.Result)) != fmt.Sprint(want) {
				t.Errorf("%s: %v %v, want %v", entry, o, numbers(o.Result), want)
			}
		}
	}
	t.Logf("%d and %d ends", outcomes[0].Load(), outcomes[1].Load())
}
