package command

import (
	"bufio"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/durun/durun/snapshot"
)

func TestMessageLines(t *testing.T) {
	long := strings.Repeat("long ", 10_000)
	for text, want := range map[string][]string{
		"":                  nil,
		"a":                 {"a\n"},
		"a\n":               {"a\n"},
		"a\n\nb":            {"a\n", "\n", "b\n"},
		long + "\r\n" + "b": {long + "\r\n", "b\n"},
	} {
		in := messageInput{name: "x", r: bufio.NewReader(strings.NewReader(text))}
		var got []string
		err := in.lines(func(number int, line []byte) error {
			if got = append(got, string(line)); number != len(got) {
				t.Errorf("%.10q: line %d is number %d", text, len(got), number)
			}
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%.10q: %d lines, %v", text, len(got), err)
		}
	}

	in := messageInput{name: "x", r: bufio.NewReader(strings.NewReader("a\nb\nc\n"))}
	stop, calls := errors.New("stop"), 0
	err := in.lines(func(int, []byte) error {
		if calls++; calls == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}

	in.r = bufio.NewReader(strings.NewReader("a\n" + strings.Repeat("x", snapshot.MaxMessageData+1)))
	err = in.lines(func(int, []byte) error { return nil })
	if err == nil || new(app).classify(err).code != exitUsage || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a line that is too long: %v", err)
	}
}
