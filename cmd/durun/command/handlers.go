package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/runtime/handler"
	"github.com/durun/durun/snapshot"
	"github.com/durun/durun/snapshot/bucket"
)

// The kinds of grants that are for operations.
const (
	grantHandler = "handler" // Value: a URL, exec:COMMAND or deny; Flags: the folder in which a command runs
	grantPolicy  = "policy"  // Value: a policy, for the handler of that name
	grantModule  = snapshot.GrantModule
)

const (
	execPrefix = "exec:"
	denied     = "deny"
)

// defaultCommands is how many commands of one handler run at a time where --limit doesn't say: a process is more than a request.
const defaultCommands = 8

const handlersHelp = `With --handler NAME=TARGET the program can call what is outside, under a name.
TARGET is one of

  http:// or https://  an endpoint: it gets the call's body in a POST; 2xx is
                       the result, 429 and 503 make durun slow down, for as long
                       as Retry-After says; 408, 425, other 5xx and lost
                       connections are tried again, the rest is final
  exec:COMMAND         a command for sh, with the body on its standard input;
                       with exit code 0 its output is the result, 75 makes durun
                       slow down, 64 and 65 are final, the rest is tried again
  deny                 nobody: calls are denied, as those of any other name

A call is made at least once, and perhaps again when durun is killed: under the
same key, in the header Idempotency-Key or in DURUN_IDEMPOTENCY_KEY. There are
also Durun-Attempt, Durun-Coroutine and Durun-Handler, and DURUN_ATTEMPT,
DURUN_COROUTINE and DURUN_HANDLER.

--limit NAME=SETTINGS says how calls of a handler are made: settings with commas
between, of rate=N/s (or /m, /h), concurrency=N (64 at once, commands 8),
attempts=N and total=TIME (no limit), timeout=TIME of one attempt (30s), and
backoff=TIME, max-backoff=TIME (100ms, 1m): the pause after a failure, which
doubles with each. The rate is that of one durun process.`

// outsideFlags are the flags that say what a program can reach outside, beyond folders.
type outsideFlags struct {
	handlers, policies, modules []string
}

