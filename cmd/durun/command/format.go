package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// format is how a command prints what it found: a flag's value.
type format string

const (
	formatText format = "text"
	formatJSON format = "json"
)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }

func (f *format) Set(s string) error {
	switch v := format(s); v {
	case formatText, formatJSON:
		*f = v
		return nil
	}
	return fmt.Errorf("%q is neither text nor json", s)
}

// writeJSON prints v, indented.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// writeTable prints rows, the first of which is the header, in columns. Cells should have no line breaks.
func writeTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// humanBytes prints a size in binary units, to three digits.
func humanBytes(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f /= 1024; f < 999.5 || unit == "TiB" {
			switch {
			case f < 9.995:
				return fmt.Sprintf("%.2f %s", f, unit)
			case f < 99.95:
				return fmt.Sprintf("%.1f %s", f, unit)
			}
			return fmt.Sprintf("%.0f %s", f, unit)
		}
	}
	panic("unreachable")
}

// humanDuration prints a length of time in one unit, for tables: "3 minutes".
func humanDuration(d time.Duration) string {
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}} {
		if n := d / u.size; n >= 2 || n == 1 && u.size == time.Second {
			if n == 1 {
				return "1 " + u.name
			}
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return "less than a second"
}

// moment is a time of which nothing may be known: then it is zero here, null as JSON, and "-" in a table.
type moment struct{ time.Time }

func (m moment) MarshalJSON() ([]byte, error) {
	if m.IsZero() {
		return []byte("null"), nil
	}
	return m.Time.MarshalJSON()
}

// text is the local time in a layout of package time.
func (m moment) text(layout string) string {
	if m.IsZero() {
		return "-"
	}
	return m.Local().Format(layout)
}

// humanTime prints a moment relative to now.
func humanTime(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if d := t.Sub(now); d > 0 {
		return "in " + humanDuration(d)
	}
	return humanDuration(now.Sub(t)) + " ago"
}

// printable makes a string that came from a guest or a file fit for a terminal: control characters are escaped.
func printable(s string) string {
	clean := func(r rune) bool { return r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd }
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	q := fmt.Sprintf("%q", s)
	return q[1 : len(q)-1]
}

// cell is printable with a placeholder for nothing.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}
