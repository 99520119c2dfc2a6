package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// report is what this command found.
type report struct {
	Machine machine   `json:"machine"`
	Rounds  int       `json:"rounds"`
	Rows    []row     `json:"rows"`
	LeftOut []leftOut `json:"left_out"`
}

type machine struct {
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	CPU        string `json:"cpu"` // empty if not known
	Processors int    `json:"processors"`
	Go         string `json:"go"`
	Wazero     string `json:"wazero"`
	Binaryen   string `json:"binaryen"` // empty for none
}

// leftOut is what could not be measured.
type leftOut struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
}

// row is one thing that was measured.
type row struct {
	Group        string  `json:"group"`
	Name         string  `json:"name"`
	Unit         string  `json:"unit"`                    // of Durun and Asyncify
	PlainSeconds *figure `json:"plain_seconds,omitempty"` // CPU time on plain wazero, where Unit is a ratio to that
	Durun        *figure `json:"durun,omitempty"`
	Asyncify     *figure `json:"asyncify,omitempty"`
	After        []after `json:"after,omitempty"` // of durun, in place of Durun: what might grow
}

// after is a value after so many commits.
type after struct {
	Commits int     `json:"commits"`
	Value   float64 `json:"value"`
}

const (
	unitRatio        = "ratio" // to plain wazero; 1.05 is 5 % more
	unitSeconds      = "s"
	unitMegabytes    = "MB"
	unitMicroseconds = "µs"
	unitTimes        = "times"
	unitPerSecond    = "/s"
	unitMilliseconds = "ms"
	unitBytes        = "B"
	unitKilobytes    = "kB"
	unitKibibytes    = "KiB"
	unitMebibytes    = "MiB"
	unitCount        = "" // of things

	meanName = "geometric mean"
)

func (r *row) set(v variant, f *figure) {
	switch v {
	case durun:
		r.Durun = f
	case asyncify:
		r.Asyncify = f
	}
}

func (r *row) get(v variant) *figure {
	switch v {
	case durun:
		return r.Durun
	case asyncify:
		return r.Asyncify
	}
	return nil
}

// longName is the name, with what the values are after.
func (r *row) longName() string {
	if len(r.After) == 0 {
		return r.Name
	}
	counts := make([]string, len(r.After))
	for i, a := range r.After {
		counts[i] = strconv.Itoa(a.Commits)
	}
	return fmt.Sprintf("%s, after %s commits", r.Name, strings.Join(counts, ", "))
}

// values are those of After.
func (r *row) values() string {
	values := make([]string, len(r.After))
	for i, a := range r.After {
		values[i] = number(a.Value, r.Unit)
	}
	return strings.Join(values, ", ")
}

// figure is the median of some runs, with the quartiles.
type figure struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Runs   int     `json:"runs"`
}

func summarise(values []float64) *figure {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return &figure{Median: median(s), Low: s[n/4], High: s[n-1-n/4], Runs: n}
}

