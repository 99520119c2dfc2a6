package runtime

import (
	"fmt"
	"testing"

	"github.com/durun/durun/snapshot"
)

// TestReceipts remembers what was received of late, whoever has made its key: a request to send may be repeated that was done.
func TestReceipts(t *testing.T) {
	for _, key := range []string{"a key of the sender's", snapshot.NewMessageKey()} {
		var r receipts
		if r.has(key) {
			t.Errorf("%s: received before it came", key)
		}
		r.add(key)
		if !r.has(key) {
			t.Errorf("%s: not received", key)
		}
		r.deleted([]string{key})
		if !r.has(key) || len(r.undeleted) > 0 {
			t.Errorf("%s: forgotten with its deletion from the inbox", key)
		}
		for i := range maxReceipts {
			other := fmt.Sprint(i)
			r.add(other)
			r.deleted([]string{other})
			if had := i < maxReceipts-1; r.has(key) != had || !r.has(other) {
				t.Fatalf("%s: after %d others it is remembered: %v", key, i+1, r.has(key))
			}
		}
	}
}
