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
	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// forEver is how long the program "approve" waits, as its input.
var forEver = strings.Repeat("\xff", 8)

// newServer serves the entries of testdata/wat/coroutines.wasm, each as a program of its name.
func newServer(t *testing.T) http.Handler {
	t.Helper()
	return serve.New(newConfig(t, bucket.NewMem()))
}

// newConfig makes what newServer serves, with a scheduler of its own for what lies in a bucket.
func newConfig(t *testing.T, b bucket.Bucket) serve.Config {
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
	s := runtime.NewScheduler(r, runtime.SchedulerConfig{Store: snapshot.NewStore(b)})
	t.Cleanup(func() { _ = s.Close(ctx) })
	programs := map[string]runtime.Program{"none": {Module: module, Entry: "missing"}}
	for _, entry := range []string{"approve", "parent", "child", "guardian"} {
		programs[entry] = runtime.Program{Module: module, ModuleName: "coroutines.wasm", Entry: entry}
	}
	return serve.Config{
		Scheduler: s, Programs: programs, MaxBody: 100,
		OnError: func(r *http.Request, err error) { t.Errorf("%s %s: %v", r.Method, r.URL, err) },
	}
}

// ask makes a request with headers, name and value each, and wants a status.
func ask(t *testing.T, h http.Handler, status int, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != status {
		t.Fatalf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, status)
	}
	return w
}

// TestServe asks one thing after the other, and looks at the status, and at a part of the answer.
func TestServe(t *testing.T) {
	h := newServer(t)
	thirteen := "\x0d\x00\x00\x00"
	for i, step := range []struct {
		method, path, body string
		key                string
		status             int
		want               string
	}{
		{"GET", "/coroutines", "", "", 200, "[]"},
		{"GET", "/coroutines/a", "", "", 404, `{"code":"not_found","message":"coroutine a: not found"}`},
		{"GET", "/coroutines/a/result", "", "", 404, `"not_found"`},
		{"GET", "/coroutines/a/output", "", "", 404, `"not_found"`},
		{"GET", "/coroutines/a?wait=1m", "", "", 404, `"not_found"`},
		{"POST", "/coroutines/a/messages/m", "", "", 404, `"not_found"`},
		{"POST", "/coroutines/a/resume", "", "", 404, `"not_found"`},
		{"POST", "/coroutines/a/cancel", "", "", 404, `"not_found"`},
		{"POST", "/coroutines?program=nothing", "", "", 400, `there is no program \"nothing\"`},
		{"POST", "/coroutines?program=none", "", "", 400, `"invalid"`},
		{"POST", "/coroutines?program=approve&id=.", "", "", 400, `"invalid"`},
		{"POST", "/coroutines?program=approve&id=%zz", "", "", 400, `the query can't be read`},
		{"POST", "/coroutines?program=approve;id=a", "", "", 400, `the query can't be read`},
		{"GET", "/coroutines", "", "", 200, "[]"}, // and nothing was started
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
		{"GET", "/coroutines/p/output?stream=all", "", "", 200, ""},
		{"GET", "/coroutines/p/output?stream=stdin", "", "", 400, `"invalid"`},
		{"HEAD", "/coroutines/p/output", "", "", 200, ""},
		{"DELETE", "/coroutines/nobody", "", "", 404, `"not_found"`},
		{"DELETE", "/coroutines/.", "", "", 404, `"not_found"`},
		{"DELETE", "/coroutines/p", "", "", 204, ""},
		{"GET", "/coroutines/p.2", "", "", 404, `"not_found"`},
		{"DELETE", "/coroutines/p", "", "", 404, `"not_found"`},
		{"PUT", "/coroutines/p", "", "", 405, `"method_not_allowed"`},
		{"GET", "/", "", "", 404, `"not_found"`},
		{"GET", "//coroutines", "", "", 307, ""},
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

// TestPages reads a list in pages, by the links from one to the next.
func TestPages(t *testing.T) {
	h := newServer(t)
	for _, id := range []string{"a", "a.1", "b", "c", "d"} {
		ask(t, h, 201, "POST", "/coroutines?program=approve&id="+id, forEver)
	}
	for _, id := range []string{"a", "c"} {
		ask(t, h, 202, "POST", "/coroutines/"+id+"/cancel", "")
		ask(t, h, 200, "GET", "/coroutines/"+id+"?wait=1m", "")
	}
	for _, c := range []struct{ query, want string }{
		{"", "a.1 a b c d"},
		{"?limit=1000", "a.1 a b c d"},
		{"?limit=5", "a.1 a b c d"},
		{"?limit=2", "a.1 a / b c / d"},
		{"?after=a.1", "a b c d"},
		{"?limit=3&after=a", "b c d"},
		{"?limit=3&after=bb", "c d"},
		{"?after=d", ""},
		{"?limit=1&after=d", ""},
		{"?status=running", "a.1 b d"},
		{"?status=running&limit=2", "a.1 b / d"},
		{"?status=cancelled&limit=1", "a / c"},
		{"?status=cancelled&status=running", "a.1 a b c d"},
		{"?status=failed", ""},
	} {
		var got []string
		for next, page := c.query, 0; next != "" || page == 0; page++ {
			w := ask(t, h, 200, "GET", "/coroutines"+next, "")
			var list []struct{ ID string }
			if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
				t.Fatalf("%s: %v: %s", next, err, w.Body)
			}
			if page > 0 {
				got = append(got, "/")
			}
			for _, c := range list {
				got = append(got, c.ID)
			}
			next = ""
			if link := w.Header().Get("Link"); link != "" {
				next, _ = strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
			}
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.query, got, c.want)
		}
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "status=gone", "after=."} {
		ask(t, h, 400, "GET", "/coroutines?"+query, "")
	}
}

