package command

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/durun/durun/runtime"
)

// limitFlags are what a coroutine may take for itself, of commands that give it that.
type limitFlags struct {
	memory byteSize
	cpu    time.Duration
}

// add gives cmd the flags.
func (o *limitFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(&o.memory, "max-memory", "how much memory the program may have: a `size` such as 256MiB; to ask for more fails (default: 4 GiB)")
	f.DurationVar(&o.cpu, "max-cpu", 0, "for how long the program may compute in its life: a `duration` such as 10s; then it fails (default: for ever)")
}

// check returns an error for flags that make no sense.
func (o *limitFlags) check() error {
	if o.cpu < 0 {
		return usageError("--max-cpu %v: it is negative", o.cpu)
	}
	return nil
}

func (o *limitFlags) limits() runtime.Limits {
	return runtime.Limits{Memory: int64(o.memory), CPU: o.cpu}
}
