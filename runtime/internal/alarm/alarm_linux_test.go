package alarm

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBroken takes the kernel's timer away: what waits for it is called nevertheless, and what comes later, too.
func TestBroken(t *testing.T) {
	t.Parallel()
	c, err := newClock()
	if err != nil {
		t.Fatal(err)
	}
	rung := make(chan int, 3)
	c.afterFunc(time.Now().Add(time.Hour), func() { rung <- 0 })
	stop := c.afterFunc(time.Now().Add(time.Minute), func() { rung <- 1 })
	c.afterFunc(time.Now().Add(30*time.Millisecond), func() { rung <- 2 })
	if err := c.file.SetReadDeadline(time.Now()); err != nil { // ends the read with an error
		t.Fatal(err)
	}
	if got := <-rung; got != 2 {
		t.Errorf("alarm %d rang", got)
	}
	if !stop() {
		t.Error("an alarm could not be stopped")
	}
	if stop() {
		t.Error("an alarm could be stopped twice")
	}
	c.afterFunc(time.Now().Add(time.Millisecond), func() { rung <- 3 })
	if got := <-rung; got != 3 {
		t.Errorf("alarm %d rang", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.broken {
		t.Error("the kernel's timer is in use")
	}
}

// TestNoDescriptor has the kernel refuse to set the timer.
func TestNoDescriptor(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := &clock{fd: -1, file: r}
	rung := make(chan bool)
	c.afterFunc(time.Now().Add(time.Millisecond), func() { rung <- true })
	<-rung
	if !c.broken {
		t.Error("the kernel's timer is in use")
	}
	if err := unix.TimerfdSettime(c.fd, 0, &unix.ItimerSpec{}, nil); err == nil {
		t.Error("the kernel sets what isn't there")
	}
}