// TestETag asks again for what has not changed, and for what has.
func TestETag(t *testing.T) {
	h := newServer(t)
	ask(t, h, 201, "POST", "/coroutines?program=approve&id=a", forEver)
	for _, path := range []string{"/coroutines/a", "/coroutines?limit=10"} {
		tag := ask(t, h, 200, "GET", path, "").Header().Get("ETag")
		if tag == "" {
			t.Fatalf("%s: no tag", path)
		}
		ask(t, h, 304, "GET", path, "", "If-None-Match", tag)
		if w := ask(t, h, 200, "HEAD", path, ""); w.Header().Get("ETag") != tag || w.Body.Len() > 0 {
			t.Errorf("HEAD %s: %v %s", path, w.Header(), w.Body)
		}
	}
	tag := ask(t, h, 200, "GET", "/coroutines/a", "").Header().Get("ETag")
	ask(t, h, 202, "POST", "/coroutines/a/messages/approval", `{"ok":true}`)
	ask(t, h, 200, "GET", "/coroutines/a?wait=1m", "", "If-None-Match", tag)
	tag = ask(t, h, 200, "GET", "/coroutines/a/result", "").Header().Get("ETag")
	ask(t, h, 304, "GET", "/coroutines/a/result", "", "If-None-Match", tag)
}

// TestResultType asks for a result that is JSON, and for one that is not.
func TestResultType(t *testing.T) {
	h := newServer(t)
	for result, want := range map[string]string{`{"ok":true}`: "application/json", "ok": "application/octet-stream"} {
		id := snapshot.NewID()
		ask(t, h, 201, "POST", "/coroutines?program=approve&id="+id, forEver)
		ask(t, h, 202, "POST", "/coroutines/"+id+"/messages/approval", result)
		path := "/coroutines/" + id + "/result?wait=1m"
		w := ask(t, h, 200, "GET", path, "", "Accept", "text/html, application/json;q=0.9")
		if got := w.Header().Get("Content-Type"); got != want || w.Body.String() != result {
			t.Errorf("%s comes as %s: %s", result, got, w.Body)
		}
		for _, accept := range []string{"", "*/*"} {
			got := ask(t, h, 200, "GET", path, "", "Accept", accept).Header().Get("Content-Type")
			if got != "application/octet-stream" {
				t.Errorf("%s comes as %s for %q", result, got, accept)
			}
		}
	}
}

