package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// Config is what the command gets from the process it runs in.
type Config struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Drivers opens stores, by the scheme of their URL.
	Drivers map[string]bucket.Opener
	// Patience is how long work on a module may take before a line on a standard error that is no terminal says so;
	// 0 stands for 2 s.
	Patience time.Duration
}

// Main runs the command with args, the command line without the program's name, and returns the exit code. It returns
// early after a second signal, or when a command doesn't stop in time after the first; the process should end then.
func Main(config Config, args []string) int {
	a := &app{Config: config}
	ctx, again, stop := listen(context.Background(), a.committing)
	defer stop()
	done := make(chan int, 1)
	go func() { done <- a.execute(ctx, newRoot(a), args) }()
	select {
	case code := <-done:
		return code
	case <-again:
	}
	if !a.end() {
		return <-done
	}
	a.clearProgress()
	_ = a.release() // which the command notices, and would report
	return a.report(a.interrupted(context.Cause(ctx)))
}

// app is what the commands share: the process's streams, the flags that all of them have, and what is being driven.
type app struct {
	Config
	storeURL string
	keyFile  string
	sync     syncFlag

	ended atomic.Bool // see end

	mu       sync.Mutex
	driving  position
	lease    *snapshot.Lease // of what is being driven, nil for none
	progress *progress       // the last one begun, nil for none
}

// position is the coroutine being driven, and its last commit.
type position struct {
	id  string // empty for none
	seq uint64 // 0 before the first commit
	try uint64 // the commit that is being made, or was tried in vain; seq or less for none
}

func (a *app) setDriving(p position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.driving = p
}

// committing reports whether a commit is being made.
func (a *app) committing() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.driving.try > a.driving.seq
}

func (a *app) setProgress(p *progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.progress = p
}

// clearProgress takes a progress line away, for a message to come.
func (a *app) clearProgress() {
	a.mu.Lock()
	p := a.progress
	a.mu.Unlock()
	if p != nil {
		p.end()
	}
}

// interrupted returns the error that says where a command was stopped by cause.
func (a *app) interrupted(cause error) error {
	a.mu.Lock()
	p := a.driving
	a.mu.Unlock()
	code := a.classify(cause).code
	switch {
	case p.id == "":
		return &exitError{code: code, err: cause}
	case p.seq == 0:
		return &exitError{code: code, err: fmt.Errorf("%w; %s", cause, a.uncommitted(p))}
	}
	return &exitError{
		code:   exitSuspended,
		err:    fmt.Errorf("%w; %s is suspended at commit %d", cause, p.id, p.seq),
		advice: "resume with: " + a.commandLine("resume", p.id),
	}
}

// uncommitted says what there is of a coroutine without a commit that is known.
func (a *app) uncommitted(p position) string {
	if p.try == 0 {
		return fmt.Sprintf("nothing of coroutine %s has been committed", p.id)
	}
	return fmt.Sprintf("the first commit of coroutine %s may have been made: see %s", p.id, a.commandLine("ps"))
}

// commandLine is a durun command on the same store, to be copied by the reader of a message.
func (a *app) commandLine(verb string, args ...string) string {
	words := []string{"durun", verb}
	if a.storeURL != "" && a.storeURL != os.Getenv(storeVariable) {
		words = append(words, "--store", quoted(a.storeURL))
	}
	if a.keyFile != "" && a.keyFile != os.Getenv(keyFileVariable) {
		words = append(words, "--key-file", quoted(a.keyFile))
	}
	return strings.Join(append(words, args...), " ")
}

// quoted is s as a shell takes it for one word.
func quoted(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/.:_-+=@%,", r) || r >= 0x80
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// execute runs root with args and returns the exit code.
func (a *app) execute(ctx context.Context, root *cobra.Command, args []string) (code int) {
	defer func() {
		if r := recover(); r != nil {
			code = a.reportPanic(r, debug.Stack())
		}
	}()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		err = a.interrupted(context.Cause(ctx)) // rather than "context canceled", wherever that was noticed
	}
	if !a.end() {
		return exitOK // of no account: Main is leaving, and says why
	}
	return a.report(err)
}

// end reports whether the caller is the first that is about to report how the command ended: one does.
func (a *app) end() bool { return !a.ended.Swap(true) }

// report prints err and returns the exit code for it.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	e := a.classify(err)
	if e.err == nil {
		return e.code
	}
	fmt.Fprintf(a.Stderr, "durun: %s\n", strings.TrimSpace(e.err.Error()))
	for line := range strings.Lines(e.advice) {
		fmt.Fprintf(a.Stderr, "  %s\n", strings.TrimSuffix(line, "\n"))
	}
	return e.code
}

const bugAdvice = `This is a bug in durun: please report it, with the output of "durun version".` + "\n" +
	"Coroutines are safe: each stays at its last commit."

// captureAdvice is for a program that waits with a reference that no snapshot can hold.
const captureAdvice = "The program has to let go of it before it waits: a caught exception by leaving its handler, or by a\n" +
	"catch that doesn't keep it; a reference to something outside by setting it to null."

func (a *app) reportPanic(value any, stack []byte) int {
	advice := bugAdvice
	if os.Getenv("DURUN_DEBUG") == "" {
		advice += "\nSet DURUN_DEBUG=1 to see the Go stack."
	}
	code := a.report(&exitError{code: exitBug, err: fmt.Errorf("panic: %v", value), advice: advice})
	if os.Getenv("DURUN_DEBUG") != "" {
		_, _ = io.Copy(a.Stderr, bytes.NewReader(stack))
	}
	return code
}

