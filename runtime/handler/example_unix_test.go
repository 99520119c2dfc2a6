//go:build unix

package handler_test

import (
	"context"
	"fmt"

	"github.com/durun/durun/runtime/handler"
)

func ExampleExec() {
	shout := handler.Exec("tr a-z A-Z", handler.ExecOptions{})
	result, err := shout(context.Background(), handler.Call{Body: []byte("ada")})
	fmt.Printf("%s, %v\n", result, err)
	// Output: ADA, <nil>
}
