package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

type runOptions struct {
	driveFlags
	outsideFlags
	limitFlags
	id      string
	named   bool // --id is given
	detach  bool
	dirs    []string
	volumes []string
	stdin   string
	env     []string
	entry   string
	input   string
	base    string
	noCache bool
	format  format
}

func newRunCommand(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] MODULE [ARGS...]",
		Short: "Start a coroutine and drive it",
		Long: `Start a WebAssembly program as a coroutine, and drive it in the foreground.
MODULE is a .wasm file, as its compiler made it; all that follows it goes to the
program, flags too.

Each time the program waits (sleeps, reads standard input, yields) its state is
committed to the store. So it can be stopped at any moment, by Ctrl-C or by kill
-9, and "durun resume" goes on from the last commit. The store keeps the module:
the file is not needed any more.

The program's standard output and error are durun's; "durun logs" has them too,
each line once, however often the coroutine was resumed. A value that the
program yields is printed as a line on standard output, and the program goes on.

The exit code is the program's own; see "durun --help" for the others. A program
that traps has exit code 134.

With -d, durun returns when the program first waits, and prints the coroutine's
id; what the program writes is then in "durun logs" only. If the program ends
without waiting, its exit code is the command's with -d too. With -o json, what
-d prints is an object with the keys of "durun ps".

` + syncHelp + `

With --base NAME the coroutine starts from a shared base: the program at its
first wait, with all that it has loaded and prepared until then. The first run
makes the base; later ones, of the same module, arguments and environment, start
where it stands, at once, and their commits hold only what differs from it. What
differs between the coroutines comes in at that wait or later, on standard input
or by --input, which a base that waits in durun.yield does not take. Random
numbers that the program has drawn before are the same in all of them. See
"durun base --help".

With --max-memory and --max-cpu the program has limits, in this run and whenever
it is resumed from this store; so has each of its children. Memory beyond the
limit it does not get, as if there were none left. Once it has computed for as
long as it may, in all its runs together, it fails with exit code 134; the time
in which it waits does not count.

With --volume the program has a folder of its own that is part of the snapshot:
what is in it comes back with the program, wherever it is resumed, as it was at
that commit. It can hold SIZE bytes, all volumes together 256 MiB; each commit
has what was changed in it. "durun resume" needs no --volume. The program's
children have volumes of their own in the same places, empty at first.

With --stdin messages what the program reads on standard input are the messages
that "durun send ID stdin DATA" leaves, one after the other; an empty one is the
end. So the program waits for input without somebody who holds a pipe. They are
read as they are: a line needs its line feed, which "durun send --line ID stdin
yes" gives it.

With --checkpoint-interval not each wait for a time is committed, but one in
that time. A crash then loses up to that much of the program's work, which is
done again from the last commit: it may write again to files and to those who
watch. What it reads and yields is never lost: each such wait is committed as
ever.

With --keep or --keep-for old commits are dropped while the program runs; with
both, those that neither keeps. The last stays, and those that another one
builds on. Output is never dropped. What can't be dropped stays, and the program
goes on.

` + handlersHelp + `

Children that the program starts are coroutines, with the program's id, a dot
and a number as theirs. They are driven beside it, with what it was given, and
what they write is in "durun logs" only. When the program ends, those that have
not are asked to, and waited for. "durun ps --tree" shows who is whose.

--module NAME=FILE gives a module that the program can start children from, as
module:NAME. All that a run is given outside is recorded in the store, and given
again by "durun resume".

The first run of a big module takes seconds, to prepare it. Later ones find it
in a cache, under the XDG cache directory or in DURUN_CACHE (empty for none). It
is kept below 2 GiB, or below DURUN_CACHE_SIZE, such as 500MiB (0 for no limit):
what was used least recently goes.`,
		Example: `  durun run hello.wasm
  durun run --id job --dir ./data:/data:ro python.wasm /data/job.py --fast
  durun run -d --env TOKEN --input @request.json serve.wasm
  durun run --handler mail=https://mail.example --limit mail=rate=50/s app.wasm
  echo Ada | durun run --base greeter python.wasm -c 'import re; print(input())'`,
		Args: arguments(1, -1, "MODULE, the path of a .wasm file,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.named = cmd.Flags().Changed("id")
			return runRun(cmd.Context(), a, o, args[0], args[1:])
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"wasm"}, cobra.ShellCompDirectiveFilterFileExt
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows MODULE is the guest's
	f.StringVar(&o.id, "id", "", "the coroutine's `id` (default: a random one)")
	f.BoolVarP(&o.detach, "detach", "d", false, "return when the program first waits, and print the id")
	f.StringArrayVar(&o.dirs, "dir", nil, "let the program see a folder: `HOST[:GUEST][:ro]`; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("dir", completeFolders)
	f.StringArrayVar(&o.volumes, "volume", nil, "give the program an empty folder that lives in the snapshot: `GUEST[:SIZE]`, such as /tmp:1MiB (default SIZE: "+humanBytes(wasi.DefaultVolumeLimit)+"); may be repeated")
	f.StringVar(&o.stdin, "stdin", stdinHere, "`where` standard input comes from: here, or messages, as \"durun send ID stdin\" sends them")
	_ = cmd.RegisterFlagCompletionFunc("stdin", cobra.FixedCompletions([]string{stdinHere, stdinMessages}, cobra.ShellCompDirectiveNoFileComp))
	f.StringArrayVar(&o.env, "env", nil, "set an environment variable: `NAME=VALUE`, or NAME for the value it has here; may be repeated")
	f.StringVar(&o.entry, "entry", "", "the `export` to call (default: _start, else main)")
	f.StringVar(&o.input, "input", "", "what the program reads with durun.input: a `string`, or @FILE")
	f.Var(&a.sync, "sync", syncUsage)
	f.Lookup("sync").NoOptDefVal = "true"
	f.StringVar(&o.base, "base", "", "start from the shared base of this `name`; make it first, at the program's first wait, if there is none")
	_ = cmd.RegisterFlagCompletionFunc("base", completeBases(a))
	f.BoolVar(&o.noCache, "no-cache", false, "neither read nor write the cache of prepared modules")
	o.driveFlags.add(cmd)
	o.outsideFlags.add(a, cmd)
	o.limitFlags.add(cmd)
	addFormatFlag(cmd, &o.format)
	cmd.Flags().Lookup("output").Usage = "`format` of what -d prints: text or json"
	return cmd
}

