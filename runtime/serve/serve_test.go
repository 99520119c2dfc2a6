package serve_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/serve"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// newServer serves the entries of testdata/wat/coroutines.wasm, each as a program of its name.
func newServer(t *testing.T) http.Handler {
	t.Helper()
	ctx := context.Background()
	r, err := runtime.New(ctx, runtime.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(ctx) })
	binary, err := os.ReadFile("../../testdata/wat/coroutines.wasm")
	if err != nil {
		t.Fatal(err)
	}
	module, err := r.Compile(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	s := runtime.NewScheduler(r, runtime.SchedulerConfig{Store: snapshot.NewStore(bucket.NewMem())})
	t.Cleanup(func() { _ = s.Close(ctx) })
	programs := map[string]runtime.Program{"none": {Module: module, Entry: "missing"}}
	for _, entry := range []string{"approve", "parent", "child"} {
		programs[entry] = runtime.Program{Module: module, ModuleName: "coroutines.wasm", Entry: entry}
	}
	return serve.New(serve.Config{
		Scheduler: s, Programs: programs, MaxBody: 100,
		OnError: func(r *http.Request, err error) { t.Errorf("%s %s: %v", r.Method, r.URL, err) },
	})
}

// TestServe asks one thing after the other, and looks at the status, and at a part of the answer.
func TestServe(t *testing.T) {
	h := newServer(t)
	forEver := strings.Repeat("\xff", 8)
	thirteen := "\x0d\x00\x00\x00"
	for i, step := range []struct {
		method, path, body string
		key                string
		status             int
		want               string
	}{
		{"GET", "/coroutines", "", "", 200, "[]"},
		{"GET", "/coroutines/a", "", "", 404, `"not_found"`},
		{"GET", "/coroutines/a/result", "", "", 404, `"not_found"`},
		{"GET", "/coroutines/a/output", "", "", 404, `"not_found"`},
		{"GET", "/coroutines/a?wait=1m", "", "", 404, `"not_found"`},
		{"POST", "/coroutines/a/messages/m", "", "", 404, `"not_found"`},
		{"POST", "/coroutines/a/resume", "", "", 404, `"not_found"`},
		{"POST", "/coroutines/a/cancel", "", "", 404, `"not_found"`},
		{"POST", "/coroutines?program=nothing", "", "", 400, `there is no program \"nothing\"`},
		{"POST", "/coroutines?program=none", "", "", 400, `"invalid"`},
		{"POST", "/coroutines?program=approve&id=.", "", "", 400, `"invalid"`},
		{"POST", "/coroutines?program=approve&id=a", strings.Repeat("x", 101), "", 413, `"too_large"`},
		{"POST", "/coroutines?program=approve&id=a", forEver, "", 201, `"status":"running"`},
		{"POST", "/coroutines?program=approve&id=a", forEver, "", 409, `"exists"`},
		{"GET", "/coroutines/a", "", "", 200, `"waiting":{"kind":"operations","detail":"message approval","until":null}`},
		{"GET", "/coroutines/a?wait=1ms", "", "", 200, `"status":"running"`},
		{"GET", "/coroutines/a?wait=soon", "", "", 400, `"invalid"`},
		{"GET", "/coroutines/a/result", "", "", 409, `"not_ended"`},
		{"POST", "/coroutines/a/resume", "", "", 202, ""},
		{"POST", "/coroutines/a/messages/%01", "", "", 400, `"invalid"`},
		{"POST", "/coroutines/a/messages/durun.cancel", "", "", 400, `are durun's own`},
		{"POST", "/coroutines/a/messages/other", "no", "k", 202, `"duplicate":false,"key":"k"`},
		{"POST", "/coroutines/a/messages/other", "no", "k", 202, `"duplicate":true,"key":"k"`},
		{"POST", "/coroutines/a/messages/approval", "yes", "", 202, `"duplicate":false`},
		{"GET", "/coroutines/a/result?wait=1m", "", "", 200, "yes"},
		{"GET", "/coroutines/a?wait=1m", "", "", 200, `"exit_code":0`},
		{"POST", "/coroutines/a/messages/approval", "yes", "", 409, `"ended"`},
		{"POST", "/coroutines/a/resume", "", "", 409, `"ended"`},
		{"POST", "/coroutines/a/cancel", "", "", 409, `"ended"`},
		{"POST", "/coroutines?program=approve&id=b", forEver, "", 201, ""},
		{"POST", "/coroutines/b/cancel", "", "", 202, ""},
		{"GET", "/coroutines/b/result?wait=1m", "", "", 422, `b is cancelled`},
		{"POST", "/coroutines?program=child&id=c", thirteen, "", 201, ""},
		{"GET", "/coroutines/c?wait=1m", "", "", 200, `"status":"failed"`},
		{"POST", "/coroutines?program=parent&id=p", "\x02\x00\x00\x00", "", 201, ""},
		{"GET", "/coroutines/p/result?wait=1m", "", "", 200, "\x02\x00\x00\x00\x00\x00\x00\x00"},
		{"GET", "/coroutines", "", "", 200, `"id":"p.2"`},
		{"GET", "/coroutines/p/output", "", "", 200, ""},
		{"DELETE", "/coroutines/p", "", "", 405, ""},
		{"GET", "/", "", "", 404, ""},
	} {
		r := httptest.NewRequest(step.method, step.path, strings.NewReader(step.body))
		if step.key != "" {
			r.Header.Set("Idempotency-Key", step.key)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Result().Body)
		where := fmt.Sprintf("step %d, %s %s", i, step.method, step.path)
		if w.Code != step.status || !strings.Contains(string(body), step.want) {
			t.Fatalf("%s: %d %s\nwant %d %s", where, w.Code, body, step.status, step.want)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
			if !json.Valid(body) {
				t.Errorf("%s: not JSON: %s", where, body)
			}
		}
	}
}
