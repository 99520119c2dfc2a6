// Command bench is a guest for GOOS=wasip1 that computes and times itself: encoding/json, sorting, recursion, goroutines and
// channels. It prints "name seconds" for each part, and a checksum.
//
//	bench [divisor]    does the divisor's part of the work
//
// testdata/ has no module of it, which would be as big as all others together: guests/costs builds it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

type order struct {
	ID    int
	Name  string
	Tags  []string
	Price float64
	Notes map[string]int
}

func orders(n int) []order {
	list := make([]order, n)
	for i := range list {
		s := strconv.Itoa(i)
		list[i] = order{
			ID: i, Name: "order " + s, Tags: []string{"new", s, `quoted "` + s + `"`}, Price: float64(i) / 8,
			Notes: map[string]int{"a" + s: i, "b": -i},
		}
	}
	return list
}

func roundTrips(n int) (sum uint64) {
	in := orders(40)
	for range n {
		data, err := json.Marshal(in)
		if err != nil {
			panic(err)
		}
		var out []order
		if err := json.Unmarshal(data, &out); err != nil {
			panic(err)
		}
		sum = sum*31 + uint64(len(data)+len(out))
	}
	return sum
}

type record struct {
	key   uint32
	value float64
}

func sorted(n int) (sum uint64) {
	list := make([]record, n)
	seed := uint32(1)
	for i := range list {
		seed = seed*1103515245 + 12345
		list[i] = record{seed >> 8, float64(i)}
	}
	slices.SortFunc(list, func(a, b record) int { return int(a.key) - int(b.key) })
	for _, r := range list {
		sum = sum*31 + uint64(r.key) + uint64(r.value)
	}
	return sum
}

//go:noinline
func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

// passed sends n numbers through a chain of goroutines.
func passed(n int) (sum uint64) {
	first, done := make(chan uint64), make(chan struct{})
	out := first
	for range 3 {
		in, next := out, make(chan uint64)
		go func() {
			defer close(next)
			for v := range in {
				select {
				case next <- v*31 + 1:
				case <-done:
					return
				}
			}
		}()
		out = next
	}
	go func() {
		for i := range n {
			first <- uint64(i)
		}
		close(first)
	}()
	for v := range out {
		sum = sum*31 + v
	}
	close(done)
	return sum
}

func main() {
	divisor := 1
	if len(os.Args) > 1 {
		var err error
		if divisor, err = strconv.Atoi(os.Args[1]); err != nil || divisor < 1 {
			fmt.Fprintln(os.Stderr, "usage: bench [divisor]")
			os.Exit(2)
		}
	}
	var sum uint64
	timed := func(name string, part func() uint64) {
		start := time.Now()
		sum = sum*31 + part()
		fmt.Printf("%s %f\n", name, time.Since(start).Seconds())
	}
	timed("json", func() uint64 { return roundTrips(300 / divisor) })
	timed("sort", func() uint64 { return sorted(600000 / divisor) })
	depth := 36
	for d := divisor; d > 1; d /= 2 {
		depth-- // about 0.6 of the calls
	}
	timed("fib", func() uint64 { return uint64(fib(depth)) })
	timed("channels", func() uint64 { return passed(100000 / divisor) })
	fmt.Printf("checksum %x\n", sum)
}
