// Command workers is a guest for GOOS=wasip1: goroutines, channels, select, timers, defer and recover, all of them in the
// middle of something while the program sleeps. What it prints does not depend on timing.
//
//	workers [rounds [milliseconds]]
//
// The exit code is 3.
package main

import (
	"errors"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"
)

// say prints its words on a line. Package fmt would double the size of the guest.
func say(words ...any) {
	var b []byte
	for i, w := range words {
		if i > 0 {
			b = append(b, ' ')
		}
		switch w := w.(type) {
		case string:
			b = append(b, w...)
		case int:
			b = strconv.AppendInt(b, int64(w), 10)
		case uint64:
			b = strconv.AppendUint(b, w, 16)
		case float64:
			b = strconv.AppendFloat(b, w, 'g', -1, 64)
		case bool:
			b = strconv.AppendBool(b, w)
		case error:
			b = append(b, w.Error()...)
		}
	}
	if _, err := os.Stdout.Write(append(b, '\n')); err != nil {
		os.Exit(1)
	}
}

var pause = 3 * time.Millisecond

type result struct {
	item  int
	value uint64
}

// deep sleeps at the bottom of n frames, each with a deferred call that changes the result on the way up.
func deep(n int, seed uint64) (sum uint64) {
	defer func() { sum = sum*31 + uint64(n) }()
	if n == 0 {
		time.Sleep(pause)
		return seed
	}
	local := [4]uint64{seed, uint64(n), seed ^ uint64(n), 7}
	sum = deep(n-1, seed*6364136223846793005+1442695040888963407)
	return sum ^ local[n&3]
}

// fanOut has workers that take from one channel, and sleep at different depths.
func fanOut(round int) {
	jobs, results := make(chan int), make(chan result, 2)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for item := range jobs {
				results <- result{item, deep(20*(item%4), uint64(item*round))}
			}
		})
	}
	go func() {
		for i := range 12 {
			jobs <- i
		}
		close(jobs)
		wg.Wait()
		close(results)
	}()
	got := map[int]uint64{}
	for r := range results {
		got[r.item] = r.value
	}
	keys := make([]int, 0, len(got))
	for k := range got {
		keys = append(keys, k)
	}
	sort.Ints(keys)
	var sum uint64
	for _, k := range keys {
		sum = sum*1099511628211 ^ got[k]
	}
	say("round", round, "items", len(got), "sum", sum)
}

var errBottom = errors.New("the bottom")

// unwind panics after a sleep, and recovers three frames up; each deferred call sleeps too.
func unwind(n int, trace *[]int) (err error) {
	defer func() {
		time.Sleep(pause)
		*trace = append(*trace, n)
		if n == 3 {
			if r, ok := recover().(error); ok {
				err = r
			}
		}
	}()
	if n == 0 {
		time.Sleep(pause)
		panic(errBottom)
	}
	return unwind(n-1, trace)
}

// choose waits in selects where one side always wins: a timer against a channel, and a timer alone.
func choose() {
	ready, never := make(chan string), make(chan string)
	go func() {
		time.Sleep(pause)
		ready <- "the channel"
	}()
	select {
	case s := <-ready:
		say("select:", s)
	case <-time.After(time.Hour):
		say("select: the hour")
	}
	select {
	case s := <-never:
		say("select:", s)
	case <-time.After(2 * pause):
		say("select: the timer")
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	n := 0
	for range tick.C {
		if n++; n == 3 {
			break
		}
	}
	say("ticks", n)
}

// pingPong has two goroutines hand a value back and forth over unbuffered channels, and five take turns under a lock.
func pingPong() {
	ping, pong := make(chan float64), make(chan float64)
	go func() {
		for v := range ping {
			time.Sleep(pause)
			pong <- v*1.5 + 1
		}
		close(pong)
	}()
	v := 0.5
	for range 5 {
		ping <- v
		v = <-pong
	}
	close(ping)
	_, open := <-pong
	say("ping-pong", v, open)

	var mu sync.Mutex
	cond, turn, order := sync.NewCond(&mu), 0, ""
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for turn != i {
				cond.Wait()
			}
			time.Sleep(pause) // with the lock held
			order += strconv.Itoa(i)
			turn++
			cond.Broadcast()
		})
	}
	wg.Wait()
	say("turns", order)
}

// squares yields through an iterator; the loop's body sleeps inside it.
func squares(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i * i) {
				return
			}
		}
	}
}

func main() {
	rounds := 3
	if len(os.Args) > 1 {
		rounds, _ = strconv.Atoi(os.Args[1])
	}
	if len(os.Args) > 2 {
		ms, _ := strconv.Atoi(os.Args[2])
		pause = time.Duration(ms) * time.Millisecond
	}
	start := time.Now()
	for r := 1; r <= rounds; r++ {
		fanOut(r)
	}
	say("deep", deep(1500, 1))
	var trace []int
	err := unwind(6, &trace)
	order := ""
	for _, n := range trace {
		order += strconv.Itoa(n)
	}
	say("recovered:", err, errors.Is(err, errBottom), "deferred", order)
	choose()
	pingPong()
	sum := 0
	for s := range squares(10) {
		if s > 36 {
			break
		}
		time.Sleep(pause)
		sum += s
	}
	say("squares", sum, "took time:", time.Since(start) > pause)
	os.Exit(3)
}
