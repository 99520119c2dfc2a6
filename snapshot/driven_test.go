package snapshot

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket/file"
)

// TestLockNote drives in a folder, whose locks have notes: others see who it is, and that the program computes.
func TestLockNote(t *testing.T) {
	b, err := file.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := storeWith(t, b, "p", 3)
	holder := func() (Holder, bool) {
		t.Helper()
		driven, err := s.Driven(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return driven("p")
	}
	if h, is := holder(); is || h != (Holder{}) {
		t.Errorf("driven by nobody: %+v", h)
	}
	l, err := s.Acquire(t.Context(), "p", LeaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if h, is := holder(); !is || h.PID != os.Getpid() || !h.Since.Equal(l.Holder().Since) || h.TTL != 0 || !h.Computing.IsZero() {
		t.Errorf("driven: %+v, %v", h, is)
	}
	var driven *DrivenError
	if _, err := s.Acquire(t.Context(), "p", LeaseOptions{}); !errors.As(err, &driven) || driven.Holder.PID != os.Getpid() {
		t.Errorf("a second driver: %v", err)
	}
	since := time.Now().Truncate(time.Millisecond)
	l.Computing(since, 3)
	if h, _ := holder(); !h.Computing.Equal(since) || h.After != 3 || h.PID != os.Getpid() {
		t.Errorf("driven, and computing: %+v", h)
	}

	// What can't be read, and what one has left that died, says nothing.
	dead := newHolder()
	dead.PID = 1 << 29
	for name, note := range map[string]string{"nonsense": "{", "nothing": "", "of one that died": string(dead.encode())} {
		if err := b.SetNote(leasesPrefix+"p", []byte(note)); err != nil {
			t.Fatal(err)
		}
		h, is := holder()
		if name == "of one that died" && self().Start == "" {
			continue // this system doesn't tell processes apart
		}
		if !is || h.PID != 0 || !h.Computing.IsZero() {
			t.Errorf("%s: %+v, %v", name, h, is)
		}
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	l.Computing(since, 3) // too late: nobody is told
	if h, is := holder(); is || h != (Holder{}) {
		t.Errorf("after release: %+v, %v", h, is)
	}
	again, err := s.Acquire(t.Context(), "p", LeaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	l.Computing(since, 3) // nor is it taken for the next one's
	if h, is := holder(); !is || !h.Computing.IsZero() {
		t.Errorf("driven again: %+v, %v", h, is)
	}
}
