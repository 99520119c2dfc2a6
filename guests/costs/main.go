// Command costs prints what it costs that a program can be suspended; `make bench` runs it, in the root of the repository.
// It runs programs on plain wazero, under durun, and, where wasm-opt is installed, with the asyncify of Binaryen, and
// prints ratios. Then it has guests commit: it prints what commits and restores take, in time, memory and bytes.
//
// Each run is a process of its own, the variants take turns, a ratio is of the two runs of one turn, and the median over all
// turns is printed. Times are CPU time, of guests too, so that what else the machine does shows less.
//
// With Go alone, CPython and asyncify are left out, and it says so.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/durun/durun/guests"
)

func main() {
	var err error
	if os.Getenv(childVariable) != "" {
		err = runVerb(os.Args[1:])
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "costs:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("costs", flag.ContinueOnError)
	flags.SetOutput(stderr)
	rounds := flags.Int("rounds", 7, "how many `times` each program is run in each variant")
	only := flags.String("only", "", "measure one `part`: programs (what it costs that they can be suspended), commits (and what becomes of them) or operations (of many coroutines)")
	short := flags.Bool("short", false, "a smoke test: one round, of the small programs only, without asyncify")
	output := flags.String("o", "text", "`format`: text or json")
	markdown := flags.Bool("md", false, "print a table in Markdown, as the README has it")
	from := flags.String("from", "", "print what an earlier run wrote to `file` with -o json, and measure nothing")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *short {
		*rounds = 1
	}
	if *rounds < 1 || flags.NArg() > 0 || (*output != "text" && *output != "json") ||
		!slices.Contains([]string{"", onlyPrograms, onlyCommits, onlyOperations}, *only) {
		flags.Usage()
		return fmt.Errorf("unknown or impossible arguments: %q", args)
	}
	var r *report
	var err error
	if *from != "" {
		r, err = readReport(*from)
	} else {
		r, err = measure(ctx, *rounds, *short, *only, stderr)
	}
	switch {
	case err != nil:
		return err
	case *markdown:
		return writeMarkdown(stdout, r)
	case *output == "json":
		return writeJSON(stdout, r)
	}
	return writeText(stdout, r)
}

func measure(ctx context.Context, rounds int, short bool, only string, log io.Writer) (*report, error) {
	b, err := newBench(ctx, rounds, short, log)
	if err != nil {
		return nil, err
	}
	defer b.close()
	b.only = only
	return b.measureAll()
}

func readReport(path string) (*report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	return &r, nil
}

// The parts of a run.
const (
	onlyPrograms   = "programs"
	onlyCommits    = "commits"
	onlyOperations = "operations"
)

// bench is one run of this command.
type bench struct {
	ctx    context.Context
	rounds int
	short  bool
	only   string    // one of the parts, empty for all
	log    io.Writer // progress
	began  time.Time
	tmp    string // compiled code, which no earlier run should have made, and what else is in files
	kept   string // the user's cache
	report *report
}

func newBench(ctx context.Context, rounds int, short bool, log io.Writer) (*bench, error) {
	kept, err := guests.CacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "durun-costs-")
	if err != nil {
		return nil, err
	}
	return &bench{
		ctx: ctx, rounds: rounds, short: short, log: log, began: time.Now(), tmp: tmp, kept: kept,
		report: &report{Machine: describeMachine(), Rounds: rounds, LeftOut: []leftOut{}, Rows: []row{}},
	}, nil
}

func (b *bench) close() { _ = os.RemoveAll(b.tmp) }

// progress says what is being done.
func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.log, "%4.0f s  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// leaveOut notes that something can't be measured here, and why.
func (b *bench) leaveOut(what string, why error) {
	b.progress("left out: %s: %v", what, why)
	b.report.LeftOut = append(b.report.LeftOut, leftOut{what, why.Error()})
}

func (b *bench) measureAll() (*report, error) {
	if b.only == "" || b.only == onlyPrograms {
		if err := b.measurePrograms(); err != nil {
			return nil, err
		}
	}
	if b.only == "" || b.only == onlyCommits {
		if err := b.measureAllCommits(); err != nil {
			return nil, fmt.Errorf("commits: %w", err)
		}
	}
	if b.only == "" || b.only == onlyOperations {
		if err := b.measureOperations(); err != nil {
			return nil, fmt.Errorf("operations: %w", err)
		}
	}
	return b.report, nil
}

// measurePrograms measures what it costs that programs can be suspended.
func (b *bench) measurePrograms() error {
	binaryen, err := b.findBinaryen()
	if err != nil {
		b.leaveOut("asyncify", err)
	}
	for _, p := range programs {
		if b.short && !p.small {
			b.leaveOut(p.name, errShort)
			continue
		}
		path, err := p.find(b)
		if err != nil {
			b.leaveOut(p.name, err)
			continue
		}
		a, err := b.asyncified(p, path, binaryen)
		if err != nil {
			return err
		}
		if err := b.measureProgram(p, path, a); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if !p.whole {
			continue
		}
		if err := b.measureTransform(p.name, path, a); err != nil {
			return fmt.Errorf("transform of %s: %w", p.name, err)
		}
		if err := b.measureAwaits(p.name, path, p.sleeper); err != nil {
			return fmt.Errorf("awaits of %s: %w", p.name, err)
		}
		if err := b.measureRebuild(p.name); err != nil {
			return err
		}
	}
	return nil
}

// measureAllCommits measures what commits cost, and what has been committed.
func (b *bench) measureAllCommits() error {
	for _, p := range programs {
		if !p.whole {
			continue
		}
		if b.short {
			b.leaveOut("commits of "+p.name, errShort)
			continue
		}
		path, err := p.find(b)
		if err != nil {
			b.leaveOut("commits of "+p.name, err)
			continue
		}
		if err := errors.Join(b.measureCommits(p.name, path, p.steps), b.measureTogether(p.name, path, p.steps)); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if err := b.measureCycle(); err != nil {
		return err
	}
	if err := b.measureSmallGuests(); err != nil {
		return err
	}
	if err := b.measureStore(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// artefact returns the path of a file among the temporary ones.
func (b *bench) artefact(name string) string { return filepath.Join(b.tmp, name) }
