package runtime

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/durun/durun/runtime/internal/instrument"
	"github.com/durun/durun/snapshot"
)

// Limits bound what a coroutine may take for itself. The zero value bounds nothing. A coroutine that has them also as grants, see
// [Limits.Grants], has the lower ones: these are recorded, and hold wherever it goes on with its grants, and for its children.
type Limits struct {
	// Memory is how many bytes the guest's linear memory and its tables may take together, an element of a table as 8; 0 for no
	// limit but the engine's. To grow beyond fails in the guest, as the language has it: memory.grow and table.grow return -1. A
	// module that starts with more can't be started, and a snapshot that has more not be restored: that is a *[LimitError].
	Memory int64
	// CPU is for how long the guest may compute in its life, 0 for ever. A coroutine that has used it up fails with a *[LimitError].
	// It is measured by the clock, in Resume: what a guest waits for at awaits doesn't count, what its other host calls take does, and
	// so does what the system gives to others meanwhile. What was used is part of each commit, as long as there is this limit.
	CPU time.Duration
}

// LimitError says that a coroutine has reached one of its [Limits].
type LimitError struct {
	Limit string // "memory" or "CPU"
	Msg   string
}

// Error implements error.
func (e *LimitError) Error() string { return e.Msg }

// GrantLimit is the kind of a grant that is one of a coroutine's [Limits]. Its Name is "memory" or "cpu", its Value a number of
// bytes or a duration, as [time.ParseDuration] reads it.
const GrantLimit = "limit"

// Grants returns the limits as grants, to be recorded.
func (l Limits) Grants() []snapshot.Grant {
	var grants []snapshot.Grant
	if l.Memory > 0 {
		grants = append(grants, snapshot.Grant{Kind: GrantLimit, Name: "memory", Value: strconv.FormatInt(l.Memory, 10)})
	}
	if l.CPU > 0 {
		grants = append(grants, snapshot.Grant{Kind: GrantLimit, Name: "cpu", Value: l.CPU.String()})
	}
	return grants
}

// with returns the lower of the limits and those that grants have. A limit that this version doesn't know is an error: the coroutine
// was to have it.
func (l Limits) with(grants []snapshot.Grant) (Limits, error) {
	for _, g := range grants {
		if g.Kind != GrantLimit {
			continue
		}
		granted, err := parseLimit(g)
		if err != nil {
			return Limits{}, fmt.Errorf("the granted limit %q, %q: %w", g.Name, g.Value, err)
		}
		l.Memory, l.CPU = lower(l.Memory, granted.Memory), lower(l.CPU, granted.CPU)
	}
	return l, nil
}

// lower returns the lower one of two limits, of which any may be none.
func lower[N ~int64](a, b N) N {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

func parseLimit(g snapshot.Grant) (l Limits, err error) {
	switch g.Name {
	case "memory":
		l.Memory, err = strconv.ParseInt(g.Value, 10, 64)
	case "cpu":
		l.CPU, err = time.ParseDuration(g.Value)
	default:
		err = errors.New("no such limit")
	}
	if err == nil && l.Memory <= 0 && l.CPU <= 0 {
		err = errors.New("it is not positive")
	}
	return l, err
}

// room returns how far memory and tables may grow, in bytes, from what they are in a state, nil for the module's own. It returns
// a *LimitError if they are too large already.
func (m *Module) room(limits Limits, s *snapshot.Snapshot) (int64, error) {
	if limits.Memory <= 0 {
		return math.MaxInt64, nil
	}
	size := uint64(0)
	if s != nil {
		size += s.Memory.Size
	} else if len(m.env.Memories) > 0 {
		size += m.env.Memories[0].Min * snapshot.WasmPageSize
	}
	elements := uint64(0)
	for _, t := range m.env.Tables {
		elements += t.Limits.Min
	}
	if s != nil {
		for _, t := range s.Tables {
			if n := uint64(len(t.Elements)); uint64(t.Index) < uint64(len(m.env.Tables)) {
				elements += n - min(n, m.env.Tables[t.Index].Limits.Min)
			}
		}
	}
	size += elements * instrument.ElementSize
	if size > uint64(limits.Memory) {
		return 0, &LimitError{"memory", fmt.Sprintf("it has %s of memory, and may have %s", bytesText(size), bytesText(uint64(limits.Memory)))}
	}
	return limits.Memory - int64(size), nil
}

// bytesText is a size for people.
func bytesText(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%.4g KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
}

// setRoom has the guest's memory and tables grow by at most so many bytes.
func (c *Coroutine) setRoom(bytes int64) {
	c.main.ExportedGlobal(instrument.ExportRoom).(api.MutableGlobal).Set(uint64(bytes))
}

// account adds to what the guest has used of its time what it has since the last tick or the beginning of Resume.
func (c *Coroutine) account() {
	if c.limits.CPU > 0 {
		now := time.Now()
		c.abi.cpu += now.Sub(c.pace.set)
		c.pace.set = now
	}
}

// checkCPU returns an error if the guest has used up its time.
func (c *Coroutine) checkCPU() error {
	if c.limits.CPU > 0 && c.abi.cpu >= c.limits.CPU {
		return &LimitError{"CPU", fmt.Sprintf("it has computed for %v, which is all that it may", c.limits.CPU)}
	}
	return nil
}
