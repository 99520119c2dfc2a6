// Command sleep prints three ticks, and sleeps between them.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/durun/durun/guests/go/durun"
)

func main() {
	for tick := 1; tick <= 3; tick++ {
		if tick > 1 {
			if err := durun.Sleep(context.Background(), 100*time.Millisecond); err != nil {
				fmt.Fprintln(os.Stderr, "sleep:", err)
				os.Exit(1)
			}
		}
		fmt.Println("tick", tick)
	}
}