// program is what run starts, and what a base is made of.
type program struct {
	name   string // the module's file name
	file   *moduleFile
	module *runtime.Module // once it is compiled
	entry  string
	args   []string // with the program's name
	env    []string
	input  []byte // not the base's
	grants []snapshot.Grant
	given  *outside
	limits runtime.Limits

	messages bool // standard input comes from messages
}

// read reads what the flags say, and the files that they name. It returns an error for flags that make no sense.
func (o *runOptions) read(path string, args []string) (*program, error) {
	if err := errors.Join(o.driveFlags.check(), o.limitFlags.check()); err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	p := &program{name: name, entry: o.entry, args: append([]string{name}, args...), limits: o.limits()}
	folders, err := parseMounts(o.dirs)
	if err != nil {
		return nil, err
	}
	if p.given, err = o.outsideFlags.read(); err != nil {
		return nil, err
	}
	p.grants = slices.Concat(folders, p.given.grants, p.limits.Grants())
	if err := p.given.check(p.grants); err != nil {
		return nil, err
	}
	volumes, err := parseVolumes(o.volumes, p.grants)
	if err != nil {
		return nil, err
	}
	p.grants = append(p.grants, volumes...)
	if p.messages, err = parseStdin(o.stdin); err != nil {
		return nil, err
	}
	if p.env, err = parseEnvironment(o.env); err != nil {
		return nil, err
	}
	if p.input, err = readInput(o.input); err != nil {
		return nil, err
	}
	if !o.named {
		o.id = snapshot.NewID()
	} else if err := snapshot.ValidID(o.id); err != nil {
		return nil, usageError("run: --id %q: %w", o.id, err)
	}
	if o.base != "" {
		if err := snapshot.ValidID(o.base); err != nil {
			return nil, usageError("run: --base %q: %w", o.base, err)
		}
	}
	binary, err := readModule(path)
	if err != nil {
		return nil, err
	}
	p.file = newModuleFile(p.name, binary)
	return p, nil
}