// helpWidth is how many columns help texts take at most.
const helpWidth = 80

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "durun",
		Short: "Run WebAssembly programs as durable coroutines",
		Long: `durun runs WebAssembly programs as durable coroutines: an unmodified program
(CPython, a Go, C or Rust binary) is suspended where it stands each time it
waits, its state is committed to a store, and it goes on from there, in another
process or on another machine.

Coroutines live in a store: a folder, or a bucket in S3 or a service like it,
s3://BUCKET/PREFIX?endpoint=URL&region=NAME, with credentials from where the AWS
tools have them (AWS_ACCESS_KEY_ID and so on, AWS_PROFILE, ~/.aws). Without
--store or DURUN_STORE it is a folder of the user's, under the XDG data
directory. "run" and "import" make a folder that isn't there; to the others it
is an error. --key-file, DURUN_KEY_FILE or DURUN_KEY give keys to encrypt it
under; see "durun help key". Wherever a command takes an ID, a prefix will do if
only one id begins with it; "rm" takes whole ids.

` + exitCodesHelp,
		Example: `  durun run --id p python.wasm -c 'import time; time.sleep(60); print("up")'
  ^C
  durun ps
  durun resume p`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		SilenceErrors:         true,
		SilenceUsage:          true,
		Version:               buildVersion().Version,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			cmd.SetOut(a.Stderr)
			_ = cmd.Help()
			return exitStatus(exitUsage)
		},
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "Flags.FlagUsages", fmt.Sprintf("Flags.FlagUsagesWrapped %d", helpWidth)))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{code: exitUsage, err: flagError(err), advice: seeHelp(cmd)}
	})
	root.PersistentFlags().StringVar(&a.storeURL, "store", "", "`URL` or folder of the store (default: $"+storeVariable+", else a folder of the user's)")
	_ = root.RegisterFlagCompletionFunc("store", completeFolders)
	root.PersistentFlags().StringVar(&a.keyFile, "key-file", "", "`file` of the keys that the store is encrypted under (default: $"+keyFileVariable+", else $"+keyVariable+", else none)")
	root.SetHelpCommand(newHelpCommand())
	root.PersistentPreRun = beforeCompletion
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"drive", "Drive coroutines:", []*cobra.Command{newRunCommand(a), newResumeCommand(a), newSendCommand(a), newCancelCommand(a)}},
		{"look", "Look at them:", []*cobra.Command{
			newPsCommand(a), newInspectCommand(a), newStackCommand(a), newHistoryCommand(a), newLogsCommand(a), newResultCommand(a),
		}},
		{"move", "Move and remove them:", []*cobra.Command{newExportCommand(a), newImportCommand(a), newRmCommand(a)}},
		{"keep", "Keep house in the store:", []*cobra.Command{newGCCommand(a), newCheckCommand(a), newBaseCommand(a), newKeyCommand(a), newRekeyCommand(a)}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.AddCommand(newInstrumentCommand(a), newDoctorCommand(a), newVersionCommand(a), newCompletionCommand(a))
	return root
}

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		Long:  "Explain a command, as its flag --help does.",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return unknownCommand(cmd.Root(), strings.Join(args, " "))
			case len(rest) > 0:
				return unknownCommand(found, rest[0])
			}
			found.InitDefaultHelpFlag()
			found.InitDefaultVersionFlag()
			return found.Help()
		},
		ValidArgsFunction: completeCommands,
	}
}

// group makes cmd a group of commands, which does nothing by itself.
func (a *app) group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		cmd.SetOut(a.Stderr)
		_ = cmd.Help()
		return exitStatus(exitUsage)
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(commands...)
	return cmd
}

// unknownCommand is for a name that none of parent's commands has.
func unknownCommand(parent *cobra.Command, name string) error {
	advice := seeHelp(parent)
	if s := parent.SuggestionsFor(name); len(s) > 0 {
		path := parent.CommandPath() + " "
		advice = "did you mean: " + path + strings.Join(s, ", "+path) + "\n" + advice
	}
	return &exitError{code: exitUsage, err: fmt.Errorf("unknown command %q", name), advice: advice}
}

// flagError says what is wrong with a flag, and what its value can be. What Go's packages say of numbers is for programmers.
func flagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	name, value := invalid.GetFlag().Name, invalid.GetValue()
	switch invalid.GetFlag().Value.Type() {
	case "duration":
		return fmt.Errorf("--%s %q: give a time with its unit, such as 30s, 5m or 24h", name, value)
	case "int":
		return fmt.Errorf("--%s %q: give a whole number", name, value)
	case "bool":
		return fmt.Errorf("--%s=%s: give true or false", name, value)
	}
	return fmt.Errorf("--%s: %w", name, invalid.Unwrap())
}

func seeHelp(cmd *cobra.Command) string { return "see: " + cmd.CommandPath() + " --help" }

// arguments returns a validator for a command that takes at least min and at most max arguments, max < 0 for any number.
// what names them.
func arguments(min, max int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		name := strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
		switch {
		case len(args) < min:
			return &exitError{code: exitUsage, err: fmt.Errorf("%s: %s is missing", name, what), advice: seeHelp(cmd)}
		case max >= 0 && len(args) > max:
			return &exitError{code: exitUsage, err: fmt.Errorf("%s: unexpected argument %q", name, args[max]), advice: seeHelp(cmd)}
		}
		return nil
	}
}

// addFormatFlag gives a command -o json|text.
func addFormatFlag(cmd *cobra.Command, f *format) {
	*f = formatText
	cmd.Flags().VarP(f, "output", "o", "output `format`: text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "text"}, cobra.ShellCompDirectiveNoFileComp))
}
