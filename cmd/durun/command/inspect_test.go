package command

import (
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/snapshot"
)

// TestInspectDelta tells what a delta needs.
func TestInspectDelta(t *testing.T) {
	m := snapshot.Manifest{
		Kind: snapshot.KindDelta, Coroutine: "c", Seq: 9, Parent: &snapshot.Parent{Seq: 8}, Time: time.Unix(1, 0), Status: snapshot.Suspended,
		Await: &snapshot.Await{Kind: "timer"}, MemorySize: snapshot.WasmPageSize, Pages: 3,
		Origin: &snapshot.Origin{Root: snapshot.Ref{Name: "py"}, RootBytes: 5000, Anchor: 7},
	}
	s := &snapshot.Snapshot{Memory: snapshot.Memory{Size: m.MemorySize}, Await: m.Await, Parent: m.Parent}
	for anchor, want := range map[uint64]string{
		7: "against commit 8; 4 objects, from base py on",
		9: "against base py; 2 objects, from base py on",
	} {
		m.Origin.Anchor = anchor
		var b strings.Builder
		if err := writeFacts(&b, gatherFacts(s, snapshot.Commit{Manifest: m, Bytes: 600}, false), time.Unix(2, 0)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{want, "9, delta, 600 B", "3 pages of 4 KiB in the commit"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q is missing in\n%s", want, b.String())
			}
		}
	}
}
