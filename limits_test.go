package durun_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
)

// TestLimits holds the table of limits in docs/questions.md to the constants.
func TestLimits(t *testing.T) {
	text, err := os.ReadFile("docs/questions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Limits\n")
	limits := []struct {
		what string
		most string
	}{
		{"linear memory of a program", binary(snapshot.MaxMemory)},
		{"tables of a program, elements", decimal(snapshot.MaxElements)},
		{"frames of a call stack", decimal(snapshot.MaxFrames)},
		{"a module", binary(snapshot.MaxModule)},
		{"files in `--volume`, all of a coroutine", binary(wasi.MaxVolumes)},
		{"output between two commits", binary(runtime.MaxOutput)},
		{"operations that are not dropped", decimal(hostabi.MaxOperations)},
		{"a body, result or message", binary(min(hostabi.MaxPayload, snapshot.MaxMessageData))},
		{"names, bodies and results of a coroutine together", binary(hostabi.MaxPayloads)},
		{"a name of a handler or message, bytes", decimal(min(hostabi.MaxName, snapshot.MaxMessageName))},
		{"a message's key, bytes", decimal(snapshot.MaxMessageKey)},
		{"a coroutine's id, characters", decimal(snapshot.MaxID)},
		{"how long `Retry-After` is heeded, hours", decimal(int(handler.MaxRetryAfter / time.Hour))},
		{"objects that a restore reads", decimal(1 + 1 + snapshot.MaxDeltas)}, // the root and the anchor
	}
	for _, l := range limits {
		if row := fmt.Sprintf("| %s | %s |\n", l.what, l.most); !strings.Contains(table, row) {
			t.Errorf("docs/questions.md lacks the row %s", row)
		}
	}
	if rows := strings.Count(table, "\n|"); rows != len(limits)+2 {
		t.Errorf("docs/questions.md has %d limits, this test %d", rows-2, len(limits))
	}
}

// TestNumbers holds sentences of the documents that have a number in them to the constants.
func TestNumbers(t *testing.T) {
	documents := documents(t)
	for _, c := range []struct{ document, says string }{
		{"snapshot/FORMAT.md", fmt.Sprintf("# The snapshot format, version %d\n", snapshot.Version)},
		{"snapshot/FORMAT.md", fmt.Sprintf("(1 to %s)", decimal(snapshot.MaxFrames))},
		{"snapshot/FORMAT.md", fmt.Sprintf("all slots (at most %s)", decimal(snapshot.MaxSlots))},
		{"snapshot/FORMAT.md", fmt.Sprintf("have at most %s elements", decimal(snapshot.MaxElements))},
		{"snapshot/FORMAT.md", fmt.Sprintf("At most %s stretches", decimal(snapshot.MaxStretches))},
		{"snapshot/FORMAT.md", fmt.Sprintf("at least N − %d", snapshot.MaxChain)},
		{"snapshot/FORMAT.md", fmt.Sprintf("ttl_ms of %s", milliseconds(snapshot.DefaultLease))},
		{"snapshot/FORMAT.md", fmt.Sprintf("%s to %s |", milliseconds(snapshot.MinLease), milliseconds(snapshot.MaxLease))},
		{"hostabi/ABI.md", fmt.Sprintf("This is version %d.", hostabi.ABIVersion)},
		{"hostabi/ABI.md", fmt.Sprintf("too many operations (%s)", decimal(hostabi.MaxOperations))},
		{"hostabi/ABI.md", fmt.Sprintf("may have %s, all", binary(hostabi.MaxPayload))},
		{"hostabi/ABI.md", fmt.Sprintf("of a coroutine together %s", binary(hostabi.MaxPayloads))},
		{"hostabi/ABI.md", fmt.Sprintf("at most %d bytes long", hostabi.MaxName)},
		{"hostabi/ABI.md", fmt.Sprintf("at most %d KiB", hostabi.MaxSpawnName>>10)},
		{"hostabi/wasi/WASI.md", fmt.Sprintf("can have %s", binary(wasi.MaxVolumes))},
		{"README.md", fmt.Sprintf("up to %s to its standard streams", binary(runtime.MaxOutput))},
		{"README.md", fmt.Sprintf("renews it every %d seconds", snapshot.DefaultLease/3/time.Second)},
		{"README.md", fmt.Sprintf("at most %d.", 1+1+snapshot.MaxDeltas)},
	} {
		if text := strings.Join(strings.Fields(documents[c.document]), " "); !strings.Contains(text, strings.TrimSpace(c.says)) {
			t.Errorf("%s doesn't say %q", c.document, c.says)
		}
	}
}

// binary writes a number of bytes in the unit that fits.
func binary(n int64) string {
	if n%(1<<30) == 0 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// decimal writes a number with commas.
func decimal(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", decimal(n/1000), n%1000)
}

func milliseconds(d time.Duration) string { return decimal(int(d.Milliseconds())) }
