package command

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/durun/durun/hostabi"
	"github.com/durun/durun/runtime"
	"github.com/durun/durun/snapshot"
)

func newCompletionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion {bash|zsh|fish|powershell}",
		Short: "Print a script that completes durun's commands, flags and ids",
		Long: `Print a script with which a shell completes durun's commands and flags, and what
is in the store: the ids of coroutines, their commits (after ID@), the messages
that they wait for, their handlers, shared bases.

  bash        source <(durun completion bash)   (with bash-completion installed)
  zsh         durun completion zsh > "${fpath[1]}/_durun"
  fish        durun completion fish > ~/.config/fish/completions/durun.fish
  powershell  durun completion powershell | Out-String | Invoke-Expression`,
		Example:   "  source <(durun completion bash)",
		Args:      arguments(1, 1, "the shell's name (bash, zsh, fish or powershell)"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCompletion(cmd.Context(), a.Stdout, cmd.Root(), args[0])
		},
	}
}

func runCompletion(_ context.Context, w io.Writer, root *cobra.Command, shell string) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(w, true)
	case "zsh":
		return root.GenZshCompletion(w)
	case "fish":
		return root.GenFishCompletion(w, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(w)
	}
	return usageError("completion: unknown shell %q; there are bash, zsh, fish and powershell", shell)
}

// beforeCompletion is what every command runs first. The one that the shells' scripts call takes flags as they are: the
// quotes that mark a value's name in a usage text would be shown, and values would be completed as files.
func beforeCompletion(cmd *cobra.Command, _ []string) {
	if cmd.Name() != cobra.ShellCompRequestCmd {
		return
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		prepare := func(f *pflag.Flag) {
			value, usage := pflag.UnquoteUsage(f)
			f.Usage = usage
			if _, ok := c.GetFlagCompletionFunc(f.Name); !ok && value != "file" {
				_ = c.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
			}
		}
		c.LocalFlags().VisitAll(prepare)
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(cmd.Root())
}

// completeCommands completes a command's name, word by word.
func completeCommands(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	parent, rest, err := cmd.Root().Find(args)
	if err != nil || len(rest) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() && strings.HasPrefix(c.Name(), prefix) {
			found = append(found, cobra.CompletionWithDesc(c.Name(), c.Short))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeFolders completes folders.
func completeFolders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeIDs completes arguments that are coroutine ids, each once, up to max of them, max < 0 for any number.
func completeIDs(a *app, max int, wanted func(snapshot.Status) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if max >= 0 && len(args) >= max {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, err := a.list(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []string
		for _, c := range list {
			if strings.HasPrefix(c.ID, prefix) && !slices.Contains(args, c.ID) && (wanted == nil || wanted(c.Status)) {
				found = append(found, cobra.CompletionWithDesc(c.ID, strings.TrimSpace(string(c.Status)+" "+printable(c.ModuleName))))
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeReference completes an argument ID, or ID@SEQ once the @ is there.
func completeReference(a *app, wanted func(snapshot.Status) bool) cobra.CompletionFunc {
	ids := completeIDs(a, 1, wanted)
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		id, number, ok := strings.Cut(prefix, "@")
		if !ok || len(args) > 0 {
			return ids(cmd, args, prefix)
		}
		return a.commitsOf(cmd.Context(), id, number), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// commitsOf completes the number of a commit, the newest first.
func (a *app) commitsOf(ctx context.Context, arg, number string) []string {
	store, err := a.openStore(ctx)
	if err != nil {
		return nil
	}
	defer store.Close()
	id, err := store.resolve(ctx, arg)
	if err != nil {
		return nil
	}
	list, err := store.History(ctx, id)
	if err != nil {
		return nil
	}
	var found []string
	for _, c := range slices.Backward(list) {
		seq := strconv.FormatUint(c.Seq, 10)
		if c.Err != nil || !strings.HasPrefix(seq, number) {
			continue
		}
		what := string(c.Status)
		if c.Await != nil {
			what = printable(c.Await.Kind)
		}
		found = append(found, cobra.CompletionWithDesc(arg+"@"+seq, c.Time.Local().Format("2006-01-02 15:04:05")+", "+what))
	}
	return found
}

// completeBases completes the name of a base.
func completeBases(a *app) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		store, err := a.openStore(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer store.Close()
		var found []string
		for c, err := range store.Bases(cmd.Context()) {
			if err != nil {
				break
			}
			if strings.HasPrefix(c.Coroutine, prefix) && !slices.Contains(args, c.Coroutine) {
				found = append(found, cobra.CompletionWithDesc(c.Coroutine, printable(c.ModuleName)))
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeMessage completes an id, then the names of messages that the coroutine waits for.
func completeMessage(a *app) cobra.CompletionFunc {
	ids := completeIDs(a, 1, func(s snapshot.Status) bool { return !s.Ended() })
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return ids(cmd, args, prefix)
		case 1:
			return a.awaited(cmd.Context(), args[0], prefix, hostabi.Recv), cobra.ShellCompDirectiveNoFileComp
		case 2:
			if strings.HasPrefix(prefix, "@") {
				return nil, cobra.ShellCompDirectiveDefault
			}
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// awaited returns the names of the operations of a kind that a coroutine waits for.
func (a *app) awaited(ctx context.Context, arg, prefix string, kind hostabi.OperationKind) []string {
	store, err := a.openStore(ctx)
	if err != nil {
		return nil
	}
	defer store.Close()
	s, _, err := store.load(ctx, arg)
	if err != nil {
		return nil
	}
	ops, err := runtime.OperationsOf(s)
	if err != nil {
		return nil
	}
	var names []string
	for _, op := range ops {
		if op.Kind == kind && !op.Ended && strings.HasPrefix(op.Name, prefix) && !slices.Contains(names, op.Name) {
			names = append(names, op.Name)
		}
	}
	return names
}

// completeSetting completes NAME=VALUE: names if there are any, and what comes after the =.
func completeSetting(names func(cmd *cobra.Command, args []string) []string, values func(value string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		name, value, ok := strings.Cut(prefix, "=")
		var found []string
		if !ok {
			for _, n := range names(cmd, args) {
				if strings.HasPrefix(n, name) {
					found = append(found, n+"=")
				}
			}
			return found, directive
		}
		for _, v := range values(value) {
			if strings.HasPrefix(v, value) {
				found = append(found, name+"="+v)
			}
		}
		return found, directive
	}
}

// completeNamedFile completes NAME=FILE.
func completeNamedFile(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if strings.Contains(prefix, "=") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
