// Command fanout has five children of its own program square a number each, and adds up what they return.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/durun/durun/guests/go/durun"
)

// square is what a child does.
func square(ctx context.Context) error {
	n, err := durun.InputJSON[int]()
	if err != nil {
		return err
	}
	if err := durun.Sleep(ctx, 50*time.Millisecond); err != nil {
		return err
	}
	return durun.SetOutputJSON(n * n)
}

func sum(ctx context.Context) error {
	var children []*durun.Op
	for n := 1; n <= 5; n++ {
		children = append(children, durun.Spawn(durun.Self, fmt.Append(nil, n), "square"))
	}
	squares, err := durun.All(ctx, children...)
	if err != nil {
		return err
	}
	total := 0
	for _, output := range squares {
		var n int
		if _, err := fmt.Sscan(string(output), &n); err != nil {
			return err
		}
		total += n
	}
	fmt.Println("sum", total)
	return nil
}

func main() {
	run := sum
	if len(os.Args) > 1 && os.Args[1] == "square" {
		run = square
	}
	if err := run(durun.Context()); err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1)
	}
}
