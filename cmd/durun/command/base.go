package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

// base returns the shared base called name, which must be one of this program. If there is none, the program is run to its
// first wait, and that is kept.
func (a *app) base(ctx context.Context, store *store, name string, p *program) (*snapshot.Chain, error) {
	chain, err := store.Base(ctx, name, nil)
	if errors.Is(err, snapshot.ErrNotFound) {
		if err = a.makeBase(ctx, store, name, p); err == nil {
			chain, err = store.Base(ctx, name, nil)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	return chain, a.isBaseOf(chain, name, p)
}

// makeBase makes a base. That somebody else has made one of that name meanwhile is no error.
func (a *app) makeBase(ctx context.Context, store *store, name string, p *program) (err error) {
	// The base belongs to nobody, so nobody's input must get into it.
	never, hold := io.Pipe()
	defer hold.Close()
	system, err := newSystem(systemConfig{args: p.args, env: p.env, grants: p.grants, stdin: never, messages: p.messages})
	if err != nil {
		return err
	}
	c, err := p.module.Start(ctx, runtime.StartConfig{
		ID: name, ModuleName: p.name, Entry: p.entry, Hosts: []hostabi.Instance{system}, Limits: p.limits,
	})
	if err != nil {
		return a.startError(p.name, p.entry, err)
	}
	defer closeInto(&err, c.Close)
	status, err := c.Resume(ctx)
	switch {
	case err != nil:
		return err
	case status.Ended():
		err := fmt.Errorf("no base %s: the program has ended without waiting, with exit code %d", name, c.ExitCode())
		if c.Err() != nil {
			err = fmt.Errorf("%w: %w", err, c.Err())
		}
		return &exitError{
			code: exitUsage, err: err,
			advice: "a base is the program at its first wait; run it without --base to see what it does",
		}
	}
	s, err := c.Snapshot()
	if err != nil {
		return err
	}
	made, err := store.PutBase(ctx, name, s)
	if errors.Is(err, snapshot.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// Nobody has needed the module yet: if it was collected, it comes back.
	if err := p.file.keep(ctx, store.Store); err != nil {
		return err
	}
	fmt.Fprintf(a.Stderr, "durun: base %s is %s at its first wait: %s, %s\n", name, printable(p.name), printable(made.Await.Detail), humanBytes(uint64(made.Bytes)))
	return nil
}

// isBaseOf returns an error if a base was made of another program: what a program has read of its arguments and its environment
// is in the base, and can't be had otherwise.
func (a *app) isBaseOf(chain *snapshot.Chain, name string, p *program) error {
	differs := func(what, how string) error {
		return &exitError{
			code:   exitUsage,
			err:    fmt.Errorf("run: base %s was made with another %s: %s", name, what, how),
			advice: "what the base has read can't be changed any more: give the same, or take another name",
		}
	}
	m := chain.Commit
	if m.Module != p.module.Hash() {
		return differs("module", fmt.Sprintf("%q, not %q", moduleText(m.ModuleName, m.Module), moduleText(p.name, p.module.Hash())))
	}
	if p.entry != "" && p.entry != m.Entry {
		return differs("--entry", fmt.Sprintf("%q, not %q", m.Entry, p.entry))
	}
	for _, sec := range chain.Root.Host {
		if sec.Name != wasi.Module.Name {
			continue
		}
		was, err := wasi.Program(sec.Version, sec.Data)
		if err != nil {
			return fmt.Errorf("base %s: %w", name, err)
		}
		args, env := was.Args, was.Env
		if len(args) == 0 || len(p.args) == 0 || !slices.Equal(args[1:], p.args[1:]) {
			return differs("list of arguments", differentArguments(args[min(1, len(args)):], p.args[min(1, len(p.args)):]))
		}
		if !slices.Equal(env, p.env) {
			return differs("environment", differentVariables(env, p.env))
		}
		volumes, err := volumesOf(p.grants)
		if err != nil {
			return err
		}
		if !slices.Equal(was.Mounts, volumes) {
			return differs("--volume", fmt.Sprintf("%s, not %s", describeVolumes(was.Mounts), describeVolumes(volumes)))
		}
		if was.StdinMessages != p.messages {
			return differs("--stdin", fmt.Sprintf("%s, not %s", stdinName(was.StdinMessages), stdinName(p.messages)))
		}
	}
	return nil
}

// differentArguments says where two lists of arguments differ first. Arguments may be whole programs, so they are clipped.
func differentArguments(base, here []string) string {
	for i := range min(len(base), len(here)) {
		if base[i] != here[i] {
			return fmt.Sprintf("argument %d is %s, not %s", i+1, clipped(base[i]), clipped(here[i]))
		}
	}
	return fmt.Sprintf("it has %d, not %d", len(base), len(here))
}

// clipped is a text, quoted, without what doesn't fit a message.
func clipped(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return strconv.Quote(string(r[:most])) + "…"
	}
	return strconv.Quote(s)
}

// differentVariables names the variables in which two environments differ, without their values: those may be secrets.
func differentVariables(base, here []string) string {
	var names []string
	for _, v := range slices.Concat(base, here) {
		name, _, _ := strings.Cut(v, "=")
		if !(slices.Contains(base, v) && slices.Contains(here, v)) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "another order of its variables"
	}
	slices.Sort(names)
	return "not the same " + strings.Join(names, ", ")
}

// ensure makes sure that a new coroutine's module, and its base if it has one, are in the store, whoever collects beside. It
// is for [runtime.Driver]: called before the first commit and after, when the module's bytes need not be held any more.
func (p *program) ensure(store *store, base *snapshot.Chain) func(context.Context) error {
	committed := false
	return func(ctx context.Context) error {
		if err := p.file.keep(ctx, store.Store); err != nil {
			return err
		}
		if committed {
			p.file.leaveTo(store.Store)
		}
		committed = true
		if err := p.given.keep(ctx, store.Store); err != nil {
			return err
		}
		if base == nil {
			return nil
		}
		return store.KeepBase(ctx, base.Commit.Coroutine, base.Commit.Hash)
	}
}
