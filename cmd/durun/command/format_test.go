package command

import (
	"testing"
	"time"
)

func TestHumanBytes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		n    uint64
		want string
	}{
		{0, "0 B"},
		{1023, "1023 B"},
		{1024, "1.00 KiB"},
		{10235, "10.0 KiB"},
		{1023 << 10, "1.00 MiB"},
		{26 << 20, "26.0 MiB"},
		{999 << 20, "999 MiB"},
		{3 << 40, "3.00 TiB"},
		{1 << 60, "1048576 TiB"},
	} {
		if got := humanBytes(test.n); got != test.want {
			t.Errorf("humanBytes(%d) = %q, want %q", test.n, got, test.want)
		}
	}
}

func TestHumanTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		after time.Duration
		want  string
	}{
		{0, "less than a second ago"},
		{-time.Second, "1 second ago"},
		{-119 * time.Second, "119 seconds ago"},
		{-2 * time.Minute, "2 minutes ago"},
		{-47 * time.Hour, "47 hours ago"},
		{-48 * time.Hour, "2 days ago"},
		{90 * time.Second, "in 90 seconds"},
	} {
		if got := humanTime(now.Add(test.after), now); got != test.want {
			t.Errorf("%v: %q, want %q", test.after, got, test.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain ß":      "plain ß",
		"\x1b[31mred":  `\x1b[31mred`,
		"two\nlines":   `two\nlines`,
		"not \xff utf": `not \xff utf`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}
