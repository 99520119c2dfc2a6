package command

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/durun/durun/hostabi"
)

// A wait is told of when it lasts, each kind once, and not many in a row.
func TestWaitNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		n := newWaitNotice(&out, "job")
		after := func(p *hostabi.Pending, d time.Duration, want string) {
			t.Helper()
			n.wait(p)
			<-time.After(d)
			n.wait(nil)
			synctest.Wait()
			if out.String() != want {
				t.Errorf("after %v of %q: %q, want %q", d, p.Detail, out.String(), want)
			}
			out.Reset()
		}
		message := &hostabi.Pending{Kind: hostabi.KindOperations, Detail: "message approval\x1b"}
		call := &hostabi.Pending{Kind: hostabi.KindOperations, Detail: "call mail"}
		after(message, waitPatience-1, "")
		after(&hostabi.Pending{Kind: hostabi.KindStdin, Detail: "input from fd 0"}, time.Hour, "")
		after(message, time.Hour, "durun: job waits: message approval\\x1b (Ctrl-C leaves it there, to be resumed)\n")
		after(message, time.Hour, "")
		after(call, 2*waitPatience, "durun: job waits: call mail\n")
		after(message, 2*waitPatience, "")
		sleep := &hostabi.Pending{Kind: hostabi.KindTimer, Detail: "sleep", Until: time.Now().Add(waitPause + 63*time.Second)}
		<-time.After(waitPause)
		after(sleep, 2*waitPatience, "durun: job waits: sleep, 60 seconds left\n")
	})
}
