package snapshot

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	goruntime "runtime"
	"syscall"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// asDying makes a process of the test one whose first thread has ended and whose others have not, until its standard input
// does: as far as others see, that is a process that has been killed and has yet to give back what it has.
const asDying = "DURUN_TEST_DYING"

func init() {
	if os.Getenv(asDying) == "" {
		return
	}
	goruntime.LockOSThread() // this is the first thread
	go func() {
		_, _ = os.Stdout.WriteString("x")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
}

// startProcess starts a process, which ends when its standard input does, and returns it as the holder of a lock, once it has
// said that it is there.
func startProcess(t *testing.T, cmd *exec.Cmd) (h Holder) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s, err := stat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	h = newHolder()
	h.PID, h.process.Start = cmd.Process.Pid, s.start
	return h
}

// startDying starts a process that is dying.
func startDying(t *testing.T) Holder {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), asDying+"=1")
	h := startProcess(t, cmd)
	awaitDying(t, h) // its first thread is about to end
	return h
}

// awaitDying waits until a holder is dying: for a moment a signal is neither pending any more, nor has it come to anything.
func awaitDying(t *testing.T, h Holder) {
	t.Helper()
	for !h.dies() {
		if err := wait(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDying asks of processes in each state whether they are dying.
func TestDying(t *testing.T) {
	if self().Start == "" {
		t.Skip("this system doesn't tell")
	}
	me := newHolder()
	if me.dies() || me.gone() {
		t.Error("this process dies")
	}
	h := startDying(t)
	if h.gone() || !h.dies() {
		t.Errorf("one that is ending: gone: %v, dies: %v", h.gone(), h.dies())
	}
	another := h
	if another.process.Start += "0"; dying(h.PID, another.process.Start) {
		t.Error("another that had its id dies")
	}

	alive := startProcess(t, exec.Command("sh", "-c", "echo x; read -r x"))
	if alive.dies() {
		t.Error("one that waits dies")
	}
	if err := syscall.Kill(alive.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitDying(t, alive)
}

// heldLock is a bucket in which a process has a lock, until that is released.
type heldLock struct {
	*bucket.Mem
	note []byte
}

func (b *heldLock) SetNote(string, []byte) error     { return nil }
func (b *heldLock) Note(string, int) ([]byte, error) { return b.note, nil }
func (b *heldLock) hold(t *testing.T) (release func() error) {
	t.Helper()
	release, err := b.TryLock(t.Context(), leasesPrefix+"p")
	if err != nil {
		t.Fatal(err)
	}
	return release
}

// TestAcquireFromDying acquires coroutines whose driver has been killed and has not yet come to its end: that is waited for.
// A driver that lives is not.
func TestAcquireFromDying(t *testing.T) {
	if self().Start == "" {
		t.Skip("this system doesn't tell")
	}
	dead, me := startDying(t), newHolder()
	bubble(t, func(t *testing.T) {
		b := &heldLock{bucket.NewMem(), dead.encode()}
		s := NewStore(b)
		release := b.hold(t)
		time.AfterFunc(dyingPatience-time.Second, func() { _ = release() })
		l, err := s.Acquire(t.Context(), "p", LeaseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}

		release = b.hold(t)
		began := time.Now()
		if _, err := s.Acquire(t.Context(), "p", LeaseOptions{}); !errors.Is(err, ErrBusy) || time.Since(began) < dyingPatience {
			t.Errorf("one that doesn't come to its end: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Acquire(ctx, "p", LeaseOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without the time for that: %v", err)
		}
		b.note = me.encode()
		began = time.Now()
		if _, err := s.Acquire(t.Context(), "p", LeaseOptions{}); !errors.Is(err, ErrBusy) || time.Since(began) > 2*lockPatience {
			t.Errorf("one that lives: %v after %v", err, time.Since(began))
		}
		_ = release()
	})
}
