package command

import (
	"fmt"
	"math"
	"strconv"
	"strings"
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

// byteSize is a flag that is a number of bytes: 4096, 64KiB, 1.5GiB.
type byteSize int64

var byteUnits = []struct {
	name string
	size float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

// Set implements pflag.Value.
func (b *byteSize) Set(s string) error {
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if n *= u.size; err != nil || !(n >= 1 && n < math.MaxInt64) {
			break
		}
		*b = byteSize(n)
		return nil
	}
	return fmt.Errorf("%q is no size: give bytes, or a number and KiB, MiB or GiB", s)
}

// String implements pflag.Value.
func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return humanBytes(uint64(*b))
}

// Type implements pflag.Value.
func (*byteSize) Type() string { return "size" }