// median is that of sorted values.
func median(s []float64) float64 {
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// number prints a value of a unit. Ratios have none.
func number(v float64, unit string) string {
	switch {
	case unit == unitCount:
		return fmt.Sprintf("%.0f", v)
	case unit == unitRatio && v < 10:
		return fmt.Sprintf("%.2f", v)
	case unit == unitRatio:
		return fmt.Sprintf("%.0f", v)
	case (unit == unitSeconds || unit == unitTimes || unit == unitMebibytes) && v < 10:
		return fmt.Sprintf("%.2f %s", v, unit)
	case v < 10:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

func describeMachine() machine {
	m := machine{
		OS: goruntime.GOOS, Arch: goruntime.GOARCH, CPU: processorName(),
		Processors: goruntime.GOMAXPROCS(0), Go: goruntime.Version(),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/tetratelabs/wazero" {
				m.Wazero = strings.TrimPrefix(d.Version, "v")
			}
		}
	}
	return m
}

// processorName is what Linux says of the processor, empty elsewhere.
func processorName() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if name, value, _ := strings.Cut(s.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// String says what the figures are from.
func (r *report) String() string {
	m := r.Machine
	parts := []string{
		fmt.Sprintf("%s/%s, %d processors (%s)", m.OS, m.Arch, m.Processors, cmp.Or(m.CPU, "of a kind not known")),
		m.Go, "wazero " + m.Wazero,
	}
	if m.Binaryen != "" {
		parts = append(parts, m.Binaryen)
	}
	return strings.Join(parts, ", ")
}

func writeJSON(w io.Writer, r *report) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeText prints a table for people, with a line for each figure.
func writeText(w io.Writer, r *report) error {
	cell := func(f *figure, unit string) string {
		switch {
		case f == nil:
			return "-"
		case f.Low == f.High:
			return number(f.Median, unit)
		}
		return fmt.Sprintf("%s (%s to %s)", number(f.Median, unit), number(f.Low, unit), number(f.High, unit))
	}
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tPLAIN WAZERO\tDURUN\tASYNCIFY")
	group := ""
	for _, row := range r.Rows {
		if row.Group != group {
			group = row.Group
			fmt.Fprintf(t, "%s\t\t\t\n", group)
		}
		base := "-"
		if row.PlainSeconds != nil {
			base = fmt.Sprintf("%.2f s", row.PlainSeconds.Median)
		}
		if len(row.After) > 0 {
			fmt.Fprintf(t, "  %s\t%s\t%s\t-\n", row.longName(), base, row.values())
			continue
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", row.Name, base, cell(row.Durun, row.Unit), cell(row.Asyncify, row.Unit))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\nMedians of %d rounds or more, with quartiles; without a unit they are ratios to plain wazero. Times are CPU time; those of commits and restores are by the clock.\n%s.\n", r.Rounds, r)
	for _, l := range r.LeftOut {
		fmt.Fprintf(&b, "Left out: %s: %s.\n", l.What, l.Reason)
	}
	_, err := w.Write(trailingSpace.ReplaceAll(b.Bytes(), nil))
	return err
}

// trailingSpace is what tabwriter leaves behind the last cell of a line.
var trailingSpace = regexp.MustCompile(`(?m) +$`)

// writeMarkdown prints a table with a line for each group that has a mean, and for each other figure.
func writeMarkdown(w io.Writer, r *report) error {
	var b bytes.Buffer
	fmt.Fprintln(&b, "| what | durun | Binaryen's asyncify |\n| --- | --- | --- |")
	for rows := r.Rows; len(rows) > 0; {
		n := 1
		for n < len(rows) && rows[n].Group == rows[0].Group {
			n++
		}
		group, last := rows[:n], rows[n-1]
		rows = rows[n:]
		if last.Name != meanName {
			for _, row := range group {
				cell := plainCell(row.Durun, row.Unit)
				if len(row.After) > 0 {
					cell = row.values()
				}
				fmt.Fprintf(&b, "| %s: %s | %s | %s |\n", row.Group, row.longName(), cell, plainCell(row.Asyncify, row.Unit))
			}
			continue
		}
		var names []string
		var parts [numVariants][]string
		for _, row := range group[:n-1] {
			names = append(names, row.Name)
			for v := durun; v < numVariants; v++ {
				parts[v] = append(parts[v], plainCell(row.get(v), row.Unit))
			}
		}
		fmt.Fprintf(&b, "| %s: %s of %s |", last.Group, meanName, strings.Join(names, ", "))
		for v := durun; v < numVariants; v++ {
			text := plainCell(last.get(v), last.Unit)
			if last.get(v) != nil {
				text += " (" + strings.Join(parts[v], ", ") + ")"
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		fmt.Fprintln(&b)
	}
	fmt.Fprintf(&b, "\nMedians of %d rounds or more, of CPU time (of commits and restores, by the clock), on %s.\n", r.Rounds, r)
	for _, l := range r.LeftOut {
		fmt.Fprintf(&b, "Left out: %s: %s.\n", l.What, l.Reason)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// plainCell is a figure without its spread.
func plainCell(f *figure, unit string) string {
	if f == nil {
		return "-"
	}
	return number(f.Median, unit)
}
