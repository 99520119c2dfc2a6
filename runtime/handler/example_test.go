package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime/handler"
)

// A handler that fails twice, and then finds that there is no such address.
func Example() {
	attempts := 0
	var handlers handler.Set
	handlers.Handle("send_email", func(_ context.Context, c handler.Call) ([]byte, error) {
		switch attempts++; {
		case attempts < 3:
			return nil, errors.New("no connection")
		case string(c.Body) == "nobody":
			return nil, handler.Final(errors.New("no such address"))
		}
		return []byte("sent under " + c.Key), nil
	}, handler.Policy{Rate: 100, Backoff: time.Millisecond})

	result, err := handlers.Do(context.Background(), handler.Call{Name: "send_email", Key: "job/1f/1", Body: []byte("ada")}, time.Now(), handler.Progress{}, nil)
	fmt.Printf("%s, %v, %d attempts\n", result, err, attempts)
	_, err = handlers.Do(context.Background(), handler.Call{Name: "send_email", Key: "job/1f/2", Body: []byte("nobody")}, time.Now(), handler.Progress{}, nil)
	fmt.Println(err, errors.Is(err, &hostabi.OperationError{Code: hostabi.CodeFailed}))
	// Output:
	// sent under job/1f/1, <nil>, 3 attempts
	// failed: no such address true
}

func ExampleHTTP() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s: %s as %s", r.Header.Get("Idempotency-Key"), body, r.Header.Get("Content-Type"))
	}))
	defer server.Close()

	send, err := handler.HTTP(server.URL+"/send", handler.HTTPOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var handlers handler.Set
	handlers.Handle("send", send, handler.Policy{Concurrency: 8, MaxAttempts: 5})
	result, err := handlers.Do(context.Background(), handler.Call{Name: "send", Key: "job/1f/1", Body: []byte(`{"to":"ada"}`)}, time.Now(), handler.Progress{}, nil)
	fmt.Printf("%s, %v\n", result, err)
	// Output: job/1f/1: {"to":"ada"} as application/json, <nil>
}

func ExampleParsePolicy() {
	p, err := handler.ParsePolicy("rate=90/m,attempts=5")
	fmt.Println(p.Rate, p.MaxAttempts, err)
	_, err = handler.ParsePolicy("rate=90")
	fmt.Println(err)
	// Output:
	// 1.5 5 <nil>
	// rate=90: give a number and its unit, such as 50/s, 100/m or 1/10s
}
