package alarm

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestAfterFunc sets very many alarms from several goroutines, and stops every other.
func TestAfterFunc(t *testing.T) {
	t.Parallel()
	const n = 2000
	var (
		setters, calls sync.WaitGroup
		mu             sync.Mutex
		called         = map[int]int{}
	)
	calls.Add(n / 2)
	for g := range 4 {
		setters.Go(func() {
			for i := g; i < n; i += 4 {
				d := time.Duration(rand.IntN(50)) * time.Millisecond
				if i < n/2 {
					d += time.Hour
				}
				set := time.Now()
				stop := AfterFunc(d, func() {
					if early := d - time.Since(set); early > 0 {
						t.Errorf("alarm %d rang %v before its time", i, early)
					}
					mu.Lock()
					called[i]++
					mu.Unlock()
					calls.Done()
				})
				if i < n/2 && !stop() {
					t.Errorf("alarm %d could not be stopped", i)
				}
			}
		})
	}
	setters.Wait()
	calls.Wait()
	mu.Lock()
	defer mu.Unlock()
	for i := range n {
		want := 0
		if i >= n/2 {
			want = 1
		}
		if called[i] != want {
			t.Errorf("alarm %d rang %d times, want %d", i, called[i], want)
		}
	}
}

// TestOrder sets a later alarm before an earlier one, whose function may set another.
func TestOrder(t *testing.T) {
	t.Parallel()
	rung := make(chan int, 2)
	later := AfterFunc(time.Hour, func() { rung <- 0 })
	AfterFunc(5*time.Millisecond, func() {
		rung <- 1
		AfterFunc(-1, func() { rung <- 2 })
	})
	for want := 1; want <= 2; want++ {
		if got := <-rung; got != want {
			t.Errorf("alarm %d rang, want %d", got, want)
		}
	}
	if !later() {
		t.Error("the later one has rung")
	}
}

// TestStopped stops an alarm that has rung.
func TestStopped(t *testing.T) {
	t.Parallel()
	rung := make(chan bool)
	stop := AfterFunc(time.Millisecond, func() { rung <- true })
	<-rung
	if stop() {
		t.Error("what has rung could be stopped")
	}
}

// TestSynctest sets an alarm where time is made up.
func TestSynctest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := time.Now()
		rung := make(chan bool)
		AfterFunc(time.Hour, func() { rung <- true })
		<-rung
		if d := time.Since(set); d != time.Hour {
			t.Errorf("it rang after %v", d)
		}
	})
}
