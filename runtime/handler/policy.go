package handler

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Policy says how the calls of one name are tried. The zero value tries a call until it succeeds or is given up, up to 64
// at once. A negative number stands for no limit, and for no pause in Backoff.
type Policy struct {
	// MaxAttempts is after how many attempts that failed the operation ends with [hostabi.CodeExhausted]; 0 for no limit.
	// Throttled attempts don't count. One that a dying process has cut off does, if a commit has it; but each process that gets to
	// a call tries it once, whatever the number.
	MaxAttempts int
	// Timeout is how long after its begin an operation ends with [hostabi.CodeTimeout]; 0 for no limit. It goes on while nobody
	// drives the coroutine.
	Timeout time.Duration
	// AttemptTimeout is how long one attempt may take, 30 s if 0. After that its context is done.
	AttemptTimeout time.Duration
	// Backoff is the longest pause after a call's first failure, 100 ms if 0. It doubles with each failure in this process, up to
	// MaxBackoff, 1 min if 0. Each pause is drawn between half of that and all, so that calls that failed together don't come back
	// together.
	Backoff, MaxBackoff time.Duration
	// Rate is how many attempts may start in a second, counting all calls of the name in this process; 0 for no limit.
	// Another process counts its own: give each of several a share. Attempts are spread evenly: two starts are at least
	// 1/Rate seconds apart, and the first comes that long after [Set.Handle]. So within t seconds there are at most
	// Rate·t+1, also when the process is killed and started again. Above 1,000 a second, where intervals are shorter than
	// what timers can do, it is that for t and a millisecond.
	Rate float64
	// Concurrency is how many attempts may be under way at once, 64 if 0.
	Concurrency int
}

const (
	defaultAttemptTimeout = 30 * time.Second
	defaultBackoff        = 100 * time.Millisecond
	defaultMaxBackoff     = time.Minute
	defaultConcurrency    = 64
)

// withDefaults replaces zeros by what they stand for.
func (p Policy) withDefaults() Policy {
	if p.AttemptTimeout == 0 {
		p.AttemptTimeout = defaultAttemptTimeout
	}
	if p.Backoff == 0 {
		p.Backoff = defaultBackoff
	}
	if p.MaxBackoff == 0 {
		p.MaxBackoff = defaultMaxBackoff
	}
	if p.Concurrency == 0 {
		p.Concurrency = defaultConcurrency
	}
	return p
}

// longest is how long a pause may be that the policy chooses.
func (p Policy) longest() time.Duration {
	if p.MaxBackoff < 0 {
		return MaxRetryAfter
	}
	return p.MaxBackoff
}

// left returns how much is left of the pause after an attempt by another process: never more than there may be, since that may
// have had another clock.
func (p Policy) left(before *Progress) time.Duration {
	if before.Next.IsZero() {
		return 0
	}
	most := p.longest()
	if before.Throttled > 0 {
		most = MaxRetryAfter
	}
	return min(time.Until(before.Next), most)
}

// pause draws the time to wait after the nth failure in a row, n from 1.
func (p Policy) pause(n int) time.Duration {
	most := p.longest()
	longest := p.Backoff
	for range n - 1 {
		if longest <= 0 || longest >= most {
			break
		}
		longest *= 2
	}
	if longest = min(longest, most); longest <= 0 {
		return 0
	}
	return longest/2 + rand.N(longest/2+1)
}

// ParsePolicy reads a policy as the command line has it: settings with commas between, for example
// "rate=50/s,concurrency=8,attempts=5". They are
//
//	rate=N/UNIT      Rate; the unit is s, m, h or a duration such as 10s
//	concurrency=N    Concurrency
//	attempts=N       MaxAttempts
//	timeout=TIME     AttemptTimeout
//	total=TIME       Timeout
//	backoff=TIME     Backoff
//	max-backoff=TIME MaxBackoff
//
// All are above zero. What isn't set has its default.
func ParsePolicy(s string) (Policy, error) {
	var p Policy
	seen := map[string]bool{}
	for setting := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			return Policy{}, fmt.Errorf("%q is no setting; give one such as rate=50/s", setting)
		}
		if seen[name] {
			return Policy{}, fmt.Errorf("%s is given twice", name)
		}
		seen[name] = true
		var err error
		switch name {
		case "rate":
			p.Rate, err = parseRate(value)
		case "concurrency":
			p.Concurrency, err = parseCount(value)
		case "attempts":
			p.MaxAttempts, err = parseCount(value)
		case "timeout":
			p.AttemptTimeout, err = parseTime(value)
		case "total":
			p.Timeout, err = parseTime(value)
		case "backoff":
			p.Backoff, err = parseTime(value)
		case "max-backoff":
			p.MaxBackoff, err = parseTime(value)
		default:
			return Policy{}, fmt.Errorf("unknown setting %q; there are %s", name, strings.Join(Settings(), ", "))
		}
		if err != nil {
			return Policy{}, fmt.Errorf("%s=%s: %w", name, value, err)
		}
	}
	return p, nil
}

// Settings returns the names of the settings that [ParsePolicy] knows.
func Settings() []string {
	return []string{"rate", "concurrency", "attempts", "timeout", "total", "backoff", "max-backoff"}
}

func parseCount(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("give a number, at least 1")
	}
	return int(n), nil
}

func parseTime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("give a time above zero, such as 30s, 5m or 1h30m")
	}
	return d, nil
}

// The rates that make sense: what is slower than one in a year, or faster than clocks count, is a mistake.
const (
	minRate = 1.0 / (366 * 24 * 60 * 60)
	maxRate = 1e9
)

func parseRate(s string) (float64, error) {
	count, unit, ok := strings.Cut(s, "/")
	n, err := strconv.ParseFloat(count, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("give a number and its unit, such as 50/s, 100/m or 1/10s")
	}
	if unit == "s" || unit == "m" || unit == "h" {
		unit = "1" + unit
	}
	per, err := parseTime(unit)
	if err != nil {
		return 0, fmt.Errorf("give a unit of s, m, h or a duration such as 10s")
	}
	rate := n / per.Seconds()
	if !(rate >= minRate && rate <= maxRate) { // not a number, neither
		return 0, fmt.Errorf("it is out of range")
	}
	return rate, nil
}
