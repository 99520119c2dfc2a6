// Command goroutines waits for operations among goroutines, channels and timers of Go's, all of which go on meanwhile. It asks
// for the handlers "block", which doesn't answer, and "stop", which has this program cancelled.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/durun/durun/guests/go/durun"
)

// producers have each goroutine sleep as it likes: some by operations, some by timers of Go's.
func producers() {
	numbers := make(chan int)
	var wg sync.WaitGroup
	for i := 1; i <= 10; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 3 {
				if i%2 == 0 {
					_ = durun.Sleep(context.Background(), time.Duration(i)*time.Millisecond)
				} else {
					time.Sleep(time.Duration(i) * time.Millisecond)
				}
				numbers <- i
			}
		}()
	}
	go func() {
		wg.Wait()
		close(numbers)
	}()
	sum := 0
	for n := range numbers {
		sum += n
	}
	fmt.Println("sum", sum)
}

// choice waits for whatever comes first, of which each may be the only one that comes.
func choice() {
	never := durun.Call("block", nil)
	select {
	case <-never.Done():
		fmt.Println("what blocks has ended")
	case <-time.After(20 * time.Millisecond):
		fmt.Println("time is up")
	}
	select {
	case <-time.After(time.Hour):
		fmt.Println("an hour has passed")
	case <-durun.Timer(20 * time.Millisecond).Done():
		fmt.Println("the timer has ended")
	}

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := durun.CallJSON[string](ctx, "block", nil)
	fmt.Println("call:", err, errors.Is(err, context.DeadlineExceeded))
	_, err = never.Wait(ctx)
	fmt.Println("wait:", err)
	_, err = never.Result()
	fmt.Println("afterwards:", err)
}

// stop has the program cancelled while it waits in a way that doesn't tell. Then the next wait does.
func stop(ctx context.Context) {
	<-durun.Call("stop", nil).Done()
	time.Sleep(20 * time.Millisecond)
	fmt.Println("sleep:", durun.Sleep(ctx, time.Hour))
	fmt.Println("sleep, to clean up:", durun.Sleep(ctx, time.Millisecond))
}

func main() {
	producers()
	choice()
	stop(context.Background())
}
