package command

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
)

// TestEachInterrupted stops a command that works on several coroutines, just when it is done with one of them.
func TestEachInterrupted(t *testing.T) {
	a := &app{Config: Config{Stderr: io.Discard}}
	for stopAt, want := range []int{exitInterrupted, exitInterrupted, exitOK} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var done []string
		ids := []string{"a", "b", "c"}
		err := a.each(ctx, ids, func(id string) error {
			if done = append(done, id); len(done) > stopAt {
				cancel(&interruptError{os.Interrupt})
			}
			return nil
		})
		var stopped *interruptError
		code := exitOK
		if errors.As(err, &stopped) {
			code = stopped.exitCode()
		}
		if code != want || !slices.Equal(done, ids[:stopAt+1]) {
			t.Errorf("stopped after %v: %v", done, err)
		}
	}
}