// TestMounted serves below another path.
func TestMounted(t *testing.T) {
	h := http.StripPrefix("/api", newServer(t))
	location := ask(t, h, 201, "POST", "/api/coroutines?program=approve&id=a", forEver).Header().Get("Location")
	if location != "/api/coroutines/a" {
		t.Errorf("Location: %s", location)
	}
	if allow := ask(t, h, 405, "PUT", location, "").Header().Get("Allow"); allow != "DELETE, GET, HEAD" {
		t.Errorf("Allow: %s", allow)
	}
}

// TestTwoNodes waits at one node for the end of a coroutine that another one drives.
func TestTwoNodes(t *testing.T) {
	b := bucket.NewMem()
	looks := make(chan struct{}, 1)
	looked := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
		if op.Name == "list" {
			select {
			case looks <- struct{}{}:
			default:
			}
		}
		return buckettest.Fault{}
	})
	here, there := serve.New(newConfig(t, looked)), serve.New(newConfig(t, b))
	ask(t, there, 201, "POST", "/coroutines?program=approve&id=a", forEver)
	if got := ask(t, here, 200, "GET", "/coroutines/a?wait=1ms", "").Body.String(); !strings.Contains(got, `"suspended"`) {
		t.Errorf("driven elsewhere: %s", got)
	}
	<-looks
	ended := make(chan string)
	go func() {
		w := httptest.NewRecorder()
		here.ServeHTTP(w, httptest.NewRequest("GET", "/coroutines/a/result?wait=1m", nil))
		ended <- w.Body.String()
	}()
	<-looks // it has not ended
	ask(t, there, 202, "POST", "/coroutines/a/messages/approval", "yes")
	if got := <-ended; got != "yes" {
		t.Errorf("the result: %s", got)
	}
	ask(t, here, 204, "DELETE", "/coroutines/a", "")
	ask(t, there, 404, "GET", "/coroutines/a", "")
}

// TestRemoveChild wants that nothing is removed that a parent may wait for, nor a parent before its children have ended.
func TestRemoveChild(t *testing.T) {
	b := bucket.NewMem()
	c := newConfig(t, b)
	h := serve.New(c)
	ask(t, h, 201, "POST", "/coroutines?program=guardian&id=g", "")
	for {
		if _, err := c.Scheduler.Store().Head(t.Context(), "g.1"); err == nil {
			break
		}
	}
	ask(t, h, 409, "DELETE", "/coroutines/g", "")
	ask(t, h, 409, "DELETE", "/coroutines/g.1", "")
	if err := c.Scheduler.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// From now on somebody drives the child, and nobody the parent.
	h = serve.New(newConfig(t, b))
	ask(t, h, 202, "POST", "/coroutines/g.1/resume", "")
	ask(t, h, 202, "POST", "/coroutines/g.1/messages/approval", "yes")
	ask(t, h, 200, "GET", "/coroutines/g.1/result?wait=1m", "")
	if got := ask(t, h, 409, "DELETE", "/coroutines/g.1", "").Body.String(); !strings.Contains(got, `"awaited"`) {
		t.Errorf("a child that is waited for: %s", got)
	}
	ask(t, h, 202, "POST", "/coroutines/g/resume", "")
	ask(t, h, 200, "GET", "/coroutines/g/result?wait=1m", "")
	ask(t, h, 204, "DELETE", "/coroutines/g.1", "")
	ask(t, h, 204, "DELETE", "/coroutines/g", "")
	if got := ask(t, h, 200, "GET", "/coroutines", "").Body.String(); got != "[]\n" {
		t.Errorf("left: %s", got)
	}
}
