// Command approval waits for a message, or gives up after a time.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/durun/durun/guests/go/durun"
)

func run() error {
	input, err := durun.InputJSON[struct{ Timeout *float64 }]()
	if err != nil {
		return err
	}
	seconds := 2.0
	if input.Timeout != nil {
		seconds = min(*input.Timeout, 1e9) // some thirty years
	}

	approval := durun.Recv("approval")
	deadline := durun.Timer(time.Duration(seconds * float64(time.Second)))
	first, err := durun.Race(durun.Context(), approval, deadline)
	if err != nil {
		return err
	}
	if first == deadline {
		fmt.Println("timed out")
		return nil
	}
	message, err := approval.Result()
	if err != nil {
		return err
	}
	var answer string
	if json.Unmarshal(message, &answer) == nil && answer == "yes" {
		fmt.Println("approved")
	} else {
		fmt.Println("declined")
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "approval:", err)
		os.Exit(1)
	}
}