// add gives cmd the flags.
func (o *outsideFlags) add(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&o.handlers, "handler", nil, "let the program call what is outside: `NAME=TARGET`, a URL or exec:COMMAND; may be repeated")
	f.StringArrayVar(&o.policies, "limit", nil, "how calls of a handler are made: `NAME=SETTINGS`, such as mail=rate=50/s,concurrency=8; may be repeated")
	f.StringArrayVar(&o.modules, "module", nil, "let the program start coroutines of another module: `NAME=FILE`; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("module", completeNamedFile)
	called := func(cmd *cobra.Command, args []string) []string {
		var names []string
		for _, h := range o.handlers {
			name, _, _ := strings.Cut(h, "=")
			names = append(names, name)
		}
		if cmd.Name() == "resume" {
			for _, id := range args {
				names = append(names, a.awaited(cmd.Context(), id, "", hostabi.Call)...)
			}
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	_ = cmd.RegisterFlagCompletionFunc("handler", completeSetting(called, func(string) []string {
		return []string{"http://", "https://", execPrefix, denied}
	}))
	_ = cmd.RegisterFlagCompletionFunc("limit", completeSetting(called, func(value string) []string {
		done := value[:strings.LastIndex(value, ",")+1]
		var list []string
		for _, s := range handler.Settings() {
			if !strings.Contains(","+done, ","+s+"=") {
				list = append(list, done+s+"=")
			}
		}
		return list
	}))
}

// outside is what the flags say.
type outside struct {
	grants  []snapshot.Grant
	modules map[snapshot.Hash][]byte
}

// read reads the flags, and the files that they name.
func (o *outsideFlags) read() (*outside, error) {
	out := &outside{modules: map[snapshot.Hash][]byte{}}
	for _, flag := range []struct {
		name, form string
		values     []string
		parse      func(name, value string) (snapshot.Grant, error)
	}{
		{"--handler", "NAME=URL or NAME=exec:COMMAND", o.handlers, parseHandler},
		{"--limit", "NAME=SETTINGS, such as mail=rate=50/s,concurrency=8", o.policies, parsePolicy},
		{"--module", "NAME=FILE", o.modules, out.readModule},
	} {
		for _, v := range flag.values {
			name, value, ok := strings.Cut(v, "=")
			if !ok || value == "" || !validOperationName(name) {
				return nil, usageError("%s %q: give %s", flag.name, v, flag.form)
			}
			g, err := flag.parse(name, value)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", flag.name, printable(name), err)
			}
			if slices.ContainsFunc(out.grants, func(other snapshot.Grant) bool { return other.Kind == g.Kind && other.Name == g.Name }) {
				return nil, usageError("%s %s: it is given twice", flag.name, printable(name))
			}
			out.grants = append(out.grants, g)
		}
	}
	return out, nil
}

// validOperationName reports whether a guest can call something by this name.
func validOperationName(s string) bool {
	return s != "" && len(s) <= hostabi.MaxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// parseHandler reads the TARGET of --handler. The folder of a command is recorded, since resume may run elsewhere.
func parseHandler(name, target string) (snapshot.Grant, error) {
	g := snapshot.Grant{Kind: grantHandler, Name: name, Value: target}
	if len(target) > snapshot.MaxText {
		return g, usageError("its target is longer than %d bytes", snapshot.MaxText)
	}
	if strings.HasPrefix(target, execPrefix) {
		dir, err := os.Getwd()
		if err != nil {
			return g, usageError("the folder in which it is to run: %w", err)
		}
		g.Flags = dir
	}
	_, err := handlerOf(g)
	return g, err
}

// handlerOf returns the handler that a grant stands for, nil for one that denies.
func handlerOf(g snapshot.Grant) (handler.Func, error) {
	if command, ok := strings.CutPrefix(g.Value, execPrefix); ok {
		if strings.TrimSpace(command) == "" || strings.ContainsRune(command, 0) {
			return nil, usageError("the command is empty; give exec:COMMAND")
		}
		return handler.Exec(command, handler.ExecOptions{Dir: g.Flags}), nil
	}
	if g.Value == denied {
		return nil, nil
	}
	f, err := handler.HTTP(g.Value, handler.HTTPOptions{})
	if err != nil {
		return nil, usageError("%w, nor exec:COMMAND", err)
	}
	return f, nil
}

// parsePolicy reads the SETTINGS of --limit.
func parsePolicy(name, settings string) (snapshot.Grant, error) {
	if _, err := handler.ParsePolicy(settings); err != nil {
		return snapshot.Grant{}, usageError("%w", err)
	}
	return snapshot.Grant{Kind: grantPolicy, Name: name, Value: settings}, nil
}

// readModule reads the FILE of --module.
func (o *outside) readModule(name, path string) (snapshot.Grant, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return snapshot.Grant{}, inputError(fmt.Errorf("read the module: %w", err), "")
	}
	// What else may be wrong with it is said when a child is started from it.
	if !bytes.HasPrefix(binary, []byte("\x00asm\x01\x00\x00\x00")) {
		return snapshot.Grant{}, dataError(fmt.Errorf("%s is not a WebAssembly module", path), "")
	}
	hash := snapshot.HashOf(binary)
	o.modules[hash] = binary
	return snapshot.Grant{Kind: grantModule, Name: name, Value: hash.String()}, nil
}

// keep puts the modules of --module into the store.
func (o *outside) keep(ctx context.Context, store *snapshot.Store) error {
	for hash, binary := range o.modules {
		if err := store.KeepModule(ctx, hash, binary); err != nil {
			return err
		}
	}
	return nil
}

// check returns an error for limits without their handler. grants are all that the run has.
func (o *outside) check(grants []snapshot.Grant) error {
	for _, g := range o.grants {
		if g.Kind == grantPolicy && !hasHandler(grants, g.Name) {
			return usageError("--limit %s: there is no handler of that name; give --handler %s=TARGET", printable(g.Name), printable(g.Name))
		}
	}
	return nil
}

// hasHandler reports whether it was said who carries out the calls of a name, and be it nobody.
func hasHandler(grants []snapshot.Grant, name string) bool {
	return slices.ContainsFunc(grants, func(g snapshot.Grant) bool { return g.Kind == grantHandler && g.Name == name })
}

// newHandlers makes the handlers that grants stand for. What keeps failing is told to w.
func newHandlers(grants []snapshot.Grant, w io.Writer) (*handler.Set, error) {
	set := &handler.Set{OnRetry: (&complaints{w: w}).retry}
	policies := map[string]handler.Policy{}
	for _, g := range grants {
		if g.Kind != grantPolicy {
			continue
		}
		p, err := handler.ParsePolicy(g.Value)
		if err != nil {
			return nil, usageError("--limit %s: %w", printable(g.Name), err)
		}
		policies[g.Name] = p
	}
	for _, g := range grants {
		if g.Kind != grantHandler {
			continue
		}
		f, err := handlerOf(g)
		if err != nil {
			return nil, fmt.Errorf("--handler %s: %w", printable(g.Name), err)
		}
		if f == nil {
			continue
		}
		p := policies[g.Name]
		if isExec := strings.HasPrefix(g.Value, execPrefix); isExec {
			if info, err := os.Stat(g.Flags); err != nil || !info.IsDir() {
				return nil, usageError("--handler %s: the folder %s, in which its command is to run, is gone; give it again: --handler %s=TARGET",
					printable(g.Name), printable(g.Flags), printable(g.Name))
			}
			if p.Concurrency == 0 {
				p.Concurrency = defaultCommands
			}
		}
		set.Handle(g.Name, f, p)
	}
	return set, nil
}

// complaints tells of handlers that keep failing. That one fails now and then is nobody's worry.
type complaints struct {
	w    io.Writer
	mu   sync.Mutex
	last map[string]time.Time
}

const (
	complainAfter = 5               // attempts of one call
	complainPause = 5 * time.Second // or when there is such a pause
	complainEach  = 10 * time.Second
)

func (c *complaints) retry(call handler.Call, err error, pause time.Duration) {
	if call.Attempt < complainAfter && pause < complainPause {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.last[call.Name]; ok && time.Since(last) < complainEach {
		return
	}
	if c.last == nil {
		c.last = map[string]time.Time{}
	}
	c.last[call.Name] = time.Now()
	const most = 200
	text := strings.Join(strings.Fields(err.Error()), " ")
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	fmt.Fprintf(c.w, "durun: call %s of %s: attempt %d failed: %s; trying again in %v\n",
		printable(call.Name), call.Coroutine, call.Attempt, printable(text), pause.Round(10*time.Millisecond))
}

// handlerText is a handler's target without a password.
func handlerText(target string) string {
	if u, err := url.Parse(target); err == nil && u.User != nil {
		return u.Redacted()
	}
	return target
}

// missingHandlers returns an error if calls of a coroutine wait for handlers that it was not given, which is what becomes of those that
// came from elsewhere. again is a command that gives them, without its flags.
func missingHandlers(s *snapshot.Snapshot, grants []snapshot.Grant, what string, again func(flags ...string) string) error {
	operations, err := runtime.OperationsOf(s)
	if err != nil {
		return err
	}
	var names []string
	for _, o := range operations {
		if o.Kind == hostabi.Call && !o.Ended && !hasHandler(grants, o.Name) && !slices.Contains(names, o.Name) {
			names = append(names, o.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	var flags, quotedNames []string
	for _, name := range names {
		flags = append(flags, "--handler", quoted(name+"=TARGET"))
		quotedNames = append(quotedNames, fmt.Sprintf("%q", name))
	}
	return &exitError{
		code:   exitUsage,
		err:    fmt.Errorf("%s: its calls need handlers that it was not given: %s", what, strings.Join(quotedNames, ", ")),
		advice: "say who carries them out, a URL, exec:COMMAND or deny: " + again(flags...),
	}
}

// trusts reports whether what is recorded in a store can say what programs may reach here. In a folder it can: who may write
// there is who may write this user's files. In object storage a folder of this machine, or a command, is not for others to name.
func (s *store) trusts() bool {
	_, local := s.Bucket().(bucket.Locker)
	return local
}

// untrusted returns an error that names what a store records as given to a coroutine and can't be given again on its word,
// unless that is given anew.
func (a *app) untrusted(id string, recorded, fresh []snapshot.Grant) error {
	var was, flags []string
	for _, g := range recorded {
		given := slices.ContainsFunc(fresh, func(f snapshot.Grant) bool { return f.Kind == g.Kind && f.Name == g.Name })
		switch {
		case given:
		case g.Kind == grantDir:
			was = append(was, printable(g.Value)+" as "+printable(g.Name))
			flags = append(flags, "--dir", quoted("HOST:"+g.Name))
		case g.Kind == grantHandler && g.Value != denied:
			was = append(was, fmt.Sprintf("%s as handler %s", printable(handlerText(g.Value)), printable(g.Name)))
			flags = append(flags, "--handler", quoted(g.Name+"=TARGET"))
		}
	}
	if len(was) == 0 {
		return nil
	}
	return &exitError{
		code: exitUsage,
		err:  fmt.Errorf("resume %s: the store isn't a folder, so its word is not enough to give the program what it was given: %s", id, strings.Join(was, ", ")),
		advice: "say what they are on this machine: " + a.commandLine("resume", append(flags, id)...) +
			"\nor, if all who can write to the store may: " + a.commandLine("resume", "--trust-store", id),
	}
}