func runRun(ctx context.Context, a *app, o runOptions, path string, args []string) (err error) {
	p, err := o.read(path, args)
	if err != nil {
		return err
	}
	handlers, err := newHandlers(p.grants, a.Stderr)
	if err != nil {
		return err
	}
	store, err := a.makeStore(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, store.Close)
	lease, err := a.acquire(ctx, store, o.id, o.lease)
	if err != nil {
		return err
	}
	defer closeInto(&err, a.release)
	if head, err := store.Head(ctx, o.id); !errors.Is(err, snapshot.ErrNotFound) {
		return a.taken(o.id, head, err)
	}
	a.setDriving(position{id: o.id})

	e, err := a.newEngine(ctx, p.name, o.noCache)
	if err != nil {
		return err
	}
	defer closeInto(&err, func() error { return e.close(ctx) })
	if p.module, err = e.compile(ctx, p.file); err != nil {
		return err
	}
	// The module is in the store before any commit that names it.
	if err := p.file.keep(ctx, store.Store); err != nil {
		return err
	}
	if err := p.given.keep(ctx, store.Store); err != nil {
		return err
	}
	var base *snapshot.Chain
	if o.base != "" {
		if base, err = a.base(ctx, store, o.base, p); err != nil {
			return err
		}
		err := missingHandlers(base.Root, p.grants, "run: base "+o.base, func(flags ...string) string {
			return a.commandLine("run", append(flags, "--base", o.base, quoted(path))...)
		})
		if err != nil {
			return err
		}
	}
	stdin := wasi.NewStdin(a.Stdin)
	system, err := newSystem(systemConfig{
		args:     p.args,
		env:      p.env,
		messages: p.messages,
		tty:      [3]bool{isTerminal(a.Stdin) && !p.messages, isTerminal(a.Stdout) && !o.detach, isTerminal(a.Stderr) && !o.detach},
		grants:   p.grants,
		stdin:    stdin,
	})
	if err != nil {
		return err
	}
	out := newOutput(a, o.detach)
	c, err := p.module.Start(ctx, runtime.StartConfig{
		ID:         o.id,
		ModuleName: p.name,
		Entry:      p.entry,
		Input:      p.input,
		Hosts:      []hostabi.Instance{system},
		Stdout:     out.stdout,
		Stderr:     out.stderr,
		Grants:     p.grants,
		Base:       base,
	})
	if err != nil {
		return a.startError(p.name, p.entry, err)
	}
	d := drive{
		driveFlags: o.driveFlags, app: a, store: store.Store, lease: lease, id: o.id, output: out, once: o.detach, ensure: p.ensure(store, base),
	}
	if !o.detach {
		d.near = a.newSurroundings(e, p.module, store, o.driveFlags, handlers, p.grants, store.trusts())
		defer closeInto(&err, func() error { return d.near.close(ctx) })
	}
	status, err := d.run(ctx, c)
	if isLateCommit(err, lease) {
		if d.near != nil {
			_ = d.near.close(ctx) // what it drove is driven anew
		}
		again := resumeOptions{driveFlags: o.driveFlags, noCache: o.noCache, stdin: stdin, grants: p.grants, given: p.given}
		return resumeHeld(ctx, a, again, store, lease, o.id)
	}
	if !o.detach {
		return err
	}
	if status == "" { // nothing was committed
		return err
	}
	if perr := a.printDetached(ctx, store, o); perr != nil {
		return perr
	}
	return err
}

// startError explains why a module can't be started. What is wrong with an entry that was asked for is the caller's.
func (a *app) startError(name, entry string, err error) error {
	err = fmt.Errorf("start %s: %w", name, err)
	if missing := (*wasi.MissingMountError)(nil); errors.As(err, &missing) {
		return usageError("%w; the base was made with it: give it with --dir HOST:GUEST", err)
	}
	if module := (*runtime.ModuleError)(nil); entry != "" && errors.As(err, &module) {
		return usageError("--entry %s: %w", entry, err)
	}
	if a.classify(err).code == exitBug {
		return usageError("%w", err)
	}
	return err
}

// printDetached prints the id of a coroutine that -d leaves behind.
func (a *app) printDetached(ctx context.Context, store *store, o runOptions) error {
	if o.format != formatJSON {
		_, err := fmt.Fprintln(a.Stdout, o.id)
		return err
	}
	c, err := store.Head(ctx, o.id)
	if err != nil {
		return err
	}
	return writeJSON(a.Stdout, describe(c.Manifest, false))
}

// taken explains that there is a coroutine of that id. err is why more can't be said about it.
func (a *app) taken(id string, head snapshot.Commit, err error) error {
	switch {
	case err != nil && !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, snapshot.ErrVersion):
		return err
	case err == nil && !head.Status.Ended():
		return &exitError{
			code:   exitUsage,
			err:    fmt.Errorf("run: coroutine %s exists already, and is %s at commit %d", id, head.Status, head.Seq),
			advice: "go on with it: " + a.commandLine("resume", id) + "\nor remove it: " + a.commandLine("rm", id),
		}
	}
	return &exitError{
		code:   exitUsage,
		err:    fmt.Errorf("run: coroutine %s exists already", id),
		advice: "take another --id, or remove it: " + a.commandLine("rm", id),
	}
}

// readModule reads the file of a module.
func readModule(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		advice := ""
		if errors.Is(err, os.ErrNotExist) {
			advice = "MODULE is the path of a .wasm file; flags of durun's own stand before it"
		}
		return nil, inputError(fmt.Errorf("read the module: %w", err), advice)
	}
	return b, nil
}

// closeInto calls f and keeps its error if there is none yet.
func closeInto(err *error, f func() error) {
	if cerr := f(); *err == nil {
		*err = cerr
	}
}
