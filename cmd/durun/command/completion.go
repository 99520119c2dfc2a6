package command

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

func newCompletionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion {bash|zsh|fish|powershell}",
		Short: "Print a script that completes durun's commands, flags and ids",
		Long: `Print a script with which a shell completes durun's commands, flags and the ids
of coroutines.

  bash        source <(durun completion bash)
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
