package handler

import (
	"strings"
	"testing"
	"time"
)

func TestParsePolicy(t *testing.T) {
	for s, want := range map[string]Policy{
		"rate=50/s":                 {Rate: 50},
		"rate=30/m":                 {Rate: 0.5},
		"rate=0.5/s":                {Rate: 0.5},
		"rate=1/10s":                {Rate: 0.1},
		"rate=1800/h":               {Rate: 0.5},
		"concurrency=8":             {Concurrency: 8},
		"attempts=5,timeout=1m30s":  {MaxAttempts: 5, AttemptTimeout: 90 * time.Second},
		"total=24h,backoff=1s":      {Timeout: 24 * time.Hour, Backoff: time.Second},
		"max-backoff=5m,rate=1e3/s": {MaxBackoff: 5 * time.Minute, Rate: 1000},
	} {
		if got, err := ParsePolicy(s); got != want || err != nil {
			t.Errorf("%s: %+v, %v; want %+v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"":                    `"" is no setting`,
		"rate":                `"rate" is no setting; give one such as rate=50/s`,
		"rate=5/s,":           `"" is no setting`,
		"rate=5/s,rate=6/s":   "rate is given twice",
		"speed=5":             `unknown setting "speed"; there are rate, concurrency,`,
		"rate=5":              "rate=5: give a number and its unit",
		"rate=x/s":            "give a number and its unit",
		"rate=5/y":            "give a unit",
		"rate=5/-1s":          "give a unit",
		"rate=0/s":            "out of range",
		"rate=-1/s":           "out of range",
		"rate=NaN/s":          "out of range",
		"rate=Inf/s":          "out of range",
		"rate=1/1000000h":     "out of range",
		"concurrency=0":       "at least 1",
		"concurrency=1.5":     "at least 1",
		"attempts=5000000000": "at least 1",
		"timeout=0s":          "above zero",
		"timeout=-1s":         "above zero",
		"total=5":             "above zero",
	} {
		if got, err := ParsePolicy(s); err == nil || !strings.Contains(err.Error(), want) || got != (Policy{}) {
			t.Errorf("%s: %+v, %v; want an error with %q", s, got, err, want)
		}
	}
}

func TestPause(t *testing.T) {
	for _, c := range []struct {
		p       Policy
		n       int
		longest time.Duration
	}{
		{Policy{}, 1, 100 * time.Millisecond},
		{Policy{}, 2, 200 * time.Millisecond},
		{Policy{}, 10, 51200 * time.Millisecond},
		{Policy{}, 11, time.Minute},
		{Policy{}, 1 << 40, time.Minute},
		{Policy{Backoff: time.Hour}, 1, time.Minute},
		{Policy{Backoff: time.Second, MaxBackoff: time.Second}, 5, time.Second},
		{Policy{Backoff: -1}, 5, 0},
		{Policy{MaxBackoff: -1}, 11, 102400 * time.Millisecond},
		{Policy{MaxBackoff: -1}, 1 << 40, MaxRetryAfter},
	} {
		p := c.p.withDefaults()
		for range 100 {
			if got := p.pause(c.n); got < c.longest/2 || got > c.longest {
				t.Errorf("%+v: pause %v after %d failures, want between half of %v and all", c.p, got, c.n, c.longest)
			}
		}
	}
}
