// Command generator yields the squares of 1 to 5, and adds up the numbers that it gets in return.
package main

import (
	"fmt"
	"strconv"

	"github.com/durun/durun/guests/go/durun"
)

func main() {
	received := 0
	for n := 1; n <= 5; n++ {
		answer := durun.Yield([]byte(strconv.Itoa(n * n)))
		if number, err := strconv.Atoi(string(answer)); err == nil {
			received += number
		}
	}
	fmt.Println("received", received)
}
