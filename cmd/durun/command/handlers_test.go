package command

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

func TestOutsideFlags(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	const module = "\x00asm\x01\x00\x00\x00"
	if err := os.WriteFile("m.wasm", []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := outsideFlags{
		handlers: []string{"a=http://localhost/x=y", "b=exec:cat | sort", "c d=deny"},
		policies: []string{"a=rate=5/s,attempts=2"},
		modules:  []string{"m=" + filepath.Join(dir, "m.wasm")},
	}
	got, err := flags.read()
	if err != nil {
		t.Fatal(err)
	}
	hash := snapshot.HashOf([]byte(module))
	want := []snapshot.Grant{
		{Kind: "handler", Name: "a", Value: "http://localhost/x=y"},
		{Kind: "handler", Name: "b", Value: "exec:cat | sort", Flags: dir},
		{Kind: "handler", Name: "c d", Value: "deny"},
		{Kind: "policy", Name: "a", Value: "rate=5/s,attempts=2"},
		{Kind: "module", Name: "m", Value: hash.String()},
	}
	if diff := cmp.Diff(want, got.grants); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
	if string(got.modules[hash]) != module {
		t.Errorf("modules %v", got.modules)
	}
	set, err := newHandlers(got.grants, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, has := range map[string]bool{"a": true, "b": true, "c d": false, "m": false, "": false} {
		if set.Has(name) != has {
			t.Errorf("a handler %q: %v, want %v", name, !has, has)
		}
	}

	long := strings.Repeat("x", 257)
	for _, bad := range []outsideFlags{
		{handlers: []string{""}},
		{handlers: []string{"a"}},
		{handlers: []string{"=deny"}},
		{handlers: []string{long + "=deny"}},
		{handlers: []string{"a\nb=deny"}},
		{handlers: []string{"a\xff=deny"}},
		{handlers: []string{"a="}},
		{handlers: []string{"a=localhost:80"}},
		{handlers: []string{"a=exec:"}},
		{handlers: []string{"a=exec: \t"}},
		{handlers: []string{"a=exec:x\x00"}},
		{handlers: []string{"a=http://localhost/" + strings.Repeat("x", snapshot.MaxText)}},
		{handlers: []string{"a=deny", "a=deny"}},
		{policies: []string{"a"}},
		{policies: []string{"a="}},
		{policies: []string{"a=rate=0/s"}},
		{policies: []string{"a=rate=1/s", "a=rate=2/s"}},
		{modules: []string{"m"}},
		{modules: []string{"m="}},
	} {
		if _, err := bad.read(); err == nil {
			t.Errorf("%q: no error", bad)
		} else if c := new(app).classify(err).code; c != exitUsage {
			t.Errorf("%q: exit code %d for %v", bad, c, err)
		}
	}
}

// What the store records may be anything.
func TestNewHandlersOfBadGrants(t *testing.T) {
	for _, c := range []struct {
		grant snapshot.Grant
		flag  string
	}{
		{snapshot.Grant{Kind: grantHandler, Name: "a", Value: "gopher://localhost/"}, "--handler a: "},
		{snapshot.Grant{Kind: grantHandler, Name: "a", Value: "exec:cat", Flags: filepath.Join(t.TempDir(), "nosuch")}, "--handler a: "},
		{snapshot.Grant{Kind: grantPolicy, Name: "a", Value: "rate=fast"}, "--limit a: "},
	} {
		if _, err := newHandlers([]snapshot.Grant{c.grant}, nil); err == nil || new(app).classify(err).code != exitUsage || !strings.Contains(err.Error(), c.flag) {
			t.Errorf("%v: error %v", c.grant, err)
		}
	}
}

// One that fails now and then is not told of, and one that keeps failing not often.
func TestComplaints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		c := complaints{w: &out}
		told := func(want string) {
			t.Helper()
			if out.String() != want {
				t.Errorf("told %q, want %q", out.String(), want)
			}
			out.Reset()
		}
		bad := errors.New("no\n\tsuch \x1b[31m luck")
		c.retry(handler.Call{Coroutine: "job", Name: "mail", Attempt: 4}, bad, time.Second)
		told("")
		c.retry(handler.Call{Coroutine: "job", Name: "mail", Attempt: 5}, bad, 1234567*time.Microsecond)
		told("durun: call mail of job: attempt 5 failed: no such \\x1b[31m luck; trying again in 1.23s\n")
		c.retry(handler.Call{Coroutine: "job", Name: "mail", Attempt: 6}, bad, time.Second)
		told("")
		c.retry(handler.Call{Coroutine: "job", Name: "other", Attempt: 1}, errors.New(strings.Repeat("é", 300)), time.Minute)
		told("durun: call other of job: attempt 1 failed: " + strings.Repeat("é", 200) + "…; trying again in 1m0s\n")
		<-time.After(complainEach)
		c.retry(handler.Call{Coroutine: "job", Name: "mail", Attempt: 7}, bad, time.Second)
		told("durun: call mail of job: attempt 7 failed: no such \\x1b[31m luck; trying again in 1s\n")
	})
}
