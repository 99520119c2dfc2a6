package serve_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/serve"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// A coroutine that waits for an approval is started over HTTP, given one, asked for its result, and removed.
func Example() {
	ctx := context.Background()
	r, err := runtime.New(ctx, runtime.NewConfig())
	if err != nil {
		panic(err)
	}
	defer r.Close(ctx)
	binary, err := os.ReadFile("../../testdata/wat/coroutines.wasm")
	if err != nil {
		panic(err)
	}
	module, err := r.Compile(ctx, binary)
	if err != nil {
		panic(err)
	}
	scheduler := runtime.NewScheduler(r, runtime.SchedulerConfig{Store: snapshot.NewStore(bucket.NewMem())})
	defer scheduler.Close(ctx)
	server := httptest.NewServer(serve.New(serve.Config{
		Scheduler: scheduler,
		Programs:  map[string]runtime.Program{"approval": {Module: module, Entry: "approve"}},
	}))
	defer server.Close()

	show := func(resp *http.Response, err error) {
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, strings.TrimSpace(string(body)))
	}
	forEver := strings.Repeat("\xff", 8) // how long it waits: the guest's input
	resp, err := http.Post(server.URL+"/coroutines?program=approval&id=order-7", "", strings.NewReader(forEver))
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode, resp.Header.Get("Location"))
	show(http.Get(server.URL + "/coroutines/order-7/result"))
	resp, err = http.Post(server.URL+"/coroutines/order-7/messages/approval", "", strings.NewReader("granted"))
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	show(http.Get(server.URL + "/coroutines/order-7/result?wait=1m"))
	remove, err := http.NewRequest(http.MethodDelete, server.URL+"/coroutines/order-7", nil)
	if err != nil {
		panic(err)
	}
	resp, err = http.DefaultClient.Do(remove)
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)
	show(http.Get(server.URL + "/coroutines?status=completed&limit=10"))

	// Output:
	// 201 /coroutines/order-7
	// 409 {"error":{"code":"not_ended","message":"order-7 has not ended"}}
	// 200 granted
	// 204
	// 200 []
}
